package upgrade

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"solstice"
)

// Facts are what is known when it is decided what to run. Gather reads them; Decide reads nothing else.
type Facts struct {
	Link    solstice.Link
	Height  Height
	File    *Candidate  // the plan in data/upgrade-info.json; nil without a whole and valid one
	Manual  []Candidate // plans that the operator added
	Applied []solstice.Plan
	// History are all the switches of which there is a trace, oldest first. It differs from Applied when the link was
	// lost or moved by hand.
	History []Switched
	// Done is what the data has been through by its own account, by height, each with the directory of the plan's binary.
	// While a node runs it may have gone through more.
	Done      []Switched
	DoneKnown bool // Done is all there is, at the height Height
	// Gone says that the node had databases and has none any more: it would begin at its genesis.
	Gone    bool
	Begun   *solstice.Plan    // the upgrade that the journal began and did not bring to its switch
	Skip    []int64           // heights after --unsafe-skip-upgrades
	Skipped []Skipped         // plans that a rollback took off the list
	Faults  map[string]string // by directory, why its binary can't be used; no entry: it can
	Hints   map[string]string // by directory, what to do about its fault; no entry: place a binary
	// Lacks says by directory what its sidecars lack. A plan that is due waits for them too; a launch does not.
	Lacks   map[string]Lack
	Running bool // a node runs, under the binary that Link names
	// SwitchesItself says that the node goes through its plans by itself, with the binary that Link names.
	SwitchesItself bool
}

// Height is how far the chain is known to be on this home.
type Height struct {
	Committed int64 // the last block that is known to be committed; it may be further
	Known     bool
	// Answered says that the node itself told it, or its databases, after the plan file was written.
	Answered bool
	AtMost   int64 // it is not further than this; 0: nobody knows
}

// Candidate is a plan that may have to be carried out, and the directory of its binary.
type Candidate struct {
	solstice.Plan
	Dir    string
	Manual bool // the operator added it
	// Written says that the plan file was written while this node ran: then it was the node who wrote it, unless the
	// node's own height says otherwise.
	Written bool
	Below   bool // a manual plan that was seen ahead once: it is carried out however late it gets
}

// Switched is a plan and the directory that the link was switched to for it.
type Switched struct {
	solstice.Plan
	Dir string
}

// Skipped is a plan that is not to be carried out.
type Skipped struct {
	solstice.Plan
	Manual bool // the chain doesn't know of it
}

// Action is what to do.
type Action int

const (
	Refuse   Action = iota // change nothing, say Reason and Hint
	Launch                 // the binary in Dir is the one to run, or the one that runs on
	CarryOut               // Plan is due and its binary is there
	Wait                   // Plan is due and can't be carried out yet: Reason. A running node is left as it is
)

func (a Action) String() string { return [...]string{"refuse", "launch", "carry out", "wait"}[a] }

// Decision is what Decide says.
type Decision struct {
	Action Action
	Dir    string // of the binary to launch, or of Plan
	Plan   solstice.Plan
	Relink bool           // Launch: the link has to be made anew
	Under  *solstice.Plan // Launch, with Relink: the plan that the link is moved for, of which the journal knows nothing
	Note   string         // Launch: what the operator should know; empty: nothing
	Reason string
	Hint   string
	// Contradicts says that what is known contradicts itself: the operator is shown all of it.
	Contradicts bool

	Pending []Candidate     // not due yet, by height
	Drop    []solstice.Plan // manual plans whose height has passed
	Mark    []solstice.Plan // manual plans that are seen ahead for the first time
	Passed  []solstice.Plan // plans of the chain that were skipped, and whose height is behind
	Itself  []solstice.Plan // plans that the node went through by itself
	// Keep is the plan that the node goes through by itself right after its launch: the last moment for a snapshot. Nil: none.
	Keep *solstice.Plan
}

