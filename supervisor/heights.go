package supervisor

import (
	"context"
	"errors"
	"time"

	"solstice"
	"solstice/node"
	"solstice/upgrade"
	"solstice/watch"
)

const (
	askTimeout  = time.Second            // a node that takes longer to tell its height does not answer
	askFirst    = 20 * time.Millisecond  // how often it is asked at most: close to a plan's height, and right after a start
	askNear     = 100 * time.Millisecond // when a plan is known, and not yet how fast the chain is
	askPending  = time.Second            // when a plan is known
	askIdle     = 5 * time.Second        // else
	farAhead    = 1000                   // blocks; how soon it is asked does not depend on how many more there are
	recordEvery = 30 * time.Second       // how often the height is written to disk
)

// question is one request for the node's height.
type question struct {
	aboutPlan bool // it was asked after the plan file changed: no decision before the answer
}

type answer struct {
	*question
	height int64
	err    error
}

// planChanged asks the node where it is when the plan file has changed: who but the node writes it at the height?
func (s *Supervisor) planChanged() {
	if s.process == nil || s.work != nil || !s.seePlanFile() {
		return
	}
	s.ask(&question{aboutPlan: true})
}

// seePlanFile compares the plan file with what it was when the node was started.
func (s *Supervisor) seePlanFile() (changed bool) {
	now := watch.StampOf(s.Home.PlanFile())
	if now == s.planAt {
		return false
	}
	s.planAt, s.written, s.heard.Answered = now, true, false
	return true
}

func (s *Supervisor) askedAboutPlan() bool { return s.asking != nil && s.asking.aboutPlan }

// ask asks the node for its height, in the background. A question about a new plan file takes the place of another;
// nobody listens to the answer to that one.
func (s *Supervisor) ask(q *question) {
	if s.process == nil || s.asking != nil && !q.aboutPlan {
		return // act has been run, and that is what the timer was for
	}
	s.asking = q
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
		defer cancel()
		height, err := s.Node.Committed(ctx)
		// An RPC that is not up yet is given all the time that there is before a plan is due without its word.
		for q.aboutPlan && err != nil && !errors.Is(err, node.ErrNoAddress) && ctx.Err() == nil {
			time.Sleep(askFirst)
			height, err = s.Node.Committed(ctx)
		}
		s.answers <- answer{q, height, err}
	}()
}

// hear takes an answer in.
func (s *Supervisor) hear(a answer) {
	if a.question != s.asking {
		return
	}
	s.asking = nil
	if a.err != nil || s.process == nil {
		return
	}
	if blocks := a.height - s.heard.Committed; s.heard.Known && blocks > 0 {
		s.blockTime = time.Since(s.heardAt) / time.Duration(blocks)
	}
	if a.height != s.heard.Committed || !s.heard.Known {
		s.heardAt = time.Now()
	}
	if !s.heard.Known {
		s.sidecars.Retry() // what they need of the node is there
	}
	s.heard = upgrade.Height{Committed: a.height, Known: true, Answered: true}
	if time.Since(s.recorded) >= recordEvery {
		s.recordHeight()
	}
	s.confirm(s.heard.Committed)
}

// confirm closes an upgrade once a block beyond its height is known to be committed.
func (s *Supervisor) confirm(committed int64) {
	if s.watched == nil {
		return
	}
	confirmed, err := s.watched.See(committed)
	s.warn("the journal can't be written", err)
	if confirmed {
		s.Log.Info("upgrade confirmed: a block beyond its height is committed", "plan", s.watched.Plan.Name, "height", committed)
		s.watched = nil
		s.sidecars.Retry()
		s.keeper.look()
	}
}

// readDisk asks the databases of the stopped node what its application has committed and been through.
func (s *Supervisor) readDisk() error {
	disk := node.ReadHeights(s.Home, s.Settings)
	if disk.InUse() {
		return &solstice.RefusedError{
			Reason: "another process has the node's databases open: a node that runs without solstice?",
			Hint:   "see which: fuser -v " + s.Home.Data() + "/*.db/LOCK",
		}
	}
	s.disk, s.done, s.unseen = &disk, disk.Upgrades.Done, false
	if disk.Committed.Err == nil {
		s.heard = upgrade.Height{Committed: disk.Committed.Height, Known: true, Answered: true}
		s.recordHeight()
		s.confirm(s.heard.Committed)
	}
	return nil
}

// recordHeight keeps the last height that was heard for a time without a node.
func (s *Supervisor) recordHeight() {
	if !s.heard.Known {
		return
	}
	s.recorded = time.Now()
	err := upgrade.WriteHeight(s.Home, upgrade.HeightRecord{Committed: s.heard.Committed, At: s.recorded, Databases: node.HasDatabases(s.Home, s.Settings)})
	s.warn("the height can't be recorded", err)
}

// pace is how soon the node is asked for its height again.
func (s *Supervisor) pace(d upgrade.Decision) time.Duration {
	running := time.Since(s.view.Load().Node.Since)
	pace := askIdle
	if len(d.Pending) > 0 || s.watched != nil {
		pace = askPending
	}
	if !s.heard.Known || s.watched != nil {
		// Soon after a start, and ever less: how exactly the first block is timed depends on it, and how early it is
		// known that a plan is near.
		pace = min(pace, max(running/20, askFirst))
	}
	for _, p := range d.Pending {
		// Half of the way to it, as fast as the chain is now: a node that syncs makes many blocks a second.
		ahead := time.Duration(min(p.Height-1-s.heard.Committed, farAhead))
		switch {
		case s.heard.Known && s.blockTime > 0:
			pace = min(pace, max(ahead*s.blockTime/2, askFirst))
		case s.heard.Known:
			pace = min(pace, askNear)
		}
	}
	return pace
}
