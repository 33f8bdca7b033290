package e2e

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"solstice/testchain/binaries"
	"solstice/testchain/network"
)

// built is what TestMain has made.
var built struct {
	ctx      context.Context // ends when the tests are interrupted
	solstice string
	chain    binaries.Set
}

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	flag.Parse()
	if testing.Short() {
		return m.Run()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	built.ctx = ctx
	dir, err := os.MkdirTemp("", "solstice-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	built.solstice = filepath.Join(dir, "solstice")
	if err := Build(ctx, built.solstice); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if built.chain, err = binaries.Build(ctx, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// TestUpgrades takes one validator through two upgrades that its chain decides on, in one run of solstice. The
// second binary is added while the chain runs. Then a full node that knows nothing but the genesis goes through both, in
// one run of solstice too, and has the same state. It takes the second one back with the chain's own rollback, which can do
// that as v3 adds no store, and carries it out again. Then what is on its disk decides.
func TestUpgrades(t *testing.T) {
	t.Parallel()
	ctx, nw := layOut(t, network.Config{FullNodes: 1, BlockTime: 500 * time.Millisecond, LedgerKeys: 2000}) // few blocks go by until some are undone
	validator, full := home(t, nw.Nodes[0]), home(t, nw.Nodes[1])

	validator.run("init", built.chain.V1)
	validator.run("add-upgrade", "v2", built.chain.V2)
	ctx = validator.start(ctx)
	ahead := validator.watchAhead(ctx)
	v2 := validator.upgradeByGovernance(ctx, nw, built.chain.V1, "v2")
	checkAhead(t, ahead(), v2)
	validator.checkEntry(ctx, "v2:")

	// The binary of v3 comes from where its proposal says, while it is voted on.
	var v3 network.Plan
	for passed, info := false, served(t, built.chain.V3); !passed; {
		var proposal uint64
		var err error
		proposal, v3, err = nw.ProposeUpgrade(ctx, built.chain.V2, "v3", info, 12)
		check(t, err)
		check(t, nw.Vote(ctx, built.chain.V2, proposal))
		validator.says("/cosmovisor/upgrades/v3/bin/", "prepare-upgrade", "--proposal", fmt.Sprint(proposal))
		passed, err = nw.Passes(ctx, proposal)
		check(t, err)
	}
	validator.says("There already, nothing was downloaded", "prepare-upgrade")
	validator.says(`the name "v3" is so short that it occurs in any binary`, "doctor", "--plan", "v3")
	validator.checkUpgraded(ctx, v3)
	validator.checkEntry(ctx, "v2:") // v3 rewrites the count alone

	full.run("init", built.chain.V1)
	full.run("add-upgrade", "v2", built.chain.V2)
	full.run("add-upgrade", "v3", built.chain.V3)
	fullCtx := full.start(ctx)
	full.checkUpgraded(fullCtx, v2, v3)
	checkAgree(t, fullCtx, []*node{validator, full})
	full.stop()

	full.says("undone with the chain's own rollback command", "rollback", "--chain", "--binary", built.chain.V3, "--yes")
	full.checkState("v3", "rolled back")
	if got, want := full.committed("goleveldb"), v3.Height-1; got != want {
		t.Errorf("height of the application = %d, want %d", got, want)
	}
	fullCtx = full.start(ctx)
	full.checkUpgraded(fullCtx, v3)
	agree := func(ctx context.Context) { checkAgree(t, ctx, []*node{validator, full}) }
	agree(fullCtx)
	full.stop()

	testDeciding(t, ctx, full, agree, v2, v3)
	validator.stop()
}

// TestValidatorDownOverUpgrade: a validator that was down over the height upgrades when it is started, by itself. There
// are four, because three would need all of them: nothing would happen without the one that is down. Then it goes back while
// the others go on, catches up, and has signed nothing twice.
func TestValidatorDownOverUpgrade(t *testing.T) {
	t.Parallel()
	ctx, nw := layOut(t, network.Config{Validators: 4})
	var nodes []*node
	for _, n := range nw.Nodes {
		h := home(t, n)
		h.run("init", built.chain.V1)
		h.run("add-upgrade", "v2", built.chain.V2)
		nodes = append(nodes, h)
	}
	late, others := nodes[3], nodes[:3]
	late.watchSigned()
	lateCtx := late.start(ctx)
	for _, n := range others {
		ctx = n.start(ctx)
	}
	check(t, late.Node.WaitHeight(lateCtx, 2))
	plan := schedule(t, ctx, nw, built.chain.V1, "v2")
	late.stop()
	if _, err := os.Stat(late.Node.UpgradeInfo()); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the validator was not stopped before the height: %v", err)
	}

	for _, n := range others {
		n.checkUpgraded(ctx, plan)
	}
	if got := late.current(); got != "genesis" {
		t.Fatalf("current of the validator that is down -> %s, want genesis", got)
	}
	lateCtx = late.start(ctx)
	late.checkUpgraded(lateCtx, plan)
	checkAgree(t, lateCtx, nodes)
	late.stop()

	late.says("undone with the snapshot", "rollback", "--binary", built.chain.V2, "--yes")
	late.checkBack("goleveldb", plan)
	lateCtx = late.start(ctx)
	late.checkUpgraded(lateCtx, plan)
	checkAgree(t, lateCtx, nodes)
	height := late.signs(lateCtx)
	checkSame(t, lateCtx, nodes, height)
	checkSignedOnce(t, lateCtx, nodes, late, height)
}

// TestUnplanned: what governance didn't plan. A patch release by height alone, with the same version as there is no
// plan in the state of the chain; then an upgrade whose binary is missing at its height; then one during which
// solstice is killed.
func TestUnplanned(t *testing.T) {
	ctx, nw := layOut(t, network.Config{BlockTime: 250 * time.Millisecond})
	h := home(t, nw.Nodes[0])
	h.run("init", built.chain.V1)
	running := h.start(ctx)
	check(t, h.Node.WaitHeight(running, 1))

	height, err := h.Node.AppHeight(running)
	check(t, err)
	fix := network.Plan{Name: "fix", Height: height + 8}
	h.run("add-upgrade", fix.Name, built.chain.V1, "--upgrade-height", fmt.Sprint(fix.Height))
	status, err := h.Status(running)
	check(t, err)
	if len(status.Pending) != 1 || status.Pending[0].Name != fix.Name || status.Pending[0].Height != fix.Height {
		t.Errorf("pending = %+v, want %s at %d", status.Pending, fix.Name, fix.Height)
	}
	check(t, h.Node.WaitHeight(running, fix.Height-3))
	current := h.current()
	if height, err := h.Node.AppHeight(running); err == nil && height < fix.Height-1 && current != "genesis" {
		t.Errorf("current -> %s at height %d, want genesis", current, height)
	}
	h.checkUpgraded(running, fix)
	if got := h.lastHeightBefore("upgrading plan=fix"); got < fix.Height-1 || got > fix.Height+2 {
		t.Errorf("last height of the old binary = %d, want about %d", got, fix.Height-1)
	}
	h.checkEntry(running, "v1:")

	plan := schedule(t, running, nw, built.chain.V1, "v2")
	status, err = h.WaitStatus(running, func(s Status) bool { return s.Waiting != "" })
	check(t, err)
	for _, want := range []string{"v2", "no such file"} {
		if !strings.Contains(status.Waiting, want) {
			t.Errorf("waiting = %q, want %q in it", status.Waiting, want)
		}
	}
	if got, err := h.Node.AppHeight(running); err != nil || got != plan.Height-1 {
		t.Errorf("height of the halted node = %d, %v, want %d and an answer", got, err, plan.Height-1)
	}
	h.run("add-upgrade", "v2", built.chain.V2)
	h.checkUpgraded(running, plan)
	h.checkEntry(running, "v2:")

	h.run("add-upgrade", "v3", built.chain.V3)
	plan = schedule(t, running, nw, built.chain.V2, "v3")
	check(t, Wait(running, func() (bool, error) {
		content, err := os.ReadFile(h.Node.UpgradeInfo())
		return strings.Contains(string(content), `"v3"`), err
	}))
	h.process.Kill()
	running = h.start(ctx)
	h.checkUpgraded(running, plan)
	h.checkOneNode(running)
	h.stop()
}

// schedule lets the chain decide on an upgrade, some blocks later than it has to be: the machine may be busy.
func schedule(t *testing.T, ctx context.Context, nw *network.Network, chain, name string) network.Plan {
	t.Helper()
	plan, err := nw.ScheduleUpgrade(ctx, chain, name, "", 6)
	check(t, err)
	return plan
}

// served serves a binary over HTTP until the test ends, and returns the info of a plan that names it.
func served(t *testing.T, binary string) (info string) {
	t.Helper()
	content, err := os.ReadFile(binary)
	check(t, err)
	server := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(binary))))
	t.Cleanup(server.Close)
	return fmt.Sprintf(`{"binaries":{"any":"%s/%s?checksum=sha256:%x"}}`, server.URL, filepath.Base(binary), sha256.Sum256(content))
}

