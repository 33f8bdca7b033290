package upgrade

import (
	"cmp"
	"fmt"
	"slices"

	"solstice"
	"solstice/internal/shell"
)

// Facts are what is known when it is decided what to run. Gather reads them; Decide reads
// nothing else.
type Facts struct {
	Link solstice.Link
	// Running says that a node runs. Launched is the directory that it was started from:
	// the link may have been moved since.
	Running  bool
	Launched string
	// Examined says that the node did not end by itself: it was stopped to read its
	// databases.
	Examined bool
	// NoDatabases says that the stopped node has none at all, of whatever kind.
	NoDatabases bool
	Height      Height
	Initial     int64       // the chain's first height; 0: unknown
	Fetching    bool        // the node was started without databases and is told to fetch a state
	File        *Candidate  // the plan in data/upgrade-info.json; nil without a whole and valid one
	Manual      []Candidate // the operator's manual plans
	Seen        Seen
	// Named are the plans that the directory in use was switched to for, as the journal or
	// the file beside its binary says.
	Named []solstice.Plan
	// History are all the switches of which there is a trace, oldest first.
	History []Switched
	// Done is what the data went through by its own marks, by height, each with the
	// directory of the plan's binary. While a node runs it may have gone through more.
	Done      []Switched
	DoneKnown bool // Done is complete, at the height Height
	// Gone says that the node had databases and has none any more: it would begin at its
	// genesis.
	Gone    bool
	Begun   *Begun
	Skip    []int64           // heights after --unsafe-skip-upgrades
	Skipped []Skipped         // plans that a rollback took off the list
	Faults  map[string]string // by directory, why its binary can't be used; no entry: it can
	Hints   map[string]string // by directory, what to do about its fault; no entry: place a binary
	// Lacks says by directory what its sidecars lack. A plan that is due waits for them
	// too; a launch does not.
	Lacks   map[string]Lack
	Retried *Retried
	// SwitchesItself says that the node goes through its plans by itself, with the binary
	// that Link names.
	SwitchesItself bool
}

// Candidate is a plan that may have to be carried out, and the directory of its binary.
type Candidate struct {
	solstice.Plan
	Dir    string
	Manual bool // it is on the operator's list
	Below  bool // a manual plan that was seen ahead once: it is carried out however late it gets
	// Written says that the plan file was written by the node itself, in this run or in
	// the one that just ended, as far as its own answers do not say otherwise.
	Written bool
}

// Begun is an upgrade that the journal began and did not bring to its switch.
type Begun struct {
	solstice.Plan
	Manual bool
	Dir    string // that it was to switch to: the link may name it already
}

// Switched is a plan and the directory that the link was switched to for it.
type Switched struct {
	solstice.Plan
	Dir string
	// Manual says that the chain did not know of the plan. Confirmed says that its binary
	// was seen to commit the plan's height.
	Manual, Confirmed bool
}

// Retried is the plan for which the old binary was started again because the stopped
// node's databases, at At, were below its height. It is done once per halt: with other
// evidence than that from before it is another one.
type Retried struct {
	solstice.Plan
	At int64 `json:"at"`
	// Told is what the node itself had told before; 0: nothing. Written says that it had
	// written the plan's file.
	Told    int64 `json:"told,omitempty"`
	Written bool  `json:"written,omitempty"`
}

// Skipped is a plan that is not to be carried out.
type Skipped struct {
	solstice.Plan
	Manual bool // the chain doesn't know of it
}

// Held is a plan that is not carried out although its height may come, and why.
type Held struct {
	Candidate
	Reason, Hint string
}

// Action is what to do.
type Action int

// Actions.
const (
	Refuse   Action = iota // change nothing, say Reason and Hint
	Launch                 // the binary in Dir is the one to run, or the one that runs on
	CarryOut               // Plan is due and its binary is there
	Wait                   // Plan is due and can't be carried out yet: Reason. A running node is left as it is
	// Examine stops the running node and reads its databases before the link moves: what
	// says that Plan is due is not enough to switch a node that may be healthy.
	Examine
)

