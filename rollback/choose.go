package rollback

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"solstice"
	"solstice/internal/shell"
	"solstice/snapshot"
	"solstice/upgrade"
)

// Wish is what the operator wants beyond going back.
type Wish struct {
	Binary string // a corrected binary for the plan
	Skip   bool   // the network decided not to carry the plan out
	Chain  bool   // undo blocks with the chain's own rollback command, not with the snapshot
}

// maxChainBlocks is how many blocks are undone one by one with the chain's own command.
const maxChainBlocks = 100

// Way is what leads back.
type Way struct {
	Case     string // a sentence
	Restore  *snapshot.Snapshot
	Chain    int64  // how often the chain's own rollback is run
	With     string // directory of the binary that it is run with
	Link     string // directory that current is to point to; empty: as it is
	Undone   []upgrade.Switched
	Redone   *upgrade.Switched // the upgrade that the snapshot's binary came with, if it was taken back before
	SetAside string            // directory whose binary is set aside
	Binary   string            // to be put there
	Skip     *upgrade.Skipped
	Unskip   *solstice.Plan
	Drop     bool   // the operator's plan is taken out of the plan file
	Next     string // what happens at the next start, or has to be done
}

// Choose says which case a home is, and what leads back. It reads nothing: the table in choose_test.go is what
// it knows. The error is a refusal when no case fits.
func Choose(s Sight, wish Wish) (Way, error) {
	if wish.Skip && wish.Binary != "" {
		return Way{}, refuse("a plan is either skipped or carried out with another binary", "give one of --skip and --binary")
	}
	var w Way
	var err error
	switch skipped := slices.IndexFunc(s.Skipped, func(p upgrade.Skipped) bool { return p.Is(s.Plan) }); {
	case s.Plan.Name == "":
		return w, refuse(fmt.Sprintf("no upgrade to take back: the binary in use is that of %s, and no plan is due", s.Link),
			"to go back to a snapshot: solstice snapshot list, then solstice snapshot restore ID")
	case s.Stage == Due && skipped >= 0 && wish.Binary != "":
		w.Case = fmt.Sprintf("plan %s was to be skipped, and is to be carried out after all", s.Plan)
		w.Unskip = &s.Plan
	case s.Stage == Due && skipped >= 0:
		return w, refuse(fmt.Sprintf("nothing to take back: plan %s is skipped", s.Plan), "to carry it out after all: solstice rollback --binary PATH")
	case s.Stage == Due && wish.Binary == "" && !wish.Skip:
		return w, refuse(fmt.Sprintf("nothing to take back: plan %s is due and was not carried out", s.Plan),
			"to go on without it, if the network decided so: solstice rollback --skip\nto carry it out: solstice add-upgrade "+shell.Quote(s.Plan.Name)+" PATH, then start")
	case s.Stage == Due:
		w.Case = fmt.Sprintf("plan %s is due, and nothing was done for it yet", s.Plan)
	default:
		err = s.back(&w, wish)
	}
	if err != nil {
		return Way{}, err
	}
	s.onward(&w, wish)
	if s.Reached {
		w.Next += s.afterUndoing(s.Plan.Height)
	}
	return w, nil
}

// back is the way to where the upgrade began.
func (s Sight) back(w *Way, wish Wish) error {
	if s.Stage == Switched {
		if s.Before == "" {
			return refuse(fmt.Sprintf("which binary ran before plan %s is not known", s.Plan), "say which it was: solstice switch NAME")
		}
		w.Link = s.Before
	}
	w.Undone = []upgrade.Switched{{Plan: s.Plan, Dir: s.Dir}}
	whole := s.Snapshot != nil && len(s.Faults) == 0 && len(s.Snapshot.Elsewhere) == 0
	older := s.Snapshot != nil && s.Heights.Committed.Height > 0 && s.Heights.Committed.Height < s.Snapshot.Height
	switch {
	case !s.Reached:
		w.Case = fmt.Sprintf("plan %s: its height was never committed", s.Plan)
		if !s.Seen {
			w.Case = fmt.Sprintf("plan %s: nothing tells that its height was committed", s.Plan)
		}
		switch {
		case older:
			w.Case += fmt.Sprintf("; the data is older than the snapshot, at height %d, and stays as it is", s.Heights.Committed.Height)
		case s.Snapshot != nil && s.Unchanged:
			w.Case += ", and the data is as it was; it stays"
		case whole:
			w.Case += "; the data has changed and is restored"
			w.Restore = s.Snapshot
		default:
			w.Case += "; there is no whole snapshot, so the data stays as it is, and the node's own handshake has to cope with it"
		}
		return nil
	case whole && !wish.Chain:
		w.Case = fmt.Sprintf("plan %s: its height was committed; %s undone with the snapshot", s.Plan, s.blocks())
		w.Restore = s.Snapshot
		return nil
	case s.Heights.Committed.Height == 0:
		return refuse(fmt.Sprintf("no case fits: the height of plan %s was committed, %s, and how many blocks have to be undone is not known: %v",
			s.Plan, s.noSnapshot(), s.Heights.Committed.Err), "restore a copy of your own of data/, or ask the chain's developers; nothing was changed")
	case s.Undone() > maxChainBlocks:
		return refuse(fmt.Sprintf("no case fits: %d blocks have to be undone, and %s. The chain's own rollback undoes one at a time", s.Undone(), s.noSnapshot()),
			"sync anew, or restore a copy of your own of data/; nothing was changed")
	}
	w.Case = fmt.Sprintf("plan %s: its height was committed; %s undone with the chain's own rollback command", s.Plan, s.blocks())
	w.Chain, w.With = s.Undone(), s.Dir
	return nil
}

