package supervisor

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"solstice"
	"solstice/artifact"
)

// Manager is the service manager that started Solstice and wants to hear how it goes, as sd_notify(3) describes it. The zero
// value is nobody.
//
// The lines that talk to it are ours: go-systemd looks for the socket in the environment each time, and there the node and the
// hooks would find it too.
type Manager struct {
	Socket   string        // a path, or an abstract name that begins with @
	Watchdog time.Duration // silence of this length is taken for a hang; 0: it isn't
}

// Environ is the environment in which a program finds its manager.
func (m Manager) Environ() (env []string) {
	if m.Socket != "" {
		env = append(env, "NOTIFY_SOCKET="+m.Socket)
	}
	if m.Watchdog > 0 {
		env = append(env, "WATCHDOG_USEC="+strconv.FormatInt(m.Watchdog.Microseconds(), 10))
	}
	return env
}

const (
	beatEvery   = 10 * time.Second       // how often a manager without a watchdog is told that something takes long
	tellEvery   = time.Second            // how often its status changes at most
	tellTimeout = 100 * time.Millisecond // a manager that takes longer to listen is told later: the chain does not wait
	stopMargin  = 15 * time.Second       // how much longer than the grace a stop may take
)

// beatEvery is half of the silence that the manager takes for a hang.
func (m Manager) beatEvery() time.Duration {
	if m.Watchdog > 0 {
		return m.Watchdog / 2
	}
	return beatEvery
}

// notifier is what the manager was told. It belongs to the loop alone: one that hangs falls silent, and an upgrade beside it,
// however long it takes, does not silence it.
type notifier struct {
	timer  *time.Timer
	due    <-chan time.Time // when to tell it something though nothing happens; nil: there is no manager
	ready  bool
	stops  time.Time // since when the end is asked for; zero: it isn't
	status string
	told   time.Time // when the status was
	beat   time.Time // when the next one is due
}

// startTelling tells the manager that we are there. The node of an earlier Solstice may have to end first, and is given the grace.
func (s *Supervisor) startTelling() {
	if s.Manager.Socket == "" {
		return
	}
	s.notifier.timer = time.NewTimer(0)
	s.notifier.due = s.notifier.timer.C
	if s.notifier.ready {
		return // it was told, by the version before
	}
	s.send("STATUS=starting", extend(s.Grace+stopMargin))
}

// stopTelling tells the manager how the run has ended.
func (s *Supervisor) stopTelling(code int, err error) {
	if s.notifier.timer == nil {
		return
	}
	s.notifier.timer.Stop()
	status := fmt.Sprintf("ended with exit status %d", code)
	if err != nil {
		status, _, _ = strings.Cut(artifact.Redact(err.Error()), "\n")
	}
	s.send("STOPPING=1", "STATUS="+solstice.Line(status))
}

// tell tells the manager what it does not know yet. It is called on each round of the loop, and where the loop is kept waiting.
func (s *Supervisor) tell() {
	n := &s.notifier
	if n.timer == nil {
		return
	}
	now := time.Now()
	next := *n
	var lines []string
	if s.process != nil && !n.ready {
		next.ready = true
		lines = append(lines, "READY=1")
	}
	if s.asked != nil && n.stops.IsZero() {
		next.stops = now
		lines = append(lines, "STOPPING=1")
		if !s.takesLong() {
			lines = append(lines, extend(s.Grace+stopMargin))
		}
	}
	status := solstice.Line(s.summary(now))
	if status != n.status && (lines != nil || now.Sub(n.told) >= tellEvery) {
		next.status, next.told = status, now
		lines = append(lines, "STATUS="+status)
	}
	if !now.Before(n.beat) || next.stops != n.stops {
		next.beat = now.Add(s.Manager.beatEvery())
		if s.Manager.Watchdog > 0 {
			lines = append(lines, "WATCHDOG=1")
		}
		if s.takesLong() {
			lines = append(lines, extend(4*s.Manager.beatEvery()))
		}
	}
	switch {
	case lines == nil:
		*n = next
	case s.send(lines...):
		*n = next
	default:
		n.timer.Reset(tellTimeout) // all of it again
		return
	}
	wait := time.Until(n.beat)
	if status != n.status || s.work != nil || s.watched != nil || s.asked != nil {
		wait = min(wait, time.Until(n.told.Add(tellEvery)))
	}
	n.timer.Reset(max(wait, time.Millisecond))
}

// takesLong says whether the manager's limits for a start and a stop don't hold: there is no node yet, because an upgrade or a
// binary comes first, or an upgrade or its migration should not be cut off.
func (s *Supervisor) takesLong() bool {
	return !s.notifier.ready && s.process == nil || s.asked != nil && (s.work != nil || s.watched != nil)
}

