// Package readiness finds out, before the height, whether an upgrade will go well on this machine.
//
// It is one list of checks, each with a verdict, a sentence of evidence and a sentence of what to do. They look and change
// nothing; what can't be found out is unknown and never an error.
package readiness

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"solstice"
	"solstice/node"
	"solstice/sidecar"
	"solstice/signstate"
	"solstice/snapshot"
	"solstice/upgrade"
)

// Subject is what is looked at.
type Subject struct {
	Home      solstice.Home
	Settings  node.Settings
	Snapshots snapshot.Store
	Signs     *signstate.Guard
	Link      string        // directory of the binary in use; empty if it is not known
	Plan      solstice.Plan // the zero plan: the machine alone is looked at
	PID       int           // of the running node; 0: none runs
	Pace      node.Pace     // as the node told just now; zero: it did not
	Grace     time.Duration // how long the node may take to stop
	NoBackup  bool          // upgrades take no snapshot
	Temp      string        // a folder for what is asked of the binary
	Trusted   []string      // paths outside of the home's layout that are executed or trusted
	Probes    *upgrade.Probes
	Sidecars  []sidecar.Sidecar

	OldRelease bool // the plan's binary was seen to halt for the plan itself
}

// dir is the directory of the plan's binary.
func (s Subject) dir() string { return s.Home.UpgradeDir(s.Plan.Name) }

// check is one of the list. found is filled in by look.
type check struct {
	name string
	look func(ctx context.Context, s Subject) finding
}

// finding is what a check has found: the evidence, and unless that is good, what to do.
type finding struct {
	verdict  solstice.Verdict
	evidence string
	do       string
}

func ok(format string, values ...any) finding {
	return finding{solstice.OK, fmt.Sprintf(format, values...), ""}
}

func unknown(do, format string, values ...any) finding {
	return finding{solstice.Unknown, fmt.Sprintf(format, values...), do}
}

func warning(do, format string, values ...any) finding {
	return finding{solstice.Warning, fmt.Sprintf(format, values...), do}
}

func notReady(do, format string, values ...any) finding {
	return finding{solstice.NotReady, fmt.Sprintf(format, values...), do}
}

// limit is how long one check may take.
const limit = 15 * time.Second

// Look makes all checks, side by side, and returns them in their order: the binary, the files, the disk, the node, the machine.
func Look(ctx context.Context, s Subject) []solstice.Check {
	list := slices.Concat(fileChecks, diskChecks, nodeChecks, systemChecks)
	if len(s.Sidecars) > 0 {
		list = slices.Concat([]check{{"sidecars", sidecarsThere}}, list)
	}
	switch {
	case s.Plan.Name == "":
	case s.Home.SwitchesItself:
		list = slices.Concat([]check{{"binary", switchesItself}}, list)
	default:
		list = slices.Concat(binaryChecks, list)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	found := make([]solstice.Check, len(list))
	var wait sync.WaitGroup
	for i, c := range list {
		wait.Go(func() {
			f := look(ctx, c, s)
			found[i] = solstice.Check{Name: c.name, Verdict: f.verdict, Evidence: f.evidence, Do: f.do}
		})
	}
	wait.Wait()
	return found
}

// look makes one check. One that breaks off, on a file that nobody thought of, is unknown.
func look(ctx context.Context, c check, s Subject) (f finding) {
	defer func() {
		if r := recover(); r != nil {
			f = unknown("report it with this line", "the check broke off: %v", r)
		}
	}()
	return c.look(ctx, s)
}

// Worst is the worst of the verdicts.
func Worst(checks []solstice.Check) solstice.Verdict {
	order := []solstice.Verdict{solstice.OK, solstice.Unknown, solstice.Warning, solstice.NotReady}
	worst := 0
	for _, c := range checks {
		worst = max(worst, slices.Index(order, c.Verdict))
	}
	return order[worst]
}
