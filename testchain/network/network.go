// Package network lays out small networks of the test chain and drives their governance.
//
// It writes the homes of one to four validators, and of full nodes if wanted, on free ports of this
// machine. It starts no node: that is the caller's part, under a supervisor or with Node.Command. It
// knows the chain by its command line and its RPC only, so that a test links none of the SDK.
package network

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	// ChainID is the id of a network whose Config names none.
	ChainID = "testchain"

	// keyName is the name of a validator's account in its keyring.
	keyName = "validator"

	// balance and stake are what a validator owns and what of it votes.
	balance = "1000000000000stake"
	stake   = "1000000000stake"
)

// Config says what a network looks like.
type Config struct {
	// Dir is the folder that gets one home for each node. It is made if missing.
	Dir string

	// Chain is the binary of v1: it writes the homes.
	Chain string

	// Validators is the number of nodes that vote, all with the same power. Four go on without one
	// of them, three don't. Defaults to 1, and is 4 at most.
	Validators int

	// FullNodes is the number of nodes without a vote.
	FullNodes int

	// VotingPeriod is how long a proposal is open. Defaults to 4s: on a busy machine a vote takes two. An expedited one is open
	// half as long.
	VotingPeriod time.Duration

	// BlockTime is the pause after each block. Defaults to 500ms.
	BlockTime time.Duration

	// LedgerKeys is the number of entries that the migration to v2 rewrites. Defaults to 100; a
	// hundred thousand take seconds.
	LedgerKeys int

	// LedgerSize is the number of bytes of an entry. Defaults to 64.
	LedgerSize int

	// DBBackend is goleveldb or pebbledb, for the app and for CometBFT. Defaults to goleveldb.
	DBBackend string

	// ChainID is the chain's id. Defaults to the constant of that name.
	ChainID string

	// InitialHeight is the chain's first height. Defaults to 1.
	InitialHeight int64

	// SnapshotInterval is how many blocks lie between two snapshots of the state that nodes
	// offer for state sync. Defaults to 0: they offer none.
	SnapshotInterval int
}

// Network is a chain's nodes, validators first.
type Network struct {
	// Nodes are the validators and after them the full nodes.
	Nodes []*Node

	config Config
}

// New lays out a network and starts nothing.
func New(ctx context.Context, config Config) (*Network, error) {
	config = config.withDefaults()
	if config.Validators > 4 || config.Validators < 1 || config.FullNodes < 0 {
		return nil, fmt.Errorf("%d validators and %d full nodes: want 1 to 4 and 0 or more", config.Validators, config.FullNodes)
	}
	dir, err := filepath.Abs(config.Dir)
	if err != nil {
		return nil, err
	}
	nw := &Network{config: config}
	ports, err := freePorts(2 * (config.Validators + config.FullNodes))
	if err != nil {
		return nil, fmt.Errorf("find free ports: %w", err)
	}
	for i := range config.Validators + config.FullNodes {
		n := &Node{
			Moniker:   fmt.Sprintf("validator%d", i),
			Validator: true,
			RPC:       fmt.Sprintf("http://127.0.0.1:%d", ports[2*i]),
			p2p:       fmt.Sprintf("127.0.0.1:%d", ports[2*i+1]),
		}
		if i >= config.Validators {
			n.Moniker, n.Validator = fmt.Sprintf("full%d", i-config.Validators), false
		}
		n.Home = filepath.Join(dir, n.Moniker)
		nw.Nodes = append(nw.Nodes, n)
	}
	for _, step := range []struct {
		name string
		run  func(*Network, context.Context) error
	}{
		{"make homes", (*Network).makeHomes},
		{"write genesis", (*Network).writeGenesis},
		{"sign genesis", (*Network).signGenesis},
		{"write configuration", (*Network).writeConfig},
	} {
		if err := step.run(nw, ctx); err != nil {
			return nil, fmt.Errorf("lay out network: %s: %w", step.name, err)
		}
	}
	return nw, nil
}

// withDefaults fills what is left out.
func (c Config) withDefaults() Config {
	if c.Validators == 0 {
		c.Validators = 1
	}
	if c.VotingPeriod == 0 {
		c.VotingPeriod = 4 * time.Second
	}
	if c.BlockTime == 0 {
		c.BlockTime = 500 * time.Millisecond
	}
	if c.LedgerKeys == 0 {
		c.LedgerKeys = 100
	}
	if c.LedgerSize == 0 {
		c.LedgerSize = 64
	}
	if c.DBBackend == "" {
		c.DBBackend = "goleveldb"
	}
	c.ChainID = cmp.Or(c.ChainID, ChainID)
	c.InitialHeight = cmp.Or(c.InitialHeight, 1)
	return c
}

