package upgrade

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"solstice"
	"solstice/node"
)

func v(name string, height int64) solstice.Plan { return solstice.Plan{Name: name, Height: height} }

// been is what the data has applied, or what a home has switched to.
func been(plans ...solstice.Plan) (done []Switched) {
	for _, p := range plans {
		done = append(done, Switched{Plan: p, Dir: "upgrades/" + p.Name})
	}
	return done
}

var (
	v2 = v("v2", 100)
	v3 = v("v3", 300)
)

// fact is one thing that is known. The rows of the tables below are made of them.
type fact func(*Facts)

func facts(known ...fact) Facts {
	f := Facts{Initial: 1, Faults: map[string]string{}}
	for _, one := range known {
		one(&f)
	}
	return f
}

func on(dir string) fact {
	return func(f *Facts) { f.Link = solstice.Link{Dir: dir, Target: dir} }
}

// runs says that a node runs, started from a directory.
func runs(dir string) fact { return func(f *Facts) { f.Running, f.Launched = true, dir } }

func height(h Height) fact { return func(f *Facts) { f.Height = h } }

// told is a height that the running node told.
func told(h int64) fact { return height(Exactly(h, SourceNode)) }

// untied is one that somebody told.
func untied(h int64) fact { return height(Height{Low: h, High: h, Source: SourceNode}) }

// atLeast is one that the node told before it ended.
func atLeast(h int64) fact { return height(AtLeast(h, SourceRecord)) }

// app is the height of the stopped application.
func app(h int64) fact { return height(Exactly(h, SourceApplication)) }

// stored is what a block store says that ends at a height.
func stored(h int64) fact {
	return height(Height{Low: h - 1, High: h, Source: SourceBlocks, Tied: true})
}

func candidate(p solstice.Plan) *Candidate {
	return &Candidate{Plan: p, Dir: "upgrades/" + strings.ToLower(p.Name)}
}

// file is a plan file that was there, or that other hands wrote.
func file(p solstice.Plan) fact { return func(f *Facts) { f.File = candidate(p) } }

// wrote is a plan file that the node wrote itself.
func wrote(p solstice.Plan) fact {
	return func(f *Facts) {
		f.File = candidate(p)
		f.File.Written = true
	}
}

// listed is a manual plan that was never seen ahead, seenBelow one that was.
func listed(p solstice.Plan) fact {
	return func(f *Facts) {
		c := candidate(p)
		c.Manual = true
		f.Manual = append(f.Manual, *c)
	}
}

func seenBelow(p solstice.Plan) fact {
	return func(f *Facts) {
		listed(p)(f)
		f.Manual[len(f.Manual)-1].Below = true
	}
}

// marks are what the data has applied by its own account.
func marks(plans ...solstice.Plan) fact {
	return func(f *Facts) { f.Done, f.DoneKnown = been(plans...), true }
}

// switched are the confirmed switches on this home; the last is the one for the directory
// in use, if its name is the plan's.
func switched(plans ...solstice.Plan) fact {
	return func(f *Facts) {
		for _, s := range been(plans...) {
			s.Confirmed = true
			f.History = append(f.History, s)
			if s.Dir == f.InUse() {
				f.Named = []solstice.Plan{s.Plan}
			}
		}
	}
}

// unconfirmed is a switch whose binary committed no block.
func unconfirmed(p solstice.Plan, manual bool) fact {
	return func(f *Facts) {
		switched(p)(f)
		last := &f.History[len(f.History)-1]
		last.Confirmed, last.Manual = false, manual
	}
}

func seen(p solstice.Plan, change func(*Sighting)) fact {
	return func(f *Facts) { f.Seen, _ = f.Seen.with(p, change) }
}

func scheduled(p solstice.Plan) fact { return seen(p, func(s *Sighting) { s.Scheduled = 10 }) }
func cancelled(p solstice.Plan) fact {
	return seen(p, func(s *Sighting) { s.Scheduled, s.Unscheduled = 10, 20 })
}
func seenAhead(p solstice.Plan) fact { return seen(p, func(s *Sighting) { s.Ahead = true }) }
func seenOver(p solstice.Plan) fact  { return seen(p, func(s *Sighting) { s.Over = true }) }

func begun(p solstice.Plan, manual bool) fact {
	return func(f *Facts) { f.Begun = &Begun{p, manual, "upgrades/" + p.Name} }
}

func skip(heights ...int64) fact { return func(f *Facts) { f.Skip = heights } }

func rolledBack(manual bool) fact {
	return func(f *Facts) { f.Skipped = []Skipped{{Plan: v2, Manual: manual}} }
}

func missing(dirs ...string) fact {
	return func(f *Facts) {
		for _, dir := range dirs {
			f.Faults[dir] = "no such file"
		}
	}
}

func lacks(dir string, lack Lack) fact {
	return func(f *Facts) { f.Lacks = map[string]Lack{dir: lack} }
}

func gone(f *Facts)     { f.Gone, f.Height = true, Height{} }
func itself(f *Facts)   { f.SwitchesItself = true }
func fetching(f *Facts) { f.Fetching = true }
func examined(f *Facts) { f.Examined = true }

func noDatabases(f *Facts) { f.NoDatabases = true }

func retried(p solstice.Plan, at int64) fact {
	return func(f *Facts) { f.Retried = &Retried{Plan: p, At: at, Told: p.Height - 1, Written: true} }
}

func initial(h int64) fact { return func(f *Facts) { f.Initial = h } }

// row is a situation and what is to be done: the action, and what becomes of the other
// plans.
type row struct {
	name  string
	facts Facts
	want  string
}

