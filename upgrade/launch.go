package upgrade

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"solstice"
	"solstice/internal/shell"
)

// launch decides what runs when nothing does and no plan is due.
func (f Facts) launch(d *Decision) {
	for _, s := range f.Skipped {
		behind := f.Height.Reached(s.Height)
		if !s.Manual && !behind && !slices.Contains(f.Skip, s.Height) {
			d.refuse(fmt.Sprintf("plan %s is to be skipped, as a rollback noted, and the node would halt there", s.Plan),
				fmt.Sprintf("start it with: solstice run start --unsafe-skip-upgrades %d\nor, if it is to be carried out after all: solstice rollback --binary PATH", s.Height))
			return
		}
	}
	d.Action, d.Dir, d.Relink = Launch, f.Link.Dir, f.Link.Moved
	if f.Link.Missing() {
		f.launchWithoutLink(d)
	} else {
		f.launchByLink(d)
	}
	if d.Action != Launch {
		return
	}
	if fault := f.Faults[d.Dir]; fault != "" {
		hint := "place it: solstice init PATH"
		if d.Dir != solstice.Genesis {
			hint = f.placeHint(d.Dir, filepath.Base(d.Dir))
		}
		d.refuse(fmt.Sprintf("the binary in use can't run: %s", fault), hint)
		return
	}
	f.startAgain(d)
	if d.Action == Launch {
		f.notes(d)
	}
}

// asyncBlocks is how far the databases of an application that commits asynchronously may
// be behind the height at which it halted.
const asyncBlocks = 100

// startAgain sees to a node that wrote its plan's file and ended, and whose data is not at the
// plan's height as far as is known. Either its databases are below it, because an application
// that commits asynchronously is a few blocks behind then; or nothing but the record of an
// earlier run says that the height has passed, and the data may have been replaced since. The
// old binary makes these blocks again, once.
func (f Facts) startAgain(d *Decision) {
	c := f.File
	if c == nil || !c.Written {
		return
	}
	behind := f.Height.Below(c.Height-1) && f.Height.High >= c.Height-1-asyncBlocks && !f.Applied(c.Plan)
	replaced := f.Height.Source == SourceRecord && f.Height.Reached(c.Height) && !f.Examined && !f.named(c.Plan)
	switch {
	case !behind && !replaced:
	case !f.retried(*c):
		d.Again = &c.Plan
	case behind:
		d.Action, d.Plan, d.Dir, d.Relink = Wait, c.Plan, c.Dir, false
		d.Reason = fmt.Sprintf("the node halted for it twice, and its databases say that block %s is committed, not %d", f.Height, c.Height-1)
		d.Hint = f.decideHint(*c)
	}
}

// notes says what the operator should know of the plan file at a launch.
func (f Facts) notes(d *Decision) {
	note := func(format string, values ...any) { d.Notes = append(d.Notes, fmt.Sprintf(format, values...)) }
	c := f.File
	if c == nil || f.SwitchesItself || f.Gone || slices.Contains(f.Skip, c.Height) {
		return
	}
	older := f.older(d.Dir, Switched{Plan: c.Plan})
	switch {
	case f.DoneKnown && f.Height.Reached(c.Height) && !f.done(c.Plan) && !f.named(c.Plan): // P5
		note("the plan file holds plan %s, and the data is at height %s without having applied it: it counts as skipped, or as another's file", c.Plan, f.Height)
	case f.DoneKnown || d.Dir == c.Dir || !older || f.Height.Below(c.Height-1):
	default: // L12
		note("the plan file holds plan %s, and what the data has applied is unknown: if the node ends with \"upgrade handler is missing for %s\", run %s",
			c.Plan, c.Name, switchHint(c.Dir))
	}
}

// lastApplied is the last of all known switches, whether on this home or in the data, that
// the data can have behind it: it has committed the block before its height. Without one
// it is genesis.
func (f Facts) lastApplied() (last Switched, known bool) {
	last.Dir = solstice.Genesis
	for _, s := range slices.Concat(f.History, f.Done) {
		if f.Height.Reached(s.Height-1) && s.Height >= last.Height {
			last, known = s, true
		}
	}
	return last, known
}

