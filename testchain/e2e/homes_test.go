package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"solstice/testchain/network"
)

// TestHandMadeHomes: homes that others made run the right binary, on both databases.
//
// The data is another node's, as in a public snapshot: it went through v2, and the plan file of
// v2 is still there. The layout is one that an operator made by hand. The node follows its
// chain, and nothing is switched or stopped. A hot-fix that was linked by hand is kept over
// everything that can happen, up to the next upgrade. Then a node fetches a state that went
// through an upgrade which its binary did not.
func TestHandMadeHomes(t *testing.T) {
	for _, backend := range []string{"goleveldb", "pebbledb"} {
		t.Run(backend, func(t *testing.T) {
			if backend != "goleveldb" && os.Getenv("SOLSTICE_LONG_TESTS") == "" {
				t.Skip("takes minutes; set SOLSTICE_LONG_TESTS")
			}
			t.Parallel()
			testHandMadeHomes(t, backend)
		})
	}
}

func testHandMadeHomes(t *testing.T, backend string) {
	ctx, nw := layOut(t, network.Config{
		FullNodes: 2, DBBackend: backend, BlockTime: 250 * time.Millisecond, LedgerKeys: 50,
	})
	var nodes []*node
	for _, n := range nw.Nodes {
		h := home(t, n)
		if backend == "pebbledb" {
			h.endsBy = 2 // as in testRollback
		}
		nodes = append(nodes, h)
	}
	validator, source, taken := nodes[0], nodes[1], nodes[2]
	for _, n := range []*node{validator, source} {
		n.run("init", built.chain.V1)
		n.run("add-upgrade", "v2", built.chain.V2)
	}
	ctx = validator.start(ctx)
	sourceCtx := source.start(ctx)
	v2 := validator.upgradeByGovernance(ctx, nw, built.chain.V1, "v2")
	source.checkUpgraded(sourceCtx, v2)
	check(t, source.Node.WaitHeight(sourceCtx, v2.Height+4))
	source.stop()

	for _, tt := range []struct{ what, link, want string }{
		{"the link was made by hand", "upgrades/v2", "upgrades/v2"},
		{"there is no link", "", "upgrades/v2"},
		{"the link names a hot-fix", "upgrades/v2-hotfix", "upgrades/v2-hotfix"},
	} {
		t.Logf("a snapshot of another node, and %s", tt.what)
		taken.takeOver(source, tt.link)
		running := taken.start(ctx)
		taken.checkFollows(running, validator, tt.want)
		taken.stop()
	}
	testHotFix(t, ctx, nw, validator, taken)
	validator.stop()
}

// testHotFix: a hot-fix that the operator has linked by hand, under a folder of its own, is what
// runs until the next upgrade, which is carried out from it.
func testHotFix(t *testing.T, ctx context.Context, nw *network.Network, validator, n *node) {
	t.Helper()
	const plan, fix = "upgrades/v2", "upgrades/v2-hotfix"

	t.Log("solstice is started again, and reloaded")
	running := n.start(ctx)
	n.checkFollows(running, validator, fix)
	before, err := n.Status(running)
	check(t, err)
	n.run("reload")
	n.checkFollows(running, validator, fix)
	after, err := n.Status(running)
	check(t, err)
	if before.Node == nil || after.Node == nil || before.Node.PID != after.Node.PID {
		t.Errorf("node before and after a reload = %+v, %+v, want one process", before.Node, after.Node)
	}

	t.Log("the link is moved while the node runs")
	n.pointAt(plan)
	n.checkFollowsBy(running, validator, fix, plan)
	if status, err := n.Status(running); err != nil || status.Node == nil || status.Node.PID != after.Node.PID {
		t.Errorf("node after the link was moved = %+v, %v, want process %d", status.Node, err, after.Node.PID)
	}
	n.stop()
	running = n.start(ctx)
	n.checkFollows(running, validator, plan)
	n.pointAt(fix)
	n.stop()

	t.Log("solstice is killed")
	running = n.start(ctx)
	n.checkFollows(running, validator, fix)
	n.process.Kill()
	running = n.start(ctx)
	n.checkFollows(running, validator, fix)

	t.Log("the next upgrade comes")
	for _, n := range []*node{validator, n} {
		n.run("add-upgrade", "v3", built.chain.V3)
	}
	v3 := schedule(t, running, nw, built.chain.V2, "v3")
	n.checkUpgraded(running, v3)
	validator.checkUpgraded(ctx, v3)
	checkAgree(t, running, []*node{validator, n})
	if log := n.process.Tail(1e6); !strings.Contains(log, "plan=v3 height="+fmt.Sprint(v3.Height)+" from="+fix+" to=upgrades/v3") {
		t.Errorf("the log does not say that v3 was carried out from %s", fix)
	}
	n.stop()
}

