package supervisor

import (
	"context"
	"fmt"

	"solstice"
	"solstice/node"
	"solstice/upgrade"
)

// examination is a node that is stopped to read its databases, because what says that a
// plan is due is not enough to move the link.
type examination struct {
	plan solstice.Plan
	disk *node.Heights // nil until they are read
}

// stopToExamine stops the running node and reads its databases, because what says that a plan is
// due is not enough to move the link. What follows is decided then: the plan is carried
// out, or the old binary is started again.
func (s *Supervisor) stopToExamine(plan solstice.Plan, reason string) {
	s.Log.Info("stopping the node to read its databases before a switch", "plan", plan.Name, "height", plan.Height, "reason", reason)
	e := &examination{plan: plan}
	s.examining = e
	s.keeper.pause()
	settings := s.now().Settings
	s.stopForWork(func(context.Context) error {
		disk := node.ReadHeights(s.Home, settings)
		e.disk = &disk
		return nil
	})
}

// examined goes on after the node was stopped to be examined.
func (s *Supervisor) examined(err error) (int, error) {
	if err != nil {
		if s.asked != nil {
			return solstice.ExitFailed, stoppedError{s.asked}
		}
		return solstice.ExitFailed, fmt.Errorf("stop the node to read its databases: %w; the next start reads them", err)
	}
	s.process, s.ended, s.unread = nil, nil, true
	if s.asked == nil {
		s.last = nil
	} else { // how the node ended is how we end
		s.warn(saidSigned, s.recordSigned())
	}
	return 0, nil
}

// noteExamined remembers that the databases of a node that was examined, or that ended for
// its plan, do not have the plan's height: the old binary is started again, once per halt.
func (s *Supervisor) noteExamined(d upgrade.Decision, facts upgrade.Gathered) {
	plan := d.Again
	if s.examining != nil {
		plan = &s.examining.plan
	}
	s.examining = nil
	if !s.live.Examined(plan, d, facts) {
		return
	}
	s.last = nil // it is started, whatever ended it
	if !facts.Applied(*plan) {
		s.Log.Warn("cannot confirm the plan height; restarting the old binary", "plan", plan.Name, "height", plan.Height,
			"committed", facts.Height.String(), "source", facts.Height.Source)
	}
}
