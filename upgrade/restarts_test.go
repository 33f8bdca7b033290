package upgrade

import (
	"context"
	"encoding/json"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"solstice"
	"solstice/internal/durable"
	"solstice/watch"
)

// Each run draws so many histories, the same ones each time. For more and for other ones:
// -rapid.checks 1000 -rapid.seed 0.
func init() {
	flag.Set("rapid.checks", "30")
	flag.Set("rapid.seed", "1")
}

// TestRestartsNeverPickTheWrongBinary draws chains with plans of both kinds, runs a node on them, and cuts the supervisor
// off anywhere: between two blocks, with the last height recorded or not, at each step of an upgrade. No binary may ever
// be launched at a height that is not its own, and every history ends on the last binary.
func TestRestartsNeverPickTheWrongBinary(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(memory(), "solstice-restarts-")
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := newModel(rt, dir)
		for range rapid.IntRange(0, 12).Draw(rt, "cuts") {
			m.session(rapid.IntRange(1, 40).Draw(rt, "events"))
		}
		m.alone = true // the last one is not cut off
		m.session(1000)
		if want := len(m.plans); m.binary() != want || m.height < m.end() {
			rt.Fatalf("ended with binary %d at height %d, want %d at %d", m.binary(), m.height, want, m.end())
		}
	})
}

// memory is a folder on a filesystem in memory, where there is one: these histories sync thousands of times.
func memory() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// model is a chain and its node: what is true, beside what Solstice can know.
type model struct {
	*rapid.T
	home    solstice.Home
	plans   []solstice.Plan
	manual  []bool
	height  int64
	running int // the binary, or -1
	halted  bool
	heard   Height
	seen    Seen
	written bool
	alone   bool // upgrades are not cut off any more
}

func newModel(rt *rapid.T, dir string) *model {
	m := &model{T: rt, running: -1}
	m.home = solstice.Home{Dir: dir, Node: dir, Name: "noded", StateDir: filepath.Join(dir, "cosmovisor", ".solstice")}
	must(rt, os.MkdirAll(m.home.Data(), 0o755))
	m.place(solstice.Genesis)
	height := int64(0)
	for i := range rapid.IntRange(1, 4).Draw(rt, "plans") {
		height += rapid.Int64Range(2, 30).Draw(rt, "blocks between")
		name := rapid.SampledFrom([]string{"V", "v", "up grade/"}).Draw(rt, "name") + string(rune('2'+i))
		m.plans = append(m.plans, solstice.Plan{Name: name, Height: height})
		m.manual = append(m.manual, rapid.Bool().Draw(rt, "manual"))
		m.place(m.home.UpgradeDir(name))
	}
	must(rt, os.MkdirAll(m.home.StateDir, 0o700))
	must(rt, WriteHeight(m.home, HeightRecord{At: time.Now()})) // the plans were added to a chain that is known to be new
	must(rt, ChangeManual(m.home, func([]ManualPlan) (plans []ManualPlan, err error) {
		for i, p := range m.plans {
			if m.manual[i] {
				plans = append(plans, ManualPlan{Plan: p})
			}
		}
		return plans, nil
	}))
	return m
}

