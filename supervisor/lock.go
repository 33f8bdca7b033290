package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"solstice"
	"solstice/internal/durable"
)

// lockHome makes sure that one supervisor and one node work on a home.
//
// The lock on the folder cosmovisor/ is the supervisor's, and ends with it. The lock on the node's home is handed
// down to the node: after a supervisor that was killed it lasts until the node and all that it started have ended. The
// folders themselves are locked, so nothing has to be written.
//
// A second supervisor is refused at once. A node that is left over was told by the kernel to stop when its
// supervisor died, and is given the grace to do so.
func (s *Supervisor) lockHome() error {
	supervised, err := lock(s.Home.Root(), 500*time.Millisecond, s.Signals, nil)
	if err != nil {
		return refusedLock(err, s.Home.Root(), "another solstice supervises this home",
			"look at it with: solstice status")
	}
	nodeLock, err := lock(s.Home.Node, max(s.Grace, time.Second), s.Signals, func() {
		s.Log.Info("the node of an earlier solstice still runs; waiting for its end", "pid", list(holders(s.Home.Node)), "at most", s.Grace)
	})
	if err != nil {
		supervised.Close()
		return refusedLock(err, s.Home.Node, "the node of an earlier solstice still runs on this home",
			"stop it with: kill -KILL "+list(holders(s.Home.Node)))
	}
	s.supervised, s.nodeLock = supervised, nodeLock
	return nil
}

// Hold keeps supervisors and nodes away from a home until release is called. It is refused while one is there.
func Hold(home solstice.Home) (release func(), err error) {
	s := &Supervisor{Home: home, Log: slog.New(slog.DiscardHandler)}
	if err := s.lockHome(); err != nil {
		return nil, err
	}
	return func() {
		s.nodeLock.Close()
		s.supervised.Close()
	}, nil
}

// lock takes the lock on a folder, trying for as long as patience lasts. waiting is called once if it has to wait.
func lock(folder string, patience time.Duration, signals <-chan os.Signal, waiting func()) (*os.File, error) {
	for deadline := time.Now().Add(patience); ; {
		f, err := durable.Lock(folder)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, durable.ErrLocked) {
			return nil, err
		}
		if waiting != nil {
			waiting()
			waiting = nil
		}
		if time.Now().After(deadline) {
			return nil, err
		}
		select {
		case sig := <-signals:
			if endsUs(sig) {
				return nil, stoppedError{sig}
			}
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func refusedLock(err error, folder, reason, hint string) error {
	var stopped stoppedError
	switch {
	case errors.As(err, &stopped):
		return err
	case !errors.Is(err, durable.ErrLocked):
		return &solstice.RefusedError{Reason: fmt.Sprintf("lock %s: %v", folder, err), Hint: lockHint(err, folder)}
	}
	if pids := holders(folder); len(pids) > 0 {
		reason += " (pid " + list(pids) + ")"
	}
	return &solstice.RefusedError{Reason: reason + ": " + folder, Hint: hint}
}

// lockHint is what to do about a home that can't be locked.
func lockHint(err error, folder string) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "create the node's home there with the node's init command, or correct --home"
	case errors.Is(err, fs.ErrPermission):
		return "give this user the right to open " + folder
	}
	return "see that " + folder + " is a folder of a local disk"
}

// holders returns the other processes that hold the lock on a folder, as far as /proc shows them.
func holders(folder string) []int { return durable.Holders(folder) }

func list(pids []int) string { return strings.Trim(fmt.Sprint(pids), "[]") }
