package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"solstice/internal/durable"
)

// TestNobodyTakesTheLog: an upgrade, and the end, go on where the reader of stderr has gone
// away or has stopped to read. A reader that goes on finds out how much it has missed.
func TestNobodyTakesTheLog(t *testing.T) {
	t.Parallel()
	for _, reader := range []string{"goes-away", "stops-reading"} {
		for _, restart := range []string{"never", "on-failure"} { // with it the node's stderr is read too
			t.Run(reader+"-restart-"+restart, func(t *testing.T) {
				t.Parallel()
				h := newHome(t, `{"stop_time":50000000,"block_time":20000000,"plans":[{"name":"v2","height":60}]}`, "upgrades/v2")
				log, writer, err := os.Pipe()
				h.check(err)
				_, err = unix.FcntlInt(writer.Fd(), unix.F_SETPIPE_SZ, 4096)
				h.check(err)
				cmd := h.command("run", "start")
				cmd.Stderr = writer
				cmd.Env = append(cmd.Env, "SOLSTICE_RESTART="+restart)
				h.check(cmd.Start())
				h.check(writer.Close())
				defer log.Close()
				if line, err := bufio.NewReaderSize(log, 16).ReadSlice('\n'); err != nil && len(line) == 0 {
					t.Fatal(err)
				}
				if reader == "goes-away" {
					h.check(log.Close())
				} else {
					fill(t, fmt.Sprintf("/proc/%d/fd/2", cmd.Process.Pid))
				}
				h.await("v2 start", 1)
				h.check(cmd.Process.Signal(syscall.SIGTERM))
				ended := h.endsWithin(cmd, 10*time.Second)
				if code := ended.ExitCode(); code != 0 {
					t.Errorf("exit status %d", code)
				}
				h.checkNoCry()
				if n := strings.Count(h.log(), "start"); n != 2 {
					t.Errorf("the node started %d times:\n%s", n, h.log())
				}
			})
		}
	}
}

// fill writes to a pipe until it takes nothing more.
func fill(t *testing.T, path string) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for err == nil {
		_, err = unix.Write(fd, []byte("filler\n"))
	}
}

// endsWithin waits for the end of a command, no longer than this.
func (h *testHome) endsWithin(cmd *exec.Cmd, limit time.Duration) *os.ProcessState {
	h.Helper()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
		return cmd.ProcessState
	case <-time.After(limit):
		h.Fatalf("it has not ended after %v", limit)
		return nil
	}
}

// TestNoFileIsWaitedFor: a pipe in the place of any file that a start reads is not waited
// for, as of whoever would write into it. The start refuses with its name, or goes on
// without it; SIGTERM ends it.
func TestNoFileIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, path := range []string{
		"cosmovisor/solstice.toml", "cosmovisor/genesis/upgrade-info.json", "data/upgrade-info.json", "data/priv_validator_state.json",
		"config/config.toml", "config/app.toml", "config/client.toml", "config/packed-conf.json", "config/genesis.json", "config/node_key.json", "config/priv_validator_key.json",
		"cosmovisor/.solstice/journal.jsonl", "cosmovisor/.solstice/plans.json", "cosmovisor/.solstice/height.json", "cosmovisor/.solstice/seen-plans.json",
		"cosmovisor/.solstice/crash.json", "cosmovisor/.solstice/args.json", "cosmovisor/.solstice/rollback.json", "cosmovisor/.solstice/help.json", "cosmovisor/.solstice/sign-state/marks.jsonl",
		"cosmovisor/.solstice/prepared.jsonl", "cosmovisor/.solstice/rehearsals.jsonl", "data/upgrade-info.json.batch",
		"data/application.db/CURRENT", "data/cs.wal/wal",
	} {
		t.Run(strings.ReplaceAll(path, "/", "-"), func(t *testing.T) {
			t.Parallel()
			h := newHome(t, `{}`)
			path := h.dir + "/" + path
			h.check(os.MkdirAll(path[:strings.LastIndex(path, "/")], 0o755))
			h.check(unix.Mkfifo(path, 0o644))
			var said strings.Builder
			cmd := h.command("run", "start")
			cmd.Stderr = &said
			h.check(cmd.Start())
			started := time.Now()
			for !strings.Contains(h.log(), "start") && unix.Kill(cmd.Process.Pid, 0) == nil && time.Since(started) < 10*time.Second && !zombie(cmd.Process.Pid) {
				time.Sleep(10 * time.Millisecond)
			}
			running := strings.Contains(h.log(), "start")
			_ = cmd.Process.Signal(syscall.SIGTERM)
			ended := h.endsWithin(cmd, 10*time.Second)
			// Of a node that ran the exit status is its own.
			if code := ended.ExitCode(); !running && (code <= 0 || !strings.Contains(said.String(), path)) {
				t.Errorf("the node runs: %t; exit status %d:\n%s", running, code, said.String())
			}
		})
	}
}