// node is a home under solstice in a test.
type node struct {
	Home
	t       *testing.T
	process *Process
	endsBy  int // the exit code of a node that was told to stop
}

// layOut lays out a network, and gives the test its time.
func layOut(t *testing.T, config network.Config) (context.Context, *network.Network) {
	t.Helper()
	return layOutFor(t, 20*time.Minute, config) // most of it may be the wait for other tests
}

func layOutFor(t *testing.T, limit time.Duration, config network.Config) (context.Context, *network.Network) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a real chain")
	}
	ctx, cancel := context.WithTimeoutCause(built.ctx, limit, fmt.Errorf("the test is not done after %v", limit))
	t.Cleanup(cancel)
	config.Dir, config.Chain = t.TempDir(), built.chain.V1
	nw, err := network.New(ctx, config)
	check(t, err)
	return ctx, nw
}

// home puts a node under the solstice that was built. A failed test shows what they said last.
func home(t *testing.T, n *network.Node, environ ...string) *node {
	environ = append(environ, "TMPDIR="+t.TempDir())
	h := &node{Home: Home{Node: n, Solstice: built.solstice, Environ: environ}, t: t}
	t.Cleanup(func() {
		if t.Failed() && h.process != nil {
			t.Logf("solstice and its node said last, on %s:\n%s", n.Moniker, h.process.Tail(60))
		}
	})
	return h
}

