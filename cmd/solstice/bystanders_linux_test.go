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
)

// TestNobodyTakesTheLog: an upgrade, and the end, go on where the reader of stderr has gone away or has stopped to read. A
// reader that goes on finds out how much it has missed.
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
