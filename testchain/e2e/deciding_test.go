package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"solstice/testchain/network"
)

// testDeciding: what is on disk decides on a node that has gone through v2 and v3 and is stopped. Its cosmovisor/ forgets all of
// it; its data is taken back to before v2; its link is one that Cosmovisor 1.5 made elsewhere. What the SDK's own databases say
// leads to the right binary each time, or to a refusal.
func testDeciding(t *testing.T, ctx context.Context, full *node, agree func(context.Context), v2, v3 network.Plan) {
	t.Helper()
	root := filepath.Join(full.Node.Home, "cosmovisor")
	link := filepath.Join(root, "current")
	pointAt := func(target string) {
		t.Helper()
		check(t, errors.Join(os.Remove(link), os.Symlink(target, link)))
	}

	snapshots, err := full.Snapshots(built.ctx)
	check(t, err)
	var before string
	for _, one := range snapshots {
		if one.Manifest.Plan.Name == v2.Name {
			before = one.Path
		}
	}
	data, aside := filepath.Join(full.Node.Home, "data"), filepath.Join(full.Node.Home, "data.aside")
	check(t, os.Rename(data, aside))
	check(t, os.CopyFS(data, os.DirFS(filepath.Join(before, "data"))))
	full.fails(3, "the link names upgrades/v3, for plan v3 at height", "run", "start", "--home", full.Node.Home)
	full.fails(3, "if the data was taken back on purpose: solstice switch v2", "run", "start", "--home", full.Node.Home) // halted at its height
	check(t, os.RemoveAll(data))
	check(t, os.Rename(aside, data))

	pointAt("/elsewhere/cosmovisor/upgrades/v3")
	fullCtx := full.start(ctx)
	agree(fullCtx)
	full.stop()
	if got := full.current(); got != "upgrades/v3" {
		t.Errorf("current of a moved home -> %s, want upgrades/v3", got)
	}

	check(t, os.RemoveAll(filepath.Join(root, ".solstice")))
	for _, plan := range []network.Plan{v2, v3} {
		check(t, os.Remove(filepath.Join(root, "upgrades", plan.Name, "upgrade-info.json")))
	}
	pointAt("genesis")
	fullCtx = full.start(ctx)
	agree(fullCtx)
	full.stop()
	if got := full.current(); got != "upgrades/v3" {
		t.Errorf("current of a home whose layer was lost -> %s, want upgrades/v3", got)
	}
}
