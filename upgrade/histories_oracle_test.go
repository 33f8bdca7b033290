package upgrade

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"pgregory.net/rapid"

	"solstice"
	"solstice/internal/durable"
	"solstice/watch"
)

// outstanding says whether a plan is to be carried out now.
func (l *life) outstanding(i int) bool {
	if i < 0 || !l.effective(i) {
		return false
	}
	// Nothing tells what a binary has inside that was linked by hand, unless it is in place of
	// that plan's.
	if unknown := l.byHand && !l.switched[i]; l.running() >= i && !unknown {
		return false
	}
	p := l.plans[i]
	if p.manual {
		return l.height >= p.Height-1
	}
	return l.height == p.Height-1
}

// checkStop is the first rule: a healthy node is not stopped without need.
func (l *life) checkStop(d Decision, g Gathered) {
	i := l.index(d.Plan)
	healthy := !l.halted && !l.stuck(l.running())
	if !healthy || l.outstanding(i) {
		return
	}
	if d.Action == CarryOut {
		if !l.ledAstray(i, g) {
			l.fault("a healthy node is stopped for %s, which is not outstanding", d.Plan)
		}
		return
	}
	cancelled := i >= 0 && l.plans[i].cancel > 0
	equal := i >= 0 && l.plans[i].manual && !l.effective(i) && l.height >= d.Plan.Height-1
	lied := l.live.Height.Known() && !l.live.Height.Tied
	silent := l.live.Written && !(l.live.Height.Tied && l.live.Height.Low == l.live.Height.High)
	// Nothing tells that a binary that was linked by hand has the plan's handler: the node may
	// have made its block since it told the one before, and a plan that only its file tells of
	// is taken for the operator's.
	seen := g.Seen.Of(d.Plan)
	unknown := i >= 0 && l.byHand && (!l.switched[i] || l.excuse["journal"]) && (l.live.Height.exactly(d.Plan.Height-1) || seen.Ahead && seen.Scheduled == 0)
	if !lied && !silent && !cancelled && !equal && !unknown {
		l.fault("a healthy node is stopped for a look at its databases, for %s: nothing says so", d.Plan)
	}
	key, evidence := d.Plan.String(), fmt.Sprint(l.evidence)
	if l.looks[key] == evidence {
		l.fault("a healthy node is stopped for %s once more, on the same evidence", d.Plan)
	}
	l.looks[key] = evidence
	l.count("stopped in vain, for a look")
}

// dark says whether other hands wrote a plan's file while the node ran, and nothing told
// exactly that the node is below its halt: that plan is due, as if the node had written it.
func (l *life) dark(p solstice.Plan, g Gathered) bool {
	exact := g.Height.bounded() && g.Height.Low >= p.Height-1
	return g.File != nil && g.File.Is(p) && g.File.Written && !exact && l.rpc != "tied"
}

// ledAstray says whether a plan that is not to be carried out looks in every way as if it
// were: by other hands, and nothing told that it is not.
func (l *life) ledAstray(i int, g Gathered) bool {
	if i < 0 {
		return false
	}
	p := l.plans[i]
	s := g.Seen.Of(p.Plan)
	switch {
	case l.dark(p.Plan, g):
		return true
	case p.cancel > 0:
		return !s.Contradicted() && (s.Scheduled == 0 || !g.DoneKnown) && l.height >= p.Height-1
	case p.manual && p.void && l.ondisk < p.Height && l.height >= p.Height:
		return true // by its databases it is not too late
	case p.manual && p.void && l.excuse["journal"]:
		return true // nothing tells that the operator took it back
	case p.manual && !l.effective(i) && !p.void:
		for _, q := range l.plans {
			if !q.manual && q.Height == p.Height && g.Seen.Of(q.Plan).Scheduled == 0 && !(g.File != nil && g.File.Is(q.Plan) && g.File.Written) {
				return true
			}
		}
	}
	return false
}

