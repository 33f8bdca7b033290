package chaos

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"solstice/internal/testnode"
)

var processes = newCampaign("killed processes")

// TestProcesses kills the supervisor, the node, or both as a machine that restarts does, in random order and at random moments
// over three upgrades, and starts again at once; now and then the supervisor is stopped for a while, also over a height. The node is
// one that takes its time to stop, ends by itself at the halt, or ignores SIGTERM.
func TestProcesses(t *testing.T) {
	limit, full := processes.full()
	start := time.Now()
	for first := 0; first == 0 || full && time.Since(start) < limit; first += 2 {
		t.Run(fmt.Sprint("from-", first), func(t *testing.T) { // it returns when its rounds are over
			for round := first; round < first+2; round++ {
				t.Run(fmt.Sprint(round), func(t *testing.T) {
					t.Parallel()
					testProcesses(t, round)
				})
			}
		})
	}
}

func testProcesses(t *testing.T, round int) {
	drawn := random(t.Name())
	script := testnode.Script{
		BlockTime: 4 * time.Millisecond, HaltExit: []int{-1, 0, 1}[round%3], Database: drawn.IntN(2) == 0,
		StopTime: time.Duration(drawn.IntN(30)) * time.Millisecond, IgnoreTerm: drawn.IntN(4) == 0,
		Plans: []testnode.Plan{{Name: "v2", Height: 40}, {Name: "v3", Height: 90}, {Name: "v4", Height: 140}},
	}
	h := newHome(t, script, "upgrades/v2", "upgrades/v3", "upgrades/v4")
	h.env = append(h.env, "DAEMON_SHUTDOWN_GRACE=200ms")
	for range 25 {
		processes.cuts.Add(1)
		run := h.start(h.runArgs()...)
		time.Sleep(time.Duration(drawn.IntN(100)) * time.Millisecond)
		switch drawn.IntN(5) {
		case 0:
			h.killNodes()
		case 1:
			h.killNodes()
			run.kill()
		case 2:
			run.kill()
			h.killNodes()
		case 3:
			_ = run.Process.Signal(syscall.SIGSTOP)
			time.Sleep(time.Duration(drawn.IntN(200)) * time.Millisecond)
			_ = run.Process.Signal(syscall.SIGCONT)
		}
		run.kill()
		if script.IgnoreTerm {
			h.killNodes() // nobody else can
		}
	}
	script.IgnoreTerm = false
	h.script(script)
	h.check(ending{binary: "upgrades/v4", upgrades: []string{"v2", "v3", "v4"}, snapshots: []string{"v2-40-", "v3-90-", "v4-140-"}})
	if t.Failed() {
		processes.failures.Add(1)
	}
}

// killNodes kills what executes a binary of the home.
func (h *home) killNodes() {
	for _, pid := range h.processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
}

// TestDyingNodeIsNoBusyLoop: a node that dies at once, for ever, is started again ever more seldom, and a stop is heard meanwhile.
func TestDyingNodeIsNoBusyLoop(t *testing.T) {
	h := newHome(t, testnode.Script{Fail: map[string]int{"genesis": 7}})
	h.env = append(h.env, "SOLSTICE_RESTART=on-failure", "SOLSTICE_RESTART_LIMIT=0")
	run := h.start(h.runArgs()...)
	begun := time.Now()
	h.await("three tries", func() bool { return strings.Count(h.noded(), "fail with 7") >= 3 })
	if took := time.Since(begun); took < 2*time.Second { // 1 s and 2 s between them
		t.Errorf("three tries in %v", took)
	}
	h.must(run.Process.Signal(syscall.SIGTERM))
	if code := h.end(run); code != 7 && code != 143 {
		t.Errorf("exit code %d", code)
	}
}

// TestClockThatJumps: what a clock that was a day ahead, or behind, has left on disk leads nobody astray: in the middle of an
// upgrade and after it.
func TestClockThatJumps(t *testing.T) {
	for name, by := range map[string]time.Duration{"ahead": 24 * time.Hour, "behind": -24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t, testnode.Script{BlockTime: 2 * time.Millisecond, HaltExit: -1, Database: true,
				Plans: []testnode.Plan{{Name: "v2", Height: 10}, {Name: "v3", Height: 100}}}, "upgrades/v2", "upgrades/v3")
			h.write("cosmovisor/pre.sh", "#!/bin/sh\nexec sleep 60\n")
			h.env = append(h.env, "COSMOVISOR_CUSTOM_PREUPGRADE=pre.sh")
			run := h.start(h.runArgs()...)
			h.await("the script of the upgrade runs", func() bool {
				content, _ := os.ReadFile(h.log)
				return strings.Contains(string(content), "running pre.sh")
			})
			run.kill()
			h.free()
			h.shiftTimes(by)
			h.env = nil
			h.check(ending{binary: "upgrades/v3", upgrades: []string{"v2", "v3"}, snapshots: []string{"v2-10-", "v3-100-"}})
			h.shiftTimes(by)
			h.check(ending{binary: "upgrades/v3", upgrades: []string{"v2", "v3"}, snapshots: []string{"v2-10-", "v3-100-"}})
		})
	}
}

// shiftTimes makes the files of the state and of the node look as if another clock had written them.
func (h *home) shiftTimes(by time.Duration) {
	h.Helper()
	now := time.Now()
	for _, path := range []string{h.paths().JournalFile(), h.paths().HeightFile(), h.paths().SignStateFile()} {
		content, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue
		}
		h.must(err)
		// The day stands in the times alone. The journal names snapshots by its times, so they keep their names together.
		if path != h.paths().JournalFile() {
			content = []byte(strings.ReplaceAll(string(content), now.UTC().Format(time.DateOnly), now.Add(by).UTC().Format(time.DateOnly)))
			h.must(os.WriteFile(path, content, 0o600))
		}
		h.must(os.Chtimes(path, now.Add(by), now.Add(by)))
	}
	for _, path := range []string{h.paths().PlanFile(), h.paths().Data(), h.paths().CurrentLink()} {
		_ = os.Chtimes(path, now.Add(by), now.Add(by)) // it may not be there
	}
}
