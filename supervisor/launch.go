package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"solstice"
	"solstice/artifact"
	"solstice/internal/durable"
	"solstice/node"
	"solstice/upgrade"
	"solstice/watch"
)

// launch starts the binary that was decided on.
func (s *Supervisor) launch(d upgrade.Decision, facts upgrade.Gathered) (done bool, code int, err error) {
	if err := s.read(); err != nil {
		return s.keepOrRefuse(err)
	}
	if err := s.checkSigned(); err != nil {
		return s.keepOrRefuse(err)
	}
	if s.keepBefore(d, facts) || !s.readyBefore(d.Dir) {
		return false, 0, nil
	}
	if err := facts.Settle(s.Home, d.Dir); err != nil {
		return s.keepOrRefuse(err)
	}
	for _, note := range d.Notes {
		s.Log.Warn(note)
	}
	if d.Relink {
		s.warn("the current link can't be made", facts.Relink(s.Home, d))
	}
	if !facts.Height.Known() && len(d.Pending) > 0 {
		s.Log.Info("the height is not known: no plan is due before the node tells it", "plan", d.Pending[0].Name, "height", d.Pending[0].Height)
	}
	switch mended, err := facts.MendPlan(s.Home, d.Dir); {
	case err != nil:
		return s.keepOrRefuse(fmt.Errorf("the plan file, which the new binary needs, can't be written: %w", err))
	case mended:
		s.Log.Warn("the plan file was not whole, and the new binary needs it: it is written anew from the journal", "path", s.Home.PlanFile())
	}
	binary := s.Home.Binary(d.Dir)
	if err := artifact.MakeExecutable(binary); err != nil {
		return s.keepOrRefuse(err)
	}
	cmd := exec.Command(binary, s.Args...)
	cmd.Dir, cmd.Env = s.Home.Root(), artifact.Environ(binary)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{s.nodeLock}
	planAt := watch.StampOf(s.Home.PlanFile())
	s.asking = nil
	before := s.crash
	process, err := s.startNode(cmd)
	if err = notStarted(binary, err); err != nil && s.last != nil && s.triesAgain() {
		s.crash = before
		s.failures++
		return s.backOff("cannot start node; retrying (SOLSTICE_RESTART=on-failure)", "err", err)
	}
	if err != nil {
		return true, solstice.ExitFailed, err
	}
	s.recordHeight(facts.Height) // it may be the last that is known for long
	s.live.Started(d.Dir, planAt, s.now().Settings.StateSync && !node.HasDatabases(s.Home, s.now().Settings))
	s.dir, s.binaryAt, s.heightFault = d.Dir, watch.StampOf(binary), nil
	s.process, s.ended, s.last = process, process.Done(), nil
	s.now().Node.SetProcess(process.PID)
	s.watched, err = upgrade.WatchLast(s.Home, facts.Journal, d.Dir)
	s.warn("the journal can't be written", err)
	s.view.Store(&view{Since: s.view.Load().Since, Node: &solstice.Process{PID: process.PID, Since: time.Now(), Args: shown(s.Args)}})
	if s.watched != nil {
		if r := rehearsedBefore(s.Home, s.watched.Plan.Name); r != nil {
			s.Log.Info("the new binary migrates; so long it took when it was rehearsed", "plan", r.Name, "about", time.Duration(r.FirstBlock).Round(time.Second/10))
		}
	}
	s.Log.Info("node started", "pid", process.PID, "path", binary, "args", strings.Join(shown(s.Args), " "))
	s.sidecarsAfter(d.Dir)
	go s.compareHome(process)
	go s.probes.Digest(binary) // a snapshot names it; at the height there is no time for it
	s.keeper.look()
	s.warn("the node's arguments can't be recorded", s.recordArgs())
	if s.Asked != nil {
		s.warn("the answers of the node's binary can't be recorded", s.Asked.KeepHelp())
	}
	s.lookAgainIn(s.pace(d))
	return false, 0, nil
}