// stage places a binary by hand, as an operator does.
func (n *node) stage(binary, name string) {
	n.t.Helper()
	_, err := n.Node.Stage(name, binary)
	check(n.t, err)
}

// pointAt makes the current link by hand. Without a target there is none.
func (n *node) pointAt(target string) {
	n.t.Helper()
	link := filepath.Join(n.Node.Home, "cosmovisor", "current")
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		n.t.Fatal(err)
	}
	if target != "" {
		check(n.t, os.Symlink(target, link))
	}
}

// takeOver gives a home the data of another node, which is stopped, and a layout that was made
// by hand.
func (n *node) takeOver(from *node, link string) {
	n.t.Helper()
	data := filepath.Join(n.Node.Home, "data")
	check(n.t, errors.Join(os.RemoveAll(data), os.RemoveAll(filepath.Join(n.Node.Home, "cosmovisor"))))
	check(n.t, os.CopyFS(data, os.DirFS(filepath.Join(from.Node.Home, "data"))))
	if content := string(read(n.t, n.Node.UpgradeInfo())); !strings.Contains(content, `"v2"`) {
		n.t.Fatalf("plan file of the data that is taken over: %s", content)
	}
	n.stage(built.chain.V1, "genesis")
	n.stage(built.chain.V2, "v2")
	if link != "" && link != "upgrades/v2" {
		n.stage(built.chain.V2, filepath.Base(link))
	}
	n.pointAt(link)
}

// checkFollows checks that the node makes blocks as another one does, with the binary that the
// link names.
func (n *node) checkFollows(ctx context.Context, other *node, dir string) {
	n.t.Helper()
	n.checkFollowsBy(ctx, other, dir, dir)
}

// checkFollowsBy is checkFollows for a link that names another directory than that of the
// binary which runs.
func (n *node) checkFollowsBy(ctx context.Context, other *node, dir, link string) {
	n.t.Helper()
	checkAgree(n.t, ctx, []*node{other, n})
	status, err := n.Status(ctx)
	check(n.t, err)
	if status.Binary.Dir != dir || n.current() != link {
		n.t.Errorf("binary in %s, current -> %s; want %s, %s", status.Binary.Dir, n.current(), dir, link)
	}
	if status.Waiting != "" || status.Doing != nil || len(status.Pending) > 0 || len(status.Held) > 0 {
		n.t.Errorf("status = %+v, want nothing to do", status)
	}
	if status.Node != nil {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", status.Node.PID))
		if want := filepath.Join(n.Node.Home, "cosmovisor", dir, "bin", "chaind"); err == nil && exe != want {
			n.t.Errorf("the node runs %s, want %s", exe, want)
		}
	}
	n.checkQuiet()
}

// checkQuiet checks that no upgrade was carried out and no node stopped for one since solstice
// was started last.
func (n *node) checkQuiet() {
	n.t.Helper()
	lines := strings.Split(n.process.Tail(1e6), "\n")
	begin := 0
	for i, line := range lines {
		if strings.Contains(line, "node started") {
			begin = i
		}
	}
	for _, line := range lines[begin:] {
		if slices.ContainsFunc([]string{"msg=upgrading", "upgrading plan=", "stopping the node"}, func(s string) bool { return strings.Contains(line, s) }) {
			n.t.Errorf("the log says: %s", line)
		}
	}
}