// run runs a command of solstice that must succeed, and returns what it prints.
func (n *node) run(args ...string) string {
	n.t.Helper()
	out, err := n.Run(built.ctx, args...)
	check(n.t, err)
	return out
}

// start starts solstice and returns a context that ends with it. Whatever is left of it is killed at the end of the test.
func (n *node) start(ctx context.Context, more ...string) context.Context {
	n.t.Helper()
	process, err := n.Start(filepath.Join(filepath.Dir(n.Node.Home), n.Node.Moniker+".log"), more...)
	check(n.t, err)
	n.process = process
	ctx, cancel := process.While(ctx)
	n.t.Cleanup(func() {
		cancel()
		if err := process.KillAll(); err != nil {
			n.t.Error(err)
		}
	})
	return ctx
}

// stop asks solstice to end, which it does well.
func (n *node) stop() {
	n.t.Helper()
	if code, err := n.process.Stop(20 * time.Second); err != nil || code != n.endsBy {
		n.t.Errorf("exit status of solstice on %s after SIGTERM = %d, %v, want %d", n.Node.Moniker, code, err, n.endsBy)
	}
}

// current is where the link points to.
func (n *node) current() string {
	n.t.Helper()
	current, err := n.Current()
	check(n.t, err)
	return current
}

// upgradeByGovernance lets the chain decide on an upgrade and checks that solstice carries it out.
func (n *node) upgradeByGovernance(ctx context.Context, nw *network.Network, chain, name string) network.Plan {
	n.t.Helper()
	check(n.t, n.Node.WaitHeight(ctx, 2))
	plan := schedule(n.t, ctx, nw, chain, name)
	n.checkUpgraded(ctx, plan)
	return plan
}