func must(t interface{ Fatal(...any) }, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

func (m *model) place(dir string) {
	path := m.home.Binary(dir)
	must(m, os.MkdirAll(filepath.Dir(path), 0o755))
	must(m, os.WriteFile(path, []byte("#!/bin/sh\necho 'unknown command' >&2; exit 1\n"), 0o755))
}

// end is a height well beyond the last plan.
func (m *model) end() int64 { return m.plans[len(m.plans)-1].Height + 5 }

// binary is the number of upgrades behind the binary that the link names.
func (m *model) binary() int {
	link, err := m.home.Current()
	must(m, err)
	return m.number(link.Dir)
}

func (m *model) number(dir string) int {
	return 1 + slices.IndexFunc(m.plans, func(p solstice.Plan) bool { return m.home.UpgradeDir(p.Name) == dir })
}

// session is one life of a supervisor: so many events, then it is cut off.
func (m *model) session(events int) {
	m.running, m.halted, m.written, m.heard = -1, false, false, Height{}
	m.seen, _ = ReadSeen(m.home)
	for range events {
		facts, err := Gather(m.home, m.live(), nil)
		must(m, err)
		d := Decide(facts.Facts)
		must(m, DropManual(m.home, d.Drop))
		must(m, MarkManual(m.home, d.Mark))
		for _, p := range d.Ahead {
			m.seen, _ = m.seen.SawAhead(p)
		}
		for _, p := range slices.Concat(d.Over, d.Drop) {
			if facts.Height.Reached(p.Height) {
				m.seen, _ = m.seen.SawOver(p)
			}
		}
		must(m, m.seen.Write(m.home))
		switch {
		case d.Action == Examine:
			m.examine()
		case d.Action == CarryOut:
			if m.carryOut(d, facts) {
				return
			}
		case d.Action != Launch:
			m.Fatalf("at height %d: %s", m.height, describe(d))
		case m.running < 0:
			m.launch(d, facts)
		case m.height >= m.end():
			return
		default:
			m.block()
		}
	}
}

// live is what the supervisor knows. Without a node it has read the databases.
func (m *model) live() Live {
	l := Live{PlanAt: watch.StampOf(m.home.PlanFile()), Written: m.written, Height: m.heard, Seen: m.seen, SeenKnown: true}
	if m.running >= 0 {
		l.Launched = m.dir(m.running)
	}
	return l
}

// dir is the directory of a binary by its number.
func (m *model) dir(number int) string {
	if number == 0 {
		return solstice.Genesis
	}
	return m.home.UpgradeDir(m.plans[number-1].Name)
}

// examine stops the node and reads its databases.
func (m *model) examine() {
	m.running, m.heard = -1, Exactly(m.height, SourceApplication)
}

func (m *model) launch(d Decision, facts Gathered) {
	must(m, facts.Settle(m.home, d.Dir))
	if d.Relink {
		must(m, facts.Relink(m.home, d))
	}
	binary := m.number(d.Dir)
	for i, p := range m.plans {
		switch {
		case binary > i && m.height < p.Height-1:
			m.Fatalf("%s launched at height %d, too early for %s", d.Dir, m.height, p)
		case binary <= i && m.height >= p.Height && !m.manual[i]:
			m.Fatalf("%s launched at height %d, too late for %s", d.Dir, m.height, p)
		}
	}
	m.running, m.halted, m.written, m.heard = binary, false, false, Height{}
	if slices.Contains(m.manual, true) { // it is asked before its first block
		m.heard = Exactly(m.height, SourceNode)
	}
}

// block lets the node make its next block, or halt, and perhaps say where it is.
func (m *model) block() {
	next := slices.IndexFunc(m.plans, func(p solstice.Plan) bool { return p.Height == m.height+1 })
	if next >= m.running && !m.manual[next] {
		if !m.halted {
			must(m, os.WriteFile(m.home.PlanFile(), m.plans[next].File(), 0o600))
		}
		m.halted, m.written = true, true
		if m.heard.Known() {
			m.heard.High = Unbounded
		}
	} else {
		m.height++
	}
	// A manual plan is carried out in time only where the height is heard of; the next one must not overtake it.
	if m.halted || slices.Contains(m.manual, true) || rapid.Bool().Draw(m.T, "heard") {
		m.heard = Exactly(m.height, SourceNode)
		if rapid.Bool().Draw(m.T, "recorded") {
			must(m, WriteHeight(m.home, HeightRecord{Committed: m.height, At: time.Now()}))
		}
	}
}

// carryOut carries an upgrade out, or is cut off at one of its steps.
func (m *model) carryOut(d Decision, facts Gathered) (cut bool) {
	at := ""
	if !m.alone {
		at = rapid.SampledFrom([]string{"", "", "stop", "snapshot", "pre-upgrade", "switch"}).Draw(m.T, "cut at")
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	u := &Upgrade{
		Home: m.home, Plan: d.Plan, Dir: d.Dir, Manual: facts.File == nil || !facts.File.Is(d.Plan),
		Options: Options{BackupDir: m.home.Dir, HookTimeout: time.Minute}, Node: noNode{}, Probes: &Probes{Dir: m.home.StateDir},
		Log: slog.New(slog.DiscardHandler),
	}
	must(m, u.Begin())
	m.running = -1
	if at == "" {
		must(m, u.Run(ctx))
		return false
	}
	for _, s := range steps {
		if s.name == at {
			break
		}
		must(m, s.run(u, ctx))
		if rapid.Bool().Draw(m.T, "journaled") {
			must(m, u.journal.Append(Entry{Plan: u.Plan, Step: s.name, Dir: u.Dir}))
		}
	}
	return true
}

// noNode is a node that has ended by itself.
type noNode struct{}

func (noNode) Stop(context.Context) error { return nil }
func (noNode) Locks() []*os.File          { return nil }

// TestRunGoesOnAfterEveryCut cuts an upgrade after each step, with the step in the journal and without, and goes on.
func TestRunGoesOnAfterEveryCut(t *testing.T) {
	for i, s := range steps {
		for _, journaled := range []bool{true, false} {
			name := s.name + "-in-the-journal"
			if !journaled {
				name = s.name + "-not-in-the-journal"
			}
			t.Run(name, func(t *testing.T) {
				u := newUpgrade(t)
				must(t, u.Begin())
				for j, s := range steps[:i+1] {
					must(t, s.run(u, t.Context()))
					if j < i || journaled {
						must(t, u.journal.Append(Entry{Plan: u.Plan, Step: s.name, Dir: u.Dir}))
					}
				}
				facts, err := Gather(u.Home, Live{Written: true, PlanAt: watch.StampOf(u.Home.PlanFile())}, nil)
				must(t, err)
				d := Decide(facts.Facts)
				if d.Action == CarryOut {
					again := newUpgradeOn(u.Home)
					must(t, again.Begin())
					must(t, again.Run(t.Context()))
				} else {
					must(t, facts.Settle(u.Home, d.Dir))
				}
				checkUpgraded(t, u.Home)
			})
		}
	}
}

// TestMendPlan: a power cut may take what the node wrote into the plan file. The new binary needs it until it has migrated.
func TestMendPlan(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(path string) error
		height Height
		want   bool
	}{
		{"empty", func(path string) error { return os.Truncate(path, 0) }, Exactly(99, SourceApplication), true},
		{"gone", os.Remove, Exactly(99, SourceApplication), true},
		{"gone-and-height-unknown", os.Remove, Height{}, true},
		{"whole", func(string) error { return nil }, Exactly(99, SourceApplication), false},
		{"of-another-plan", func(path string) error { return os.WriteFile(path, v("v3", 300).File(), 0o600) }, Exactly(99, SourceApplication), false},
		{"gone-and-migrated", os.Remove, Exactly(100, SourceApplication), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpgrade(t)
			must(t, u.Begin())
			must(t, u.Run(t.Context()))
			must(t, tt.damage(u.Home.PlanFile()))
			facts, err := Gather(u.Home, Live{Height: tt.height}, nil)
			must(t, err)
			mended, err := facts.MendPlan(u.Home, "upgrades/v2")
			must(t, err)
			plan, _ := solstice.ReadPlan(u.Home.PlanFile())
			if mended != tt.want || mended && plan != v("V2", 100) {
				t.Errorf("mended %v, plan file then: %+v", mended, plan)
			}
			if again, err := facts.MendPlan(u.Home, "genesis"); again || err != nil {
				t.Errorf("for another binary: %v, %v", again, err)
			}
		})
	}
}