// checkCarryOut is the second rule for an upgrade.
func (l *life) checkCarryOut(d Decision, g Gathered) {
	i, committed := l.index(d.Plan), l.height-l.lag
	switch {
	case i < 0:
		l.fault("%s is carried out, which nobody has planned", d.Plan)
	case !l.effective(i):
		if !l.ledAstray(i, g) {
			l.fault("%s is carried out, which is held, cancelled or taken back", d.Plan)
		}
		if l.plans[i].cancel > 0 {
			l.ends("a cancelled plan by other hands, whose end nobody saw")
			return
		}
		if l.dark(d.Plan, g) {
			l.ends("a file by other hands while the node ran, and no height could be read or tied exactly")
			return
		}
	}
	if wrong := l.misfit(i, committed); wrong != "" {
		if l.excuse["data"] && !g.DoneKnown {
			l.ends("data from elsewhere that can't be read")
			return
		}
		if l.dark(d.Plan, g) {
			l.ends("a file by other hands while the node ran, and no height could be read or tied exactly")
			return
		}
		l.fault("%s is switched to at %d: it %s", d.Dir, committed, wrong)
	}
	last, _ := g.lastSwitch()
	if l.hand != "" && l.hand != d.Dir && l.hand == g.Link.Dir && l.tops[l.hand] >= i && last.Is(d.Plan) &&
		l.misfit(l.tops[l.hand], committed) == "" {
		l.fault("the operator has linked %s, which is as good, and %s is switched to", l.hand, d.Dir)
	}
	completes := g.begun(d.Plan) // it was cut off before its end
	if l.switched[i] && l.tops[g.Link.Dir] >= i && !l.plans[i].manual && committed >= d.Plan.Height && !completes {
		l.fault("%s is carried out once more", d.Plan)
	}
}

// checkPlans is what may be dropped, and what must be held.
func (l *life) checkPlans(d Decision, g Gathered) {
	for _, p := range d.Drop {
		i := l.index(p)
		link, _ := l.home.Current()
		below := slices.ContainsFunc(g.Manual, func(c Candidate) bool { return c.Is(p) && c.Below })
		switch {
		case i < 0: // an old file that was kept because nothing told that it is old
			continue
		case l.switched[i], l.running() >= i, l.tops[link.Dir] >= i, l.eraAt(l.height) >= i:
		case l.plans[i].late, l.plans[i].cancel > 0:
		case l.hand != "" || l.excuse["data"]:
			l.plans[i].void = true
		case !below:
			l.count("manual plan: dropped, as it was never seen ahead")
			l.plans[i].void = true
		case d.Action == CarryOut || d.Action == Examine || d.Action == Wait:
			if l.height < p.Height-1 {
				l.fault("%s is dropped and was not carried out", p)
			}
			l.plans[i].void = true // the chain is past it
		default:
			l.fault("%s is dropped and was not carried out", p)
		}
		if l.hand != "" && l.eraAt(l.height) < i {
			l.plans[i].void = true
		}
	}
	for _, h := range d.Held {
		if h.Reason == "" || h.Hint == "" {
			l.fault("%s is held without a word", h.Plan)
		}
		i := l.index(h.Plan)
		l.count("plan: held")
		unseen := slices.ContainsFunc(l.plans, func(q truePlan) bool { return q.cancel > 0 && !g.Seen.Of(q.Plan).Contradicted() })
		// Without the journal nothing tells that an applied plan at the same height was the
		// operator's.
		if i >= 0 && l.effective(i) && l.outstanding(i) && l.rpc == "tied" && !l.wild["liars"] && !unseen && !l.excuse["journal"] {
			l.fault("%s is held, and is outstanding", h.Plan)
		}
	}
}

