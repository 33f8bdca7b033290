package upgrade

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"solstice"
	"solstice/internal/durable"
	"solstice/node"
	"solstice/watch"
)

// TestHistories draws lives of a home and of those who lay hands on it, and holds every
// decision against the truth, which Solstice sees only a part of:
//
//  1. A healthy node that runs the right binary is not stopped for a plan that is not
//     outstanding. It may be stopped for a look into its databases where docs/deciding.md
//     says so, once per halt.
//  2. No binary is launched by our own choice at a height that is not its own. What the
//     operator linked is launched as it is. What is refused or waited for has a hint.
//  3. Every plan that is outstanding is carried out in the end.
//  4. A plan that is held is not carried out.
//  5. A reload changes no decision.
//
// The supervisor's part is that of Live, Gather and Decide, for real; what act and loop do
// around them is below. For many histories, with what they drew:
//
//	nice go test ./upgrade -run TestHistories -rapid.checks 10000 -rapid.seed 0 -timeout 0 -v
func TestHistories(t *testing.T) {
	drew := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(memory(), "solstice-histories-")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		l := newLife(rt, dir, drew)
		for range rapid.SampledFrom([]int{3, 10, 25, 50}).Draw(rt, "events") {
			if l.over {
				return
			}
			l.event()
		}
		l.toTheEnd()
	})
	for _, what := range slices.Sorted(maps.Keys(drew)) {
		t.Logf("%7d %s", drew[what], what)
	}
}

// life is a home under Solstice, from one event to the next.
type life struct {
	*truth
	wild   map[string]bool // what kinds of trouble this life has
	events []string
	drew   map[string]int
	how    string // it ends: the node answers, or nothing can be read, or only its databases

	// What the supervisor has.
	up        bool
	live      Live
	probes    *Probes
	unread    bool
	examining *solstice.Plan
	watched   *Watch
	binaryAt  watch.Stamp
	byHand    bool // the operator has linked what runs
	last      bool // the node has ended by itself

	// The node.
	halted, dead bool // dead: it can make no block here
	rpc          string
	stays        bool // at a halt it stays up
	replays      bool // it was started at its halt: then it ends by itself (seen on SDK v0.54)

	hand     string            // the directory that the operator has linked, as long as nobody else moves the link
	excuse   map[string]bool   // why the operator may have to be asked
	looks    map[string]string // the plans for which the node was stopped in vain, and the evidence for it
	evidence int               // counts what may change the evidence
	switched map[int]bool      // plans that were carried out by us
	final    bool
	over     bool // the evidence led astray, by the rules: it ends here
	repairs  int
	waiting  int               // turns for which it waits with nothing new
	garbled  map[string][]byte // optional files that were broken, as they were
	trace    []string
}

func newLife(rt *rapid.T, dir string, drew map[string]int) *life {
	l := &life{
		wild: map[string]bool{}, drew: drew, excuse: map[string]bool{}, looks: map[string]string{}, switched: map[int]bool{},
		garbled: map[string][]byte{}, rpc: "tied", stays: true,
	}
	for _, kind := range []string{"hands", "files", "liars", "silence", "unreadable", "async", "cancels", "broken files", "surgery", "old release", "fetches", "late plans", "missing"} {
		l.wild[kind] = rapid.IntRange(0, 3).Draw(rt, kind) == 0
	}
	l.events = []string{"blocks", "blocks", "blocks", "blocks", "ask", "ask", "scout", "notice", "reload", "cut", "stop", "crash", "record"}
	for kind, events := range map[string][]string{
		"hands": {"hot-fix", "link"}, "files": {"file", "file"}, "liars": {"lie"}, "cancels": {"file", "cancel", "cancel", "scout"},
		"broken files": {"garble"}, "late plans": {"late plan"}, "old release": {"replace"}, "missing": {"replace"}, "surgery": {"stop"},
	} {
		if l.wild[kind] {
			l.events = append(l.events, events...)
		}
	}
	slices.Sort(l.events)
	l.truth = newTruth(rt, dir, func(kind string) bool { return l.wild[kind] })
	l.how = rapid.SampledFrom([]string{"answers", "answers", "dark", "reads"}).Draw(rt, "the end")
	l.probes = &Probes{Dir: l.home.StateDir}
	must(rt, ChangeManual(l.home, func([]ManualPlan) (plans []ManualPlan, err error) {
		for _, p := range l.plans {
			if p.manual && !p.byFile && !p.late {
				plans = append(plans, ManualPlan{Plan: p.Plan})
			}
		}
		return plans, nil
	}))
	must(rt, durable.Symlink(solstice.Genesis, l.home.CurrentLink()))
	for _, p := range l.plans {
		if l.wild["missing"] && rapid.Bool().Draw(rt, "missing") {
			dir := l.home.UpgradeDir(p.Name)
			l.tops[dir] = absent
			must(rt, os.RemoveAll(l.home.Binary(dir)))
			l.drew["binary: missing"]++
		}
	}
	if l.wild["old release"] {
		for i, p := range l.plans {
			if !p.manual && l.tops[l.home.UpgradeDir(p.Name)] == i && rapid.Bool().Draw(rt, "old release") {
				l.tops[l.home.UpgradeDir(p.Name)] = i - 1
				l.drew["binary: the old release under the new name"]++
			}
		}
	}
	return l
}

