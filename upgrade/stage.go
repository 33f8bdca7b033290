package upgrade

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"solstice"
	"solstice/artifact"
	"solstice/internal/durable"
)

// Stage copies a binary to its place under the plan's directory. It is there whole, or not at all. A binary that is
// there already is replaced only by force. undo takes the copy back; keep makes it final. One of them must be called,
// and nobody else may stage meanwhile (ChangeManual sees to that).
func Stage(home solstice.Home, name, binary string, force bool) (path string, undo, keep func() error, err error) {
	return StageAs(home, name, home.Name, binary, force)
}

// StageAs is Stage for a binary with a file name of its own: a sidecar's.
func StageAs(home solstice.Home, name, file, binary string, force bool) (path string, undo, keep func() error, err error) {
	path = home.File(home.UpgradeDir(name), file)
	_, statErr := os.Lstat(path)
	exists := statErr == nil
	if exists && !force {
		return "", nil, nil, &solstice.RefusedError{Reason: "there is a binary already: " + path, Hint: "replace it with --force"}
	}
	if err := artifact.Check(binary); err != nil {
		return "", nil, nil, &solstice.RefusedError{Reason: err.Error()}
	}
	made := firstMissing(home, filepath.Dir(path))
	keep = func() error { return nil }
	undo = func() error {
		switch {
		case made != "":
			return os.RemoveAll(made)
		case exists:
			return nil // what was there is there
		}
		return durable.Remove(path)
	}
	if err := durable.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", nil, nil, err
	}
	temp := durable.TempName(path)
	err = durable.CopyFile(binary, temp, 0o755)
	if err == nil && exists {
		old := durable.TempName(path)
		if err = os.Link(path, old); err == nil {
			undo = func() error {
				if err := durable.Rename(old, path); err != nil {
					return err
				}
				return durable.Remove(old) // still there where both are names of one file: then rename(2) does nothing
			}
			keep = func() error { return durable.Remove(old) }
		}
	}
	if err == nil {
		err = durable.Rename(temp, path)
	}
	if err != nil {
		return "", nil, nil, errors.Join(fmt.Errorf("place the binary: %w", err), os.RemoveAll(temp), undo())
	}
	return path, undo, keep, nil
}

// firstMissing is the uppermost folder on the way to path that is not there yet, or empty.
func firstMissing(home solstice.Home, path string) (missing string) {
	for ; path != home.Root(); path = filepath.Dir(path) {
		if _, err := os.Lstat(path); err == nil {
			break
		}
		missing = path
	}
	return missing
}

// Sweep removes what commands and supervisors that were cut off left in a home. The caller holds the
// supervisor's lock. It does not wait: see durable.ErrLocked.
func Sweep(home solstice.Home) error {
	return durable.TryLocked(home.StateDir, func() error {
		dirs := []string{home.StateDir, filepath.Dir(home.SignStateFile()), home.Root(), home.Data(), home.Upgrades(), filepath.Dir(home.Binary(solstice.Genesis))}
		for _, name := range home.Dirs() {
			dir := filepath.Join("upgrades", name)
			dirs = append(dirs, filepath.Join(home.Root(), dir), filepath.Dir(home.Binary(dir)), artifact.Libraries(home.Binary(dir)))
		}
		var err error
		for _, dir := range dirs {
			err = errors.Join(err, durable.Sweep(dir))
		}
		for _, name := range home.Dirs() {
			if _, statErr := os.Lstat(home.Binary(filepath.Join("upgrades", name))); statErr == nil {
				err = errors.Join(err, dropDownloads(home, filepath.Join("upgrades", name)))
			}
		}
		return err
	})
}