func newUpgrade(t *testing.T) *Upgrade {
	t.Helper()
	dir := t.TempDir()
	home := solstice.Home{Dir: dir, Node: dir, Name: "noded", StateDir: filepath.Join(dir, "cosmovisor", ".solstice")}
	for _, dir := range []string{solstice.Genesis, "upgrades/v2"} {
		must(t, os.MkdirAll(filepath.Dir(home.Binary(dir)), 0o755))
		must(t, os.WriteFile(home.Binary(dir), []byte("#!/bin/sh\necho \"$0 $*\" >>"+home.Dir+"/ran\n"), 0o644))
	}
	must(t, os.MkdirAll(home.StateDir, 0o700))
	must(t, os.MkdirAll(filepath.Join(home.Data(), "application.db"), 0o755))
	must(t, os.WriteFile(filepath.Join(home.Data(), "application.db", "CURRENT"), []byte("MANIFEST-000001\n"), 0o644))
	must(t, os.WriteFile(home.PlanFile(), v("V2", 100).File(), 0o600))
	must(t, os.WriteFile(filepath.Join(home.Root(), "pre.sh"), []byte("#!/bin/sh\necho \"script $* in $PWD\" >>ran\n"), 0o600))
	must(t, durable.Symlink(solstice.Genesis, home.CurrentLink()))
	return newUpgradeOn(home)
}

