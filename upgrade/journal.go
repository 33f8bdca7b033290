package upgrade

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"solstice"
	"solstice/internal/durable"
	"solstice/snapshot"
)

// Steps that the journal lists besides those of the upgrade itself.
const (
	stepBegin      = "begin"       // it was decided: the plan is due
	stepSnapshot   = "snapshot"    // what is on disk is kept
	stepSwitch     = "switch"      // the link points to the new binary
	stepStart      = "start"       // the new binary executes
	stepConfirm    = "confirm"     // it has committed the plan's height: the migration is done
	stepBlock      = "block"       // it has committed a block beyond the plan's height: the downtime is over
	stepAbandoned  = "abandoned"   // another binary was started instead
	stepRolledBack = "rolled back" // the switch was taken back
	stepSkipped    = "skipped"     // the network decided not to carry the plan out
	stepPlanned    = "planned"     // that decision was taken back
	stepItself     = "by itself"   // the node went through the plan without us
)

// Entry is one line of the journal: a step that is done.
type Entry struct {
	Time    time.Time     `json:"time"`
	Plan    solstice.Plan `json:"plan"`
	Step    string        `json:"step"`
	Seconds float64       `json:"seconds,omitempty"` // how long the step took
	Dir     string        `json:"dir,omitempty"`     // begin, switch: the binary's directory
	Halted  time.Time     `json:"halted,omitzero"`   // begin: when the plan file was written
	Manual  bool          `json:"manual,omitempty"`  // begin, skipped: the operator's plan, of which the chain doesn't know
	Height  int64         `json:"height,omitempty"`  // confirm, block: what was committed
}

// maxJournal is far above what a journal grows to, in bytes: an upgrade takes some ten lines.
const maxJournal = 16 << 20

// Journal is the list of all upgrade steps that were done on a home, in a file that only grows, by some ten
// lines an upgrade. Lose it, and the link and the applied files beside the binaries still tell what is applied;
// lost is where a cut upgrade stood, and the history.
type Journal struct{ path string }

// OpenJournal names the journal of a home. The file need not exist.
func OpenJournal(home solstice.Home) Journal { return Journal{home.JournalFile()} }

// Append adds a step and syncs it, and all that were noted before.
func (j Journal) Append(e Entry) error { return j.add(e, durable.AppendLine) }

// Note adds a step and leaves the sync to the next Append. It outlives every kill; a power cut may take it, which is
// for steps that are quickly done again.
func (j Journal) Note(e Entry) error { return j.add(e, durable.NoteLine) }

func (j Journal) add(e Entry, add func(path string, line []byte) error) error {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Plan.Info = "" // it can be long, and nobody reads it from here
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return add(j.path, line)
}

