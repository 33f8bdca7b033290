package upgrade

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"solstice"
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
	v2      = []solstice.Plan{v("v2", 100)}
)

// TestDecide is docs/cosmovisor.md A10 to A16, row by row.
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

		// A25, A26: manual plans.
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
	} {
		d := Decide(f)
		if d.Action != Refuse || d.Hint == "" {
			t.Errorf("Decide(%+v) = %v with hint %q, want a refusal with a hint", f, d.Action, d.Hint)
		}
		if len(f.History) > 0 && !slices.Contains(strings.Split(d.Hint, "\n"), "ln -sfn upgrades/v2 current") {
			t.Errorf("the hint does not name what is known: %q", d.Hint)
		}
	}
}