func testDecide(t *testing.T, rows []row) {
	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			got := describe(Decide(tt.facts))
			if !strings.Contains(tt.want, ", noted") {
				got = strings.Replace(got, ", noted", "", 1)
			}
			action, plans, _ := strings.Cut(got, " | ")
			wantAction, wantPlans, _ := strings.Cut(tt.want, " | ")
			if !strings.HasPrefix(action, wantAction) || plans != wantPlans {
				t.Errorf("Decide = %s\n    want %s", got, tt.want)
			}
		})
	}
}

const (
	carriesOutV2 = "carry out v2 at height 100 in upgrades/v2"
	examinesV2   = "examine for v2 at height 100"
	oldRelease   = "wait for v2 at height 100: the binary in upgrades/v2 halted for plan v2 at height 100 itself"
)

// TestOldReleaseForCertain: only where the node told the height of its halt may it be
// stopped for the binary that is put in its place.
func TestOldReleaseForCertain(t *testing.T) {
	halted := facts(on("upgrades/v2"), runs("upgrades/v2"), unconfirmed(v2, false), wrote(v2), told(99))
	silent := facts(on("upgrades/v2"), runs("upgrades/v2"), unconfirmed(v2, false), wrote(v2))
	if !Decide(halted).HaltedAgain || Decide(silent).HaltedAgain {
		t.Errorf("told: %v, in silence: %v", Decide(halted).HaltedAgain, Decide(silent).HaltedAgain)
	}
}

