// Package watch notices that a file has changed.
//
// Events of the filesystem tell it within a millisecond; a slow poll is the net below them, for
// filesystems without events. What has changed, and whether it means anything, is for the caller to
// find out: a hint is never lost, and may come for nothing.
package watch

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Stamp tells one state of a file from another: every write, replacement and removal changes it. The zero Stamp
// is that of a file that is not there or can't be looked at.
type Stamp struct {
	device, inode  uint64
	size           int64
	changed, wrote int64 // nanoseconds; the system sets the first at every change, whatever a program claims
}

// StampOf looks at a file, through symlinks.
func StampOf(path string) Stamp {
	info, err := os.Stat(path)
	if err != nil {
		return Stamp{}
	}
	s := Stamp{size: info.Size(), wrote: info.ModTime().UnixNano()}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		s.device, s.inode, s.changed = uint64(stat.Dev), stat.Ino, changeTime(stat)
	}
	return s
}

// SameContent says whether the file was not written between two stamps, as far as its
// modification time tells: at most its owner, its mode or its links have changed.
func (s Stamp) SameContent(other Stamp) bool {
	s.changed, other.changed = 0, 0
	return s == other
}

// MarshalText writes a stamp for another program to read.
func (s Stamp) MarshalText() ([]byte, error) {
	return fmt.Append(nil, s.device, s.inode, s.size, s.changed, s.wrote), nil
}

// UnmarshalText reads what MarshalText wrote.
func (s *Stamp) UnmarshalText(text []byte) error {
	_, err := fmt.Sscan(string(text), &s.device, &s.inode, &s.size, &s.changed, &s.wrote)
	return err
}

// File watches one path.
type File struct {
	path  string
	hints chan struct{}
	done  chan struct{}
	ended chan struct{}

	// Owned by run.
	events        *fsnotify.Watcher // nil where there are no events
	last          Stamp             // of the file
	above, folder Stamp             // of the folders that are watched
}

// New watches a path. Neither the file nor its folder needs to be there: the folder may appear later, be a
// symlink, or be replaced as a whole. With poll 0 there are events only. Where the system has no events left to
// give, the poll serves, and err says so: the File works all the same.
func New(path string, poll time.Duration) (f *File, err error) {
	f = &File{path: path, hints: make(chan struct{}, 1), done: make(chan struct{}), ended: make(chan struct{})}
	f.events, err = fsnotify.NewWatcher()
	if err != nil && poll == 0 {
		poll = time.Second
	}
	f.renew() // before the first look: a change after it is an event
	f.last = StampOf(path)
	go f.run(poll)
	return f, err
}

// Hints has a value after each change.
func (f *File) Hints() <-chan struct{} { return f.hints }

// Close ends the watch. The system takes some milliseconds to let go of its events, and they are over when it returns.
func (f *File) Close() {
	close(f.done)
	<-f.ended
}

func (f *File) run(poll time.Duration) {
	defer close(f.ended)
	var ticks <-chan time.Time
	if poll > 0 {
		ticker := time.NewTicker(poll)
		defer ticker.Stop()
		ticks = ticker.C
	}
	var changes <-chan fsnotify.Event
	var faults <-chan error
	if f.events != nil {
		defer f.events.Close()
		changes, faults = f.events.Events, f.events.Errors
	}
	for {
		select {
		case <-f.done:
			return
		case <-changes:
			f.renew()
		case <-faults: // an overflow of the queue: look as after an event
			f.renew()
		case <-ticks:
			if f.folder == (Stamp{}) {
				f.renew()
			}
		}
		if now := StampOf(f.path); now != f.last {
			f.last = now
			select {
			case f.hints <- struct{}{}:
			default: // one is waiting already
			}
		}
	}
}

// renew watches the folders that stand there now: the file's, and the one above it, where the folder itself appears,
// is replaced, or is a symlink that changes.
func (f *File) renew() {
	if f.events == nil {
		return
	}
	folder := filepath.Dir(f.path)
	renewOne(f.events, filepath.Dir(folder), &f.above)
	renewOne(f.events, folder, &f.folder)
}

func renewOne(events *fsnotify.Watcher, folder string, last *Stamp) {
	now := StampOf(folder)
	now.size, now.changed, now.wrote = 0, 0, 0 // which folder it is, not what is in it
	if now == *last {
		return
	}
	*last = Stamp{}
	_ = events.Remove(folder) // not watched any more when the old folder is gone
	if now != (Stamp{}) && events.Add(folder) == nil {
		*last = now
	}
}
