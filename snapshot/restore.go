package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"solstice"
)

// Place makes a part of a snapshot (Data, Wasm or Config) anew at a path where nothing is, whole and synced. The
// snapshot stays as it is. A derived file that has changed since is left out: the node makes it again.
//
// A crash leaves a part of it at that path: the caller chooses a temporary name.
func (s Store) Place(ctx context.Context, one Snapshot, part, to string, progress Progress) error {
	from := filepath.Join(one.Path, part)
	sample, err := sampleFile(from)
	if err != nil {
		return err
	}
	how := Copy
	if sample != "" {
		how = s.wayTo(sample, filepath.Dir(to))
	}
	t := &taker{ctx: ctx, how: how, progress: progress, Manifest: &Manifest{}}
	if how == Copy {
		if t.total, err = size(from); err != nil {
			return err
		}
		free, err := freeSpace(filepath.Dir(to))
		if err != nil {
			return err
		}
		if t.total > free {
			return &solstice.RefusedError{
				Reason: fmt.Sprintf("%s has %d MiB free, and snapshot %s has to be copied there: %d MiB", filepath.Dir(to), free>>20, one.ID, mebi(t.total)),
				Hint:   "make room and try again; nothing was changed",
			}
		}
	}
	altered := map[string]bool{}
	err = one.list(func(f File) error {
		if !f.Derived {
			return nil
		}
		what, err := one.fault(f)
		altered[f.Path] = what != ""
		return err
	})
	if err != nil {
		return err
	}
	t.leave = func(rel string) bool { return altered[rel] }
	if err := t.dir(from, to, part, ""); err != nil {
		return err
	}
	return t.sync(to, filepath.Dir(to))
}

// Staging is the temporary name under which a part of a home is made anew, in the folder that it is in.
func (s Store) Staging(target string) string {
	return filepath.Join(filepath.Dir(target), s.debris()+"restore-"+filepath.Base(target))
}

// Same says whether the node's files in data/ and wasm/ are still those of the snapshot: nothing has written to them since
// it was taken.
func (s Store) Same(one Snapshot) (bool, error) {
	parts, err := s.parts()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // there is no data/ at all
	}
	if err != nil {
		return false, err
	}
	listed := map[string]File{}
	err = one.list(func(f File) error {
		listed[f.Path] = f
		return nil
	})
	if err != nil {
		return false, err
	}
	for _, p := range parts {
		if p.name == Config {
			continue
		}
		err := eachFile(p.from, func(path string, e fs.DirEntry) error {
			below, err := filepath.Rel(p.from, path)
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			name := filepath.ToSlash(filepath.Join(p.name, below))
			f, ok := listed[name]
			delete(listed, name)
			if !ok || info.Size() != f.Size || info.ModTime().UnixNano() != f.MTime {
				return errFound
			}
			return nil
		})
		if errors.Is(err, errFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	for path := range listed {
		if filepath.Dir(path) != Config {
			return false, nil
		}
	}
	return true, nil
}

// ChangedConfig returns the names of the settings files in config/ that are not as they were in the snapshot.
func (s Store) ChangedConfig(one Snapshot) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(one.Path, Config))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		// The genesis is the chain's, and the address book is the network's of today.
		if !e.Type().IsRegular() || filepath.Ext(e.Name()) != ".toml" {
			continue
		}
		then, err := solstice.ReadFile(filepath.Join(one.Path, Config, e.Name()), solstice.MaxFile)
		if err != nil {
			return nil, err
		}
		now, err := solstice.ReadFile(filepath.Join(s.Home.Node, Config, e.Name()), solstice.MaxFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if string(now) != string(then) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