// recordArgs keeps the node's arguments for the commands that have to know where its home is. No address with a secret in it
// helps them.
func (s *Supervisor) recordArgs() error {
	content, err := json.Marshal(solstice.Started{Dir: s.Home.Dir, Args: shown(s.Args), Node: s.Home.Node, NodeFrom: s.Home.NodeFrom})
	if err != nil {
		return err
	}
	if have, err := solstice.ReadFile(s.Home.ArgsFile(), solstice.MaxFile); err == nil && bytes.Equal(have, content) {
		return nil
	}
	return durable.WriteFile(s.Home.ArgsFile(), content, 0o600)
}

// shown are the node's arguments without the secrets in them.
func shown(args []string) []string {
	var texts []string
	for _, arg := range args {
		texts = append(texts, artifact.Redact(arg))
	}
	return texts
}

// restart waits longer after each failure in a row, then starts the node again.
func (s *Supervisor) restart(d upgrade.Decision, facts upgrade.Gathered) (done bool, code int, err error) {
	if s.restartAt.IsZero() {
		return s.backOff("the node is started again, as SOLSTICE_RESTART says", "end", s.last.String())
	}
	if wait := time.Until(s.restartAt); wait > 0 {
		s.lookAgainIn(wait)
		return false, 0, nil
	}
	s.restartAt = time.Time{}
	return s.launch(d, facts)
}

// backOff waits for longer the more failures there were in a row, and says why.
func (s *Supervisor) backOff(message, key string, why any) (done bool, code int, err error) {
	delay := min(backoffMin<<min(max(s.failures-1, 0), 16), backoffMax)
	s.restartAt = time.Now().Add(delay)
	s.Log.Warn(message, key, why, "failures", s.failures, "in", delay)
	s.lookAgainIn(delay)
	return false, 0, nil
}

// failedAgain says whether the node has ended with an error after which it would be started again.
func (s *Supervisor) failedAgain() bool {
	return s.RestartOnFailure && s.last.ExitCode() != 0 && s.endedEarly() == nil
}

// triesAgain says whether it is.
func (s *Supervisor) triesAgain() bool { return s.failedAgain() && !s.spent() }

// endedEarly explains the end of a new binary that never got beyond its plan's height.
func (s *Supervisor) endedEarly() error {
	mute := !s.live.Height.Known() && s.last.At.Sub(s.view.Load().Node.Since) >= steadyAfter // its blocks can't be seen
	if s.watched == nil || s.watched.Confirmed || s.asked != nil || mute {
		return nil
	}
	early := func(end string) string {
		if !strings.HasSuffix(end, "stands above") {
			end += "; what it printed stands above"
		}
		return fmt.Sprintf("upgrade %q: the new binary in %s ended before block %d was seen: %s, and the next start tries it again",
			s.watched.Plan.Name, s.watched.Dir, s.watched.Plan.Height, end)
	}
	if s.crash == nil {
		return errors.New(early(s.last.String()))
	}
	return &solstice.CrashError{Reason: early(s.crash.String()), Crash: *s.crash}
}

// probeStaged finds out, in the background, whether the binaries that wait for their plan are the verified ones, and have a
// pre-upgrade command.
func (s *Supervisor) probeStaged(dirs []string) {
	for _, dir := range dirs {
		binary := s.Home.Binary(dir)
		if s.probing[binary] == watch.StampOf(binary) || artifact.Check(binary) != nil || artifact.MakeExecutable(binary) != nil {
			continue
		}
		if s.probing == nil {
			s.probing = map[string]watch.Stamp{}
		}
		s.probing[binary] = watch.StampOf(binary)
		s.probe(dir)
	}
}

// startProbes lets binaries be asked beside the loop. None is any more when stop returns.
func (s *Supervisor) startProbes() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	s.probe = func(dir string) { wait.Go(func() { s.probes.Ahead(ctx, s.Home, dir) }) }
	return func() {
		cancel()
		wait.Wait()
	}
}