// watchAhead asks solstice again and again what is ahead, and returns all that it said.
func (n *node) watchAhead(ctx context.Context) (said func() string) {
	ctx, stop := context.WithCancel(ctx)
	var out strings.Builder
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			text, _ := n.Run(ctx, "plan")
			out.WriteString(text)
			time.Sleep(100 * time.Millisecond)
		}
	}()
	return func() string {
		stop()
		<-done
		return out.String()
	}
}

// checkAhead: a plan was seen in its voting period, then scheduled with a time to come, and then it was behind.
func checkAhead(t *testing.T, said string, plan network.Plan) {
	t.Helper()
	name := regexp.QuoteMeta(fmt.Sprintf("%s at height %d", plan.Name, plan.Height))
	want := regexp.MustCompile(`(?s)` + name + `\n  stands +proposal \d+ "[^"]*" in voting, ends in \ds, .*` +
		name + `\n  stands +scheduled by the chain\n  blocks ahead +\d+\n  expected +in \d+s, at \S+, give or take \d+s\n  binary +upgrades/` + plan.Name + `\n.*` +
		`No upgrade is ahead\.\n`)
	if !want.MatchString(said) {
		t.Errorf("what was ahead, again and again: %s\nwant %s", said, want)
	}
}

// checkUpgraded waits until these upgrades are confirmed, checks what they have left behind, and that the chain goes on.
func (n *node) checkUpgraded(ctx context.Context, plans ...network.Plan) {
	n.t.Helper()
	last := plans[len(plans)-1]
	// It is confirmed by its block, and over with the first one after that.
	status, err := n.WaitStatus(ctx, func(s Status) bool {
		return s.Confirmed(last.Name) && s.Upgrade(last.Name).Standing.Total > 0 && s.Node != nil
	})
	check(n.t, err)
	for _, plan := range plans {
		n.checkUpgrade(status, plan)
	}
	if status.Waiting != "" || status.Doing != nil {
		n.t.Errorf("status after the upgrade = %+v, want nothing to do", status)
	}
	if got, want := n.current(), "upgrades/"+last.Name; got != want {
		n.t.Errorf("current -> %s, want %s", got, want)
	}
	check(n.t, n.Node.WaitHeight(ctx, last.Height+2))
}

// checkUpgrade checks one upgrade's record and snapshot.
func (n *node) checkUpgrade(status Status, plan network.Plan) {
	n.t.Helper()
	if !status.Confirmed(plan.Name) {
		n.t.Errorf("upgrades = %+v, want %s confirmed", status.Upgrades, plan.Name)
		return
	}
	u := status.Upgrade(plan.Name)
	n.t.Logf("%s: %s at %d stood still %.3f s, ours %.3f s, migration %.3f s; steps %v", n.Node.Moniker, u.Name, u.Height,
		u.Standing.Total, u.Standing.Ours, u.Standing.Migration, u.Steps)
	// With another plan for the next height there is no block after it under its binary.
	next := slices.ContainsFunc(status.Upgrades, func(other Upgrade) bool { return other.Height == plan.Height+1 })
	if s := u.Standing; u.Height != plan.Height || s.Ours <= 0 || s.Migration <= 0 || s.Total < s.Ours+s.Migration && !next {
		n.t.Errorf("upgrade = %+v, want height %d, and the two parts of the standing within its whole", u, plan.Height)
	}
	var steps []string
	for _, step := range u.Steps {
		if !slices.Contains(steps, step.Name) { // after a kill the node is stopped once more
			steps = append(steps, step.Name)
		}
	}
	if want := []string{"stop", "plan", "snapshot", "script", "pre-upgrade", "switch", "start"}; !slices.Equal(steps, want) {
		n.t.Errorf("steps = %v, want %v", steps, want)
	}
	n.checkSnapshots(status, plan)
}

