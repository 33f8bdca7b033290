// Package e2e runs a real solstice on nodes of the test chain, for the end-to-end tests beside it.
//
// It knows solstice as its users do, by its commands, its files and its exit codes. Whatever it starts ends with
// the process that started it, however that one ends.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"solstice/testchain/network"
)

// pollInterval is the pause between two questions to solstice.
const pollInterval = 100 * time.Millisecond

// Build builds solstice from the module beside this one, static as it is released. When it is cut off, no process of it is left, and
// what it has written lies in the folder of path.
func Build(ctx context.Context, path string) error {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "solstice/testchain").CombinedOutput()
	if err != nil {
		return fmt.Errorf("find the source, in a folder of its module testchain: %w: %s", err, out)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "./cmd/solstice")
	cmd.Dir = filepath.Dir(strings.TrimSpace(string(out)))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=", "GOTMPDIR="+filepath.Dir(path))
	// The compilers are children of the go command: a process group of their own ends them all.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build solstice: %w\n%s", err, out)
	}
	return nil
}

// Home is a node's home under solstice.
type Home struct {
	Node     *network.Node
	Solstice string   // the binary
	Environ  []string // beyond this process's own and what solstice needs
}

// Command returns a command of solstice, for start or run. The end of ctx kills it.
func (h Home) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, h.Solstice, args...)
	cmd.Env = append(append(os.Environ(), h.Environ...), "DAEMON_HOME="+h.Node.Home, "DAEMON_NAME=chaind")
	return cmd
}