// launchWithoutLink makes the link if it is beyond doubt what it was (L6 to L8).
func (f Facts) launchWithoutLink(d *Decision) {
	applied, known := f.lastApplied()
	last, switched := f.lastSwitch()
	switch {
	case known && f.Faults[applied.Dir] != "":
		d.contradict(fmt.Sprintf("there is no current link, the data is under plan %s, and the plan's binary can't run: %s", applied.Plan, f.Faults[applied.Dir]),
			f.placeHint(applied.Dir, applied.Name)+"\nif the binary in genesis is the right one for this data: "+switchHint(solstice.Genesis))
		return
	case known:
	case switched:
		d.contradict(fmt.Sprintf("there is no current link; the last switch was to %s for plan %s, and no height confirms it", last.Dir, last.Plan),
			switchHint(last.Dir)+f.genesisHint())
		return
	case f.File != nil && !f.Height.Known() && f.Faults[f.File.Dir] == "" && f.Faults[solstice.Genesis] != "":
		// There is one binary that can run.
		applied.Dir = f.File.Dir
		d.Notes = append(d.Notes, fmt.Sprintf("there is no current link, and only the binary in %s can run: it is started", applied.Dir))
	case f.File != nil && !f.Height.Known() && f.Faults[f.File.Dir] == "":
		d.contradict(fmt.Sprintf("there is no current link, and plan %s may have been carried out already: the height is not known", f.File.Plan),
			switchHint(f.File.Dir)+"\nor, if it is still ahead: "+switchHint(solstice.Genesis))
		return
	}
	d.Dir, d.Relink = applied.Dir, true
}

// launchByLink compares the link with what the data has applied (L1 to L5).
func (f Facts) launchByLink(d *Decision) {
	if len(f.Named) > 0 && f.Gone && !f.SwitchesItself {
		d.contradict(fmt.Sprintf("the link names %s, for plan %s, and the node's databases are gone: it would begin at its genesis", f.Link.Dir, f.Named[len(f.Named)-1]),
			"if their disk is not mounted, mount it; to fetch a state of the chain: enable = true below [statesync] in config.toml"+
				"\nif it is to begin at its genesis: "+switchHint(solstice.Genesis)+
				"\nif its genesis is one for the binary in use: "+switchHint(f.Link.Dir))
		return
	}
	if p, ahead := f.linkAhead(); ahead {
		applied, _ := f.lastApplied()
		d.contradict(fmt.Sprintf("the link names %s, for plan %s, and the data is of height %s: from before it", f.Link.Dir, p, f.Height),
			"if the data was taken back on purpose: "+switchHint(applied.Dir)+
				"\nif it was not: restore the data that belongs to the binary, solstice snapshot list")
		return
	}
	if !f.DoneKnown || len(f.Done) == 0 {
		return
	}
	last := f.Done[len(f.Done)-1]
	if slices.ContainsFunc(f.Named, last.Is) || f.Link.Dir == last.Dir || !f.older(f.Link.Dir, last) {
		return
	}
	if applied, known := f.lastApplied(); known && applied.Height > last.Height {
		last = applied // a manual plan leaves no mark
	}
	fault := f.Faults[last.Dir]
	reason := fmt.Sprintf("the data has applied plan %s, the link names %s, and the plan's binary can't run: %s", last.Plan, f.Link.Dir, fault)
	hint := f.placeHint(last.Dir, last.Name) + "\nif the binary in use is the right one for this data, with solstice stopped: " + switchHint(f.Link.Dir)
	switch {
	case fault == "":
		d.Dir, d.Relink, d.Under = last.Dir, true, &last.Plan
		d.Notes = append(d.Notes, fmt.Sprintf("the data has applied plan %s, and the link named %s: it now points to the plan's binary", last.Plan, f.Link.Dir))
	case f.File != nil && f.File.Is(last.Plan):
		d.Action, d.Plan, d.Dir, d.Relink = Wait, f.File.Plan, last.Dir, false
		d.Reason, d.Hint, d.Contradicts = reason, hint, true
	case len(f.History) == 0 && f.Link.Dir == solstice.Genesis:
		// A new home with the chain's present binary in genesis/, and data from elsewhere:
		// as Cosmovisor would.
		d.Notes = append(d.Notes, fmt.Sprintf("the data has applied plan %s, of which this home knows nothing: the binary in genesis is assumed to be the right one", last.Plan))
	default:
		d.contradict(reason, hint)
	}
}

