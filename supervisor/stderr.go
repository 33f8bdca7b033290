package supervisor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"solstice/crash"
	"solstice/internal/child"
	"solstice/internal/outlet"
)

// stderr reads what a node writes to its stderr, so that a crash can be named by its words, and hands it on to ours.
//
// A node never waits for us. What our stderr does not take is left out. The pipe is so large that a node whose supervisor was killed can say what
// it has to say at its end, and the node holds the reading end too: with no reader left, a write to stderr would kill a Go program
// (SIGPIPE, package os/signal). One that then says more than fits waits for the next supervisor to end it.
type stderr struct {
	from *os.File // the reading end of the pipe. A process that takes this one's place can go on reading there
	to   *outlet.Outlet

	mu   sync.Mutex
	tail crash.Tail
	size atomic.Int64 // of all that was read

	stopped atomic.Bool
	looked  chan struct{} // all is read that was in the pipe; somebody has asked
	ended   chan struct{} // nothing is read any more
	over    bool          // nobody can write to the pipe any more; set before ended is closed
}

// pipeSize is what the pipe is to hold: what a user without privileges may ask for (pipe(7), pipe-max-size).
const pipeSize = 1 << 20

// startNode starts the node's command. What the kernel counts then, and its stderr where that is read, name a crash later.
func (s *Supervisor) startNode(cmd *exec.Cmd) (*child.Process, error) {
	s.binary, s.kills, s.stderr, s.crash = cmd.Path, crash.CountKills(), nil, nil
	if !s.ReadStderr {
		return child.Start(cmd, syscall.SIGTERM)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("its stderr can't be read: %w", err)
	}
	defer writer.Close()
	defer reader.Close()
	enlarge(writer, pipeSize)
	cmd.Stderr, cmd.ExtraFiles = writer, append(cmd.ExtraFiles, reader)
	process, err := child.Start(cmd, syscall.SIGTERM)
	if err != nil {
		return nil, err
	}
	if s.stderr, err = readStderr(reader, s.Out); err != nil {
		_ = process.Signal(syscall.SIGKILL) // nobody would read
		return nil, err
	}
	return process, nil
}

// readStderr begins to read a pipe, and goes on until nobody can write to it any more. It uses a file of its own: to hand one down has made
// that a blocking one (os.File.Fd), and a look must not have to wait.
func readStderr(pipe *os.File, to *outlet.Outlet) (*stderr, error) {
	fd, err := unix.FcntlInt(pipe.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		return nil, fmt.Errorf("its stderr can't be read: %w", err)
	}
	r := &stderr{from: os.NewFile(uintptr(fd), "stderr of the node"), to: to, looked: make(chan struct{}, 1), ended: make(chan struct{})}
	go r.read()
	return r, nil
}

func (r *stderr) read() {
	defer close(r.ended)
	buf := make([]byte, 64<<10)
	for !r.stopped.Load() {
		n, err := r.from.Read(buf)
		r.take(buf[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = r.empty(buf)
		}
		if err != nil {
			r.from.Close()
			r.over = true
			return
		}
	}
}

// stop ends the reading, and returns where another can go on with it: nil if nobody can write any more. What was read is on its way.
func (r *stderr) stop() (pipe *os.File) {
	r.stopped.Store(true)
	r.said() // it wakes the reader
	<-r.ended
	if r.over {
		return nil
	}
	return r.from
}

// readOn goes on reading what the node says where another has stopped, also if no node that is started from now on is read.
func (s *Supervisor) readOn(pipe *os.File) (err error) {
	defer pipe.Close()
	s.stderr, err = readStderr(pipe, s.Out)
	return err
}

// empty reads what is in the pipe, without waiting for more.
func (r *stderr) empty(buf []byte) error {
	defer func() { r.looked <- struct{}{} }()
	if err := r.from.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	raw, err := r.from.SyscallConn()
	if err != nil {
		return err
	}
	for left := pipeSize; left > 0; { // what the node left behind may go on writing
		var n int
		var readErr error
		if err := raw.Read(func(fd uintptr) bool {
			n, readErr = unix.Read(int(fd), buf)
			return true
		}); err != nil {
			return err
		}
		if n <= 0 {
			if n == 0 || readErr == unix.EAGAIN || readErr == unix.EINTR {
				return nil // at its end the next read tells
			}
			return readErr
		}
		r.take(buf[:n])
		left -= n
	}
	return nil
}

func (r *stderr) take(p []byte) {
	if len(p) == 0 {
		return
	}
	r.mu.Lock()
	_, _ = r.tail.Write(p)
	r.mu.Unlock()
	_, _ = r.to.Write(p) // it takes everything
	r.size.Add(int64(len(p)))
}

// said is what a node that has ended has said.
func (r *stderr) said() crash.Said {
	r.look()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tail.Said()
}

// look waits until all is read that is in the pipe. On a busy machine a full one takes longer than a second.
func (r *stderr) look() {
	_ = r.from.SetReadDeadline(time.Now()) // it wakes the reader
	for range 20 {
		size := r.size.Load()
		select {
		case <-r.looked:
			return
		case <-r.ended:
			return
		case <-time.After(time.Second):
			if r.size.Load() == size {
				return // a pipe that can't be woken; what was read serves
			}
		}
	}
}

// handOn reads all that was said up to now: what we say next stands below it.
func (s *Supervisor) handOn() {
	if s.stderr != nil {
		s.stderr.said()
	}
}