// extend gives us so long before the manager must hear from us again, if that is longer than its limit.
func extend(d time.Duration) string {
	return "EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(d.Microseconds(), 10)
}

// send sends the manager one message. It says whether it got there.
func (s *Supervisor) send(lines ...string) bool {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.Manager.Socket, Net: "unixgram"})
	if err == nil {
		_ = conn.SetWriteDeadline(time.Now().Add(tellTimeout)) // it can't fail on an open socket
		_, err = conn.Write([]byte(strings.Join(lines, "\n")))
		conn.Close()
	}
	s.warn("the service manager can't be told how it goes; this is tried again", err)
	return err == nil
}

// summary is the state in a line, for people who ask the manager.
func (s *Supervisor) summary(now time.Time) string {
	parts := []string{"height not known yet"}
	switch {
	case s.live.Height.Known():
		parts[0] = "height " + grouped(s.live.Height.Low)
	case s.known.Known(): // by the databases, or it was written down
		parts[0] = "height " + grouped(s.known.Low)
	}
	if doing := s.doing.Load(); s.work != nil && doing != nil {
		parts = append(parts, fmt.Sprintf("upgrading to %s: %s for %s", doing.Name, doing.Step, span(now.Sub(doing.Since))))
	} else if s.work != nil {
		parts = append(parts, "upgrading")
	}
	switch running := s.view.Load().Node; {
	case s.asked != nil && s.process != nil:
		parts = append(parts, "stopping: the node was told to end")
	case s.work != nil || s.asked != nil:
	case s.said[saidWaiting] != "":
		parts = append(parts, "waits: "+s.said[saidWaiting])
	case s.process == nil && !s.restartAt.IsZero():
		end := s.last.String()
		if s.crash != nil {
			end += fmt.Sprintf(" (%s)", s.crash.Kind)
		}
		parts = append(parts, fmt.Sprintf("the node ended with %s and is started again", end))
	case s.process == nil:
		parts = []string{"starting"}
	case s.watched != nil:
		parts = append(parts, fmt.Sprintf("%s runs for %s, a block beyond its height %s is awaited", s.watched.Plan.Name,
			span(now.Sub(running.Since)), grouped(s.watched.Plan.Height)))
	default:
		parts = append(parts, s.nextPlan(now)...)
	}
	if still := s.still.Load(); still != nil && s.work == nil && s.asked == nil && s.live.Height.Low <= still.Height {
		parts = append(parts, fmt.Sprintf("stands still for %s: %s", span(now.Sub(still.Since)), still.Cause))
	}
	for _, one := range s.sidecars.Status() {
		if s.asked == nil && one.Fault != "" {
			parts = append(parts, fmt.Sprintf("sidecar %s %s: %s", one.Name, one.State, one.Fault))
		}
	}
	return strings.ReplaceAll(strings.Join(parts, " · "), "\n", "; ")
}

// nextPlan is the next upgrade in words: its name and when it is expected, and whether it will go well.
func (s *Supervisor) nextPlan(now time.Time) (parts []string) {
	outlook := s.ahead.Load()
	if outlook == nil {
		outlook = &Outlook{}
	}
	var next *solstice.Plan
	if p := outlook.Plan; p != nil && p.Height > s.live.Height.Low+1 {
		next = p
	}
	for i, c := range s.pending {
		if next == nil || c.Height < next.Height {
			next = &s.pending[i].Plan
		}
	}
	if next == nil {
		return nil
	}
	at, _, ok := outlook.Pace.At(next.Height)
	switch {
	case ok && at.Sub(now) < time.Second:
		parts = append(parts, next.Name+" any moment")
	case ok:
		parts = append(parts, fmt.Sprintf("%s in %s", next.Name, span(at.Sub(now))))
	case s.live.Height.Known():
		parts = append(parts, fmt.Sprintf("%s in %s blocks", next.Name, grouped(next.Height-s.live.Height.Low)))
	default:
		parts = append(parts, fmt.Sprintf("%s at %s", next.Name, grouped(next.Height)))
	}
	if r := s.checks.Load(); r != nil && r.Plan == next.Name && r.Height == next.Height {
		parts = append(parts, map[solstice.Verdict]string{
			solstice.OK: "ready", solstice.Unknown: "ready, as far as it is known", solstice.Warning: "ready, with warnings: solstice doctor",
			solstice.NotReady: "NOT READY: solstice doctor",
		}[r.Verdict])
	}
	return parts
}

// span is a duration as exactly as people want it.
func span(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d d %d h", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%d h %d m", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%d m", d/time.Minute)
	}
	return fmt.Sprintf("%d s", d/time.Second)
}

// grouped is a number with its thousands set off.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