func (l *life) note(format string, values ...any) {
	text := fmt.Sprintf(format, values...)
	l.trace = append(l.trace, fmt.Sprintf("%6d %s", l.height, text))
}

func (l *life) count(what string) { l.drew[what]++ }

// fault ends the history with what is wrong, and how it came to it.
func (l *life) fault(format string, values ...any) {
	var plans []string
	for i, p := range l.plans {
		plans = append(plans, fmt.Sprintf("%d: %s manual=%v file=%v proposed=%d cancel=%d void=%v", i, p.Plan, p.manual, p.byFile, p.proposed, p.cancel, p.void))
	}
	l.Fatalf("%s\n\ninitial %d, %s\n%s\n\nends: %s, wild: %v\n\n%s", fmt.Sprintf(format, values...),
		l.initial, l.home.Dir, strings.Join(plans, "\n"), l.how, slices.Sorted(maps.Keys(trueOf(l.wild))), strings.Join(l.trace, "\n"))
}

func trueOf(m map[string]bool) map[string]bool {
	maps.DeleteFunc(m, func(_ string, is bool) bool { return !is })
	return m
}

// excused notes why the operator may have to be asked from here on.
func (l *life) excused(why string) { l.excuse[why] = true }

// ends is a history in which the evidence led astray, by the rules.
func (l *life) ends(why string) {
	l.count("ends: " + why)
	l.over = true
}

// event is one thing that happens, and what is done about it.
func (l *life) event() {
	l.now = l.now.Add(time.Duration(rapid.IntRange(1, 40).Draw(l.T, "tenths of a second")) * 100 * time.Millisecond)
	if !l.up {
		l.whileDown()
		return
	}
	switch what := rapid.SampledFrom(l.events).Draw(l.T, "event"); what {
	case "blocks":
		l.blocks()
	case "ask":
		l.ask()
	case "scout":
		l.scout()
	case "notice":
		l.noticeWhileRunning()
	case "reload":
		l.reload()
	case "cut":
		l.count("supervisor: cut")
		l.note("cut")
		l.end(false)
		l.up = false
	case "stop":
		l.count("supervisor: stopped")
		l.note("stopped")
		l.nodeEnded(false)
		l.up = false
	case "crash":
		l.crash()
	case "hot-fix", "link":
		l.moveLink(what)
	case "file":
		l.placeFile()
	case "cancel":
		l.cancel()
	case "lie":
		l.lie()
	case "garble":
		l.garble()
	case "record":
		l.record()
	case "replace":
		l.replaceOldRelease()
	case "late plan":
		l.addLate()
	}
	l.act()
}

// whileDown is what happens while nothing runs.
func (l *life) whileDown() {
	switch what := rapid.SampledFrom([]string{"start", "start", "start", "start", "hot-fix", "link", "file", "garble", "take back", "other data", "replace", "switch"}).Draw(l.T, "while down"); what {
	case "start":
		l.start()
		l.act()
	case "hot-fix", "link":
		l.moveLink(what)
	case "file":
		l.placeFile()
	case "garble":
		l.garble()
	case "take back":
		l.takeBack()
	case "other data":
		l.otherData()
	case "replace":
		l.replaceOldRelease()
	case "switch":
		if l.wild["hands"] {
			l.switchTo(l.right(l.height - l.lag))
		}
	}
}

