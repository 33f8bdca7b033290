// Package upgrade leads a home from a halted node to the binary that a plan asks for.
//
// Decide says what is to be done, out of the facts that Gather reads. An Upgrade does it in steps; each can
// be run again, and the journal lists those that are done, so that a supervisor that was cut off anywhere goes on
// where it stood. Starting the new binary and watching it is for the caller.
package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"solstice"
	"solstice/artifact"
	"solstice/internal/durable"
	"solstice/snapshot"
)

// Options are the operator's settings for an upgrade. cmd/solstice documents them.
type Options struct {
	RestartDelay time.Duration
	SkipBackup   bool
	BackupDir    string // where snapshots go
	Script       string // file name in the folder cosmovisor/, or empty
	MaxRetries   int    // of a pre-upgrade that asks to be tried again
	HookTimeout  time.Duration
}

// Node is the part of a supervisor that an upgrade needs.
type Node interface {
	// Stop asks the node to end, and returns when it has ended. It is no error if none runs.
	Stop(ctx context.Context) error
	// Locks are the files that hold the home's lock. A hook inherits them: it works on the same home.
	Locks() []*os.File
}

// Upgrade carries out one plan.
type Upgrade struct {
	Home    solstice.Home
	Plan    solstice.Plan
	Dir     string        // of the new binary, relative to Home.Root
	From    string        // of the old binary; empty when there is no link
	Under   solstice.Plan // that the old binary came with; the zero plan when it is the first
	Height  int64         // the last block that is known to be committed; 0: not known
	Manual  bool          // the chain doesn't know the plan: the node finds it in the plan file all the same
	Halted  time.Time     // when the node stood still, as far as that can be told; zero: when the upgrade begins
	Options Options
	Node    Node
	Probes  *Probes
	Log     *slog.Logger
	Doing   func(step string) // told when a step begins; may be nil
	Ended   func() error      // called once the node has ended, beside the snapshot; may be nil

	journal Journal
	begun   Entry
	hookRan bool // in this step, so that it should not be run again without need
}

// steps lead from a halted node to one that can be started under the new binary, in this order. Each can be run
// again: after a crash the upgrade goes on at the first step that the journal doesn't list.
var steps = []struct {
	name string
	run  func(*Upgrade, context.Context) error
}{
	{"stop", (*Upgrade).stop},
	{"plan", (*Upgrade).placePlan},
	{stepSnapshot, (*Upgrade).snapshot},
	{"script", (*Upgrade).script},
	{"pre-upgrade", (*Upgrade).preUpgrade},
	{stepSwitch, (*Upgrade).switchBinary},
}

// Begin enters the upgrade into the journal, unless it stands there and has to go on. Nothing else has changed
// when it fails: the node may run on. It fails if it is known before that there is no room for the snapshot, and with ErrCancelled if
// the operator has thought again.
func (u *Upgrade) Begin() error {
	u.journal = OpenJournal(u.Home)
	entries, err := u.journal.Read()
	if err != nil {
		return err
	}
	if begun, ok := entries.Begun(); ok && begun.Plan.Is(u.Plan) {
		u.begun = begun
		return nil
	}
	if !u.Options.SkipBackup {
		if err := u.store().Room(); err != nil {
			return err
		}
	}
	u.begun = Entry{Time: time.Now(), Plan: u.Plan, Step: stepBegin, Dir: u.Dir, Halted: u.Halted, Manual: u.Manual}
	if !u.Manual {
		return u.journal.Append(u.begun)
	}
	// CancelManual holds the same lock. Who places a binary has it for longer than the chain waits: then it is done without.
	err = withinPatience(u.Home.StateDir, u.beginManual)
	if errors.Is(err, durable.ErrLocked) {
		err = u.beginManual()
	}
	return err
}

// CanBegin says why no upgrade could begin now, or nil: there is no room for the snapshot, or
// the journal could not be written. It is asked before a node is stopped on suspicion.
func (u *Upgrade) CanBegin() error {
	if _, err := OpenJournal(u.Home).Read(); err != nil {
		return err
	}
	if !u.Options.SkipBackup {
		if err := u.store().Room(); err != nil {
			return err
		}
	}
	return durable.TryWrite(u.Home.JournalFile())
}

// beginPatience is how long an upgrade waits for those who change the list of plans.
const beginPatience = 200 * time.Millisecond

