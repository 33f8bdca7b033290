package e2e

import (
	"strings"
	"testing"
	"time"

	"solstice/testchain/network"
)

// TestStandstill: of four validators one has another state than the others. The three make blocks, and its consensus fails, which
// neither ends its process nor says anything on stderr. Then two of the three stop, and the last one stands still with the network,
// until they are back.
func TestStandstill(t *testing.T) {
	t.Parallel()
	ctx, nw := layOut(t, network.Config{Validators: 4, BlockTime: 250 * time.Millisecond})
	changeState(t, nw.Nodes[3].Home)
	nodes := make([]*node, 4)
	for i := range nodes {
		nodes[i] = home(t, nw.Nodes[i])
		nodes[i].run("init", built.chain.V1)
	}
	for _, i := range []int{3, 0, 1} {
		nodes[i].start(ctx)
	}
	// All have to be done with looking for blocks that were made before: one that fetches the second block only refuses it.
	for _, i := range []int{3, 0, 1} {
		check(t, Wait(ctx, func() (bool, error) {
			status, err := nw.Nodes[i].Status(ctx)
			return err == nil && !status.CatchingUp, nil // its RPC may not be up yet
		}))
	}
	nodes[2].start(ctx)
	check(t, nw.Nodes[0].WaitHeight(ctx, 5))
	nodes[1].stop()
	nodes[2].stop()

	stands := func(i int, kind string) Status {
		t.Helper()
		status, err := nodes[i].WaitStatus(ctx, func(s Status) bool { return s.Standstill != nil })
		check(t, err)
		if status.Standstill.Kind != kind {
			t.Fatalf("standstill of %s: %+v, want %s", nw.Nodes[i].Moniker, status.Standstill, kind)
		}
		return status
	}
	if still := stands(3, "the node").Standstill; still.Height != 1 || still.Beyond < 1 {
		t.Errorf("standstill of the node with another state: %+v", still)
	}
	if still := stands(0, "the network").Standstill; still.Height < 4 || still.Voted < 0.25 || still.Voted > 0.5 {
		t.Errorf("standstill of the network: %+v", still)
	}
	for i, want := range map[int]string{0: "the network stands still; in round ", 3: "mostly because its state or its binary is another than theirs (AppHash)"} {
		if status := nodes[i].run("status"); !strings.Contains(status, want) || !strings.Contains(status, "to do: ") {
			t.Errorf("status without %q:\n%s", want, status)
		}
	}
	if out, err := nodes[3].Run(ctx, "status", "--check=ready"); err == nil || !strings.Contains(err.Error(), "not ready: the node stands still: ") {
		t.Errorf("ready: %s %v", out, err)
	}
	nodes[0].run("status", "--check=ready")

	nodes[1].start(ctx)
	nodes[2].start(ctx)
	_, err := nodes[0].WaitStatus(ctx, func(s Status) bool { return s.Standstill == nil && s.Height != nil && s.Height.Committed > 10 })
	check(t, err)
	for i := range nodes {
		nodes[i].stop()
	}
}
