package upgrade

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"solstice"
	"solstice/artifact"
)

// Evidence is what was found, for an operator who has to decide.
func (g Gathered) Evidence() (lines solstice.Lines) {
	if d := g.disk; d != nil {
		lines.Add("application", "%s", d.Committed.Says("committed"))
		lines.Add("chain state", "%s", d.State.Says("applied"))
		lines.Add("block store", "%s", d.Stored.Says("has"))
		switch u := d.Upgrades; {
		case u.Err != nil && d.Committed.Err == nil:
			lines.Add("applied", "not known: %v", u.Err)
		case u.Err == nil && len(u.Done) == 0:
			lines.Add("applied", "no upgrade, says application.db")
		case u.Err == nil:
			lines.Add("applied", "%s, says application.db", joined(u.Done[max(len(u.Done)-shownPlans, 0):]))
		}
		if d.Upgrades.Scheduled != nil {
			lines.Add("scheduled", "%s, says application.db", d.Upgrades.Scheduled)
		}
	}
	told := g.Height
	if g.disk != nil {
		told = g.Told
	}
	if told.Known() {
		lines.Add("last told", "%d, by the node while it ran", told.Low)
	}
	switch {
	case g.File != nil:
		lines.Add("plan file", "%s", g.File.Plan)
	case g.FileFault != nil:
		lines.Add("plan file", "%v", g.FileFault)
	default:
		lines.Add("plan file", "none")
	}
	lines.Add("current link", "%s", g.describeLink())
	if len(g.History) > 0 {
		lines.Add("switched to", "%s", joined(g.History[max(len(g.History)-shownPlans, 0):]))
	} else {
		lines.Add("switched to", "nothing is known of a switch on this home")
	}
	var usable []string
	for _, dir := range g.home.BinaryDirs() {
		if artifact.Check(g.home.Binary(dir)) == nil {
			usable = append(usable, dir)
		}
	}
	lines.Add("binaries", "%s", cmp.Or(strings.Join(usable, ", "), "none that can run"))
	return lines
}

// shownPlans is how many of the last plans people are shown.
const shownPlans = 4

func (g Gathered) describeLink() string {
	switch {
	case g.Link.Missing():
		return "none"
	case g.Link.Fault != "":
		return g.Link.Fault
	}
	text := g.Link.Dir
	if i := slices.IndexFunc(g.History, func(s Switched) bool { return s.Dir == g.Link.Dir }); i >= 0 {
		text += ", for plan " + g.Under().String()
	}
	return text
}

func (s Switched) String() string { return fmt.Sprintf("%s for plan %s", s.Dir, s.Plan) }

func joined[T fmt.Stringer](list []T) string {
	var texts []string
	for _, one := range list {
		texts = append(texts, one.String())
	}
	return strings.Join(texts, ", ")
}
