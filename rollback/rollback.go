// Package rollback leads a home back: to a snapshot, or to where it was before an upgrade.
//
// Look says what is there. Choose says which case that is and what leads back; it is a pure function. Go does it: everything
// that can fail is made ready beside what is there, under temporary names, then a record of what is left to do is
// written, and from then on it is done: by renames, by this process or by the next start. What is there is moved aside, never
// deleted. The caller holds the home: no node runs.
package rollback

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"solstice"
	"solstice/artifact"
	"solstice/internal/child"
	"solstice/internal/durable"
	"solstice/node"
	"solstice/signstate"
	"solstice/snapshot"
	"solstice/upgrade"
)

// chainLimit is how long the chain's own rollback of one block may take: it loads and writes every store.
const chainLimit = 30 * time.Minute

// ToSnapshot is the way back to a snapshot.
func ToSnapshot(s Sight, one snapshot.Snapshot) Way {
	w := Way{Case: "back to snapshot " + one.ID, Restore: &one}
	if one.Dir != "" {
		if one.Dir != s.Link {
			w.Link = one.Dir
		}
		after := 1 + slices.IndexFunc(s.Applied, func(a upgrade.Switched) bool { return a.Dir == one.Dir })
		if after > 0 || one.Dir == solstice.Genesis {
			w.Undone = s.Applied[after:]
		}
		if after == 0 && one.Under.Name != "" {
			w.Redone = &upgrade.Switched{Plan: one.Under, Dir: one.Dir}
		}
	}
	w.Next = "start it as before"
	if !one.ByHand() {
		w.Next += fmt.Sprintf(": it upgrades to %s again. To correct that binary or to skip the plan first: solstice rollback", one.Plan.Name)
	}
	if one.Height > 0 && s.last() > one.Height {
		w.Next += s.afterUndoing(one.Height + 1)
	}
	return w
}

// Go goes a way, and says where what was there before lies now. A refusal or an error before the record is written
// has changed nothing; after that, the next start or the next try goes on.
func (h Home) Go(ctx context.Context, s Sight, w Way, log *slog.Logger, progress snapshot.Progress) (aside []string, err error) {
	r := h.record(w)
	if w.Binary != "" {
		if err := artifact.Check(w.Binary); err != nil {
			return nil, refuse("the corrected binary can't be used: "+err.Error(), "nothing was changed")
		}
	}
	for _, binary := range []struct{ what, dir string }{{"to go back to", w.Link}, {"that undoes blocks", w.With}} {
		if binary.dir == "" {
			continue
		}
		if err := upgrade.CheckBinary(h.Home, binary.dir, &upgrade.Probes{}); err != nil {
			return nil, refuse(fmt.Sprintf("the binary %s can't run: %v", binary.what, err), solstice.HintOf(err, "place it there first; nothing was changed"))
		}
	}
	if err := h.Snapshots.Sweep(nil); err != nil {
		return nil, err
	}
	if w.Chain > 0 {
		return h.goByChain(ctx, s, w, r, log)
	}
	if err := h.prepare(ctx, w, &r, progress); err != nil {
		return nil, err
	}
	return h.end(r)
}

// end goes the rest of a way whose record is written.
func (h Home) end(r record) (aside []string, err error) {
	if err := r.finish(h.Home); err != nil {
		return nil, fmt.Errorf("%w; the next start, or the same command once more, goes on from here", err)
	}
	return r.aside(), h.Snapshots.Sweep(nil)
}

// goByChain goes a way on which the chain's own rollback undoes blocks. Before it is run there is a snapshot, and a
// record of how to bring it back: if the command fails, ends somewhere else than it should, or is cut off, the data becomes
// what it was.
func (h Home) goByChain(ctx context.Context, s Sight, w Way, r record, log *slog.Logger) (aside []string, err error) {
	label := snapshot.Label{Height: s.Heights.Committed.Height, Dir: s.Link}
	before, err := h.Snapshots.Take(ctx, snapshot.ID("before-rollback", label.Height, time.Now()), label, nil)
	if err != nil {
		return nil, err
	}
	log.Info("took a snapshot of the data as it is now", "snapshot", before.ID)
	undo := Way{Case: "back to where the rollback began, snapshot " + before.ID, Restore: &before}
	back := h.record(undo)
	if err := h.prepare(ctx, undo, &back, nil); err != nil {
		return nil, err
	}
	err = h.undoBlocks(ctx, s, w, log)
	if err == nil {
		r.Height = new(int64)
		*r.Height = s.Plan.Height - 1
		err = h.prepare(ctx, w, &r, nil) // its record takes the place of the other
	}
	if err != nil {
		if backErr := back.finish(h.Home); backErr != nil {
			return nil, errors.Join(err, fmt.Errorf("the data can't be brought back: %w; the next start tries it again, and it is in snapshot %s", backErr, before.ID))
		}
		return nil, fmt.Errorf("%w; the data is as it was before, and in snapshot %s", err, before.ID)
	}
	aside, err = h.end(r)
	return append(aside, before.Path), errors.Join(err, back.discard())
}