// TestDecideChainsPlan is when a plan of the chain is due: P1 to P5 of docs/deciding.md,
// A11 to A15 of docs/cosmovisor.md.
func TestDecideChainsPlan(t *testing.T) {
	v2again, fix := v("v2", 200), v("fix", 90)
	testDecide(t, []row{
		// P1: while the node runs.
		{"P1-written-and-told", facts(on("genesis"), runs("genesis"), wrote(v2), told(99)), carriesOutV2},
		{"P1-written-and-silent", facts(on("genesis"), runs("genesis"), wrote(v2)), examinesV2},
		{"P1-written-and-told-long-ago", facts(on("genesis"), runs("genesis"), wrote(v2), atLeast(50)), examinesV2},
		{"P1-written-and-told-by-somebody", facts(on("genesis"), runs("genesis"), wrote(v2), untied(99)), examinesV2},
		{"P1-written-and-far-from-it", facts(on("genesis"), runs("genesis"), wrote(v("v2", 1e6)), height(Height{Low: 4, High: 30_000, Source: SourceNode, Tied: true})),
			"launch genesis | pending v2"},
		{"P1-written-and-told-less", facts(on("genesis"), runs("genesis"), wrote(v2), told(50)), "launch genesis | pending v2"},
		{"P1-scheduled-early-file-at-its-height", facts(on("genesis"), runs("genesis"), file(v2), scheduled(v2), told(99)), examinesV2},
		{"P1-scheduled-early-file-and-silent", facts(on("genesis"), runs("genesis"), file(v2), scheduled(v2), height(Height{Low: 50, High: 20_000, Source: SourceNode, Tied: true})),
			"launch genesis | pending v2"},
		{"P1-written-on-data-that-was-replaced", facts(on("genesis"), runs("genesis"), wrote(v2), atLeast(500)), examinesV2},
		{"P1-examined-already", facts(on("genesis"), runs("genesis"), wrote(v2), untied(99), retried(v2, 96)), "wait for v2 at height 100: nothing confirms that block 99 is committed"},
		{"P1-examined-at-another-halt", facts(on("genesis"), runs("genesis"), wrote(v("v2", 1e6)), untied(1e6-1), retried(v("v2", 1e6), 4)), "examine for v2 at height 1000000"},
		{"P1-halts-again-under-a-record-of-other-data", facts(on("genesis"), wrote(v2), atLeast(5000), retried(v2, 99)), carriesOutV2},
		{"P1-halts-once-under-a-record-of-later-data", facts(on("genesis"), wrote(v2), atLeast(5000)), "launch genesis | over v2"},
		{"P1-examined-and-told-now", facts(on("genesis"), runs("genesis"), wrote(v2), told(99), retried(v2, 96)), carriesOutV2},

		// P1: when it has ended.
		{"P1-halted", facts(on("genesis"), file(v2), app(99)), carriesOutV2},
		{"P1-halted-and-scheduled", facts(on("genesis"), file(v2), scheduled(v2), app(99), marks()), carriesOutV2},
		{"P1-halted-and-wrote-it-and-nothing-is-known", facts(on("genesis"), wrote(v2)), carriesOutV2},
		{"P1-stopped-and-nothing-is-known", facts(on("genesis"), wrote(v2), examined), "launch genesis | pending v2"},
		{"P1-stopped-and-there-are-no-databases", facts(on("genesis"), wrote(v2), examined, noDatabases), carriesOutV2},
		{"P1-stopped-and-told-less-before", facts(on("genesis"), wrote(v2), examined, atLeast(50)), "launch genesis | pending v2"},
		{"P1-stopped-and-the-block-is-stored", facts(on("genesis"), wrote(v2), examined, stored(100)), carriesOutV2},
		{"P1-halted-and-wrote-it-and-told-less-before", facts(on("genesis"), wrote(v2), atLeast(50)), carriesOutV2},
		{"P1-scheduled-and-the-block-is-stored", facts(on("genesis"), file(v2), scheduled(v2), stored(100)), carriesOutV2},
		{"P1-found-and-the-block-is-stored", facts(on("genesis"), file(v2), stored(100)), "launch genesis | pending v2"},
		{"P1-found-and-the-block-before-it-is-stored", facts(on("genesis"), file(v2), stored(99)), "launch genesis | pending v2"},
		{"P1-found-and-unknown", facts(on("genesis"), file(v2)), "launch genesis | pending v2"},
		{"P1-found-and-told-less-long-ago", facts(on("genesis"), file(v2), atLeast(99)), "launch genesis | pending v2"},
		{"P1-application-behind-its-blocks", facts(on("genesis"), wrote(v2), app(97)), "launch genesis, again for v2 | pending v2"},
		{"P1-application-behind-its-blocks-twice", facts(on("genesis"), wrote(v2), app(97), retried(v2, 97)), "wait for v2 at height 100: the node halted for it twice | pending v2"},
		{"P1-application-far-from-it", facts(on("genesis"), wrote(v("v2", 1e6)), app(4)), "launch genesis | pending v2"},
		{"P1-application-at-it", facts(on("genesis"), file(v2), app(100)), "launch genesis | over v2"},

		// The first heights: before the first block the chain is at initial_height-1.
		{"P1-at-the-first-height", facts(on("genesis"), initial(100), file(v2), height(Exactly(99, SourceGenesis))), carriesOutV2},
		{"P1-at-height-1", facts(on("genesis"), file(v("v2", 1)), height(Exactly(0, SourceGenesis))), "carry out v2 at height 1 in upgrades/v2"},
		{"P1-below-the-first-height", facts(on("genesis"), initial(101), file(v2), height(Exactly(100, SourceGenesis))), "launch genesis | over v2"},

		// P2: an upgrade that was cut off.
		{"P2-goes-on", facts(on("genesis"), file(v2), begun(v2, false)), carriesOutV2},
		{"P2-goes-on-at-its-height", facts(on("genesis"), file(v2), begun(v2, false), app(99)), carriesOutV2},
		{"P2-goes-on-and-told-less-before", facts(on("genesis"), file(v2), begun(v2, false), atLeast(80)), carriesOutV2},
		{"P2-manual-goes-on", facts(on("genesis"), seenBelow(v2), begun(v2, true)), carriesOutV2},
		{"P2-its-plan-is-gone", facts(on("genesis"), begun(v2, false)), "launch genesis"},
		{"P2-data-taken-back", facts(on("genesis"), file(v2), begun(v2, false), app(50)), "launch genesis | pending v2; ahead"},
		{"P2-data-is-beyond", facts(on("genesis"), file(v2), begun(v2, false), app(150)), "launch genesis | over v2"},
		{"P2-cut-in-its-switch", facts(on("upgrades/v2"), file(v2), begun(v2, false), app(99)), carriesOutV2},

		// P4: to come.
		{"P4-too-early", facts(on("genesis"), file(v2), app(98)), "launch genesis | pending v2; ahead"},
		{"P4-early-file-at-its-height", facts(on("genesis"), runs("genesis"), file(v2), seenAhead(v2), told(99)), examinesV2},
		{"P4-same-name-greater-height-to-come", facts(on("upgrades/v2"), switched(v2), file(v2again), app(150)), "launch upgrades/v2 | pending v2; ahead"},

		// P5: history. A plan file of an old upgrade is in every public snapshot.
		{"P5-public-snapshot", facts(on("genesis"), file(v2), app(500)), "launch genesis | over v2"},
		{"P5-public-snapshot-with-its-marks", facts(on("upgrades/v2"), file(v2), app(500), marks(v2)), "launch upgrades/v2 | over v2"},
		{"P5-old-file-while-it-runs", facts(on("upgrades/v15.2"), runs("upgrades/v15.2"), file(v2), told(500)), "launch upgrades/v15.2 | over v2"},
		{"P5-old-file-appears-while-it-runs", facts(on("upgrades/v15.2"), runs("upgrades/v15.2"), wrote(v2), told(500)), "launch upgrades/v15.2 | over v2"},
		{"P5-old-file-seen-ahead-and-over", facts(on("upgrades/fix"), file(v2), seenAhead(v2), seenOver(v2), atLeast(500)), "launch upgrades/fix | over v2"},
		{"P5-over-and-data-taken-back-to-the-halt", facts(on("genesis"), file(v2), seenOver(v2), app(99)), carriesOutV2},
		{"P5-over-and-the-node-halts", facts(on("genesis"), wrote(v2), seenOver(v2)), carriesOutV2},
		{"P5-synced-past-it", facts(on("upgrades/v3"), runs("upgrades/v3"), fetching, file(v2), told(500)), "launch upgrades/v3 | over v2"},
		{"P5-about-to-sync-past-it", facts(on("upgrades/v3"), runs("upgrades/v3"), fetching, file(v2), told(0)), "launch upgrades/v3 | pending v2"},

		// P6: carried out.
		{"P6-mark", facts(on("upgrades/v2"), switched(v2), file(v2), app(100), marks(v2)), "launch upgrades/v2 | over v2"},
		{"P6-link-at-the-halt", facts(on("upgrades/v2"), unconfirmed(v2, false), file(v2), app(99), marks()), "launch upgrades/v2 | over v2"},
		{"P6-link-by-hand-at-the-halt", facts(on("upgrades/v2"), file(v2), app(99), marks()), "launch upgrades/v2 | over v2"},
		{"P6-link-in-other-case", facts(on("upgrades/v2"), switched(v2), file(v("V2", 100)), app(99)), "launch upgrades/v2 | over V2"},
		{"P6-link-by-hand-and-unknown", facts(on("upgrades/v2"), file(v2)), "launch upgrades/v2 | over v2"},
		{"P6-journal-and-a-hot-fix", facts(on("upgrades/v2-hotfix"), switched(v2), file(v2), atLeast(150)), "launch upgrades/v2-hotfix | over v2"},
		{"P6-hot-fix-while-it-runs", facts(on("upgrades/v2-hotfix"), runs("upgrades/v2"), switched(v2), file(v2), told(150)), "launch upgrades/v2 | over v2"},
		{"P6-hot-fix-without-a-journal", facts(on("upgrades/v2-hotfix"), runs("upgrades/v2-hotfix"), file(v2), told(150)), "launch upgrades/v2-hotfix | over v2"},
		{"P6-hot-fix-and-the-next-plan", facts(on("upgrades/v2-hotfix"), runs("upgrades/v2-hotfix"), switched(v2), wrote(v3), told(299)), "carry out v3 at height 300 in upgrades/v3"},
		{"P6-link-moved-ahead-by-hand-while-it-runs", facts(on("upgrades/v2"), runs("genesis"), wrote(v2), told(99)), carriesOutV2},
		{"P6-link-moved-ahead-by-hand-below-its-height", facts(on("upgrades/v2"), file(v2), app(50), marks()), "launch upgrades/v2 | pending v2; ahead"},
		{"P6-unconfirmed-and-moved-back-by-hand", facts(on("genesis"), unconfirmed(v2, false), file(v2), app(99), marks()), carriesOutV2},
		{"P6-confirmed-and-moved-back-by-hand", facts(on("genesis"), switched(v2), file(v2), atLeast(150)), "launch genesis | over v2"},

		// A7: the new binary is the old release.
		{"A7-halts-again", facts(on("upgrades/v2"), runs("upgrades/v2"), unconfirmed(v2, false), wrote(v2), told(99)), oldRelease + " | over v2"},
		{"A7-halts-again-in-silence", facts(on("upgrades/v2"), runs("upgrades/v2"), unconfirmed(v2, false), wrote(v2)), oldRelease + " | over v2"},
		{"A7-halts-again-and-last-told", facts(on("upgrades/v2"), runs("upgrades/v2"), unconfirmed(v2, false), wrote(v2), atLeast(42)), oldRelease + " | over v2"},
		{"A7-file-touched-later-in-silence", facts(on("upgrades/v2"), runs("upgrades/v2"), switched(v2), wrote(v2), atLeast(150)), "launch upgrades/v2 | over v2"},
		{"A7-file-touched-later", facts(on("upgrades/v2"), runs("upgrades/v2"), switched(v2), wrote(v2), told(150)), "launch upgrades/v2 | over v2"},

		// P7: skipped heights, and plans that a rollback took off.
		{"P7-skipped", facts(on("genesis"), runs("genesis"), wrote(v2), told(99), skip(100)), "launch genesis"},
		{"P7-another-is-skipped", facts(on("genesis"), runs("genesis"), wrote(v2), told(99), skip(90)), carriesOutV2},
		{"P7-passed-and-skipped", facts(on("genesis"), file(v2), app(150), marks(), skip(100)), "launch genesis | passed v2"},
		{"P7-rolled-back-and-the-node-would-halt", facts(on("genesis"), file(v2), app(99), rolledBack(false)), "refuse: plan v2 at height 100 is to be skipped"},
		{"P7-rolled-back-and-unknown", facts(on("genesis"), file(v2), rolledBack(false)), "refuse: plan v2 at height 100 is to be skipped"},
		{"P7-rolled-back-with-the-flag", facts(on("genesis"), file(v2), app(99), rolledBack(false), skip(100)), "launch genesis"},
		{"P7-rolled-back-and-passed", facts(on("genesis"), file(v2), app(100), rolledBack(false)), "launch genesis"},
		{"P7-rolled-back-manual", facts(on("genesis"), listed(v2), app(99), rolledBack(true)), "launch genesis"},
		{"P7-rolled-back-while-it-runs", facts(on("genesis"), runs("genesis"), wrote(v2), told(99), rolledBack(false)), "launch genesis"},
		{"P7-rolled-back-at-another-height", facts(on("genesis"), file(v("v2", 120)), app(119), rolledBack(false), skip(100)), "carry out v2 at height 120 in upgrades/v2"},

		// P10: contradicted.
		{"P10-cancelled", facts(on("genesis"), runs("genesis"), file(v2), seenAhead(v2), cancelled(v2), told(99)), "launch genesis | held v2"},
		{"P10-cancelled-and-stopped", facts(on("genesis"), file(v2), seenAhead(v2), cancelled(v2), app(99)), "launch genesis | held v2"},
		{"P10-cancelled-and-beyond", facts(on("genesis"), file(v2), cancelled(v2), app(150), missing("upgrades/v2")), "launch genesis | over v2"},
		{"P10-cancelled-and-halted-all-the-same", facts(on("genesis"), runs("genesis"), wrote(v2), cancelled(v2), told(99)), carriesOutV2},
		{"P10-cancelled-and-the-file-is-by-other-hands", facts(on("genesis"), wrote(v2), cancelled(v2), app(99), marks()), "launch genesis | held v2"},
		{"P10-never-scheduled", facts(on("genesis"), runs("genesis"), wrote(v2), told(99)), carriesOutV2},

		// A8, A12: the binary is missing, or can't be loaded.
		{"binary-is-missing", facts(on("genesis"), file(v2), app(99), missing("upgrades/v2")), "wait for v2 at height 100: no such file"},
		{"binary-is-missing-and-the-node-halted", facts(on("genesis"), runs("genesis"), wrote(v2), missing("upgrades/v2")), "wait for v2 at height 100: no such file"},
		{"binary-of-a-plan-to-come-is-missing", facts(on("genesis"), file(v2), app(50), missing("upgrades/v2")), "launch genesis | pending v2; ahead"},
		{"sidecar-is-missing", facts(on("genesis"), runs("genesis"), wrote(v2), told(99), lacks("upgrades/v2", Lack{"feeder", "no feeder"})), "wait for v2 at height 100: no feeder"},
		{"sidecar-and-binary-are-missing", facts(on("genesis"), file(v2), app(99), missing("upgrades/v2"), lacks("upgrades/v2", Lack{"feeder", "no feeder"})),
			"wait for v2 at height 100: no such file"},
		{"sidecar-of-a-plan-to-come-is-missing", facts(on("genesis"), file(v2), app(50), lacks("upgrades/v2", Lack{"feeder", "no feeder"})), "launch genesis | pending v2; ahead"},
		{"sidecar-in-use-is-missing", facts(on("upgrades/v2"), switched(v2), file(v2), app(120), lacks("upgrades/v2", Lack{"feeder", "no feeder"})), "launch upgrades/v2 | over v2"},
		{"no-sidecar-is-missing", facts(on("genesis"), file(v2), app(99), lacks("upgrades/v2", Lack{})), carriesOutV2},

		// A15: known by name and height.
		{"same-name-greater-height", facts(on("upgrades/v2"), switched(v2), file(v2again), app(199), marks(v2)), "carry out v2 at height 200 in upgrades/v2"},
		{"other-name-lower-height", facts(on("upgrades/v2"), switched(v2), file(fix), app(150)), "launch upgrades/v2 | over fix"},
		{"other-name-lower-height-halted", facts(on("upgrades/v2"), switched(v2), wrote(fix), app(89)), "carry out fix at height 90 in upgrades/fix"},
	})
}

