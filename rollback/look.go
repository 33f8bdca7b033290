package rollback

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"solstice"
	"solstice/node"
	"solstice/signstate"
	"solstice/snapshot"
	"solstice/upgrade"
)

// Home is a stopped node's home, and everything that leads it back.
type Home struct {
	solstice.Home
	Settings  node.Settings
	Snapshots snapshot.Store
	Signs     *signstate.Guard
}

// Stage is how far an upgrade got.
type Stage int

const (
	Switched Stage = iota // the link points to the new binary
	Begun                 // it was begun, and the link is the old one
	Due                   // its height has come, and it was not begun
)

// Sight is what was seen of a home.
type Sight struct {
	Link    string // directory that the current link names
	Applied []upgrade.Switched
	Skipped []upgrade.Skipped
	Heights node.Heights
	Told    int64 // the last height that the node told, while it ran; 0: none
	Signed  signstate.State
	Mark    signstate.State
	Signs   bool // the node signs with a key of its own

	// Of the upgrade that may have to be taken back. Without one, Plan is the zero plan.
	Plan      solstice.Plan
	Stage     Stage
	Dir       string // of its binary
	Before    string // directory of the binary before it; empty if it is not known
	Manual    bool   // the chain doesn't know the plan
	Reached   bool   // its height was committed
	Seen      bool   // Reached is certain: a database or the node said so
	Snapshot  *snapshot.Snapshot
	Faults    []snapshot.Fault // of the snapshot
	Unchanged bool             // data/ is as in the snapshot
}

// Undone is how many blocks are lost when the upgrade is taken back.
func (s Sight) Undone() int64 { return max(s.last()-s.Plan.Height+1, 0) }

// last is the last block that the application is known to have committed.
func (s Sight) last() int64 { return cmp.Or(s.Heights.Committed.Height, s.Told) }

// Look looks at a home whose node is stopped, and changes nothing.
func (h Home) Look(ctx context.Context) (Sight, error) {
	var s Sight
	if err := h.Snapshots.InUse(); err != nil {
		return s, err
	}
	s.Heights = node.ReadHeights(h.Home, h.Settings)
	facts, err := upgrade.Gather(h.Home, upgrade.Stopped(s.Heights), nil)
	if err != nil {
		return s, err
	}
	s.Link, s.Skipped = facts.Link.Dir, facts.Skipped
	if facts.Link.Fault != "" {
		return s, &solstice.RefusedError{Reason: "the current link can't be used: " + facts.Link.Fault}
	}
	if facts.Told.Known() {
		s.Told = facts.Told.Low
	}
	if err := h.lookAtSigns(&s); err != nil {
		return s, err
	}
	s.Applied = h.applied(facts)
	h.find(facts, &s)
	if s.Plan.Name == "" {
		return s, nil
	}
	s.Reached, s.Seen = reached(s, facts)
	return s, h.lookAtSnapshot(ctx, facts, &s)
}

