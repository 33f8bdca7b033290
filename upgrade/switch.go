package upgrade

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"solstice"
	"solstice/internal/durable"
)

// Refusal is the error of a decision to refuse.
func (g Gathered) Refusal(d Decision) error {
	refused := &solstice.RefusedError{Reason: d.Reason, Hint: d.Hint}
	if d.Contradicts {
		refused.Evidence = g.Evidence()
	}
	return refused
}

// SwitchTo points the link of a stopped node's home at a directory's binary, because the operator says that it is the right one
// for the data as it is now. It enters into the journal what follows from that: plans up to the data's height are behind that
// binary, switches for plans beyond it are taken back, and an upgrade that was cut off is given up. It returns the plans that
// count as carried out, and those that were taken back.
//
// A crash leaves the old link, or the new one with a journal that contradicts it as before: then it is asked for again. The link
// comes first, since a journal without it could make the old one look right.
func (g Gathered) SwitchTo(home solstice.Home, dir string) (behind, back []solstice.Plan, err error) {
	if err := CheckBinary(home, dir, &Probes{}); err != nil {
		return nil, nil, &solstice.RefusedError{Reason: err.Error(), Hint: solstice.HintOf(err, "place the binary first")}
	}
	if g.Gone {
		g.Height = Exactly(0, SourceGenesis) // it will begin at its genesis
	}
	now := time.Now()
	journal := OpenJournal(home)
	if err := moveAside(home.CurrentLink(), now); err != nil {
		return nil, nil, err
	}
	if err := durable.Symlink(dir, home.CurrentLink()); err != nil {
		return nil, nil, err
	}
	for _, s := range g.History {
		if g.Height.Known() && s.Height-1 > g.Height.atMost() {
			back = append(back, s.Plan)
			err = errors.Join(err, journal.RollBack(now, s), forgetApplied(home, s))
		}
	}
	if begun, ok := g.Journal.Begun(); ok {
		err = errors.Join(err, journal.Append(Entry{Plan: begun.Plan, Step: stepAbandoned}))
	}
	behind = g.behind(home, dir)
	return behind, back, errors.Join(err, noteBehind(home, dir, behind))
}

// forgetApplied removes a plan from beside its binary.
func forgetApplied(home solstice.Home, s Switched) error {
	if plan, err := solstice.ReadPlan(home.AppliedFile(s.Dir)); err != nil || !plan.Is(s.Plan) {
		return nil // it does not say that the plan is carried out
	}
	return durable.Remove(home.AppliedFile(s.Dir))
}

// behind are the plans that a directory's binary has behind it if it is the right one for
// the data: its own, the last one that the data has been through, and what stands in the
// plan file or, under its own name, on the list and is due. By height.
func (g Gathered) behind(home solstice.Home, dir string) []solstice.Plan {
	var plans []solstice.Plan
	add := func(p solstice.Plan) {
		reached := !g.Height.Known() || g.Height.Reached(p.Height-1)
		own := home.UpgradeDir(p.Name) == dir && !g.Height.Below(p.Height-1) // the operator says that it is behind
		if (reached || own) && !slices.ContainsFunc(plans, p.Is) {
			plans = append(plans, solstice.Plan{Name: p.Name, Height: p.Height})
		}
	}
	for _, s := range slices.Concat(g.History, g.Done) {
		if s.Dir == dir {
			add(s.Plan)
		}
	}
	if n := len(g.Done); n > 0 {
		add(g.Done[n-1].Plan)
	}
	// The record of an earlier run does not tell that a plan is behind whose binary the link
	// leaves: the data may have been replaced.
	known := func(p solstice.Plan) bool {
		return g.Height.Known() && !(g.Height.Source == SourceRecord && g.switchedTo(p))
	}
	if g.File != nil && (known(g.File.Plan) || g.File.Dir == dir) {
		add(g.File.Plan)
	}
	for _, c := range g.Manual {
		if c.Dir == dir {
			add(c.Plan)
		}
	}
	slices.SortStableFunc(plans, func(a, b solstice.Plan) int { return cmp.Compare(a.Height, b.Height) })
	return plans
}

// noteBehind notes that a directory's binary has these plans behind it.
func noteBehind(home solstice.Home, dir string, behind []solstice.Plan) error {
	journal := OpenJournal(home)
	for _, p := range behind {
		if err := journal.Switch(time.Now(), Switched{Plan: p, Dir: dir}); err != nil {
			return err
		}
	}
	if n := len(behind); n > 0 {
		return writeApplied(home, dir, behind[n-1])
	}
	return nil
}

// moveAside makes room for the link where a file or a folder stands in its place.
func moveAside(link string, now time.Time) error {
	info, err := os.Lstat(link)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return nil
	}
	if err != nil {
		return err
	}
	return durable.Rename(link, fmt.Sprintf("%s.before-%s", link, now.UTC().Format("20060102T150405Z")))
}

// FindDir is the directory of a name that an operator gives: genesis, a plan's name, or that of a folder in upgrades/.
func FindDir(home solstice.Home, name string) (string, error) {
	for _, dir := range []string{name, home.UpgradeDir(name), filepath.Join("upgrades", name)} {
		if slices.Contains(home.BinaryDirs(), dir) {
			return dir, nil
		}
	}
	return "", &solstice.RefusedError{
		Reason: fmt.Sprintf("there is no binary called %q: neither %s nor a folder in upgrades/", name, solstice.Genesis),
		Hint:   "these are there: " + joinedNames(home),
	}
}

func joinedNames(home solstice.Home) string {
	var names string
	for _, dir := range home.BinaryDirs() {
		names += " " + filepath.Base(dir)
	}
	return names[1:]
}
