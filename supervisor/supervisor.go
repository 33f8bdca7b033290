// Package supervisor runs one node and carries it from one binary to the next.
//
// One goroutine, Run, owns everything that changes: it starts the node, hears of signals, plan files and
// heights, decides again after each of them (package upgrade), and acts. At any time there is at most one node.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"solstice"
	"solstice/api"
	"solstice/artifact"
	"solstice/crash"
	"solstice/internal/child"
	"solstice/internal/durable"
	"solstice/internal/outlet"
	"solstice/node"
	"solstice/rollback"
	"solstice/sidecar"
	"solstice/upgrade"
	"solstice/watch"
)

// Node is who answers for a running node: node.Client.
type Node interface {
	Committed(ctx context.Context) (node.Answer, error)
	Applied(ctx context.Context, name string) (height int64, err error)
	SetProcess(pid int)
	Plan(ctx context.Context) (plan solstice.Plan, scheduled bool, err error)
	Proposals(ctx context.Context) ([]node.Proposal, error)
	Pace(ctx context.Context) (node.Pace, error)
	Consensus(ctx context.Context) (node.Consensus, error)
}

// Supervisor supervises the node of one home. Fill in the exported fields, then call Run once.
type Supervisor struct {
	Home    solstice.Home
	Args    []string // of the node, its first word included
	Version string   // of Solstice
	Log     *slog.Logger
	Signals chan os.Signal // that reach Solstice, by Catch
	Self    string         // the path that this program was started by; a reload executes what lies there then
	Given   *Handover      // by the version whose place this one takes; nil: there was none

	Grace               time.Duration // how long a node may take to stop before it is killed
	HaltWait            time.Duration // how long a halted node is given to end by itself
	Poll                time.Duration // of the plan file, below the events; 0: events only
	RestartAfterUpgrade bool
	RestartOnFailure    bool           // a node that dies is started again, with back-off
	RestartLimit        int            // after so many failures in a row it is not; 0: always
	Out                 *outlet.Outlet // takes what we say, and what the node says on stderr where that is read
	ReadStderr          bool           // read what the node says on stderr; else the node inherits ours
	Upgrade             upgrade.Options
	Download            bool // the binaries of plans are downloaded, by Fetcher
	Fetcher             artifact.Fetcher
	Keep                int      // how many snapshots of upgrades are kept
	AllowOtherOwner     bool     // data/ may belong to another user
	Trusted             []string // paths that are trusted besides those of the home: the configuration, the script
	Manager             Manager  // is told how it goes

	Sidecars []sidecar.Sidecar // that live with the node, in their order

	Read  func() (Reading, error) // reads the node's configuration, at each launch; an error refuses that one
	Asked *upgrade.Probes         // that asked the node's binary for its help before the start; nil: none did

	// Owned by Run.
	supervised, nodeLock *os.File
	process              *child.Process // nil while no node runs
	ended                <-chan struct{}
	last                 *child.End   // how the node ended that ran last; nil before the first and after an upgrade
	asked                os.Signal    // the end that somebody asked for; nil until then
	live                 upgrade.Live // all that decisions rest on, besides what is on disk
	heightFault          error        // why the node did not tell its height when it was asked last
	heardAhead           *Outlook     // of the scout, that live has
	unknown              string       // why a pending plan is not carried out: the height is unknown
	reminded             map[string]time.Time
	blockTime            time.Duration // between the last blocks that were heard of; 0: not known
	asking               *question     // not answered yet
	answers              chan answer
	recorded             time.Time      // when the height was last written to disk
	watched              *upgrade.Watch // an upgrade whose first block is awaited
	work                 chan error     // nil unless an upgrade or a pause is under way
	paused               *pause         // nil unless work is one
	stopWork             context.CancelCauseFunc
	retry                *time.Timer        // when to look again
	said                 said               // what was told already
	faultSince           time.Time          // when the plan file was first seen unreadable
	binary               string             // that the node runs, or ran last
	kills                crash.Kills        // when it was started
	stderr               *stderr            // of the node; nil: it is not read
	crash                *solstice.Crash    // how the node ended that ran last; nil: not by itself, or not with an error
	failures             int                // of the node, in a row
	restartAt            time.Time          // when it is started again; zero: not decided
	unread               bool               // the databases are to be read before anything is launched
	examining            *examination       // nil unless the node was stopped for one
	dir                  string             // of the binary that the node runs, or ran last
	binaryAt             watch.Stamp        // that binary when it was started
	passed               chan solstice.Plan // that the running node's state went through, and its binary did not
	statePassedFor       solstice.Plan      // for which the node was stopped last
	probes               upgrade.Probes
	probing              map[string]watch.Stamp
	probe                func(dir string) // asks the binary there, beside the loop
	keeper               *keeper
	pending              []upgrade.Candidate // plans that were known and not due when it was decided last
	listed               []solstice.Plan     // plans that the operator had on the list then
	known                upgrade.Height      // then, by whatever tells it
	notifier             notifier
	keeping              bool          // work is a snapshot before a launch, and no upgrade
	keptFor              solstice.Plan // what it was tried for last
	server               *api.Server
	listening            *os.File    // the socket between two servers; nil: there is none
	reload               *reload     // nil unless one is under way
	tried                chan error  // how its trial has ended
	reloads              int         // how often a version has taken over in this process
	reloadFault          string      // why the last one that should has not
	late                 []os.Signal // that came when this program was about to be replaced

	// Written by Run and its upgrade, read by those who ask for the status.
	view      atomic.Pointer[view]
	doing     atomic.Pointer[solstice.Doing]
	copying   atomic.Pointer[solstice.Copying]
	ahead     atomic.Pointer[Outlook]             // by the scout
	still     atomic.Pointer[solstice.Standstill] // by the scout
	otherHome atomic.Pointer[string]              // that the node uses in place of the one that is guarded; by the scout
	reading   atomic.Pointer[Reading]             // replaced at each launch
	reread    chan struct{}                       // it names other files of what is signed; for keepSigns
	getting   atomic.Pointer[solstice.Downloading]
	checks    atomic.Pointer[solstice.Readiness]
	sidecars  *sidecar.Group     // nil without any
	wishes    chan solstice.Plan // whose binaries are to be downloaded
	pauses    chan *pause        // that are asked for
	reloading chan *reload       // the same
	leaving   chan struct{}      // closed when the loop has ended, and takes no more of either
	signs     sync.Mutex         // of reading's Signs, which the loop, an upgrade and keepSigns use
}

