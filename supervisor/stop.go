package supervisor

import (
	"context"
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
	if n.process != nil {
		if err := n.end(); err != nil {
			return err
		}
	}
	return n.s.regainLock(n.s.Grace, nil)
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