// TestDecideManualPlan is when a manual plan is due: P8, P11, and A25, A26 of
// docs/cosmovisor.md. The chain does not halt for it, so it must not be missed.
func TestDecideManualPlan(t *testing.T) {
	fix := v("fix", 100)
	testDecide(t, []row{
		{"to-come", facts(on("genesis"), runs("genesis"), listed(v2), told(50)), "launch genesis | pending v2; mark v2"},
		{"height-unknown", facts(on("genesis"), listed(v2)), "launch genesis | pending v2"},
		{"due", facts(on("genesis"), runs("genesis"), seenBelow(v2), told(99)), examinesV2},
		{"due-late", facts(on("genesis"), runs("genesis"), seenBelow(v2), told(140)), examinesV2},
		{"due-and-its-binary-is-missing", facts(on("genesis"), runs("genesis"), seenBelow(v2), told(99), missing("upgrades/v2")), "wait for v2 at height 100: no such file"},
		{"due-and-stopped", facts(on("genesis"), seenBelow(v2), app(99)), carriesOutV2},
		{"due-late-and-stopped", facts(on("genesis"), seenBelow(v2), app(140)), carriesOutV2},
		{"due-and-only-its-blocks-are-known", facts(on("genesis"), seenBelow(v2), stored(100)), carriesOutV2},
		{"due-and-told-before-it-ended", facts(on("genesis"), seenBelow(v2), atLeast(99)), carriesOutV2},
		{"examined-already", facts(on("genesis"), runs("genesis"), seenBelow(v2), told(99), retried(v2, 97)), "wait for v2 at height 100: nothing confirms that block 99 is committed"},
		{"one-block-before", facts(on("genesis"), runs("genesis"), seenBelow(v2), told(98)), "launch genesis | pending v2"},
		{"passed-before-it-was-seen", facts(on("genesis"), runs("genesis"), listed(v2), told(140)), "launch genesis | drop v2"},
		{"seen-at-its-very-height", facts(on("genesis"), runs("genesis"), listed(v2), told(100)), "launch genesis | drop v2"},
		{"below-the-first-height", facts(on("genesis"), initial(500), seenBelow(v2), height(Exactly(499, SourceGenesis))), "launch genesis | drop v2"},
		{"at-the-first-height", facts(on("genesis"), initial(100), listed(v2), height(Exactly(99, SourceGenesis))), carriesOutV2 + " | mark v2"},
		{"done", facts(on("upgrades/v2"), switched(v2), seenBelow(v2), app(99)), "launch upgrades/v2 | drop v2"},
		{"done-by-the-data", facts(on("upgrades/v2"), switched(v2), listed(v2), app(120), marks(v2)), "launch upgrades/v2 | drop v2"},
		{"linked-by-hand-at-its-height", facts(on("upgrades/v2"), runs("upgrades/v2"), seenBelow(v2), told(99)), "launch upgrades/v2 | drop v2"},
		{"linked-by-hand-and-still-the-old-one-runs", facts(on("upgrades/v2"), runs("genesis"), seenBelow(v2), told(99)), examinesV2},
		{"moved-back-by-hand-before-it-was-confirmed", facts(on("genesis"), unconfirmed(v2, true), file(v2), seenAhead(v2), app(99), marks()), "launch genesis | over v2"},
		{"moved-back-by-hand-while-it-runs-on", facts(on("genesis"), runs("genesis"), unconfirmed(v2, true), file(v2), seenAhead(v2), told(150)), "launch genesis | over v2"},
		{"moved-back-by-hand-after-it-was-confirmed", facts(on("genesis"), switched(v2), file(v2), seenAhead(v2), atLeast(150)), "launch genesis | over v2"},

		// What cosmovisor add-upgrade --upgrade-height leaves: a file by other hands.
		{"file-ahead", facts(on("genesis"), runs("genesis"), file(v2), told(50)), "launch genesis | pending v2; ahead"},
		{"file-ahead-and-due", facts(on("genesis"), runs("genesis"), file(v2), seenAhead(v2), told(99)), examinesV2},
		{"file-ahead-and-due-late", facts(on("genesis"), runs("genesis"), file(v2), seenAhead(v2), told(102)), examinesV2},
		{"file-written-a-block-before-and-seen-late", facts(on("genesis"), runs("genesis"), wrote(v2), seenAhead(v2), told(101)), examinesV2},
		{"file-never-ahead", facts(on("genesis"), runs("genesis"), file(v2), told(102)), "launch genesis | over v2"},

		// P11: two plans.
		{"P11-chain-first", facts(on("genesis"), runs("genesis"), wrote(v2), told(99), seenBelow(v("fix", 150))), carriesOutV2 + " | pending fix"},
		{"P11-manual-before-a-file-to-come", facts(on("genesis"), runs("genesis"), file(v2), scheduled(v2), told(59), seenBelow(v("fix", 60))),
			"examine for fix at height 60 | pending v2; ahead"},
		{"P11-the-chain-is-past-the-first", facts(on("genesis"), runs("genesis"), wrote(v2), told(99), seenBelow(v("fix", 60))), carriesOutV2 + " | drop fix"},
		{"P11-operator-and-chain-know-the-same", facts(on("genesis"), runs("genesis"), wrote(v2), seenBelow(v2), told(99)), carriesOutV2},
		{"P11-equal-heights-and-the-chain-halted", facts(on("genesis"), runs("genesis"), wrote(v2), told(99), seenBelow(fix)), carriesOutV2 + " | held fix"},
		{"P11-equal-heights-and-scheduled", facts(on("genesis"), runs("genesis"), scheduled(v2), told(99), seenBelow(fix)), "launch genesis | held fix"},
		{"P11-equal-heights-and-done", facts(on("upgrades/v2"), switched(v2), runs("upgrades/v2"), told(120), seenBelow(fix)), "launch upgrades/v2 | held fix"},
		{"P11-equal-heights-and-cancelled", facts(on("genesis"), runs("genesis"), cancelled(v2), told(99), seenBelow(fix)), "examine for fix at height 100"},
		{"P11-consecutive-heights", facts(on("upgrades/v2"), switched(v2), runs("upgrades/v2"), file(v2), told(100), seenBelow(v("v3", 101))), "examine for v3 at height 101 | over v2"},
		{"P11-consecutive-heights-of-the-chain", facts(on("upgrades/v2"), switched(v2), runs("upgrades/v2"), wrote(v("v3", 101)), told(100)), "carry out v3 at height 101 in upgrades/v3"},
	})
}

