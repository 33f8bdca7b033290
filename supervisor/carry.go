package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"solstice"
	"solstice/upgrade"
)

// carryOut starts the upgrade. The node is not touched before it stands in the journal.
func (s *Supervisor) carryOut(d upgrade.Decision, facts upgrade.Gathered) (done bool, code int, err error) {
	if s.live.Written && !facts.IsManual(d.Plan) {
		// The node has committed that before it wrote its plan, whether it was asked or not.
		s.confirm(upgrade.Exactly(d.Plan.Height-1, upgrade.SourceNode))
	}
	u := &upgrade.Upgrade{
		Home: s.Home, Plan: d.Plan, Dir: d.Dir, From: facts.InUse(), Under: facts.Under(), Height: facts.Height.Low,
		Manual: facts.IsManual(d.Plan), Halted: s.halted(d.Plan, facts),
		Options: s.Upgrade, Node: family{stopper{s, s.process}}, Probes: &s.probes, Log: s.Log, Ended: s.recordSigned,
		Doing: func(step string) {
			s.doing.Store(&solstice.Doing{Name: d.Plan.Name, Height: d.Plan.Height, Step: step, Since: time.Now()})
		},
	}
	if err := u.Begin(); errors.Is(err, upgrade.ErrCancelled) {
		s.lookAgainIn(0) // and find it gone
		return false, 0, nil
	} else if err != nil && s.process == nil && s.live.Written {
		// The node was stopped for this, or ended by itself: there is nothing else to start.
		s.wait(fmt.Sprintf("upgrade %q can't begin: %v", d.Plan.Name, err), "nothing was changed; this is tried again")
		s.lookAgainIn(tryAgain)
		return false, 0, nil
	} else if err != nil {
		return s.keepOrRefuse(fmt.Errorf("upgrade %q can't begin: %w", d.Plan.Name, err))
	}
	s.watched, s.unread, s.live.Retried = nil, false, nil // from here on the journal speaks of this upgrade, and after it there is no need to look
	s.said.anew(saidWaiting, "")
	s.Log.Info("upgrading", "plan", d.Plan.Name, "height", d.Plan.Height, "from", facts.InUse(), "to", d.Dir)
	if preferred := s.Home.DirNames(d.Plan.Name)[0]; filepath.Base(d.Dir) != preferred {
		s.Log.Warn("the plan's folder has another case than it should have; it is the only one, so it is used", "path", d.Dir, "should be", preferred)
	}
	s.keeper.pause()
	ctx, stop := context.WithCancelCause(context.Background())
	s.work, s.stopWork = make(chan error, 1), stop
	go func() { s.work <- u.Run(ctx) }()
	return false, 0, nil
}

// stopForWork stops the node with its sidecars, beside the loop, and then does the work.
func (s *Supervisor) stopForWork(then func(ctx context.Context) error) {
	ctx, stop := context.WithCancelCause(context.Background())
	s.work, s.stopWork = make(chan error, 1), stop
	node := family{stopper{s, s.process}}
	go func() {
		err := node.Stop(ctx)
		if err == nil {
			err = then(ctx)
		}
		s.work <- err
	}()
}

// halted is when the node wrote the plan file, or zero: a running node that has not written it has not halted.
func (s *Supervisor) halted(plan solstice.Plan, facts upgrade.Gathered) time.Time {
	if facts.File == nil || !facts.File.Is(plan) || s.process != nil && !s.live.Written {
		return time.Time{}
	}
	info, err := os.Stat(s.Home.PlanFile())
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// upgradeFailed ends the run: the old link is in place, or the new one with everything that belongs to it.
func (s *Supervisor) upgradeFailed(err error) (int, error) {
	if s.asked != nil {
		return solstice.ExitFailed, stoppedError{s.asked}
	}
	return solstice.ExitFailed, fmt.Errorf("%w; the next start goes on with this upgrade", err)
}
