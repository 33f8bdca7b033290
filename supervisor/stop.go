package supervisor

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	"solstice/internal/child"
)

// stopper ends the process that ran when an upgrade began.
type stopper struct {
	s       *Supervisor
	process *child.Process // nil if none ran
}

func (n stopper) Locks() []*os.File { return []*os.File{n.s.nodeLock} }

// Stop ends the node: it is given HaltWait to end by itself, is asked by SIGTERM, and killed after Grace. It
// returns when the process and what it left behind have ended, whatever ctx says: an upgrade that is called off must not
// leave a node behind that nobody waits for.
func (n stopper) Stop(ctx context.Context) error {
	if n.process == nil {
		return nil
	}
	if err := n.end(); err != nil {
		return err
	}
	return n.s.endLeftBehind(n.process, n.s.Grace, nil)
}

func (n stopper) end() error {
	if n.s.HaltWait > 0 && n.endsWithin(n.s.HaltWait) {
		return nil
	}
	if n.s.Grace > 0 {
		if err := n.process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		if n.endsWithin(n.s.Grace) {
			return nil
		}
		n.s.Log.Warn("the node has not ended in the grace time; killing it", "grace", n.s.Grace, "pid", n.process.PID)
	}
	if err := n.process.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-n.process.Done()
	return nil
}

func (n stopper) endsWithin(d time.Duration) bool {
	select {
	case <-n.process.Done():
		return true
	case <-time.After(d):
		return false
	}
}

// killPatience is how long a killed process may take to be gone: one that waits for its disk takes a while.
const killPatience = 30 * time.Second

// endLeftBehind ends what a node's process left behind at its end, such as the real node below a wrapper script: it is
// told to stop, and killed when patience is over. Nothing may be started on the home before that.
func (s *Supervisor) endLeftBehind(process *child.Process, patience time.Duration, signals <-chan os.Signal) error {
	if !process.LeftBehind() {
		return nil
	}
	// Who has inherited the lock on the home, and is not us, was started by the node.
	s.Log.Warn("the node has left processes behind; they are told to stop", "pid", list(holders(s.Home.Node)))
	s.signalHolders(syscall.SIGTERM)
	gone, err := s.awaitGone(process, patience, signals)
	if err == nil && !gone {
		s.Log.Warn("what the node left behind has not ended in time; killing it", "pid", list(holders(s.Home.Node)), "after", patience)
		s.signalHolders(syscall.SIGKILL)
		gone, err = s.awaitGone(process, killPatience, signals)
	}
	if err == nil && !gone {
		err = fmt.Errorf("what the node left behind can't be ended: pid %s", list(holders(s.Home.Node)))
	}
	return err
}

func (s *Supervisor) signalHolders(sig syscall.Signal) {
	for _, pid := range holders(s.Home.Node) {
		_ = syscall.Kill(pid, sig) // it may have ended just now
	}
}

// awaitGone waits until nothing is left of a process. With signals it is the loop that waits.
func (s *Supervisor) awaitGone(process *child.Process, patience time.Duration, signals <-chan os.Signal) (gone bool, err error) {
	for deadline := time.Now().Add(patience); process.LeftBehind(); {
		if time.Now().After(deadline) {
			return false, nil
		}
		if signals != nil {
			s.tell()
		}
		select {
		case sig := <-signals:
			if endsUs(sig) {
				return false, stoppedError{sig}
			}
		case <-time.After(5 * time.Millisecond):
		}
	}
	return true, nil
}