// start is a new supervisor.
func (l *life) start() {
	l.up, l.unread, l.examining, l.watched, l.last = true, true, nil, nil, false
	l.live, l.probes = Live{Initial: l.live.Initial}, &Probes{Dir: l.home.StateDir}
	l.live.Seen, _ = ReadSeen(l.home)
	l.live.SeenKnown = true
	l.reads, l.marks, l.rpc = "application", true, "tied"
	if l.wild["unreadable"] {
		l.reads = rapid.SampledFrom([]string{"application", "state and blocks", "blocks", "state", "WAL", "nothing"}).Draw(l.T, "readable")
		l.marks = rapid.Bool().Draw(l.T, "marks")
		l.live.Initial = 0
	}
	if l.wild["liars"] {
		l.rpc = rapid.SampledFrom([]string{"tied", "untied", "foreign"}).Draw(l.T, "rpc")
	}
	if l.wild["silence"] && rapid.Bool().Draw(l.T, "silent") {
		l.rpc = "silent"
	}
	if l.final {
		switch l.how {
		case "answers":
			l.rpc = "tied"
		case "dark":
			l.rpc, l.reads, l.marks = "silent", "nothing", false
		case "reads":
			l.rpc, l.reads, l.marks = "silent", "application", true
		}
	}
	if l.reads != "application" {
		l.lag = 0 // of a database that can't be read nothing could tell that it is behind
	}
	l.stays = rapid.Bool().Draw(l.T, "stays up at a halt")
	l.count("session: databases " + l.reads)
	l.count("session: rpc " + l.rpc)
	l.note("start: databases %s, marks %v, rpc %s, stays up %v", l.reads, l.marks, l.rpc, l.stays)
}

// act decides and does what was decided, until there is nothing to do but to wait.
func (l *life) act() {
	for range 8 {
		if !l.up || l.over || !l.turn() {
			return
		}
	}
	l.fault("it goes in circles")
}

func (l *life) gather() (Gathered, Decision) {
	g, err := Gather(l.home, l.live, l.probes)
	must(l, err)
	return g, Decide(g.Facts)
}

// turn is Supervisor.act: decide, and do it. again says that it is decided again at once.
func (l *life) turn() (again bool) {
	if l.live.Running() {
		l.notice()
	}
	g, d := l.gather()
	if !l.live.Running() && l.unread && !(d.Action == CarryOut && d.Certain) {
		l.unread = false
		l.keepSeen(l.live.ReadDisk(l.disk(), l.now))
		if l.live.Disk.Committed.Err == nil {
			l.record()
			l.confirm(l.live.Height)
		}
		g, d = l.gather()
	}
	if !l.live.Running() {
		if l.live.Examined(l.examining, d, g) {
			l.last = false
		}
		l.examining = nil
	}
	l.checkPlans(d, g)
	_ = DropManual(l.home, d.Drop)
	_ = MarkManual(l.home, d.Mark)
	l.keepSeen(l.live.Decided(d, g))
	l.note("%s, height %s %s", describe(d), g.Height, g.Height.Source)
	switch d.Action {
	case Refuse, Wait:
		l.waits(d, g)
	case Examine:
		l.checkStop(d, g)
		l.examining = &d.Plan
		l.nodeStopped()
		l.unread = true
		if l.cutHere() {
			return false
		}
		return true
	case CarryOut:
		return l.carryOut(d, g)
	case Launch:
		if l.live.Running() {
			return false
		}
		early := l.watched != nil && !l.watched.Confirmed
		old := g.File != nil && l.index(g.File.Plan) > l.tops[d.Dir] && d.Dir == l.home.UpgradeDir(g.File.Plan.Name)
		if l.last && (early || old) { // Supervisor.haltedAgain tells it, whatever the journal knows
			l.endedEarly(old)
			return false
		}
		l.launch(d, g)
	}
	return false
}

// endedEarly is the end of a new binary before its plan's block: the operator hears of it.
func (l *life) endedEarly(old bool) {
	l.up = false
	l.note("the new binary has ended early")
	if old {
		l.count("operator: told of an old release")
		if l.final {
			l.replaceOldRelease()
		}
	}
}

func (l *life) cutHere() bool {
	if l.final || rapid.IntRange(0, 9).Draw(l.T, "cut here") > 0 {
		return false
	}
	l.count("supervisor: cut between a stop and what follows")
	l.note("cut")
	l.end(false)
	l.up = false
	return true
}

func (l *life) keepSeen(news bool) {
	if news {
		must(l, l.live.Seen.Write(l.home))
	}
}

// record is Supervisor.recordHeight.
func (l *life) record() { l.recordHeight(l.live.Height) }

func (l *life) recordHeight(h Height) {
	if h.Known() && h.Tied && h.Source != SourceRecord {
		must(l, WriteHeight(l.home, HeightRecord{Committed: h.Low, At: l.now, Databases: l.created}))
	}
}

