package upgrade

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"solstice"
	"solstice/node"
	"solstice/watch"
)

// Gathered is what Gather found.
type Gathered struct {
	Facts
	Journal   Entries
	FileFault error // why the plan file is not a plan yet; nil when there is none, or a whole one
	// ManualFault is why the list of manual plans is not known: those that are on it are
	// not carried out. HeightFault and SeenFault are why these files are not used, and
	// JournalFault is why nothing is known of earlier upgrades: no new one can begin.
	ManualFault, HeightFault, SeenFault, JournalFault error

	// Behind are the plans of the switches up to the one that the link stands for. Who moves
	// the link back by hand takes the later ones back.
	Behind []solstice.Plan
	Staged []string // directories of upgrades that no switch was made to yet
	Told   Height   // what the node told last, where the height is from its databases
	disk   *node.Heights
	home   solstice.Home
}

// FileFaults are the faults of files of ours, each a sentence with what follows from it. None
// of them stops the node.
func (g *Gathered) FileFaults() (faults []error) {
	add := func(consequence string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", consequence, err))
		}
	}
	add("manual plans are not carried out", g.ManualFault)
	add("no upgrade can begin", g.JournalFault)
	add("the last known height is not used", g.HeightFault)
	add("what was seen of earlier plans is not used", g.SeenFault)
	return faults
}

// Gather reads from disk what Decide needs. Only the link must be readable: a fault in any
// other file stands beside the facts. cache may be nil; with it, files that have not
// changed are not read again.
func Gather(home solstice.Home, live Live, cache *Probes) (Gathered, error) {
	if cache == nil {
		cache = &Probes{}
	}
	g := Gathered{disk: live.Disk, home: home, Facts: Facts{
		Running: live.Running(), Launched: live.Launched, Examined: live.Examining, NoDatabases: live.Disk != nil && live.Disk.Empty, Height: live.Height, Initial: live.Initial, Fetching: live.Fetching,
		Skip: live.Skip, Seen: live.Seen, Retried: live.Retried, DoneKnown: live.DoneKnown && live.Disk != nil,
		SwitchesItself: home.SwitchesItself,
		Faults:         map[string]string{}, Hints: map[string]string{}, Lacks: map[string]Lack{},
	}}
	var err error
	if g.Link, err = home.Current(); err != nil {
		return g, err
	}
	g.Journal, g.JournalFault = cache.journal(home)
	var manual []ManualPlan
	if manual, g.ManualFault = ReadManual(home); g.ManualFault == nil {
		for _, m := range manual {
			g.Manual = append(g.Manual, Candidate{Plan: m.Plan, Dir: g.dirFor(m.Plan), Manual: true, Below: m.Below})
		}
	}
	batch, _ := ReadBatch(home) // ImportBatch tells
	for _, p := range batch {
		if !slices.ContainsFunc(g.Manual, func(c Candidate) bool { return c.Is(p) }) {
			g.Manual = append(g.Manual, Candidate{Plan: p, Dir: g.dirFor(p), Manual: true})
		}
	}
	// A file that has changed since Live looked at it is newer than what the node told, and
	// one that has changed since the node ended was written by others.
	at := watch.StampOf(home.PlanFile())
	unseen := at != live.PlanAt
	switch plan, err := solstice.ReadPlan(home.PlanFile()); {
	case unseen && live.Running():
	case err == nil:
		g.File = &Candidate{Plan: plan, Dir: g.dirFor(plan), Written: live.Written && (!unseen || at.SameContent(live.PlanAt))}
	case !errors.Is(err, fs.ErrNotExist):
		g.FileFault = err
	}
	if begun, ok := g.Journal.Begun(); ok {
		g.Begun = &Begun{begun.Plan, begun.Manual, begun.Dir}
	}
	g.readHeight(live)
	for _, plan := range live.Done {
		g.Done = append(g.Done, Switched{Plan: plan, Dir: home.UpgradeDir(plan.Name)})
	}
	if !live.SeenKnown {
		g.Seen, g.SeenFault = ReadSeen(home)
	}
	if d := live.Disk; d != nil && d.Committed.Err == nil && d.Upgrades.Err == nil {
		g.Seen, _ = g.Seen.SawSchedule(d.Upgrades.Scheduled, d.Committed.Height)
	}
	g.Skipped = g.Journal.Skipped()
	var dirs []string
	g.History, dirs = cache.history(home, g.Journal)
	g.Staged = staged(dirs, g.History, g.candidates())
	g.Named = named(home, g.InUse(), g.Journal)
	g.Behind = behindLink(home, g.Link, g.Journal, g.History)
	g.checkBinaries(cache)
	return g, nil
}