func (s Sight) noSnapshot() string {
	switch {
	case s.Snapshot == nil:
		return "there is no snapshot of before it"
	case len(s.Faults) > 0:
		return "the snapshot of before it is not whole"
	case len(s.Snapshot.Elsewhere) > 0:
		return "the snapshot of before it does not hold what lies behind symlinks"
	}
	return "the snapshot was not to be used"
}

// onward says what comes after going back.
func (s Sight) onward(w *Way, wish Wish) {
	switch {
	case wish.Binary != "":
		w.SetAside, w.Binary = s.Dir, wish.Binary
		w.Next = fmt.Sprintf("start it as before: it upgrades to %s with the binary from %s", s.Plan.Name, wish.Binary)
	case wish.Skip, s.Manual:
		w.Skip = &upgrade.Skipped{Plan: s.Plan, Manual: s.Manual}
		w.Drop = s.Manual
		w.Next = fmt.Sprintf("start it with: solstice run start --unsafe-skip-upgrades %d", s.Plan.Height)
		if s.Manual {
			w.Next = "start it as before: it runs the old binary, and the plan is off your list"
		}
	default:
		w.SetAside = s.Dir
		w.Next = fmt.Sprintf("start it as before: it waits for the corrected binary of plan %s: solstice add-upgrade %s PATH\n"+
			"if the network decides to skip the plan instead: solstice rollback --skip", s.Plan.Name, shell.Quote(s.Plan.Name))
	}
}

// afterUndoing says what it means for the network when blocks that were committed are undone, from height first on.
func (s Sight) afterUndoing(first int64) (next string) {
	signed := s.Signed
	if s.Mark.Compare(signed) > 0 {
		signed = s.Mark
	}
	if s.Signs && signed.Height >= first {
		next = fmt.Sprintf("\nthe validator signs nothing up to %s, which it has signed already; if the chain stands still there, start it once more: "+
			"it gives its votes of before again", signed)
	}
	return next + "\nif every validator undoes blocks that it has committed, the chain stands still: agree with the others first"
}

// Lines are the changes, in words, one a line.
func (w Way) Lines(h Home) []string {
	var lines []string
	add := func(format string, values ...any) { lines = append(lines, fmt.Sprintf(format, values...)) }
	if w.Chain > 0 {
		add("take a snapshot of the data as it is now")
		add("run %s's own rollback, %d times", h.Binary(w.With), w.Chain)
	}
	if w.Restore != nil {
		add("restore %s from snapshot %s; what is there now is moved aside", h.Data(), w.Restore.ID)
		if w.Restore.Has(snapshot.Wasm) {
			add("restore %s in the same way", filepath.Join(h.Node, snapshot.Wasm))
		}
		if changed, err := h.Snapshots.ChangedConfig(*w.Restore); err == nil && len(changed) > 0 {
			add("restore in %s, in the same way: %s", filepath.Join(h.Node, snapshot.Config), strings.Join(changed, ", "))
		}
	}
	if w.Drop {
		add("move the plan file aside: %s", h.PlanFile())
	}
	if w.Link != "" {
		add("point %s at %s", h.CurrentLink(), w.Link)
	}
	if w.SetAside != "" && exists(h.Binary(w.SetAside)) {
		add("set %s aside", h.Binary(w.SetAside))
	}
	if w.Binary != "" {
		add("put %s in its place", w.Binary)
	}
	switch {
	case w.Skip != nil && w.Skip.Manual:
		add("take plan %s off the list", w.Skip.Plan)
	case w.Skip != nil:
		add("note that plan %s is skipped: without --unsafe-skip-upgrades %d no start", w.Skip.Plan, w.Skip.Height)
	case w.Unskip != nil:
		add("note that plan %s is not skipped any more", *w.Unskip)
	}
	return lines
}

// blocks is how many blocks are lost, as a sentence goes on: without a database to read, at least so many.
func (s Sight) blocks() string {
	switch n := s.Undone(); {
	case s.Heights.Committed.Height == 0:
		return fmt.Sprintf("%d or more blocks are", n)
	case n == 1:
		return "1 block is"
	default:
		return fmt.Sprintf("%d blocks are", n)
	}
}

func refuse(reason, hint string) error { return &solstice.RefusedError{Reason: reason, Hint: hint} }