// aside is where what was there before lies now. What was moved one by one is in one folder.
func (r record) aside() []string {
	var paths []string
	add := func(path string) {
		if folder := filepath.Dir(path); snapshot.IsOurs(filepath.Base(folder)) {
			path = folder
		}
		if exists(path) && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	}
	for _, p := range r.Replace {
		add(p.Aside)
	}
	for _, m := range r.SetAside {
		add(m.To)
	}
	return paths
}

// prepare makes everything ready and writes the record, or leaves nothing.
func (h Home) prepare(ctx context.Context, w Way, r *record, progress snapshot.Progress) error {
	err := h.ready(ctx, w, r, progress)
	if err == nil {
		if err = r.write(h.Home); err == nil {
			return nil
		}
		// It may be there all the same, and what it names must be there then. The record before it, if there was one, is
		// held by the caller.
		if removeErr := durable.Remove(h.RollbackFile()); removeErr != nil {
			return errors.Join(err, removeErr)
		}
	}
	return errors.Join(err, r.discard())
}

// record begins the record of a way.
func (h Home) record(w Way) record {
	return record{Home: h.Node, Begun: time.Now(), What: w.Case, Link: w.Link, Undone: w.Undone, Redone: w.Redone, Skip: w.Skip, Unskip: w.Unskip}
}

// stamp ends the names of what is moved aside.
func (r record) stamp() string { return r.Begun.UTC().Format("20060102T150405.000000Z") }

// ready makes ready beside what is there, and enters into the record what is to take which place.
func (h Home) ready(ctx context.Context, w Way, r *record, progress snapshot.Progress) error {
	if w.Restore != nil {
		if err := h.readySnapshot(ctx, *w.Restore, w.Drop, r, progress); err != nil {
			return err
		}
		r.Height = &w.Restore.Height
	} else if w.Drop {
		r.SetAside = append(r.SetAside, move{h.PlanFile(), h.PlanFile() + ".before-" + r.stamp()})
	}
	if w.SetAside != "" {
		binary := h.Binary(w.SetAside)
		r.SetAside = append(r.SetAside, move{binary, binary + ".rolled-back-" + r.stamp()})
		if w.Binary != "" {
			if err := durable.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
				return err
			}
			temp := durable.TempName(binary)
			r.Place = append(r.Place, move{temp, binary})
			return durable.CopyFile(w.Binary, temp, 0o755)
		}
	}
	return nil
}

// readySnapshot makes a snapshot's folders and settings ready.
func (h Home) readySnapshot(ctx context.Context, one snapshot.Snapshot, drop bool, r *record, progress snapshot.Progress) error {
	if err := one.RefuseElsewhere(); err != nil {
		return err
	}
	found, err := one.Verify(ctx, false, nil)
	if err != nil {
		return err
	}
	if n := len(found.Faults); n > 0 {
		reason := fmt.Sprintf("snapshot %s is not whole: %s: %s", one.ID, found.Faults[0].Path, found.Faults[0].What)
		if n > 1 {
			reason += fmt.Sprintf("; and %d more", n-1)
		}
		return refuse(reason, "see all of them: solstice snapshot verify "+one.ID+"\nnothing was changed")
	}
	for _, part := range []string{snapshot.Data, snapshot.Wasm} {
		if !one.Has(part) {
			continue
		}
		if err := h.readyFolder(ctx, one, part, drop, r, progress); err != nil {
			return err
		}
	}
	changed, err := h.Snapshots.ChangedConfig(one)
	if err != nil {
		return err
	}
	for _, name := range changed {
		place := filepath.Join(h.Node, snapshot.Config, name)
		ready := h.Snapshots.Staging(place)
		r.Replace = append(r.Replace, replacementFor(place, ready, place+".before-"+r.stamp()))
		from := filepath.Join(one.Path, snapshot.Config, name)
		info, err := os.Stat(from)
		if err != nil {
			return err
		}
		if err := errors.Join(os.RemoveAll(ready), durable.CopyFile(from, ready, info.Mode().Perm())); err != nil {
			return err
		}
	}
	return nil
}

// readyFolder makes data/ or wasm/ ready. A folder that is a mount point can't be replaced, so what is in it is, one by one.
func (h Home) readyFolder(ctx context.Context, one snapshot.Snapshot, part string, drop bool, r *record, progress snapshot.Progress) error {
	place, err := filepath.EvalSymlinks(filepath.Join(h.Node, part))
	if errors.Is(err, fs.ErrNotExist) {
		place, err = filepath.Join(h.Node, part), nil
	}
	if err != nil {
		return err
	}
	mounted := isMountPoint(place)
	beside := filepath.Dir(place)
	if mounted {
		beside = place
	}
	ready, aside := h.Snapshots.Staging(filepath.Join(beside, part)), filepath.Join(beside, snapshot.Aside(part, r.stamp()))
	replaced := len(r.Replace)
	r.Replace = append(r.Replace, replacementFor(place, ready, aside))
	if err := h.Snapshots.Place(ctx, one, part, ready, progress); err != nil {
		return err
	}
	if part == snapshot.Data {
		if err := h.keepSigned(one, ready, drop); err != nil {
			return err
		}
	}
	if !mounted {
		return nil
	}
	r.Replace = r.Replace[:replaced]
	return r.oneByOne(ready, place, aside)
}

