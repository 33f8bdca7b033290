package node

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"solstice"
)

// A node key, and the ID that CometBFT v0.39 has for it (comet show-node-id).
const (
	testKey = `{"priv_key":{"type":"tendermint/PrivKeyEd25519","value":` +
		`"AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyB5tVYuj+ZU+UB4sRLoqYunkB+FOuaVvtfg45ELrQSWZA=="}}`
	testID  = "65b60673d6ed884bf01c2c222d82ada0740f29ac"
	otherID = "c92ff18be3cd41d620214c9f241da60ba2a36b86"
	chain1  = "test-1"
	chain2  = "other-1"
)

// answering is a node that answers, by RPC and by gRPC.
type answering struct {
	ID, Chain string
	Bare      bool // without a JSON-RPC envelope
	Parent    bool // a process that leaves the answering to another, which it starts
	requests  atomic.Int64
}

func (n *answering) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.requests.Add(1)
	if r.ProtoMajor == 2 {
		n.grpc(w, r)
		return
	}
	result, ok := map[string]string{
		"/abci_info": `{"response":{"data":"chaind","last_block_height":"8"}}`,
		"/status": fmt.Sprintf(`{"node_info":{"id":%s,"listen_addr":"tcp://0.0.0.0:26656","network":%s},"sync_info":{"catching_up":true}}`,
			quote(n.ID), quote(n.Chain)),
		"/abci_query":           fmt.Sprintf(`{"response":{"code":0,"value":%q,"height":"8"}}`, base64.StdEncoding.EncodeToString(n.application(r.FormValue("path")))),
		"/blockchain":           `{"block_metas":[{"header":{"height":8,"time":"2026-01-02T03:04:05Z"}}]}`,
		"/dump_consensus_state": `{"round_state":{"height":9,"round":"0"}}`,
	}[r.URL.Path]
	switch {
	case !ok:
		http.NotFound(w, r)
	case n.Bare:
		fmt.Fprint(w, result)
	default:
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":-1,"result":%s}`, result)
	}
}

func quote(text string) []byte {
	quoted, _ := json.Marshal(text)
	return quoted
}

// application answers queries: with a plan and with a proposal.
func (n *answering) application(path string) []byte {
	switch {
	case strings.Contains(path, "CurrentPlan"):
		return nested(1, planMessage("v2", 17, ""))
	case strings.Contains(path, "gov.v1.Query"):
		return nested(1, proposalMessage(5, Voting, softwareUpgrade("v2", 17)))
	}
	return nil
}

func (n *answering) grpc(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/grpc")
	message := n.application(r.URL.Path)
	switch {
	case strings.HasSuffix(r.URL.Path, "/GetNodeInfo"):
		message = nested(1, join(nested(1, varint(1, 8)), text(2, n.ID), text(3, "tcp://0.0.0.0:26656"), text(4, n.Chain)))
	case strings.HasSuffix(r.URL.Path, "/GetLatestBlock"):
		message = block(3, 9)
	case message == nil:
		w.Header().Set("Grpc-Status", "12")
		return
	}
	w.Write(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))))
	w.Write(message)
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
}

// serve answers at an address, 127.0.0.1 with any port if it is empty, until the test ends.
func serve(t *testing.T, address string, handler http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	if address != "" {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Skip(err) // a machine without IPv6
		}
		server.Listener.Close()
		server.Listener = listener
	}
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server
}

// ours is a home with a key and a genesis. Files that are given take their places; an
// empty one is removed.
func ours(t *testing.T, files map[string]string) solstice.Home {
	t.Helper()
	home := home(t, "")
	all := map[string]string{"config/node_key.json": testKey, "config/genesis.json": `{"app_name":"x","chain_id":"` + chain1 + `","app_state":{}}`}
	maps.Copy(all, files)
	for path, content := range all {
		if content != "" {
			write(t, filepath.Join(home.Node, path), []byte(content))
		}
	}
	return home
}

