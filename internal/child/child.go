// Package child starts processes that don't outlive their purpose.
//
// Each child is told by the kernel when its parent dies (Linux). The signal is tied to the thread that
// started the child, so that thread does nothing else until the child has ended.
package child

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is one started child.
type Process struct {
	PID  int
	cmd  *exec.Cmd
	done chan struct{}
	end  End      // set before done is closed
	kin  *os.File // the reading end of a pipe whose other end the child and all that it starts inherit
}

// End says how a process ended.
type End struct {
	Code   int            // exit code, when Signal is 0
	Signal syscall.Signal // what killed it, else 0
	At     time.Time
}

// ExitCode is the code that a shell would report: the process's own, or 128 plus the signal.
func (e End) ExitCode() int {
	if e.Signal != 0 {
		return 128 + int(e.Signal)
	}
	return e.Code
}

func (e End) String() string {
	if e.Signal != 0 {
		return fmt.Sprintf("killed by signal %d (%v)", int(e.Signal), e.Signal)
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// Start starts a command whose streams are files or nil. The kernel sends the child onParentDeath when this
// process dies, in whatever way. The child inherits one file more than the command names.
func Start(cmd *exec.Cmd, onParentDeath syscall.Signal) (*Process, error) {
	return start(cmd, onParentDeath, "")
}

// start is Start; a command that is confined can change files in that folder only.
func start(cmd *exec.Cmd, onParentDeath syscall.Signal, confined string) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	setParentDeath(cmd.SysProcAttr, onParentDeath)
	kin, inherited, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer inherited.Close()
	cmd.ExtraFiles = append(slices.Clip(cmd.ExtraFiles), inherited)
	p := &Process{cmd: cmd, done: make(chan struct{}), kin: kin}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		var err error
		if confined != "" {
			err = confineThread(confined)
		}
		if err == nil {
			err = own.start(cmd)
		}
		if err == nil {
			p.PID = cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // how it ended is in ProcessState
		own.ended(p.PID)
		p.end = End{Code: cmd.ProcessState.ExitCode(), At: time.Now()}
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			p.end = End{Signal: status.Signal(), At: p.end.At}
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		kin.Close()
		return nil, err
	}
	return p, nil
}

// LeftBehind says whether a process that this one started, itself or through others, still runs. Call it after Done. It
// sees those that keep the files that they inherit; a daemon that closes them all has left for good.
func (p *Process) LeftBehind() bool {
	events := []unix.PollFd{{Fd: int32(p.kin.Fd()), Events: unix.POLLIN}}
	for {
		// A signal that is pending interrupts also a poll that does not wait, and the Go runtime sends itself many.
		if _, err := unix.Poll(events, 0); err != unix.EINTR {
			return err != nil || events[0].Revents&unix.POLLHUP == 0
		}
	}
}

// Done is closed when the process has ended and is reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// End says how the process ended. Call it after Done.
func (p *Process) End() End { return p.end }

// Signal sends a signal. A process that has ended is no error, and never another process that got its number.
func (p *Process) Signal(sig os.Signal) error {
	err := p.cmd.Process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Run runs a command to its end and gives each line that it prints on either stream to line. When it ends, when
// ctx is done or when limit is over, the command and all its children in its process group are killed. The
// error is for a command that could not be run to its own end.
func Run(ctx context.Context, cmd *exec.Cmd, limit time.Duration, line func(string)) (End, error) {
	return run(ctx, cmd, "", limit, line)
}

// RunConfined is Run for a program that is not trusted yet. It can read, but changes no file outside of dir, uses no TCP and
// signals no other process, as far as this kernel's Landlock can prevent it (see CanConfine); and it yields to others when
// the processor or memory gets scarce.
func RunConfined(ctx context.Context, cmd *exec.Cmd, dir string, limit time.Duration, line func(string)) (End, error) {
	return run(ctx, cmd, dir, limit, line)
}

func run(ctx context.Context, cmd *exec.Cmd, confined string, limit time.Duration, line func(string)) (End, error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return End{}, err
	}
	cmd.Stdout, cmd.Stderr = writer, writer
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p, err := start(cmd, syscall.SIGKILL, confined)
	writer.Close()
	if err != nil {
		reader.Close()
		return End{}, err
	}
	if confined != "" {
		limitProcess(p.PID)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(reader)
		lines.Buffer(nil, 64<<10)
		lines.Split(scanLines)
		for lines.Scan() {
			line(lines.Text())
		}
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var cause error
	select {
	case <-p.Done():
	case <-ctx.Done():
		cause = context.Cause(ctx)
	case <-timer.C:
		cause = fmt.Errorf("not done after %v", limit)
	}
	_ = syscall.Kill(-p.PID, syscall.SIGKILL) // ESRCH when nothing of it is left
	<-p.Done()
	// A child that left the group may hold the pipe open; what it says no more interests us.
	_ = reader.SetReadDeadline(time.Now().Add(time.Second))
	<-read
	reader.Close()
	p.kin.Close()
	return p.End(), cause
}

// scanLines is bufio.ScanLines that cuts a line in two rather than fail when it is longer than the buffer.
func scanLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	advance, token, err = bufio.ScanLines(data, atEOF)
	if advance == 0 && len(data) >= 32<<10 {
		return len(data), data, nil
	}
	return advance, token, err
}

// own knows the children that somebody waits for, so that a reaper leaves them alone.
var own = children{pids: map[int]bool{}}

type children struct {
	sync.Mutex
	pids map[int]bool
}

func (c *children) start(cmd *exec.Cmd) error {
	c.Lock()
	defer c.Unlock()
	err := cmd.Start()
	if err == nil {
		c.pids[cmd.Process.Pid] = true
	}
	return err
}

func (c *children) ended(pid int) {
	c.Lock()
	defer c.Unlock()
	delete(c.pids, pid)
}