// TestDecideLink is which binary the link has to name: L1 to L12 of docs/deciding.md, A16
// of docs/cosmovisor.md.
func TestDecideLink(t *testing.T) {
	fault := func(text string) fact { return func(f *Facts) { f.Link = solstice.Link{Fault: text} } }
	moved := func(f *Facts) {
		f.Link = solstice.Link{Dir: "upgrades/v2", Target: "/old/cosmovisor/upgrades/v2", Moved: true}
	}
	decided := func(f *Facts) {
		f.History, f.Named = []Switched{{Plan: v3, Dir: "genesis", Confirmed: true}}, []solstice.Plan{v3}
	}
	fix := v("fix", 320)
	testDecide(t, []row{
		// L1: data from before the link.
		{"L1-data-taken-back", facts(on("upgrades/v2"), switched(v2), app(50), marks()), "refuse: the link names upgrades/v2, for plan v2 at height 100, and the data is of height 50: from before it"},
		{"L1-by-the-block-store", facts(on("upgrades/v2"), switched(v2), stored(50)), "refuse: the link names upgrades/v2"},
		{"L1-at-an-earlier-plan", facts(on("upgrades/v3"), switched(v2, v3), scheduled(v2), file(v2), app(99), marks()), "refuse: the link names upgrades/v3, for plan v3 at height 300, and the data is of height 99: from before it"},
		{"L1-at-an-earlier-manual-plan", facts(on("upgrades/v3"), switched(v3), seenBelow(v2), app(99)), "refuse: the link names upgrades/v3"},
		{"L1-at-an-earlier-plan-that-was-begun", facts(on("upgrades/v3"), switched(v2, v3), begun(v2, false), file(v2), app(99)), carriesOutV2},
		{"L1-to-the-halt", facts(on("upgrades/v2"), switched(v2), app(99), marks()), "launch upgrades/v2"},
		{"L1-an-old-record-is-no-proof", facts(on("upgrades/v2"), switched(v2), atLeast(50)), "launch upgrades/v2"},
		{"L1-gone", facts(on("upgrades/v2"), switched(v2), gone), "refuse: the link names upgrades/v2, for plan v2 at height 100, and the node's databases are gone"},
		{"L1-gone-and-genesis", facts(on("genesis"), switched(v2), gone), "launch genesis"},
		{"L1-gone-and-by-hand", facts(on("upgrades/v2"), gone), "launch upgrades/v2"},
		{"L1-gone-and-begun", facts(on("genesis"), begun(v2, false), file(v2), gone), "launch genesis | pending v2"},

		// L2 to L5, L11: data from beyond the link.
		{"L2-layer-lost", facts(on("genesis"), file(v3), app(350), marks(v2, v3)), "launch upgrades/v3, link made for v3 at height 300 | over v3"},
		{"L2-layer-lost-no-plan-file", facts(on("genesis"), app(350), marks(v2, v3)), "launch upgrades/v3, link made for v3 at height 300"},
		{"L2-later-snapshot-on-an-old-home", facts(on("upgrades/v2"), switched(v2), app(350), marks(v2, v3)), "launch upgrades/v3, link made for v3 at height 300"},
		{"L2-later-data-at-the-next-halt", facts(on("upgrades/v2"), switched(v2), file(v("v4", 400)), app(399), marks(v2, v3)), "carry out v4 at height 400 in upgrades/v4"},
		{"L3-no-binary-and-the-plan-file-names-it", facts(on("genesis"), file(v3), app(350), marks(v2, v3), missing("upgrades/v3")),
			"wait for v3 at height 300: the data has applied plan v3 at height 300, the link names genesis | over v3"},
		{"L4-new-home-with-a-snapshot", facts(on("genesis"), app(350), marks(v2, v3), missing("upgrades/v3")), "launch genesis"},
		{"L5-later-snapshot-no-binary", facts(on("upgrades/v2"), switched(v2), app(350), marks(v2, v3), missing("upgrades/v3")),
			"refuse: the data has applied plan v3 at height 300, the link names upgrades/v2"},
		{"L11-linked-by-hand", facts(on("upgrades/v3-fixed"), switched(v2, v3), app(350), marks(v2, v3)), "launch upgrades/v3-fixed"},
		{"L11-linked-by-hand-and-nothing-known", facts(on("upgrades/v3-fixed"), file(v3)), "launch upgrades/v3-fixed | pending v3"},
		{"L11-patched-by-a-manual-plan", facts(on("upgrades/fix"), switched(v2, v3, fix), app(350), marks(v2, v3)), "launch upgrades/fix"},
		{"L11-decided-by-the-operator", facts(on("genesis"), decided, app(350), marks(v2, v3)), "launch genesis"},
		{"L10-moved-home", facts(moved, switched(v2), app(150), marks(v2)), "launch upgrades/v2, link made"},
		{"L12-marks-unknown", facts(on("genesis"), file(v2), atLeast(150)), "launch genesis, noted | over v2"},
		{"L12-marks-and-height-unknown", facts(on("genesis"), file(v2)), "launch genesis, noted | pending v2"},

		// L6 to L9: no link, or none that can be used.
		{"L8-fresh-home", facts(), "launch genesis, link made"},
		{"L8-plan-due", facts(file(v2), app(99)), carriesOutV2},
		{"L8-plan-ahead", facts(file(v2), app(50)), "launch genesis, link made | pending v2; ahead"},
		{"L7-plan-and-no-height", facts(file(v2)), "refuse: there is no current link, and plan v2 at height 100 may have been carried out already | pending v2"},
		{"L8-plan-and-no-height-and-one-binary", facts(file(v2), missing("upgrades/v2")), "launch genesis, link made | pending v2"},
		{"L8-plan-and-no-height-and-the-other-binary", facts(file(v2), missing("genesis")), "launch upgrades/v2, link made | pending v2"},
		{"L6-after-an-upgrade", facts(switched(v2), atLeast(120)), "launch upgrades/v2, link made"},
		{"L6-after-two-upgrades", facts(switched(v("v3", 200), v2), atLeast(220)), "launch upgrades/v3, link made"},
		{"L7-after-an-upgrade-no-height", facts(switched(v2)), "refuse: there is no current link; the last switch was to upgrades/v2"},
		{"L7-after-an-upgrade-lower-height", facts(switched(v2), atLeast(50)), "refuse: there is no current link; the last switch was to upgrades/v2"},
		{"L6-marks", facts(app(350), marks(v2, v3)), "launch upgrades/v3, link made"},
		{"L6-marks-and-a-patch", facts(switched(fix), app(350), marks(v2, v3)), "launch upgrades/fix, link made"},
		{"L7-marks-but-no-binary", facts(app(350), marks(v2, v3), missing("upgrades/v3")), "refuse: there is no current link, the data is under plan v3 at height 300"},
		{"L7-data-taken-back", facts(switched(v2), app(50), marks()), "refuse: there is no current link; the last switch was to upgrades/v2"},
		{"L6-switched-at-the-halt", facts(switched(v2), app(99), marks()), "launch upgrades/v2, link made"},
		{"L9-is-a-file", facts(fault("it is not a symlink")), "refuse: the current link can't be used: it is not a symlink"},
		{"L9-is-a-file-and-a-plan-is-due", facts(fault("it is not a symlink"), file(v2), app(99)), "refuse: the current link can't be used"},
		{"link-dangles", facts(on("upgrades/v2"), missing("upgrades/v2")), "refuse: the binary in use can't run: no such file"},
		{"link-dangles-and-a-plan-is-due", facts(on("upgrades/v2"), switched(v2), file(v3), app(299), missing("upgrades/v2")), "carry out v3 at height 300 in upgrades/v3"},
	})
}

