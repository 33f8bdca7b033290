package upgrade

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"solstice"
	"solstice/node"
)

func v(name string, height int64) solstice.Plan { return solstice.Plan{Name: name, Height: height} }

func file(name string, height int64) *Candidate {
	return &Candidate{Plan: v(name, height), Dir: "upgrades/" + strings.ToLower(name)}
}

func written(name string, height int64) *Candidate {
	c := file(name, height)
	c.Written = true
	return c
}

func manual(name string, height int64) Candidate {
	return Candidate{Plan: v(name, height), Dir: "upgrades/" + name, Manual: true}
}

func seenBelow(name string, height int64) Candidate {
	c := manual(name, height)
	c.Below = true
	return c
}

func at(height int64) Height { return Height{Committed: height, Known: true} }

func answered(height int64) Height {
	return Height{Committed: height, Known: true, Answered: true}
}

func skipped(manual bool) []Skipped { return []Skipped{{Plan: v("v2", 100), Manual: manual}} }

var (
	genesis = solstice.Link{Dir: "genesis", Target: "genesis"}
	onV2    = solstice.Link{Dir: "upgrades/v2", Target: "upgrades/v2"}
	onV3    = solstice.Link{Dir: "upgrades/v3", Target: "upgrades/v3"}
	v2      = []solstice.Plan{v("v2", 100)}
	v2v3    = []solstice.Plan{v("v2", 100), v("v3", 300)}
)

// read is the height of a stopped node's application, from its database.
func read(height int64) Height {
	return Height{Committed: height, Known: true, Answered: true, AtMost: height}
}

// been is what the data has been through.
func been(plans ...solstice.Plan) (done []Switched) {
	for _, p := range plans {
		done = append(done, Switched{p, "upgrades/" + p.Name})
	}
	return done
}

// missing are faults of binaries that are not there.
func missing(dirs ...string) map[string]string {
	faults := map[string]string{}
	for _, dir := range dirs {
		faults[dir] = "no such file"
	}
	return faults
}

