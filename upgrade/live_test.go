package upgrade

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"solstice"
	"solstice/node"
)

// TestLiveWritten: a plan file that changes while the node runs is the node's only as long
// as no answer that is tied to it places the node elsewhere than one block below the plan.
func TestLiveWritten(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer node.Answer
		want   bool
	}{
		{"at-its-halt", node.Answer{Height: 99, AtMost: 99, Tied: true}, true},
		{"perhaps-at-its-halt", node.Answer{Height: 98, AtMost: 99, Tied: true}, true},
		{"below", node.Answer{Height: 98, AtMost: 98, Tied: true}, false},
		{"beyond", node.Answer{Height: 100, AtMost: 100, Tied: true}, false},
		{"far-beyond", node.Answer{Height: 5000, AtMost: 5000, Tied: true}, false},
		{"below-by-an-untied-answer", node.Answer{Height: 98, AtMost: 98}, true},
		{"beyond-by-an-untied-answer", node.Answer{Height: 100, AtMost: 100}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			home, live := runningHome(t)
			must(t, os.WriteFile(home.PlanFile(), v2.File(), 0o600))
			if changed, _ := live.SeePlanFile(home, time.Now()); !changed || !live.Written {
				t.Fatalf("plan file changed %v, written %v", changed, live.Written)
			}
			must(t, live.Hear(home, tt.answer, time.Now()))
			if live.Written != tt.want {
				t.Errorf("written by the node = %v, want %v", live.Written, tt.want)
			}
		})
	}
}

// TestLiveExamined: the old binary is started again once per halt, unless the databases that
// were read are at the plan's height. A record of what was told before is no such reading.
func TestLiveExamined(t *testing.T) {
	for _, tt := range []struct {
		name   string
		height Height
		want   bool
	}{
		{"nothing-read", Height{}, true},
		{"below", Exactly(97, SourceApplication), true},
		{"at-its-height", Exactly(100, SourceApplication), false},
		{"record-beyond", AtLeast(5000, SourceRecord), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var live Live
			g := Gathered{Facts: facts(on(solstice.Genesis), wrote(v2), height(tt.height))}
			if got := live.Examined(&v2, Decision{Action: Launch}, g); got != tt.want || (live.Retried != nil) != tt.want {
				t.Errorf("started again = %v (%+v), want %v", got, live.Retried, tt.want)
			}
		})
	}
}

// TestGatherFileOfOthers: a file that others wrote after the node ended is not the node's; a
// new mode makes it nobody else's.
func TestGatherFileOfOthers(t *testing.T) {
	home, live := runningHome(t)
	must(t, os.MkdirAll(filepath.Join(home.Root(), solstice.Genesis), 0o755))
	must(t, os.Symlink(solstice.Genesis, home.CurrentLink()))
	must(t, os.WriteFile(home.PlanFile(), v2.File(), 0o600))
	live.Ended(home, time.Now(), false)
	live.SeePlanFile(home, time.Now())
	written := func() bool {
		g, err := Gather(home, *live, nil)
		must(t, err)
		return g.File.Written
	}
	if !written() {
		t.Error("the file that the node wrote is not its own")
	}
	must(t, os.Chmod(home.PlanFile(), 0o644))
	if !written() {
		t.Error("with another mode it is not its own any more")
	}
	must(t, os.WriteFile(home.PlanFile(), v3.File(), 0o600))
	if written() {
		t.Error("the file of other hands counts as the node's")
	}
}

func runningHome(t *testing.T) (solstice.Home, *Live) {
	t.Helper()
	dir := t.TempDir()
	home := solstice.Home{Dir: dir, Node: dir, Name: "noded", StateDir: filepath.Join(dir, "cosmovisor", ".solstice")}
	must(t, os.MkdirAll(home.Data(), 0o755))
	live := &Live{}
	live.Started(solstice.Genesis, live.PlanAt, false)
	return home, live
}