func withinPatience(dir string, fn func() error) error {
	return durable.LockedWithin(beginPatience, dir, fn)
}

// ErrCancelled means that the operator has taken the plan off the list before its upgrade was begun.
var ErrCancelled = errors.New("the plan was cancelled")

// beginManual enters the upgrade into the journal, if the operator's plan stands yet: in the
// plan file, where other hands or an earlier upgrade to it have put it, or on the list.
func (u *Upgrade) beginManual() error {
	if standing, err := solstice.ReadPlan(u.Home.PlanFile()); err != nil || !standing.Is(u.Plan) {
		plans, err := ReadManual(u.Home)
		if err != nil {
			return err
		}
		batch, _ := ReadBatch(u.Home)
		if !slices.ContainsFunc(plans, func(p ManualPlan) bool { return p.Is(u.Plan) }) && !slices.ContainsFunc(batch, u.Plan.Is) {
			return ErrCancelled
		}
	}
	return u.journal.Append(u.begun)
}

// Run carries the upgrade on from where its journal stands. Call Begin first.
func (u *Upgrade) Run(ctx context.Context) error {
	entries, err := u.journal.Read()
	if err != nil {
		return fmt.Errorf("upgrade %q: %w", u.Plan.Name, err)
	}
	done := entries.last()
	for _, s := range steps {
		// A node may run again after a crash, so stopping is never done for good.
		if s.name != "stop" && done.has(s.name) {
			continue
		}
		if u.Doing != nil {
			u.Doing(s.name)
		}
		start := time.Now()
		if err := s.run(u, ctx); err != nil {
			return fmt.Errorf("upgrade %q: %s: %w", u.Plan.Name, s.name, err)
		}
		// Every sync is time that the node stands still. What a power cut takes from the journal is done again, which for
		// all but the hooks is the work of a moment.
		add := u.journal.Note
		if u.hookRan {
			add, u.hookRan = u.journal.Append, false
		}
		if err := add(Entry{Plan: u.Plan, Step: s.name, Seconds: time.Since(start).Seconds(), Dir: u.Dir}); err != nil {
			return fmt.Errorf("upgrade %q: %w", u.Plan.Name, err)
		}
	}
	return nil
}

