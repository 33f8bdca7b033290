package snapshot

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"solstice"
	"solstice/internal/durable"
)

// Store is where the snapshots of a home are.
type Store struct {
	Home solstice.Home
	Dir  string // the folder that the operator named for backups (DAEMON_DATA_BACKUP_DIR); empty: none, the home serves
}

// places are the folders in which snapshots of the home may lie, the preferred one first: the one that the operator
// named, and those on the filesystem of the data.
func (s Store) places() []string {
	places := []string{s.Home.Dir, s.Home.Node}
	if s.Dir != "" {
		places = []string{s.Dir, s.Home.Dir, s.Home.Node}
	}
	// data/ may be a symlink to another disk, or a disk of its own: then the only folder on it is itself.
	if data, err := filepath.EvalSymlinks(s.Home.Data()); err == nil {
		places = append(places, filepath.Dir(data), data)
	}
	var unique []string
	for _, place := range places {
		if real, err := filepath.EvalSymlinks(place); err == nil && !slices.Contains(unique, real) {
			unique = append(unique, real)
		}
	}
	return unique
}

// Fault is why the folder that the operator named for snapshots can hold none, or nil.
func (s Store) Fault() error {
	if err := s.inData(); err != nil || s.Dir == "" {
		return err
	}
	if err := durable.TryWrite(filepath.Join(s.Dir, "snapshot")); err != nil {
		return &solstice.RefusedError{
			Reason: fmt.Sprintf("cannot write snapshots to DAEMON_DATA_BACKUP_DIR: %v", err),
			Hint:   "give this user the right to write there, or name another folder in DAEMON_DATA_BACKUP_DIR",
		}
	}
	return nil
}

// inData refuses a folder below data/: a restore would move it away, with all snapshots in it.
func (s Store) inData() error {
	dir, err := filepath.EvalSymlinks(s.Dir)
	data, dataErr := filepath.EvalSymlinks(s.Home.Data())
	if s.Dir == "" || err != nil || dataErr != nil {
		return nil // what is not there is told elsewhere
	}
	inside, err := filepath.Rel(data, dir)
	if err != nil || inside == "." || inside == ".." || strings.HasPrefix(inside, "../") {
		return nil // data/ itself, where it is a disk of its own, is no part of what a restore moves
	}
	return &solstice.RefusedError{
		Reason: fmt.Sprintf("the folder for snapshots is inside the node's data: %s: a restore would move it away, and all snapshots with it", s.Dir),
		Hint:   "name another folder in DAEMON_DATA_BACKUP_DIR",
	}
}

// foreign says what is in a directory of the home and not the node's: what is ours, and what fsck(8) has found, which only
// root can read.
func foreign(e fs.DirEntry) bool {
	return e.IsDir() && (IsOurs(e.Name()) || e.Name() == "lost+found")
}

// eachFile calls fn with the regular files below a directory that are the node's.
func eachFile(root string, fn func(path string, e fs.DirEntry) error) error {
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case path != root && foreign(e):
			return fs.SkipDir
		case err != nil || !e.Type().IsRegular():
			return err
		}
		return fn(path, e)
	})
}

// Reach finds the first place that the files of data/ can be cloned or linked to. Without one everything has to be
// copied, to the first place.
func (s Store) Reach() (dir string, how How, err error) {
	data, err := filepath.EvalSymlinks(s.Home.Data())
	if err != nil {
		return "", "", err
	}
	sample, err := sampleFile(data)
	if err != nil {
		return "", "", err
	}
	places := s.places()
	if len(places) == 0 {
		return "", "", fmt.Errorf("no folder for snapshots: %s", s.Dir)
	}
	for _, place := range places {
		if sample == "" {
			return place, Copy, nil // nothing to copy
		}
		if how := s.wayTo(sample, place); how != Copy {
			return place, how, nil
		}
	}
	return places[0], Copy, nil
}

// wayTo tries what works from a file to a folder. Other processes may be trying the same.
func (s Store) wayTo(sample, place string) How {
	return tryWay(sample, s.unfinished(place, fmt.Sprintf("probe-%08x", rand.Uint32())))
}

// errFound ends a walk.
var errFound = errors.New("found")

// sampleFile is some regular file below a folder, a table of a database that is ours if there is one near, or empty. A
// few that somebody else has left there are no reason to copy all.
func sampleFile(dir string) (sample string, err error) {
	err = eachFile(dir, func(path string, e fs.DirEntry) error {
		table := tableName.MatchString(e.Name()) && mine(e)
		if sample == "" || table {
			sample = path
		}
		if table {
			return errFound
		}
		return nil
	})
	if errors.Is(err, errFound) {
		err = nil
	}
	return sample, err
}

// mine says whether a file can be linked as far as that depends on its owner (proc(5), protected_hardlinks).
func mine(e fs.DirEntry) bool {
	info, err := e.Info()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (int(stat.Uid) == os.Geteuid() || os.Geteuid() == 0)
}

// unfinished is the name of a snapshot until it is whole. The folder may be shared with other homes, whose debris is not
// ours, so the name tells the home.
func (s Store) unfinished(dir, id string) string { return filepath.Join(dir, s.debris()+prefix+id) }

func (s Store) debris() string {
	home := s.Home.Node
	if real, err := filepath.EvalSymlinks(home); err == nil {
		home = real
	}
	sum := sha256.Sum256([]byte(home))
	return durable.TempPrefix + hex.EncodeToString(sum[:4]) + "-"
}

