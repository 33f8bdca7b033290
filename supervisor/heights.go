package supervisor

import (
	"context"
	"errors"
	"fmt"
	"strings"
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

// maxPace is how many blocks a second a node could make at most, also while it fetches old
// ones from its peers. What a height says about a later moment is bounded by it.
const maxPace = 10_000

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

// seePlanFile compares the plan file with what it was when it was looked at last. What the
// node told before says less now: it may have made blocks since. A plan that is ahead of
// the chain is noted at once, before a late answer could hide that it was.
func (s *Supervisor) seePlanFile() (changed bool) {
	now := watch.StampOf(s.Home.PlanFile())
	if now == s.live.PlanAt {
		return false
	}
	s.live.PlanAt, s.live.Written = now, true
	plan, err := solstice.ReadPlan(s.Home.PlanFile())
	if err == nil && s.live.Height.Tied && s.live.Height.Below(plan.Height) {
		s.noteSeen(s.live.Seen.SawAhead(plan))
	}
	s.loosenHeight()
	return true
}

// loosenHeight turns what the node told into what that says of now: it may have made more
// blocks since. A node that told the block before its plan's makes no more.
func (s *Supervisor) loosenHeight() {
	h := &s.live.Height
	if !h.Known() {
		return
	}
	if s.process == nil && !h.Tied {
		*h = upgrade.Height{} // of a node that has ended it says nothing: it may be another's
		return
	}
	if plan, err := solstice.ReadPlan(s.Home.PlanFile()); err == nil && s.live.Written && h.Low == plan.Height-1 && h.High == h.Low {
		return
	}
	h.High = upgrade.Unbounded
	if h.Tied && !s.live.Fetching {
		h.High = h.Low + maxPace + int64(time.Since(s.live.HeightAt).Seconds()*maxPace)
	}
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
		if err := s.doubt(a.Height); err != nil {
			s.heightFault = err
			return
		}
	}
	before := s.live.Height
	if blocks := a.Height - before.Low; before.Known() && blocks > 0 {
		s.blockTime = time.Since(s.live.HeightAt) / time.Duration(blocks)
	}
	if a.Height != before.Low || !before.Known() {
		s.live.HeightAt = time.Now()
	}
	if !before.Known() {
		s.sidecars.Retry() // what they need of the node is there
	}
	s.live.Height = upgrade.Height{Low: a.Height, High: a.AtMost, Source: upgrade.SourceNode, Tied: a.Tied}
	s.seeWriter()
	if time.Since(s.recorded) >= recordEvery {
		s.recordHeight()
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

// seeWriter sees who wrote the plan file: a node writes it when it halts, one block below
// the plan's height. With a node that is further below, other hands did.
func (s *Supervisor) seeWriter() {
	if !s.live.Written || !s.live.Height.Tied {
		return
	}
	if plan, err := solstice.ReadPlan(s.Home.PlanFile()); err == nil && s.live.Height.Below(plan.Height-1) {
		s.live.Written = false
	}
}

// doubt says why a height that cannot be tied to the node is not believed: it goes back,
// or jumps further than any node could.
func (s *Supervisor) doubt(height int64) error {
	last, at := s.live.Height.Low, s.live.HeightAt
	if !s.live.Height.Known() {
		record, err := upgrade.ReadHeight(s.Home)
		if err != nil {
			return nil // nothing to compare with
		}
		last, at = record.Committed, record.At
	}
	most := last + maxPace + int64(max(time.Since(at).Seconds(), 0)*maxPace)
	if height < last || height > most {
		return fmt.Errorf("the RPC says height %d, and the last one known was %d: it may be another node's", height, last)
	}
	return nil
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
	s.live.SetDisk(disk)
	s.unread = false
	if disk.Committed.Err == nil {
		if disk.Upgrades.Err == nil {
			s.noteSeen(s.live.Seen.SawSchedule(disk.Upgrades.Scheduled, disk.Committed.Height))
		}
		s.live.Height, s.live.HeightAt = upgrade.Exactly(disk.Committed.Height, upgrade.SourceApplication), time.Now()
		s.recordHeight()
		s.confirm(s.live.Height)
	}
	return nil
}

// recordHeight keeps the last height that was told for a time without a node.
func (s *Supervisor) recordHeight() {
	if !s.live.Height.Known() || !s.live.Height.Tied {
		return
	}
	s.recorded = time.Now()
	err := upgrade.WriteHeight(s.Home, upgrade.HeightRecord{
		Committed: s.live.Height.Low, At: s.recorded, Databases: node.HasDatabases(s.Home, s.now().Settings),
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