// dirFor is the directory of the binary that carries out a plan: its own, or of a node
// that switches by itself the one in use.
func (g *Gathered) dirFor(plan solstice.Plan) string {
	if g.SwitchesItself {
		if g.Link.Dir != "" {
			return g.Link.Dir
		}
		return solstice.Genesis
	}
	return g.home.UpgradeDir(plan.Name)
}

// readHeight says how far the chain is: as the node told it, or its databases, or the
// record of what it told last (H1 to H6 in docs/deciding.md).
func (g *Gathered) readHeight(live Live) {
	told, record, err := toldHeight(g.home)
	g.HeightFault = err
	if !g.Height.Known() {
		g.Height = told
	}
	if live.Disk == nil {
		return
	}
	g.Told = g.Height
	g.Height = bestHeight(*live.Disk, g.Height, record.At)
	if g.Gone = record.Databases && live.Disk.Empty && !g.SwitchesItself; g.Gone {
		g.Height = Height{} // what was told is of other data
	}
}

// IsManual says whether the chain doesn't know a plan: the operator added it or placed its
// file, and the chain was not seen to schedule it.
func (g *Gathered) IsManual(p solstice.Plan) bool {
	switch {
	case g.scheduled(p):
		return false
	case g.File == nil || !g.File.Is(p):
		return true
	}
	if begin, ok := g.Journal.LastBegin(p); ok {
		return begin.Manual
	}
	return !g.File.Written && (g.Seen.Of(p).Ahead || slices.ContainsFunc(g.Manual, func(c Candidate) bool { return c.Is(p) }))
}

// Under is the plan that the binary in use came with, or the zero plan.
func (g *Gathered) Under() solstice.Plan {
	var under Switched
	for _, s := range g.History {
		if s.Dir == g.InUse() && s.Height >= under.Height {
			under = s
		}
	}
	return under.Plan
}

// history is every switch that the journal or a file beside a binary tells of. The
// journal's come last, in their order: the others have no time.
func history(journal Entries, applied []Switched) []Switched {
	switches := journal.Switches()
	var others []Switched
	for _, a := range applied {
		if !slices.ContainsFunc(switches, func(s Switched) bool { return s.Is(a.Plan) }) {
			others = append(others, a)
		}
	}
	return append(others, switches...)
}

// named are the plans that a directory was switched to for.
func named(home solstice.Home, dir string, journal Entries) (plans []solstice.Plan) {
	if dir == "" {
		return nil
	}
	for _, s := range journal.Switches() {
		if s.Dir == dir {
			plans = append(plans, s.Plan)
		}
	}
	if plan, err := solstice.ReadPlan(home.AppliedFile(dir)); err == nil && !slices.ContainsFunc(plans, plan.Is) {
		plans = append(plans, plan)
	}
	return plans
}