func (a Action) String() string {
	return [...]string{"refuse", "launch", "carry out", "wait", "examine"}[a]
}

// Decision is what Decide says.
type Decision struct {
	Action Action
	// Certain says that CarryOut rests on both: the node wrote the file itself, and told
	// that it has committed the block before the plan's height.
	Certain bool
	Dir     string // of the binary to launch, or of Plan
	Plan    solstice.Plan
	Relink  bool           // Launch: the link has to be made
	Under   *solstice.Plan // Launch, with Relink: the plan that the link is moved for, of which the journal knows nothing
	// HaltedAgain says that the binary in use halted for its own plan, for certain.
	HaltedAgain bool
	// Again is set where a node that ended for a plan is started once more with the old
	// binary, because its databases are below the plan's height.
	Again  *solstice.Plan
	Notes  []string // Launch: what the operator should know
	Reason string
	Hint   string
	// Contradicts says that what is known contradicts itself: the operator is shown all
	// of it.
	Contradicts bool

	Pending []Candidate // not due yet, by height
	Held    []Held
	Over    []solstice.Plan // applied or passed: none of them is due again
	Drop    []solstice.Plan // manual plans that are applied or whose height has passed
	Mark    []solstice.Plan // manual plans that are seen ahead for the first time
	Ahead   []solstice.Plan // plans of other hands in the plan file that are seen ahead
	Passed  []solstice.Plan // plans of the chain that were skipped, and whose height is behind
	Itself  []solstice.Plan // plans that the node went through by itself
	// Keep is the plan that the node goes through by itself right after its launch: the
	// last moment for a snapshot. Nil: none.
	Keep *solstice.Plan
}

// Decide says what to run. It follows docs/deciding.md, whose rules the comments here and
// the tests name. Of several due plans the highest counts: the chain is past the others.
func Decide(f Facts) Decision {
	var d Decision
	if f.Link.Fault != "" && !f.Running {
		return refuseLink(f)
	}
	if f.SwitchesItself {
		// Its binary is the right one before and after every plan, so the data can't
		// contradict it (L1 to L5).
		f.Done, f.DoneKnown = nil, false
	}
	due := f.classify(&d)
	switch {
	case f.Running && !f.SwitchesItself && f.File != nil && f.haltedAgain():
		d.Action, d.Plan, d.Dir = Wait, f.File.Plan, f.Launched
		d.Reason, d.Hint = OldRelease(f.Launched, f.File.Plan)
		if d.HaltedAgain = f.Height.Tied && f.Height.exactly(f.File.Height-1); !d.HaltedAgain {
			d.Reason += "; height unknown: if the node is producing blocks, the plan file was placed by hand"
			d.Hint += ", and start solstice again"
		}
	case due != nil && f.isBehindLink(*due): // L1
		f.launch(&d)
	case due != nil && f.Faults[due.Dir] != "":
		d.Action, d.Plan, d.Dir = Wait, due.Plan, due.Dir
		d.Reason = f.Faults[due.Dir]
		d.Hint = f.placeHint(due.Dir, due.Name) + f.cancelHint(*due)
	case due != nil && f.Lacks[due.Dir] != Lack{}:
		d.Action, d.Plan, d.Dir = Wait, due.Plan, due.Dir
		d.Reason, d.Hint = f.Lacks[due.Dir].Fault, f.Lacks[due.Dir].Hint(due.Name)+f.cancelHint(*due)
	case due != nil && f.Running && !f.certain(*due) && f.retried(*due):
		d.Action, d.Plan, d.Dir = Wait, due.Plan, due.Dir
		d.Reason = fmt.Sprintf("nothing confirms that block %d is committed, and the old binary was started again", due.Height-1)
		d.Hint = f.decideHint(*due)
	case due != nil && f.Running && !f.certain(*due):
		d.Action, d.Plan, d.Dir = Examine, due.Plan, due.Dir
		d.Reason = f.lacksEvidence(*due)
	case due != nil:
		d.Action, d.Plan, d.Dir, d.Certain = CarryOut, due.Plan, due.Dir, f.certain(*due)
	case f.Running:
		d.Action, d.Dir = Launch, f.InUse()
	default:
		f.launch(&d)
	}
	return d
}