// Decide says what to run. It follows docs/deciding.md, whose rules the comments here and the tests name. Of
// several due plans the highest counts: the chain is past the others.
func Decide(f Facts) Decision {
	var d Decision
	if f.Link.Fault != "" && !f.Running {
		return refuseLink(f)
	}
	if f.SwitchesItself {
		// Its binary is the right one before and after every plan, so the data can't contradict it (L1 to L5).
		f.Done, f.DoneKnown, f.Height.AtMost = nil, false, 0
	}
	due := f.sift(&d)
	switch {
	case due != nil && f.Faults[due.Dir] != "":
		d.Action, d.Plan, d.Dir = Wait, due.Plan, due.Dir
		d.Reason = f.Faults[due.Dir]
		d.Hint = f.placeHint(due.Dir, due.Name) + f.cancelHint(*due)
	case due != nil && f.Lacks[due.Dir] != Lack{}:
		d.Action, d.Plan, d.Dir = Wait, due.Plan, due.Dir
		d.Reason, d.Hint = f.Lacks[due.Dir].Fault, f.Lacks[due.Dir].Hint(due.Name)+f.cancelHint(*due)
	case due != nil:
		d.Action, d.Plan, d.Dir = CarryOut, due.Plan, due.Dir
	case f.Running:
		d.Action, d.Dir = Launch, f.Link.Dir
	default:
		f.launch(&d)
	}
	return d
}

// sift parts the candidates into those that are due, pending and passed, and returns the due one that counts.
func (f Facts) sift(d *Decision) (due *Candidate) {
	for _, c := range f.candidates() {
		behind := f.Height.Known && f.Height.Committed >= c.Height
		skipped := slices.ContainsFunc(f.Skipped, func(s Skipped) bool { return s.Is(c.Plan) })
		switch {
		case skipped:
		case slices.Contains(f.Skip, c.Height):
			if behind && !c.Manual {
				d.Passed = append(d.Passed, c.Plan)
			}
		case f.applied(c.Plan), f.done(c.Plan), c.Manual && !c.Below && behind && !f.SwitchesItself:
			d.drop(&c)
		case f.SwitchesItself && behind: // P9
			d.drop(&c)
			d.Itself = append(d.Itself, c.Plan)
		case f.SwitchesItself:
			d.Pending = append(d.Pending, c)
			if f.due(c) && !f.Running {
				d.Keep = &c.Plan
			}
		case f.passed(c): // P5: launch refuses
		case f.due(c):
			d.drop(due) // the chain is past it
			due = &c
		default:
			d.Pending = append(d.Pending, c)
			if c.Manual && !c.Below && f.Height.Known {
				d.Mark = append(d.Mark, c.Plan)
			}
		}
	}
	return due
}

// candidates are all plans by height. A plan that both the operator and the chain know is one.
func (f Facts) candidates() []Candidate {
	candidates := slices.Clone(f.Manual)
	if f.File != nil {
		same := slices.IndexFunc(candidates, func(c Candidate) bool { return c.Is(f.File.Plan) })
		if same >= 0 {
			candidates[same].Written = f.File.Written
		} else {
			candidates = append(candidates, *f.File)
		}
	}
	slices.SortStableFunc(candidates, func(a, b Candidate) int { return cmp.Compare(a.Height, b.Height) })
	return candidates
}

// drop takes a manual plan off the list. The plan file is not ours to touch.
func (d *Decision) drop(c *Candidate) {
	if c != nil && c.Manual {
		d.Drop = append(d.Drop, c.Plan)
	}
}

func (f Facts) applied(p solstice.Plan) bool { return slices.ContainsFunc(f.Applied, p.Is) }

func (f Facts) done(p solstice.Plan) bool {
	return slices.ContainsFunc(f.Done, func(s Switched) bool { return s.Is(p) })
}

// due says whether a plan's height has come (P1 to P4).
func (f Facts) due(c Candidate) bool {
	switch {
	case f.Height.Known && f.Height.Committed >= c.Height-1:
		return true
	case f.Begun != nil && f.Begun.Is(c.Plan):
		return !f.Gone // it was due when it was begun
	default:
		return c.Written && !f.Height.Answered
	}
}

// passed says whether the data is beyond a plan in the plan file, and has not been through it (P5).
func (f Facts) passed(c Candidate) bool {
	return !c.Manual && f.DoneKnown && f.Height.Committed >= c.Height && !f.done(c.Plan)
}