const (
	pollManual  = 5 * time.Second        // of the operator's list, below the events
	lookAgain   = 100 * time.Millisecond // how soon what can't be done yet is tried again: the chain stands still
	tryAgain    = time.Second            // the same for what was tried and failed: a try may be work
	settleTime  = 200 * time.Millisecond // how long a plan file may be half-written without a word
	backoffMin  = time.Second
	backoffMax  = time.Minute
	forever     = 365 * 24 * time.Hour
	steadyAfter = time.Minute // a node that ran so long starts a new row of failures
)

// Run supervises until the node ends and no upgrade follows. The exit code is the node's own, or 128 plus a signal. An
// error of type *solstice.RefusedError means that nothing was changed.
func (s *Supervisor) Run() (exitCode int, err error) {
	defer func() {
		var stopped stoppedError
		if errors.As(err, &stopped) {
			s.Log.Info("stopped while no node was running; the next start goes on from here", "signal", stopped.sig)
			exitCode, err = stopped.ExitCode(), nil
		}
		s.stopTelling(exitCode, err)
	}()
	s.view.Store(&view{Since: time.Now(), State: "starting"})
	defer s.handOn()
	s.probes.Dir, s.probes.HelpFile = s.Home.StateDir, s.Home.HelpFile()
	s.reread = make(chan struct{}, 1)
	exitCode, err = solstice.ExitRefused, s.read()
	if s.Given != nil && err == nil {
		exitCode, err = solstice.ExitFailed, s.takeOver(s.Given)
	}
	s.startTelling()
	if s.Given == nil && err == nil {
		exitCode, err = s.begin()
	}
	if err != nil {
		return exitCode, err
	}
	defer s.supervised.Close()
	defer s.nodeLock.Close()
	if s.sidecars == nil {
		s.sidecars = sidecar.Begin(s.Home, s.Sidecars, s.Grace, s.Log)
	}
	defer s.stopSidecars()
	child.ReapOrphans(s.Given != nil)
	s.retry = time.NewTimer(0)
	s.answers, s.pauses = make(chan answer, 1), make(chan *pause)
	s.tried, s.reloading, s.passed = make(chan error, 1), make(chan *reload), make(chan solstice.Plan, 1)
	s.loadSeen()
	for {
		exitCode, err = s.supervise()
		if !errors.Is(err, errReplace) {
			return exitCode, err
		}
		s.notReplaced(s.replace())
	}
}

