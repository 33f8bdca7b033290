package main

import (
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"solstice/internal/durable"
)

// lonely is a sidecar that cries out where it finds another of its kind at work, as the test node does.
const lonely = `#!/bin/sh
exec 9>>"$DAEMON_HOME/feeder.lock"
flock -n 9 || echo "TWO NODES: a second feeder" >>"$DAEMON_HOME/noded.log"
echo "feeder of $(basename "$(dirname "$(dirname "$(readlink -f "$0")")")") starts" >>"$DAEMON_HOME/noded.log"
while :; do sleep 60 & wait $!; done
`

// feeder gives the home a sidecar in each of these versions, and returns the setting that names it.
func (h *testHome) feeder(start string, versions ...string) (setting string) {
	h.Helper()
	for _, dir := range append(versions, "genesis") {
		h.write(filepath.Join("cosmovisor", dir, "bin", "feeder"), lonely)
	}
	h.write("sidecars.toml", "[[sidecar]]\nname = \"feeder\"\ncommand = [\"feeder\"]\nstart = \""+start+"\"\n")
	return "SOLSTICE_SIDECARS=" + filepath.Join(h.dir, "sidecars.toml")
}

// feeders are the processes of the sidecar that run, whoever has started them.
func (h *testHome) feeders() []int {
	return durable.Holders(filepath.Join(h.dir, "cosmovisor/.solstice/sidecars/feeder"))
}

func (h *testHome) awaitNoFeeder() {
	h.Helper()
	for deadline := time.Now().Add(20 * time.Second); h.feeders() != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.Fatalf("a sidecar is left: %v", h.feeders())
		}
	}
}

// TestKilledSupervisorNeverLeavesTwoSidecars kills solstice at any moment, over two upgrades, and the sidecar too, and starts it
// again at once.
func TestKilledSupervisorNeverLeavesTwoSidecars(t *testing.T) {
	t.Parallel()
	for _, start := range []string{"before", "after"} {
		t.Run(start, func(t *testing.T) {
			t.Parallel()
			h := newHome(t, `{"block_time":5000000,"stop_time":20000000,"halt_exit":-1,"plans":[{"name":"v2","height":60},{"name":"v3","height":180}]}`,
				"upgrades/v2", "upgrades/v3")
			setting := h.feeder(start, "upgrades/v2", "upgrades/v3")
			for range 40 {
				cmd := h.command("run", "start")
				cmd.Env = append(cmd.Env, setting)
				h.check(cmd.Start())
				time.Sleep(rand.N(100 * time.Millisecond))
				if left := h.feeders(); left != nil && rand.N(2) == 0 {
					_ = syscall.Kill(left[0], syscall.SIGKILL)
					time.Sleep(rand.N(20 * time.Millisecond))
				}
				h.check(cmd.Process.Kill())
				_ = cmd.Wait()
			}
			nodes, feeders := strings.Count(h.log(), "v3 start at"), strings.Count(h.log(), "feeder of v3 starts")
			last := h.command("run", "start")
			last.Env = append(last.Env, setting)
			h.check(last.Start())
			h.await("v3 start at", nodes+1)
			h.await("feeder of v3 starts", feeders+1)
			h.check(last.Process.Signal(syscall.SIGTERM))
			_ = last.Wait()
			if left := h.feeders(); left != nil {
				t.Errorf("a sidecar is left: %v", left)
			}
			h.checkNoCry()
			h.checkNoDebris()
		})
	}
}

// TestKilledSupervisorTakesSidecars: without another start too, the kernel tells them to end.
func TestKilledSupervisorTakesSidecars(t *testing.T) {
	t.Parallel()
	h := newHome(t, `{}`)
	h.write("cosmovisor/genesis/bin/single", "#!/bin/sh\necho single starts >>\"$DAEMON_HOME/noded.log\"\nexec sleep 600\n")
	h.write("sidecars.toml", "[[sidecar]]\nname = \"feeder\"\ncommand = [\"single\"]\n")
	cmd := h.command("run", "start")
	cmd.Env = append(cmd.Env, "SOLSTICE_SIDECARS="+filepath.Join(h.dir, "sidecars.toml"))
	h.check(cmd.Start())
	h.await("single starts", 1)
	if h.feeders() == nil {
		t.Error("the running sidecar holds no lock")
	}
	h.check(cmd.Process.Kill())
	_ = cmd.Wait()
	h.awaitNoFeeder()
}

// TestSidecarsStayWhileNodeRestarts: a node that is started again, and a snapshot for which it is stopped, don't touch them.
func TestSidecarsStayWhileNodeRestarts(t *testing.T) {
	t.Parallel()
	h := newHome(t, `{"stop_at":10,"stop_code":4}`)
	setting := h.feeder("after")
	cmd := h.command("run", "start")
	cmd.Env = append(cmd.Env, setting, "SOLSTICE_RESTART=on-failure")
	h.check(cmd.Start())
	h.await("genesis start at", 1)
	h.write("config/noded.json", `{}`)
	h.await("genesis start at", 2)
	live := h.command("snapshot", "create", "--live")
	live.Env = append(live.Env, setting)
	h.check(live.Run())
	h.await("genesis start at", 3)
	h.check(cmd.Process.Signal(syscall.SIGTERM))
	_ = cmd.Wait()
	if n := strings.Count(h.log(), "feeder of genesis starts"); n != 1 {
		t.Errorf("the sidecar was started %d times:\n%s", n, h.log())
	}
	h.checkNoCry()
}

// TestSlowSidecarHoldsUpNoUpgrade: the node is stopped in time while a sidecar takes its time, which is killed after the grace.
func TestSlowSidecarHoldsUpNoUpgrade(t *testing.T) {
	h := newHome(t, `{"block_time":20000000,"plans":[{"name":"v2","height":20,"manual":true}]}`)
	setting := h.feeder("after", "upgrades/v2")
	h.write("cosmovisor/genesis/bin/feeder", strings.Replace(lonely, "while", "trap '' TERM; while", 1))
	add := h.command("add-upgrade", "v2", nodeBinary, "--upgrade-height", "20")
	add.Env = append(add.Env, setting)
	h.check(add.Run())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	h.check(err)
	l.Close()
	cmd := h.command("run", "start", "--rpc.laddr", "tcp://"+l.Addr().String())
	cmd.Env = append(cmd.Env, setting, "DAEMON_SHUTDOWN_GRACE=1s")
	h.check(cmd.Start())
	h.await("v2 start at", 1)
	h.await("feeder of v2 starts", 1)
	_, stopped, _ := strings.Cut(h.log(), "genesis stopped at ")
	stopped, _, _ = strings.Cut(stopped, "\n")
	if height, err := strconv.Atoi(stopped); err != nil || height > 19+25 { // in the grace it makes 50 blocks
		t.Errorf("the node was stopped at height %s, want about 19", stopped)
	}
	h.check(cmd.Process.Signal(syscall.SIGTERM))
	_ = cmd.Wait()
	h.checkNoCry()
}