// validators are the nodes that vote.
func (nw *Network) validators() []*Node { return nw.Nodes[:nw.config.Validators] }

// makeHomes makes every home, and an account for each validator.
func (nw *Network) makeHomes(ctx context.Context) error {
	return each(nw.Nodes, func(n *Node) error {
		if _, err := n.run(ctx, nw.config.Chain, "init", n.Moniker, "--chain-id", nw.config.ChainID); err != nil {
			return err
		}
		if err := n.readID(); err != nil {
			return fmt.Errorf("read node id: %w", err)
		}
		if !n.Validator {
			return nil
		}
		out, err := n.run(ctx, nw.config.Chain, "keys", "add", keyName, "--keyring-backend", "test", "--output", "json")
		if err != nil {
			return err
		}
		var key struct {
			Address string `json:"address"`
		}
		if err := json.Unmarshal(out, &key); err != nil {
			return fmt.Errorf("read answer of keys add: %w", err)
		}
		n.Address = key.Address
		return nil
	})
}

// writeGenesis gives every home a genesis with the accounts and our parameters.
func (nw *Network) writeGenesis(ctx context.Context) error {
	first := nw.Nodes[0]
	type coin struct {
		Denom  string `json:"denom"`
		Amount string `json:"amount"`
	}
	type account struct {
		Address string `json:"address"`
		Coins   []coin `json:"coins"`
	}
	var accounts []account
	for _, n := range nw.validators() {
		accounts = append(accounts, account{n.Address, []coin{{"stake", strings.TrimSuffix(balance, "stake")}}})
	}
	data, err := json.Marshal(accounts)
	if err != nil {
		return err
	}
	path := filepath.Join(first.Home, "config", "accounts.json")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return err
	}
	if _, err := first.run(ctx, nw.config.Chain, "genesis", "bulk-add-genesis-account", path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}

	deposit := []coin{{"stake", "1000"}}
	err = editJSON(first.genesis(), map[string]any{
		"initial_height":                               nw.config.InitialHeight,
		"app_state.gov.params.voting_period":           seconds(nw.config.VotingPeriod),
		"app_state.gov.params.expedited_voting_period": seconds(nw.config.VotingPeriod / 2),
		"app_state.gov.params.min_deposit":             deposit,
		"app_state.gov.params.expedited_min_deposit":   []coin{{"stake", "2000"}},
		// A node that a test keeps down for minutes must not be jailed.
		"app_state.slashing.params.signed_blocks_window": "100000",
		"app_state.ledger.entries":                       nw.config.LedgerKeys,
		"app_state.ledger.size":                          nw.config.LedgerSize,
	})
	if err != nil {
		return err
	}
	return nw.copyGenesis()
}

// signGenesis makes the validators' genesis transactions and collects them.
func (nw *Network) signGenesis(ctx context.Context) error {
	first := nw.Nodes[0]
	transactions := filepath.Join(first.Home, "config", "gentx")
	if err := os.MkdirAll(transactions, 0o755); err != nil {
		return err
	}
	err := each(nw.validators(), func(n *Node) error {
		_, err := n.run(ctx, nw.config.Chain, "genesis", "gentx", keyName, stake, "--chain-id", nw.config.ChainID,
			"--keyring-backend", "test", "--moniker", n.Moniker, "--ip", "127.0.0.1",
			"--output-document", filepath.Join(transactions, n.Moniker+".json"))
		return err
	})
	if err != nil {
		return err
	}
	if _, err := first.run(ctx, nw.config.Chain, "genesis", "collect-gentxs"); err != nil {
		return err
	}
	return nw.copyGenesis()
}

