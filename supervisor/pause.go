package supervisor

import (
	"context"
	"fmt"
	"time"

	"solstice"
	"solstice/snapshot"
	"solstice/upgrade"
)

// pause is a snapshot that somebody has asked for while the node runs: it is stopped, the snapshot is taken, and it is started again.
type pause struct {
	name  string
	reply chan<- reply[solstice.Paused] // has room for one
	taken solstice.Paused
}

// Snapshot stops the node, takes a snapshot whose ID begins with name, and starts the node again. It is refused where the node would not
// be started again as it was: without a node, during an upgrade, and while a plan is due.
func (s *Supervisor) Snapshot(ctx context.Context, name string) (solstice.Paused, error) {
	replies := make(chan reply[solstice.Paused], 1)
	return request(ctx, s, s.pauses, &pause{name: name, reply: replies}, replies)
}

// beginPause stops the node and takes the snapshot, beside the loop.
func (s *Supervisor) beginPause(p *pause) {
	refuse := func(format string, values ...any) {
		p.reply <- reply[solstice.Paused]{err: &solstice.RefusedError{Reason: fmt.Sprintf(format, values...), Hint: "see what it does: solstice status"}}
	}
	switch {
	case s.work != nil:
		refuse("the node is being stopped already: an upgrade or a snapshot is under way")
		return
	case s.process == nil || s.asked != nil:
		refuse("no node is running that could be stopped for a moment")
		return
	}
	if _, d, err := s.decide(); err != nil || d.Action != upgrade.Launch {
		refuse("plan %s is due: the node would not be started again as it was", d.Plan)
		return
	}
	if err := s.store().Room(); err != nil {
		refuse("there is no room for the snapshot, so the node was not stopped: %v", err)
		return
	}
	s.Log.Info("the node is stopped for a snapshot that was asked for", "name", p.name)
	s.keeper.pause()
	ctx, stop := context.WithCancelCause(context.Background())
	s.work, s.stopWork, s.paused = make(chan error, 1), stop, p
	node := stopper{s, s.process}
	go func() {
		began := time.Now()
		err := node.Stop(ctx)
		if err == nil {
			err = s.takePaused(ctx, p)
		}
		p.taken.Stopped = solstice.Seconds(time.Since(began))
		s.work <- err
	}()
}

// takePaused takes the snapshot of the stopped node.
func (s *Supervisor) takePaused(ctx context.Context, p *pause) error {
	label, err := upgrade.LabelStopped(s.Home, s.now().Settings)
	if err != nil {
		return err
	}
	taken, err := s.store().Take(ctx, snapshot.ID(p.name, label.Height, time.Now()), label, nil)
	p.taken.ID = taken.ID
	return err
}

// endPause answers who has asked. What follows is decided as at any start: the node is launched again, also without a snapshot, unless
// somebody has asked for the end meanwhile.
func (s *Supervisor) endPause(err error) {
	p := s.paused
	s.paused = nil
	next := "the node is started again"
	if s.asked != nil {
		next = "the node stays stopped, as solstice was told to end"
	}
	if err != nil {
		s.Log.Error("the snapshot that was asked for can't be taken; "+next, "err", err)
	} else {
		s.Log.Info("snapshot taken; "+next, "id", p.taken.ID, "stopped", time.Duration(p.taken.Stopped))
	}
	s.unread = true
	p.reply <- reply[solstice.Paused]{p.taken, err}
}
