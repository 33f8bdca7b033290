package chaos

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"solstice"
	"solstice/internal/testnode"
)

var histories = newCampaign("random histories")

// TestHistories draws lives of a node: plans of the chain and of the operator, cancelled ones, missing binaries, kills, data that is
// restored from a copy, a cosmovisor/ that forgets, a link that is lost. The operator does what the messages say and nothing else.
// No binary may ever run at a height that is not its own, nothing may be signed twice, and each history ends on the last binary.
// A history that fails is shrunk and kept in testdata/rapid, from where each later run tries it first.
func TestHistories(t *testing.T) {
	limit, full := histories.full()
	start := time.Now()
	for name, value := range map[string]string{"rapid.checks": "4", "rapid.shrinktime": "1m"} {
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	for round := 0; round == 0 || full && time.Since(start) < limit && !t.Failed(); round++ {
		rapid.Check(t, func(rt *rapid.T) {
			histories.cuts.Add(1)
			tb := &rapidTB{TB: t, rt: rt}
			defer tb.cleanup()
			l := newLife(tb, rt)
			for range rapid.IntRange(1, 8).Draw(rt, "events") {
				l.event()
			}
			l.toTheEnd()
		})
	}
}

// rapidTB lets what fails in a history fail for rapid, which shrinks it then.
type rapidTB struct {
	testing.TB
	rt       *rapid.T
	cleanups []func()
	failed   bool
}

func (t *rapidTB) Fatal(values ...any) { t.failed = true; t.rt.Fatal(values...) }
func (t *rapidTB) Fatalf(format string, values ...any) {
	t.failed = true
	t.rt.Fatalf(format, values...)
}
func (t *rapidTB) Error(values ...any) { t.failed = true; t.rt.Error(values...) }
func (t *rapidTB) Errorf(format string, values ...any) {
	t.failed = true
	t.rt.Errorf(format, values...)
}
func (t *rapidTB) Log(values ...any)                 { t.rt.Log(values...) }
func (t *rapidTB) Logf(format string, values ...any) { t.rt.Logf(format, values...) }
func (t *rapidTB) Failed() bool                      { return t.failed }
func (t *rapidTB) Cleanup(f func())                  { t.cleanups = append(t.cleanups, f) }
func (t *rapidTB) cleanup() {
	for _, f := range slices.Backward(t.cleanups) {
		f()
	}
}

// life is a node with a history, and what is true of it.
type life struct {
	*home
	rt     *rapid.T
	plans  []testnode.Plan
	copies map[string]int64 // of data/, by path, with the height
	stopAt int64
}

// lastHeight is beyond all plans.
const lastHeight = 45

func newLife(t *rapidTB, rt *rapid.T) *life {
	l := &life{rt: rt, copies: map[string]int64{}}
	height := int64(1)
	for i := range rapid.IntRange(1, 3).Draw(rt, "plans") {
		height += rapid.Int64Range(4, 12).Draw(rt, "blocks between")
		p := testnode.Plan{Name: fmt.Sprintf("v%d", i+2), Height: height, From: 1}
		switch rapid.SampledFrom([]string{"chain", "chain", "operator", "cancelled"}).Draw(rt, "kind") {
		case "operator":
			p.Manual = true
		case "cancelled":
			p.Until = height - 2
		}
		l.plans = append(l.plans, p)
	}
	l.home = newHome(t, testnode.Script{})
	if rapid.Bool().Draw(rt, "all binaries are there") {
		l.stageAll()
	}
	l.write("cosmovisor/pre.sh", "#!/bin/sh\ntrue\n")
	l.env = append(l.env, "COSMOVISOR_CUSTOM_PREUPGRADE=pre.sh")
	l.planManually()
	return l
}

func (l *life) dirOf(p testnode.Plan) string { return "upgrades/" + p.Name }

// stageAll places every binary that a plan needs which was not cancelled.
func (l *life) stageAll() {
	for _, p := range l.plans {
		if path := filepath.Join("cosmovisor", l.dirOf(p), "bin", "noded"); p.Until == 0 && !l.exists(path) {
			l.place(path)
		}
	}
}

func (l *life) exists(path string) bool {
	_, err := os.Lstat(filepath.Join(l.dir, path))
	return err == nil
}

// planManually adds the operator's plans, as one who doesn't know where the chain is: those that are behind are refused.
func (l *life) planManually() {
	for _, p := range l.plans {
		if p.Manual {
			_ = l.command("add-upgrade", p.Name, nodedBinary, "--upgrade-height", strconv.FormatInt(p.Height, 10), "--force").Run()
		}
	}
}

// goTo tells the node where to stop.
func (l *life) goTo(height int64) {
	l.stopAt = height
	l.script(testnode.Script{BlockTime: 2 * time.Millisecond, HaltExit: -1, Plans: l.plans, Database: true, StopAt: height})
}

// event is one thing that happens.
func (l *life) event() {
	switch what := rapid.SampledFrom([]string{"run", "run", "kill", "kill", "copy", "restore", "forget", "lose link", "miss"}).Draw(l.rt, "event"); what {
	case "run":
		l.goTo(rapid.Int64Range(1, lastHeight).Draw(l.rt, "to height"))
		l.run()
	case "kill":
		l.goTo(lastHeight)
		run := l.start(l.runArgs()...)
		time.Sleep(time.Duration(rapid.IntRange(0, 200).Draw(l.rt, "milliseconds")) * time.Millisecond)
		victim := rapid.SampledFrom([]string{"solstice", "node", "both"}).Draw(l.rt, "victim")
		if victim != "solstice" {
			l.killNodes()
		}
		run.kill()
		if victim == "both" {
			l.killNodes()
		}
	case "copy":
		l.clear()
		path := filepath.Join(filepath.Dir(l.dir), fmt.Sprintf("copy-%d", len(l.copies)))
		l.must(exec.Command("cp", "-a", filepath.Join(l.dir, "data"), path).Run())
		l.copies[path] = 0
	case "restore":
		if len(l.copies) == 0 {
			return
		}
		l.clear()
		path := rapid.SampledFrom(slices.Sorted(maps.Keys(l.copies))).Draw(l.rt, "copy")
		signed, state := l.signed()
		l.must(os.RemoveAll(filepath.Join(l.dir, "data")))
		l.must(exec.Command("cp", "-a", path, filepath.Join(l.dir, "data")).Run())
		if signed > l.mark() { // solstice was killed: the last second stands in this file alone, and the operator knows (docs/way-back.md)
			l.write("data/priv_validator_state.json", string(state))
		}
	case "forget": // all but what must not be lost: the sign state
		l.clear()
		for _, name := range []string{"journal.jsonl", "height.json", "plans.json", "args.json", "prepared.jsonl"} {
			_ = os.Remove(filepath.Join(l.paths().StateDir, name))
		}
		applied, _ := filepath.Glob(filepath.Join(l.paths().Upgrades(), "*", "upgrade-info.json"))
		for _, path := range applied {
			l.must(os.Remove(path))
		}
		_ = os.Remove(l.paths().CurrentLink())
		l.must(os.Symlink(solstice.Genesis, l.paths().CurrentLink()))
		l.planManually()
	case "lose link":
		l.clear()
		_ = os.Remove(l.paths().CurrentLink())
	case "miss": // the binary of a plan that is not in use
		link, _ := os.Readlink(l.paths().CurrentLink())
		p := rapid.SampledFrom(l.plans).Draw(l.rt, "missing")
		if l.dirOf(p) != link {
			l.must(os.RemoveAll(filepath.Join(l.dir, "cosmovisor", l.dirOf(p), "bin")))
		}
	}
}

func (l *life) killNodes() {
	for _, pid := range l.processes() {
		_ = exec.Command("kill", "-KILL", strconv.Itoa(pid)).Run() // it may have ended
	}
}

// run starts solstice and does what it says until the node has come to where it is to stop.
func (l *life) run() {
	l.Helper()
	for range 12 {
		said, code := l.runOnce()
		switch {
		case code == 0:
			return
		case code == solstice.ExitRefused:
			l.obey(said)
		}
	}
	l.Fatalf("it never came to height %d\n%s", l.stopAt, l.story())
}

// runOnce starts solstice once and waits for its end. A binary that it waits for is brought.
func (l *life) runOnce() (said string, code int) {
	l.Helper()
	before := l.said()
	run := l.start(l.runArgs()...)
	l.await("the end of solstice", func() bool {
		if status, err := l.home.status(); err == nil && status.Waiting != "" && !run.ended() {
			l.bring(status.Waiting)
		}
		return run.ended()
	})
	return strings.TrimPrefix(l.said(), before), run.ProcessState.ExitCode()
}

func (l *life) said() string {
	content, _ := os.ReadFile(l.log)
	return string(content)
}

// bring places the binary of the plan that solstice waits for.
func (l *life) bring(waiting string) {
	for _, p := range l.plans {
		if strings.Contains(waiting, "/"+l.dirOf(p)+"/") && !l.exists(filepath.Join("cosmovisor", l.dirOf(p), "bin", "noded")) {
			_ = l.command("add-upgrade", p.Name, nodedBinary).Run() // it may have been brought just now
		}
	}
}

var (
	committedLine = regexp.MustCompile(`(?m)^solstice: found: application +committed (\d+),`)
	switchLine    = regexp.MustCompile(`(?m)^solstice: hint: .*solstice switch (\S+)$`)
	placeLine     = regexp.MustCompile(`(?m)^solstice: hint: .*solstice add-upgrade (\S+) PATH$`)
)

// obey does what a refusal says. Where it leaves the choice, the operator knows the chain.
func (l *life) obey(said string) {
	l.Helper()
	if strings.Contains(said, "solstice sign-state raise") {
		l.output("sign-state", "raise")
		return
	}
	height := int64(0)
	if found := committedLine.FindStringSubmatch(said); found != nil {
		height, _ = strconv.ParseInt(found[1], 10, 64)
	}
	right := l.right(height)
	for _, hint := range placeLine.FindAllStringSubmatch(said, -1) {
		if slices.Contains(right, "upgrades/"+hint[1]) {
			l.output("add-upgrade", hint[1], nodedBinary)
			return
		}
	}
	for _, hint := range switchLine.FindAllStringSubmatch(said, -1) {
		if slices.ContainsFunc(right, func(dir string) bool { return filepath.Base(dir) == hint[1] }) {
			l.output("switch", hint[1])
			return
		}
	}
	l.Fatalf("at height %d the right binary is one of %v, and no hint says so:\n%s\n%s", height, right, said, l.story())
}

// right are the directories of binaries that may run when so much is committed.
func (l *life) right(height int64) (dirs []string) {
	last, least := solstice.Genesis, int64(0)
	for _, p := range l.plans {
		if p.Until == 0 && !p.Manual && p.Height <= height {
			last, least = l.dirOf(p), p.Height
		}
	}
	dirs = []string{last}
	for _, p := range l.plans {
		if p.Until == 0 && p.Height-1 <= height && p.Height > least {
			dirs = append(dirs, l.dirOf(p))
		}
	}
	return dirs
}

// toTheEnd runs on to where all plans are behind, and looks at everything.
func (l *life) toTheEnd() {
	l.Helper()
	l.clear()
	l.goTo(lastHeight)
	l.run()
	l.free()
	for _, cry := range []string{"TWO NODES", "WRONG", "TWICE"} {
		if strings.Contains(l.noded(), cry) {
			l.Errorf("%s\n%s", cry, l.story())
		}
	}
	target, err := os.Readlink(l.paths().CurrentLink())
	if right := l.right(lastHeight); err != nil || !slices.Contains(right, target) {
		l.Errorf("the link says %q, %v; want one of %v\n%s", target, err, right, l.story())
	}
	l.checkDebris()
	l.output("snapshot", "verify")
	l.mark()
	if l.Failed() {
		histories.failures.Add(1)
	}
}
