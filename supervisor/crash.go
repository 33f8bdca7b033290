package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"solstice"
	"solstice/artifact"
	"solstice/crash"
	"solstice/internal/child"
	"solstice/internal/durable"
	"solstice/upgrade"
)

const (
	loadTime     = 10 * time.Second // a program whose libraries are not right ends sooner
	loaderFailed = 127              // the code that ld.so ends it with; where a version of glibc is missing it is 1
)

// tellEnd tells how the node has ended, and what it most likely was if nobody has asked for it.
func (s *Supervisor) tellEnd(end child.End) {
	s.crash = nil
	s.seePlanFile()
	_, again := s.haltedAgain()
	if s.asked != nil || end.ExitCode() == 0 && !again {
		s.handOn()
		s.Log.Info("node ended", "end", end.String())
		return
	}
	c := s.name(end)
	s.count(c)
	s.crash = c
	if s.halts(c.Kind) {
		s.Log.Info("node ended", "end", c.End)
		return
	}
	s.Log.Warn("node ended", "end", c.End, "kind", c.Kind, "cause", c.Cause, "hint", c.Do)
	content, err := json.Marshal(c)
	if err == nil {
		err = durable.WriteFile(s.Home.CrashFile(), content, 0o600)
	}
	s.warn("the crash can't be recorded", err)
}

// halts says whether an end is that of a node that has written its plan's file: some SDKs let it end with an error then.
func (s *Supervisor) halts(kind solstice.CrashKind) bool {
	return s.live.Written && (kind == solstice.CrashWrongBinary || kind == solstice.CrashPanic || kind == solstice.CrashUnknown)
}

// name names an end by everything that can be known of it now.
func (s *Supervisor) name(end child.End) *solstice.Crash {
	facts := crash.Facts{
		Code: end.Code, Signal: end.Signal, Read: s.stderr != nil,
		Kills: crash.CountKills().Since(s.kills), Room: crash.RoomOf(s.Home.Data()),
		Data: s.Home.Data(), Libraries: artifact.Libraries(s.binary),
	}
	if s.stderr != nil {
		facts.Said = s.stderr.said()
	}
	if (end.Code == loaderFailed || end.Code == 1) && end.Signal == 0 && s.lived(end) < loadTime {
		facts.Missing = artifact.MissingLibraries(s.binary)
	}
	c := crash.Name(facts)
	c.At, c.End, c.Cause = end.At, end.String(), artifact.Redact(c.Cause)
	for i := range c.Lines {
		c.Lines[i] = artifact.Redact(c.Lines[i])
	}
	if plan, again := s.haltedAgain(); again {
		c.Kind = solstice.CrashOldRelease
		c.Cause, c.Do = upgrade.OldRelease(s.dir, plan)
	}
	return &c
}

// haltedAgain says whether the new binary of an upgrade wrote the plan file of that very
// upgrade.
func (s *Supervisor) haltedAgain() (plan solstice.Plan, again bool) {
	plan, err := solstice.ReadPlan(s.Home.PlanFile())
	if err != nil || !s.live.Written || s.Home.SwitchesItself || s.dir != s.Home.UpgradeDir(plan.Name) {
		return plan, false
	}
	if s.live.Height.Known() {
		return plan, !s.live.Height.Reached(plan.Height)
	}
	record, _ := upgrade.ReadHeight(s.Home) // without one nothing says that the plan is behind
	return plan, record.Committed < plan.Height
}

func (s *Supervisor) lived(end child.End) time.Duration { return end.At.Sub(s.view.Load().Node.Since) }

// count counts the failures in a row. A node that ran for a while starts a new row.
func (s *Supervisor) count(c *solstice.Crash) {
	if c.At.Sub(s.view.Load().Node.Since) >= steadyAfter {
		s.failures = 0
	}
	s.failures++
	c.Failures = s.failures
}

// spent says that the node has failed so often in a row that it is not started again.
func (s *Supervisor) spent() bool { return s.RestartLimit > 0 && s.failures >= s.RestartLimit }

// gaveUp says so, and what the node ended by.
func (s *Supervisor) gaveUp() error {
	times := "once"
	if s.failures > 1 {
		times = fmt.Sprintf("%d times in a row", s.failures)
	}
	return &solstice.CrashError{
		Reason: fmt.Sprintf("the node has ended with an error %s and is not started again, as SOLSTICE_RESTART_LIMIT says; the last time: %v", times, s.crash),
		Crash:  *s.crash,
	}
}

// notStarted explains why a binary could not be started: where its loader is missing the kernel says only that a file is.
func notStarted(binary string, err error) error {
	if err == nil {
		return nil
	}
	if missing := artifact.MissingLibraries(binary); errors.Is(err, fs.ErrNotExist) && len(missing) > 0 {
		err = fmt.Errorf("%w: %s", err, strings.Join(missing, "; "))
	}
	return fmt.Errorf("start %s: %w", binary, err)
}

// readCrash is the last crash of a home, or nil. It is only shown: one that can't be read is lost.
func readCrash(home solstice.Home) *solstice.Crash {
	content, err := solstice.ReadFile(home.CrashFile(), solstice.MaxFile)
	var c solstice.Crash
	if err != nil || json.Unmarshal(content, &c) != nil {
		return nil
	}
	return &c
}