// Sweep removes what a cut has left of snapshots and restores of this home. The caller makes sure that nothing is at
// work on it. keep says what is still needed.
func (s Store) Sweep(keep func(path string) bool) error {
	var errs []error
	for _, place := range s.near() {
		entries, err := os.ReadDir(place)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, e := range entries {
			path := filepath.Join(place, e.Name())
			if strings.HasPrefix(e.Name(), s.debris()) && (keep == nil || !keep(path)) {
				errs = append(errs, os.RemoveAll(path))
			}
		}
	}
	return errors.Join(errs...)
}

// near are the folders in which a snapshot or a restore may have left something: the places, each part of the home, and
// what it is in.
func (s Store) near() []string {
	folders := s.places()
	for _, name := range []string{Data, Wasm, Config} {
		if real, err := filepath.EvalSymlinks(filepath.Join(s.Home.Node, name)); err == nil {
			folders = append(folders, real, filepath.Dir(real))
		}
	}
	slices.Sort(folders)
	return slices.Compact(folders)
}

// List returns the complete snapshots of this home, oldest first, and those of other homes in the same folder. One that can't
// be read is a fault, and does not hide the others.
func (s Store) List() (ours, others []Snapshot, fault error) {
	ours, others, fault = s.all()
	// One that was copied to another disk may not be released yet: the copy counts.
	return slices.CompactFunc(ours, func(a, b Snapshot) bool { return a.ID == b.ID }), others, fault
}

// all is List, with both of what is copied and not yet released, the copy first.
func (s Store) all() (ours, others []Snapshot, fault error) {
	for _, place := range s.places() {
		entries, err := os.ReadDir(place)
		if err != nil {
			fault = errors.Join(fault, err)
			continue
		}
		for _, e := range entries {
			found, err := read(filepath.Join(place, e.Name()))
			switch {
			case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR):
			case err != nil:
				fault = errors.Join(fault, err)
			case s.owns(found):
				ours = append(ours, found)
			default:
				others = append(others, found)
			}
		}
	}
	slices.SortStableFunc(ours, func(a, b Snapshot) int {
		return cmp.Or(a.Taken.Compare(b.Taken), cmp.Compare(a.ID, b.ID))
	})
	return ours, others, fault
}

// owns says whether a snapshot is of this home. What lies in the home is, also after the home was moved.
func (s Store) owns(found Snapshot) bool {
	if found.Manifest.Home == s.Home.Node {
		return true
	}
	place := filepath.Dir(found.Path)
	for _, home := range []string{s.Home.Dir, s.Home.Node} {
		if real, err := filepath.EvalSymlinks(home); err == nil && place == real {
			return true
		}
	}
	return false
}

// SetAside returns what restores have moved aside in this home, and nobody has deleted yet.
func (s Store) SetAside() []string {
	var paths []string
	for _, place := range s.near() {
		entries, err := os.ReadDir(place)
		if err != nil {
			continue // it is told where it matters
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), Aside(Data, "")) || strings.HasPrefix(e.Name(), Aside(Wasm, "")) {
				paths = append(paths, filepath.Join(place, e.Name()))
			}
		}
	}
	return paths
}

// Find returns the snapshot with this ID, or the only one whose ID begins so; or the one in this folder, whichever home it
// is of.
func (s Store) Find(id string) (Snapshot, error) {
	if filepath.IsAbs(id) {
		found, err := read(filepath.Clean(id))
		if err != nil {
			return found, &solstice.RefusedError{
				Reason: fmt.Sprintf("no whole snapshot is in %s: %v", id, err), Hint: "see what there is: solstice snapshot list",
			}
		}
		return found, nil
	}
	ours, _, fault := s.List()
	id = strings.TrimPrefix(id, prefix)
	var match []Snapshot
	for _, one := range ours {
		if one.ID == id {
			return one, nil
		}
		if strings.HasPrefix(one.ID, id) && id != "" {
			match = append(match, one)
		}
	}
	switch {
	case len(match) == 1:
		return match[0], nil
	case len(match) > 1:
		return Snapshot{}, &solstice.RefusedError{
			Reason: fmt.Sprintf("%d snapshots begin with %q", len(match), id), Hint: "see them all: solstice snapshot list",
		}
	}
	return Snapshot{}, errors.Join(&solstice.RefusedError{
		Reason: fmt.Sprintf("there is no snapshot %q", id), Hint: "see what there is: solstice snapshot list",
	}, fault)
}

// Get returns the snapshot with exactly this ID. Without one the error is fs.ErrNotExist.
func (s Store) Get(id string) (Snapshot, error) {
	for _, place := range s.places() {
		found, err := read(filepath.Join(place, prefix+id))
		if !errors.Is(err, fs.ErrNotExist) {
			return found, err
		}
	}
	return Snapshot{}, fmt.Errorf("snapshot %s: %w", id, fs.ErrNotExist)
}

// Delete deletes a snapshot. A crash leaves it whole, or debris.
func (s Store) Delete(one Snapshot) error {
	debris := s.unfinished(filepath.Dir(one.Path), one.ID)
	if err := os.RemoveAll(debris); err != nil {
		return err
	}
	if err := durable.Rename(one.Path, debris); err != nil {
		return err
	}
	return os.RemoveAll(debris)
}

// Surplus returns the snapshots that retention does not keep: of those that upgrades took, the ones beyond the newest
// keep, but none that still says no to being deleted. What was taken by hand is deleted by hand.
func Surplus(ours []Snapshot, keep int, needed func(Snapshot) bool) []Snapshot {
	var surplus []Snapshot
	kept := 0
	for _, one := range slices.Backward(ours) {
		switch {
		case one.ByHand():
		case kept < keep:
			kept++
		case !needed(one):
			surplus = append(surplus, one)
		}
	}
	slices.Reverse(surplus)
	return surplus
}