// begin takes the home, where nobody has handed it over.
func (s *Supervisor) begin() (exitCode int, err error) {
	if err := s.checkOwner(); err != nil {
		return solstice.ExitRefused, err
	}
	if err := s.lockHome(); err != nil {
		return solstice.ExitRefused, err
	}
	switch what, err := rollback.Finish(s.Home); {
	case err != nil:
		return solstice.ExitFailed, err
	case what != "":
		s.Log.Warn("finished what was begun and cut off", "what", what)
	}
	if info, err := os.Stat(s.Home.Data()); err != nil || !info.IsDir() {
		return solstice.ExitRefused, &solstice.RefusedError{
			Reason: fmt.Sprintf("the node has no data directory: %s", s.Home.Data()),
			Hint:   "make it with the node's own init: solstice run init MONIKER --home " + s.Home.Node + "\nor bring it back: solstice snapshot list",
		}
	}
	s.tellHome()
	s.tellExposed()
	s.prepareState()
	s.unread = true
	return 0, nil
}

// supervise starts what works beside the loop, and the loop.
func (s *Supervisor) supervise() (exitCode int, err error) {
	s.leaving = make(chan struct{})
	s.serve()
	defer func() { s.stopServing(errors.Is(err, errReplace)) }()
	plan, watchErr := watch.New(s.Home.PlanFile(), s.Poll)
	if watchErr != nil {
		s.Log.Warn("the system has no file events to give; looking by the clock", "err", watchErr)
	}
	defer plan.Close()
	manual, _ := watch.New(s.Home.ManualFile(), pollManual) // the same fault would have been told already
	defer manual.Close()
	stopSigns := s.keepSigns()
	defer stopSigns()
	s.keeper = s.startKeeper()
	defer s.keeper.stop()
	stopDownloads := s.startDownloads()
	defer stopDownloads()
	stopScout := s.startScout()
	defer stopScout()
	stopProbes := s.startProbes()
	defer stopProbes()
	defer close(s.leaving)
	if s.process != nil { // handed over: as after a launch
		s.planChanged()
		s.ask(&question{})
		s.keeper.look()
	}
	return s.loop(plan.Hints(), manual.Hints())
}