// stop ends the node, and gives the operator the delay that they asked for.
func (u *Upgrade) stop(ctx context.Context) error {
	if err := u.Node.Stop(ctx); err != nil {
		return err
	}
	if u.Options.RestartDelay == 0 {
		return ctx.Err()
	}
	u.Log.Info("waiting before the upgrade, as DAEMON_RESTART_DELAY says", "delay", u.Options.RestartDelay)
	select {
	case <-time.After(u.Options.RestartDelay):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// placePlan puts a plan of the operator's list where the node would have written it: the new binary reads there which
// stores to add. The chain may know the plan too, and the node not have come to write it.
// A plan by other hands that stands there and is still to come is kept among the manual ones.
//
// A crash leaves the old file or the new one.
func (u *Upgrade) placePlan(context.Context) error {
	standing, err := solstice.ReadPlan(u.Home.PlanFile())
	if err == nil && standing.Is(u.Plan) {
		return nil
	}
	if !u.Manual && !u.listed() {
		return fmt.Errorf("%s does not hold plan %s any more", u.Home.PlanFile(), u.Plan)
	}
	if err == nil && standing.Height > max(u.Plan.Height, u.Height) {
		add := func(plans []ManualPlan) ([]ManualPlan, error) {
			for _, p := range plans {
				if p.Is(standing) {
					return plans, nil
				}
			}
			return append(plans, ManualPlan{Plan: standing}), nil // whether it was seen ahead is in Seen
		}
		err := changeManual(u.Home, withinPatience, add)
		if errors.Is(err, durable.ErrLocked) {
			err = addToBatch(u.Home, standing) // from there it is taken over once the other process is done
		}
		if err != nil {
			return err
		}
	}
	return durable.WriteFile(u.Home.PlanFile(), u.Plan.File(), 0o600)
}

func (u *Upgrade) listed() bool {
	plans, err := ReadManual(u.Home)
	return err == nil && slices.ContainsFunc(plans, func(p ManualPlan) bool { return p.Is(u.Plan) })
}

// snapshot keeps what is on disk, as the way back.
//
// A crash leaves debris with a temporary name, which the next try removes, or the whole snapshot under a name that
// holds the moment at which the upgrade was begun, which the next try takes for done.
func (u *Upgrade) snapshot(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() {
		if u.Ended == nil {
			ended <- nil
			return
		}
		ended <- u.Ended()
	}()
	// The node has written the plan file without a sync, and the new binary ends at once if it is not whole.
	synced := make(chan error, 1)
	go func() { synced <- errors.Join(durable.Sync(u.Home.PlanFile()), durable.Sync(u.Home.Data())) }()
	err := u.takeSnapshot(ctx)
	if endedErr := <-ended; endedErr != nil {
		u.Log.Warn("what the validator has signed can't be recorded", "err", endedErr)
	}
	return errors.Join(err, <-synced)
}

// Keep takes the snapshot of an upgrade that the stopped node is about to make by itself, unless there is one. It is nothing
// else: the journal knows no upgrade. Fill in Home, Plan, From, Under, Height, Options, Probes and Log.
func (u *Upgrade) Keep(ctx context.Context) error {
	taken, _, _ := u.store().List() // of those that can't be read none is ours
	if slices.ContainsFunc(taken, func(one snapshot.Snapshot) bool { return one.Plan.Is(u.Plan) }) {
		return nil
	}
	u.begun = Entry{Time: time.Now(), Plan: u.Plan, Dir: u.Home.UpgradeDir(u.Plan.Name)}
	return u.takeSnapshot(ctx)
}

func (u *Upgrade) takeSnapshot(ctx context.Context) error {
	if u.Options.SkipBackup {
		u.Log.Warn("no snapshot is taken, as UNSAFE_SKIP_BACKUP says: there is no way back", "plan", u.Plan.Name)
		return nil
	}
	id := u.begun.SnapshotID()
	if _, err := u.store().Get(id); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	label := snapshot.Label{Plan: u.Plan, Height: max(u.Height, u.Plan.Height-1), Dir: u.From, Under: u.Under}
	if u.From != "" {
		label.Digest, _ = u.Probes.Digest(u.Home.Binary(u.From)) // an old binary that is gone can't be told from another
	}
	taken, err := u.store().Take(ctx, id, label, logProgress(u.Log, "taking a full copy: this disk can neither clone nor link the data"))
	if err != nil {
		return err
	}
	if len(taken.LeftOut) > 0 {
		u.Log.Info("left out of the snapshot: what may be a key, and what is no file", "files", strings.Join(taken.LeftOut, " "))
	}
	if len(taken.Elsewhere) > 0 {
		u.Log.Warn("the snapshot is no whole way back: these are symlinks to folders, whose content is not in it", "links", strings.Join(taken.Elsewhere, ", "))
	}
	u.Log.Info("snapshot taken", "plan", u.Plan.Name, "id", id, "files", taken.Files, "bytes", taken.Bytes, "of them copied", taken.NewBytes,
		"elapsed", time.Duration(taken.Seconds*float64(time.Second)).Round(time.Microsecond))
	return nil
}

func (u *Upgrade) store() snapshot.Store {
	return snapshot.Store{Home: u.Home, Dir: u.Options.BackupDir}
}

// logProgress tells how far a long copy is, and when it will be done.
func logProgress(log *slog.Logger, what string) snapshot.Progress {
	start := time.Now()
	var told time.Time
	return func(done, total int64) {
		if time.Since(told) < progressEvery || done == 0 {
			return
		}
		told = time.Now()
		left := time.Duration(float64(time.Since(start)) * float64(total-done) / float64(done))
		log.Info(what, "done", fmt.Sprintf("%d of %d MiB", done>>20, total>>20), "left", left.Round(time.Second))
	}
}

const progressEvery = 10 * time.Second

// switchBinary points the current link at the new binary, and leaves the plan beside it, where Cosmovisor looks.
//
// A crash leaves the old link or the new one, never none: the link is replaced by a rename. With the new link and
// without the plan file beside the binary, the upgrade counts as not applied, and this is run again.
func (u *Upgrade) switchBinary(context.Context) error {
	if err := u.checkBinary(); err != nil {
		return err
	}
	for _, name := range append([]string{u.Home.Name}, u.Home.Sidecars...) {
		if err := artifact.MakeExecutable(u.Home.File(u.Dir, name)); err != nil {
			return err
		}
	}
	if err := durable.Symlink(u.Dir, u.Home.CurrentLink()); err != nil {
		return err
	}
	return writeApplied(u.Home, u.Dir, u.Plan)
}

// checkBinary is CheckBinary for the new binary, and for those of its sidecars, once more: somebody may have changed it since the upgrade was begun. It is no
// refusal any more, because the node has ended; the next start refuses, and knows the way on.
func (u *Upgrade) checkBinary() error {
	check := func() error { return CheckPlanned(u.Home, u.Plan, u.Dir, u.Probes) }
	if u.Manual {
		check = func() error { return CheckBinary(u.Home, u.Dir, u.Probes) }
	}
	if err := check(); err != nil {
		return errors.New(err.Error())
	}
	if lack := CheckSidecars(u.Home, u.Dir); lack != (Lack{}) {
		return errors.New(lack.Fault)
	}
	return nil
}

// writeApplied leaves a plan beside the binary that was switched to for it.
func writeApplied(home solstice.Home, dir string, plan solstice.Plan) error {
	if !home.KeepCase {
		plan.Name = strings.ToLower(plan.Name)
	}
	return durable.WriteFile(home.AppliedFile(dir), plan.File(), 0o644)
}

// Relink points the link at the binary that is launched, and notes the plan that it is moved for.
func (g *Gathered) Relink(home solstice.Home, d Decision) error {
	if err := durable.Symlink(d.Dir, home.CurrentLink()); err != nil || d.Under == nil {
		return err
	}
	return noteBehind(home, d.Dir, []solstice.Plan{*d.Under})
}

// Settle closes the upgrade that the journal began, if there is one, before a directory's
// binary is launched in its stead. Either its switch was done and not written down, as
// where the link names its binary already, or another binary runs now and what was done
// must be done again.
func (g *Gathered) Settle(home solstice.Home, dir string) error {
	begun, ok := g.Journal.Begun()
	if !ok {
		return nil
	}
	closing := Entry{Plan: begun.Plan, Step: stepAbandoned}
	if g.Applied(begun.Plan) || dir == begun.Dir {
		closing.Step, closing.Dir = stepSwitch, begun.Dir
	}
	if err := OpenJournal(home).Append(closing); err != nil {
		return err
	}
	g.Journal = append(g.Journal, closing)
	return nil
}

// MendPlan writes the plan file anew where it is missing or broken and a new binary that has yet to migrate needs it: a power cut
// may have taken what the node wrote without a sync. It says whether it did.
func (g *Gathered) MendPlan(home solstice.Home, dir string) (mended bool, err error) {
	begun, ok := g.Journal.Unconfirmed()
	migrated := g.Height.Reached(begun.Plan.Height)
	if !ok || begun.Dir != dir || g.File != nil || migrated {
		return false, nil
	}
	return true, durable.WriteFile(home.PlanFile(), begun.Plan.File(), 0o600)
}

// Watch follows a new binary from its start to its first block beyond the plan's height,
// and enters what it sees into the journal. It is for one launch.
type Watch struct {
	Plan      solstice.Plan
	Dir       string
	Confirmed bool // the plan's block is committed
	journal   Journal
}

// WatchLast returns the Watch for the binary that was just started, or nil if there is
// nothing to watch for: its first block was seen, or no upgrade started it.
func WatchLast(home solstice.Home, entries Entries, dir string) (*Watch, error) {
	begun, ok := entries.unfinished()
	if !ok || begun.Dir != dir {
		return nil, nil
	}
	last := entries.last()
	w := &Watch{Plan: begun.Plan, Dir: begun.Dir, journal: OpenJournal(home), Confirmed: last.has(stepConfirm)}
	if last.has(stepStart) {
		return w, nil
	}
	return w, w.journal.Note(Entry{Plan: w.Plan, Step: stepStart})
}

// See notes a height that the new binary has committed. confirmed says that it confirms
// the upgrade: the plan's block is there. over says that a block beyond it is there, too,
// and nothing is left to be watched.
func (w *Watch) See(committed int64) (confirmed, over bool, err error) {
	over = committed > w.Plan.Height
	switch {
	case committed < w.Plan.Height:
		return false, false, nil
	case !w.Confirmed:
		w.Confirmed = true
		return true, over, w.journal.Append(Entry{Plan: w.Plan, Step: stepConfirm, Height: committed})
	case over:
		return false, true, w.journal.Note(Entry{Plan: w.Plan, Step: stepBlock, Height: committed})
	}
	return false, false, nil
}
