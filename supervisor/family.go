package supervisor

import (
	"context"
	"time"

	"solstice/sidecar"
)

// family is the node with its sidecars: an upgrade stops and switches them as one.
type family struct{ stopper }

// Stop tells the sidecars that were started after the node to end, then the node, and when it has ended those that were started
// before it. The node does not wait for the first: at a plan of the operator's it would make blocks beyond the height meanwhile.
func (f family) Stop(ctx context.Context) error {
	others := f.s.sidecars.Stop(sidecar.After)
	if err := f.stopper.Stop(ctx); err != nil {
		return err
	}
	others()
	f.s.sidecars.Stop(sidecar.Before)()
	return nil
}

// readyBefore starts the sidecars that come before the node, from its directory, and says whether the launch has to wait for them.
// They may hold it up for as long as each has to become ready, and no longer: the node's blocks come first.
func (s *Supervisor) readyBefore(dir string) bool {
	if s.sidecars.Start(sidecar.Before, dir) {
		return true
	}
	s.last = nil // the launch is decided: it goes on when the group has changed
	return false
}

// sidecarsAfter starts the sidecars that come after the node, from its directory.
func (s *Supervisor) sidecarsAfter(dir string) { s.sidecars.Start(sidecar.After, dir) }

// stopSidecars stops what is left of the group at the end of the run, when the node has ended. The service manager is told meanwhile
// that we live.
func (s *Supervisor) stopSidecars() {
	if s.sidecars == nil {
		return
	}
	ended := make(chan struct{})
	go func() {
		s.sidecars.Stop(sidecar.After)()
		s.sidecars.Stop(sidecar.Before)()
		s.sidecars.Close()
		close(ended)
	}()
	if s.notifier.timer != nil {
		s.send("STATUS=stopping the sidecars", extend(2*s.Grace+stopMargin))
	}
	beat := time.NewTicker(s.Manager.beatEvery())
	defer beat.Stop()
	for {
		select {
		case <-ended:
			return
		case <-beat.C:
			if s.Manager.Watchdog > 0 {
				s.send("WATCHDOG=1")
			}
		}
	}
}
