package network

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"solstice/testchain/binaries"
)

// TestUpgrades takes a chain of one validator from v1 to v2 and v3, by hand.
func TestUpgrades(t *testing.T) {
	ctx, chain, nw := layOut(t, Config{BlockTime: 250 * time.Millisecond, LedgerKeys: 500})
	n := nw.Nodes[0]

	node := start(t, ctx, n, chain.V1, nil)
	check(t, n.WaitHeight(ctx, 2))
	checkEntry(t, ctx, n, "v1:")

	plan := schedule(t, ctx, nw, chain.V1, "v2")
	checkHalt(t, ctx, n, plan)
	node.stop()
	if _, err := os.Stat(n.UpgradeInfo()); err != nil {
		t.Errorf("after the halt: %v", err)
	}

	// v1 again: it replays the block and ends. v2 without the plan's file: its new store is missing.
	if got, want := start(t, ctx, n, chain.V1, nil).wait(), 1; got != want {
		t.Errorf("exit status of v1 started at the halt = %d, want %d", got, want)
	}
	hidden := n.UpgradeInfo() + ".hidden"
	check(t, os.Rename(n.UpgradeInfo(), hidden))
	if got, want := start(t, ctx, n, chain.V2, nil).wait(), 2; got != want {
		t.Errorf("exit status of v2 without upgrade-info.json = %d, want %d", got, want)
	}
	check(t, os.Rename(hidden, n.UpgradeInfo()))

	node = start(t, ctx, n, chain.V2, nil)
	check(t, n.WaitHeight(ctx, plan.Height+1))
	checkEntry(t, ctx, n, "v2:")
	if got, err := n.Store(ctx, "totals", []byte("entries")); err != nil || string(got) != "500" {
		t.Errorf("number of entries in v2 = %q, %v, want 500", got, err)
	}

	plan = schedule(t, ctx, nw, chain.V2, "v3")
	checkHalt(t, ctx, n, plan)
	node.stop()
	start(t, ctx, n, chain.V3, nil)
	check(t, n.WaitHeight(ctx, plan.Height+2))
	if got, err := n.Store(ctx, "totals", []byte("entries")); err != nil || !bytes.Equal(got, []byte{0, 0, 0, 0, 0, 0, 1, 244}) {
		t.Errorf("number of entries in v3 = %x, %v, want 500 in eight bytes", got, err)
	}
	if plan, err := nw.CurrentPlan(ctx); err != nil || plan != nil {
		t.Errorf("plan after the last upgrade = %v, %v, want none", plan, err)
	}
}

// TestBrokenMigration: v2 panics in its migration, and works when it is started again without. Then
// the migration takes as long as the environment says.
func TestBrokenMigration(t *testing.T) {
	ctx, chain, nw := layOut(t, Config{BlockTime: 250 * time.Millisecond})
	n := nw.Nodes[0]
	node := start(t, ctx, n, chain.V1, nil)
	check(t, n.WaitHeight(ctx, 1))
	plan := schedule(t, ctx, nw, chain.V1, "v2")
	checkHalt(t, ctx, n, plan)
	node.stop()

	node = start(t, ctx, n, chain.V2, []string{"CHAIND_MIGRATION_PANIC=50"})
	t.Logf("exit status of the broken v2 = %d", node.wait())
	if want := "migration broken after 50 entries"; !strings.Contains(node.output.String(), want) {
		t.Errorf("the broken v2 doesn't say %q", want)
	}
	started := time.Now()
	start(t, ctx, n, chain.V2, []string{"CHAIND_MIGRATION_SLEEP=1s"})
	check(t, n.WaitHeight(ctx, plan.Height+1))
	if took := time.Since(started); took < time.Second {
		t.Errorf("the migration took less than %v, want at least 1s", took)
	}
	checkEntry(t, ctx, n, "v2:")
}

// TestNodesAgree: four validators and a full node on pebbledb have the same blocks.
func TestNodesAgree(t *testing.T) {
	ctx, chain, nw := layOut(t, Config{Validators: 4, FullNodes: 1, DBBackend: "pebbledb"})
	for _, n := range nw.Nodes {
		start(t, ctx, n, chain.V1, nil)
	}
	var want Block
	for i, n := range nw.Nodes {
		check(t, n.WaitHeight(ctx, 4))
		got, err := n.Block(ctx, 4)
		check(t, err)
		if i == 0 {
			want = got
		}
		if got != want || got.AppHash == "" {
			t.Errorf("block 4 of %s = %+v, want %+v", n.Moniker, got, want)
		}
	}
}

// TestInPlaceTestnet: one node of a network of two becomes a network of its own, with v2, and upgrades
// on its first block.
func TestInPlaceTestnet(t *testing.T) {
	ctx, chain, nw := layOut(t, Config{Validators: 2, BlockTime: 250 * time.Millisecond})
	var nodes []*process
	for _, n := range nw.Nodes {
		nodes = append(nodes, start(t, ctx, n, chain.V1, nil))
	}
	n := nw.Nodes[1]
	check(t, n.WaitHeight(ctx, 3))
	for _, p := range nodes {
		p.stop()
	}
	// The old key has signed blocks at these heights: the new network needs another.
	check(t, os.Remove(filepath.Join(n.Home, "config", "priv_validator_key.json")))
	check(t, os.Remove(filepath.Join(n.Home, "data", "priv_validator_state.json")))

	start(t, ctx, n, chain.V2, nil, "in-place-testnet", "rehearsal", n.Address, "--trigger-testnet-upgrade", "v2", "--skip-confirmation")
	check(t, n.WaitHeight(ctx, 6))
	checkEntry(t, ctx, n, "v2:")
	status, err := n.Status(ctx)
	check(t, err)
	if block, err := n.Block(ctx, status.Height); err != nil || block.ChainID != "rehearsal" {
		t.Errorf("last block = %+v, %v, want one of rehearsal", block, err)
	}
}

