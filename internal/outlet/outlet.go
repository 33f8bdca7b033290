// Package outlet writes to a file that may not take what it is given, such as the pipe of a
// log that hangs, or that nobody reads any more. Who writes never waits and never fails:
// what is not taken in time is left out, counted, and told of in its place.
package outlet

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Outlet hands bytes on to a file. Its methods may be called from any goroutine; those of a
// nil Outlet do nothing.
type Outlet struct {
	file *os.File

	mu      sync.Mutex
	changed *sync.Cond
	waiting []byte // not given to the file yet
	writing int    // being given
	lost    int64  // left out, after what is waiting
	taken   int64  // by the file, ever
	broken  bool   // the file took nothing the last time; nobody waits for it
}

const (
	// ahead is how much is kept for the file, in bytes. So much is said at once only in the
	// trace of a panic, of thousands of goroutines.
	ahead = 4 << 20
	// atOnce is what a pipe takes as one, in bytes.
	atOnce = 4096
	// tryAgain is how long after an error the file is tried again: the reader of a FIFO may
	// come back.
	tryAgain = time.Second
)

// Open makes an outlet to a file of its own: writing to a pipe without a reader ends a
// program only on its own stderr (package os/signal, SIGPIPE).
func Open(file *os.File) (*Outlet, error) {
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	o := &Outlet{file: os.NewFile(uintptr(fd), file.Name())}
	o.changed = sync.NewCond(&o.mu)
	go o.write()
	return o, nil
}

// Write takes bytes, or leaves them out. It says that it took them all, as nobody can do
// anything about it. After a gap it begins again when everything before it is written, so
// that the gap is told at its place.
func (o *Outlet) Write(p []byte) (int, error) {
	if o == nil {
		return len(p), nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lost > 0 || len(o.waiting)+o.writing+len(p) > ahead {
		o.lost += int64(len(p))
	} else {
		o.waiting = append(o.waiting, p...)
	}
	o.changed.Broadcast()
	return len(p), nil
}

func (o *Outlet) write() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		for len(o.waiting) == 0 && o.lost == 0 {
			o.changed.Broadcast() // to who flushes
			o.changed.Wait()
		}
		text, lost := o.waiting, int64(0)
		if len(text) == 0 {
			lost = o.lost
			text = fmt.Appendf(nil, "\nsolstice: %d bytes dropped here: output blocked or closed\n", lost)
		}
		o.waiting, o.writing = nil, len(text)
		o.mu.Unlock()
		left, err := o.writeAll(text)
		o.mu.Lock()
		o.writing = 0
		if o.broken = err != nil; !o.broken {
			o.lost -= lost
			continue
		}
		if lost == 0 {
			o.lost += int64(left)
		}
		o.lost += int64(len(o.waiting))
		o.waiting = nil
		o.changed.Broadcast()
		o.mu.Unlock()
		time.Sleep(tryAgain)
		o.mu.Lock()
	}
}

// writeAll writes in pieces, as a file that is taken slowly takes them. A piece is of whole
// lines that a pipe takes at once, so that no other writer's words come between (pipe(7),
// PIPE_BUF). left is how much of it was not taken.
func (o *Outlet) writeAll(text []byte) (left int, err error) {
	for len(text) > 0 {
		piece := text[:min(len(text), atOnce)]
		if end := bytes.LastIndexByte(piece, '\n'); end >= 0 {
			piece = piece[:end+1]
		}
		n, err := o.file.Write(piece)
		text = text[n:]
		o.mu.Lock()
		o.taken += int64(n)
		o.changed.Broadcast() // to who flushes
		o.mu.Unlock()
		switch {
		case errors.Is(err, syscall.EAGAIN): // somebody who shares it has made it a file that does not block
			time.Sleep(10 * time.Millisecond)
		case err != nil:
			return len(text), err
		}
	}
	return 0, nil
}

// Left is how many bytes were not taken yet, in all.
func (o *Outlet) Left() int64 {
	if o == nil {
		return 0
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return int64(len(o.waiting)+o.writing) + o.lost
}

// LeaveOut tells of bytes that were left out before it was opened.
func (o *Outlet) LeaveOut(n int64) {
	if o == nil || n == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lost += n
	o.changed.Broadcast()
}

// Patience is how long a file is waited for.
type Patience struct {
	Stuck time.Duration // for as long as it takes nothing
	Whole time.Duration // in all
}

// AtEnd is for the last words of a program. What was not taken then is lost.
var AtEnd = Patience{2 * time.Second, 20 * time.Second}

// Flush waits until everything is written. A slow file, on a busy disk, is waited for
// longer than one that is stuck, and one that can't be written to is not waited for.
func (o *Outlet) Flush(p Patience) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	late := false
	giveUp := func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		late = true
		o.changed.Broadcast()
	}
	defer time.AfterFunc(p.Whole, giveUp).Stop()
	stuck := time.AfterFunc(p.Stuck, giveUp)
	defer stuck.Stop()
	for taken := o.taken; !late && !o.broken && len(o.waiting)+o.writing+int(o.lost) > 0; o.changed.Wait() {
		if o.taken > taken {
			taken = o.taken
			stuck.Reset(p.Stuck)
		}
	}
}
