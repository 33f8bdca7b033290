package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"time"

	"solstice"
	"solstice/internal/child"
	"solstice/internal/outlet"
	"solstice/sidecar"
)

// reload is a new version of this program that is to take this one's place in its process, while the node runs on.
//
// It is tried first: started beside this one, it reads what it would be handed over, with its settings, and says whether it could go
// on from there. Then everything that works beside the loop is ended, and the new version executed. What does not get as far as
// taking over goes back to this one (Handover.Back).
type reload struct {
	reply  chan<- reply[solstice.Reloading] // has room for one
	passed bool                             // the trial
	node   *child.Process                   // that it was tried with
}

// TrialPassed is what a version prints that could take over.
const TrialPassed = "this version can take over"

// ReloadTimeout is how long a new version may take for its trial, and then to take over.
const ReloadTimeout = 10 * time.Second

// flushAtReload is how long a log that nobody takes may hold up a new version. What is not
// written then is left out, which that one tells.
var flushAtReload = outlet.Patience{Stuck: 100 * time.Millisecond, Whole: time.Second}

// errReplace ends the loop for a new version.
var errReplace = errors.New("a new version takes over")

// errLater puts a reload off: something else has come first.
var errLater = errors.New("something else comes first")

// Reload has a new version of this program take over in this process: the one that lies at Self now. It returns when the version has
// been tried, just before it takes over. It is refused where that has to wait, and where the trial shows that it can't.
func (s *Supervisor) Reload(ctx context.Context) (solstice.Reloading, error) {
	replies := make(chan reply[solstice.Reloading], 1)
	return request(ctx, s, s.reloading, &reload{reply: replies}, replies)
}

// beginReload tries the new version, beside the loop.
func (s *Supervisor) beginReload(r *reload) {
	if s.reload != nil {
		r.reply <- reply[solstice.Reloading]{err: noTime("a reload is under way already")}
		return
	}
	if reason := s.noReload(); reason != "" {
		s.refuseReload(r, noTime(reason))
		return
	}
	s.reload, s.reloadFault, r.node = r, "", s.process
	g, kin := s.handover(), s.process.Kin()
	for _, one := range s.sidecars.Status() {
		if one.PID > 0 {
			g.Sidecars = append(g.Sidecars, sidecar.Handed{Name: one.Name, Running: sidecar.Running{PID: one.PID}})
		}
	}
	go func() { s.tried <- s.try(g, kin) }()
}

// noReload says why the program can't be replaced now, or nothing. Without a node there is nothing to keep.
func (s *Supervisor) noReload() string {
	switch {
	case runtime.GOOS != "linux":
		return "only Linux lets a program be replaced while its children run on"
	case s.asked != nil:
		return "solstice was told to end"
	case s.work != nil:
		return "an upgrade or a snapshot is under way"
	case s.process == nil:
		return "no node runs that could run on; start solstice anew instead"
	}
	return ""
}

// refuseReload tells who has asked for a reload that there is none, and everybody else.
func (s *Supervisor) refuseReload(r *reload, err error) {
	s.reloadFault = err.Error()
	s.Log.Warn("no new version takes over; this one goes on", "version", s.Version, "err", err)
	r.reply <- reply[solstice.Reloading]{err: err}
}

// reloadTried notes how the trial has ended. One that failed while an upgrade began says nothing of the version: the node that it was to
// take over is stopped.
func (s *Supervisor) reloadTried(err error) {
	reason := s.noReload()
	if reason == "" && s.process != s.reload.node {
		reason = "the node was started anew meanwhile"
	}
	if err != nil && reason != "" {
		s.refuseReload(s.reload, noTime(reason))
		s.reload = nil
		return
	}
	if err != nil {
		s.refuseReload(s.reload, &solstice.RefusedError{
			Reason: "the new version can't take over: " + err.Error(),
			Hint:   "nothing was changed, and the version that runs goes on; the new one was looked for at " + s.Self,
		})
		s.reload = nil
		return
	}
	s.reload.passed = true
}

