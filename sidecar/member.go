package sidecar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"syscall"
	"time"

	"solstice"
	"solstice/artifact"
	"solstice/internal/child"
	"solstice/internal/durable"
)

// Running is what is known of a sidecar that runs, or ran last. Nothing else has to be handed down to who takes it over: its lock
// is its own.
type Running struct {
	PID      int       `json:"pid"`
	Dir      string    `json:"dir"` // whose binary it is, relative to Home.Root
	Since    time.Time `json:"since"`
	Restarts int       `json:"restarts"` // how often it was started again after its end
	Failures int       `json:"failures"` // ends in a row
}

// member is a sidecar of a group. It belongs to the group's loop.
type member struct {
	Sidecar
	Running
	g   *Group
	log *slog.Logger

	want    string         // directory of the version that it is to run from; empty: it is to be stopped
	process *child.Process // nil while none runs
	clear   bool           // nothing of it is left, as its lock says; false: not looked at
	locked  time.Time      // since when something is; zero: nothing was found
	lockAt  time.Time      // when the lock is tried again
	told    time.Time      // when it, or what is left of it, was told to end; zero: it wasn't
	killed  time.Time      // the same
	died    bool           // since it was started last, without having been told to
	startAt time.Time      // not before: it waits for its time
	ready   bool
	asking  bool
	askAt   time.Time
	pause   time.Duration // until it is asked again
	readyBy time.Time     // zero: it was not its turn since it was last wanted
	late    bool
	settled bool   // nobody waits for it any more: it is ready, or late, or can't be started
	fault   string // how it ended, why it can't be started or is not ready
	said    string // of the faults, what was logged last
}

// wantFrom sets where it is to run from. What was true of another version is forgotten.
func (m *member) wantFrom(dir string) {
	if m.want == dir {
		return
	}
	m.want, m.settled, m.late, m.readyBy = dir, false, false, time.Time{}
	m.startAt, m.Failures, m.fault, m.said, m.died = time.Time{}, 0, "", "", false
}

// ends says whether it runs and should not, or not from there.
func (m *member) ends() bool { return m.process != nil && m.want != m.Dir }

// gone says whether nobody has to wait for its end: it has ended, or the kernel can't end it.
func (m *member) gone(now time.Time) bool {
	if m.process == nil && m.clear {
		return true
	}
	stuck := !m.killed.IsZero() && !now.Before(m.killed.Add(killPatience))
	if stuck && m.said != "stuck" {
		m.said = "stuck"
		m.log.Error("the sidecar was killed and is not gone; nothing waits for it any more, and it is not started before its end", "pid", m.PID)
	}
	return stuck
}

// end tells it to end, and kills it when the grace is over: it and its process group, which is its own.
func (m *member) end(now time.Time) {
	if m.told.IsZero() {
		m.told = now
		if m.g.grace > 0 {
			m.signal(syscall.SIGTERM)
		}
	}
	m.killWhenOver(now, func() {
		if m.g.grace > 0 {
			m.log.Warn("the sidecar has not ended in the grace time; killing it", "grace", m.g.grace, "pid", m.PID)
		}
		m.signal(syscall.SIGKILL)
	})
}

// killWhenOver kills once, when the grace is over since it was told to end, and looks again when that may be given up.
func (m *member) killWhenOver(now time.Time, kill func()) {
	over := m.told.Add(m.g.grace)
	switch {
	case now.Before(over):
		m.g.wake(over)
	case m.killed.IsZero():
		m.killed = now
		kill()
		m.g.wake(now.Add(killPatience))
	case now.Before(m.killed.Add(killPatience)):
		m.g.wake(m.killed.Add(killPatience))
	}
}

// signal sends a signal to the process group. Between the moment at which its leader is reaped and Done there is no time for the
// number to be given anew.
func (m *member) signal(sig syscall.Signal) {
	select {
	case <-m.process.Done():
	default:
		_ = syscall.Kill(-m.PID, sig) // it may have ended just now
	}
}