// TestDecide is docs/deciding.md, and docs/cosmovisor.md A10 to A16, row by row.
func TestDecide(t *testing.T) {
	for _, tt := range []struct {
		name  string
		facts Facts
		want  string // action, what, and what becomes of the other plans
	}{
		// A plan that a rollback took off the list.
		{"skipped-and-the-node-would-halt", Facts{Link: genesis, File: file("v2", 100), Height: at(99), Skipped: skipped(false)}, "refuse: plan v2 at height 100 is to be skipped"},
		{"skipped-and-the-height-is-not-known", Facts{Link: genesis, File: file("v2", 100), Skipped: skipped(false)}, "refuse: plan v2 at height 100 is to be skipped"},
		{"skipped-with-the-flag", Facts{Link: genesis, File: file("v2", 100), Height: at(99), Skip: []int64{100}, Skipped: skipped(false)}, "launch genesis"},
		{"skipped-and-passed", Facts{Link: genesis, File: file("v2", 100), Height: at(100), Skipped: skipped(false)}, "launch genesis"},
		{"skipped-and-the-chain-does-not-know-it", Facts{Link: genesis, Manual: []Candidate{manual("v2", 100)}, Height: at(99), Skipped: skipped(true)}, "launch genesis"},
		{"skipped-while-the-node-runs", Facts{Link: genesis, Running: true, File: written("v2", 100), Height: answered(99), Skipped: skipped(false)}, "launch genesis"},
		{"skipped-at-another-height", Facts{Link: genesis, File: file("v2", 120), Height: at(119), Skip: []int64{100}, Skipped: skipped(false)}, "carry out v2 at height 120 in upgrades/v2"},

		// A11: when is a plan due?
		{"written-by-the-node-and-it-answers", Facts{Link: genesis, Running: true, File: written("v2", 100), Height: answered(99)}, "carry out v2 at height 100 in upgrades/v2"},
		{"written-by-the-node-and-it-does-not-answer", Facts{Link: genesis, Running: true, File: written("v2", 100)}, "carry out v2 at height 100 in upgrades/v2"},
		{"written-and-the-node-is-not-there-yet", Facts{Link: genesis, Running: true, File: written("v2", 100), Height: answered(50)}, "launch genesis; pending v2"},
		{"written-and-an-old-height-is-no-answer", Facts{Link: genesis, Running: true, File: written("v2", 100), Height: at(50)}, "carry out v2 at height 100 in upgrades/v2"},
		{"found-at-the-start-height-unknown", Facts{Link: genesis, File: file("v2", 100)}, "launch genesis; pending v2"},
		{"found-at-the-start-too-early", Facts{Link: genesis, File: file("v2", 100), Height: at(98)}, "launch genesis; pending v2"},
		{"found-at-the-start-one-block-before", Facts{Link: genesis, File: file("v2", 100), Height: at(99)}, "carry out v2 at height 100 in upgrades/v2"},
		{"found-at-the-start-long-due", Facts{Link: genesis, File: file("v2", 100), Height: at(5000)}, "carry out v2 at height 100 in upgrades/v2"},
		{"early-file-by-other-hands-reaches-its-height", Facts{Link: genesis, Running: true, File: file("v2", 100), Height: answered(99)}, "carry out v2 at height 100 in upgrades/v2"},

		// A12: before the first launch.
		{"cut-upgrade-goes-on", Facts{Link: genesis, File: file("v2", 100), Begun: &v2[0]}, "carry out v2 at height 100 in upgrades/v2"},
		{"cut-upgrade-whose-plan-is-gone", Facts{Link: genesis, Begun: &v2[0]}, "launch genesis"},
		{"binary-is-missing", Facts{Link: genesis, File: file("v2", 100), Height: at(99), Faults: map[string]string{"upgrades/v2": "none"}}, "wait for v2 at height 100: none"},
		{"binary-is-missing-and-the-node-halted", Facts{Link: genesis, Running: true, File: written("v2", 100), Faults: map[string]string{"upgrades/v2": "none"}}, "wait for v2 at height 100: none"},
		{"binary-of-a-plan-to-come-is-missing", Facts{Link: genesis, File: file("v2", 100), Height: at(50), Faults: map[string]string{"upgrades/v2": "none"}}, "launch genesis; pending v2"},
		{"applied", Facts{Link: onV2, File: file("v2", 100), Height: at(99), Applied: v2}, "launch upgrades/v2"},
		{"applied-and-written-again-by-the-node", Facts{Link: onV2, Running: true, File: written("v2", 100), Applied: v2}, "launch upgrades/v2"},
		{"applied-in-other-case", Facts{Link: onV2, File: file("V2", 100), Height: at(99), Applied: v2}, "launch upgrades/v2"},

		// A plan waits for its sidecars, a launch does not.
		{"sidecar-is-missing", Facts{Link: genesis, Running: true, File: written("v2", 100), Lacks: map[string]Lack{"upgrades/v2": {"feeder", "no feeder"}}}, "wait for v2 at height 100: no feeder"},
		{"sidecar-and-binary-are-missing", Facts{Link: genesis, File: file("v2", 100), Height: at(99), Faults: missing("upgrades/v2"), Lacks: map[string]Lack{"upgrades/v2": {"feeder", "no feeder"}}}, "wait for v2 at height 100: no such file"},
		{"sidecar-of-a-plan-to-come-is-missing", Facts{Link: genesis, File: file("v2", 100), Height: at(50), Lacks: map[string]Lack{"upgrades/v2": {"feeder", "no feeder"}}}, "launch genesis; pending v2"},
		{"sidecar-in-use-is-missing", Facts{Link: onV2, Applied: v2, File: file("v2", 100), Height: at(120), Lacks: map[string]Lack{"upgrades/v2": {"feeder", "no feeder"}}}, "launch upgrades/v2"},
		{"no-sidecar-is-missing", Facts{Link: genesis, File: file("v2", 100), Height: at(99), Lacks: map[string]Lack{"upgrades/v2": {}}}, "carry out v2 at height 100 in upgrades/v2"},

		// A14: skipped heights.
		{"skipped", Facts{Link: genesis, Running: true, File: written("v2", 100), Skip: []int64{100}}, "launch genesis"},
		{"another-is-skipped", Facts{Link: genesis, Running: true, File: written("v2", 100), Skip: []int64{90}}, "carry out v2 at height 100 in upgrades/v2"},

		// A15: known by name and height.
		{"same-name-greater-height", Facts{Link: onV2, File: file("v2", 200), Height: at(199), Applied: v2}, "carry out v2 at height 200 in upgrades/v2"},
		{"same-name-greater-height-to-come", Facts{Link: onV2, File: file("v2", 200), Height: at(150), Applied: v2}, "launch upgrades/v2; pending v2"},
		{"other-name-lower-height", Facts{Link: onV2, File: file("fix", 90), Height: at(150), Applied: v2}, "carry out fix at height 90 in upgrades/fix"},

		// A16: the link.
		{"fresh-home", Facts{}, "launch genesis, link made"},
		{"no-link-plan-due", Facts{File: file("v2", 100), Height: at(99)}, "carry out v2 at height 100 in upgrades/v2"},
		{"no-link-plan-ahead", Facts{File: file("v2", 100), Height: at(50)}, "launch genesis, link made; pending v2"},
		{"no-link-plan-and-no-height", Facts{File: file("v2", 100)}, "refuse: there is no current link, and plan v2 at height 100 may have been carried out already"},
		{"no-link-after-an-upgrade", Facts{History: []Switched{{v("v2", 100), "upgrades/v2"}}, Applied: v2, Height: at(120)}, "launch upgrades/v2, link made"},
		{"no-link-after-two-upgrades", Facts{History: []Switched{{v("v3", 200), "upgrades/v3"}, {v("v2", 100), "upgrades/v2"}}, Height: at(220)}, "launch upgrades/v3, link made"},
		{"no-link-after-an-upgrade-no-height", Facts{History: []Switched{{v("v2", 100), "upgrades/v2"}}, Applied: v2}, "refuse: there is no current link; the last switch was to upgrades/v2"},
		{"no-link-after-an-upgrade-lower-height", Facts{History: []Switched{{v("v2", 100), "upgrades/v2"}}, Applied: v2, Height: at(50)}, "refuse: there is no current link; the last switch was to upgrades/v2"},
		{"link-is-a-file", Facts{Link: solstice.Link{Fault: "it is not a symlink"}}, "refuse: the current link can't be used: it is not a symlink"},
		{"link-is-a-file-and-a-plan-is-due", Facts{Link: solstice.Link{Fault: "it is not a symlink"}, File: file("v2", 100), Height: at(99)}, "refuse: the current link can't be used"},
		{"link-dangles", Facts{Link: onV2, Faults: map[string]string{"upgrades/v2": "no such file"}}, "refuse: the binary in use can't run: no such file"},
		{"link-dangles-and-a-plan-is-due", Facts{Link: onV2, Applied: v2, File: file("v3", 200), Height: at(199), Faults: map[string]string{"upgrades/v2": "no such file"}}, "carry out v3 at height 200 in upgrades/v3"},

		// P5, P6, P7: the plan file and what the data has been through.
		{"done-by-the-data", Facts{Link: onV2, Applied: v2, File: file("v2", 100), Height: read(100), Done: been(v("v2", 100)), DoneKnown: true}, "launch upgrades/v2"},
		{"halted-by-the-data", Facts{Link: genesis, File: file("v2", 100), Height: read(99), DoneKnown: true}, "carry out v2 at height 100 in upgrades/v2"},
		{"file-of-the-future", Facts{Link: genesis, File: file("v2", 1000), Height: read(99), DoneKnown: true}, "launch genesis; pending v2"},
		{"passed-without-it", Facts{Link: genesis, File: file("v2", 100), Height: read(100), DoneKnown: true}, "refuse: the plan file holds plan v2 at height 100, and the data is at height 100 and has not been through it"},
		{"passed-without-it-and-not-known", Facts{Link: genesis, File: file("v2", 100), Height: read(100)}, "carry out v2 at height 100 in upgrades/v2"},
		{"passed-and-skipped", Facts{Link: genesis, File: file("v2", 100), Height: read(150), DoneKnown: true, Skip: []int64{100}}, "launch genesis; passed v2"},
		{"passed-and-was-skipped", Facts{Link: genesis, File: file("v2", 100), Height: read(150), DoneKnown: true, Skipped: skipped(false)}, "launch genesis"},
		{"passed-and-the-operator-planned-it", Facts{Link: genesis, File: file("v2", 100), Manual: []Candidate{seenBelow("v2", 100)}, Height: read(140), DoneKnown: true}, "carry out v2 at height 100 in upgrades/v2"},
		{"same-name-new-height", Facts{Link: onV2, Applied: v2, File: file("v2", 200), Height: read(199), Done: been(v("v2", 100)), DoneKnown: true}, "carry out v2 at height 200 in upgrades/v2"},
		{"an-older-file-while-it-runs", Facts{Link: onV3, Running: true, Applied: v2v3[1:], File: file("v2", 100), Height: answered(5000), Done: been(v2v3...)}, "launch upgrades/v3"},
		{"manual-and-done-by-the-data", Facts{Link: onV2, Applied: v2, Manual: []Candidate{manual("v2", 100)}, Height: read(120), Done: been(v("v2", 100)), DoneKnown: true}, "launch upgrades/v2; drop v2"},

		// L1: data from before the link.
		{"data-taken-back", Facts{Link: onV2, Applied: v2, History: been(v2...), Height: read(50), DoneKnown: true}, "refuse: the link names upgrades/v2, for plan v2 at height 100, and the data is of height 50: from before it"},
		{"data-taken-back-by-the-block-store", Facts{Link: onV2, Applied: v2, Height: Height{Committed: 49, Known: true, AtMost: 50}}, "refuse: the link names upgrades/v2"},
		{"data-taken-back-to-the-halt", Facts{Link: onV2, Applied: v2, Height: read(99), DoneKnown: true}, "launch upgrades/v2"},
		{"an-old-record-is-no-proof", Facts{Link: onV2, Applied: v2, Height: at(50)}, "launch upgrades/v2"},

		{"databases-gone", Facts{Link: onV2, Applied: v2, History: been(v2...), Gone: true}, "refuse: the link names upgrades/v2, for plan v2 at height 100, and the node's databases are gone"},
		{"databases-gone-and-genesis", Facts{Link: genesis, History: been(v2...), Gone: true}, "launch genesis"},
		{"databases-gone-and-taken-back", Facts{Link: onV2, Gone: true}, "launch upgrades/v2"},
		{"databases-gone-and-begun", Facts{Link: genesis, Begun: &v2[0], File: file("v2", 100), Gone: true}, "launch genesis; pending v2"},

		// L2 to L5, L11: data from beyond the link.
		{"layer-lost", Facts{Link: genesis, File: file("v3", 300), Height: read(350), Done: been(v2v3...), DoneKnown: true}, "launch upgrades/v3, link made for v3 at height 300"},
		{"layer-lost-no-plan-file", Facts{Link: genesis, Height: read(350), Done: been(v2v3...), DoneKnown: true}, "launch upgrades/v3, link made for v3 at height 300"},
		{"layer-lost-no-binary", Facts{Link: genesis, File: file("v3", 300), Height: read(350), Done: been(v2v3...), DoneKnown: true, Faults: missing("upgrades/v3")}, "wait for v3 at height 300: the data has been through plan v3 at height 300, the link names genesis"},
		{"new-home-with-a-snapshot", Facts{Link: genesis, Height: read(350), Done: been(v2v3...), DoneKnown: true, Faults: missing("upgrades/v3")}, "launch genesis"},
		{"later-snapshot-on-an-old-home", Facts{Link: onV2, Applied: v2, History: been(v2...), Height: read(350), Done: been(v2v3...), DoneKnown: true}, "launch upgrades/v3, link made for v3 at height 300"},
		{"later-snapshot-no-binary", Facts{Link: onV2, Applied: v2, History: been(v2...), Height: read(350), Done: been(v2v3...), DoneKnown: true, Faults: missing("upgrades/v3")}, "refuse: the data has been through plan v3 at height 300, the link names upgrades/v2"},
		{"later-data-at-the-next-halt", Facts{Link: onV2, Applied: v2, History: been(v2...), File: file("v4", 400), Height: read(399), Done: been(v2v3...), DoneKnown: true}, "carry out v4 at height 400 in upgrades/v4"},
		{"pointed-by-hand", Facts{Link: solstice.Link{Dir: "upgrades/v3-fixed", Target: "upgrades/v3-fixed"}, History: been(v2v3...), Height: read(350), Done: been(v2v3...), DoneKnown: true}, "launch upgrades/v3-fixed"},
		{"patched-by-a-manual-plan", Facts{Link: solstice.Link{Dir: "upgrades/fix"}, Applied: append(v2v3, v("fix", 320)), History: append(been(v2v3...), Switched{v("fix", 320), "upgrades/fix"}), Height: read(350), Done: been(v2v3...), DoneKnown: true}, "launch upgrades/fix"},
		{"decided-by-the-operator", Facts{Link: genesis, Applied: v2v3[1:], History: []Switched{{v("v3", 300), "genesis"}}, Height: read(350), Done: been(v2v3...), DoneKnown: true}, "launch genesis"},
		{"moved-home", Facts{Link: solstice.Link{Dir: "upgrades/v2", Target: "/old/cosmovisor/upgrades/v2", Moved: true}, Applied: v2, Height: read(150), Done: been(v2...), DoneKnown: true}, "launch upgrades/v2, link made"},

		// L6 to L8: no link.
		{"no-link-but-data", Facts{Height: read(350), Done: been(v2v3...), DoneKnown: true}, "launch upgrades/v3, link made"},
		{"no-link-data-and-a-patch", Facts{History: []Switched{{v("fix", 320), "upgrades/fix"}}, Applied: []solstice.Plan{v("fix", 320)}, Height: read(350), Done: been(v2v3...), DoneKnown: true}, "launch upgrades/fix, link made"},
		{"no-link-data-but-no-binary", Facts{Height: read(350), Done: been(v2v3...), DoneKnown: true, Faults: missing("upgrades/v3")}, "refuse: there is no current link, the data is under plan v3 at height 300"},
		{"no-link-data-taken-back", Facts{History: been(v2...), Applied: v2, Height: read(50), DoneKnown: true}, "refuse: there is no current link; the last switch was to upgrades/v2"},
		{"no-link-switched-at-the-halt", Facts{History: been(v2...), Applied: v2, Height: read(99), DoneKnown: true}, "launch upgrades/v2, link made"},

		// P9: the node switches by itself.
		{"itself-plan-ahead", Facts{SwitchesItself: true, Link: genesis, Running: true, File: file("v2", 100), Height: answered(50)}, "launch genesis; pending v2"},
		{"itself-written-at-the-height", Facts{SwitchesItself: true, Link: genesis, Running: true, File: written("v2", 100), Height: answered(99)}, "launch genesis; pending v2"},
		{"itself-and-its-height-is-not-known", Facts{SwitchesItself: true, Link: genesis, Running: true, File: written("v2", 100)}, "launch genesis; pending v2"},
		{"itself-without-a-binary-for-the-plan", Facts{SwitchesItself: true, Link: genesis, Running: true, File: written("v2", 100), Height: answered(99), Faults: missing("upgrades/v2")}, "launch genesis; pending v2"},
		{"itself-and-passed", Facts{SwitchesItself: true, Link: genesis, Running: true, File: written("v2", 100), Height: answered(100)}, "launch genesis; itself v2"},
		{"itself-and-passed-and-noted", Facts{SwitchesItself: true, Link: genesis, Running: true, File: written("v2", 100), Height: answered(100), Skipped: skipped(false)}, "launch genesis"},
		{"itself-and-ended-at-the-height", Facts{SwitchesItself: true, Link: genesis, File: written("v2", 100), Height: read(99), DoneKnown: true}, "launch genesis, snapshot for v2; pending v2"},
		{"itself-and-ended-before-the-height", Facts{SwitchesItself: true, Link: genesis, File: file("v2", 100), Height: read(50), DoneKnown: true}, "launch genesis; pending v2"},
		{"itself-and-the-data-is-beyond-its-link", Facts{SwitchesItself: true, Link: onV2, Applied: v2, History: been(v2...), Height: read(350), Done: been(v2v3...), DoneKnown: true}, "launch upgrades/v2"},
		{"itself-and-the-data-was-taken-back", Facts{SwitchesItself: true, Link: onV2, Applied: v2, History: been(v2...), Height: read(50), DoneKnown: true}, "launch upgrades/v2"},
		{"itself-and-the-operator-planned-it", Facts{SwitchesItself: true, Link: genesis, Running: true, Manual: []Candidate{manual("v2", 100)}, Height: answered(100)}, "launch genesis; drop v2; itself v2"},
		{"itself-and-its-binary-is-missing", Facts{SwitchesItself: true, Link: genesis, File: file("v2", 100), Height: read(99), Faults: missing("genesis")}, "refuse: the binary in use can't run"},
		{"itself-on-a-fresh-home", Facts{SwitchesItself: true, Done: been(v2...), DoneKnown: true, Height: read(120), Faults: missing("upgrades/v2")}, "launch genesis, link made"},

		// A25, A26, P8: manual plans.
		{"manual-to-come", Facts{Link: genesis, Running: true, Manual: []Candidate{manual("v2", 100)}, Height: answered(50)}, "launch genesis; pending v2; mark v2"},
		{"manual-height-unknown", Facts{Link: genesis, Manual: []Candidate{manual("v2", 100)}}, "launch genesis; pending v2"},
		{"manual-due", Facts{Link: genesis, Running: true, Manual: []Candidate{seenBelow("v2", 100)}, Height: answered(99)}, "carry out v2 at height 100 in upgrades/v2"},
		{"manual-due-late", Facts{Link: genesis, Running: true, Manual: []Candidate{seenBelow("v2", 100)}, Height: answered(140)}, "carry out v2 at height 100 in upgrades/v2"},
		{"manual-has-passed", Facts{Link: genesis, Running: true, Manual: []Candidate{manual("v2", 100)}, Height: answered(140)}, "launch genesis; drop v2"},
		{"manual-done", Facts{Link: onV2, Manual: []Candidate{seenBelow("v2", 100)}, Applied: v2, Height: at(99)}, "launch upgrades/v2; drop v2"},
		{"governance-before-manual", Facts{Link: genesis, Running: true, File: written("v2", 100), Height: answered(99), Manual: []Candidate{seenBelow("fix", 150)}}, "carry out v2 at height 100 in upgrades/v2; pending fix"},
		{"manual-before-a-file-to-come", Facts{Link: genesis, Running: true, File: file("v2", 100), Height: answered(59), Manual: []Candidate{seenBelow("fix", 60)}}, "carry out fix at height 60 in upgrades/fix; pending v2"},
		{"two-due-the-chain-is-past-the-first", Facts{Link: genesis, Running: true, File: written("v2", 100), Height: answered(99), Manual: []Candidate{seenBelow("fix", 60)}}, "carry out v2 at height 100 in upgrades/v2; drop fix"},
		{"operator-and-chain-know-the-same", Facts{Link: genesis, Running: true, File: written("v2", 100), Manual: []Candidate{seenBelow("v2", 100)}}, "carry out v2 at height 100 in upgrades/v2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := describe(Decide(tt.facts)); !strings.HasPrefix(got, tt.want) || strings.Contains(strings.TrimPrefix(got, tt.want), ";") {
				t.Errorf("Decide = %s\n    want %s", got, tt.want)
			}
		})
	}
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
		if d.Keep != nil {
			text += ", snapshot for " + d.Keep.Name
		}
	case CarryOut:
		text = fmt.Sprintf("carry out %s in %s", d.Plan, d.Dir)
	case Wait:
		text = fmt.Sprintf("wait for %s: %s", d.Plan, d.Reason)
	case Refuse:
		text = "refuse: " + d.Reason
	}
	names := func(label string, plans []solstice.Plan) {
		for _, p := range plans {
			text += "; " + label + " " + p.Name
		}
	}
	var pending []solstice.Plan
	for _, c := range d.Pending {
		pending = append(pending, c.Plan)
	}
	names("pending", pending)
	names("drop", d.Drop)
	names("mark", d.Mark)
	names("passed", d.Passed)
	names("itself", d.Itself)
	return text
}