func newUpgradeOn(home solstice.Home) *Upgrade {
	return &Upgrade{
		Home: home, Plan: v("V2", 100), Dir: "upgrades/v2",
		Options: Options{BackupDir: home.Dir, Script: "pre.sh", HookTimeout: time.Minute},
		Node:    noNode{}, Probes: &Probes{Dir: home.StateDir}, Log: slog.New(slog.DiscardHandler),
	}
}

// checkUpgraded: the link is relative and right, the plan is beside the binary, one whole snapshot, no debris, and
// the journal tells the whole story.
func checkUpgraded(t *testing.T, home solstice.Home) {
	t.Helper()
	if target, err := os.Readlink(home.CurrentLink()); err != nil || target != "upgrades/v2" {
		t.Errorf("current -> %q, %v", target, err)
	}
	if got, err := os.ReadFile(home.AppliedFile("upgrades/v2")); err != nil || string(got) != string(v("v2", 100).File()) {
		t.Errorf("plan beside the binary: %q, %v", got, err)
	}
	snapshots, err := filepath.Glob(filepath.Join(home.Dir, "data-backup-v2-100-*"))
	if err != nil || len(snapshots) != 1 {
		t.Fatalf("snapshots: %q, %v", snapshots, err)
	}
	if got, err := os.ReadFile(filepath.Join(snapshots[0], "data", "application.db", "CURRENT")); err != nil || string(got) != "MANIFEST-000001\n" {
		t.Errorf("in the snapshot: %q, %v", got, err)
	}
	for _, dir := range []string{home.Dir, home.Root(), home.StateDir, home.Data()} {
		if debris, _ := filepath.Glob(filepath.Join(dir, durable.TempPrefix+"*")); len(debris) > 0 {
			t.Errorf("debris: %q", debris)
		}
	}
	facts, err := Gather(home, Live{}, nil)
	must(t, err)
	if d := Decide(facts.Facts); d.Action != Launch || d.Dir != "upgrades/v2" {
		t.Errorf("decided then: %s", describe(d))
	}
	history := facts.Journal.History()
	if len(history) != 1 || history[0].State != "switched" {
		t.Errorf("history: %+v", history)
	}
}

// TestJournalSurvivesATornLine: a power cut may leave a part of the last line.
func TestJournalSurvivesATornLine(t *testing.T) {
	u := newUpgrade(t)
	must(t, u.Begin())
	must(t, u.Run(t.Context()))
	content, err := os.ReadFile(u.Home.JournalFile())
	must(t, err)
	for cut := range content {
		must(t, os.WriteFile(u.Home.JournalFile(), content[:cut], 0o600))
		must(t, OpenJournal(u.Home).Append(Entry{Plan: v("v3", 200), Step: stepBegin}))
		entries, err := OpenJournal(u.Home).Read()
		must(t, err)
		if begun, ok := entries.Begun(); !ok || begun.Plan.Name != "v3" {
			t.Fatalf("cut at %d: begun %+v", cut, begun)
		}
	}
}

// FuzzReadJournal: whatever is in the file, it is read without a panic and gives only whole entries.
func FuzzReadJournal(f *testing.F) {
	f.Add([]byte(`{"time":"2026-11-23T05:01:22Z","plan":{"name":"v2","height":100},"step":"begin"}` + "\n{"))
	f.Fuzz(func(t *testing.T, content []byte) {
		j := Journal{filepath.Join(t.TempDir(), "journal")}
		must(t, os.WriteFile(j.path, content, 0o600))
		entries, _ := j.Read()
		for _, e := range entries {
			must(t, e.Plan.Validate())
		}
		_ = entries.History()
		if _, err := json.Marshal(entries.History()); err != nil {
			t.Error(err)
		}
	})
}