// lookBehind finds out whether something of an earlier run is left: of a Solstice that was killed, or below a wrapper script. It is
// told to end, and killed after the grace.
func (m *member) lookBehind(now time.Time) {
	if now.Before(m.lockAt) {
		m.g.wake(m.lockAt)
		return
	}
	folder := m.g.home.SidecarLock(m.Name)
	lock, err := durable.Lock(folder)
	if err == nil {
		lock.Close()
	}
	if !errors.Is(err, durable.ErrLocked) {
		m.clear, m.locked, m.told, m.killed = true, time.Time{}, time.Time{}, time.Time{}
		return // one that can't be locked can't be started either, which says why
	}
	m.lockAt = now.Add(lookAgain)
	m.g.wake(m.lockAt)
	signal := func(sig syscall.Signal) {
		for _, pid := range durable.Holders(folder) {
			_ = syscall.Kill(pid, sig) // it may have ended just now
		}
	}
	switch {
	case m.locked.IsZero():
		m.locked = now
	case m.told.IsZero() && now.Sub(m.locked) >= settle:
		m.told = now
		m.log.Warn("something that an earlier run of the sidecar has left still runs; it is told to stop", "pid", fmt.Sprint(durable.Holders(folder)))
		signal(syscall.SIGTERM)
	case !m.told.IsZero():
		m.killWhenOver(now, func() {
			m.log.Warn("what the sidecar has left behind has not ended in the grace time; killing it", "grace", m.g.grace, "pid", fmt.Sprint(durable.Holders(folder)))
			signal(syscall.SIGKILL)
		})
	}
}

// lock takes its lock. The folder is made when it is needed.
func (m *member) lock() (*os.File, error) {
	folder := m.g.home.SidecarLock(m.Name)
	if err := durable.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	return durable.Lock(folder)
}

// begin starts it, if it is time. From its turn on it has its time to become ready, whatever keeps it from starting.
func (m *member) begin(now time.Time) {
	if m.readyBy.IsZero() {
		m.readyBy = now.Add(cmp.Or(m.Ready.Within, defaultWithin))
	}
	switch {
	case m.process != nil || !m.clear:
	case now.Before(m.startAt):
		m.g.wake(m.startAt)
	default:
		if err := m.start(now); err != nil {
			m.delay(now)
			m.fault, m.settled = err.Error(), true
			if m.said != m.fault {
				m.said = m.fault
				m.log.Error("the sidecar can't be started; it is tried again, and nothing waits for it", "err", err)
			}
		}
	}
}

// delay says when it is started again: later after each failure in a row.
func (m *member) delay(now time.Time) time.Duration {
	delay := min(backoffMin<<min(m.Failures, 16), backoffMax)
	m.Failures++
	m.startAt = now.Add(delay)
	m.g.wake(m.startAt)
	return delay
}

