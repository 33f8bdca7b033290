package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"solstice/testchain/network"
)

// TestMisleading: what would lead to a switch at the wrong time, or to the wrong binary, one after the
// other on one validator. Another chain's node answers on its port. Its chain gives up a plan
// whose file is there. A plan's folder holds the old release, and then a binary that cannot be
// loaded.
func TestMisleading(t *testing.T) {
	if os.Getenv("SOLSTICE_LONG_TESTS") == "" {
		t.Skip("takes minutes, and votes within seconds; set SOLSTICE_LONG_TESTS")
	}
	t.Parallel()
	ctx, nw := layOut(t, network.Config{BlockTime: 250 * time.Millisecond, LedgerKeys: 50})
	h := home(t, nw.Nodes[0])
	h.run("init", built.chain.V1)
	testForeignRPC(t, ctx, h)
	h.stop()
	running := testCancelled(t, ctx, nw, h)
	running = testOldRelease(t, ctx, running, nw, h)
	testNotLoaded(t, running, nw, h)
	h.stop()
}

// testForeignRPC: while the node is slow to start, a node of another chain answers on its port,
// far beyond the height of a manual plan. The plan is carried out when the node itself is there.
func testForeignRPC(t *testing.T, ctx context.Context, h *node) {
	t.Helper()
	const far = 1_000_000
	nw, err := network.New(ctx, network.Config{
		Dir: t.TempDir(), Chain: built.chain.V1, ChainID: "otherchain", InitialHeight: far, BlockTime: 250 * time.Millisecond,
	})
	check(t, err)
	other := *nw.Nodes[0]
	other.RPC = h.Node.RPC
	cmd := other.Command(ctx, built.chain.V1, "start", "--rpc.laddr", "tcp"+strings.TrimPrefix(other.RPC, "http"))
	check(t, start(cmd))
	check(t, other.WaitHeight(ctx, far+1))

	goOn := filepath.Join(t.TempDir(), "go-on")
	slow := fmt.Sprintf("#!/bin/sh\ncase \"$*\" in *help*) ;; start*) until [ -e '%s' ]; do sleep 0.1; done ;; esac\nexec '%s' \"$@\"\n", goOn, built.chain.V1)
	binary := filepath.Join(h.Node.Home, "cosmovisor", "genesis", "bin", "chaind")
	check(t, errors.Join(os.Remove(binary), os.WriteFile(binary, []byte(slow), 0o755)))
	fix := network.Plan{Name: "fix", Height: 20}
	h.run("add-upgrade", fix.Name, built.chain.V1, "--upgrade-height", fmt.Sprint(fix.Height))
	running := h.start(ctx)
	h.waitLog(running, "another node answers in place of this one")
	h.waitLog(running, "chain otherchain")
	time.Sleep(3 * time.Second) // the other one goes on answering, and nothing follows
	status, err := h.Status(running)
	check(t, err)
	if status.Height != nil && status.Height.Committed > fix.Height || len(status.Upgrades) > 0 || h.current() != "genesis" {
		t.Errorf("beside another node: %+v, current -> %s; want no height of its own and no upgrade", status, h.current())
	}
	record, err := os.ReadFile(filepath.Join(h.Node.Home, "cosmovisor", ".solstice", "height.json"))
	if bytes.Contains(record, []byte(fmt.Sprint(far)[:4])) {
		t.Errorf("recorded height = %s, %v, want none of the other chain's", record, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	check(t, os.WriteFile(goOn, nil, 0o644))
	h.checkUpgraded(running, fix)
	if got := h.lastHeightBefore("upgrading plan=fix"); got < fix.Height-1 || got > fix.Height+2 {
		t.Errorf("last height of the old binary = %d, want about %d", got, fix.Height-1)
	}
}

// testCancelled: governance schedules a plan, its file is written early by other hands, and
// governance cancels it. The node passes the height as if nothing were there.
func testCancelled(t *testing.T, ctx context.Context, nw *network.Network, h *node) context.Context {
	t.Helper()
	running := h.start(ctx)
	dir := h.current()
	check(t, h.Node.WaitHeight(running, 2))
	plan, err := nw.ScheduleUpgrade(running, built.chain.V1, "v2", "", 100)
	check(t, err)
	h.run("reload") // after which the chain is asked at once, and not in half a minute
	h.waitLog(running, "upgrade scheduled plan=v2")
	check(t, os.WriteFile(h.Node.UpgradeInfo(), fmt.Appendf(nil, `{"name":"v2","time":"0001-01-01T00:00:00Z","height":%d}`, plan.Height), 0o600))
	before, err := h.WaitStatus(running, func(s Status) bool { return len(s.Pending) == 1 && s.Pending[0].Name == "v2" })
	check(t, err)
	check(t, nw.CancelUpgrade(running, built.chain.V1))
	h.run("reload")
	status, err := h.WaitStatus(running, func(s Status) bool { return len(s.Held) > 0 })
	check(t, err)
	if held := status.Held[0]; held.Name != "v2" || held.Height != plan.Height || !strings.Contains(held.Reason, "no longer has") {
		t.Errorf("held = %+v, want v2 at %d, which the chain no longer has", held, plan.Height)
	}
	h.waitLog(running, "plan held")
	h.says("no longer has", "status")
	check(t, h.Node.WaitHeight(running, plan.Height+2))
	status, err = h.WaitStatus(running, func(s Status) bool { return len(s.Held) == 0 })
	check(t, err)
	h.waitLog(running, "the height of a held plan has passed; it was not carried out")
	if len(status.Pending) > 0 || status.Waiting != "" || status.Upgrade("v2") != nil || status.Node == nil || status.Node.PID != before.Node.PID {
		t.Errorf("status beyond a cancelled plan = %+v, want the same process and nothing to do", status)
	}
	if got := h.current(); got != dir {
		t.Errorf("current -> %s, want %s", got, dir)
	}
	h.stop()
	running = h.start(ctx)
	h.waitLog(running, "it counts as skipped")
	check(t, h.Node.WaitHeight(running, plan.Height+5))
	return running
}

// testOldRelease: the folder of a plan holds the release that runs already. It ends at its start,
// because it replays the block for which it halted.
func testOldRelease(t *testing.T, ctx, running context.Context, nw *network.Network, h *node) context.Context {
	t.Helper()
	const says = "it has no handler for it, so it is probably the old release"
	h.run("add-upgrade", "v2", built.chain.V1)
	plan := schedule(t, running, nw, built.chain.V1, "v2")
	h.endsFailed(ctx, says, "place the right one: solstice add-upgrade v2 PATH --force")
	status, err := h.Status(ctx)
	check(t, err)
	if !strings.Contains(status.Waiting, says) || h.current() != "upgrades/v2" {
		t.Errorf("status = %+v, current -> %s; want upgrades/v2, and that it is the old release", status, h.current())
	}
	h.says(says, "status")
	h.start(ctx)
	h.endsFailed(ctx, says) // once more, and nothing else
	h.doctor(ctx, "runs", "warning", "the same version as the one in use")
	h.doctor(ctx, "handler", "not ready", says)
	h.run("add-upgrade", "v2", built.chain.V2, "--force")
	running = h.start(ctx)
	h.checkUpgraded(running, plan)
	h.checkEntry(running, "v2:")
	return running
}

// testNotLoaded: the binary of a plan needs a library that this machine has not. Solstice waits
// beside the halted node.
func testNotLoaded(t *testing.T, ctx context.Context, nw *network.Network, h *node) {
	t.Helper()
	h.run("add-upgrade", "v3", built.chain.V3)
	binary := filepath.Join(h.Node.Home, "cosmovisor", "upgrades", "v3", "bin", "chaind")
	lacking := withoutLibrary(t)
	if lacking != nil {
		check(t, errors.Join(os.Remove(binary), os.WriteFile(binary, lacking, 0o755)))
	}
	plan := schedule(t, ctx, nw, built.chain.V2, "v3")
	if lacking != nil {
		status, err := h.WaitStatus(ctx, func(s Status) bool { return s.Waiting != "" })
		check(t, err)
		if !strings.Contains(status.Waiting, "libq.so.6") || status.Node == nil {
			t.Errorf("waiting = %q, node = %+v; want a halted node, and the missing library", status.Waiting, status.Node)
		}
		if got, err := h.Node.AppHeight(ctx); err != nil || got != plan.Height-1 {
			t.Errorf("height of the halted node = %d, %v, want %d", got, err, plan.Height-1)
		}
		h.run("add-upgrade", "v3", built.chain.V3, "--force")
	}
	h.checkUpgraded(ctx, plan)
}

// withoutLibrary is a program of this system that needs a library which is not there, or nil
// where programs need none.
func withoutLibrary(t *testing.T) []byte {
	t.Helper()
	path, err := exec.LookPath("true")
	if err != nil {
		return nil
	}
	content := read(t, path)
	if !bytes.Contains(content, []byte("libc.so.6\x00")) {
		t.Logf("%s needs no libc.so.6", path)
		return nil
	}
	return bytes.ReplaceAll(content, []byte("libc.so.6\x00"), []byte("libq.so.6\x00"))
}

// TestTwoPlansInARow: a manual plan for the height after the chain's plan, on pebble; solstice is
// killed at the halt.
func TestTwoPlansInARow(t *testing.T) {
	t.Parallel()
	ctx, nw := layOut(t, network.Config{BlockTime: 250 * time.Millisecond, LedgerKeys: 50, DBBackend: "pebbledb"})
	h := home(t, nw.Nodes[0])
	h.endsBy = 2 // as in testRollback
	h.run("init", built.chain.V1)
	h.run("add-upgrade", "v2", built.chain.V2)
	running := h.start(ctx)
	check(t, h.Node.WaitHeight(running, 2))
	v2 := schedule(t, running, nw, built.chain.V1, "v2")
	v3 := network.Plan{Name: "v3", Height: v2.Height + 1}
	h.run("add-upgrade", v3.Name, built.chain.V3, "--upgrade-height", fmt.Sprint(v3.Height))
	check(t, Wait(running, func() (bool, error) {
		content, err := os.ReadFile(h.Node.UpgradeInfo())
		return bytes.Contains(content, []byte(`"v2"`)), ignoreMissing(err)
	}))
	h.process.Kill()
	running = h.start(ctx)
	h.checkUpgraded(running, v2, v3)
	h.checkEntry(running, "v2:")
	h.checkOneNode(running)
	h.stop()
}

// waitLog waits until solstice or its node has said this.
func (n *node) waitLog(ctx context.Context, text string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, fmt.Errorf("the log does not say %q", text))
	defer cancel()
	check(n.t, Wait(ctx, func() (bool, error) { return strings.Contains(n.process.Tail(1e6), text), nil }))
}

// ignoreMissing is an error, unless it says that a file is not there.
func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
