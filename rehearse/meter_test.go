package rehearse

import (
	"os/exec"
	"strconv"
	"testing"
	"time"

	"solstice"
	"solstice/crash"
)

// TestMeter: what a process has used that the measured one has started is seen, and the measured one itself is not.
func TestMeter(t *testing.T) {
	cmd := exec.Command("sh", "-c", `(i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; exec sleep 1000) & wait`)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, pid := range descendants(cmd.Process.Pid) {
			_ = exec.Command("kill", "-KILL", strconv.Itoa(pid)).Run()
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	m := newMeter(cmd.Process.Pid)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		resident, pids := m.look()
		u := m.usage()
		if len(pids) == 1 && resident > 0 && u.Memory >= resident && time.Duration(u.CPU) >= 50*time.Millisecond {
			return
		}
	}
	t.Errorf("usage = %+v, want one process with memory and processor time", m.usage())
}

// TestWords: the formats of log lines that are errors, and what is none.
func TestWords(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		errors     int
		panicked   bool
	}{
		{"sdk", "10:03PM ERR failed to do it err=x module=y", 1, false},
		{"sdk-coloured", "\x1b[90m10:03PM\x1b[0m \x1b[31mERR\x1b[0m failed", 1, false},
		{"sdk-json", `{"level":"error","module":"x","message":"y"}`, 1, false},
		{"comet", "E[2024-01-01|10:00:00.000] failed module=consensus", 1, false},
		{"info", "10:03PM INF committed state err=none module=ERRAND", 0, false},
		{"of-the-rehearsal", "10:03PM ERR error on catchup replay; proceeding to start state anyway", 0, false},
		{"panic", "panic: no such store", 0, true},
		{"consensus", `10:03PM ERR CONSENSUS FAILURE!!! err="broken" module=consensus stack=x`, 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &words{}
			w.line(crash.Colours.ReplaceAllString(tt.line, ""))
			if w.errors != tt.errors || (w.panicked != "") != tt.panicked {
				t.Errorf("%d errors, panicked %q, want %d, %v", w.errors, w.panicked, tt.errors, tt.panicked)
			}
		})
	}
	if got, want := reasonIn(`10:03PM ERR CONSENSUS FAILURE!!! err="it is broken" module=consensus stack=x`), "it is broken"; got != want {
		t.Errorf("reason = %q, want %q", got, want)
	}
}

// TestIdle: a node that makes blocks, works on the processor, or on the disk, does not hang.
func TestIdle(t *testing.T) {
	busy := solstice.Usage{CPU: solstice.Seconds(time.Minute)}
	for _, tt := range []struct {
		name   string
		height int64
		used   solstice.Usage
		want   bool
	}{
		{"hangs", 7, solstice.Usage{CPU: solstice.Seconds(time.Second)}, true},
		{"makes-blocks", 8, solstice.Usage{}, false},
		{"computes", 7, busy, false},
		{"writes", 7, solstice.Usage{Written: 1 << 30}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at := time.Unix(0, 0)
			i := idle{at, 7, solstice.Usage{}}
			if got := i.over(at.Add(idleLimit+time.Second), tt.height, tt.used); got != tt.want {
				t.Errorf("over = %v, want %v", got, tt.want)
			}
		})
	}
}