// waits is a decision that leaves it to the operator, who does what is right.
func (l *life) waits(d Decision, g Gathered) {
	if d.Reason == "" || d.Hint == "" {
		l.fault("%v without a word: %q, %q", d.Action, d.Reason, d.Hint)
	}
	l.count("operator: " + d.Action.String())
	if d.HaltedAgain {
		l.count("operator: told of an old release")
		if i := l.index(d.Plan); i >= 0 && l.tops[d.Dir] >= i {
			if watch.StampOf(l.home.Binary(d.Dir)) == l.binaryAt {
				if l.rpc != "tied" {
					return // it can't be told from an old file that other hands have placed
				}
				l.fault("%s is called an old release, and is none", d.Dir)
			}
			l.stopForReplaced(d)
			return
		}
		if l.final {
			l.replaceOldRelease()
			l.stopForReplaced(d)
		}
		return
	}
	if i := l.index(d.Plan); i >= 0 && d.Action == Wait && l.tops[d.Dir] == absent {
		l.count("operator: told of a missing binary")
		if l.final {
			l.replaceOldRelease()
			l.act()
		}
		return
	}
	if d.Action == Wait && l.live.Running() {
		if l.waiting++; l.waiting < 8 {
			return // what it waits for may come by itself
		}
	}
	if l.wild["async"] && l.live.Retried != nil {
		l.excused("the databases were behind twice")
	}
	if len(l.excuse) == 0 && l.final {
		l.fault("the operator is asked without need: %s", describe(d))
	}
	if !l.live.Running() {
		l.up = false
	}
	if l.final {
		l.repair()
	}
}

// stopForReplaced stops the node to start the binary that was put in its place.
func (l *life) stopForReplaced(d Decision) {
	l.nodeStopped()
	l.unread, l.examining = true, &d.Plan
	l.act()
}

// repair is an operator who knows the truth.
func (l *life) repair() {
	if l.repairs++; l.repairs > 40 {
		l.fault("the operator can't help it")
	}
	l.end(true)
	l.up, l.waiting = false, 0
	l.switchTo(l.right(l.height - l.lag))
	l.start()
}

// switchTo is solstice switch.
func (l *life) switchTo(top int) {
	dir := l.dirOf(top)
	l.place(dir, top)
	g, err := Gather(l.home, Stopped(l.disk()), nil)
	must(l, err)
	_, back, err := g.SwitchTo(l.home, dir)
	must(l, err)
	for _, p := range back {
		delete(l.switched, l.index(p))
	}
	l.hand = dir
	l.excused("hands")
	l.count("operator: solstice switch")
	l.note("solstice switch: %s", dir)
}

// moveLink is the operator's hand.
func (l *life) moveLink(what string) {
	link, err := l.home.Current()
	must(l, err)
	inUse := link.Dir
	if l.live.Running() {
		inUse = l.live.Launched
	}
	if !l.wild["hands"] || l.tops[inUse] == absent {
		return
	}
	dir := ""
	if what == "hot-fix" {
		top := l.tops[inUse]
		dir = fmt.Sprintf("upgrades/hot-fix-%d", len(l.tops))
		l.place(dir, top)
		l.count("link: moved to a hot-fix, " + l.whether())
		for i, p := range l.plans {
			if l.home.UpgradeDir(p.Name) == inUse && top < i { // of the old release under the new name
				l.excused("hands")
			}
		}
	} else {
		switch rapid.SampledFrom([]string{"genesis", "earlier", "next", "right"}).Draw(l.T, "linked") {
		case "genesis":
			dir = solstice.Genesis
		case "earlier":
			dir = l.dirOf(max(l.tops[inUse]-1, genesisTop))
		case "next":
			dir = l.dirOf(min(l.tops[inUse]+1, len(l.plans)-1))
		case "right":
			dir = l.dirOf(l.right(l.height - l.lag))
		}
		l.count("link: moved to another version, " + l.whether())
		l.excused("hands")
	}
	must(l, durable.Symlink(dir, l.home.CurrentLink()))
	l.hand = dir
	l.note("by hand: %s", dir)
	entries, err := OpenJournal(l.home).Read()
	must(l, err)
	if begun, ok := entries.Begun(); ok && begun.Dir != dir { // cut off, and not brought to its end
		delete(l.switched, l.index(begun.Plan))
	}
}

func (l *life) whether() string {
	if l.live.Running() {
		return "while the node runs"
	}
	return "while it is stopped"
}