// checkSnapshots checks that each upgrade to a plan has left a snapshot.
func (n *node) checkSnapshots(status Status, plan network.Plan) {
	n.t.Helper()
	var snapshots []Snapshot
	ctx, cancel := context.WithTimeoutCause(built.ctx, 10*time.Second, errors.New("a snapshot that is listed is not there"))
	defer cancel()
	check(n.t, Wait(ctx, func() (bool, error) {
		var err error
		snapshots, err = n.Snapshots(ctx)
		for _, one := range snapshots {
			// One that was copied to another disk is released at any time: then it is on the next list.
			if _, err := os.Stat(filepath.Join(one.Path, "data", "application.db")); err != nil {
				return false, nil
			}
		}
		return err == nil, err
	}))
	got, want := 0, 0
	for _, one := range snapshots {
		if one.Manifest.Plan.Name != plan.Name {
			continue
		}
		got++
		if one.Manifest.Height < plan.Height-1 {
			n.t.Errorf("height of snapshot %s = %d, want %d or more", one.ID, one.Manifest.Height, plan.Height-1)
		}
	}
	for _, u := range status.Upgrades {
		if u.Name == plan.Name {
			want++
		}
	}
	const kept = 3 // by default, of all upgrades
	if got != want && len(status.Upgrades) <= kept || got == 0 {
		n.t.Errorf("%d snapshots of %s, want %d: %+v", got, plan.Name, want, snapshots)
	}
}

// lastHeightBefore is the last height that the node committed before a line in the log.
func (n *node) lastHeightBefore(line string) int64 {
	n.t.Helper()
	before, _, found := strings.Cut(n.process.Tail(1e6), line)
	heights := regexp.MustCompile(`committed state .*\bheight=(\d+)`).FindAllStringSubmatch(before, -1)
	if !found || len(heights) == 0 {
		n.t.Fatalf("no line with %q and a height before it in the log", line)
	}
	height, err := strconv.ParseInt(heights[len(heights)-1][1], 10, 64)
	check(n.t, err)
	return height
}

// checkEntry checks the format of the ledger's first entry.
func (n *node) checkEntry(ctx context.Context, prefix string) {
	n.t.Helper()
	got, err := n.Node.Store(ctx, "ledger", make([]byte, 8))
	check(n.t, err)
	if !strings.HasPrefix(string(got), prefix) {
		n.t.Errorf("first entry = %q, want prefix %s", got, prefix)
	}
}

// checkOneNode checks that one process works on the home besides solstice, and that it is the one solstice knows.
func (n *node) checkOneNode(ctx context.Context) {
	n.t.Helper()
	status, err := n.Status(ctx)
	check(n.t, err)
	if status.Node == nil {
		n.t.Fatal("solstice knows no node")
	}
	want := []string{fmt.Sprint(status.Node.PID)}
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	check(n.t, err)
	var got []string
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		args := strings.Split(string(content), "\x00")
		if filepath.Base(args[0]) == "chaind" && slices.Contains(args, n.Node.Home) {
			got = append(got, filepath.Base(filepath.Dir(file)))
		}
	}
	if !slices.Equal(got, want) {
		n.t.Errorf("nodes on the home = %v, want %v", got, want)
	}
}

// checkAgree checks that all nodes have the same block, and by it the same state, at a height that is still to come.
func checkAgree(t *testing.T, ctx context.Context, nodes []*node) {
	t.Helper()
	height, err := nodes[0].Node.AppHeight(ctx)
	check(t, err)
	height += 3
	var want network.Block
	for i, n := range nodes {
		check(t, n.Node.WaitHeight(ctx, height))
		got, err := n.Node.Block(ctx, height)
		check(t, err)
		if i == 0 {
			want = got
		}
		if got != want || got.AppHash == "" {
			t.Errorf("block %d of %s = %+v, want %+v", height, n.Node.Moniker, got, want)
		}
	}
}

// check ends the test on an error.
func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
