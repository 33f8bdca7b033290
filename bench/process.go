package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const nodeName = "benchnode"

// tool is one of the two supervisors.
type tool struct{ name, path string }

// home is a fresh node home with the folders that both tools know, and the FIFO that its nodes report to.
type home struct {
	dir    string
	fifo   *os.File
	events chan event
}

// event is what a node reported.
type event struct {
	at            time.Time
	pid           int
	version, name string
}

// newHome makes a home in which genesis and v2 are the same small binary.
func newHome(parent, node string) (*home, error) {
	dir, err := os.MkdirTemp(parent, "home-")
	if err != nil {
		return nil, err
	}
	h := &home{dir: dir, events: make(chan event, 16)}
	for _, bin := range []string{"cosmovisor/genesis/bin", "cosmovisor/upgrades/v2/bin"} {
		err = errors.Join(err, os.MkdirAll(h.path(bin), 0o755))
		err = errors.Join(err, os.Link(node, h.path(bin, nodeName)))
	}
	err = errors.Join(err, os.Mkdir(h.path("data"), 0o755), os.Mkdir(h.path("config"), 0o755), unix.Mkfifo(h.path("events"), 0o600))
	if err != nil {
		return nil, err
	}
	// Open for writing too, so that it does not end between two nodes.
	if h.fifo, err = os.OpenFile(h.path("events"), os.O_RDWR, 0); err != nil {
		return nil, err
	}
	go h.read()
	return h, nil
}

func (h *home) path(names ...string) string {
	return filepath.Join(append([]string{h.dir}, names...)...)
}

func (h *home) read() {
	lines := bufio.NewScanner(h.fifo)
	for lines.Scan() {
		var e event
		var at int64
		if n, _ := fmt.Sscan(lines.Text(), &at, &e.pid, &e.version, &e.name); n == 4 {
			e.at = time.Unix(0, at)
			h.events <- e
		}
	}
}

// withRPC announces the RPC of the node as real nodes do, and returns its address.
func (h *home) withRPC() (string, error) {
	address, err := freeAddress()
	if err != nil {
		return "", err
	}
	config := fmt.Sprintf("[rpc]\nladdr = \"tcp://%s\"\n", address)
	return address, os.WriteFile(h.path("config", "config.toml"), []byte(config), 0o644)
}

func (h *home) remove() {
	h.fifo.Close() // which ends read
	os.RemoveAll(h.dir)
}

// supervisor is a running tool and what it has started, all in one process group.
type supervisor struct {
	cmd    *exec.Cmd
	output *os.File // in memory: neither a disk nor we take time from those that are measured
	done   chan struct{}
}

// supervise starts a tool on a home. The settings come after those that both need.
func (t tool) supervise(h *home, settings, nodeArgs []string) (*supervisor, error) {
	fd, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	s := &supervisor{output: os.NewFile(uintptr(fd), "output"), done: make(chan struct{})}
	s.cmd = exec.Command(t.path, append([]string{"run", "start", "--events", h.path("events")}, nodeArgs...)...)
	s.cmd.Env = append(t.environ(h.dir), settings...)
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.output
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		s.output.Close()
		return nil, err
	}
	go func() {
		_ = s.cmd.Wait() // it is killed in the end
		close(s.done)
	}()
	return s, nil
}

// environ is ours without any setting of a supervisor, and with the two that it needs. What it leaves lies in its home.
func (t tool) environ(dir string) []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DAEMON_") && !strings.HasPrefix(v, "COSMOVISOR_") && !strings.HasPrefix(v, "SOLSTICE_") && !strings.HasPrefix(v, "UNSAFE_") {
			env = append(env, v)
		}
	}
	return append(env, "DAEMON_HOME="+dir, "DAEMON_NAME="+nodeName, "TMPDIR="+dir)
}

// kill ends the supervisor and its nodes, and returns when they are gone.
func (s *supervisor) kill() {
	group := -s.cmd.Process.Pid
	_ = syscall.Kill(group, syscall.SIGKILL) // ESRCH when nothing of it is left
	<-s.done
	for { // the nodes are ours now: see adoptOrphans
		if _, err := unix.Wait4(group, nil, 0, nil); err != nil && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	s.output.Close()
}

// adoptOrphans makes us the parent of the nodes whose supervisor has been killed, so that we can wait for their end.
func adoptOrphans() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// patience is for the next event. Cosmovisor copies 2 GiB in that time.
const patience = time.Minute

// next waits for the next event of a home.
func (s *supervisor) next(ctx context.Context, h *home) (event, error) {
	select {
	case e := <-h.events:
		return e, nil
	case <-ctx.Done():
		return event{}, ctx.Err()
	case <-time.After(patience):
		return event{}, s.fault("no event for too long")
	case <-s.done:
		return event{}, s.fault("the supervisor has ended")
	}
}

// fault is an error with what the supervisor and its nodes printed.
func (s *supervisor) fault(reason string) error {
	printed, _ := io.ReadAll(io.NewSectionReader(s.output, 0, 64<<10))
	return fmt.Errorf("%s: %s; it printed:\n%s", filepath.Base(s.cmd.Path), reason, printed)
}

// watchEnd sends the time at which a process has ended, as the kernel tells it.
func watchEnd(pid int) (<-chan time.Time, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", pid, err)
	}
	ended := make(chan time.Time, 1)
	go func() {
		defer unix.Close(fd)
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if n == 1 {
				ended <- time.Now()
				return
			}
			if err != nil && !errors.Is(err, unix.EINTR) {
				return
			}
		}
	}()
	return ended, nil
}