// linkAhead is the newest plan of the directory that the link names, if the data is from
// before that plan (L1).
func (f Facts) linkAhead() (newest solstice.Plan, ahead bool) {
	named := f.Named
	if f.Begun != nil && f.Begun.Dir == f.Link.Dir { // cut off in its switch
		named = append(slices.Clone(named), f.Begun.Plan)
	}
	for _, p := range named {
		if p.Height >= newest.Height {
			newest = p
		}
	}
	return newest, !f.SwitchesItself && f.Height.Below(newest.Height-1)
}

// older says whether a directory's binary is known to be from before a switch: it is
// genesis, or that of a plan before it, or at the same height that of the operator's where
// the chain's counts. One that the operator linked by hand and of which nothing is known is
// not.
func (f Facts) older(dir string, than Switched) bool {
	switches := slices.Concat(f.History, f.Done)
	if f.Begun != nil { // the link names it already, if it was cut off in its switch
		switches = append(switches, Switched{Plan: f.Begun.Plan, Dir: f.Begun.Dir, Manual: f.Begun.Manual})
	}
	known, newest := dir == solstice.Genesis, Switched{}
	for _, c := range f.candidates() { // it has the name of a plan that is known
		switches = append(switches, Switched{Plan: c.Plan, Dir: c.Dir, Manual: c.Manual})
	}
	for _, s := range switches {
		if s.Dir == dir && s.Height >= newest.Height {
			known, newest = true, s
		}
	}
	yours := newest.Height == than.Height && !newest.Is(than.Plan) && newest.Manual && !than.Manual
	return known && (newest.Height < than.Height || yours)
}

// lastSwitch is the switch with the greatest height.
func (f Facts) lastSwitch() (last Switched, known bool) {
	for _, s := range f.History {
		if !known || s.Height >= last.Height {
			last, known = s, true
		}
	}
	return last, known
}

// refuse turns a decision into a refusal. What it says of the plans stays.
func (d *Decision) refuse(reason, hint string) {
	d.Action, d.Reason, d.Hint = Refuse, reason, hint
	d.Dir, d.Relink, d.Under = "", false, nil
}

// contradict is a refusal because what is known contradicts itself.
func (d *Decision) contradict(reason, hint string) {
	d.refuse(reason, hint)
	d.Contradicts = true
}

func refuseLink(f Facts) (d Decision) {
	var hints []string
	for _, dir := range f.knownDirs() {
		hints = append(hints, "if this is what the chain needs: "+switchHint(dir))
	}
	d.contradict("the current link can't be used: "+f.Link.Fault, strings.Join(hints, "\n"))
	return d
}

func (f Facts) knownDirs() []string {
	dirs := []string{solstice.Genesis}
	for _, s := range f.History {
		if !slices.Contains(dirs, s.Dir) {
			dirs = append(dirs, s.Dir)
		}
	}
	return dirs
}

// genesisHint is for a node that would begin at its genesis.
func (f Facts) genesisHint() string {
	if !f.Gone {
		return ""
	}
	return "\nor, as the node's databases are gone and it would begin at its genesis: " + switchHint(solstice.Genesis)
}

// switchHint is the command that makes the link.
func switchHint(dir string) string {
	name := filepath.Base(dir)
	if name == solstice.Genesis {
		name = dir // a plan may be called genesis too
	}
	return "solstice switch " + shell.Quote(name)
}

// placeHint is what to do about a fault of the binary in a directory.
func (f Facts) placeHint(dir, name string) string {
	return cmp.Or(f.Hints[dir], "place the binary: "+placeCommand(name))
}

func placeCommand(name string) string { return "solstice add-upgrade " + shell.Quote(name) + " PATH" }

// addHint is the command that makes a plan a manual one.
func addHint(name string, height int64) string {
	return fmt.Sprintf("%s --force --upgrade-height %d", placeCommand(name), height)
}

// decideHint is what an operator can do where the evidence does not suffice.
func (f Facts) decideHint(c Candidate) string {
	return "if the new binary is to run from here, with solstice stopped: " + switchHint(c.Dir)
}

// cancelHint is what else can be done about a plan that waits: one that the chain does not
// know need not be carried out.
func (f Facts) cancelHint(c Candidate) string {
	if !c.Manual || f.File != nil && f.File.Is(c.Plan) {
		return ""
	}
	return "\nor take your plan off the list: solstice cancel-upgrade " + shell.Quote(c.Name)
}