// client is a client for a home, whose RPC and gRPC are at these addresses.
func client(home solstice.Home, rpcAddress, grpcAddress string) *Client {
	return Find(home, []string{"start", "--rpc.laddr=tcp://" + rpcAddress}, noEnv, grpcAddress)
}

func addressOf(server *httptest.Server) string { return server.Listener.Addr().String() }

// methods are all questions that a client has. Those in onlyRPC can't be asked by gRPC.
var methods = map[string]func(context.Context, *Client) error{
	"Committed": func(ctx context.Context, c *Client) error {
		a, err := c.Committed(ctx)
		if err == nil && a.Height != 8 || err == nil && a.Tied == (a.Doubt != "") || err != nil && a != (Answer{}) {
			return fmt.Errorf("Committed = %+v, %v", a, err)
		}
		return err
	},
	"Plan": func(ctx context.Context, c *Client) error {
		plan, ok, err := c.Plan(ctx)
		if (err == nil) != (ok && plan == solstice.Plan{Name: "v2", Height: 17}) {
			return fmt.Errorf("Plan = %+v, %t, %v", plan, ok, err)
		}
		return err
	},
	"Proposals": func(ctx context.Context, c *Client) error {
		proposals, err := c.Proposals(ctx)
		if (err == nil) != (len(proposals) == 2) { // one of each status that is asked for
			return fmt.Errorf("Proposals = %+v, %v", proposals, err)
		}
		return err
	},
	"Proposal": func(ctx context.Context, c *Client) error {
		p, err := c.Proposal(ctx, 5)
		if (err == nil) != (p.ID == 5) {
			return fmt.Errorf("Proposal = %+v, %v", p, err)
		}
		return err
	},
	"Pace": func(ctx context.Context, c *Client) error {
		pace, err := c.Pace(ctx)
		if (err == nil) != (pace.Height == 8) {
			return fmt.Errorf("Pace = %+v, %v", pace, err)
		}
		return err
	},
	"Consensus": func(ctx context.Context, c *Client) error {
		consensus, err := c.Consensus(ctx)
		if (err == nil) != (consensus.Height == 9 && consensus.CatchingUp) {
			return fmt.Errorf("Consensus = %+v, %v", consensus, err)
		}
		return err
	},
	"Call": func(ctx context.Context, c *Client) error {
		var status statusAnswer
		err := c.Call(ctx, "/status", url.Values{}, maxAnswer, &status)
		if err == nil && status.Node == nil {
			return errNoResult // what stands in it is the caller's concern
		}
		return err
	},
}

var onlyRPC = []string{"Pace", "Consensus", "Call"}