// isBehindLink says whether the link of a stopped node names the binary of a later plan than
// the one that is due, which its data is not at yet: the link does not go back by itself.
func (f Facts) isBehindLink(due Candidate) bool {
	p, ahead := f.linkAhead()
	return ahead && p.Height > due.Height && !f.Running && !due.Written && !f.begun(due.Plan)
}

// begun says whether an upgrade to a plan was begun and not brought to its switch.
func (f Facts) begun(p solstice.Plan) bool { return f.Begun != nil && f.Begun.Is(p) }

// classify sorts the candidates into due, pending, held and passed ones, and returns the
// due one that counts.
func (f Facts) classify(d *Decision) (due *Candidate) {
	for _, c := range f.candidates() {
		skipped := slices.ContainsFunc(f.Skipped, func(s Skipped) bool { return s.Is(c.Plan) })
		behind := f.Height.Reached(c.Height)
		switch {
		case skipped:
		case slices.Contains(f.Skip, c.Height): // P7
			if behind && !c.Manual {
				d.Passed = append(d.Passed, c.Plan)
			}
		case c.Manual && !f.Height.Reached(c.Height-1) && f.Applied(c.Plan) && !f.takenBack(c.Plan):
			d.Pending = append(d.Pending, c) // its binary is in use; whether too early is not known
		case f.Applied(c.Plan), f.takenBack(c.Plan): // P6
			d.over(&c)
		case f.SwitchesItself && behind: // P9
			d.over(&c)
			d.Itself = append(d.Itself, c.Plan)
		case f.SwitchesItself:
			d.Pending = append(d.Pending, c)
			if is, _ := f.due(c); is && !f.Running {
				d.Keep = &c.Plan
			}
		case f.passed(c), f.overtaken(c): // P5, P8
			d.over(&c)
		default:
			due = f.weigh(d, c, due)
		}
	}
	if f.Height.Known() && !f.Height.Tied {
		// Another node's word is not written down.
		d.Mark, d.Ahead, d.Drop, d.Passed, d.Itself = nil, nil, nil, nil, nil
	}
	return due
}

// weigh sorts a candidate that is neither applied nor passed.
func (f Facts) weigh(d *Decision, c Candidate, due *Candidate) *Candidate {
	switch {
	case f.stateSyncing():
	case c.Manual && !c.Below && f.Height.Below(c.Height):
		d.Mark = append(d.Mark, c.Plan)
	case !c.Manual && !c.Written && !f.Seen.Of(c.Plan).Ahead && f.Height.Below(c.Height-1): // at H-1 it may be the chain's
		d.Ahead = append(d.Ahead, c.Plan)
	}
	is, held := f.due(c)
	switch {
	case held != nil:
		d.Held = append(d.Held, *held)
	case is:
		d.over(due) // the chain is past it
		return &c
	default:
		d.Pending = append(d.Pending, c)
	}
	return due
}

// candidates are all plans by height, at equal heights the chain's last. A plan that both
// the operator and the plan file know is one.
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

// over notes that a plan is not outstanding. A manual one is taken off the list; the plan
// file is not ours to touch.
func (d *Decision) over(c *Candidate) {
	switch {
	case c == nil:
	case c.Manual:
		d.Drop = append(d.Drop, c.Plan)
	default:
		d.Over = append(d.Over, c.Plan)
	}
}

// InUse is the directory of the node's binary: the one that a running node was started
// from, else the one that the link names.
func (f Facts) InUse() string {
	if f.Running {
		return cmp.Or(f.Launched, f.Link.Dir)
	}
	return f.Link.Dir
}

