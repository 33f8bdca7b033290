package network

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// pollInterval is the pause between two questions to a node: shorter than a block.
const pollInterval = 50 * time.Millisecond

// Node is one node's home and the addresses it listens on when it runs.
type Node struct {
	// Home is the node's folder, for --home and DAEMON_HOME.
	Home string

	// Moniker is the node's name: validator0 and so on, full0 and so on.
	Moniker string

	// RPC is the address of CometBFT's RPC, as http://127.0.0.1:port.
	RPC string

	// ID is the node's id in the peer-to-peer network.
	ID string

	// Validator tells whether the node votes.
	Validator bool

	// Address is the validator's account, which is also its operator. It is empty for a full node.
	Address string

	p2p string
}

// Block is a block as a node stores it. Nodes that agree have equal blocks at a height.
type Block struct {
	// Height is the block's height.
	Height int64

	// ChainID is the id in the block's header.
	ChainID string

	// Hash is the block's own hash.
	Hash string

	// AppHash is the hash of the app's state before the block.
	AppHash string

	// Time is the time in the block's header.
	Time time.Time
}

// Status is what a node says about itself.
type Status struct {
	// Height is the height of the last block that is stored. At the halt it is the plan's height,
	// although that block isn't applied.
	Height int64

	// AppHash is the hash of the app's state after the last block that is applied.
	AppHash string

	// CatchingUp tells whether the node still fetches old blocks.
	CatchingUp bool
}

// genesis is the path of the node's genesis file.
func (n *Node) genesis() string { return filepath.Join(n.Home, "config", "genesis.json") }

// rpcTCP is the node's RPC address as the chain's configuration writes it.
func (n *Node) rpcTCP() string { return "tcp" + strings.TrimPrefix(n.RPC, "http") }

// UpgradeInfo is the path of the file that the chain writes when it halts for an upgrade.
func (n *Node) UpgradeInfo() string { return filepath.Join(n.Home, "data", "upgrade-info.json") }

// StartArgs are the arguments with which a chain's binary starts the node.
func (n *Node) StartArgs() []string { return []string{"start", "--home", n.Home} }

// Command returns a command of the chain's binary that works on the node's home. The end of ctx kills it; why ctx
// has ended is for the caller to say.
func (n *Node) Command(ctx context.Context, binary string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, binary, append(args[:len(args):len(args)], "--home", n.Home)...)
}

// Stage puts a binary where a supervisor looks for it: cosmovisor/genesis/bin/chaind in the home if
// the name is genesis, otherwise the same for the upgrade of that name. It returns the path. The
// file may be a hard link: replace it, but never write into it.
func (n *Node) Stage(name, binary string) (string, error) {
	dir := filepath.Join(n.Home, "cosmovisor", "upgrades", name, "bin")
	if name == "genesis" {
		dir = filepath.Join(n.Home, "cosmovisor", "genesis", "bin")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "chaind")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if os.Link(binary, path) == nil {
		return path, nil
	}
	// On another filesystem there is no link.
	in, err := os.Open(binary)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(out, in)
	return path, errors.Join(err, out.Close())
}

// Status asks the node about itself.
func (n *Node) Status(ctx context.Context) (Status, error) {
	var answer struct {
		SyncInfo struct {
			Height     int64  `json:"latest_block_height,string"`
			AppHash    string `json:"latest_app_hash"`
			CatchingUp bool   `json:"catching_up"`
		} `json:"sync_info"`
	}
	err := n.get(ctx, "status", nil, &answer)
	return Status{answer.SyncInfo.Height, answer.SyncInfo.AppHash, answer.SyncInfo.CatchingUp}, err
}

// Height is the height of the last block that the node has stored.
func (n *Node) Height(ctx context.Context) (int64, error) {
	status, err := n.Status(ctx)
	return status.Height, err
}

// AppHeight is the height of the last block that the app has committed: one below Height at the halt.
func (n *Node) AppHeight(ctx context.Context) (int64, error) {
	var answer struct {
		Response struct {
			Height int64 `json:"last_block_height,string"`
		} `json:"response"`
	}
	err := n.get(ctx, "abci_info", nil, &answer)
	return answer.Response.Height, err
}

// WaitHeight waits until the app has committed a block of at least this height. A node that doesn't
// answer yet is waited for.
func (n *Node) WaitHeight(ctx context.Context, height int64) error {
	var last int64
	err := poll(ctx, func() (bool, error) {
		h, err := n.AppHeight(ctx)
		if err == nil {
			last = h
		}
		return err == nil && h >= height, nil
	})
	if err != nil {
		return fmt.Errorf("wait for height %d of %s, last seen %d: %w", height, n.Moniker, last, err)
	}
	return nil
}

