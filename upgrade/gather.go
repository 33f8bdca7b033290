package upgrade

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"solstice"
	"solstice/internal/durable"
	"solstice/node"
)

// Live is what only a running supervisor knows, besides what Gather finds on disk.
type Live struct {
	Running bool
	Written bool    // the plan file has changed since the node was started
	Height  Height  // from the node; not Known: the record on disk serves
	Skip    []int64 // heights after --unsafe-skip-upgrades
	Probes  *Probes // that remember what was hashed; nil: nothing is remembered
	// Disk is what the databases of the stopped node say; nil: nobody has looked. Done is what they said when somebody did.
	Disk *node.Heights
	Done []solstice.Plan
}

// Stopped is what the files of a stopped node tell, for Gather.
func Stopped(disk node.Heights) Live { return Live{Disk: &disk, Done: disk.Upgrades.Done} }

// Gathered is what Gather found.
type Gathered struct {
	Facts
	Journal   Entries
	FileFault error // why the plan file is not a plan yet; nil when there is none, or a whole one
	// HeightFault is why the record of the height is not used. It may be lost, so it is no reason to stop.
	HeightFault error
	Staged      []string // directories of upgrades that no switch was made to yet
	Told        Height   // what the node told last, where the height is from its databases
	disk        *node.Heights
	home        solstice.Home
}

// Gather reads from disk what Decide needs. An error means that something that must be readable is not.
func Gather(home solstice.Home, live Live) (Gathered, error) {
	g := Gathered{disk: live.Disk, home: home, Facts: Facts{
		Height: live.Height, Skip: live.Skip, Running: live.Running, SwitchesItself: home.SwitchesItself,
		Faults: map[string]string{}, Hints: map[string]string{}, Lacks: map[string]Lack{},
	}}
	var err error
	if g.Link, err = home.Current(); err != nil {
		return g, err
	}
	if g.Journal, err = OpenJournal(home).Read(); err != nil {
		return g, err
	}
	manual, err := ReadManual(home)
	if err != nil {
		return g, err
	}
	for _, m := range manual {
		g.Manual = append(g.Manual, Candidate{Plan: m.Plan, Dir: g.dirOf(m.Plan), Manual: true, Below: m.Below})
	}
	switch plan, err := solstice.ReadPlan(home.PlanFile()); {
	case err == nil:
		g.File = &Candidate{Plan: plan, Dir: g.dirOf(plan), Written: live.Written}
	case !errors.Is(err, fs.ErrNotExist):
		g.FileFault = err
	}
	if begun, ok := g.Journal.Begun(); ok {
		g.Begun = &begun.Plan
	}
	g.findHeight(home, live)
	for _, plan := range live.Done {
		g.Done = append(g.Done, Switched{plan, home.UpgradeDir(plan.Name)})
	}
	g.DoneKnown = live.Disk != nil && live.Disk.Upgrades.Err == nil
	g.Skipped = g.Journal.Skipped()
	g.History = history(home, g.Journal)
	for _, name := range home.Dirs() {
		dir := filepath.Join("upgrades", name)
		if !slices.ContainsFunc(g.History, func(s Switched) bool { return s.Dir == dir }) {
			g.Staged = append(g.Staged, dir)
		}
	}
	g.Applied = applied(home, g.Link, g.Journal, g.History)
	g.checkBinaries(home, cmp.Or(live.Probes, &Probes{}))
	return g, nil
}

// dirOf is the directory of the binary that carries out a plan: its own, or of a node that switches by itself the one in use.
func (g *Gathered) dirOf(plan solstice.Plan) string {
	if g.SwitchesItself {
		return cmp.Or(g.Link.Dir, solstice.Genesis)
	}
	return g.home.UpgradeDir(plan.Name)
}

// findHeight says how far the chain is: as the node told it, or the databases, or the record of what the node told last (H1 to
// H4 in docs/deciding.md).
func (g *Gathered) findHeight(home solstice.Home, live Live) {
	var record HeightRecord
	if !g.Height.Known {
		var err error
		record, err = ReadHeight(home)
		if err == nil {
			g.Height = Height{Committed: record.Committed, Known: true, Answered: live.Height.Answered}
		} else if !errors.Is(err, fs.ErrNotExist) {
			g.HeightFault = err
		}
	}
	if live.Disk != nil {
		g.Told = g.Height
		g.Height = weigh(*live.Disk, g.Height, record.At)
		if g.Gone = record.Databases && live.Disk.Empty && !g.SwitchesItself; g.Gone {
			g.Height = Height{} // what was told is of other data
		}
	}
}