// loop is the life of the supervisor: decide and act, then wait for what happens next.
func (s *Supervisor) loop(planHints, manualHints <-chan struct{}) (exitCode int, err error) {
	for _, sig := range s.late {
		if err := s.signal(sig); err != nil {
			return solstice.ExitFailed, err
		}
	}
	s.late = nil
	telling := false // nothing has happened: it was only time to tell the manager, and the timers of decisions run on
	for {
		if !telling && s.work == nil && !s.askedAboutPlan() {
			if done, code, err := s.act(); done {
				return code, err
			}
		}
		if s.readyToReplace() {
			return 0, errReplace
		}
		s.publish()
		s.tell()
		telling = false
		select {
		case sig := <-s.Signals:
			if err := s.signal(sig); err != nil {
				return solstice.ExitFailed, err
			}
		case <-s.ended:
			if err := s.nodeEnded(); err != nil {
				return solstice.ExitFailed, err
			}
		case <-planHints:
			s.planChanged()
		case <-manualHints: // the operator's list is read before each decision
			s.listChanged()
		case a := <-s.answers:
			s.hear(a)
		case <-s.retry.C:
			s.ask(&question{})
		case p := <-s.pauses:
			s.beginPause(p)
		case r := <-s.reloading:
			s.beginReload(r)
		case err := <-s.tried:
			s.reloadTried(err)
		case <-s.sidecars.Changed(): // a launch may wait for them
		case <-s.notifier.due:
			telling = true
		case p := <-s.passed:
			s.statePassed(p)
		case err := <-s.work:
			s.work = nil
			s.doing.Store(nil)
			switch {
			case s.keeping:
				s.kept(err)
				continue
			case s.examining != nil:
				if code, err := s.examined(err); err != nil {
					return code, err
				}
				continue
			case s.paused != nil:
				s.endPause(err)
			case err != nil:
				return s.upgradeFailed(err)
			case !s.RestartAfterUpgrade:
				s.Log.Info("switched; not started, as DAEMON_RESTART_AFTER_UPGRADE says. Check the upgrade and start solstice again")
				return 0, nil
			}
			s.last, s.process, s.ended = nil, nil, nil
		}
	}
}

// act decides, and does what was decided. done means that there is nothing left to supervise.
func (s *Supervisor) act() (done bool, code int, err error) {
	if s.asked != nil && s.process == nil {
		return true, s.exitCode(), nil
	}
	if s.planChanged(); s.askedAboutPlan() {
		return false, 0, nil // before its event came
	}
	s.noteSchedule()
	s.importBatch()
	facts, d, err := s.decide()
	if err != nil && s.examining != nil && s.process == nil {
		// The node was stopped by us: it is not left down for what may pass.
		s.examining.disk = nil
		s.wait(err.Error(), "the node was stopped to read its databases; this is tried again")
		s.lookAgainIn(tryAgain)
		return false, 0, nil
	}
	if err != nil {
		return s.keepOrRefuse(err)
	}
	if s.process == nil {
		select {
		case sig := <-s.Signals: // it came while the databases were read
			s.lookAgainIn(0)
			if err := s.signal(sig); err != nil {
				return true, solstice.ExitFailed, err
			}
			return false, 0, nil
		default:
		}
		s.noteExamined(d, facts)
	}
	s.tend(d, facts)
	s.keepSeen(s.live.Decided(d, facts))
	s.tellHeld(d)
	s.tellFileFaults(facts)
	s.pending, s.known = d.Pending, facts.Height
	defer s.tellPlanFile(facts.FileFault)
	switch d.Action {
	case upgrade.Refuse:
		switch {
		case s.last != nil && s.triesAgain(): // what is in the way may pass, such as a binary that is being replaced
			s.wait(d.Reason, d.Hint)
			s.lookAgainIn(tryAgain)
			return false, 0, nil
		case s.last != nil:
			return true, s.exitCode(), s.endedEarly() // the node's end is the news; the next start refuses
		}
		return true, solstice.ExitRefused, facts.Refusal(d)
	case upgrade.Wait:
		s.wish(d.Plan)
		s.tellEvidence(d, facts)
		if d.HaltedAgain && watch.StampOf(s.binary) != s.binaryAt {
			s.stopToExamine(d.Plan, "its binary was replaced")
			return false, 0, nil
		}
		s.wait(fmt.Sprintf("plan %s is due and waits: %s", d.Plan, d.Reason), d.Hint)
	case upgrade.Examine:
		u := &upgrade.Upgrade{Home: s.Home, Options: s.Upgrade}
		if err := u.CanBegin(); err != nil {
			return s.keepOrRefuse(fmt.Errorf("upgrade %q can't begin: %w", d.Plan.Name, err))
		}
		s.stopToExamine(d.Plan, d.Reason)
	case upgrade.CarryOut:
		return s.carryOut(d, facts)
	case upgrade.Launch:
		s.said.anew(saidWaiting, "")
		switch {
		case s.process != nil:
			s.probeStaged(facts.Staged)
			for _, c := range d.Pending {
				s.wish(c.Plan)
			}
			s.lookAgainIn(s.pace(d))
		case s.last == nil:
			return s.launch(d, facts)
		case s.triesAgain():
			return s.restart(d, facts)
		case s.failedAgain() && s.spent():
			return true, s.exitCode(), s.gaveUp()
		default:
			return true, s.exitCode(), s.endedEarly()
		}
	}
	return false, 0, nil
}

