package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"solstice/api"
	"solstice/supervisor"
)

// manager is a service manager that only listens.
type manager struct {
	*testHome
	socket string
	lines  chan string
}

// listen makes the socket that systemd would give to a service: a path, or an abstract name.
func (h *testHome) listen(abstract bool) *manager {
	h.Helper()
	m := &manager{h, filepath.Join(h.TempDir(), "notify"), make(chan string, 1000)}
	if abstract {
		m.socket = fmt.Sprintf("@solstice-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	h.check(err)
	h.Cleanup(func() { conn.Close() })
	go func() {
		for buffer := make([]byte, 4096); ; {
			n, err := conn.Read(buffer)
			if err != nil {
				close(m.lines)
				return
			}
			for line := range strings.SplitSeq(string(buffer[:n]), "\n") {
				m.lines <- line
			}
		}
	}()
	return m
}

// freeAddress is one that a node's RPC can listen at.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "tcp://" + l.Addr().String()
}

// service starts solstice as a service of the manager's.
func (m *manager) service(watchdog time.Duration, env ...string) *exec.Cmd {
	m.Helper()
	cmd := m.command("run", "start", "--rpc.laddr", freeAddress(m.T))
	cmd.Env = append(append(cmd.Env, "NOTIFY_SOCKET="+m.socket, fmt.Sprintf("WATCHDOG_USEC=%d", watchdog.Microseconds())), env...)
	m.check(cmd.Start())
	return cmd
}

// await waits for a line that matches, and returns those that came before it.
func (m *manager) awaitLine(pattern string) (before []string) {
	m.Helper()
	want := regexp.MustCompile("^" + pattern + "$")
	timeout := time.After(30 * time.Second)
	for {
		select {
		case line := <-m.lines:
			if want.MatchString(line) {
				return before
			}
			before = append(before, line)
		case <-timeout:
			m.Fatalf("no %s after\n%s", pattern, strings.Join(before, "\n"))
		}
	}
}

// TestManagerHears: what systemd is told, from the start over an upgrade to the end.
func TestManagerHears(t *testing.T) {
	t.Parallel()
	for _, abstract := range []bool{false, true} {
		t.Run(fmt.Sprintf("abstract-%t", abstract), func(t *testing.T) {
			t.Parallel()
			h := newHome(t, `{"halt_exit":-1,"stop_time":50000000,"plans":[{"name":"v2","height":300}]}`, "upgrades/v2")
			h.write("cosmovisor/pre.sh", "#!/bin/sh\nenv >env-of-hook\nuntil test -e go-on; do sleep 0.01; done\n")
			// A new binary that migrates for long is one that does not answer yet.
			h.check(os.Rename(filepath.Join(h.dir, "cosmovisor/upgrades/v2/bin"), filepath.Join(h.dir, "cosmovisor/upgrades/v2/real")))
			h.write("cosmovisor/upgrades/v2/bin/noded", "#!/bin/sh\nuntil test $1 != start -o -e $DAEMON_HOME/migrated; do sleep 0.01; done\nexec \"$(dirname $0)/../real/noded\" \"$@\"\n")
			m := h.listen(abstract)
			cmd := m.service(100*time.Millisecond, "COSMOVISOR_CUSTOM_PREUPGRADE=pre.sh")
			for _, line := range m.awaitLine("READY=1") {
				if strings.HasPrefix(line, "STOPPING") || strings.HasPrefix(line, "STATUS=height") {
					t.Errorf("%s before READY=1", line)
				}
			}
			m.awaitLine(`STATUS=height \d+ · v2 (in|any) .*`)
			m.awaitLine(`STATUS=height 299 · upgrading to v2: script for .*`)
			m.awaitLine(`STATUS=height 299 · upgrading to v2: script for .*`) // a second later
			for range 3 {
				m.awaitLine("WATCHDOG=1") // the upgrade takes long, and the loop beats on
			}
			h.write("go-on", "")
			m.awaitLine(`STATUS=height 299 · v2 runs for .*, a block beyond its height 300 is awaited`)
			for range 3 {
				m.awaitLine("WATCHDOG=1")
			}
			h.write("migrated", "")
			m.awaitLine(`STATUS=height 3\d\d`)
			status, err := api.Status(t.Context(), filepath.Join(h.dir, "cosmovisor/.solstice/control.sock"))
			h.check(err)
			env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", status.Node.PID))
			h.check(err)
			h.check(cmd.Process.Signal(syscall.SIGTERM))
			for _, line := range m.awaitLine("STOPPING=1") {
				if line == "READY=1" {
					t.Error("ready twice")
				}
			}
			m.awaitLine(`EXTEND_TIMEOUT_USEC=75000000`) // the grace, and a bit
			m.awaitLine(`STATUS=ended with exit status 0`)
			_ = cmd.Wait()

			hook, err := os.ReadFile(filepath.Join(h.dir, "env-of-hook"))
			h.check(err)
			for who, env := range map[string]string{"node": strings.ReplaceAll(string(env), "\x00", "\n"), "hook": string(hook)} {
				if name := regexp.MustCompile(`(?m)^(NOTIFY_SOCKET|WATCHDOG_\w+)=`).FindString(env); name != "" || !strings.Contains(env, "DAEMON_HOME=") {
					t.Errorf("in the environment of the %s: %s\n%s", who, name, env)
				}
			}
		})
	}
}

// TestManagerWaits: what takes as long as it takes is not cut off by the manager's limits: an upgrade at a start, and one that
// is called off.
func TestManagerWaits(t *testing.T) {
	t.Parallel()
	h := newHome(t, `{"plans":[{"name":"v2","height":5}]}`)
	h.write("data/upgrade-info.json", `{"name":"v2","height":5}`)
	h.write("cosmovisor/.solstice/height.json", `{"committed":4,"at":"2026-01-01T00:00:00Z","exact":true}`)
	m := h.listen(false)
	cmd := m.service(100 * time.Millisecond)
	lines := m.awaitLine("STATUS=height 4 · waits: plan v2 .* is due and waits: .*")
	for range 3 {
		lines = append(lines, m.awaitLine("EXTEND_TIMEOUT_USEC=200000")...)
	}
	if slices.Contains(lines, "READY=1") {
		t.Error("ready without a node")
	}
	h.check(cmd.Process.Signal(syscall.SIGTERM))
	m.awaitLine("STOPPING=1")
	_ = cmd.Wait()
}

// TestHungLoopIsSilent: the beats come from the loop that decides. While it hangs, here in a line of the log that nobody takes, and
// everything else goes on, there are none.
func TestHungLoopIsSilent(t *testing.T) {
	h := newHome(t, `{}`)
	m := h.listen(false)
	c := Config{Home: h.dir, Name: "noded", StateDir: filepath.Join(h.dir, "cosmovisor", ".solstice")}
	args := []string{"start"}
	home := c.home(args)
	home.Node = h.dir
	log := &hangingLog{slog.DiscardHandler, "the plan file is not a whole plan", make(chan bool), make(chan bool)}
	signals := make(chan os.Signal)
	s := &supervisor.Supervisor{
		Home: home, Args: append(args, "--home", h.dir), Log: slog.New(log), Signals: signals, Read: c.reader(home, args),
		Grace:   time.Minute,
		Manager: supervisor.Manager{Socket: m.socket, Watchdog: 40 * time.Millisecond},
	}
	ended := make(chan error)
	go func() {
		_, err := s.Run()
		ended <- err
	}()
	m.awaitLine("READY=1")
	m.awaitLine("WATCHDOG=1")
	m.awaitLine("WATCHDOG=1")
	h.write("data/upgrade-info.json", `{"name":"v2"`)
	<-log.hangs
	for silent := false; !silent; {
		select {
		case <-m.lines: // from before
		case <-time.After(10 * s.Manager.Watchdog):
			silent = true
		}
	}
	if len(m.lines) > 0 {
		t.Error("a hung loop is heard")
	}
	close(log.goOn)
	m.awaitLine("WATCHDOG=1")
	signals <- syscall.SIGTERM
	m.awaitLine("STOPPING=1")
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// hangingLog is a log that hangs at a message.
type hangingLog struct {
	slog.Handler
	message     string
	hangs, goOn chan bool
}

func (l *hangingLog) Enabled(context.Context, slog.Level) bool { return true }

func (l *hangingLog) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, l.message) {
		close(l.hangs)
		<-l.goOn
	}
	return nil
}

// TestManagerHearsOfSidecars: one that does not run stands in the status line, and the manager is given time for their stop.
func TestManagerHearsOfSidecars(t *testing.T) {
	t.Parallel()
	m := newHome(t, `{}`).listen(false)
	m.write("sidecars.toml", "[[sidecar]]\nname = \"feeder\"\ncommand = [\"feeder\"]\n")
	cmd := m.service(time.Minute, "SOLSTICE_SIDECARS="+filepath.Join(m.dir, "sidecars.toml"))
	m.awaitLine(`STATUS=height .* · sidecar feeder restarting: stat .*/genesis/bin/feeder: no such file or directory`)
	m.check(cmd.Process.Signal(syscall.SIGTERM))
	m.awaitLine("STATUS=stopping the sidecars")
	m.awaitLine(`EXTEND_TIMEOUT_USEC=\d+`)
	_ = cmd.Wait()
}
