package localnet

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"solstice"
	"solstice/api"
	"solstice/internal/child"
	"solstice/internal/durable"
	"solstice/node"
)

// Node is a node's home, to be run under solstice.
type Node struct {
	Name    string   // such as validator0
	Home    string   // absolute
	Chain   string   // the name of the chain's binary: DAEMON_NAME
	RPC     string   // host:port of CometBFT's RPC; empty if it can't be reached from here
	Args    []string // of the chain's start command, besides the home
	Environ []string // beyond what is clean, such as DAEMON_RESTART_DELAY=1s
}

// Paths are those of the node's home.
func (n *Node) Paths() solstice.Home {
	return solstice.Home{Dir: n.Home, Node: n.Home, Name: n.Chain, StateDir: filepath.Join(n.Home, "cosmovisor", ".solstice")}
}

// Environment is what a solstice for this node runs with. HOME is the node's own: a binary
// that is tried out finds no other home there to write to.
func (n *Node) Environment() []string {
	environ := append(clean(os.Environ(), n.Chain), "DAEMON_HOME="+n.Home, "DAEMON_NAME="+n.Chain, "HOME="+n.Home)
	return append(environ, n.Environ...)
}

// Place puts a binary where solstice looks for it: in solstice.Genesis, or in the folder of a plan. It may become a hard link, so
// that a network of ten nodes has room: replace it, but never write into it.
func (n *Node) Place(plan, binary string) error {
	dir := solstice.Genesis
	if plan != solstice.Genesis {
		dir = n.Paths().UpgradeDir(plan)
	}
	to := n.Paths().Binary(dir)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	binary, err := filepath.EvalSymlinks(binary)
	if err != nil {
		return err
	}
	info, err := os.Stat(binary)
	if err != nil {
		return err
	}
	temp := durable.TempName(to)
	if info.Mode()&0o111 != 0o111 || os.Link(binary, temp) != nil {
		err = durable.CopyFile(binary, temp, 0o755)
	}
	if err == nil {
		err = os.Rename(temp, to)
	}
	return errors.Join(err, os.RemoveAll(temp))
}

// Solstice runs a command of this very program on the node's home.
func (n *Node) Solstice(ctx context.Context, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = n.Environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("solstice %s: %w", args[0], failure(ctx, err, out))
	}
	return nil
}

// Process is a solstice that runs with its node. It leads a process group, which the node is in too.
type Process struct {
	*child.Process
	Home string // of the node
}

// Start starts solstice run for the node; both write to the end of a log file. It ends when this process ends, in whatever way.
func (n *Node) Start(log string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(self, append([]string{"run", "start", "--home", n.Home}, n.Args...)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = n.Environment(), out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us, and we stop it in order
	p, err := child.Start(cmd, syscall.SIGTERM)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", n.Name, err)
	}
	return &Process{p, n.Home}, nil
}

// Stop asks solstice to end its node and itself, and kills both when that takes longer than the grace.
func (p *Process) Stop(grace time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.Done():
		return nil
	case <-time.After(grace):
		return p.KillAll()
	}
}

// KillAll kills solstice and its node, and waits until both are gone: the lock on the home, which the node inherits, is free then.
func (p *Process) KillAll() error {
	if p.Running() {
		_ = syscall.Kill(-p.PID, syscall.SIGKILL) // it may have ended just now
	}
	<-p.Done()
	for deadline := time.Now().Add(goneLimit); ; time.Sleep(time.Millisecond) {
		lock, err := durable.Lock(p.Home)
		if err == nil {
			return lock.Close()
		}
		if !errors.Is(err, durable.ErrLocked) || time.Now().After(deadline) {
			return fmt.Errorf("wait for the end of the node in %s: %w", p.Home, err)
		}
		// The number of a process that has ended, and its group's, is another's within minutes on a busy machine with 32768 of them, unless
		// something of the group is left.
		if p.LeftBehind() {
			_ = syscall.Kill(-p.PID, syscall.SIGKILL)
		}
	}
}

