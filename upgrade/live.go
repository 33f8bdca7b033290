package upgrade

import (
	"fmt"
	"slices"
	"time"

	"solstice"
	"solstice/node"
	"solstice/watch"
)

// Live is what only a running supervisor knows, besides what Gather finds on disk. It is
// one value so that nothing of it is lost: a new version of the program is handed all of
// it, as JSON. Its methods take in what happens; they decide nothing. Those that return
// news have changed Seen, which is to be written then.
type Live struct {
	// Launched is the directory that the running node was started from; empty: none runs.
	Launched string `json:"launched"`
	// PlanAt is the plan file as it was when it was looked at last. Written says that it
	// changed while the node ran, and that no answer of the node's says that somebody else
	// wrote it.
	PlanAt  watch.Stamp `json:"plan_at"`
	Written bool        `json:"written"`
	// Height is what the node told, at HeightAt; unknown: the record on disk serves.
	Height   Height    `json:"height"`
	Told     int64     `json:"told,omitempty"` // by the node before its databases were read; 0: nothing
	Pace     float64   `json:"pace,omitempty"` // the most blocks a second that were seen between two answers; 0: unknown
	HeightAt time.Time `json:"height_at,omitzero"`
	Initial  int64     `json:"initial,omitempty"`  // the chain's first height; 0: unknown
	Fetching bool      `json:"fetching,omitempty"` // the node was started to fetch a state
	Skip     []int64   `json:"skip,omitempty"`     // heights after --unsafe-skip-upgrades
	// Done is what the databases said the data had been through when they were read last;
	// DoneKnown says that they said so.
	Done      []solstice.Plan `json:"done,omitempty"`
	DoneKnown bool            `json:"done_known,omitempty"`
	Seen      Seen            `json:"seen,omitempty"`
	SeenKnown bool            `json:"seen_known,omitempty"` // Seen is to be used; else the file on disk is read
	Retried   *Retried        `json:"retried,omitempty"`
	Examining bool            `json:"examining,omitempty"` // the node did not end by itself: it was stopped to read its databases
	// Disk is what the databases of the stopped node say; nil: they were not read since it
	// ran. While a node runs there is none, so none is handed over.
	Disk *node.Heights `json:"-"`
}

// What a height says about a later moment: a node makes no more than maxPace blocks a
// second, also while it fetches old ones from its peers, and one whose pace was seen not more
// than fasterBy times as many, after a start of some blocks.
const (
	maxPace  = 10_000
	fasterBy = 10
	atOnce   = 100
)

// most is the greatest height that a node can have reached that was at a height some time
// ago.
func (l *Live) most(height int64, ago time.Duration) int64 {
	if l.Pace == 0 {
		return height + maxPace + int64(max(ago.Seconds(), 0)*maxPace)
	}
	return height + atOnce + int64(max(ago.Seconds(), 0)*max(fasterBy*l.Pace, fasterBy))
}

// Running says that a node runs.
func (l *Live) Running() bool { return l.Launched != "" }

// Stopped is what the files of a stopped node tell, for Gather.
func Stopped(disk node.Heights) (l Live) {
	l.setDisk(disk)
	return l
}

func (l *Live) setDisk(disk node.Heights) {
	l.Disk = &disk
	if disk.Initial > 0 {
		l.Initial = disk.Initial
	}
	l.Done, l.DoneKnown = disk.Upgrades.Done, disk.Upgrades.Err == nil
}

// ReadDisk takes in what the databases of the stopped node say.
func (l *Live) ReadDisk(disk node.Heights, now time.Time) (news bool) {
	if l.setDisk(disk); l.Height.Tied && l.Height.Source == SourceNode {
		l.Told = l.Height.Low
	}
	if disk.Committed.Err != nil {
		return false
	}
	l.Height, l.HeightAt = Exactly(disk.Committed.Height, SourceApplication), now
	if disk.Upgrades.Err == nil {
		l.Seen, news = l.Seen.SawSchedule(disk.Upgrades.Scheduled, disk.Committed.Height)
	}
	return news
}

// Started takes in that a node was started from a directory. planAt is the plan file as it
// was right before that: what changes afterwards the node may have written.
func (l *Live) Started(dir string, planAt watch.Stamp, fetching bool) {
	l.Launched, l.Fetching = dir, fetching
	l.PlanAt, l.Written, l.Examining = planAt, false, false
	l.Height, l.HeightAt, l.Told, l.Pace, l.Disk = Height{}, time.Time{}, 0, 0, nil
}

// Ended takes in that the node has ended: by itself, or because it was stopped to read its
// databases.
func (l *Live) Ended(home solstice.Home, now time.Time, examining bool) {
	l.Launched, l.Examining = "", examining
	l.loosen(home, now)
}

// SeePlanFile compares the plan file with what it was when it was looked at last. What the
// node told before says less now: it may have made blocks since. A plan that is ahead of
// the chain is noted at once, before a late answer could hide that it was.
func (l *Live) SeePlanFile(home solstice.Home, now time.Time) (changed, news bool) {
	at := watch.StampOf(home.PlanFile())
	if at == l.PlanAt {
		return false, false
	}
	if l.PlanAt != (watch.Stamp{}) && at.SameContent(l.PlanAt) { // its owner or its mode has changed
		l.PlanAt = at
		return false, false
	}
	l.PlanAt, l.Written = at, true
	plan, err := solstice.ReadPlan(home.PlanFile())
	if err == nil && l.Height.Tied && l.Height.Below(plan.Height) {
		l.Seen, news = l.Seen.SawAhead(plan)
	}
	l.loosen(home, now)
	return true, news
}