// confirm is Supervisor.confirm.
func (l *life) confirm(h Height) {
	if l.watched == nil || !h.Known() || !h.Tied {
		return
	}
	_, over, err := l.watched.See(h.Low)
	must(l, err)
	if over {
		l.watched = nil
	}
}

// running is the binary that the node runs, or -2 without one.
func (l *life) running() int {
	if l.live.Launched == "" {
		return -2
	}
	return l.tops[l.live.Launched]
}

// end is the end of the process. An application that commits asynchronously may not have
// written its last blocks. Where its database can't be read nothing could tell that.
func (l *life) end(clean bool) {
	if l.live.Launched == "" {
		return
	}
	l.stored = l.height
	if _, halts := l.halts(l.running()); l.halted && halts || l.created && !clean && rapid.Bool().Draw(l.T, "a block is stored") {
		l.stored = l.height + 1
	}
	if l.wild["async"] && !clean && l.reads == "application" {
		l.lag = min(rapid.Int64Range(0, 3).Draw(l.T, "lag"), max(l.height-max(l.ondisk, l.initial), 0))
	}
	l.ondisk = l.height - l.lag
	l.live.Launched = ""
	l.halted, l.dead = false, false
}

// nodeEnded is Supervisor.nodeEnded without an upgrade under way.
func (l *life) nodeEnded(clean bool) {
	l.end(clean)
	l.live.Ended(l.home, l.now, l.examining != nil)
	l.record()
	l.unread, l.last = true, true
	l.notice()
}

// nodeStopped is the same where the supervisor stops it for its own work.
func (l *life) nodeStopped() {
	l.end(false)
	l.live.Ended(l.home, l.now, l.examining != nil)
	l.last = false
	l.notice()
}

// notice looks at the plan file.
func (l *life) notice() {
	changed, news := l.live.SeePlanFile(l.home, l.now)
	l.keepSeen(news)
	if changed {
		l.evidence++
		l.note("plan file changed")
		if l.live.Running() {
			l.hear()
		}
	}
}

// noticeWhileRunning is Supervisor.planChanged: a change of the file with no node running
// is nothing new.
func (l *life) noticeWhileRunning() {
	if l.live.Running() {
		l.notice()
	}
}

// ask asks the node for its height.
func (l *life) ask() {
	if rapid.Bool().Draw(l.T, "the file is noticed first") {
		l.noticeWhileRunning()
	}
	l.hear()
	if rapid.IntRange(0, 2).Draw(l.T, "recorded") == 0 {
		l.record()
	}
}

func (l *life) hear() {
	height, tied := l.height, true
	switch l.rpc {
	case "silent":
		return
	case "untied":
		tied = false
	case "foreign":
		tied, height = false, rapid.Int64Range(0, l.finish()).Draw(l.T, "foreign height")
	}
	l.heard(height, tied)
}

func (l *life) heard(height int64, tied bool) {
	if !l.live.Running() {
		return
	}
	err := l.live.Hear(l.home, node.Answer{Height: height, AtMost: height, Tied: tied}, l.now)
	l.note("told %d, tied %v: %v", height, tied, err)
	if tied {
		l.evidence++
	}
	if err == nil {
		l.confirm(l.live.Height)
	}
}

// lie is an answer that says exactly what would make a plan due.
func (l *life) lie() {
	if l.wild["liars"] && l.live.Running() && !l.final {
		l.count("rpc: a lie about the height before a plan's")
		l.heard(rapid.SampledFrom(l.plans).Draw(l.T, "lies for").Height-1, false)
	}
}

// scout is what the chain says of its scheduled plan.
func (l *life) scout() {
	switch {
	case !l.live.Running() || l.rpc == "silent":
	case l.rpc == "foreign":
		var other *solstice.Plan
		if rapid.Bool().Draw(l.T, "another chain's plan") {
			one := rapid.SampledFrom(l.plans).Draw(l.T, "scheduled there")
			other = &one.Plan
		}
		l.count("scout: another chain's answer")
		l.keepSeen(l.live.SawSchedule(other, rapid.Int64Range(1, l.finish()).Draw(l.T, "height there")))
	default:
		l.count("scout: an answer")
		l.note("scout: %v", l.scheduled(l.height))
		l.keepSeen(l.live.SawSchedule(l.scheduled(l.height), l.height))
	}
}

