package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"solstice/testchain/network"
)

// TestReloads: a hundred versions of solstice take over from one another under load, before an upgrade, while it is carried out and
// after it, beside one of three validators, all of which the chain needs. The node is started once for each of its binaries, it
// signs each block, and the next upgrade goes well.
func TestReloads(t *testing.T) {
	t.Parallel()
	ctx, nw := layOut(t, network.Config{Validators: 3})
	var nodes []*node
	for _, n := range nw.Nodes {
		h := home(t, n)
		h.run("init", built.chain.V1)
		h.run("add-upgrade", "v2", built.chain.V2)
		h.run("add-upgrade", "v3", built.chain.V3)
		nodes = append(nodes, h)
	}
	reloaded := nodes[0]
	reloaded.Solstice = filepath.Join(t.TempDir(), "solstice")
	reloaded.put(built.solstice)
	for _, n := range nodes {
		ctx = n.start(ctx)
	}
	check(t, reloaded.Node.WaitHeight(ctx, 2))
	burn(ctx)

	status, err := reloaded.Status(ctx)
	check(t, err)
	process := status.Node.PID
	taken := 0
	for taken < 40 {
		taken += reloaded.reload(ctx)
	}
	if status, err = reloaded.Status(ctx); err != nil || status.Node == nil || status.Node.PID != process {
		t.Errorf("node after %d reloads = %+v, %v, want process %d", taken, status.Node, err, process)
	}
	v2 := schedule(t, ctx, nw, built.chain.V1, "v2")
	for taken < 80 || !status.Confirmed("v2") {
		taken += reloaded.reload(ctx)
		status, err = reloaded.Status(ctx)
		check(t, err)
	}
	for _, n := range nodes {
		n.checkUpgraded(ctx, v2)
	}
	for taken < 100 {
		taken += reloaded.reload(ctx)
	}
	v3 := schedule(t, ctx, nw, built.chain.V2, "v3")
	for _, n := range nodes {
		n.checkUpgraded(ctx, v2, v3)
	}
	checkAgree(t, ctx, nodes)
	t.Logf("%d reloads", taken)

	height, err := reloaded.Node.Height(ctx)
	check(t, err)
	address, err := reloaded.Node.ConsensusAddress()
	check(t, err)
	for h := int64(2); h <= height; h++ {
		commit, err := nodes[1].Node.Commit(ctx, h)
		check(t, err)
		if !slices.Contains(commit.Signed, address) {
			t.Errorf("block %d was not signed by the validator beside which solstice was reloaded", commit.Height)
		}
	}
	said, err := os.ReadFile(filepath.Join(filepath.Dir(reloaded.Node.Home), reloaded.Node.Moniker+".log"))
	check(t, err)
	if starts := strings.Count(string(said), "node started"); starts != 3 {
		t.Errorf("the node was started %d times, want 3", starts)
	}
	for _, n := range nodes {
		n.stop()
	}
}

// put puts a version where solstice was started from, as a package manager does.
func (n *node) put(version string) {
	n.t.Helper()
	content, err := os.ReadFile(version)
	check(n.t, err)
	check(n.t, os.WriteFile(n.Solstice+".new", content, 0o755))
	check(n.t, os.Rename(n.Solstice+".new", n.Solstice))
}

// reload puts a new version there and has it take over. It returns how often it has: not while an upgrade is under way.
func (n *node) reload(ctx context.Context) int {
	n.t.Helper()
	n.put(built.solstice)
	_, err := n.Run(ctx, "reload")
	if err != nil && !strings.Contains(err.Error(), "this is no time for it") {
		n.t.Fatal(err)
	}
	if err != nil {
		return 0
	}
	return 1
}

// burn keeps the processors busy until ctx ends.
func burn(ctx context.Context) {
	for range 2 {
		cmd := exec.CommandContext(ctx, "sh", "-c", "while :; do :; done")
		if start(cmd) == nil {
			go cmd.Wait()
		}
	}
}