// copyGenesis gives the first node's genesis to the others.
func (nw *Network) copyGenesis() error {
	data, err := os.ReadFile(nw.Nodes[0].genesis())
	if err != nil {
		return err
	}
	for _, n := range nw.Nodes[1:] {
		if err := os.WriteFile(n.genesis(), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// writeConfig sets addresses, peers and times in every home.
func (nw *Network) writeConfig(context.Context) error {
	for _, n := range nw.Nodes {
		var peers []string
		for _, peer := range nw.Nodes {
			if peer != n {
				peers = append(peers, peer.ID+"@"+peer.p2p)
			}
		}
		for file, values := range map[string]map[string]string{
			"config.toml": {
				"db_backend":                           quote(nw.config.DBBackend),
				"rpc.laddr":                            quote(n.rpcTCP()),
				"rpc.pprof_laddr":                      quote(""),
				"p2p.laddr":                            quote("tcp://" + n.p2p),
				"p2p.persistent_peers":                 quote(strings.Join(peers, ",")),
				"p2p.pex":                              "false",
				"p2p.addr_book_strict":                 "false",
				"p2p.allow_duplicate_ip":               "true",
				"consensus.timeout_propose":            quote("1s"),
				"consensus.timeout_commit":             quote(nw.config.BlockTime.String()),
				"p2p.persistent_peers_max_dial_period": quote("1s"),
			},
			"app.toml": {
				"minimum-gas-prices": quote("0stake"),
				"app-db-backend":     quote(nw.config.DBBackend),
				"api.enable":         "false",
				"grpc.enable":        "false",
				"grpc-web.enable":    "false",

				"state-sync.snapshot-interval":    fmt.Sprint(nw.config.SnapshotInterval),
				"state-sync.snapshot-keep-recent": "0", // all: one is fetched for longer than some blocks take
			},
			"client.toml": {
				"chain-id":        quote(nw.config.ChainID),
				"keyring-backend": quote("test"),
				"node":            quote(n.rpcTCP()),
			},
		} {
			if err := editTOML(filepath.Join(n.Home, "config", file), values); err != nil {
				return err
			}
		}
	}
	return nil
}

// Configure changes values in a file of the node's configuration, such as config.toml. A key is its table's name, a dot and
// its own name; a value is in TOML.
func (n *Node) Configure(file string, values map[string]string) error {
	return editTOML(filepath.Join(n.Home, "config", file), values)
}

// each runs f for all nodes at once and returns all errors.
func each(nodes []*Node, f func(*Node) error) error {
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			if err := f(n); err != nil {
				errs[i] = fmt.Errorf("%s: %w", n.Moniker, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// freePorts finds ports that nobody listens on. They lie below the range from which the kernel
// takes the ports of connections: a node must get its port again after a restart.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000)))
		if err != nil {
			continue
		}
		defer l.Close() // only now, so that no port is found twice
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		if len(ports) == n {
			return ports, nil
		}
	}
	return nil, errors.New("all that were tried are taken")
}

// seconds writes a duration as protobuf's JSON wants it.
func seconds(d time.Duration) string { return fmt.Sprintf("%.3fs", d.Seconds()) }

// quote writes a TOML string.
func quote(s string) string { return fmt.Sprintf("%q", s) }

// editTOML replaces values in a configuration file. A key is its table's name, a dot and its own
// name, or its name alone above the first table. All keys must be there already.
func editTOML(path string, values map[string]string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines, table, found := strings.Split(string(data), "\n"), "", 0
	for i, line := range lines {
		if name, ok := strings.CutPrefix(line, "["); ok {
			table = strings.TrimSuffix(name, "]") + "."
			continue
		}
		name, _, ok := strings.Cut(line, " =")
		if value, wanted := values[table+name]; ok && wanted {
			lines[i] = name + " = " + value
			found++
		}
	}
	if found != len(values) {
		return fmt.Errorf("edit %s: %d of %d keys found", path, found, len(values))
	}
	return os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o644)
}

// editJSON replaces values in a JSON file, named by their dotted paths. Their parents must be there.
func editJSON(path string, values map[string]any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var document map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.UseNumber()
	if err := decoder.Decode(&document); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	for name, value := range values {
		parent, keys := document, strings.Split(name, ".")
		for _, key := range keys[:len(keys)-1] {
			child, ok := parent[key].(map[string]any)
			if !ok {
				return fmt.Errorf("edit %s: there is no %s in %s", path, key, name)
			}
			parent = child
		}
		parent[keys[len(keys)-1]] = value
	}
	if data, err = json.MarshalIndent(document, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// readID reads the node's id: it is the start of the hash of its public key, which is the second half
// of the private one.
func (n *Node) readID() error {
	data, err := os.ReadFile(filepath.Join(n.Home, "config", "node_key.json"))
	if err != nil {
		return err
	}
	var key struct {
		Private struct {
			Value []byte `json:"value"`
		} `json:"priv_key"`
	}
	if err := json.Unmarshal(data, &key); err != nil {
		return err
	}
	if len(key.Private.Value) != ed25519.PrivateKeySize {
		return fmt.Errorf("key has %d bytes", len(key.Private.Value))
	}
	sum := sha256.Sum256(key.Private.Value[ed25519.SeedSize:])
	n.ID = fmt.Sprintf("%x", sum[:20])
	return nil
}

// run runs a command of the chain's binary on the node's home and returns what it prints on
// standard output.
func (n *Node) run(ctx context.Context, binary string, args ...string) ([]byte, error) {
	out, err := n.Command(ctx, binary, args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		} else if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return nil, fmt.Errorf("%s %s: %w", filepath.Base(binary), strings.Join(args[:min(2, len(args))], " "), err)
	}
	return out, nil
}
