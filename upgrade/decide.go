package upgrade

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"

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
	Begun   *solstice.Plan    // the upgrade that the journal began and did not bring to its switch
	Skip    []int64           // heights after --unsafe-skip-upgrades
	Skipped []Skipped         // plans that a rollback took off the list
	Faults  map[string]string // by directory, why its binary can't be used; no entry: it can
	Running bool              // a node runs, under the binary that Link names
}

// Height is how far the chain is known to be on this home.
type Height struct {
	Committed int64 // the last block that is known to be committed; it may be further
	Known     bool
	// Answered says that the node itself told it, after the plan file was written.
	Answered bool
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
	Relink bool // Launch: the link is lost and has to be made anew
	Reason string
	Hint   string

	Pending []Candidate     // not due yet, by height
	Drop    []solstice.Plan // manual plans whose height has passed
	Mark    []solstice.Plan // manual plans that are seen ahead for the first time
}

// Decide says what to run. It follows docs/cosmovisor.md A10 to A16:
//
// A plan is due when the block before its height is committed. A plan file that was written while the node ran is
// due at once, unless the node says that it isn't there yet. Unknown height: not due. An upgrade is known by
// name and height; what is applied or skipped is no candidate. Of several due plans the highest counts: the chain
// is past the others. A lost link is made anew only if it is beyond doubt what it was.
func Decide(f Facts) Decision {
	var d Decision
	if f.Link.Fault != "" && !f.Running {
		return refuseLink(f)
	}
	due := f.sift(&d)
	switch {
	case due != nil && f.Faults[due.Dir] != "":
		d.Action, d.Plan, d.Dir = Wait, due.Plan, due.Dir
		d.Reason = f.Faults[due.Dir]
		d.Hint = fmt.Sprintf("place the binary: solstice add-upgrade %s PATH", due.Name)
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
		switch {
		case slices.Contains(f.Skip, c.Height), slices.ContainsFunc(f.Skipped, func(s Skipped) bool { return s.Is(c.Plan) }):
		case f.applied(c.Plan), c.Manual && !c.Below && behind:
			d.drop(&c)
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

func (f Facts) due(c Candidate) bool {
	switch {
	case f.Height.Known && f.Height.Committed >= c.Height-1:
		return true
	case f.Begun != nil && f.Begun.Is(c.Plan):
		return true // it was due when it was begun
	default:
		return c.Written && !f.Height.Answered
	}
}

// launch decides what runs when nothing does and no plan is due.
func (f Facts) launch(d *Decision) {
	dir := f.Link.Dir
	for _, s := range f.Skipped {
		behind := f.Height.Known && f.Height.Committed >= s.Height
		if !s.Manual && !behind && !slices.Contains(f.Skip, s.Height) {
			*d = refuse(fmt.Sprintf("plan %s is to be skipped, as a rollback noted, and the node would halt there", s.Plan),
				fmt.Sprintf("start it with: solstice run start --unsafe-skip-upgrades %d\nor, if it is to be carried out after all: solstice rollback --binary PATH", s.Height))
			return
		}
	}
	if f.Link.Missing() {
		last, known := f.lastSwitch()
		switch {
		case !known && (f.File == nil || f.Height.Known):
			dir = solstice.Genesis // nothing else is known, or the only plan is still ahead
		case !known:
			*d = refuse(fmt.Sprintf("there is no current link, and plan %s may have been carried out already: the height is not known", f.File.Plan),
				linkHint(f.File.Dir)+"\nor, if it is still ahead: "+linkHint(solstice.Genesis))
			return
		case !f.Height.Known || f.Height.Committed < last.Height-1:
			*d = refuse(fmt.Sprintf("there is no current link; the last switch was to %s for plan %s, and no height confirms it", last.Dir, last.Plan),
				linkHint(last.Dir))
			return
		default:
			dir = last.Dir
		}
		d.Relink = true
	}
	if fault := f.Faults[dir]; fault != "" {
		hint := "place it: solstice init PATH"
		if dir != solstice.Genesis {
			hint = fmt.Sprintf("place it: solstice add-upgrade %s PATH", filepath.Base(dir))
		}
		*d = refuse(fmt.Sprintf("the binary in use can't run: %s", fault), hint)
		return
	}
	d.Action, d.Dir = Launch, dir
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

func refuseLink(f Facts) Decision {
	hint := "make it a link to the directory that the chain needs, one of these:"
	for _, dir := range f.knownDirs() {
		hint += "\n" + linkHint(dir)
	}
	if f.Link.Target == "" {
		hint = "move it away first: mv current current.old\n" + hint
	}
	return refuse("the current link can't be used: "+f.Link.Fault, hint)
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

// linkHint is the command that makes the link, in the folder cosmovisor/.
func linkHint(dir string) string { return fmt.Sprintf("ln -sfn %s current", dir) }