// TestDecideSwitchesItself is P9: the node goes through its plans by itself.
func TestDecideSwitchesItself(t *testing.T) {
	wroteOwn := func(f *Facts) { wrote(v2)(f); f.File.Dir = "genesis" }
	fileOwn := func(f *Facts) { file(v2)(f); f.File.Dir = "genesis" }
	testDecide(t, []row{
		{"ahead", facts(itself, on("genesis"), runs("genesis"), fileOwn, told(50)), "launch genesis | pending v2"},
		{"written-at-the-height", facts(itself, on("genesis"), runs("genesis"), wroteOwn, told(99)), "launch genesis | pending v2"},
		{"height-unknown", facts(itself, on("genesis"), runs("genesis"), wroteOwn), "launch genesis | pending v2"},
		{"passed", facts(itself, on("genesis"), runs("genesis"), wroteOwn, told(100)), "launch genesis | over v2; itself v2"},
		{"passed-and-noted", facts(itself, on("genesis"), runs("genesis"), wroteOwn, told(100), rolledBack(false)), "launch genesis"},
		{"ended-at-the-height", facts(itself, on("genesis"), wroteOwn, app(99), marks()), "launch genesis, snapshot for v2 | pending v2"},
		{"ended-before-the-height", facts(itself, on("genesis"), fileOwn, app(50), marks()), "launch genesis | pending v2"},
		{"data-beyond-its-link", facts(itself, on("upgrades/v2"), switched(v2), app(350), marks(v2, v3)), "launch upgrades/v2"},
		{"data-taken-back", facts(itself, on("upgrades/v2"), switched(v2), app(50), marks()), "launch upgrades/v2"},
		{"manual", facts(itself, on("genesis"), runs("genesis"), listed(v2), told(100)), "launch genesis | drop v2; itself v2"},
		{"its-binary-is-missing", facts(itself, on("genesis"), fileOwn, app(99), missing("genesis")), "refuse: the binary in use can't run | pending v2"},
		{"fresh-home", facts(itself, marks(v2), app(120), missing("upgrades/v2")), "launch genesis, link made"},
	})
}