// decide decides from what is known. Before anything is launched, and before the link is
// moved, the databases of the stopped node are read, unless the node wrote the plan file
// itself and told that it has committed the block before its height: then there is no time
// for that at the halt, and no need.
func (s *Supervisor) decide() (upgrade.Gathered, upgrade.Decision, error) {
	facts, err := upgrade.Gather(s.Home, s.live, &s.probes)
	if err != nil {
		return facts, upgrade.Decision{}, err
	}
	d := upgrade.Decide(facts.Facts)
	if s.process != nil || !s.unread || d.Action == upgrade.CarryOut && d.Certain {
		return facts, d, nil
	}
	if err := s.readDisk(); err != nil {
		return facts, d, err
	}
	if facts, err = upgrade.Gather(s.Home, s.live, &s.probes); err != nil {
		return facts, d, err
	}
	return facts, upgrade.Decide(facts.Facts), nil
}

// tellEvidence tells once what a decision rests on that the operator may have to take.
func (s *Supervisor) tellEvidence(d upgrade.Decision, facts upgrade.Gathered) {
	if d.Contradicts && s.said[saidWaiting] == "" {
		for _, line := range facts.Evidence() {
			s.Log.Info("found", "what", line.What, "value", line.Value)
		}
	}
}

// keepOrRefuse is for what can't be done yet: a running node is left as it is while it is tried again, and without one
// nothing has changed.
func (s *Supervisor) keepOrRefuse(err error) (done bool, code int, _ error) {
	var refused *solstice.RefusedError
	switch {
	case s.process != nil:
	case errors.As(err, &refused):
		return true, solstice.ExitRefused, err
	default:
		return true, solstice.ExitRefused, &solstice.RefusedError{Reason: err.Error()}
	}
	s.wait(err.Error(), "the node is left as it is; this is tried again")
	s.lookAgainIn(tryAgain)
	return false, 0, nil
}

// tend keeps the operator's list: what is done or has passed goes, what is seen ahead is marked.
func (s *Supervisor) tend(d upgrade.Decision, facts upgrade.Gathered) {
	s.tellCancelled(d, facts)
	var err error
	if len(d.Drop) > 0 {
		err = upgrade.DropManual(s.Home, d.Drop)
	}
	for _, p := range d.Drop {
		if err == nil && !facts.Applied(p) && !slices.ContainsFunc(d.Itself, p.Is) {
			s.Log.Warn("plan dropped from the operator's list: its height has passed", "plan", p.Name, "height", p.Height)
		}
	}
	if len(d.Mark) > 0 {
		markErr := upgrade.MarkManual(s.Home, d.Mark)
		if markErr != nil { // it must not be forgotten: at the height it is too late to see that
			s.keepSeen(s.live.SawAhead(d.Mark))
		}
		err = errors.Join(err, markErr)
	}
	if errors.Is(err, durable.ErrLocked) {
		s.tellLocked()
	} else {
		s.warn("the operator's list can't be kept", err)
	}
	for _, p := range d.Itself {
		err := upgrade.OpenJournal(s.Home).Itself(time.Now(), upgrade.Switched{Plan: p, Dir: facts.InUse()})
		s.warn("the journal can't be written", err)
		if err == nil {
			s.Log.Info("the node went through a plan by itself", "plan", p.Name, "height", p.Height)
		}
	}
	for _, p := range d.Passed { // so that it is known when the flag is gone
		s.warn("the journal can't be written", upgrade.OpenJournal(s.Home).Skip(time.Now(), upgrade.Skipped{Plan: p}))
	}
}