// goneLimit is how long killed processes may take to be gone: one that waits for its disk takes a while.
const goneLimit = 30 * time.Second

// Kill kills solstice, and waits for its end. The kernel then tells its node to end.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.Done()
	return nil
}

// Running says whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.Done():
		return false
	default:
		return true
	}
}

// Status asks the node's solstice. The error is api.ErrNotRunning if none runs.
func (n *Node) Status(ctx context.Context) (solstice.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return api.Status(ctx, n.Paths().Socket())
}

// answerLimit is how long a node may take to answer, and maxAnswer how large that may be, in bytes.
const (
	answerLimit = 5 * time.Second
	maxAnswer   = 4 << 20
)

// Client asks the node itself. A node without an address answers nothing.
func (n *Node) Client() *node.Client { return node.At(n.RPC) }

// Call asks one of the RPC's methods.
func (n *Node) Call(ctx context.Context, method string, parameters url.Values, result any) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	return n.Client().Call(ctx, method, parameters, maxAnswer, result)
}

// State is what the application has committed last.
type State struct {
	Height  int64
	AppHash string // of the state after the block of that height, in upper-case hex
}

// State asks how far the application is. While a new binary migrates nobody answers.
func (n *Node) State(ctx context.Context) (State, error) {
	var answer struct {
		Response struct {
			Height json.Number `json:"last_block_height"` // a string; left out at height 0
			Hash   string      `json:"last_block_app_hash"`
		} `json:"response"`
	}
	if err := n.Call(ctx, "/abci_info", nil, &answer); err != nil {
		return State{}, err
	}
	height, _ := strconv.ParseInt(strings.Trim(answer.Response.Height.String(), `"`), 10, 64)
	hash, err := base64.StdEncoding.DecodeString(answer.Response.Hash)
	return State{height, strings.ToUpper(hex.EncodeToString(hash))}, err
}

// Header is what a block's header says.
type Header struct {
	Height  int64     `json:"height,string"`
	Time    time.Time `json:"time"`
	AppHash string    `json:"app_hash"` // of the state before this block
	ChainID string    `json:"chain_id"`
}

// Headers returns the headers that a node has between two heights, both included, oldest first. Those that it has not yet are left out.
func (n *Node) Headers(ctx context.Context, from, to int64) ([]Header, error) {
	var headers []Header
	for from <= to {
		last := min(to, from+19) // CometBFT answers with 20 at most
		var answer struct {
			Metas []struct {
				Header Header `json:"header"`
			} `json:"block_metas"`
		}
		err := n.Call(ctx, "/blockchain", url.Values{
			"minHeight": {strconv.FormatInt(from, 10)}, "maxHeight": {strconv.FormatInt(last, 10)},
		}, &answer)
		if err != nil {
			return nil, err
		}
		if len(answer.Metas) == 0 {
			break
		}
		for _, meta := range slices.Backward(answer.Metas) {
			headers = append(headers, meta.Header)
		}
		from = last + 1
	}
	return headers, nil
}

// WaitHeight waits until the application has committed a block of at least this height.
func (n *Node) WaitHeight(ctx context.Context, height int64) error {
	var last int64
	err := Poll(ctx, func() (bool, error) {
		state, err := n.State(ctx)
		if err == nil {
			last = state.Height
		}
		return err == nil && state.Height >= height, nil
	})
	if err != nil {
		return fmt.Errorf("wait for height %d of %s, last seen %d: %w", height, n.Name, last, err)
	}
	return nil
}

// pollInterval is the pause between two questions: shorter than a block.
const pollInterval = 50 * time.Millisecond

// Poll asks until the answer is yes or an error. The end of ctx is an error that says why it ended.
func Poll(ctx context.Context, ask func() (bool, error)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		ok, err := ask()
		if ctx.Err() != nil {
			return context.Cause(ctx) // what else failed, failed of it
		}
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
