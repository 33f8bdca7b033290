package rehearse

import (
	"strings"
	"testing"

	"solstice"
)

// TestJudge: runs are compared where they executed the same block, and only there.
func TestJudge(t *testing.T) {
	run := func(block, app string) solstice.RehearsalRun {
		return solstice.RehearsalRun{Outcome: solstice.RehearsalPassed, Blocks: 5, BlockHash: block, AppHash: app}
	}
	for _, tt := range []struct {
		name    string
		runs    []solstice.RehearsalRun
		outcome solstice.RehearsalOutcome
		reason  string
		note    string
	}{
		{"one", []solstice.RehearsalRun{run("B", "A")}, solstice.RehearsalPassed, "plan v2 was carried out at height 7, and 5 blocks followed", ""},
		{"same", []solstice.RehearsalRun{run("B", "A"), run("B", "A")}, solstice.RehearsalPassed, "2 runs from the same state came to the same app hash", ""},
		{"other-state", []solstice.RehearsalRun{run("B", "A"), run("B", "C")}, solstice.RehearsalUneven, "the stores that differ: bank, totals", ""},
		{"other-block", []solstice.RehearsalRun{run("B", "A"), run("D", "C")}, solstice.RehearsalPassed, "5 blocks followed", "can't be compared"},
		{"third", []solstice.RehearsalRun{run("B", "A"), run("B", "A"), run("B", "C")}, solstice.RehearsalUneven, "run 3 to C", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &rehearsal{Options: Options{Plan: "v2"}}
			r.result = solstice.Rehearsal{Plan: "v2", Height: 7, Outcome: solstice.RehearsalPassed, Runs: tt.runs}
			r.stores = []map[string]string{{"bank": "1", "gov": "2", "totals": "3"}, {"bank": "4", "gov": "2"}, {}}
			r.judge()
			if r.result.Outcome != tt.outcome || !strings.Contains(r.result.Reason, tt.reason) || !strings.Contains(strings.Join(r.result.Notes, ""), tt.note) {
				t.Errorf("%s: %s, notes %q; want %s: … %s …, %q", r.result.Outcome, r.result.Reason, r.result.Notes, tt.outcome, tt.reason, tt.note)
			}
		})
	}
}

// TestDocument: what a rehearsal has shown is told, also when it was cut short before there was a run.
func TestDocument(t *testing.T) {
	r := solstice.Rehearsal{Plan: "v2", Outcome: solstice.RehearsalDisk, Reason: "the rehearsal has taken 2.0 MiB on the disk, and may take 1.0 MiB"}
	var text strings.Builder
	if err := Document(r).Text(&text); err != nil {
		t.Fatal(err)
	}
	if want := "NOT ENOUGH DISK: the rehearsal has taken 2.0 MiB on the disk, and may take 1.0 MiB."; !strings.Contains(text.String(), want) {
		t.Errorf("the report lacks %q:\n%s", want, text.String())
	}
}