// launch decides what runs when nothing does and no plan is due.
func (f Facts) launch(d *Decision) {
	for _, s := range f.Skipped {
		behind := f.Height.Known && f.Height.Committed >= s.Height
		if !s.Manual && !behind && !slices.Contains(f.Skip, s.Height) {
			*d = refuse(fmt.Sprintf("plan %s is to be skipped, as a rollback noted, and the node would halt there", s.Plan),
				fmt.Sprintf("start it with: solstice run start --unsafe-skip-upgrades %d\nor, if it is to be carried out after all: solstice rollback --binary PATH", s.Height))
			return
		}
	}
	if f.File != nil && f.passed(*f.File) && !f.settled(f.File.Plan) {
		*d = contradiction(fmt.Sprintf("the plan file holds plan %s, and the data is at height %d and has not been through it", f.File.Plan, f.Height.Committed),
			"if the plan was skipped or cancelled, and the binary in use is right: "+switchHint(f.inUse())+
				"\nif its binary is to run from here on: "+switchHint(f.File.Dir))
		return
	}
	d.Action, d.Dir, d.Relink = Launch, f.Link.Dir, f.Link.Moved
	if f.Link.Missing() {
		f.launchWithoutLink(d)
	} else {
		f.launchByLink(d)
	}
	if fault := f.Faults[d.Dir]; d.Action == Launch && fault != "" {
		hint := "place it: solstice init PATH"
		if d.Dir != solstice.Genesis {
			hint = f.placeHint(d.Dir, filepath.Base(d.Dir))
		}
		*d = refuse(fmt.Sprintf("the binary in use can't run: %s", fault), hint)
	}
}

// settled says whether a plan is of no account any more: it is applied, or was skipped.
func (f Facts) settled(p solstice.Plan) bool {
	return f.applied(p) || slices.Contains(f.Skip, p.Height) || slices.ContainsFunc(f.Skipped, func(s Skipped) bool { return s.Is(p) })
}

// inUse is the directory of the link, or of what would be launched without one.
func (f Facts) inUse() string {
	if f.Link.Dir != "" {
		return f.Link.Dir
	}
	stands, _ := f.stands()
	return stands.Dir
}

// stands is the last of all known switches, whether on this home or in the data, that the data can have behind it: it has
// committed the block before its height. Without one it is genesis.
func (f Facts) stands() (last Switched, known bool) {
	last.Dir = solstice.Genesis
	for _, s := range slices.Concat(f.History, f.Done) {
		if f.Height.Known && f.Height.Committed >= s.Height-1 && s.Height >= last.Height {
			last, known = s, true
		}
	}
	return last, known
}

// launchWithoutLink makes the link anew if it is beyond doubt what it was (L5 to L7).
func (f Facts) launchWithoutLink(d *Decision) {
	stands, known := f.stands()
	last, switched := f.lastSwitch()
	switch {
	case known && f.Faults[stands.Dir] != "":
		*d = contradiction(fmt.Sprintf("there is no current link, the data is under plan %s, and the plan's binary can't run: %s", stands.Plan, f.Faults[stands.Dir]),
			f.placeHint(stands.Dir, stands.Name)+"\nif the binary in genesis is the right one for this data: "+switchHint(solstice.Genesis))
		return
	case known:
	case switched:
		*d = contradiction(fmt.Sprintf("there is no current link; the last switch was to %s for plan %s, and no height confirms it", last.Dir, last.Plan),
			switchHint(last.Dir)+f.genesisHint())
		return
	case f.File != nil && !f.Height.Known:
		*d = contradiction(fmt.Sprintf("there is no current link, and plan %s may have been carried out already: the height is not known", f.File.Plan),
			switchHint(f.File.Dir)+"\nor, if it is still ahead: "+switchHint(solstice.Genesis))
		return
	}
	d.Dir, d.Relink = stands.Dir, true
}