// weigh says how far a stopped node is, by its databases and what it told last. The application's database is exact. The block
// store is at most one block ahead of it. The consensus WAL is too, but it may lack blocks, and stays when data is taken back: it
// counts as far as it is newer than what was told.
func weigh(disk node.Heights, told Height, toldAt time.Time) Height {
	stored := disk.Stored
	switch {
	case disk.Committed.Err == nil:
		return Height{Committed: disk.Committed.Height, Known: true, Answered: true, AtMost: disk.Committed.Height}
	case stored.Err == nil && disk.Base > 0:
		h := Height{Committed: stored.Height - 1, Known: true, Answered: true, AtMost: stored.Height}
		if told.Known && told.Committed == stored.Height {
			h.Committed = stored.Height
		}
		return h
	case stored.Err == nil && (!told.Known || stored.At.After(toldAt) && stored.Height-1 > told.Committed):
		return Height{Committed: stored.Height - 1, Known: true, Answered: told.Answered}
	}
	return told
}

// IsManual says whether the chain doesn't know a plan: the operator added it, and the plan file, if it holds the plan,
// has it from us.
func (g *Gathered) IsManual(p solstice.Plan) bool {
	if begin, ok := g.Journal.LastBegin(p); ok && begin.Manual {
		return true
	}
	return g.File == nil || !g.File.Is(p)
}

// Under is the plan that the binary in use came with, or the zero plan.
func (g *Gathered) Under() solstice.Plan {
	var under Switched
	for _, s := range g.History {
		if s.Dir == g.Link.Dir && s.Height >= under.Height {
			under = s
		}
	}
	return under.Plan
}

// history is every switch that the journal or a file beside a binary tells of.
func history(home solstice.Home, journal Entries) []Switched {
	switches := journal.Switches()
	for _, name := range home.Dirs() {
		dir := filepath.Join("upgrades", name)
		plan, err := solstice.ReadPlan(home.AppliedFile(dir))
		if err == nil && !slices.ContainsFunc(switches, func(s Switched) bool { return s.Is(plan) }) {
			switches = append(switches, Switched{plan, dir})
		}
	}
	return switches
}

// applied is what lies behind the binary in use: the switch to it, and those before it. Somebody who moves the link
// back by hand takes back the switches after it.
func applied(home solstice.Home, link solstice.Link, journal Entries, history []Switched) []solstice.Plan {
	var plans []solstice.Plan
	if link.Missing() {
		for _, s := range history {
			plans = append(plans, s.Plan)
		}
		return plans
	}
	if link.Dir == "" {
		return nil
	}
	switches := journal.Switches()
	for i := len(switches) - 1; i >= 0; i-- {
		if switches[i].Dir == link.Dir {
			for _, s := range switches[:i+1] {
				plans = append(plans, s.Plan)
			}
			break
		}
	}
	if plan, err := solstice.ReadPlan(home.AppliedFile(link.Dir)); err == nil {
		plans = append(plans, plan)
	}
	return plans
}

// checkBinaries looks at the binaries that may have to be started: those of all plans, and without a running node those
// that may be the one in use.
func (g *Gathered) checkBinaries(home solstice.Home, probes *Probes) {
	var dirs []string
	for _, c := range g.candidates() {
		dirs = append(dirs, c.Dir)
	}
	if !g.Running {
		dirs = append(dirs, solstice.Genesis, g.Link.Dir)
		if last, ok := g.lastSwitch(); ok {
			dirs = append(dirs, last.Dir)
		}
		if stands, ok := g.stands(); ok {
			dirs = append(dirs, stands.Dir)
		}
	}
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		if err := CheckBinary(home, dir, probes); err != nil {
			g.Faults[dir] = err.Error()
			g.Hints[dir] = solstice.HintOf(err, "")
		}
	}
	for _, c := range g.candidates() {
		if !g.SwitchesItself && !g.applied(c.Plan) {
			g.Lacks[c.Dir] = CheckSidecars(home, c.Dir)
		}
		if c.Manual || g.SwitchesItself || g.applied(c.Plan) || g.Faults[c.Dir] != "" {
			continue
		}
		if err := CheckPlanned(home, c.Plan, c.Dir, probes); err != nil {
			g.Faults[c.Dir], g.Hints[c.Dir] = err.Error(), solstice.HintOf(err, "")
		}
	}
}

// HeightRecord is the last committed height that a node told us, kept for when it runs no more.
type HeightRecord struct {
	Committed int64     `json:"committed"`
	At        time.Time `json:"at"`
	Databases bool      `json:"databases,omitempty"` // the node had databases where we look for them
}

// ReadHeight reads the record; without one the error is fs.ErrNotExist.
func ReadHeight(home solstice.Home) (HeightRecord, error) {
	var r HeightRecord
	content, err := os.ReadFile(home.HeightFile())
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(content, &r); err != nil {
		return r, fmt.Errorf("%s: %w", home.HeightFile(), err)
	}
	return r, nil
}

// WriteHeight replaces the record.
func WriteHeight(home solstice.Home, r HeightRecord) error {
	content, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return durable.WriteFile(home.HeightFile(), append(content, '\n'), 0o600)
}
