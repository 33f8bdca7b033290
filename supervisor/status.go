package supervisor

import (
	"cmp"
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"solstice"
	"solstice/artifact"
	"solstice/rollback"
	"solstice/upgrade"
)

// view is what Run lets others see. It is replaced as a whole.
type view struct {
	Since   time.Time
	State   string
	Node    *solstice.Process
	Live    upgrade.Live
	HeardAt time.Time // when its height grew last
	Waiting string
	Unknown string // why a pending plan is not carried out: the height is unknown
	Reloads int
	Fault   string // of the last reload
}

// publish shows the present state to those who ask.
func (s *Supervisor) publish() {
	old := s.view.Load()
	now := view{Since: old.Since, Node: old.Node, Live: s.live, HeardAt: s.live.HeightAt, Waiting: cmp.Or(s.said[saidWaiting], s.said[saidPlanFile]), Unknown: s.unknown, Reloads: s.reloads, Fault: s.reloadFault}
	switch {
	case s.asked != nil:
		now.State = "stopping"
	case s.paused != nil:
		now.State = "pausing"
	case s.examining != nil:
		now.State = "examining"
	case s.work != nil:
		now.State = "upgrading"
	case s.process != nil:
		now.State = "running"
	default:
		now.State = "waiting"
	}
	s.view.Store(&now)
}

// Status is the state of the home and of this supervisor. It asks the node for its height, briefly.
func (s *Supervisor) Status(ctx context.Context) (solstice.Status, error) {
	v := s.view.Load()
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	live := v.Live
	source := "record"
	if live.Running() {
		if told, err := s.now().Node.Committed(ctx); err == nil && told.Tied {
			live.Height = upgrade.Height{Low: told.Height, High: told.AtMost, Source: upgrade.SourceNode, Tied: true}
			source = "node"
		}
	}
	status, err := Describe(s.Home, s.Version, live, source)
	if err != nil {
		return status, err
	}
	if v.Unknown != "" {
		status.Faults = append(status.Faults, v.Unknown)
	}
	status.Supervisor = &solstice.Supervisor{PID: os.Getpid(), Since: v.Since, State: v.State, Reloads: v.Reloads, ReloadFault: v.Fault}
	if live.Running() {
		status.Node = v.Node
		if other := s.otherHome.Load(); other != nil {
			status.NodeHomeFault = "the node has " + *other + " open"
		}
	}
	// What this supervisor waits for is what it has found and told, not what a look in between two system calls of the
	// node may show.
	status.Doing, status.Waiting, status.Copying = s.doing.Load(), v.Waiting, s.copying.Load()
	status.Downloading, status.Readiness = s.getting.Load(), s.checks.Load()
	status.Sidecars = s.sidecars.Status()
	if still := s.still.Load(); still != nil && v.State == "running" && live.Height.Low <= still.Height {
		status.Standstill = still
	}
	s.addAhead(&status)
	return status, nil
}