// oneByOne replaces what is in a folder in place of the folder.
func (r *record) oneByOne(ready, place, aside string) error {
	there, err := os.ReadDir(place)
	if err != nil {
		return err
	}
	for _, e := range there {
		if name := e.Name(); name != "lost+found" && !snapshot.IsOurs(name) && !exists(filepath.Join(ready, name)) {
			r.SetAside = append(r.SetAside, move{filepath.Join(place, name), filepath.Join(aside, name)})
		}
	}
	restored, err := os.ReadDir(ready)
	for _, e := range restored {
		name := e.Name()
		r.Replace = append(r.Replace, replacementFor(filepath.Join(place, name), filepath.Join(ready, name), filepath.Join(aside, name)))
	}
	return err
}

// keepSigned puts the sign state into a data folder that is made ready: never one below what was signed. And it leaves
// out a plan file that the operator's plan was written to.
func (h Home) keepSigned(one snapshot.Snapshot, ready string, drop bool) error {
	if drop {
		if err := durable.Remove(filepath.Join(ready, filepath.Base(h.PlanFile()))); err != nil {
			return err
		}
	}
	below, err := filepath.Rel(h.Data(), h.Settings.StateFile)
	if err != nil || !filepath.IsLocal(below) {
		return nil // it lies elsewhere, and is not restored
	}
	then := filepath.Join(one.Path, snapshot.Data, below)
	kept, err := h.Signs.Keep(then)
	if err != nil || kept.Content == nil {
		return err
	}
	if state, err := signstate.ReadFile(then); err != nil || kept.State.Compare(state) > 0 {
		if err := h.keepVotes(ready); err != nil {
			return err
		}
	}
	return durable.WriteFile(filepath.Join(ready, below), kept.Content, 0o600)
}

// keepVotes puts the consensus WAL of now into a data folder that is made ready. It goes with the sign state: the vote that
// was signed last stands in it, and a validator that has lost its vote can't sign another one in that round. Where the others
// need it, the network would stand still. The chain's own rollback leaves the WAL alone too.
func (h Home) keepVotes(ready string) error {
	live := filepath.Dir(h.Settings.WALFile)
	below, err := filepath.Rel(h.Data(), live)
	if err != nil || !filepath.IsLocal(below) || below == "." {
		return nil // it lies elsewhere, and is not restored
	}
	entries, err := os.ReadDir(live)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	to := filepath.Join(ready, below)
	if err := errors.Join(err, os.RemoveAll(to), durable.MkdirAll(to, 0o700)); err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		if err := durable.CopyFile(filepath.Join(live, e.Name()), filepath.Join(to, e.Name()), 0o600); err != nil {
			return err
		}
	}
	return durable.Sync(to)
}

// discard removes what was made ready.
func (r record) discard() error {
	var errs []error
	for _, p := range r.Replace {
		errs = append(errs, os.RemoveAll(p.Ready))
	}
	for _, m := range r.Place {
		errs = append(errs, os.RemoveAll(m.From))
	}
	return errors.Join(errs...)
}

// undoBlocks runs the chain's own rollback, once for each block.
func (h Home) undoBlocks(ctx context.Context, s Sight, w Way, log *slog.Logger) error {
	binary := h.Binary(w.With)
	if err := artifact.MakeExecutable(binary); err != nil {
		return err
	}
	runs := w.Chain
	if at := s.Heights; at.Base > 0 && at.Stored.Height > at.Committed.Height {
		runs++ // the first takes away a block that the application has not committed
	}
	for i := range runs {
		cmd := exec.Command(binary, "rollback", "--home", h.Node)
		cmd.Dir, cmd.Env = h.Root(), artifact.Environ(binary)
		// Without --hard the block stays, to be executed again, and one more rollback would do nothing. That is right for
		// the plan's own block alone: the node stands at its halt then (CometBFT state/rollback.go).
		if i < runs-1 {
			cmd.Args = append(cmd.Args, "--hard")
		}
		end, err := child.Run(ctx, cmd, chainLimit, func(line string) { log.Info("rollback: " + line) })
		if err != nil {
			return err
		}
		if end.ExitCode() != 0 {
			return fmt.Errorf("%s rollback: %v; what it printed stands above", binary, end)
		}
	}
	if now := node.ReadHeights(h.Home, h.Settings).Committed; now.Err == nil && now.Height != s.Plan.Height-1 {
		return fmt.Errorf("%s rollback: the application is at height %d then, and %d was wanted", binary, now.Height, s.Plan.Height-1)
	}
	return nil
}