// Run runs a command of solstice and returns what it prints on standard output.
func (h Home) Run(ctx context.Context, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := h.Command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := run(ctx, cmd); err != nil {
		return "", fmt.Errorf("solstice %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Current is where the current link points to.
func (h Home) Current() (string, error) {
	return os.Readlink(filepath.Join(h.Node.Home, "cosmovisor", "current"))
}

// Status is what solstice status -o json says, as far as it matters here.
type Status struct {
	Node *struct {
		PID int `json:"pid"`
	} `json:"node"`
	Binary struct {
		Dir string `json:"dir"`
	} `json:"binary"`
	Height *struct {
		Committed int64 `json:"committed"`
	} `json:"height"`
	Pending []struct {
		Name   string `json:"name"`
		Height int64  `json:"height"`
	} `json:"pending"`
	Held []struct {
		Name   string `json:"name"`
		Height int64  `json:"height"`
		Reason string `json:"reason"`
	} `json:"held"`
	Faults  []string `json:"faults"`
	Waiting string   `json:"waiting"`
	Doing   *struct {
		Step string `json:"step"`
	} `json:"doing"`
	Copying *struct {
		Snapshot string `json:"snapshot"`
		Waiting  string `json:"waiting"`
	} `json:"copying"`
	Upgrades   []Upgrade `json:"upgrades"`
	Sidecars   []Sidecar `json:"sidecars"`
	Standstill *struct {
		Kind   string  `json:"kind"`
		Height int64   `json:"height"`
		Beyond int     `json:"beyond"`
		Voted  float64 `json:"voted"`
	} `json:"standstill"`
}

// Sidecar is one sidecar in the status.
type Sidecar struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	PID    int    `json:"pid"`
	Binary string `json:"binary"`
}

// Upgrade is one upgrade in the status. Durations are seconds.
type Upgrade struct {
	Name     string `json:"name"`
	Height   int64  `json:"height"`
	State    string `json:"state"`
	Standing struct {
		Total     float64 `json:"total"`
		Ours      float64 `json:"ours"`
		Migration float64 `json:"migration"`
	} `json:"standing"`
	Steps []struct {
		Name    string  `json:"name"`
		Seconds float64 `json:"seconds"`
	} `json:"steps"`
}

// Upgrade returns the last upgrade of that name, or nil. One that was rolled back can be followed by another.
func (s Status) Upgrade(name string) *Upgrade {
	for i := range slices.Backward(s.Upgrades) {
		if s.Upgrades[i].Name == name {
			return &s.Upgrades[i]
		}
	}
	return nil
}

// Confirmed tells whether the upgrade of that name is done.
func (s Status) Confirmed(name string) bool {
	u := s.Upgrade(name)
	return u != nil && u.State == "confirmed"
}

// Status asks solstice.
func (h Home) Status(ctx context.Context) (Status, error) {
	var s Status
	out, err := h.Run(ctx, "status", "-o", "json")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// WaitStatus asks solstice until the answer is right, and returns it.
func (h Home) WaitStatus(ctx context.Context, right func(Status) bool) (Status, error) {
	var s Status
	err := Wait(ctx, func() (bool, error) {
		var err error
		s, err = h.Status(ctx)
		return err == nil && right(s), err
	})
	return s, err
}

// Snapshot is what solstice snapshot list -o json says of a snapshot, as far as it matters here.
type Snapshot struct {
	ID       string `json:"id"`
	Path     string `json:"path"`
	State    string `json:"state"`
	Manifest struct {
		Plan struct {
			Name string `json:"name"`
		} `json:"plan"`
		Height int64 `json:"height"`
		Linked int   `json:"linked"`
		Cloned int   `json:"cloned"`
	} `json:"manifest"`
}

// Snapshots asks solstice for the snapshots, oldest first.
func (h Home) Snapshots(ctx context.Context) ([]Snapshot, error) {
	var snapshots []Snapshot
	out, err := h.Run(ctx, "snapshot", "list", "-o", "json")
	if err != nil {
		return nil, err
	}
	return snapshots, json.Unmarshal([]byte(out), &snapshots)
}

// Wait asks until the answer is yes or an error. The end of ctx is an error that says why it ended.
func Wait(ctx context.Context, ask func() (bool, error)) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		ok, err := ask()
		if ctx.Err() != nil {
			return context.Cause(ctx) // what else failed, failed of it
		}
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// Process is a solstice that supervises a node. It leads a process group, which the node is in too.
type Process struct {
	home    Home
	cmd     *exec.Cmd
	logPath string
	done    chan struct{}
}

// Start runs solstice run start, with these arguments for the node too. What it and its node print goes to the end of a file.
func (h Home) Start(logPath string, more ...string) (*Process, error) {
	log, err := os.OpenFile(logPath, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &Process{home: h, logPath: logPath, done: make(chan struct{})}
	args := slices.Concat([]string{"run"}, h.Node.StartArgs(), []string{"--log_no_color"}, more)
	p.cmd = h.Command(context.Background(), args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := start(p.cmd); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // how it ended is in ProcessState
	}()
	return p, nil
}

// While returns a context that ends when solstice ends, and says so.
func (p *Process) While(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-p.done:
			cancel(fmt.Errorf("solstice ended by itself: %v", p.cmd.ProcessState))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// Wait waits until solstice ends by itself and returns its exit code.
func (p *Process) Wait(ctx context.Context) (exitCode int, err error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), p.KillAll()
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for the end of solstice: %w", context.Cause(ctx))
	}
}

// Stop asks solstice to end and returns its exit code. One that doesn't is killed, with its node.
func (p *Process) Stop(limit time.Duration) (exitCode int, err error) {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return 0, err
	}
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), p.KillAll()
	case <-time.After(limit):
		return 0, errors.Join(fmt.Errorf("solstice has not ended %v after SIGTERM", limit), p.KillAll())
	}
}

// Kill kills solstice alone. Its node is for the kernel and for the next solstice.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // an error means that it has ended
	<-p.done
}

// KillAll kills what is left of solstice and its node, and returns when the node has ended too.
func (p *Process) KillAll() error {
	killGroup := func() { _ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) } // an error means that nothing is left
	select {
	case <-p.done:
	default:
		killGroup()
		<-p.done
	}
	home, err := os.Open(p.home.Node.Home)
	if err != nil {
		return err
	}
	defer home.Close()
	ctx, cancel := context.WithTimeoutCause(context.Background(), 10*time.Second, errors.New("a node is left that can't be killed"))
	defer cancel()
	// A node holds a lock on its home until its end. When nobody holds it, nothing is left, and the number of the group may be another's:
	// on a busy machine the kernel gives it anew within minutes.
	return Wait(ctx, func() (bool, error) {
		err := syscall.Flock(int(home.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			killGroup()
			return false, nil
		}
		return err == nil, err
	})
}

// Tail returns the last lines that solstice and its node printed.
func (p *Process) Tail(lines int) string {
	text, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	all := strings.SplitAfter(strings.TrimSuffix(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}