// placeFile is a plan file by other hands: one to come, or an old one.
func (l *life) placeFile() {
	if !l.wild["files"] && !l.wild["cancels"] || l.final {
		return
	}
	var plans []solstice.Plan
	for _, p := range l.plans {
		if p.Height > l.height+1 && (p.manual && p.byFile && !p.late || !p.manual && p.proposed <= l.height) {
			plans = append(plans, p.Plan)
		}
		if p.Height <= l.height-l.lag && l.wild["files"] {
			plans = append(plans, p.Plan)
		}
	}
	if l.wild["files"] && l.height > 3 {
		plans = append(plans, solstice.Plan{Name: "v0", Height: rapid.Int64Range(1, l.height-3).Draw(l.T, "of long ago")})
	}
	if len(plans) == 0 {
		return
	}
	p := rapid.SampledFrom(plans).Draw(l.T, "placed")
	if l.halted { // nobody does that, and the node's own plan would be lost
		return
	}
	if before, err := solstice.ReadPlan(l.home.PlanFile()); err == nil {
		listed, _ := ReadManual(l.home) // an upgrade puts it there, when its own plan takes the file's place
		kept := slices.ContainsFunc(listed, func(m ManualPlan) bool { return m.Is(before) })
		if i := l.index(before); i >= 0 && l.plans[i].byFile && !kept && !before.Is(p) && l.eraAt(l.height) < i {
			l.plans[i].void = true // the file was all that there was of it
		}
	}
	l.count(map[bool]string{true: "plan file: placed early, ", false: "plan file: an old one placed, "}[p.Height > l.height] + l.whether())
	if p.Height <= l.height {
		l.hear() // it is older than the last answer: the node is asked all the time
	}
	must(l, durable.WriteFile(l.home.PlanFile(), p.File(), 0o600))
	if i := l.index(p); i >= 0 && l.plans[i].byFile && !l.plans[i].late {
		l.plans[i].void = false
	}
	l.note("by hand: plan file %s", p)
	if rapid.Bool().Draw(l.T, "noticed") && l.live.Running() {
		l.notice()
	}
}

// addLate is a manual plan that the operator adds when its height has passed.
func (l *life) addLate() {
	for i, p := range l.plans {
		if p.late && p.Height <= l.height && l.eraAt(l.height) < i {
			l.count("manual plan: added when its height had passed")
			l.note("added late: %s", p.Plan)
			_ = ChangeManual(l.home, func(plans []ManualPlan) ([]ManualPlan, error) {
				return append(slices.DeleteFunc(plans, func(m ManualPlan) bool { return m.Is(p.Plan) }), ManualPlan{Plan: p.Plan}), nil
			})
			l.live.ListChanged(l.home, l.now)
			l.hear()
			return
		}
	}
}

// cancel is the chain's, by governance.
func (l *life) cancel() {
	p := l.scheduled(l.height)
	if !l.wild["cancels"] || p == nil || !l.live.Running() || l.halted || l.stuck(l.running()) || p.Height <= l.height+1 || l.height < l.tip {
		return
	}
	if _, halts := l.halts(l.running()); halts {
		return
	}
	i := l.index(*p)
	l.made(l.height+1, l.height+1, l.traced())
	l.created, l.lag = true, 0
	l.plans[i].cancel = l.height
	l.count("chain: a plan cancelled")
	l.note("%s is cancelled", *p)
	if rapid.Bool().Draw(l.T, "seen") {
		l.scout()
	}
}

// garble breaks a file that is optional, or mends it.
func (l *life) garble() {
	if !l.wild["broken files"] {
		return
	}
	path := rapid.SampledFrom([]string{l.home.ManualFile(), l.home.SeenFile(), l.home.HeightFile(), l.home.JournalFile()}).Draw(l.T, "garbled")
	if before, garbled := l.garbled[path]; garbled {
		must(l, os.WriteFile(path, before, 0o600))
		delete(l.garbled, path)
		return
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return
	}
	name := filepath.Base(path)
	l.count("broken: " + name)
	l.note("broken: %s", name)
	if path == l.home.JournalFile() {
		must(l, os.Remove(path))
		l.excused("journal")
		return
	}
	if path != l.home.HeightFile() {
		l.excused("lists")
	}
	if path == l.home.ManualFile() {
		l.garbled[path] = content
	}
	must(l, os.WriteFile(path, []byte(`[{"name": "v2", "hei`), 0o600))
}

