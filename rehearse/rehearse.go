// Package rehearse carries an upgrade out on a copy of a node's state, to see what it does before it is carried out for real.
//
// The copy shares what databases write once with the original, which is never opened for writing. It has throw-away keys, no peers, and
// a folder that is removed at the end, or by the next rehearsal. The chain's own in-place-testnet makes a network of one validator out
// of it, and a real solstice run takes it through the upgrade. What that needs is measured from outside, by /proc.
package rehearse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"solstice"
	"solstice/artifact"
	"solstice/internal/durable"
	"solstice/localnet"
	"solstice/node"
	"solstice/snapshot"
)

// Options say what is rehearsed.
type Options struct {
	Home    solstice.Home
	Plan    string
	Binary  string // the new one
	Source  Source
	Blocks  int64 // beyond the plan's height
	Repeat  int   // how often, each time from the same state
	Memory  int64 // bytes that a node may have; 0: no limit
	MaxDisk int64 // bytes that the rehearsal may take on the disk; 0: what is free but for a rest
	Keep    bool  // the folder is left
	Network string
	Version string // of solstice
	Log     *slog.Logger
}

// Source is the state that is copied, and the binary that it belongs to.
type Source struct {
	Label    string                             // for people
	Home     string                             // a folder with data/ and config/: a home, or a snapshot
	Node     string                             // the home that it is of
	Settings node.Settings                      // of that home's node
	Dir      string                             // of the old binary, relative to cosmovisor/
	Binary   string                             // the old one
	Hold     func() (release func(), err error) // keeps nodes away while it is copied; nil: nobody is there
	Forget   func()                             // called, perhaps again, when it is not needed any more; nil: it stays
}

// rehearsal is one that is under way.
type rehearsal struct {
	Options
	result   solstice.Rehearsal
	folder   *folder
	old, new *localnet.Chain
	keys     keys
	limiter  *limiter
	cloned   bool   // files share blocks, rather than names
	base     string // what runs are copied from
	based    bool   // base is the home of a network of ours already, halted for the plan
	chainID  string
	operator string              // the argument of in-place-testnet
	state    []byte              // the sign state with which the first block is made again; nil in the first run
	ran      int                 // nodes so far
	stores   []map[string]string // of each run, their hashes after the plan's block; empty where they can't be read

	lookAgain time.Time // at the disk
}

// Ways in which the plan's height is come to.
const (
	wayHalted  = "halted"           // the old binary made a network of the copy, and halted for the plan
	wayInPlace = "in-place-testnet" // the new binary makes the network, and the plan is its first block
	wayReplay  = "replay"           // the state was halted for the plan; the new binary executes that block
)

// Run rehearses an upgrade. A *solstice.RefusedError means that nothing was tried. Everything else that happens is in the rehearsal that
// is returned, which is also put on record; an error is then what could not be cleaned up or kept.
func Run(ctx context.Context, o Options) (result solstice.Rehearsal, err error) {
	r := &rehearsal{Options: o}
	r.result = solstice.Rehearsal{
		Plan: o.Plan, At: time.Now(), Version: o.Version, From: o.Source.Label, Network: o.Network, Outcome: solstice.RehearsalPassed,
	}
	place, err := r.look(ctx)
	if err != nil {
		return r.result, err
	}
	if r.folder, err = makeFolder(o.Home, place, time.Now()); err != nil {
		return r.result, err
	}
	r.limiter = newLimiter(o.Memory)
	defer func() { err = errors.Join(err, r.limiter.close(), r.leave()) }()
	if o.Memory > 0 {
		r.result.Limit = solstice.MemoryLimit{Bytes: o.Memory, By: r.limiter.by}
	}
	var full diskError
	switch err := r.prepare(ctx); {
	case errors.As(err, &full):
		r.result.Outcome, r.result.Reason = solstice.RehearsalDisk, full.Error()
	case err != nil:
		return r.result, err
	}
	for i := range o.Repeat {
		if !r.result.Passed() {
			break
		}
		run, err := r.run(ctx, i)
		r.result.Runs = append(r.result.Runs, run)
		if err != nil {
			return r.result, err
		}
		if run.Outcome != solstice.RehearsalPassed {
			r.result.Outcome, r.result.Reason = run.Outcome, run.Reason
		}
	}
	r.judge()
	r.result.Took = solstice.Seconds(time.Since(r.result.At))
	if o.Keep {
		r.result.Kept = r.folder.path
	}
	return r.result, r.record()
}