// Read returns all entries. A line that a power cut tore is passed over.
func (j Journal) Read() (Entries, error) {
	content, err := solstice.ReadFile(j.path, maxJournal)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var entries Entries
	for line := range bytes.Lines(content) {
		var e Entry
		if json.Unmarshal(line, &e) == nil && e.Step != "" && e.Plan.Validate() == nil {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// Entries are journal entries, oldest first.
type Entries []Entry

// last returns the entries of the upgrade that was begun last, from its begin on.
func (es Entries) last() Entries {
	for i := len(es) - 1; i >= 0; i-- {
		if es[i].Step == stepBegin {
			return es[i:]
		}
	}
	return nil
}

func (es Entries) has(step string) bool {
	_, ok := es.step(step)
	return ok
}

func (es Entries) step(name string) (Entry, bool) {
	for _, e := range es {
		if e.Step == name {
			return e, true
		}
	}
	return Entry{}, false
}

// SnapshotID is the ID of the snapshot that belongs to an upgrade, of which this is the begin.
func (e Entry) SnapshotID() string {
	return snapshot.ID(filepath.Base(e.Dir), e.Plan.Height, e.Time)
}

// Begun returns the upgrade that has to go on, if there is one: begun, not brought to its switch, not
// abandoned.
func (es Entries) Begun() (Entry, bool) {
	last := es.last()
	if len(last) == 0 || last.has(stepSwitch) || last.has(stepAbandoned) || last.has(stepRolledBack) {
		return Entry{}, false
	}
	return last[0], true
}

// Unconfirmed returns the last upgrade if it was switched to and its first block is not seen yet.
func (es Entries) Unconfirmed() (Entry, bool) {
	last := es.last()
	if !last.has(stepSwitch) || last.has(stepConfirm) || last.has(stepRolledBack) {
		return Entry{}, false
	}
	return last[0], true
}

// unfinished returns the last upgrade if it was switched to and no block beyond its height
// was seen yet.
func (es Entries) unfinished() (Entry, bool) {
	last := es.last()
	beyond := func(e Entry) bool { return e.Step == stepBlock || e.Step == stepConfirm && e.Height > e.Plan.Height }
	if !last.has(stepSwitch) || last.has(stepRolledBack) || slices.ContainsFunc(last, beyond) {
		return Entry{}, false
	}
	return last[0], true
}

// Confirmed says whether the journal knows that a plan was carried out to its first block.
func (es Entries) Confirmed(p solstice.Plan) bool {
	return slices.ContainsFunc(es, func(e Entry) bool { return (e.Step == stepConfirm || e.Step == stepItself) && e.Plan.Is(p) })
}

// Reached says whether the journal knows that a plan's height was committed, after the upgrade to it was last begun.
func (es Entries) Reached(p solstice.Plan) bool {
	reached := false
	for _, e := range es {
		if e.Plan.Is(p) {
			reached = e.Step == stepConfirm || reached && e.Step != stepBegin
		}
	}
	return reached
}

// LastBegin returns the begin of the last upgrade to a plan.
func (es Entries) LastBegin(p solstice.Plan) (Entry, bool) {
	for _, e := range slices.Backward(es) {
		if e.Step == stepBegin && e.Plan.Is(p) {
			return e, true
		}
	}
	return Entry{}, false
}

// Switches returns the switches that were done and not taken back, oldest first.
func (es Entries) Switches() []Switched {
	var switches []Switched
	manual := map[string]bool{}
	key := func(p solstice.Plan) string { return fmt.Sprintf("%s@%d", strings.ToLower(p.Name), p.Height) }
	for _, e := range es {
		switch e.Step {
		case stepBegin:
			manual[key(e.Plan)] = e.Manual
		case stepSwitch:
			switches = append(switches, Switched{Plan: e.Plan, Dir: e.Dir, Manual: manual[key(e.Plan)]})
		case stepConfirm:
			for i := range switches {
				switches[i].Confirmed = switches[i].Confirmed || switches[i].Is(e.Plan)
			}
		case stepRolledBack:
			switches = slices.DeleteFunc(switches, func(s Switched) bool { return s.Is(e.Plan) })
		}
	}
	return switches
}

// Skipped returns the plans that are not to be carried out, those that the node went through by itself among them.
func (es Entries) Skipped() []Skipped {
	var skipped []Skipped
	for _, e := range es {
		switch e.Step {
		case stepSkipped, stepItself:
			skipped = append(skipped, Skipped{e.Plan, e.Manual})
		case stepPlanned:
			skipped = slices.DeleteFunc(skipped, func(s Skipped) bool { return s.Is(e.Plan) })
		}
	}
	return skipped
}

// RollBack notes that a switch was taken back. Whoever was cut off says it again with the same time, and it is noted
// once; so it is with Switch, Skip and Unskip.
func (j Journal) RollBack(at time.Time, s Switched) error {
	return j.appendOnce(Entry{Time: at, Plan: s.Plan, Step: stepRolledBack, Dir: s.Dir})
}

// Switch notes a switch that was made without an upgrade.
func (j Journal) Switch(at time.Time, s Switched) error {
	return j.appendOnce(Entry{Time: at, Plan: s.Plan, Step: stepSwitch, Dir: s.Dir})
}

// Skip notes that a plan is not to be carried out.
func (j Journal) Skip(at time.Time, s Skipped) error {
	return j.appendOnce(Entry{Time: at, Plan: s.Plan, Step: stepSkipped, Manual: s.Manual})
}

// Itself notes that the node went through a plan by itself, with a directory's binary.
func (j Journal) Itself(at time.Time, s Switched) error {
	return j.appendOnce(Entry{Time: at, Plan: s.Plan, Step: stepItself, Dir: s.Dir})
}

// Unskip notes that a plan is to be carried out, after all.
func (j Journal) Unskip(at time.Time, p solstice.Plan) error {
	return j.appendOnce(Entry{Time: at, Plan: p, Step: stepPlanned})
}

func (j Journal) appendOnce(e Entry) error {
	entries, err := j.Read()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(entries, func(have Entry) bool { return have.Step == e.Step && have.Plan.Is(e.Plan) && have.Time.Equal(e.Time) }) {
		return nil
	}
	return j.Append(e)
}

// History turns the journal into the upgrades that people ask about, oldest first.
func (es Entries) History() []solstice.Upgrade {
	var history []solstice.Upgrade
	for i := 0; i < len(es); {
		end := i + 1
		for end < len(es) && es[end].Step != stepBegin && es[end].Step != stepItself {
			end++
		}
		switch e := es[i]; e.Step {
		case stepBegin:
			up := es[i:end].upgrade()
			if next := end < len(es); next && up.Standing.Total == 0 && !up.Confirmed.IsZero() {
				up.Standing.Total = solstice.Seconds(up.Confirmed.Sub(up.Halted)) // the next upgrade came with the next block
			}
			history = append(history, up)
		case stepItself:
			history = append(history, solstice.Upgrade{Name: e.Plan.Name, Height: e.Plan.Height, Binary: e.Dir, State: stepItself, Begun: e.Time})
		}
		i = end
	}
	return history
}

// upgrade sums up the entries of one upgrade.
func (es Entries) upgrade() solstice.Upgrade {
	begin := es[0]
	up := solstice.Upgrade{Name: begin.Plan.Name, Height: begin.Plan.Height, Binary: begin.Dir, Begun: begin.Time, State: "begun"}
	halted := begin.Time
	if !begin.Halted.IsZero() {
		halted = begin.Halted
	}
	up.Halted = halted
	var started time.Time
	for _, e := range es[1:] {
		switch e.Step {
		case stepSwitch:
			up.State = "switched"
		case stepStart:
			started = e.Time
			up.Standing.Ours = solstice.Seconds(started.Sub(halted))
		case stepConfirm:
			up.State, up.Confirmed = "confirmed", e.Time
			if e.Height > up.Height {
				up.Standing.Total = solstice.Seconds(e.Time.Sub(halted))
			}
		case stepBlock:
			up.Standing.Total = solstice.Seconds(e.Time.Sub(halted))
		case stepAbandoned, stepRolledBack:
			up.State = e.Step
		}
		switch e.Step {
		case stepConfirm, stepBlock, stepAbandoned, stepRolledBack, stepSkipped, stepPlanned:
		default:
			up.Steps = append(up.Steps, solstice.Step{Name: e.Step, Seconds: e.Seconds})
		}
	}
	if !started.IsZero() && !up.Confirmed.IsZero() {
		up.Standing.Migration = solstice.Seconds(up.Confirmed.Sub(started))
	}
	return up
}