// launchByLink holds the link against what the data has been through (L1 to L4).
func (f Facts) launchByLink(d *Decision) {
	for _, p := range f.Applied {
		if f.Gone {
			*d = contradiction(fmt.Sprintf("the link names %s, for plan %s, and the node's databases are gone: it would begin at its genesis", f.Link.Dir, p),
				"if their disk is not mounted, mount it; to fetch a state of the chain: enable = true below [statesync] in config.toml"+
					"\nif it is to begin at its genesis: "+switchHint(solstice.Genesis)+
					"\nif its genesis is one for the binary in use: "+switchHint(f.Link.Dir))
			return
		}
		if f.Height.AtMost > 0 && f.Height.AtMost < p.Height-1 {
			stands, _ := f.stands()
			*d = contradiction(fmt.Sprintf("the link names %s, for plan %s, and the data is of height %d: from before it", f.Link.Dir, p, f.Height.AtMost),
				"if the data was taken back on purpose: "+switchHint(stands.Dir)+
					"\nif it was not: restore the data that belongs to the binary, solstice snapshot list")
			return
		}
	}
	if !f.DoneKnown || len(f.Done) == 0 {
		return
	}
	last := f.Done[len(f.Done)-1]
	if f.applied(last.Plan) || f.Link.Dir == last.Dir || !f.older(f.Link.Dir, last) {
		return
	}
	fault := f.Faults[last.Dir]
	reason := fmt.Sprintf("the data has been through plan %s, the link names %s, and the plan's binary can't run: %s", last.Plan, f.Link.Dir, fault)
	hint := f.placeHint(last.Dir, last.Name) + "\nif the binary in use is the right one for this data, with solstice stopped: " + switchHint(f.Link.Dir)
	switch {
	case fault == "":
		d.Dir, d.Relink, d.Under = last.Dir, true, &last.Plan
		d.Note = fmt.Sprintf("the data has been through plan %s, and the link names %s: the link goes to the plan's binary", last.Plan, f.Link.Dir)
	case f.File != nil && f.File.Is(last.Plan):
		d.Action, d.Plan, d.Dir, d.Relink = Wait, f.File.Plan, last.Dir, false
		d.Reason, d.Hint, d.Contradicts = reason, hint, true
	case len(f.History) == 0:
		// A new home with the chain's present binary in genesis/, and data from elsewhere: as Cosmovisor would.
		d.Note = fmt.Sprintf("the data has been through plan %s, of which this home knows nothing: the binary in genesis is taken for the right one", last.Plan)
	default:
		*d = contradiction(reason, hint)
	}
}

// older says whether the directory's binary is known to be from before a switch: it is genesis, or that of a plan before it. One
// that the operator has pointed the link at by hand, and of which nothing is known, is not.
func (f Facts) older(dir string, than Switched) bool {
	known, height := dir == solstice.Genesis, int64(0)
	for _, s := range slices.Concat(f.History, f.Done) {
		if s.Dir == dir {
			known, height = true, max(height, s.Height)
		}
	}
	return known && height < than.Height
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

func refuse(reason, hint string) Decision {
	return Decision{Action: Refuse, Reason: reason, Hint: hint}
}

// contradiction is a refusal because what is known contradicts itself.
func contradiction(reason, hint string) Decision {
	return Decision{Action: Refuse, Reason: reason, Hint: hint, Contradicts: true}
}

func refuseLink(f Facts) Decision {
	var hints []string
	for _, dir := range f.knownDirs() {
		hints = append(hints, "if this is what the chain needs: "+switchHint(dir))
	}
	return contradiction("the current link can't be used: "+f.Link.Fault, strings.Join(hints, "\n"))
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
	return "solstice switch " + name
}

// placeHint is what to do about a fault of the binary in a directory.
func (f Facts) placeHint(dir, name string) string {
	if hint := f.Hints[dir]; hint != "" {
		return hint
	}
	return fmt.Sprintf("place the binary: solstice add-upgrade %s PATH", name)
}

// cancelHint is what else can be done about a plan that waits: one that the chain does not know needs not be carried out.
func (f Facts) cancelHint(c Candidate) string {
	if !c.Manual || f.File != nil && f.File.Is(c.Plan) {
		return ""
	}
	return "\nor take your plan off the list: solstice cancel-upgrade " + c.Name
}