// Applied says whether a plan is carried out (P6). Below H-1 nothing is; else the data has
// its mark, or the journal switched to it and the data is at H or above, or the directory
// in use is its own.
func (f Facts) Applied(p solstice.Plan) bool {
	switch {
	case f.Height.Below(p.Height - 1):
		return false
	case f.done(p):
		return true
	case f.refuted(p):
		return false
	case f.switchedTo(p) && (f.Height.Reached(p.Height) || f.inPlaceOf(p)):
		return true
	}
	return f.named(p)
}

func (f Facts) switchedTo(p solstice.Plan) bool {
	return slices.ContainsFunc(f.History, func(s Switched) bool { return s.Is(p) })
}

// inPlaceOf says whether the operator has linked a binary, such as a hot-fix, that is not
// known to be from before a plan, after the link was switched to that plan's.
func (f Facts) inPlaceOf(p solstice.Plan) bool {
	last, _ := f.lastSwitch()
	return last.Height == p.Height && f.InUse() != "" && !f.older(f.InUse(), last)
}

// refuted says whether a node that runs, or ran, with another binary than a plan's own has
// halted for that plan: whatever says that the plan is behind that binary is wrong.
func (f Facts) refuted(p solstice.Plan) bool {
	return f.File != nil && f.File.Is(p) && f.File.Written && f.File.Dir != f.InUse() && !f.beyond(*f.File)
}

func (f Facts) done(p solstice.Plan) bool {
	return slices.ContainsFunc(f.Done, func(s Switched) bool { return s.Is(p) })
}

// named says whether the directory in use is a plan's own: it was switched to for that
// plan, or nothing says what for and it has the plan's name. An upgrade that was cut off
// in its switch is not done.
func (f Facts) named(p solstice.Plan) bool {
	if len(f.Named) > 0 || f.SwitchesItself {
		return slices.ContainsFunc(f.Named, p.Is)
	}
	return !f.begun(p) && f.InUse() != "" && f.InUse() == f.dirOf(p)
}

// dirOf is the directory of a candidate's binary, or empty.
func (f Facts) dirOf(p solstice.Plan) string {
	for _, c := range f.candidates() {
		if c.Is(p) {
			return c.Dir
		}
	}
	return ""
}

// takenBack says whether the operator moved the link back by hand from a manual plan's
// binary before it was confirmed: then the plan is void. The chain's plan is due again,
// because the chain cannot pass its height without it.
func (f Facts) takenBack(p solstice.Plan) bool {
	if f.Link.Missing() || f.begun(p) || f.refuted(p) {
		return false
	}
	for i, s := range slices.Backward(f.History) {
		if s.Is(p) {
			return s.Manual && !s.Confirmed && i == len(f.History)-1 && f.InUse() != s.Dir
		}
	}
	return false
}

// scheduled says whether this chain was seen to schedule exactly this plan.
func (f Facts) scheduled(p solstice.Plan) bool { return f.Seen.Of(p).Scheduled > 0 }

// seenAhead says whether a plan was seen while the chain was below its height.
func (f Facts) seenAhead(c Candidate) bool {
	return c.Below || f.Seen.Of(c.Plan).Ahead || f.Height.Below(c.Height) && !f.stateSyncing()
}

// stateSyncing says that the node is about to fetch a state: that it has none yet does not
// say that the chain is at its beginning.
func (f Facts) stateSyncing() bool { return f.Fetching && f.Height.Low < max(f.Initial, 1) }

// manual says whether a plan may be carried out without the chain: it is on the list, or
// the journal began it as such, or other hands placed its file and it was seen ahead.
// What this chain was seen to schedule is the chain's.
func (f Facts) manual(c Candidate) bool {
	if f.scheduled(c.Plan) {
		return false
	}
	begun := f.begun(c.Plan) && f.Begun.Manual
	return begun || f.seenAhead(c) && (c.Manual || !c.Written || f.Seen.Of(c.Plan).Ahead)
}

