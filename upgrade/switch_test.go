package upgrade

import (
	"os"
	"slices"
	"testing"

	"solstice"
	"solstice/node"
)

// stoppedAt is what the databases say of a node that is stopped at a height and has been through these plans.
func stoppedAt(height int64, done ...solstice.Plan) Live {
	return Stopped(node.Heights{
		Committed: node.Reading{Height: height, File: "application.db"}, Stored: node.Reading{Height: height, File: "blockstore.db"}, Base: 1,
		Upgrades: node.Upgrades{Done: done},
	})
}

// TestSwitchTo: whatever the evidence says, after the operator has decided there is no contradiction any more, and the next plans
// are carried out as ever.
func TestSwitchTo(t *testing.T) {
	for _, tt := range []struct {
		name         string
		live         Live
		dir          string
		behind, back []solstice.Plan
	}{
		// After v2 was carried out at 100.
		{"data-taken-back", stoppedAt(10), "genesis", nil, []solstice.Plan{v2}},
		{"a-new-chain-under-the-same-binary", stoppedAt(10), "upgrades/v2", nil, []solstice.Plan{v2}},
		{"data-from-later", stoppedAt(350, v2, v3), "upgrades/v2", []solstice.Plan{v2, v3}, nil},
		{"data-from-later-under-genesis", stoppedAt(350, v2, v3), "genesis", []solstice.Plan{v3}, nil},
		{"nothing-known", Live{}, "genesis", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpgrade(t)
			must(t, u.Begin())
			must(t, u.Run(t.Context()))
			must(t, os.Remove(u.Home.PlanFile()))
			facts, err := Gather(u.Home, tt.live, nil)
			must(t, err)
			behind, back, err := facts.SwitchTo(u.Home, tt.dir)
			must(t, err)
			same := func(a, b []solstice.Plan) bool { return slices.EqualFunc(a, b, solstice.Plan.Is) }
			if !same(behind, tt.behind) || !same(back, tt.back) {
				t.Errorf("carried out %v, want %v; taken back %v, want %v", behind, tt.behind, back, tt.back)
			}
			if target, err := os.Readlink(u.Home.CurrentLink()); err != nil || target != tt.dir {
				t.Errorf("current -> %q, %v", target, err)
			}
			facts, err = Gather(u.Home, tt.live, nil)
			must(t, err)
			if d := Decide(facts.Facts); d.Action != Launch || d.Dir != tt.dir || d.Relink || len(d.Notes) > 0 {
				t.Errorf("then: %s, notes %q", describe(d), d.Notes)
			}
			if tt.name != "data-taken-back" {
				return
			}
			must(t, os.WriteFile(u.Home.PlanFile(), v("V2", 100).File(), 0o600))
			facts, err = Gather(u.Home, stoppedAt(99), nil)
			must(t, err)
			if d := Decide(facts.Facts); d.Action != CarryOut || d.Plan.Height != 100 {
				t.Errorf("at the plan's height again: %s", describe(d))
			}
		})
	}
}