// readyToReplace says whether this program is to give way now. What has come in between makes it impossible, or comes first.
func (s *Supervisor) readyToReplace() bool {
	if s.reload == nil || !s.reload.passed || s.askedAboutPlan() {
		return false
	}
	if reason := s.noReload(); reason != "" {
		s.refuseReload(s.reload, noTime(reason))
		s.reload = nil
		return false
	}
	s.reload.reply <- reply[solstice.Reloading]{value: solstice.Reloading{PID: os.Getpid(), Version: s.Version, Reloads: s.reloads}}
	s.reload.reply = make(chan reply[solstice.Reloading], 1) // a second try after a signal that came first answers nobody
	return true
}

// try starts the new version in a process of its own, and has it read what it would be handed over.
func (s *Supervisor) try(g given, kin *os.File) error {
	if s.Self == "" {
		return errors.New("it is not known where this program was started from")
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	cmd := exec.Command(s.Self, append([]string{"reload", "--trial", "--"}, os.Args[1:]...)...)
	give := func(f *os.File, number *int) {
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		*number = 2 + len(cmd.ExtraFiles)
	}
	give(s.supervised, &g.Files.Supervised)
	give(s.nodeLock, &g.Files.NodeLock)
	give(kin, &g.Files.Kin)
	give(self, &g.Files.Executable)
	state, err := g.write()
	if err != nil {
		return err
	}
	defer state.Close()
	var number int
	give(state, &number)
	cmd.Env = append(os.Environ(), handoverEnv+"="+strconv.Itoa(number))
	var said []string
	passed := false
	end, err := child.Run(context.Background(), cmd, ReloadTimeout, func(line string) {
		passed = passed || line == TrialPassed
		if len(said) < 10 && !strings.HasPrefix(line, "solstice: hint: ") {
			said = append(said, strings.TrimPrefix(line, "solstice: error: "))
		}
	})
	switch {
	case err != nil:
		return err
	case end.ExitCode() == 0 && passed:
		return nil
	}
	return fmt.Errorf("%s (%v)", cmp.Or(strings.Join(said, "; "), "it did not pass its trial"), end)
}

// replace executes the new version in place of this one. It returns only if that did not come about; then everything is as it was.
func (s *Supervisor) replace() error {
	if !s.process.Hand() {
		return errLater // its end
	}
	defer s.process.Keep()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	g, kin := s.handover(), s.process.Kin()
	keep := []*os.File{s.supervised, s.nodeLock, kin, self}
	g.Files = files{Supervised: fd(s.supervised), NodeLock: fd(s.nodeLock), Kin: fd(kin), Executable: fd(self)}
	if s.listening != nil {
		g.Files.Socket = fd(s.listening)
		keep = append(keep, s.listening)
	}
	if s.stderr != nil {
		if pipe := s.stderr.stop(); pipe != nil {
			defer func() { s.warn("what the node says on stderr gets lost", s.readOn(pipe)) }()
			g.Files.Stderr = fd(pipe)
			keep = append(keep, pipe)
		}
	}
	s.Out.Flush(flushAtReload)
	g.LeftOut = s.Out.Left()
	handed, kins, resume := s.sidecars.Hand()
	defer resume()
	g.Sidecars = handed
	keep = append(keep, kins...)
	state, err := g.write()
	if err != nil {
		return err
	}
	defer state.Close()
	env := append(os.Environ(), handoverEnv+"="+strconv.Itoa(fd(state)))
	env = append(env, s.Manager.Environ()...)
	if err := s.stopCatching(); err != nil {
		return err
	}
	defer catch(s.Signals)
	return child.Replace(s.Self, os.Args, env, append(keep, state))
}

// stopCatching ends that signals reach this program. One that came before is not forgotten: it comes first.
func (s *Supervisor) stopCatching() error {
	signal.Stop(s.Signals) // what is on its way is in the channel when it returns
	if s.late = drain(s.Signals); s.late != nil {
		catch(s.Signals)
		return errLater
	}
	return nil
}

func drain(signals <-chan os.Signal) (drained []os.Signal) {
	for {
		select {
		case sig := <-signals:
			drained = append(drained, sig)
		default:
			return drained
		}
	}
}

// notReplaced is for a new version that could not be executed. What something came before is tried again after that.
func (s *Supervisor) notReplaced(err error) {
	if !errors.Is(err, errLater) {
		s.refuseReload(s.reload, fmt.Errorf("the new version can't be executed: %w", err))
		s.reload = nil
	}
}

func fd(f *os.File) int { return int(f.Fd()) }