// passed says whether a plan's height is behind and nothing is left to be done for it
// (P5, P8): it was skipped, cancelled or applied by others, or its file is an old one, as
// public snapshots of a chain's data have it.
func (f Facts) passed(c Candidate) bool {
	seen := f.Seen.Of(c.Plan)
	switch {
	case f.Initial > 0 && c.Height < f.Initial:
		return true
	case seen.Over && !c.Written && !f.Height.Below(c.Height):
		return true
	case f.recordOnly(c):
		return false
	}
	return f.Height.Reached(c.Height) && !f.manual(c)
}

// overtaken says whether a plan of a greater height is applied: whatever kept this one from
// being carried out, its binary is older than the data.
func (f Facts) overtaken(p Candidate) bool {
	later := func(s Switched) bool { return s.Height > p.Height && f.Height.Reached(s.Height) && !f.recordOnly(p) }
	inUse := func(named solstice.Plan) bool { return named.Height > p.Height && !f.Height.Below(named.Height-1) }
	applied := func(c Candidate) bool {
		return c.Height > p.Height && (f.Height.Known() && f.Applied(c.Plan) || f.linkedByHand(c))
	}
	switch {
	case slices.ContainsFunc(f.Done, func(s Switched) bool { return s.Height > p.Height }), slices.ContainsFunc(f.History, later):
		return true
	case f.refuted(p.Plan):
		return false
	}
	return slices.ContainsFunc(f.Named, inUse) || slices.ContainsFunc(f.candidates(), applied)
}

// linkedByHand says whether the operator has linked a plan's binary ahead of its height.
func (f Facts) linkedByHand(c Candidate) bool {
	return c.Dir == f.InUse() && len(f.Named) == 0 && !f.begun(c.Plan) && !f.SwitchesItself
}

// beyond says that a plan's height is committed, by more than a record that may be of other
// data.
func (f Facts) beyond(c Candidate) bool { return f.Height.Reached(c.Height) && !f.recordOnly(c) }

// due says whether a plan's height has come (P1 to P4), or why it is held (P10, P11).
func (f Facts) due(c Candidate) (is bool, held *Held) {
	is = f.chainDue(c) || f.manualDue(c)
	// A node that halts has its plan scheduled. Where its databases say that it has not, other
	// hands wrote the file.
	if f.Seen.Of(c.Plan).Contradicted() && (!c.Written || f.DoneKnown && !f.Running) {
		return false, &Held{c, fmt.Sprintf("the chain had plan %s scheduled and no longer has", c.Plan),
			"if it is to be carried out all the same: " + addHint(c.Name, c.Height)}
	}
	if other := f.chainsAt(c); other != nil {
		return false, &Held{c, fmt.Sprintf("the chain has plan %s for the same height, and that one counts", other),
			"take yours off the list: solstice cancel-upgrade " + shell.Quote(c.Name)}
	}
	return is, nil
}

// chainDue says whether a plan of the chain is due: the chain cannot pass H without it, so
// it is while H-1 is what is committed. A range that begins at H-1 says so, because H is
// not committed; where it begins below, only the file that the node wrote itself does. A
// begun upgrade was due when it was begun.
func (f Facts) chainDue(c Candidate) bool {
	begun := f.begun(c.Plan) && !f.Begun.Manual
	written := begun || c.Written && (!f.Examined || f.NoDatabases || f.Height.narrow())
	switch {
	case f.Gone:
		return false // it would begin at its genesis
	case !f.Height.Known() || f.recordOnly(c):
		return written
	case !f.Height.may(c.Height - 1):
		return false
	}
	return written || f.scheduled(c.Plan) && f.Height.narrow() && f.Height.Low == c.Height-1
}