// start starts it. Its lock is inherited, and closed here: it lasts until the process and all that it starts have ended. The kernel
// tells it when Solstice dies. What is typed at a terminal does not reach it: it ends in its turn.
func (m *member) start(now time.Time) error {
	cmd, err := m.command(m.Command)
	if err != nil {
		return err
	}
	lock, err := m.lock()
	if errors.Is(err, durable.ErrLocked) {
		m.clear = false
		m.g.wake(now.Add(lookAgain))
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	process, err := child.Start(cmd, syscall.SIGTERM)
	if err != nil {
		return err
	}
	if m.died {
		m.Restarts++
	}
	m.PID, m.Dir, m.Since = process.PID, m.want, now
	m.died, m.fault = false, ""
	m.ready = !m.Ready.asks()
	m.settled = m.settled || m.ready
	m.log.Info("sidecar started", "pid", m.PID, "path", cmd.Path)
	m.follow(process)
	return nil
}

// follow takes a process as its own, from now on.
func (m *member) follow(process *child.Process) {
	m.process, m.clear, m.askAt, m.pause = process, false, time.Now(), askFirst
	go func() {
		<-process.Done()
		m.g.tell(func() { m.hasEnded(process) })
	}()
}

// command is one of its commands under the version that it is to run from.
func (m *member) command(words []string) (*exec.Cmd, error) {
	path := program(m.g.home, m.want, words)
	if err := artifact.Check(path); err != nil {
		return nil, err
	}
	if path != words[0] {
		if err := artifact.MakeExecutable(path); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command(path, words[1:]...)
	cmd.Dir, cmd.Env = m.g.home.Root(), append(artifact.Environ(path), m.Env...)
	return cmd, nil
}

// hasEnded takes in that its process has ended.
func (m *member) hasEnded(process *child.Process) {
	if m.process != process {
		return
	}
	end := process.End()
	asked := m.ends()
	m.process, m.ready, m.asking = nil, false, false
	m.locked, m.lockAt, m.told, m.killed = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	if asked {
		m.log.Info("sidecar stopped", "end", end.String())
		return
	}
	if end.At.Sub(m.Since) >= steadyAfter {
		m.Failures = 0
	}
	m.died, m.fault, m.said = true, "it ended: "+end.String(), ""
	m.log.Warn("a sidecar has ended; it is started again, and the node is not touched", "end", end.String(), "in", m.delay(end.At))
}

// ask asks it whether it is ready, and says when it takes too long.
func (m *member) ask(now time.Time) {
	switch {
	case m.ready || m.late:
	case now.Before(m.readyBy):
		m.g.wake(m.readyBy)
	default:
		m.late = true
		if !m.settled {
			m.settled = true
			m.log.Error("the sidecar is not ready in time; what comes after it is started all the same", "within", cmp.Or(m.Ready.Within, defaultWithin), "err", m.why())
		}
	}
	switch process := m.process; {
	case process == nil || m.ready || m.asking || m.ends():
	case now.Before(m.askAt):
		m.g.wake(m.askAt)
	default:
		var cmd *exec.Cmd
		var err error
		if m.Ready.Exec != nil {
			cmd, err = m.command(m.Ready.Exec)
		}
		m.asking = true
		go func() {
			if err == nil {
				err = m.Ready.ask(context.Background(), cmd)
			}
			m.g.tell(func() { m.answered(process, err) })
		}()
	}
}

// answered takes in what the question for its readiness has brought.
func (m *member) answered(process *child.Process, err error) {
	if m.process != process || m.ends() {
		return
	}
	m.asking = false
	if err != nil {
		m.fault = err.Error()
		m.askAt = time.Now().Add(m.pause)
		m.pause = min(2*m.pause, askSpare)
		return
	}
	m.ready, m.settled, m.fault, m.said = true, true, "", ""
	m.log.Info("sidecar ready", "after", time.Since(m.Since).Round(time.Millisecond))
}

// why is why it does not run, or is not ready.
func (m *member) why() string {
	if !m.locked.IsZero() {
		return "something that an earlier run has left still runs"
	}
	return m.fault
}

// show is how it is, for people.
func (m *member) show() solstice.Sidecar {
	s := solstice.Sidecar{Name: m.Name, Start: string(m.Start), Restarts: m.Restarts, Fault: m.why()}
	if dir := m.want; dir != "" {
		s.Binary = program(m.g.home, dir, m.Command)
	}
	if m.process != nil {
		s.PID, s.Since, s.Binary = m.PID, m.Since, program(m.g.home, m.Dir, m.Command)
	}
	switch {
	case m.process != nil && m.ends():
		s.State = "stopping"
	case m.process != nil && m.ready:
		s.State = "running"
	case m.process != nil && m.late:
		s.State = "not ready"
	case m.process != nil:
		s.State = "starting"
	case m.want == "":
		s.State = "stopped"
	case !m.locked.IsZero():
		s.State = "waiting"
	case m.fault != "":
		s.State = "restarting"
	default:
		s.State = "waiting"
	}
	return s
}