// Block returns the block at a height.
func (n *Node) Block(ctx context.Context, height int64) (Block, error) {
	var answer struct {
		ID struct {
			Hash string `json:"hash"`
		} `json:"block_id"`
		Block struct {
			Header struct {
				Height  int64     `json:"height,string"`
				ChainID string    `json:"chain_id"`
				AppHash string    `json:"app_hash"`
				Time    time.Time `json:"time"`
			} `json:"header"`
		} `json:"block"`
	}
	err := n.get(ctx, "block", url.Values{"height": {strconv.FormatInt(height, 10)}}, &answer)
	header := answer.Block.Header
	return Block{header.Height, header.ChainID, answer.ID.Hash, header.AppHash, header.Time}, err
}

// Commit is what a block says of the validators.
type Commit struct {
	// Height and Hash are those of the block that was signed, the one before.
	Height int64
	Hash   string

	// Signed are the addresses of the validators that signed it, in upper-case hex.
	Signed []string

	// Evidence is how many misdeeds of validators are told in the block, such as a height that was signed twice.
	Evidence int
}

// Commit returns what the block at a height says of the validators.
func (n *Node) Commit(ctx context.Context, height int64) (Commit, error) {
	var answer struct {
		Block struct {
			Evidence struct {
				Evidence []json.RawMessage `json:"evidence"`
			} `json:"evidence"`
			LastCommit struct {
				Height int64 `json:"height,string"`
				ID     struct {
					Hash string `json:"hash"`
				} `json:"block_id"`
				Signatures []struct {
					Flag    int    `json:"block_id_flag"`
					Address string `json:"validator_address"`
				} `json:"signatures"`
			} `json:"last_commit"`
		} `json:"block"`
	}
	err := n.get(ctx, "block", url.Values{"height": {strconv.FormatInt(height, 10)}}, &answer)
	last := answer.Block.LastCommit
	commit := Commit{Height: last.Height, Hash: last.ID.Hash, Evidence: len(answer.Block.Evidence.Evidence)}
	for _, s := range last.Signatures {
		if s.Flag == 2 { // for this block; 1 is absent, and 3 is for none
			commit.Signed = append(commit.Signed, s.Address)
		}
	}
	return commit, err
}

// SignState is how far a validator has signed, as its priv_validator_state.json says.
type SignState struct {
	Height int64 `json:"height,string"`
	Round  int32 `json:"round"`
	Step   int8  `json:"step"`
}

// Compare returns -1, 0 or 1 as s is below, equal to or above other.
func (s SignState) Compare(other SignState) int {
	return cmp.Or(cmp.Compare(s.Height, other.Height), cmp.Compare(s.Round, other.Round), cmp.Compare(s.Step, other.Step))
}

// SignState reads the node's sign state. Without one the error is fs.ErrNotExist.
func (n *Node) SignState() (state SignState, err error) {
	data, err := os.ReadFile(filepath.Join(n.Home, "data", "priv_validator_state.json"))
	if err != nil {
		return state, err
	}
	return state, json.Unmarshal(data, &state)
}

// ConsensusAddress is the address of the validator's key, in upper-case hex.
func (n *Node) ConsensusAddress() (string, error) {
	var key struct {
		Address string `json:"address"`
	}
	data, err := os.ReadFile(filepath.Join(n.Home, "config", "priv_validator_key.json"))
	if err != nil {
		return "", err
	}
	return key.Address, json.Unmarshal(data, &key)
}

// Store returns a value from one of the app's stores as it was after the last committed block, or
// nil if there is none.
func (n *Node) Store(ctx context.Context, store string, key []byte) ([]byte, error) {
	return n.query(ctx, "/store/"+store+"/key", key)
}

// query asks the app.
func (n *Node) query(ctx context.Context, path string, data []byte) ([]byte, error) {
	var answer struct {
		Response struct {
			Code  int    `json:"code"`
			Log   string `json:"log"`
			Value string `json:"value"`
		} `json:"response"`
	}
	values := url.Values{"path": {strconv.Quote(path)}, "data": {fmt.Sprintf("0x%x", data)}}
	if err := n.get(ctx, "abci_query", values, &answer); err != nil {
		return nil, err
	}
	if answer.Response.Code != 0 {
		return nil, fmt.Errorf("query %s of %s: code %d: %s", path, n.Moniker, answer.Response.Code, answer.Response.Log)
	}
	if answer.Response.Value == "" {
		return nil, nil
	}
	return base64.StdEncoding.DecodeString(answer.Response.Value)
}

// rpcError is an answer of the node that says why there is no result.
type rpcError struct {
	Message string `json:"message"`
	Data    string `json:"data"`
}

// Error returns the node's words.
func (e *rpcError) Error() string { return e.Message + ": " + e.Data }

// get calls a method of the node's RPC.
func (n *Node) get(ctx context.Context, method string, values url.Values, result any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, n.RPC+"/"+method+"?"+values.Encode(), nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer := struct {
		Result any       `json:"result"`
		Error  *rpcError `json:"error"`
	}{Result: result}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return fmt.Errorf("read answer of %s to %s: %w", n.Moniker, method, err)
	}
	if answer.Error != nil {
		return fmt.Errorf("ask %s for %s: %w", n.Moniker, method, answer.Error)
	}
	return nil
}

// poll asks until the answer is yes or an error.
func poll(ctx context.Context, ask func() (bool, error)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if ok, err := ask(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
