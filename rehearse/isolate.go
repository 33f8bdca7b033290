package rehearse

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"solstice"
	"solstice/localnet"
	"solstice/node"
)

// keys are the throw-away keys of a rehearsal: all its nodes are the same validator, so that they can sign the same block.
type keys struct {
	validator, node []byte // files
}

func newKeys() (k keys, err error) {
	type typed struct {
		Type  string `json:"type"`
		Value []byte `json:"value"`
	}
	private := func() (ed25519.PublicKey, typed, error) {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		return public, typed{"tendermint/PrivKeyEd25519", private}, err
	}
	public, validator, err := private()
	if err != nil {
		return k, err
	}
	_, own, err := private()
	if err != nil {
		return k, err
	}
	address := sha256.Sum256(public)
	k.validator, err = json.Marshal(map[string]any{
		"address": fmt.Sprintf("%X", address[:20]), "pub_key": typed{"tendermint/PubKeyEd25519", public}, "priv_key": validator,
	})
	if err != nil {
		return k, err
	}
	k.node, err = json.Marshal(map[string]any{"priv_key": own})
	return k, err
}

// Where a node of a rehearsal has its keys, whatever the original's settings say.
const (
	keyFile   = "config/priv_validator_key.json"
	nodeFile  = "config/node_key.json"
	stateFile = "data/priv_validator_state.json"
)

// unsigned is the sign state of a validator that has signed nothing.
const unsigned = `{"height":"0","round":0,"step":0}`

// private says what of a home never gets into a rehearsal: keys, what they have signed, and who the peers are.
func private(home string, s node.Settings) func(rel string) bool {
	named := map[string]bool{stateFile: true, keyFile: true, nodeFile: true, "config/addrbook.json": true}
	for _, file := range []string{s.KeyFile, s.StateFile} {
		if rel, err := filepath.Rel(home, file); err == nil {
			named[filepath.ToSlash(rel)] = true
		}
	}
	return func(rel string) bool {
		base := path.Base(rel)
		return named[rel] || strings.HasPrefix(base, "priv_validator_") || strings.HasPrefix(base, "node_key") || strings.HasPrefix(base, "keyring-")
	}
}

// isolate gives a copy of a home the keys of the rehearsal, ports of its own on 127.0.0.1, and nobody to talk to.
func isolate(n *localnet.Node, k keys) error {
	for name, content := range map[string][]byte{keyFile: k.validator, nodeFile: k.node} {
		if err := os.WriteFile(filepath.Join(n.Home, name), content, 0o600); err != nil {
			return err
		}
	}
	if path := filepath.Join(n.Home, stateFile); !exists(path) {
		if err := os.WriteFile(path, []byte(unsigned), 0o600); err != nil {
			return err
		}
	}
	ports, err := localnet.FreePorts(2)
	if err != nil {
		return err
	}
	n.RPC = fmt.Sprintf("127.0.0.1:%d", ports[0])
	config := map[string]string{
		"priv_validator_key_file": localnet.Quote(keyFile), "priv_validator_state_file": localnet.Quote(stateFile),
		"node_key_file": localnet.Quote(nodeFile), "genesis_file": `"config/genesis.json"`, "db_dir": `"data"`,
		"consensus.wal_file": `"data/cs.wal/wal"`, "p2p.addr_book_file": `"config/addrbook.json"`, "p2p.private_peer_ids": `""`,
		"p2p.unconditional_peer_ids": `""`, "p2p.bootstrap_peers": `""`,
		"consensus.timeout_commit": `"200ms"`, "consensus.create_empty_blocks": "true", "consensus.create_empty_blocks_interval": `"0s"`,
		"consensus.double_sign_check_height": "0", "rpc.tls_cert_file": `""`, "rpc.tls_key_file": `""`,
	}
	if text, err := solstice.ReadFile(filepath.Join(n.Home, "config", "config.toml"), solstice.MaxFile); err == nil && externalIndex.Match(text) {
		config["tx_index.indexer"], config["tx_index.psql-conn"] = `"null"`, `""` // it is a database elsewhere
	}
	return n.Configure(localnet.Listen{
		RPC: n.RPC, P2P: fmt.Sprintf("127.0.0.1:%d", ports[1]), Config: config,
		App: map[string]string{"streaming.abci.plugin": `""`, "streaming.abci.keys": "[]"},
	})
}

var (
	externalIndex = regexp.MustCompile(`(?m)^\s*indexer\s*=\s*"psql"`)
	chainIDLine   = regexp.MustCompile(`(?m)^\s*chain-id\s*=\s*"[a-z]+_(\d+)-\d+"`)
)

// chainID is that of the rehearsal's network. Chains with Ethereum's transactions read a number in it, which stays.
func chainID(home string) string {
	if text, err := solstice.ReadFile(filepath.Join(home, "config", "client.toml"), solstice.MaxFile); err == nil {
		if match := chainIDLine.FindSubmatch(text); match != nil {
			return "rehearsal_" + string(match[1]) + "-1"
		}
	}
	return "rehearsal-1"
}
