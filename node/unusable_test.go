package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestUnusableRPC: whatever the RPC does, each question is answered by an error that says
// what is wrong. What gRPC can answer, it answers then.
func TestUnusableRPC(t *testing.T) {
	body := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, text)
		}
	}
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc // nil: nobody listens
		want    string           // what is wrong
		no      bool             // the node itself says no: gRPC is not asked
	}{
		{name: "nobody", want: "connection refused"},
		{name: "html", handler: body(200, "<html><h1>Welcome</h1></html>"), want: "not a JSON object"},
		{name: "array", handler: body(200, "[]"), want: "not a JSON object"},
		{name: "text", handler: body(200, `"ok"`), want: "not a JSON object"},
		{name: "nothing", handler: body(200, ""), want: "not a JSON object"},
		{name: "bad-gateway", handler: body(502, "<html>"), want: "HTTP status 502"},
		{name: "not-found", handler: http.NotFound, want: "HTTP status 404"},
		{name: "gateway-in-json", handler: body(404, `{"code":5,"message":"Not Found","details":[]}`), want: "HTTP status 404"},
		{name: "result-with-a-wrong-status", handler: body(503, `{"result":{"response":{"last_block_height":"8"}}}`), want: "HTTP status 503"},
		{name: "redirect", handler: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) }, want: "HTTP status 302"},
		{name: "error", handler: body(500, `{"jsonrpc":"2.0","id":-1,"error":{"code":-32603,"message":"Internal error","data":"no"}}`), want: `error -32603: "Internal error: no"`, no: true},
		{name: "bare-error", handler: body(200, `{"code":-32603,"message":"Internal error","data":"no"}`), want: `error -32603: "Internal error: no"`, no: true},
		{name: "error-text", handler: body(200, `{"error":"no\u009b2J"}`), want: `error 0: "\"no\\u009b2J\""`, no: true},
		{name: "no-result", handler: body(200, `{"jsonrpc":"2.0"}`), want: "no result"},
		{name: "null", handler: body(200, `{"jsonrpc":"2.0","result":null}`), want: "no result"},
		{name: "empty-result", handler: body(200, `{"result":{}}`), want: "no"},
		{name: "empty-response", handler: body(200, `{"result":{"response":{}}}`), want: "no"},
		{name: "something-else", handler: body(200, `{"status":"up"}`), want: "no"},
		{name: "closes", handler: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, want: "EOF"},
		{name: "closes-in-the-middle", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{"result":`)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, want: "unexpected EOF"},
		{name: "endless", handler: func(w http.ResponseWriter, r *http.Request) {
			for line := []byte(strings.Repeat("x", 1<<20)); r.Context().Err() == nil; {
				if _, err := w.Write(line); err != nil {
					return
				}
			}
		}, want: "too large"},
		{name: "endless-header", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
		}, want: "exceeded"},
	} {
		for _, handler := range []http.HandlerFunc{tt.handler, knowsItself(tt.handler)} {
			address := "127.0.0.1:1"
			if handler != nil {
				address = addressOf(serve(t, "", handler))
			}
			byGRPC := addressOf(serve(t, "", &answering{ID: testID, Chain: chain1}))
			foreign := addressOf(serve(t, "", &answering{ID: otherID, Chain: chain2}))
			home := ours(t, nil)
			for name, ask := range methods {
				if name == "Call" && tt.name != "html" {
					continue // it is what all others ask with; its own question is /status
				}
				if name == "Proposals" && tt.name == "endless" {
					continue // some of them may be large, so it asks again: see TestProposals
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				err := ask(ctx, client(home, address, ""))
				if name == "Call" && err == nil {
					cancel()
					continue
				}
				if err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, ErrForeign) || strings.ContainsAny(err.Error(), "\x1b\u009b\n") {
					t.Errorf("%s, %s: %v, want %q", tt.name, name, err, tt.want)
				}
				if !slices.Contains(onlyRPC, name) {
					if err := ask(ctx, client(home, address, byGRPC)); (err == nil) == tt.no {
						t.Errorf("%s, %s with gRPC: %v", tt.name, name, err)
					}
					if err := ask(ctx, client(home, address, foreign)); err == nil || errors.Is(err, ErrForeign) == tt.no {
						t.Errorf("%s, %s with another node's gRPC: %v", tt.name, name, err)
					}
				}
				cancel()
			}
		}
	}
}

// knowsItself answers /status as our node does, and leaves the rest to a handler.
func knowsItself(handler http.HandlerFunc) http.HandlerFunc {
	if handler == nil {
		return nil
	}
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/status" {
			(&answering{ID: testID, Chain: chain1}).ServeHTTP(w, r)
			return
		}
		handler(w, r)
	}
}

// TestHangingRPC: an RPC that hangs costs half of the caller's time where gRPC can
// answer, else all of it and no more.
func TestHangingRPC(t *testing.T) {
	hangs := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	hangsInTheMiddle := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"result":`)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	for name, handler := range map[string]http.HandlerFunc{
		"hangs": hangs, "in-the-middle": hangsInTheMiddle,
		"hangs-after-status": knowsItself(hangs), "in-the-middle-after-status": knowsItself(hangsInTheMiddle),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := addressOf(serve(t, "", handler))
			byGRPC := addressOf(serve(t, "", &answering{ID: testID, Chain: chain1}))
			home := ours(t, nil)
			for name, ask := range methods {
				if name == "Call" && strings.HasSuffix(t.Name(), "status") {
					continue
				}
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				if err := ask(ctx, client(home, address, "")); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s: %v", name, err)
				}
				cancel()
			}
			for _, name := range []string{"Committed", "Plan"} {
				ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
				began := time.Now()
				if err := methods[name](ctx, client(home, address, byGRPC)); err != nil || time.Since(began) < 2*time.Second {
					t.Errorf("%s with gRPC: %v after %v", name, err, time.Since(began))
				}
				cancel()
			}
		})
	}
}