func describe(d Decision) string {
	var text string
	switch d.Action {
	case Launch:
		text = "launch " + d.Dir
		if d.Relink {
			text += ", link made"
		}
		if d.Under != nil {
			text += " for " + d.Under.String()
		}
		if d.Again != nil {
			text += ", again for " + d.Again.Name
		}
		if slices.ContainsFunc(d.Notes, func(note string) bool { return strings.Contains(note, "upgrade handler is missing") }) {
			text += ", noted"
		}
		if d.Keep != nil {
			text += ", snapshot for " + d.Keep.Name
		}
	case CarryOut:
		text = fmt.Sprintf("carry out %s in %s", d.Plan, d.Dir)
	case Examine:
		text = fmt.Sprintf("examine for %s", d.Plan)
	case Wait:
		text = fmt.Sprintf("wait for %s: %s", d.Plan, d.Reason)
	case Refuse:
		text = "refuse: " + d.Reason
	}
	var plansText string
	names := func(label string, plans []solstice.Plan) {
		for _, p := range plans {
			plansText += "; " + label + " " + p.Name
		}
	}
	var pending []solstice.Plan
	for _, c := range d.Pending {
		pending = append(pending, c.Plan)
	}
	names("pending", pending)
	for _, h := range d.Held {
		names("held", []solstice.Plan{h.Plan})
	}
	names("over", d.Over)
	names("drop", d.Drop)
	names("mark", d.Mark)
	for range d.Ahead {
		plansText += "; ahead"
	}
	names("passed", d.Passed)
	names("itself", d.Itself)
	if plansText != "" {
		text += " | " + plansText[2:]
	}
	return text
}

