package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"solstice/testchain/network"
)

// TestSidecars: a real second process, which asks the node's RPC, lives with a validator over an upgrade that its chain decides on,
// each version with its own binary; a third has to be ready before the node starts. One that is killed comes back beside the same
// node; when solstice is killed, all of it ends.
func TestSidecars(t *testing.T) {
	t.Parallel()
	ctx, nw := layOut(t, network.Config{BlockTime: 250 * time.Millisecond})
	dir := t.TempDir()
	feeder, notes, list := filepath.Join(dir, "feeder"), filepath.Join(dir, "notes"), filepath.Join(dir, "sidecars.toml")
	build := exec.CommandContext(ctx, "go", "build", "-o", feeder, "./feeder")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the feeder: %v\n%s", err, out)
	}
	check(t, os.WriteFile(list, fmt.Appendf(nil, `
[[sidecar]]
name = "companion"
command = ["companion", "-c", "trap 'exit 0' TERM; touch %[1]s.ready; while :; do sleep 60 & wait $!; done"]
start = "before"
ready = { exec = ["/bin/sh", "-c", "test -e %[1]s.ready"] }

[[sidecar]]
name = "feeder"
command = ["feeder", "%[2]s", "%[1]s", "%[3]s"]
ready = { http = "http://%[3]s/" }
`, notes, nw.Nodes[0].RPC, freeAddress(t)), 0o644))
	shell, err := filepath.EvalSymlinks("/bin/sh")
	check(t, err)

	h := home(t, nw.Nodes[0], "SOLSTICE_SIDECARS="+list)
	h.run("init", built.chain.V1)
	for name, path := range map[string]string{"feeder": feeder, "companion": shell} {
		content := read(t, path)
		check(t, os.WriteFile(filepath.Join(h.Node.Home, "cosmovisor/genesis/bin", name), content, 0o755))
	}
	h.run("add-upgrade", "v2", built.chain.V2, "--sidecar", "feeder="+feeder, "--sidecar", "companion="+shell)
	running := h.start(ctx)
	plan := h.upgradeByGovernance(running, nw, built.chain.V1, "v2")

	status, err := h.WaitStatus(running, func(s Status) bool { return s.bothRun() })
	check(t, err)
	h.checkNotes(notes, plan)
	for _, one := range status.Sidecars {
		if want := filepath.Join(h.Node.Home, "cosmovisor/upgrades/v2/bin", one.Name); one.Binary != want {
			t.Errorf("binary of %s = %s, want %s", one.Name, one.Binary, want)
		}
	}

	check(t, syscall.Kill(status.Sidecars[1].PID, syscall.SIGKILL))
	again, err := h.WaitStatus(running, func(s Status) bool { return s.bothRun() && s.Sidecars[1].PID != status.Sidecars[1].PID })
	check(t, err)
	if again.Node == nil || again.Node.PID != status.Node.PID || again.Sidecars[0] != status.Sidecars[0] {
		t.Errorf("after the end of the feeder: %+v, before it: %+v", again, status)
	}
	h.checkOneNode(running)

	h.process.Kill()
	check(t, Wait(ctx, func() (bool, error) {
		return syscall.Kill(again.Sidecars[0].PID, 0) != nil && syscall.Kill(again.Sidecars[1].PID, 0) != nil, nil
	}))
	running = h.start(ctx)
	_, err = h.WaitStatus(running, func(s Status) bool { return s.bothRun() })
	check(t, err)
	h.stop()
}

// bothRun says whether the node runs, and both of its sidecars.
func (s Status) bothRun() bool {
	return s.Node != nil && len(s.Sidecars) == 2 && s.Sidecars[0].State == "running" && s.Sidecars[1].State == "running"
}

// checkNotes checks what the feeders have noted: each version its own heights.
func (n *node) checkNotes(path string, plan network.Plan) {
	n.t.Helper()
	heights := map[string][]string{}
	var order []string
	for _, found := range regexp.MustCompile(`(?m)^(\S+) (\d+)$`).FindAllStringSubmatch(string(read(n.t, path)), -1) {
		if heights[found[1]] == nil {
			order = append(order, found[1])
		}
		heights[found[1]] = append(heights[found[1]], found[2])
	}
	if got := strings.Join(order, " "); got != "genesis v2" {
		n.t.Errorf("feeders of %s, want genesis and v2", got)
	}
	old, next := heights["genesis"], heights["v2"]
	if len(old) == 0 || len(next) == 0 || old[len(old)-1] != fmt.Sprint(plan.Height-1) {
		n.t.Errorf("heights of the old feeder %v, of the new one %v, want %d as the old one's last", old, next, plan.Height-1)
	}
}

// freeAddress is an address on this machine that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	return l.Addr().String()
}