// TestWhoAnswers: each question is answered by this home's node, or by one that can't be
// told, or not at all.
func TestWhoAnswers(t *testing.T) {
	folder := func(t *testing.T, home solstice.Home) {
		key := filepath.Join(home.Node, "config", "node_key.json")
		if err := os.Remove(key); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(key, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	const notKnown, noProcess, sameChain = "the node's ID is not known: ", "the node's process is not known", "it is a node of the same chain"
	for _, tt := range []struct {
		name    string
		node    *answering
		files   map[string]string
		prepare func(*testing.T, solstice.Home)
		foreign string   // what the error says of the two
		doubts  []string // none, and not foreign: tied
	}{
		{name: "ours", node: &answering{ID: testID, Chain: chain1}},
		{name: "ours-without-an-envelope", node: &answering{ID: testID, Chain: chain1, Bare: true}},
		{name: "ours-under-another-chain-id", node: &answering{ID: testID, Chain: chain2}}, // in-place-testnet
		{name: "ours-without-a-genesis", node: &answering{ID: testID, Chain: chain1}, files: map[string]string{"config/genesis.json": ""}},
		{
			name:    "another-node-of-the-chain",
			node:    &answering{ID: otherID, Chain: chain1},
			foreign: "(ID " + otherID + ", chain test-1), not by this home's (ID " + testID + ", chain test-1)",
		},
		{
			name:    "another-chain",
			node:    &answering{ID: otherID, Chain: chain2},
			foreign: "(ID " + otherID + ", chain other-1), not by this home's (ID " + testID + ", chain test-1)",
		},
		{
			name:    "another-chain-bare",
			node:    &answering{ID: otherID, Chain: chain2, Bare: true},
			foreign: "(ID " + otherID + ", chain other-1)",
		},
		{
			name:    "another-node-that-writes-to-terminals",
			node:    &answering{ID: "\x1b[2J", Chain: "a\u202eb"},
			foreign: `(ID "\x1b[2J", chain "a\u202eb")`,
		},
		{
			name:    "another-chain-without-our-key",
			node:    &answering{ID: otherID, Chain: chain2},
			files:   map[string]string{"config/node_key.json": ""},
			foreign: "(ID " + otherID + ", chain other-1), not by this home's (chain test-1)",
		},
		{
			name:   "same-chain-without-our-key",
			node:   &answering{ID: otherID, Chain: chain1},
			files:  map[string]string{"config/node_key.json": ""},
			doubts: []string{notKnown, "no such file", noProcess, sameChain},
		},
		{
			name:   "same-chain-with-a-key-that-is-none",
			node:   &answering{ID: otherID, Chain: chain1},
			files:  map[string]string{"config/node_key.json": "{}"},
			doubts: []string{notKnown, "it is not a node key", noProcess, sameChain},
		},
		{
			name:    "same-chain-with-a-folder-for-a-key",
			node:    &answering{ID: otherID, Chain: chain1},
			prepare: folder,
			doubts:  []string{notKnown, "not a regular file", noProcess, sameChain},
		},
		{
			name:   "nothing-to-compare-with",
			node:   &answering{ID: otherID, Chain: chain2},
			files:  map[string]string{"config/node_key.json": "", "config/genesis.json": ""},
			doubts: []string{notKnown, noProcess},
		},
		{
			name:   "says-nothing-of-itself",
			node:   &answering{},
			doubts: []string{"it does not say its node ID", noProcess},
		},
		{
			name:    "says-only-another-chain",
			node:    &answering{Chain: chain2},
			foreign: "(chain other-1)",
		},
	} {
		for _, way := range []string{rpc, gRPC} {
			t.Run(tt.name+"/"+way, func(t *testing.T) {
				home := ours(t, tt.files)
				if tt.prepare != nil {
					tt.prepare(t, home)
				}
				n := answering{ID: tt.node.ID, Chain: tt.node.Chain, Bare: tt.node.Bare}
				address := addressOf(serve(t, "", &n))
				c := client(home, address, "")
				if way == gRPC {
					c = Find(home, nil, noEnv, address)
				}
				for name, ask := range methods {
					err := ask(t.Context(), c)
					if way == gRPC && slices.Contains(onlyRPC, name) {
						if !errors.Is(err, ErrNoAddress) {
							t.Errorf("%s: %v, want %v", name, err, ErrNoAddress)
						}
						continue
					}
					var foreign *ForeignError
					switch {
					case tt.foreign == "" && err != nil:
						t.Errorf("%s: %v", name, err)
					case tt.foreign != "" && (!errors.As(err, &foreign) || !errors.Is(err, ErrForeign)):
						t.Errorf("%s: %v, want a foreign node", name, err)
					case tt.foreign != "" && (!strings.Contains(err.Error(), tt.foreign) || !strings.Contains(err.Error(), "the "+way+" at "+address+" is answered by another node")):
						t.Errorf("%s: %v, want %q", name, err, tt.foreign)
					}
				}
				if tt.foreign != "" {
					return
				}
				got, err := c.Committed(t.Context())
				if err != nil || got.Tied != (tt.doubts == nil) {
					t.Fatalf("Committed = %+v, %v, want tied %t", got, err, tt.doubts == nil)
				}
				for _, doubt := range tt.doubts {
					if !strings.Contains(got.Doubt, doubt) {
						t.Errorf("doubt %q, want %q in it", got.Doubt, doubt)
					}
				}
			})
		}
	}
}

// TestTLS: an address with a certificate ties like one without. Whose name is on it does
// not count.
func TestTLS(t *testing.T) {
	for way, version := range map[string]int{rpc: 1, gRPC: 2} {
		n := &answering{ID: testID, Chain: chain1}
		server := httptest.NewUnstartedServer(n)
		server.EnableHTTP2 = version == 2
		server.StartTLS()
		defer server.Close()
		home := ours(t, map[string]string{"config/config.toml": "[rpc]\ntls_cert_file = \"a\"\ntls_key_file = \"b\"\n"})
		c := client(home, addressOf(server), "")
		if way == gRPC {
			c = Find(ours(t, nil), nil, noEnv, "https://"+addressOf(server))
		}
		for range 2 {
			if a, err := c.Committed(t.Context()); err != nil || !a.Tied {
				t.Errorf("%s: Committed = %+v, %v", way, a, err)
			}
		}
		if got := n.requests.Load(); got != 3 {
			t.Errorf("%s: %d requests, want 3", way, got)
		}
	}
}

// TestNoHome: a client that has only an address takes what is answered, and ties nothing.
func TestNoHome(t *testing.T) {
	n := answering{ID: otherID, Chain: chain2}
	c := At(addressOf(serve(t, "", &n)))
	for name, ask := range methods {
		if err := ask(t.Context(), c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	got, err := c.Committed(t.Context())
	if want := (Answer{Height: 8, AtMost: 8, Doubt: "no home to compare with"}); got != want || err != nil {
		t.Errorf("Committed = %+v, %v, want %+v", got, err, want)
	}
}

// TestOneRequestAQuestion: who answers is asked once for each connection, and a
// connection is used again.
func TestOneRequestAQuestion(t *testing.T) {
	for _, way := range []string{rpc, gRPC} {
		n := answering{ID: testID, Chain: chain1}
		address := addressOf(serve(t, "", &n))
		home := ours(t, nil)
		c := client(home, address, "")
		if way == gRPC {
			c = Find(home, nil, noEnv, address)
		}
		ask := func() {
			for range 10 {
				if a, err := c.Committed(t.Context()); err != nil || !a.Tied {
					t.Fatalf("Committed = %+v, %v", a, err)
				}
			}
		}
		ask()
		if got := n.requests.Load(); got != 11 {
			t.Errorf("%s: %d requests for ten questions, want 11", way, got)
		}
		c.SetProcess(os.Getpid())
		ask()
		if got := n.requests.Load(); got != 22 {
			t.Errorf("%s: %d requests after ten more of another process, want 22", way, got)
		}
	}
}

// TestAnotherListens: the tie is the connection's, not the address's.
func TestAnotherListens(t *testing.T) {
	for _, way := range []string{rpc, gRPC} {
		mine, another := &answering{ID: testID, Chain: chain1}, &answering{ID: otherID, Chain: chain1}
		first := serve(t, "", mine)
		address, home := addressOf(first), ours(t, nil)
		c := client(home, address, "")
		if way == gRPC {
			c = Find(home, nil, noEnv, address)
		}
		for range 2 { // the second time over the same connection
			if a, err := c.Committed(t.Context()); err != nil || !a.Tied {
				t.Fatalf("%s: Committed = %+v, %v", way, a, err)
			}
		}
		// The first one listens no longer, and its connection is still open: it answers.
		first.Listener.Close()
		second := serve(t, address, another)
		if a, err := c.Committed(t.Context()); err != nil || !a.Tied || another.requests.Load() > 0 {
			t.Errorf("%s: Committed over the open connection = %+v, %v, and %d requests came to the other", way, a, err, another.requests.Load())
		}
		first.CloseClientConnections()
		if a, err := c.Committed(t.Context()); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: Committed over a new connection = %+v, %v, want a foreign node", way, a, err)
		}
		second.Close()
		if a, err := c.Committed(t.Context()); err == nil || errors.Is(err, ErrForeign) {
			t.Errorf("%s: nobody listens: %+v, %v", way, a, err)
		}
		serve(t, address, mine)
		if a, err := c.Committed(t.Context()); err != nil || !a.Tied {
			t.Errorf("%s: ours again: %+v, %v", way, a, err)
		}
	}
}

// TestClosesEachConnection: who gives an answer can't be known where each comes over a
// connection of its own.
func TestClosesEachConnection(t *testing.T) {
	n := &answering{ID: testID, Chain: chain1}
	server := serve(t, "", n)
	server.Config.SetKeepAlivesEnabled(false)
	c := client(ours(t, nil), addressOf(server), "")
	a, err := c.Committed(t.Context())
	if err != nil || a.Height != 8 || a.Tied || !strings.Contains(a.Doubt, "closes the connection") {
		t.Errorf("Committed = %+v, %v", a, err)
	}
	n.ID = otherID
	if a, err := c.Committed(t.Context()); !errors.Is(err, ErrForeign) {
		t.Errorf("another node: %+v, %v", a, err)
	}
}

// TestKeyOfTheFirstStart: a node makes its key when it starts for the first time, after
// the client was made.
func TestKeyOfTheFirstStart(t *testing.T) {
	n := &answering{ID: testID, Chain: chain1}
	home := ours(t, map[string]string{"config/node_key.json": ""})
	c := client(home, addressOf(serve(t, "", n)), "")
	if a, err := c.Committed(t.Context()); err != nil || a.Tied {
		t.Errorf("without a key: %+v, %v", a, err)
	}
	write(t, filepath.Join(home.Node, "config", "node_key.json"), []byte(testKey))
	c.SetProcess(0) // as at each start
	if a, err := c.Committed(t.Context()); err != nil || !a.Tied {
		t.Errorf("with its key: %+v, %v", a, err)
	}
}

// TestForeignRPC: where another node answers on the RPC's port, gRPC is not asked in its
// place.
func TestForeignRPC(t *testing.T) {
	mine := &answering{ID: testID, Chain: chain1}
	c := client(ours(t, nil), addressOf(serve(t, "", &answering{ID: otherID, Chain: chain2})), addressOf(serve(t, "", mine)))
	for name, ask := range methods {
		if err := ask(t.Context(), c); !errors.Is(err, ErrForeign) || mine.requests.Load() > 0 {
			t.Errorf("%s: %v after %d requests by gRPC", name, err, mine.requests.Load())
		}
	}
}

// TestBothFamilies: "all addresses" are those of IPv6 and of IPv4, and a machine may have
// only one of the two.
func TestBothFamilies(t *testing.T) {
	for _, tt := range []struct{ name, listens, laddr string }{
		{"v6-for-v4", "127.0.0.1:0", "tcp://[::]:"},
		{"v6", "[::1]:0", "tcp://[::]:"},
		{"v4", "127.0.0.1:0", "tcp://0.0.0.0:"},
		{"v4-for-v6", "[::1]:0", "tcp://0.0.0.0:"},
		{"no-host", "127.0.0.1:0", "tcp://:"},
		{"bare", "127.0.0.1:0", ":"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := serve(t, tt.listens, &answering{ID: testID, Chain: chain1})
			_, port, err := net.SplitHostPort(addressOf(server))
			if err != nil {
				t.Fatal(err)
			}
			c := Find(ours(t, nil), []string{"--rpc.laddr", tt.laddr + port}, noEnv, "")
			if a, err := c.Committed(t.Context()); err != nil || !a.Tied {
				t.Errorf("Committed = %+v, %v", a, err)
			}
			server.Close()
			if _, err := c.Committed(t.Context()); err == nil || !strings.Contains(err.Error(), "connection refused") {
				t.Errorf("nobody listens: %v", err)
			}
		})
	}
}