// TestDecideRefusesWithAWayOn: a refusal without a hint leaves the operator alone.
func TestDecideRefusesWithAWayOn(t *testing.T) {
	link := func(fault, target string) fact {
		return func(f *Facts) { f.Link = solstice.Link{Fault: fault, Target: target} }
	}
	for _, f := range []Facts{
		facts(link("it is not a symlink", "")),
		facts(link("it points to /bin", "/bin"), switched(v2)),
		facts(on("upgrades/v2"), missing("upgrades/v2")),
		facts(on("genesis"), missing("genesis")),
		facts(file(v2)),
		facts(on("upgrades/v2"), switched(v2), app(50), marks()),
	} {
		d := Decide(f)
		if d.Action != Refuse || d.Hint == "" {
			t.Errorf("Decide(%+v) = %v with hint %q, want a refusal with a hint", f, d.Action, d.Hint)
		}
		if len(f.History) > 0 && !strings.Contains(d.Hint, "solstice switch ") {
			t.Errorf("the hint does not name what is known: %q", d.Hint)
		}
	}
}

// TestBestHeight is H1 to H6 of docs/deciding.md: how far a stopped node is.
func TestBestHeight(t *testing.T) {
	noon := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	none := node.Reading{Err: fs.ErrNotExist}
	is := func(height int64) node.Reading { return node.Reading{Height: height} }
	wal := func(height int64, at time.Time) node.Heights {
		return node.Heights{Committed: none, State: none, Stored: node.Reading{Height: height, At: at}}
	}
	unread := node.Heights{Committed: none, State: none, Stored: none}
	between := func(low, high int64, source Source) Height {
		return Height{Low: low, High: high, Source: source, Tied: true}
	}
	nothing := Height{}
	toldAt := func(h int64) Height { return AtLeast(h, SourceRecord) }
	fresh := unread
	fresh.Empty, fresh.Initial = true, 100
	for _, tt := range []struct {
		name string
		disk node.Heights
		told Height
		want Height
	}{
		{"H1-application", node.Heights{Committed: is(99), State: is(99), Stored: is(100), Base: 1}, toldAt(500), Exactly(99, SourceApplication)},
		{"H1-application-behind", node.Heights{Committed: is(97), State: is(99), Stored: is(100), Base: 1}, nothing, Exactly(97, SourceApplication)},
		{"H2-state-and-blocks-at-a-halt", node.Heights{Committed: none, State: is(99), Stored: is(100), Base: 1}, nothing, between(99, 100, SourceState)},
		{"H2-state-and-blocks-agree", node.Heights{Committed: none, State: is(100), Stored: is(100), Base: 1}, nothing, Exactly(100, SourceState)},
		{"H2-state-alone", node.Heights{Committed: none, State: is(99), Stored: none}, nothing, between(99, 100, SourceState)},
		{"H2-state-of-later-data", node.Heights{Committed: none, State: is(500), Stored: is(100), Base: 1}, nothing, between(99, 100, SourceBlocks)},
		{"H3-blocks", node.Heights{Committed: none, State: none, Stored: is(100), Base: 1}, nothing, between(99, 100, SourceBlocks)},
		{"H3-blocks-and-told-the-same", node.Heights{Committed: none, State: none, Stored: is(100), Base: 1}, toldAt(100), between(100, 100, SourceBlocks)},
		{"H3-blocks-and-told-of-other-data", node.Heights{Committed: none, State: none, Stored: is(100), Base: 1}, toldAt(500), between(99, 100, SourceBlocks)},
		{"H4-wal", wal(100, noon), nothing, AtLeast(99, SourceWAL)},
		{"H4-wal-is-newer", wal(100, noon.Add(time.Minute)), toldAt(80), AtLeast(99, SourceWAL)},
		{"H5-wal-from-before-a-restore", wal(100, noon.Add(-time.Minute)), toldAt(80), toldAt(80)},
		{"H5-wal-lacks-blocks", wal(10, noon.Add(time.Minute)), toldAt(80), toldAt(80)},
		{"H5-told", unread, toldAt(80), toldAt(80)},
		{"H6-before-the-first-block", fresh, nothing, Exactly(99, SourceGenesis)},
		{"H6-nothing", unread, nothing, nothing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := bestHeight(tt.disk, tt.told, noon); got != tt.want {
				t.Errorf("bestHeight = %+v, want %+v", got, tt.want)
			}
		})
	}
}