// behindLink are the plans behind the binary that the link names: the switch to it, and
// those before it.
func behindLink(home solstice.Home, link solstice.Link, journal Entries, history []Switched) (plans []solstice.Plan) {
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

// fewDirs is how many directories of upgrades are looked into ahead of time without a plan
// for them.
const fewDirs = 32

// staged are the directories that no switch was made to yet: of the plans that are known,
// and all of them where there are few.
func staged(dirs []string, history []Switched, candidates []Candidate) (staged []string) {
	if len(dirs) > fewDirs {
		dirs = nil
		for _, c := range candidates {
			dirs = append(dirs, c.Dir)
		}
	}
	for _, dir := range dirs {
		if !slices.ContainsFunc(history, func(s Switched) bool { return s.Dir == dir }) {
			staged = append(staged, dir)
		}
	}
	return staged
}

// checkBinaries looks at the binaries that may have to be started: those of all plans, and
// without a running node those that may be the one in use.
func (g *Gathered) checkBinaries(probes *Probes) {
	var dirs []string
	for _, c := range g.candidates() {
		dirs = append(dirs, c.Dir)
	}
	if !g.Running {
		dirs = append(dirs, solstice.Genesis, g.Link.Dir)
		if last, ok := g.lastSwitch(); ok {
			dirs = append(dirs, last.Dir)
		}
		if last, ok := g.lastApplied(); ok {
			dirs = append(dirs, last.Dir)
		}
	}
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		g.fault(dir, CheckBinary(g.home, dir, probes))
	}
	for _, c := range g.candidates() {
		if g.SwitchesItself || g.Applied(c.Plan) {
			continue
		}
		g.Lacks[c.Dir] = CheckSidecars(g.home, c.Dir)
		if g.Faults[c.Dir] != "" {
			continue
		}
		g.fault(c.Dir, CheckLoads(g.home, c.Dir, probes))
		if !c.Manual && g.Faults[c.Dir] == "" {
			g.fault(c.Dir, CheckPlanned(g.home, c.Plan, c.Dir, probes))
		}
	}
}

func (g *Gathered) fault(dir string, err error) {
	if err != nil {
		g.Faults[dir], g.Hints[dir] = err.Error(), solstice.HintOf(err, "")
	}
}

// scan remembers what the files of a home's history said, for as long as these files and
// folders stay the same. It belongs to one process that holds the home: nobody else
// changes the files beside binaries meanwhile.
type scan struct {
	journalAt  watch.Stamp
	journal    Entries
	upgradesAt [2]watch.Stamp // of the folder, and of the journal: a switch changes a file beside a binary
	applied    []Switched
	dirs       []string
	history    []Switched // what both say together, at historyAt
	historyAt  [2]watch.Stamp
}

// journal is Journal.Read, once while the file stays the same.
func (p *Probes) journal(home solstice.Home) (Entries, error) {
	p.scanning.Lock()
	defer p.scanning.Unlock()
	at := watch.StampOf(home.JournalFile())
	if p.scan.journalAt == at && at != (watch.Stamp{}) {
		return slices.Clip(p.scan.journal), nil
	}
	entries, err := OpenJournal(home).Read()
	if err == nil {
		p.scan.journalAt, p.scan.journal = at, entries
	}
	return entries, err
}

// history is every switch of which there is a trace, and the directories of upgrades. Both
// are shared: they are not to be changed.
func (p *Probes) history(home solstice.Home, journal Entries) (switches []Switched, dirs []string) {
	applied, dirs := p.applied(home)
	p.scanning.Lock()
	defer p.scanning.Unlock()
	if at := p.scan.upgradesAt; p.scan.history == nil || p.scan.historyAt != at {
		p.scan.history, p.scan.historyAt = slices.Clip(history(journal, applied)), at
	}
	return p.scan.history, dirs
}

// applied are the plans beside the binaries, and the directories of upgrades. There may be
// ten thousand.
func (p *Probes) applied(home solstice.Home) (applied []Switched, dirs []string) {
	p.scanning.Lock()
	defer p.scanning.Unlock()
	at := [2]watch.Stamp{watch.StampOf(home.Upgrades()), watch.StampOf(home.JournalFile())}
	if p.scan.upgradesAt == at && at[0] != (watch.Stamp{}) {
		return p.scan.applied, p.scan.dirs
	}
	for _, name := range home.Dirs() {
		dirs = append(dirs, filepath.Join("upgrades", name))
	}
	for _, dir := range append(dirs, solstice.Genesis) {
		if plan, err := solstice.ReadPlan(home.AppliedFile(dir)); err == nil {
			applied = append(applied, Switched{Plan: plan, Dir: dir})
		}
	}
	p.scan.upgradesAt, p.scan.applied, p.scan.dirs = at, applied, dirs
	return applied, dirs
}
