package supervisor

import (
	"context"
	"time"

	"solstice"
	"solstice/upgrade"
)

// keepBefore takes a snapshot, beside the loop, before the launch of a node that goes through a due plan by itself. It says whether
// the launch has to wait for that.
func (s *Supervisor) keepBefore(d upgrade.Decision, facts upgrade.Gathered) (wait bool) {
	if d.Keep == nil || s.process != nil || d.Keep.Is(s.keptFor) {
		return false
	}
	s.keptFor, s.keeping = *d.Keep, true
	u := &upgrade.Upgrade{
		Home: s.Home, Plan: *d.Keep, From: d.Dir, Under: facts.Under(), Height: facts.Height.Low,
		Options: s.Upgrade, Probes: &s.probes, Log: s.Log,
	}
	s.doing.Store(&solstice.Doing{Name: u.Plan.Name, Height: u.Plan.Height, Step: "snapshot", Since: time.Now()})
	s.keeper.pause()
	ctx, stop := context.WithCancelCause(context.Background())
	s.work, s.stopWork = make(chan error, 1), stop
	go func() { s.work <- u.Keep(ctx) }()
	return true
}

// kept ends what keepBefore began. The node is started without a snapshot too, since it needs us for nothing at its plan; but that
// is said.
func (s *Supervisor) kept(err error) {
	s.keeping, s.last = false, nil
	if err != nil && s.asked == nil {
		s.Log.Warn("no snapshot is taken before the plan that the node goes through by itself: there is no way back", "plan", s.keptFor.Name, "err", err)
	}
}