// Describe is the status of a home as its files tell it.
func Describe(home solstice.Home, version string, live upgrade.Live, source string) (solstice.Status, error) {
	status := solstice.Status{Version: version, Home: home.Dir, NodeHome: home.Node, NodeHomeFrom: home.NodeFrom, Name: home.Name}
	facts, err := upgrade.Gather(home, live, nil)
	if err != nil {
		return status, err
	}
	d := upgrade.Decide(facts.Facts)
	dir := facts.InUse()
	status.Binary = solstice.Binary{Dir: dir, Fault: facts.Link.Fault}
	if dir != "" {
		status.Binary = binary(home, dir)
	} else if d.Action == upgrade.Launch {
		status.Binary = binary(home, d.Dir)
	}
	if s := facts.Height.Source; live.Disk != nil && s != upgrade.SourceRecord && s != upgrade.SourceNode {
		source = "data"
	}
	if facts.Height.Known() {
		status.Height = &solstice.Height{Committed: facts.Height.Low, At: time.Now(), Source: source}
		if record, err := upgrade.ReadHeight(home); err == nil && source == "record" {
			status.Height.At = record.At
		}
	}
	pending := d.Pending
	if d.Action == upgrade.CarryOut || d.Action == upgrade.Wait {
		own := slices.ContainsFunc(facts.Manual, func(c upgrade.Candidate) bool { return c.Is(d.Plan) })
		pending = append([]upgrade.Candidate{{Plan: d.Plan, Dir: d.Dir, Manual: own}}, pending...)
	}
	usable := func(b solstice.Binary) solstice.Binary {
		b.Fault = cmp.Or(b.Fault, facts.Faults[b.Dir])
		return b
	}
	complete := func(b solstice.Binary) solstice.Binary {
		b = usable(b)
		b.Fault = cmp.Or(b.Fault, facts.Lacks[b.Dir].Fault)
		return b
	}
	status.Binary = usable(status.Binary)
	status.Pending = []solstice.Pending{}
	for _, c := range pending {
		origin := "plan file"
		if c.Manual {
			origin = "operator"
		}
		status.Pending = append(status.Pending, solstice.Pending{Name: c.Name, Height: c.Height, Origin: origin, Binary: complete(binary(home, c.Dir))})
	}
	if facts.FileFault != nil {
		status.Waiting = facts.FileFault.Error()
	}
	switch d.Action {
	case upgrade.Wait, upgrade.Refuse:
		status.Waiting = d.Reason
	}
	status.Next = strings.Join(d.Notes, "; ")
	for _, h := range d.Held {
		status.Held = append(status.Held, solstice.Held{Name: h.Name, Height: h.Height, Reason: h.Reason, Hint: h.Hint})
	}
	for _, fault := range facts.FileFaults() {
		status.Faults = append(status.Faults, fault.Error())
	}
	if what, err := rollback.Pending(home); err != nil {
		status.Faults = append(status.Faults, err.Error())
	} else if what != "" {
		status.Waiting = "a restore was cut off, and the next start finishes it: " + what
	}
	status.Crash = readCrash(home)
	status.Upgrades = facts.Journal.History()
	if status.Upgrades == nil {
		status.Upgrades = []solstice.Upgrade{}
	}
	if n := len(status.Upgrades); n > 0 && status.Upgrades[n-1].State == "switched" {
		status.Rehearsed = rehearsedBefore(home, status.Upgrades[n-1].Name)
		addOldRelease(&status, home, status.Upgrades[n-1])
	}
	return status, nil
}

// addOldRelease says that the last upgrade is not done: the binary that was switched to
// halted for the plan itself, and has not been replaced since.
func addOldRelease(status *solstice.Status, home solstice.Home, last solstice.Upgrade) {
	c := status.Crash
	if c == nil || c.Kind != solstice.CrashOldRelease || c.At.Before(last.Begun) {
		return
	}
	if info, err := os.Stat(home.Binary(last.Binary)); err == nil && info.ModTime().After(c.At) {
		return
	}
	b := binary(home, last.Binary)
	b.Fault = c.Cause
	status.Waiting = cmp.Or(status.Waiting, c.Cause+": "+c.Do)
	status.Pending = append([]solstice.Pending{{Name: last.Name, Height: last.Height, Origin: "plan file", Binary: b}}, status.Pending...)
}

func binary(home solstice.Home, dir string) solstice.Binary {
	b := solstice.Binary{Dir: dir, Path: home.Binary(dir), SwitchesItself: home.SwitchesItself}
	if err := artifact.Check(b.Path); err != nil {
		b.Fault = err.Error()
	}
	return b
}

// rehearsedBefore is how long a plan took when it was rehearsed, or nil.
func rehearsedBefore(home solstice.Home, plan string) *solstice.Rehearsed {
	last, found, err := solstice.LastRehearsal(home, plan)
	if err != nil || !found || last.Migration() == 0 {
		return nil
	}
	return &solstice.Rehearsed{Name: plan, FirstBlock: solstice.Seconds(last.Migration()), At: last.At}
}