// zombie says whether a process has ended and nobody has been told yet.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// TestSilentSupervisor: one that was stopped is named with its process and what it waits
// for, soon, beside all that the files say; nothing hangs.
func TestSilentSupervisor(t *testing.T) {
	t.Parallel()
	h := newHome(t, `{"block_time":20000000}`)
	run := h.start("run", "start")
	h.await("start at", 1)
	for deadline := time.Now().Add(10 * time.Second); h.command("status", "--check").Run() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not answer")
		}
	}
	h.check(run.Process.Signal(syscall.SIGSTOP))
	want := fmt.Sprintf("the supervisor, pid %d, does not answer: it was stopped by a signal\nsolstice: hint: let it go on: kill -CONT %d\n", run.Process.Pid, run.Process.Pid)
	for _, tt := range []struct{ command, out string }{
		{"status", "binary    genesis"}, {"status -o json", `"silent": "the supervisor, pid `}, {"plan", "No upgrade is ahead"}, {"doctor", "ok "},
		{"reload", ""}, {"snapshot create --live", ""}, {"status --check", ""},
	} {
		t.Run(strings.ReplaceAll(tt.command, " ", "_"), func(t *testing.T) {
			t.Parallel()
			var out, said strings.Builder
			cmd := h.command(strings.Fields(tt.command)...)
			cmd.Stdout, cmd.Stderr = &out, &said
			h.check(cmd.Start())
			ended := h.endsWithin(cmd, 10*time.Second)
			if ended.ExitCode() != 1 || !strings.HasSuffix(said.String(), want) || !strings.Contains(out.String(), tt.out) {
				t.Errorf("exit status %d\n%s\n%s", ended.ExitCode(), out.String(), said.String())
			}
		})
	}
}

// TestStoppedCommandHoldsTheLock: a command that was stopped while it changes the
// operator's list holds up neither a start, nor an upgrade of the operator's or of the
// chain's, nor the end.
func TestStoppedCommandHoldsTheLock(t *testing.T) {
	t.Parallel()
	for _, plan := range []string{"of-the-chain", "on-the-list", "on-cosmovisors-list"} {
		t.Run(plan, func(t *testing.T) {
			t.Parallel()
			script := `{"block_time":20000000}`
			if plan == "of-the-chain" {
				script = `{"block_time":20000000,"plans":[{"name":"v2","height":100}]}`
			}
			h := newHome(t, script, "upgrades/v2")
			state := h.dir + "/cosmovisor/.solstice"
			h.check(os.MkdirAll(state, 0o700))
			batch := `[{"name":"v9","height":900000}]`
			switch plan {
			case "on-the-list":
				h.write("cosmovisor/.solstice/plans.json", `[{"name":"v2","height":100}]`)
			case "on-cosmovisors-list":
				batch = `[{"name":"v2","height":100},{"name":"v9","height":900000}]`
			}
			h.write("data/upgrade-info.json.batch", batch)
			lock, err := durable.Lock(state)
			h.check(err)
			defer lock.Close()
			started := time.Now()
			cmd := h.start("run", "start", "--rpc.laddr", freeAddress(t))
			h.await("v2 start", 1)
			if took := time.Since(started); took > 20*time.Second { // it needs 2 s for the blocks
				t.Errorf("v2 runs after %v", took)
			}
			h.check(lock.Close())
			for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				plans, _ := os.ReadFile(state + "/plans.json")
				if strings.Contains(string(plans), "v9") && !strings.Contains(string(plans), "v2") {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("what was put off is not done: %s", plans)
				}
			}
			h.check(cmd.Process.Signal(syscall.SIGTERM))
			if code := h.endsWithin(cmd, 10*time.Second).ExitCode(); code != 0 {
				t.Errorf("exit status %d", code)
			}
			h.checkNoCry()
		})
	}
}