// TestDecideRefusesWithAWayOn: a refusal without a hint leaves the operator alone.
func TestDecideRefusesWithAWayOn(t *testing.T) {
	for _, f := range []Facts{
		{Link: solstice.Link{Fault: "it is not a symlink"}},
		{Link: solstice.Link{Fault: "it points to /bin", Target: "/bin"}, History: []Switched{{v("v2", 100), "upgrades/v2"}}},
		{Link: onV2, Faults: map[string]string{"upgrades/v2": "no such file"}},
		{Link: genesis, Faults: map[string]string{"genesis": "no such file"}},
		{File: file("v2", 100)},
		{Link: genesis, File: file("v2", 100), Height: read(150), DoneKnown: true},
		{Link: onV2, Applied: v2, History: been(v2...), Height: read(50), DoneKnown: true},
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

// TestWeigh is H1 to H5 of docs/deciding.md.
func TestWeigh(t *testing.T) {
	noon := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	none := node.Reading{Err: fs.ErrNotExist}
	is := func(height int64) node.Reading { return node.Reading{Height: height} }
	wal := func(height int64, at time.Time) node.Heights {
		return node.Heights{Committed: none, Stored: node.Reading{Height: height, At: at}}
	}
	for _, tt := range []struct {
		name string
		disk node.Heights
		told Height
		want Height
	}{
		{"H1-application", node.Heights{Committed: is(99), Stored: is(100), Base: 1}, at(500), read(99)},
		{"H2-block-store", node.Heights{Committed: none, Stored: is(100), Base: 1}, Height{}, Height{Committed: 99, Known: true, Answered: true, AtMost: 100}},
		{"H2-and-told-the-same", node.Heights{Committed: none, Stored: is(100), Base: 1}, at(100), Height{Committed: 100, Known: true, Answered: true, AtMost: 100}},
		{"H2-and-told-of-other-data", node.Heights{Committed: none, Stored: is(100), Base: 1}, at(500), Height{Committed: 99, Known: true, Answered: true, AtMost: 100}},
		{"H3-wal", wal(100, noon), Height{}, at(99)},
		{"H3-newer", wal(100, noon.Add(time.Minute)), at(80), at(99)},
		{"H4-wal-of-before-a-restore", wal(100, noon.Add(-time.Minute)), at(80), at(80)},
		{"H4-wal-lacks-blocks", wal(10, noon.Add(time.Minute)), at(80), at(80)},
		{"H4-told", node.Heights{Committed: none, Stored: none}, at(80), at(80)},
		{"H5-nothing", node.Heights{Committed: none, Stored: none}, Height{}, Height{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := weigh(tt.disk, tt.told, noon); got != tt.want {
				t.Errorf("weigh = %+v, want %+v", got, tt.want)
			}
		})
	}
}