// tellCancelled says which plans the operator has taken off the list since it was decided last.
func (s *Supervisor) tellCancelled(d upgrade.Decision, facts upgrade.Gathered) {
	before := s.listed
	s.listed = nil
	for _, c := range facts.Manual {
		if !slices.ContainsFunc(d.Drop, c.Is) {
			s.listed = append(s.listed, c.Plan)
		}
	}
	for _, p := range before {
		if !slices.ContainsFunc(s.listed, p.Is) && !slices.ContainsFunc(d.Drop, p.Is) && !facts.Applied(p) {
			s.Log.Info("plan taken off the operator's list", "plan", p.Name, "height", p.Height)
		}
	}
}

// exitCode is the node's own. Without a node it is the signal's that asked for the end. A new binary that ended
// before its first block has failed, whatever its code.
func (s *Supervisor) exitCode() int {
	switch {
	case s.last == nil:
		return stoppedError{s.asked}.ExitCode()
	case s.endedEarly() != nil:
		return max(s.last.ExitCode(), solstice.ExitFailed)
	default:
		return s.last.ExitCode()
	}
}

// signal hands a signal to the node. Without a node, one that asks for the end is the end.
func (s *Supervisor) signal(sig os.Signal) error {
	switch sig {
	case syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT:
		s.asked = sig
		s.sidecars.Stop(sidecar.After) // those before the node end after it
	case syscall.SIGUSR2:
		s.beginReload(&reload{reply: make(chan reply[solstice.Reloading], 1)})
		return nil
	}
	if s.process != nil && !fromTerminal(sig) {
		if err := s.process.Signal(sig); err != nil {
			s.Log.Warn("the signal can't be handed to the node", "signal", sig, "err", err)
		}
	}
	switch {
	case s.work != nil && endsUs(sig):
		s.asked = sig
		s.stopWork(stoppedError{sig})
	case s.process == nil && endsUs(sig):
		return stoppedError{sig}
	}
	return nil
}

// nodeEnded notes the end of the process. What follows from it is decided next.
func (s *Supervisor) nodeEnded() error {
	process, end := s.process, s.process.End()
	s.last, s.process, s.ended, s.asking = &end, nil, nil, nil
	s.live.Ended(s.Home, time.Now(), s.examining != nil)
	s.now().Node.SetProcess(0)
	if end.Signal == syscall.SIGHUP {
		s.asked = syscall.SIGHUP // a node that knows no HUP ends by it, as it would without us
	}
	if s.work == nil { // else the upgrade is in the journal, and every sync is time that the node stands still
		s.tellEnd(end)
		s.recordHeight(s.live.Height)
		s.warn(saidSigned, s.recordSigned())
		s.unread = true
	}
	s.seePlanFile()
	switch {
	case s.work != nil:
		return nil // its stop step sees to what is left
	case s.asked != nil:
		return s.endLeftBehind(process, forever, s.Signals) // who asked for the end decides how long it may take
	}
	return s.endLeftBehind(process, s.Grace, s.Signals)
}

func (s *Supervisor) lookAgainIn(d time.Duration) { s.retry.Reset(max(d, time.Millisecond)) }
