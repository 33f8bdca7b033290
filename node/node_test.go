package node

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"solstice"
)

// home is a node's home with a config.toml.
func home(t *testing.T, config string) solstice.Home {
	t.Helper()
	dir := t.TempDir()
	if config != "" {
		if err := os.Mkdir(filepath.Join(dir, "config"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "config", "config.toml"), []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return solstice.Home{Dir: dir, Node: dir, Name: "chain-d"}
}

func noEnv(string) string { return "" }

func TestFind(t *testing.T) {
	const config = "[rpc]\nladdr = \"tcp://0.0.0.0:26657\"\n"
	env := func(key string) string {
		return map[string]string{"CHAIN_D_RPC_LADDR": "tcp://127.0.0.1:3"}[key]
	}
	for _, tt := range []struct {
		name, config string
		args         []string
		env          func(string) string
		want         string
	}{
		{"none", "", nil, noEnv, ""},
		{"file", config, nil, noEnv, "http://127.0.0.1:26657"},
		{"file-v6", "[rpc]\nladdr = \"tcp://[::]:1\"\n", nil, noEnv, "http://[::1]:1"},
		{"file-without-host", "[rpc]\nladdr = \"tcp://:1\"\n", nil, noEnv, "http://127.0.0.1:1"},
		{"file-switched-off", "[rpc]\nladdr = \"\"\n", nil, noEnv, ""},
		{"file-with-tls", config + "tls_cert_file = \"a\"\ntls_key_file = \"b\"\n", nil, noEnv, "https://127.0.0.1:26657"},
		{"file-broken", "[rpc\n", nil, noEnv, ""},
		{"file-socket", "[rpc]\nladdr = \"unix:///run/x.sock\"\n", nil, noEnv, "http://localhost:80"},
		{"environment-before-file", config, nil, env, "http://127.0.0.1:3"},
		{"flag-before-environment", config, []string{"start", "--rpc.laddr", "tcp://127.0.0.1:5"}, env, "http://127.0.0.1:5"},
		{"flag-with-equals", config, []string{"start", "--rpc.laddr=tcp://127.0.0.1:6"}, env, "http://127.0.0.1:6"},
		{"nobody-logs-in", "[rpc]\nladdr = \"tcp://user:p@ss@127.0.0.1:7/x?token=t\"\n", nil, noEnv, "http://127.0.0.1:7"},
		{"bare-query", "[rpc]\nladdr = \"tcp://127.0.0.1:7?token=t\"\n", nil, noEnv, "http://127.0.0.1:7"},
		{"flag-cut-off", config, []string{"start", "--rpc.laddr"}, noEnv, "http://127.0.0.1:26657"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Find(home(t, tt.config), tt.args, tt.env, "")
			got := ""
			if c.rpc != nil {
				got = c.rpc.base
			}
			if got != tt.want {
				t.Errorf("Find asks %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCommitted(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		want         int64
		wantErr      string
	}{
		{"before-the-upgrade", `{"jsonrpc":"2.0","id":-1,"result":{"response":{"data":"chaind","version":"v1.0.0","last_block_height":"8","last_block_app_hash":"x"}}}`, 8, ""},
		{"before-the-first-block", `{"jsonrpc":"2.0","id":-1,"result":{"response":{"data":"chaind"}}}`, 0, ""},
		{"number", `{"result":{"response":{"last_block_height":8}}}`, 8, ""},
		{"error", `{"jsonrpc":"2.0","id":-1,"error":{"code":-32603,"message":"no"}}`, 0, "no"},
		{"negative", `{"result":{"response":{"last_block_height":"-8"}}}`, 0, "not a height"},
		{"garbage-height", `{"result":{"response":{"last_block_height":"x"}}}`, 0, "not a height"},
		{"no-result", `{}`, 0, "no result"},
		{"no-json", `<html>`, 0, "invalid character"},
		{"endless", `"` + strings.Repeat("x", 1<<20), 0, "too large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, tt.answer) }))
			defer server.Close()
			address := "tcp://" + strings.TrimPrefix(server.URL, "http://")
			got, err := Find(home(t, ""), []string{"--rpc.laddr", address}, noEnv, "").Committed(t.Context())
			if got.Height != tt.want || (tt.wantErr == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("Committed = %+v, %v, want %d, %q", got, err, tt.want, tt.wantErr)
			}
		})
	}
}

func TestCommittedOverASocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rpc.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"result":{"response":{"last_block_height":"7"}}}`)
	})}
	go server.Serve(listener)
	defer server.Close()
	got, err := Find(home(t, ""), []string{"--rpc.laddr=unix://" + path}, noEnv, "").Committed(t.Context())
	if got.Height != 7 || err != nil {
		t.Errorf("Committed = %+v, %v", got, err)
	}
}

// TestSilentNode: an RPC that takes the question and never answers costs the time that the caller gives it.
func TestSilentNode(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = Find(home(t, ""), []string{"--rpc.laddr=tcp://" + listener.Addr().String()}, noEnv, "").Committed(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if _, err := new(Client).Committed(t.Context()); !errors.Is(err, ErrNoAddress) {
		t.Errorf("without an address: %v", err)
	}
}

// block is a GetLatestBlockResponse with a block id, and a block of this height in the given field.
func block(field protowire.Number, height int64) []byte {
	header := protowire.AppendTag(nil, 1, protowire.BytesType)
	header = protowire.AppendBytes(header, []byte{8, 11})
	header = protowire.AppendTag(header, 2, protowire.BytesType)
	header = protowire.AppendString(header, "test-1")
	header = protowire.AppendTag(header, 3, protowire.VarintType)
	header = protowire.AppendVarint(header, uint64(height))
	b := protowire.AppendTag(nil, 1, protowire.BytesType)
	b = protowire.AppendBytes(b, header)
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	b = protowire.AppendBytes(b, make([]byte, 1<<20))
	message := protowire.AppendTag(nil, 1, protowire.BytesType)
	message = protowire.AppendBytes(message, []byte{10, 1, 1})
	message = protowire.AppendTag(message, field, protowire.BytesType)
	return protowire.AppendBytes(message, b)
}

// TestGRPC asks a real HTTP/2 server without TLS, and reads the height of a block that is much larger than what is read.
func TestGRPC(t *testing.T) {
	for _, field := range []protowire.Number{2, 3} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor != 2 || r.URL.Path != "/cosmos.base.tendermint.v1beta1.Service/GetLatestBlock" || r.Header.Get("Content-Type") != "application/grpc" {
				w.Header().Set("Grpc-Status", "12")
				return
			}
			w.Header().Set("Content-Type", "application/grpc")
			message := block(field, 43)
			w.Write(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))))
			w.Write(message)
		}))
		server.Config.Protocols = new(http.Protocols)
		server.Config.Protocols.SetUnencryptedHTTP2(true)
		server.Start()
		client := Find(home(t, ""), nil, noEnv, strings.TrimPrefix(server.URL, "http://"))
		got, err := client.Committed(t.Context())
		if got.Height != 42 || got.AtMost != 43 || err != nil { // block 43 is stored, 42 is committed for certain
			t.Errorf("Committed = %+v, %v, want 42", got, err)
		}
		server.Close()
	}
}

// TestHeight: a height is text or a number, and nothing else is one.
func TestHeight(t *testing.T) {
	for _, tt := range []struct {
		text string
		want height
		ok   bool
	}{
		{`"8"`, 8, true},
		{`8`, 8, true},
		{`"0"`, 0, true},
		{`null`, 0, true}, // as if it were left out
		{`9223372036854775806`, 1<<63 - 2, true},
		{`9223372036854775807`, 0, false}, // there is no block after it
		{`9223372036854775808`, 0, false},
		{`"-8"`, 0, false},
		{`-8`, 0, false},
		{`8.5`, 0, false},
		{`1e3`, 0, false},
		{`""`, 0, false},
		{`"x"`, 0, false},
		{`true`, 0, false},
		{`[8]`, 0, false},
	} {
		var got height
		if err := json.Unmarshal([]byte(tt.text), &got); got != tt.want || (err == nil) != tt.ok {
			t.Errorf("%s is %d, %v, want %d", tt.text, got, err, tt.want)
		}
	}
}

func FuzzParseLatestBlock(f *testing.F) {
	f.Add(block(2, 43))
	f.Add(block(3, 1)[:60])
	seed, _ := base64.StdEncoding.DecodeString("ChMKAnYyEgsIgJK4w5j+////ARgR")
	f.Add(seed)
	f.Fuzz(func(t *testing.T, message []byte) {
		if height, err := parseLatestBlock(message); err == nil && height <= 0 {
			t.Errorf("height %d", height)
		}
	})
}

func FuzzParseABCIInfo(f *testing.F) {
	f.Add([]byte(`{"result":{"response":{"last_block_height":"8"}}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		var answer abciInfoAnswer
		if parseResult(content, &answer) != nil {
			return
		}
		if height, err := answer.height(); err == nil && height < 0 {
			t.Errorf("height %d", height)
		}
	})
}