// look refuses what can't be rehearsed, and finds the place for it. Nothing has changed when it returns, but for the debris of others.
func (r *rehearsal) look(ctx context.Context) (place string, err error) {
	if err := (solstice.Plan{Name: r.Plan, Height: 1}).Validate(); err != nil {
		return "", &solstice.RefusedError{Reason: err.Error(), Hint: "name the plan as the chain does: --plan NAME"}
	}
	if r.old, err = localnet.Open(ctx, r.Source.Binary); err != nil {
		return "", err
	}
	if r.new, err = localnet.Open(ctx, r.Binary); err != nil {
		return "", err
	}
	for _, b := range []struct {
		chain *localnet.Chain
		to    *solstice.RehearsedBinary
	}{{r.old, &r.result.Old}, {r.new, &r.result.New}} {
		b.to.Path = b.chain.Path
		if b.to.Digest, err = artifact.Digest(b.chain.Path); err != nil {
			return "", err
		}
		// What does not tell its version can be rehearsed all the same.
		out, _ := b.chain.Command(ctx, "version").CombinedOutput()
		b.to.Version, _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	}
	if r.result.Old.Digest == r.result.New.Digest {
		return "", &solstice.RefusedError{Reason: fmt.Sprintf("%s is the binary that the state belongs to: there is nothing to rehearse", r.Binary), Hint: "name the new one: --binary PATH"}
	}
	if data := filepath.Join(r.Source.Node, "data"); filepath.Clean(r.Source.Settings.DBDir) != data {
		return "", &solstice.RefusedError{Reason: fmt.Sprintf("the node has its databases in %s: only those in %s can be copied", r.Source.Settings.DBDir, data)}
	}
	if !r.old.Has(ctx, testnetCommand) && !r.new.Has(ctx, testnetCommand) && !r.halted() {
		return "", &solstice.RefusedError{
			Reason: fmt.Sprintf("not possible for this binary, because %s has no command %s (SDK v0.50 and later have it), and the state in %s is not halted for plan %s",
				r.old.Path, testnetCommand, r.Source.Home, r.Plan),
			Hint: "rehearse it on a state that is halted for the plan, such as the snapshot that the upgrade of another node of the chain has taken: --from DIR",
		}
	}
	places, err := placesOf(r.Home, r.Source.Home)
	if err != nil {
		return "", err
	}
	removed, err := Sweep(r.Home, places)
	for _, path := range removed {
		r.Log.Info("removed what a rehearsal that was cut off had left", "path", path)
	}
	if err != nil {
		return "", err
	}
	return places[0], nil
}

// placesOf are the folders in which rehearsals of a home lie: files have names on their own filesystem only. The first one is for the next.
func placesOf(home solstice.Home, source string) ([]string, error) {
	data, err := filepath.EvalSymlinks(filepath.Join(source, "data"))
	if err != nil {
		return nil, &solstice.RefusedError{Reason: fmt.Sprintf("there is no state to copy: %v", err), Hint: "see what there is: solstice snapshot list"}
	}
	sample, err := snapshot.Sample(data)
	if err != nil {
		return nil, err
	}
	places := near(home, source)
	for i, place := range places {
		if sample == "" || snapshot.Reaches(sample, filepath.Join(place, mark(home)+"probe")) {
			places[0], places[i] = places[i], places[0]
			break
		}
	}
	return places, nil
}

// leave removes the folder, or leaves it to the operator.
func (r *rehearsal) leave() error {
	killed := killIn(r.folder.path)
	if r.Keep {
		return errors.Join(killed, r.folder.keep())
	}
	return errors.Join(killed, r.folder.remove())
}

// record puts the rehearsal on record, where doctor and a later upgrade find it.
func (r *rehearsal) record() error {
	line, err := json.Marshal(r.result)
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(r.Home.StateDir, 0o700); err != nil {
		return err
	}
	return durable.AppendLine(r.Home.RehearsalsFile(), line)
}

// judge compares the runs with one another.
func (r *rehearsal) judge() {
	if !r.result.Passed() || len(r.result.Runs) == 0 {
		return
	}
	first := r.result.Runs[0]
	r.result.Reason = fmt.Sprintf("plan %s was carried out at height %d, and %s followed", r.result.Plan, r.result.Height, count(first.Blocks, "block"))
	if r.result.Way == wayReplay {
		r.result.Reason = fmt.Sprintf("plan %s was carried out at height %d; without %s no block follows here", r.result.Plan, r.result.Height, testnetCommand)
	}
	for i, run := range r.result.Runs[1:] {
		switch {
		case run.BlockHash != first.BlockHash || run.BlockHash == "":
			r.result.Notes = append(r.result.Notes, fmt.Sprintf("run %d made another block at height %d than run 1, so their states can't be compared", i+2, r.result.Height))
		case run.AppHash != first.AppHash:
			r.result.Outcome = solstice.RehearsalUneven
			r.result.Reason = fmt.Sprintf("the migration is not deterministic: out of the same state and the same block %d, run 1 came to app hash %.16s… and run %d to %.16s…",
				r.result.Height, first.AppHash, i+2, run.AppHash)
			if differ := differing(r.stores[0], r.stores[i+1]); len(differ) > 0 {
				r.result.Reason += "; the stores that differ: " + strings.Join(differ, ", ")
			}
			return
		}
	}
	if len(r.result.Runs) > 1 && len(r.result.Notes) == 0 {
		r.result.Reason += fmt.Sprintf("; %d runs from the same state came to the same app hash", len(r.result.Runs))
	}
}

// differing are the names of the stores whose hashes are not the same, if both are known.
func differing(a, b map[string]string) (names []string) {
	if len(a) == 0 || len(b) == 0 {
		return nil
	}
	for name, hash := range a {
		if b[name] != hash {
			names = append(names, name)
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
