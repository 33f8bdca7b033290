package child

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Replace executes another program in place of this one: it has the same process, the same children and the files in keep, and
// all else of this one is gone. It returns only if that can't be done, and then nothing has changed. Main has to be at work, and
// no child may be confined that should live on.
//
// SIGUSR1 and SIGUSR2 wait for the other program. (If this one is the first of its process, they do so once its other threads are gone:
// the Go runtime has started these with nothing blocked.) SIGTERM, SIGINT, SIGQUIT and SIGHUP can't be made to wait for a Go program: the
// runtime unblocks them (runtime.minitSignalMask) before anything can ask to be notified. Until then they end it, and its children are
// told of its death. Ask no more to be notified before you call Replace (signal.Stop): then they end this program just so, and none is
// swallowed by it in its last moment.
func Replace(path string, args, env []string, keep []*os.File) (err error) {
	if !served.Load() {
		return errors.New("the children were not started by the first thread")
	}
	onMain(func() { err = replace(path, args, env, keep) })
	return err
}

func replace(path string, args, env []string, keep []*os.File) error {
	var before unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &waiting, &before); err != nil {
		return os.NewSyscallError("rt_sigprocmask", err)
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	for _, f := range keep {
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
	}
	err := syscall.Exec(path, args, env)
	for _, f := range keep {
		unix.CloseOnExec(int(f.Fd()))
	}
	return &os.PathError{Op: "execute", Path: path, Err: err}
}

// Adopt makes a child of this process, which a program that was replaced has started, a child as of this one. kin is what Kin was
// there.
func Adopt(pid int, kin *os.File) (*Process, error) {
	var info unix.Siginfo
	if err := retry(func() error { return unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) }); err != nil {
		return nil, fmt.Errorf("process %d is no child of this one: %w", pid, err)
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return nil, err
	}
	own.adopt(pid)
	p := &Process{PID: pid, process: process, done: make(chan struct{}), kin: kin}
	go p.wait()
	return p, nil
}

// awaitEnd waits until a child has ended, and does not reap it.
func awaitEnd(pid int) {
	_ = retry(func() error { return unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) }) // ECHILD: reaped by somebody else
}

// retry tries what a signal has interrupted again: the Go runtime sends itself many.
func retry(do func() error) error {
	for {
		if err := do(); err != unix.EINTR {
			return err
		}
	}
}

// waiting are the signals that a program is started with blocked when it takes the place of another. All its threads block them but one, by
// which the Go runtime gets them.
var waiting = func() (set unix.Sigset_t) {
	set.Val[0] = 1<<(syscall.SIGUSR1-1) | 1<<(syscall.SIGUSR2-1) // the lowest bits are in the first word
	return set
}()

// unblockSignals unblocks them on this thread, for a child that it starts, until restore is called.
func unblockSignals() (restore func()) {
	var before unix.Sigset_t
	_ = unix.PthreadSigmask(unix.SIG_UNBLOCK, &waiting, &before) // it fails only for a how that it doesn't know
	return func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) }
}