// reload hands everything over to another version of the program.
func (l *life) reload() {
	if !l.live.Running() {
		return
	}
	_, before := l.gather()
	content, err := json.Marshal(l.live)
	must(l, err)
	l.live = Live{}
	must(l, json.Unmarshal(content, &l.live))
	l.probes = &Probes{Dir: l.home.StateDir}
	g, after := l.gather()
	if !reflect.DeepEqual(before, after) {
		l.fault("a reload changes the decision from %s to %s", describe(before), describe(after))
	}
	l.watched, err = WatchLast(l.home, g.Journal, l.live.Launched)
	must(l, err)
	l.count("supervisor: reloaded")
	l.notice()
	l.hear()
}

// blocks lets the node make its next blocks, up to a halt.
func (l *life) blocks() {
	if !l.live.Running() || l.halted {
		return
	}
	top := l.running()
	if l.dead = l.stuck(top); l.dead {
		l.note("the node can't go on")
		return
	}
	n := rapid.Int64Range(1, 6).Draw(l.T, "blocks")
	for _, p := range l.plans { // far from anything they are many
		if p.Height > l.height {
			if ahead := p.Height - 8 - l.height; ahead > 20 {
				n = ahead - rapid.Int64Range(0, 5).Draw(l.T, "short of it")
			}
			break
		}
	}
	for range n {
		if i, halts := l.halts(top); halts {
			l.halt(i)
			return
		}
		if ahead := n - 20; ahead > 0 {
			l.made(l.height+1, l.height+ahead, l.traced())
			n = 0
			l.created, l.lag = true, 0
			l.note("many blocks")
			return
		}
		l.made(l.height+1, l.height+1, l.traced())
		l.created, l.lag = true, 0
	}
	l.note("blocks, with binary %d", top)
}

// traced is the binary that makes blocks, as far as this home knows: one that was only linked
// by hand leaves no trace.
func (l *life) traced() int {
	top := l.running()
	for ; l.byHand && top > genesisTop && !l.switched[top]; top-- {
	}
	return top
}

// halt is the node's own, for the chain's plan.
func (l *life) halt(i int) {
	l.created, l.halted = true, true
	must(l, durable.WriteFile(l.home.PlanFile(), l.plans[i].File(), 0o600))
	l.count("node: halted for its plan")
	l.note("the node halts for %s", l.plans[i].Plan)
	if !l.stays || l.replays {
		l.count("node: ended at its halt")
		l.note("and ends")
		l.nodeEnded(false)
		return
	}
	if rapid.Bool().Draw(l.T, "noticed") || l.final {
		l.notice()
	}
}

// crash is an end of the node by itself.
func (l *life) crash() {
	if !l.live.Running() {
		return
	}
	l.count("node: crashed")
	l.note("the node crashes")
	l.nodeEnded(false)
	if rapid.Bool().Draw(l.T, "the supervisor ends with it") {
		l.act()
		if !l.live.Running() {
			return
		}
		l.end(false)
		l.up = false
	}
}

// launch starts the binary that was decided on.
func (l *life) launch(d Decision, g Gathered) {
	committed := l.height - l.lag
	top := l.tops[d.Dir]
	own := d.Dir != l.hand
	l.byHand = !own
	for i, p := range l.plans { // the old release under the new name is found by its halt
		if !p.manual && l.home.UpgradeDir(p.Name) == d.Dir && top == i-1 {
			top = i
		}
	}
	if wrong := l.misfit(top, committed); wrong != "" && own {
		switch {
		case l.mayErr(d, g):
			l.count("launch: a wrong binary that nothing told")
		default:
			l.fault("%s is launched at %d: it %s", d.Dir, committed, wrong)
		}
	}
	must(l, g.Settle(l.home, d.Dir))
	if d.Relink {
		must(l, g.Relink(l.home, d))
		l.hand = ""
		l.count("launch: the link was moved for it")
	}
	if _, err := g.MendPlan(l.home, d.Dir); err != nil {
		l.fault("mend: %v", err)
	}
	planAt := watch.StampOf(l.home.PlanFile())
	l.recordHeight(g.Height)
	l.live.Started(d.Dir, planAt, l.wild["fetches"] && !l.created)
	l.binaryAt = watch.StampOf(l.home.Binary(d.Dir))
	l.halted, l.lag, l.last = false, 0, false
	var err error
	l.watched, err = WatchLast(l.home, g.Journal, d.Dir)
	must(l, err)
	l.evidence++
	l.waiting = 0
	l.count("launch")
	l.note("launched %s, binary %d", d.Dir, l.tops[d.Dir])
	i, halts := l.halts(l.running())
	if l.replays = halts; halts { // it replays the block and writes its file again
		if rapid.Bool().Draw(l.T, "at once") {
			l.halt(i)
		}
		return
	}
	if l.live.Fetching && rapid.Bool().Draw(l.T, "fetches a state") {
		l.fetch()
		return
	}
	l.created = true
	if rapid.Bool().Draw(l.T, "asked at once") {
		l.hear()
	}
}

