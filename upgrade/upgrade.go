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
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"solstice"
	"solstice/artifact"
	"solstice/internal/durable"
	"solstice/snapshot"
)

// Options are the operator's settings for an upgrade. cmd/solstice documents them.
type Options struct {
	RestartDelay time.Duration
	SkipBackup   bool
	BackupDir    string
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
	Dir     string    // of the new binary, relative to Home.Root
	Manual  bool      // the chain doesn't know the plan: the node finds it in the plan file all the same
	Halted  time.Time // when the node stood still, as far as that can be told; zero: when the upgrade begins
	Options Options
	Node    Node
	Probes  *Probes
	Log     *slog.Logger
	Doing   func(step string) // told when a step begins; may be nil

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
	{"backup", (*Upgrade).backup},
	{"script", (*Upgrade).script},
	{"pre-upgrade", (*Upgrade).preUpgrade},
	{stepSwitch, (*Upgrade).switchBinary},
}

// Begin enters the upgrade into the journal, unless it stands there and has to go on. Nothing else has changed
// when it fails: the node may run on.
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
	u.begun = Entry{Time: time.Now(), Plan: u.Plan, Step: stepBegin, Dir: u.Dir, Halted: u.Halted}
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

// placePlan puts a manual plan where the chain would have written it: the new binary reads there which stores to add.
// A plan by other hands that stands there and is still to come is kept among the manual ones.
//
// A crash leaves the old file or the new one.
func (u *Upgrade) placePlan(context.Context) error {
	standing, err := solstice.ReadPlan(u.Home.PlanFile())
	if err == nil && standing.Is(u.Plan) {
		return nil
	}
	if !u.Manual {
		return fmt.Errorf("%s does not hold plan %s any more", u.Home.PlanFile(), u.Plan)
	}
	if err == nil && standing.Height > u.Plan.Height {
		err := ChangeManual(u.Home, func(plans []ManualPlan) ([]ManualPlan, error) {
			for _, p := range plans {
				if p.Is(standing) {
					return plans, nil
				}
			}
			return append(plans, ManualPlan{Plan: standing, Below: true}), nil
		})
		if err != nil {
			return err
		}
	}
	return durable.WriteFile(u.Home.PlanFile(), u.Plan.File(), 0o600)
}

// backup copies the data directory.
//
// A crash leaves debris with a temporary name, which the next try removes, or the whole copy under a name that
// holds the moment at which the upgrade was begun, which the next try takes for done.
func (u *Upgrade) backup(ctx context.Context) error {
	if u.Options.SkipBackup {
		u.Log.Warn("no backup is taken, as UNSAFE_SKIP_BACKUP says", "plan", u.Plan.Name)
		return nil
	}
	to := backupPath(u.Options.BackupDir, u.begun)
	if _, err := os.Lstat(to); err == nil {
		return nil
	}
	if err := checkRoom(u.Home.Data(), u.Options.BackupDir); err != nil {
		return err
	}
	start := time.Now()
	u.Log.Info("taking a backup of the data directory", "plan", u.Plan.Name, "path", to)
	copied, err := snapshot.Copy(ctx, u.Home.Data(), to)
	if err != nil {
		return err
	}
	if len(copied.LeftOut) > 0 {
		u.Log.Warn("left out of the backup: not regular files", "files", strings.Join(copied.LeftOut, " "))
	}
	u.Log.Info("backup taken", "plan", u.Plan.Name, "path", to, "files", copied.Files, "bytes", copied.Bytes, "elapsed", time.Since(start).Round(time.Millisecond))
	return nil
}

// backupPath is where the backup of an upgrade is.
func backupPath(dir string, begun Entry) string {
	return filepath.Join(dir, snapshot.Name(filepath.Base(begun.Dir), begun.Plan.Height, begun.Time))
}

// checkRoom says before a long copy, and not after it, that it can't fit.
func checkRoom(data, dir string) error {
	size, err := snapshot.Size(data)
	if err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("statfs %s: %w", dir, err)
	}
	if free := int64(fs.Bavail) * int64(fs.Bsize); size > free {
		return fmt.Errorf("%s has %d MiB free and the copy needs %d MiB; make room, or set DAEMON_DATA_BACKUP_DIR to another disk",
			dir, free>>20, size>>20)
	}
	return nil
}

// switchBinary points the current link at the new binary, and leaves the plan beside it, where Cosmovisor looks.
//
// A crash leaves the old link or the new one, never none: the link is replaced by a rename. With the new link and
// without the plan file beside the binary, the upgrade counts as not applied, and this is run again.
func (u *Upgrade) switchBinary(context.Context) error {
	binary := u.Home.Binary(u.Dir)
	if err := artifact.Check(binary); err != nil {
		return err
	}
	if err := artifact.MakeExecutable(binary); err != nil {
		return err
	}
	if err := durable.Symlink(u.Dir, u.Home.CurrentLink()); err != nil {
		return err
	}
	applied := u.Plan
	if !u.Home.KeepCase {
		applied.Name = strings.ToLower(applied.Name)
	}
	return durable.WriteFile(u.Home.AppliedFile(u.Dir), applied.File(), 0o644)
}

// Relink makes a lost link anew.
func Relink(home solstice.Home, dir string) error {
	if _, err := os.Lstat(home.CurrentLink()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.Symlink(dir, home.CurrentLink())
}

// Settle closes the upgrade that the journal began, if there is one, before a binary is launched in its stead: either
// its switch was done and not written down, or another binary runs now and what was done must be done again. Then half a
// backup in backupDir goes.
func (g *Gathered) Settle(home solstice.Home, backupDir string) error {
	begun, ok := g.Journal.Begun()
	if !ok {
		return nil
	}
	closing := Entry{Plan: begun.Plan, Step: stepAbandoned}
	if g.applied(begun.Plan) {
		closing.Step, closing.Dir = stepSwitch, begun.Dir
	} else if err := snapshot.Discard(backupPath(backupDir, begun)); err != nil {
		return err
	}
	if err := OpenJournal(home).Append(closing); err != nil {
		return err
	}
	g.Journal = append(g.Journal, closing)
	return nil
}

// Watch follows a new binary from its start to its first block beyond the plan's height, and enters what it
// sees into the journal. It is for one launch.
type Watch struct {
	Plan    solstice.Plan
	Dir     string
	journal Journal
	first   bool // the plan's block is committed
}

// WatchLast returns the Watch for the binary that was just started, or nil if there is nothing to watch for: its
// upgrade is confirmed, or it was not started by one.
func WatchLast(home solstice.Home, entries Entries, dir string) (*Watch, error) {
	begun, ok := entries.Unconfirmed()
	if !ok || begun.Dir != dir {
		return nil, nil
	}
	w := &Watch{Plan: begun.Plan, Dir: begun.Dir, journal: OpenJournal(home), first: entries.last().has(stepFirst)}
	if entries.last().has(stepStart) {
		return w, nil
	}
	return w, w.journal.Note(Entry{Plan: w.Plan, Step: stepStart})
}

// See notes a committed height, and says whether it confirms the upgrade.
func (w *Watch) See(committed int64) (confirmed bool, err error) {
	if !w.first && committed >= w.Plan.Height {
		if err := w.journal.Note(Entry{Plan: w.Plan, Step: stepFirst}); err != nil {
			return false, err
		}
		w.first = true
	}
	if committed <= w.Plan.Height {
		return false, nil
	}
	return true, w.journal.Append(Entry{Plan: w.Plan, Step: stepConfirm, Height: committed})
}