func (h Home) lookAtSigns(s *Sight) error {
	address, err := h.Signs.Address()
	if err != nil || address == "" {
		return err
	}
	s.Signs = true
	if s.Mark, err = h.Signs.Marks.Of(address); err != nil {
		return err
	}
	s.Signed, err = signstate.ReadFile(h.Signs.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return err
}

// applied are the switches behind the binary in use, oldest first.
func (h Home) applied(facts upgrade.Gathered) []upgrade.Switched {
	var applied []upgrade.Switched
	for _, one := range facts.History {
		if slices.ContainsFunc(facts.Behind, one.Is) {
			applied = append(applied, one)
		}
	}
	slices.SortStableFunc(applied, func(a, b upgrade.Switched) int { return cmp.Compare(a.Height, b.Height) })
	return applied
}

// find finds the upgrade in question: one that was begun; one that is due; or the one that the binary in use came with.
func (h Home) find(facts upgrade.Gathered, s *Sight) {
	begun, isBegun := facts.Journal.Begun()
	file := facts.File
	switch {
	case isBegun:
		s.Plan, s.Dir, s.Manual, s.Stage, s.Before = begun.Plan, begun.Dir, begun.Manual, Begun, s.Link
	case file != nil && !slices.ContainsFunc(facts.Behind, file.Is) && s.last() >= file.Height-1:
		s.Plan, s.Dir, s.Stage, s.Before = file.Plan, file.Dir, Due, s.Link
	case len(s.Applied) > 0:
		last := s.Applied[len(s.Applied)-1]
		s.Plan, s.Dir, s.Stage, s.Before = last.Plan, last.Dir, Switched, solstice.Genesis
		if len(s.Applied) > 1 {
			s.Before = s.Applied[len(s.Applied)-2].Dir
		}
		if begin, ok := facts.Journal.LastBegin(last.Plan); ok {
			s.Manual = begin.Manual
		}
	}
}

// reached says whether the plan's height was committed, and whether that is certain.
func reached(s Sight, facts upgrade.Gathered) (reached, certain bool) {
	switch {
	case s.Heights.Committed.Height > 0:
		return s.Heights.Committed.Height >= s.Plan.Height, true
	case s.Told >= s.Plan.Height, s.Stage == Switched && facts.Journal.Reached(s.Plan):
		return true, true
	}
	return false, false
}

// lookAtSnapshot finds the snapshot from before the upgrade.
func (h Home) lookAtSnapshot(ctx context.Context, facts upgrade.Gathered, s *Sight) error {
	if begin, ok := facts.Journal.LastBegin(s.Plan); ok {
		one, err := h.Snapshots.Get(begin.SnapshotID())
		switch {
		case err == nil:
			s.Snapshot = &one
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	if s.Snapshot == nil { // the journal may be lost
		ours, _, fault := h.Snapshots.List()
		if fault != nil {
			return fault
		}
		for _, one := range ours {
			if one.Plan.Is(s.Plan) {
				s.Snapshot = &one
			}
		}
	}
	if s.Snapshot == nil {
		return nil
	}
	if s.Snapshot.Dir != "" {
		s.Before = s.Snapshot.Dir
	}
	verified, err := s.Snapshot.Verify(ctx, false, nil)
	if err != nil {
		return err
	}
	s.Faults = verified.Faults
	s.Unchanged, err = h.Snapshots.Same(*s.Snapshot)
	return err
}

// Lines is the sight for people.
func (s Sight) Lines() (lines solstice.Lines) {
	inUse := cmp.Or(s.Link, "none: there is no current link")
	if n := len(s.Applied); n > 0 && s.Applied[n-1].Dir == s.Link {
		inUse += ", for plan " + s.Applied[n-1].Plan.String()
	}
	lines.Add("binary in use", "%s", inUse)
	lines.Add("application", "%s", s.Heights.Committed.Says("committed"))
	lines.Add("block store", "%s", s.Heights.Stored.Says("has"))
	if s.Told > 0 {
		lines.Add("last told", "%d, by the running node", s.Told)
	}
	if s.Plan.Name != "" {
		stage := map[Stage]string{
			Switched: "switched to its binary", Begun: "begun; the binary is still the old one", Due: "due; nothing was done for it",
		}[s.Stage]
		switch {
		case s.Stage != Switched:
		case s.Reached:
			stage += ", and its height was committed"
		case s.Seen:
			stage += ", and its height was not committed"
		}
		if s.Manual {
			stage += "; the operator's plan, not the chain's"
		}
		lines.Add("plan", "%s: %s", s.Plan, stage)
		lines.Add("snapshot", "%s", s.describeSnapshot())
	}
	if s.Signs {
		text := s.Signed.String()
		if s.Mark.Compare(s.Signed) > 0 {
			text += "; the mark is above it: " + s.Mark.String()
		}
		lines.Add("sign state", "%s", text)
	}
	return lines
}

func (s Sight) describeSnapshot() string {
	if s.Snapshot == nil {
		return "none of before the plan"
	}
	text := s.Snapshot.ID
	if s.Snapshot.Height > 0 {
		text += fmt.Sprintf(", of height %d", s.Snapshot.Height)
	}
	switch {
	case len(s.Faults) > 0:
		text += fmt.Sprintf("; NOT WHOLE: %s: %s", s.Faults[0].Path, s.Faults[0].What)
	case s.Unchanged:
		text += "; data/ is as it was then"
	default:
		text += "; data/ has changed since"
	}
	return text
}
