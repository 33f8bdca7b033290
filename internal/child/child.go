// Package child starts processes that don't outlive their purpose.
//
// Each child is told by the kernel when its parent dies (Linux). The signal is tied to the thread that
// started the child, so one thread starts them all (Main). It lives as long as the process does, and longer than this
// program, which another can replace while its children run on (Replace, Adopt).
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
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is one started child.
type Process struct {
	PID     int
	process *os.Process
	done    chan struct{}
	end     End        // set before done is closed
	kin     *os.File   // the reading end of a pipe whose other end the child and all that it starts inherit
	reaping sync.Mutex // held by who reaps it, or by who keeps it from being reaped
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
	p := &Process{done: make(chan struct{}), kin: kin}
	if confined != "" {
		err = startConfined(cmd, confined, p.done)
	} else {
		onMain(func() { err = own.start(cmd) })
	}
	if err != nil {
		kin.Close()
		return nil, err
	}
	p.PID, p.process = cmd.Process.Pid, cmd.Process
	go p.wait()
	return p, nil
}

// startConfined starts a command on a thread of its own, since a thread can't get back what confines it. The thread ends after
// the command.
func startConfined(cmd *exec.Cmd, dir string, ended <-chan struct{}) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		err := confineThread(dir)
		if err == nil {
			err = own.start(cmd)
		}
		started <- err
		if err == nil {
			<-ended
		}
	}()
	return <-started
}

// wait reaps the child when it has ended, unless somebody keeps it from that.
func (p *Process) wait() {
	awaitEnd(p.PID)
	p.reaping.Lock()
	defer p.reaping.Unlock()
	state, err := p.process.Wait()
	own.ended(p.PID)
	p.end = End{Code: -1, At: time.Now()} // of a child that somebody else has reaped, which nobody should
	if err == nil {
		p.end.Code = state.ExitCode()
		if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			p.end = End{Signal: status.Signal(), At: p.end.At}
		}
	}
	close(p.done)
}

// toMain has what is to be done on the thread that Main was called on.
var (
	toMain = make(chan func())
	served atomic.Bool // by Main
)

// Main calls run in a goroutine of its own, and starts all children on the thread that it is called on, which must be the
// process's first: lock it in an init function. It returns what run returns.
func Main(run func() int) (code int) {
	served.Store(true)
	ended := make(chan int)
	go func() { ended <- run() }()
	for {
		select {
		case do := <-toMain:
			do()
		case code := <-ended:
			return code
		}
	}
}

// standIn serves where Main does not, as in tests: a thread that lives as long as the process.
var standIn = sync.OnceFunc(func() {
	go func() {
		runtime.LockOSThread()
		for do := range toMain {
			do()
		}
	}()
})

// onMain does something on the thread that starts the children, and waits for it.
func onMain(do func()) {
	if !served.Load() {
		standIn()
	}
	done := make(chan struct{})
	toMain <- func() {
		defer close(done)
		do()
	}
	<-done
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

// Kin is the open file by which LeftBehind sees what it sees.
func (p *Process) Kin() *os.File { return p.kin }

// Hand keeps the child from being reaped, so that the program that is going to replace this one finds it even if it ends. It
// says whether the child has not been reaped before. Call Keep if nothing comes of it.
func (p *Process) Hand() bool {
	p.reaping.Lock()
	select {
	case <-p.done:
		p.reaping.Unlock()
		return false
	default:
		return true
	}
}

// Keep undoes Hand.
func (p *Process) Keep() { p.reaping.Unlock() }

// Done is closed when the process has ended and is reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// End says how the process ended. Call it after Done.
func (p *Process) End() End { return p.end }

// Signal sends a signal. A process that has ended is no error, and never another process that got its number.
func (p *Process) Signal(sig os.Signal) error {
	err := p.process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Run runs a command to its end and gives each line that it prints on either stream to
// line. When it ends, when ctx is done or when limit is over (0: there is none), the
// command and all its children in its process group are killed. The error is for a command
// that could not be run to its own end.
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
	var over <-chan time.Time // never without a limit
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		over = timer.C
	}
	var cause error
	select {
	case <-p.Done():
	case <-ctx.Done():
		cause = context.Cause(ctx)
	case <-over:
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
	restore := unblockSignals()
	err := cmd.Start()
	restore()
	if err == nil {
		c.pids[cmd.Process.Pid] = true
	}
	return err
}

func (c *children) adopt(pid int) {
	c.Lock()
	defer c.Unlock()
	c.pids[pid] = true
}

func (c *children) ended(pid int) {
	c.Lock()
	defer c.Unlock()
	delete(c.pids, pid)
}