// mayErr says whether a launch of a wrong binary is one that nothing on the disk told of:
// the data was changed by hand, and what it is can't be read.
func (l *life) mayErr(d Decision, g Gathered) bool {
	if last := len(g.Done) - 1; d.Dir == solstice.Genesis && len(g.History) == 0 && last >= 0 && l.tops[g.Done[last].Dir] == absent {
		return true // L4: a new home with the chain's present binary in genesis/
	}
	moved := d.Relink || !g.Link.Missing() && d.Dir != g.Link.Dir
	return !moved && (l.excuse["data"] || l.excuse["hands"]) && !(g.DoneKnown && g.Height.bounded())
}

// fetch is a state sync: the data is suddenly far ahead.
func (l *life) fetch() {
	l.moveTo(rapid.Int64Range(l.initial, l.finish()).Draw(l.T, "fetched"))
	l.count("data: fetched by the node")
	l.note("fetched a state")
	l.excused("data")
	l.created = true
}

// carryOut is an upgrade, which may be cut off at any of its steps.
func (l *life) carryOut(d Decision, g Gathered) (again bool) {
	if l.live.Running() {
		l.checkStop(d, g)
	}
	if l.live.Written && !g.IsManual(d.Plan) {
		l.confirm(Exactly(d.Plan.Height-1, SourceNode))
	}
	u := &Upgrade{
		Home: l.home, Plan: d.Plan, Dir: d.Dir, From: g.InUse(), Under: g.Under(), Height: g.Height.Low, Manual: g.IsManual(d.Plan),
		Options: Options{SkipBackup: true}, Node: noNode{}, Probes: l.probes, Log: slog.New(slog.DiscardHandler),
	}
	one := l.probes.of(l.home.Binary(d.Dir))
	one.ask.Do(func() { one.presence = Absent })
	err := u.Begin()
	if err != nil {
		l.fault("%s can't begin: %v", d.Plan, err)
	}
	l.watched, l.unread, l.live.Retried, l.last = nil, false, nil, false
	if l.live.Running() {
		l.end(d.Certain)
		l.live.Ended(l.home, l.now, l.examining != nil)
		l.notice()
	}
	if d.Certain && g.disk == nil { // no database is read then: one that is behind nevertheless is the rule's own risk
		l.lag, l.ondisk = 0, l.height
	}
	l.checkCarryOut(d, g)
	if l.over {
		return false
	}
	l.switched[l.index(d.Plan)] = true
	l.count("upgrade: " + map[bool]string{true: "manual", false: "the chain's"}[u.Manual])
	at := ""
	if !l.final {
		at = rapid.SampledFrom([]string{"", "", "", "stop", "plan", "pre-upgrade", stepSwitch, "in the switch"}).Draw(l.T, "cut at")
	}
	if at == "" {
		if err := u.Run(context.Background()); err != nil {
			l.fault("the upgrade fails: %v", err)
		}
		l.hand = ""
		l.live.Launched = ""
		return true
	}
	if l.byHand && l.hand != "" { // what the operator has linked stays in use
		delete(l.switched, l.index(d.Plan))
	}
	l.count("upgrade: cut off " + at)
	l.note("cut off: %s", at)
	for _, s := range steps {
		if s.name == at {
			break
		}
		if s.name == stepSwitch {
			if at == "in the switch" {
				must(l, durable.Symlink(u.Dir, l.home.CurrentLink()))
				l.hand, l.switched[l.index(d.Plan)] = "", true
			}
			break
		}
		if err := s.run(u, context.Background()); err != nil {
			l.fault("the upgrade fails: %v", err)
		}
		if rapid.Bool().Draw(l.T, "journaled") {
			must(l, u.journal.Append(Entry{Plan: u.Plan, Step: s.name, Dir: u.Dir}))
		}
	}
	if at == stepSwitch && rapid.Bool().Draw(l.T, "after it") {
		must(l, u.switchBinary(context.Background()))
		l.hand, l.switched[l.index(d.Plan)] = "", true
	}
	l.up = false
	return false
}
