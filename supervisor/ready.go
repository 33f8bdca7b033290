package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"solstice"
	"solstice/readiness"
	"solstice/signstate"
	"solstice/watch"
)

// examined is when readiness was checked last, and what was found. It belongs to the scout.
type examined struct {
	plan   solstice.Plan
	binary string // the stamps of its binary and of its sidecars'
	stage  int    // how many of warnAt had come
	checks []solstice.Check
}

// warnAt is how long before the expected time readiness is checked again, louder each time.
var warnAt = []time.Duration{24 * time.Hour, time.Hour, 10 * time.Minute}

// examineEvery is how often it is checked at least: a disk fills.
const examineEvery = 10 * time.Minute

// examineQuiet is how close to a plan's height nothing is checked any more: the node needs the machine.
const examineQuiet = 10 * time.Second

// stageAt is how many of warnAt have come when so much time is left.
func stageAt(left time.Duration) (stage int) {
	for _, at := range warnAt {
		if left <= at {
			stage++
		}
	}
	return stage
}

// examine checks whether the next plan will go well: when it is seen first, when its binary changes, as it comes closer, and
// now and then. It tells what is new, and when it comes closer all that is still wrong.
func (s *Supervisor) examine(ctx context.Context, last *examined, o Outlook) {
	plan, found := s.next(o)
	if !found {
		*last = examined{}
		s.checks.Store(nil)
		return
	}
	stage := 0
	if at, _, ok := o.Pace.At(plan.Height); ok {
		if stage = stageAt(time.Until(at)); time.Until(at) < examineQuiet {
			return
		}
	}
	stamp := s.stamp(plan)
	before := s.checks.Load()
	again := before == nil || time.Since(before.At) >= examineEvery
	if plan == last.plan && stamp == last.binary && stage == last.stage && !again {
		return
	}
	checks := readiness.Look(ctx, s.subject(plan, o))
	if ctx.Err() != nil {
		return
	}
	s.checks.Store(&solstice.Readiness{Plan: plan.Name, Height: plan.Height, At: time.Now(), Verdict: readiness.Worst(checks), Checks: checks})
	s.tellReadiness(*last, plan, stage, checks)
	*last = examined{plan, stamp, stage, checks}
}

// stamp changes when a plan's binary does, or one of its sidecars'.
func (s *Supervisor) stamp(plan solstice.Plan) (stamp string) {
	dir := s.Home.UpgradeDir(plan.Name)
	for _, name := range append([]string{s.Home.Name}, s.Home.Sidecars...) {
		stamp += fmt.Sprintln(watch.StampOf(s.Home.File(dir, name)))
	}
	return stamp
}

// next is the plan that comes next, as the chain or the disk says.
func (s *Supervisor) next(o Outlook) (plan solstice.Plan, found bool) {
	if status, err := Describe(s.Home, s.Version, s.view.Load().Live, ""); err == nil {
		o.AddTo(&status, s.Home)
		for _, c := range status.Coming {
			if c.Proposal == 0 && c.Stage != solstice.StageDue {
				return o.WithInfo(solstice.Plan{Name: c.Name, Height: c.Height}), true
			}
		}
	}
	return solstice.Plan{}, false
}

func (s *Supervisor) subject(plan solstice.Plan, o Outlook) readiness.Subject {
	v := s.view.Load()
	pid := 0
	if v.Node != nil && v.Live.Running() {
		pid = v.Node.PID
	}
	link, _ := s.Home.Current()
	return readiness.Subject{
		Home: s.Home, Settings: s.now().Settings, Snapshots: s.store(), Link: link.Dir, Plan: plan, PID: pid, Pace: o.Pace, Grace: s.Grace,
		Signs:    &signstate.Guard{Validator: s.now().Signs.Validator, Marks: s.now().Signs.Marks}, // of its own: the loop uses the other
		NoBackup: s.Upgrade.SkipBackup, Temp: s.Home.StateDir, Probes: &s.probes, Trusted: s.Trusted, Sidecars: s.Sidecars,
	}
}

// tellReadiness says what is wrong, and what was and is not any more.
func (s *Supervisor) tellReadiness(last examined, plan solstice.Plan, stage int, checks []solstice.Check) {
	anew := !plan.Is(last.plan) || stage > last.stage
	verdict := readiness.Worst(checks)
	if anew {
		s.Log.Info("readiness checked", "plan", plan.Name, "height", plan.Height, "verdict", verdict)
	}
	for _, c := range checks {
		was := solstice.OK
		if i := slices.IndexFunc(last.checks, func(old solstice.Check) bool { return old.Name == c.Name }); i >= 0 && plan.Is(last.plan) {
			was = last.checks[i].Verdict
		}
		level := slog.LevelWarn
		switch {
		case c.Verdict == solstice.NotReady && stage == len(warnAt):
			level = slog.LevelError
		case c.Verdict == solstice.NotReady, c.Verdict == solstice.Warning:
		case was == solstice.NotReady, was == solstice.Warning:
			s.Log.Info("in order again", "check", c.Name, "evidence", c.Evidence, "plan", plan.Name)
			continue
		default:
			continue
		}
		if anew || c.Verdict != was {
			s.Log.Log(context.Background(), level, string(c.Verdict)+": "+c.Evidence, "check", c.Name, "plan", plan.Name, "do", c.Do)
		}
	}
}
