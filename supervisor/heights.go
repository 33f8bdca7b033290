package supervisor

import (
	"context"
	"errors"
	"strings"
	"time"

	"solstice"
	"solstice/node"
	"solstice/upgrade"
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
	node.Answer
	err error
}

// planChanged asks the node where it is when the plan file has changed: who but the node
// writes it at the height?
func (s *Supervisor) planChanged() {
	if s.process == nil || s.work != nil || !s.seePlanFile() {
		return
	}
	s.ask(&question{aboutPlan: true})
}

// listChanged asks the node where it is when the operator's list has changed: a plan whose
// height has passed meanwhile is not one that was seen ahead.
func (s *Supervisor) listChanged() {
	if s.process == nil || s.work != nil {
		return
	}
	s.live.ListChanged(s.Home, time.Now())
	s.ask(&question{aboutPlan: true})
}

// seePlanFile looks whether the plan file has changed since it was looked at last.
func (s *Supervisor) seePlanFile() (changed bool) {
	changed, news := s.live.SeePlanFile(s.Home, time.Now())
	s.keepSeen(news)
	return changed
}

func (s *Supervisor) askedAboutPlan() bool { return s.asking != nil && s.asking.aboutPlan }

// ask asks the node for its height, in the background. A question about a new plan file
// takes the place of another; nobody listens to the answer to that one.
func (s *Supervisor) ask(q *question) {
	if s.process == nil || s.asking != nil && !q.aboutPlan {
		return // act has been run, and that is what the timer was for
	}
	s.asking = q
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
		defer cancel()
		told, err := s.now().Node.Committed(ctx)
		// An RPC that is not up yet is given all the time that there is before a plan is due
		// without its word.
		for q.aboutPlan && err != nil && !errors.Is(err, node.ErrNoAddress) && ctx.Err() == nil {
			time.Sleep(askFirst)
			told, err = s.now().Node.Committed(ctx)
		}
		s.answers <- answer{q, told, err}
	}()
}

// hear takes an answer in.
func (s *Supervisor) hear(a answer) {
	if a.question != s.asking {
		return
	}
	s.asking = nil
	if s.process == nil {
		return
	}
	s.heightFault = a.err
	s.tellForeign(a.err)
	if a.err != nil {
		return
	}
	if !a.Tied {
		s.warn("the RPC's answers cannot be tied to this node; its databases are read before a switch", errors.New(a.Doubt))
	}
	before, at := s.live.Height, s.live.HeightAt
	if s.heightFault = s.live.Hear(s.Home, a.Answer, time.Now()); s.heightFault != nil {
		return
	}
	if blocks := a.Height - before.Low; before.Known() && blocks > 0 {
		s.blockTime = time.Since(at) / time.Duration(blocks)
	}
	if !before.Known() {
		s.sidecars.Retry() // what they need of the node is there
	}
	if time.Since(s.recorded) >= recordEvery {
		s.recordHeight(s.live.Height)
	}
	s.confirm(s.live.Height)
}

// tellForeign says that another node answers in the place of ours.
func (s *Supervisor) tellForeign(err error) {
	var foreign *node.ForeignError
	text := ""
	if errors.As(err, &foreign) {
		text = foreign.Error()
	}
	if s.said.anew("foreign", text) {
		s.Log.Warn("another node answers in place of this one; its answers are ignored", "err", foreign, "hint", strings.Join(foreign.Hints(), "; "))
	}
}

// confirm closes an upgrade once its height is known to be committed by the new binary. An
// answer that cannot be tied to the node confirms nothing.
func (s *Supervisor) confirm(h upgrade.Height) {
	if s.watched == nil || !h.Known() || !h.Tied {
		return
	}
	plan := s.watched.Plan
	confirmed, over, err := s.watched.See(h.Low)
	s.warn("the journal can't be written", err)
	if confirmed {
		s.Log.Info("upgrade confirmed", "plan", plan.Name, "height", h.Low)
		s.keeper.look()
		s.sidecars.Retry()
	}
	if over {
		s.Log.Info("first block after the upgrade", "plan", plan.Name, "height", h.Low)
		s.watched = nil
	}
}

// readDisk asks the databases of the stopped node what its application has committed and
// applied.
func (s *Supervisor) readDisk() error {
	var disk node.Heights
	if e := s.examining; e != nil && e.disk != nil {
		disk = *e.disk
	} else {
		disk = node.ReadHeights(s.Home, s.now().Settings)
	}
	if disk.InUse() {
		return &solstice.RefusedError{
			Reason: "another process has the node's databases open: a node that runs without solstice?",
			Hint:   "see which: fuser -v " + s.Home.Data() + "/*.db/LOCK",
		}
	}
	s.unread = false
	s.keepSeen(s.live.ReadDisk(disk, time.Now()))
	if disk.Committed.Err == nil {
		s.recordHeight(s.live.Height)
		s.confirm(s.live.Height)
	}
	return nil
}

// recordHeight keeps what is known of the height for a time without a node. What databases
// say at a start takes the place of an older record: the data may have been replaced.
func (s *Supervisor) recordHeight(height upgrade.Height) {
	if !height.Known() || !height.Tied || height.Source == upgrade.SourceRecord {
		return
	}
	s.recorded = time.Now()
	err := upgrade.WriteHeight(s.Home, upgrade.HeightRecord{
		Committed: height.Low, At: s.recorded, Databases: node.HasDatabases(s.Home, s.now().Settings),
	})
	s.warn("the height can't be recorded", err)
}

// pace is how soon the node is asked for its height again.
func (s *Supervisor) pace(d upgrade.Decision) time.Duration {
	running := time.Since(s.view.Load().Node.Since)
	height := s.live.Height
	pace := askIdle
	if len(d.Pending) > 0 || s.watched != nil {
		pace = askPending
	}
	if !height.Known() || s.watched != nil {
		// Soon after a start, and ever less: how exactly the first block is timed depends on
		// it, and how early it is known that a plan is near.
		pace = min(pace, max(running/20, askFirst))
	}
	for _, p := range d.Pending {
		// Half of the way to it, as fast as the chain is now: a node that syncs makes many
		// blocks a second.
		ahead := time.Duration(min(p.Height-1-height.Low, farAhead))
		switch {
		case height.Known() && s.blockTime > 0:
			pace = min(pace, max(ahead*s.blockTime/2, askFirst))
		case height.Known():
			pace = min(pace, askNear)
		}
	}
	return pace
}