// recordOnly says that the node wrote the file, and only the record of an earlier run tells
// a height: the data may have been replaced since. The databases decide then; where they
// cannot be read, a second halt for the same plan does.
func (f Facts) recordOnly(c Candidate) bool {
	again := f.Retried != nil && f.Retried.Is(c.Plan) && !f.Examined
	return c.Written && f.Height.Source == SourceRecord && (f.Running || again)
}

// manualDue says whether a manual plan is due: from H-1 on, however late it is noticed,
// because the chain does not halt for it.
func (f Facts) manualDue(c Candidate) bool {
	if !f.manual(c) || f.Gone {
		return false
	}
	return f.Height.Reached(c.Height-1) || f.begun(c.Plan) && !f.Height.Known()
}

// certain says whether a plan may be carried out without reading the databases: the node
// wrote the file itself, and an answer that is tied to it says that H-1 is committed.
func (f Facts) certain(c Candidate) bool {
	return c.Written && f.Height.Tied && f.Height.exactly(c.Height-1)
}

// lacksEvidence says what a plan that looks due lacks to be carried out at once.
func (f Facts) lacksEvidence(c Candidate) string {
	switch {
	case c.Manual && !f.scheduled(c.Plan):
		return "manual plan: the chain does not halt for it"
	case f.Height.Tied && f.Height.exactly(c.Height-1):
		return "the node has not written the plan file itself"
	}
	return fmt.Sprintf("the node has not told that block %d is the last that is committed; its height is %s", c.Height-1, f.Height)
}

// retried says whether the old binary was started again already, and nothing new says since
// that the plan is due. New is that the node wrote its file, or that it told so much more
// than then that its databases, were they behind as far as then, have the height now. From
// far below the height it was not its halt.
func (f Facts) retried(c Candidate) bool {
	r := f.Retried
	switch {
	case r == nil || !r.Is(c.Plan), c.Written && !r.Written:
		return false
	case f.Height.Tied && f.Height.bounded() && f.Height.Low-max(r.Told-r.At, 0) >= c.Height-1:
		return false
	}
	return !c.Written || r.At >= c.Height-1-asyncBlocks
}

// chainsAt is another plan, of the chain, for the height of a manual one; nil: none.
func (f Facts) chainsAt(c Candidate) *solstice.Plan {
	if f.scheduled(c.Plan) || c.Written && !f.beyond(c) {
		return nil
	}
	other := func(p solstice.Plan) bool { return p.Height == c.Height && !p.Is(c.Plan) }
	for _, s := range f.Seen {
		// Without its mark beyond its height it was cancelled in the last moment.
		gone := f.DoneKnown && f.Height.Reached(s.Height) && !f.done(s.Plan)
		if other(s.Plan) && s.Scheduled > 0 && !s.Contradicted() && !gone {
			return &s.Plan
		}
	}
	for _, s := range f.Done {
		if other(s.Plan) {
			return &s.Plan
		}
	}
	for _, s := range f.History {
		if other(s.Plan) && !s.Manual {
			return &s.Plan
		}
	}
	if f.File != nil && other(f.File.Plan) && (f.File.Written || f.Applied(f.File.Plan)) {
		return &f.File.Plan
	}
	return nil
}

// haltedAgain says whether the new binary of a plan has written that plan's file: it has
// no handler for it, so it is the old release under the new name. A file that other hands
// placed looks the same where the node does not tell its height; nothing is stopped for it.
func (f Facts) haltedAgain() bool {
	below := !f.Height.Known() || f.Height.may(f.File.Height-1)
	return below && f.File.Written && f.named(f.File.Plan) && !f.refuted(f.File.Plan)
}

// OldRelease says so of the binary in a directory.
func OldRelease(dir string, p solstice.Plan) (reason, hint string) {
	return fmt.Sprintf("the binary in %s halted for plan %s itself: it has no handler for it, so it is probably the old release", dir, p),
		"place the right one: " + placeCommand(p.Name) + " --force"
}
