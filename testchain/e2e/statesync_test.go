package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"solstice/testchain/network"
)

// TestStateSync: a fresh node with an older binary fetches a state that went through an upgrade.
// The binary cannot go on with it, and solstice brings the node onto the one that can.
func TestStateSync(t *testing.T) {
	t.Parallel()
	ctx, nw := layOut(t, network.Config{FullNodes: 1, BlockTime: 250 * time.Millisecond, LedgerKeys: 50, SnapshotInterval: 10})
	validator, fetching := home(t, nw.Nodes[0]), home(t, nw.Nodes[1], "SOLSTICE_RESTART=on-failure")
	validator.run("init", built.chain.V1)
	validator.run("add-upgrade", "v2", built.chain.V2)
	validator.run("add-upgrade", "v3", built.chain.V3)
	ctx = validator.start(ctx)
	validator.upgradeByGovernance(ctx, nw, built.chain.V1, "v2")
	v3 := validator.upgradeByGovernance(ctx, nw, built.chain.V2, "v3")

	fetching.stage(built.chain.V1, "genesis")
	fetching.stage(built.chain.V2, "v2")
	fetching.stage(built.chain.V3, "v3")
	fetching.pointAt("upgrades/v2")
	fetching.syncState(ctx, validator, v3.Height+2)
	running := fetching.start(ctx)
	check(t, Wait(running, func() (bool, error) {
		status, err := fetching.Node.Status(running)
		return err == nil && status.Height > v3.Height && !status.CatchingUp, nil // its RPC may not be up
	}))
	fetching.checkFollows(running, validator, "upgrades/v3")
	// What the older binary does with the first block that it is given: its process ends.
	fetching.waitLog(running, "upgrade handler is missing for v3 upgrade plan")
	fetching.waitLog(running, fmt.Sprintf("the data has applied plan v3 at height %d, and the link named upgrades/v2", v3.Height))
	fetching.stop()
	validator.stop()
}

// syncState has a node fetch a state that another node, of this height or above, offers.
func (n *node) syncState(ctx context.Context, from *node, height int64) {
	n.t.Helper()
	check(n.t, from.Node.WaitHeight(ctx, height+11)) // so that there is one
	trusted, err := from.Node.Block(ctx, height)
	check(n.t, err)
	check(n.t, n.Node.Configure("config.toml", map[string]string{
		"statesync.enable":         "true",
		"statesync.rpc_servers":    fmt.Sprintf("%q", from.Node.RPC+","+from.Node.RPC),
		"statesync.trust_height":   fmt.Sprint(trusted.Height),
		"statesync.trust_hash":     fmt.Sprintf("%q", trusted.Hash),
		"statesync.discovery_time": `"5s"`,
	}))
}