// takeBack is data of an earlier height, put there by hand.
func (l *life) takeBack() {
	if !l.wild["surgery"] || l.final || l.height <= l.initial {
		return
	}
	before := l.height
	l.moveTo(rapid.Int64Range(l.initial, l.height-1).Draw(l.T, "taken back to"))
	l.count("data: taken back")
	l.note("data taken back from %d", before)
	l.movedData()
}

// otherData is a snapshot of the chain's data from elsewhere.
func (l *life) otherData() {
	if !l.wild["surgery"] || l.final || l.height >= l.finish()-1 {
		return
	}
	before := l.height
	l.moveTo(rapid.Int64Range(max(l.height, l.initial), l.finish()-1).Draw(l.T, "data of"))
	l.count("data: from elsewhere")
	l.note("data from elsewhere, before it %d", before)
	l.movedData()
}

// movedData is what an operator does beside it, or forgets.
func (l *life) movedData() {
	l.excused("data")
	listed, err := ReadManual(l.home)
	if standing, err := solstice.ReadPlan(l.home.PlanFile()); err == nil {
		if i := l.index(standing); i >= 0 && l.plans[i].manual && standing.Height > l.height {
			l.plans[i].void = false // its file is one of a plan to come again
		}
		listed = append(listed, ManualPlan{Plan: standing})
	}
	for i, p := range l.plans {
		if p.Height > l.height {
			delete(l.switched, i)
		}
		off := err == nil && !slices.ContainsFunc(listed, func(m ManualPlan) bool { return m.Is(p.Plan) })
		if p.manual && !p.byFile && off { // nobody puts it there again
			l.plans[i].void = true
		}
	}
	switch rapid.SampledFrom([]string{"left", "linked", "switched"}).Draw(l.T, "the link is") {
	case "linked":
		dir := l.dirOf(l.right(l.height))
		l.place(dir, l.right(l.height))
		must(l, durable.Symlink(dir, l.home.CurrentLink()))
		l.hand = dir
		l.note("by hand: %s", dir)
	case "switched":
		l.switchTo(l.right(l.height))
	}
}

// replaceOldRelease puts the right binary where the old release is.
func (l *life) replaceOldRelease() {
	for i, p := range l.plans {
		dir := l.home.UpgradeDir(p.Name)
		if l.tops[dir] < i {
			l.place(dir, i)
			l.count("binary: replaced by the right one")
			l.note("the right binary is in %s", dir)
		}
	}
}

// toTheEnd is the third rule: what is outstanding is carried out.
func (l *life) toTheEnd() {
	l.final = true
	if content, garbled := l.garbled[l.home.ManualFile()]; garbled {
		must(l, os.WriteFile(l.home.ManualFile(), content, 0o600))
	}
	l.note("now to the end")
	l.end(false)
	l.up = false
	target := max(l.finish(), l.height+6)
	for i := 0; i < 400 && !l.over; i++ {
		if !l.up {
			l.start()
			l.act()
		}
		if l.over || l.height >= target {
			break
		}
		if l.live.Running() && l.stuck(l.running()) {
			if len(l.excuse) == 0 {
				l.fault("the node is stuck with %s", l.live.Launched)
			}
			l.repair()
			l.act()
		}
		l.blocks()
		l.act()
		if l.how == "answers" {
			l.noticeWhileRunning()
			l.hear()
			l.scout()
			l.act()
		}
	}
	if l.over {
		return
	}
	l.count("ended well: " + l.how)
	if len(l.excuse) == 0 {
		l.count("ended well, without an operator")
	}
	if l.height < target {
		l.fault("it does not get to its end at %d", target)
	}
	for i, p := range l.plans {
		// The chain cannot get here without its own plans.
		// Where the chain had one for the same height, and nobody saw it cancelled, it is held.
		held := slices.ContainsFunc(l.plans, func(q truePlan) bool {
			return q.Height == p.Height && q.cancel > 0 && !l.live.Seen.Of(q.Plan).Contradicted()
		})
		due := p.manual && !held && l.effective(i) && l.how == "answers" && len(l.excuse) == 0 && !p.byFile
		if due && l.eraAt(l.height) < i && l.running() < i {
			l.fault("%s was not carried out", p.Plan)
		}
	}
}