// ListChanged takes in that the operator's list has changed: a plan that is new on it is not
// compared with a height of before that, which may be behind by now.
func (l *Live) ListChanged(home solstice.Home, now time.Time) { l.loosen(home, now) }

// loosen turns what the node told into what that says of now: it may have made more blocks
// since. A node that told the block before its plan's makes no more.
func (l *Live) loosen(home solstice.Home, now time.Time) {
	h := &l.Height
	if !h.Known() {
		return
	}
	if !l.Running() && !h.Tied {
		*h = Height{} // of a node that has ended it says nothing: it may be another's
		return
	}
	if plan, err := solstice.ReadPlan(home.PlanFile()); err == nil && l.Written && h.exactly(plan.Height-1) {
		return
	}
	h.High = Unbounded
	if h.Tied && !l.Fetching {
		h.High = l.most(h.Low, now.Sub(l.HeightAt))
	}
}

// Hear takes in what the node told. An answer that is not believed is an error.
func (l *Live) Hear(home solstice.Home, a node.Answer, now time.Time) error {
	if !a.Tied {
		if err := l.doubt(home, a.Height, now); err != nil {
			return err
		}
	}
	if elapsed := now.Sub(l.HeightAt).Seconds(); l.Height.Source == SourceNode && l.Height.Tied && a.Tied && a.Height > l.Height.Low && elapsed > 0 {
		l.Pace = max(l.Pace, float64(a.Height-l.Height.Low)/elapsed)
	}
	if a.Height != l.Height.Low || !l.Height.Known() {
		l.HeightAt = now
	}
	l.Height = Height{Low: a.Height, High: a.AtMost, Source: SourceNode, Tied: a.Tied}
	// A node writes the plan file when it halts, one block below the plan's height. With one
	// that is anywhere else, other hands did.
	if plan, err := solstice.ReadPlan(home.PlanFile()); err == nil && l.Written && a.Tied && !l.Height.may(plan.Height-1) {
		l.Written = false
	}
	return nil
}

// doubt says why a height that cannot be tied to the node is not believed: it goes back, or
// jumps further than any node could.
func (l *Live) doubt(home solstice.Home, height int64, now time.Time) error {
	last, at := l.Height.Low, l.HeightAt
	if !l.Height.Known() {
		record, err := ReadHeight(home)
		if err != nil {
			return nil // nothing to compare with
		}
		last, at = record.Committed, record.At
	}
	if height < last || height > l.most(last, now.Sub(at)) {
		return fmt.Errorf("the RPC says height %d, and the last one known was %d: it may be another node's", height, last)
	}
	return nil
}

// SawSchedule takes in which plan x/upgrade has scheduled at a height, as the node told. It
// counts only where the answers are tied to this node: another chain has other plans.
func (l *Live) SawSchedule(scheduled *solstice.Plan, height int64) (news bool) {
	if !l.Height.Tied {
		return false
	}
	l.Seen, news = l.Seen.SawSchedule(scheduled, height)
	return news
}

// Decided takes in what a decision says of plans that are not outstanding, or ahead.
func (l *Live) Decided(d Decision, g Gathered) (news bool) {
	note := func(seen Seen, changed bool) { l.Seen, news = seen, news || changed }
	if !g.Height.Tied {
		return false
	}
	for _, p := range slices.Concat(d.Over, d.Drop) {
		if g.Height.Reached(p.Height) && g.ManualFault == nil { // else it may be on the list
			note(l.Seen.SawOver(p))
		}
	}
	for _, p := range d.Ahead {
		note(l.Seen.SawAhead(p))
	}
	return news
}

// SawAhead takes in that the chain was seen below the heights of plans, where the
// operator's list can't be marked.
func (l *Live) SawAhead(plans []solstice.Plan) (news bool) {
	for _, p := range plans {
		seen, changed := l.Seen.SawAhead(p)
		l.Seen, news = seen, news || changed
	}
	return news
}

// Examined takes in what was decided once the databases of a node were read that was
// stopped for that (plan), or that ended for its plan: the old binary is started again if
// they do not have the plan's height, once per halt.
func (l *Live) Examined(plan *solstice.Plan, d Decision, g Gathered) (again bool) {
	if plan == nil {
		plan = d.Again
	}
	read := g.Height.Source != SourceRecord
	if plan == nil || d.Action != Launch || read && g.Height.Reached(plan.Height) {
		return false
	}
	l.Retried = &Retried{Plan: solstice.Plan{Name: plan.Name, Height: plan.Height}, At: plan.Height - 1, Told: l.Told}
	if g.Height.Known() {
		l.Retried.At = min(g.Height.High, plan.Height-1)
	}
	l.Retried.Written = g.File != nil && g.File.Is(*plan) && g.File.Written
	return true
}