// TestStage: a binary lies where a supervisor looks for it, and is replaced by the next.
func TestStage(t *testing.T) {
	n := &Node{Home: t.TempDir()}
	for _, tt := range []struct{ name, content, want string }{
		{"genesis", "one", "cosmovisor/genesis/bin/chaind"},
		{"v2", "two", "cosmovisor/upgrades/v2/bin/chaind"},
		{"v2", "three", "cosmovisor/upgrades/v2/bin/chaind"},
	} {
		binary := filepath.Join(t.TempDir(), "binary")
		check(t, os.WriteFile(binary, []byte(tt.content), 0o755))
		path, err := n.Stage(tt.name, binary)
		check(t, err)
		if want := filepath.Join(n.Home, tt.want); path != want {
			t.Errorf("Stage(%q) = %s, want %s", tt.name, path, want)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != tt.content {
			t.Errorf("staged %s = %q, %v, want %q", tt.name, got, err, tt.content)
		}
	}
}

// limit is the time of a test: a minute on a quiet machine.
const limit = 10 * time.Minute

// layOut builds the chain and lays out a network.
func layOut(t *testing.T, config Config) (context.Context, binaries.Set, *Network) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a real chain")
	}
	t.Parallel()
	chain, err := binaries.Build(t.Context(), os.Stderr)
	check(t, err)
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, fmt.Errorf("the test is not done after %v", limit))
	t.Cleanup(cancel)
	config.Dir, config.Chain = t.TempDir(), chain.V1
	started := time.Now()
	nw, err := New(ctx, config)
	check(t, err)
	t.Logf("laid out in %v", time.Since(started).Round(time.Millisecond))
	return ctx, chain, nw
}

// schedule decides on an upgrade.
func schedule(t *testing.T, ctx context.Context, nw *Network, binary, name string) Plan {
	t.Helper()
	plan, err := nw.ScheduleUpgrade(ctx, binary, name, "about "+name, 0)
	check(t, err)
	if plan.Name != name || plan.Info != "about "+name {
		t.Fatalf("plan = %+v, want %s", plan, name)
	}
	height, err := nw.Nodes[0].Height(ctx)
	check(t, err)
	t.Logf("%s is %d blocks away", name, plan.Height-height)
	return plan
}

// checkHalt waits for the halt: the plan's file is there, its block is stored but not applied.
func checkHalt(t *testing.T, ctx context.Context, n *Node, plan Plan) {
	t.Helper()
	check(t, poll(ctx, func() (bool, error) {
		height, err := n.Height(ctx)
		data, _ := os.ReadFile(n.UpgradeInfo())
		return err == nil && height == plan.Height && bytes.Contains(data, []byte(`"name":"`+plan.Name+`"`)), nil
	}))
	if got, err := n.AppHeight(ctx); err != nil || got != plan.Height-1 {
		t.Errorf("height of the app at the halt = %d, %v, want %d", got, err, plan.Height-1)
	}
}

// checkEntry checks the format of the ledger's first entry.
func checkEntry(t *testing.T, ctx context.Context, n *Node, prefix string) {
	t.Helper()
	got, err := n.Store(ctx, "ledger", make([]byte, 8))
	check(t, err)
	if !strings.HasPrefix(string(got), prefix) {
		t.Errorf("first entry = %q, want prefix %s", got, prefix)
	}
}

// check ends the test on an error.
func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// process is a node that runs.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	exited chan struct{}
	output *output
}

// output keeps what a process prints, for readers at any time.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start starts a node, with other arguments than start if there are any. Whatever is left of it is killed at the end of the test, and a failed test
// shows its last lines.
func start(t *testing.T, ctx context.Context, n *Node, binary string, environment []string, args ...string) *process {
	t.Helper()
	if len(args) == 0 {
		args = []string{"start"}
	}
	p := &process{t: t, cmd: n.Command(ctx, binary, args...), exited: make(chan struct{}), output: &output{}}
	p.cmd.Env = append(os.Environ(), environment...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	check(t, p.cmd.Start())
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // the exit status is read from ProcessState
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
		if t.Failed() {
			text := p.output.String()
			t.Logf("%s said last:\n%s", n.Moniker, text[max(0, len(text)-4000):])
		}
	})
	return p
}

// wait waits for the end and returns the exit status.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(30 * time.Second):
		p.t.Fatal("the process doesn't end")
		return 0
	}
}

// stop asks the process to end, which it does well.
func (p *process) stop() {
	p.t.Helper()
	check(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	asked := time.Now()
	if got := p.wait(); got != 0 {
		p.t.Errorf("exit status after SIGTERM = %d, want 0", got)
	}
	p.t.Logf("ended %v after SIGTERM", time.Since(asked).Round(time.Millisecond))
}
