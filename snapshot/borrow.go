package snapshot

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"solstice"
)

// Borrow makes the parts of a home, or of a snapshot, anew below a folder that is there, to be used by a node and then thrown away:
// nothing is synced, and there is no manifest. What is in it, and what it cost, is in the Manifest that is returned. leave says what is
// not taken, by its place in the home; it may be nil. The caller makes sure that no node runs on a home that is borrowed from.
//
// Only what nobody opens for writing any more is linked: the tables of databases, and chunks of state-sync snapshots. All else is
// copied, also what a snapshot links: whoever works on the borrowed tree may write a genesis anew, or compile contracts again.
// A symlink that leaves its part of the home is refused, since what is written through it would be written to the original.
func Borrow(ctx context.Context, from, to string, leave func(rel string) bool, progress Progress) (Manifest, error) {
	parts, err := partsOf(from)
	if err != nil {
		return Manifest{}, err
	}
	m := Manifest{Home: from}
	t := &taker{ctx: ctx, how: Copy, progress: progress, Manifest: &m, leave: leave, strict: true}
	sample, err := sampleFile(parts[0].from)
	if err != nil {
		return m, err
	}
	if sample != "" {
		t.how = tryWay(sample, filepath.Join(to, "probe"))
	}
	if t.how == Copy {
		free, err := freeSpace(to)
		if err != nil {
			return m, err
		}
		for _, p := range parts {
			n, err := size(p.from)
			if err != nil {
				return m, err
			}
			t.total += n
		}
		if t.total > free {
			return m, &solstice.RefusedError{
				Reason: fmt.Sprintf("%s can neither be linked nor cloned to %s, and a copy has no room there: it needs %d MiB and %d MiB are free", from, to, mebi(t.total), free>>20),
				Hint:   "make room",
			}
		}
	}
	for _, p := range parts {
		if err := t.dir(p.from, filepath.Join(to, p.name), p.name, ""); err != nil {
			return m, err
		}
	}
	if len(m.Elsewhere) > 0 {
		return m, &solstice.RefusedError{
			Reason: "what lies behind symlinks can't be borrowed: " + strings.Join(m.Elsewhere, ", "),
			Hint:   "put it inside data/, or make data/ itself the symlink",
		}
	}
	return m, nil
}

// Own returns how many bytes on the disk would be free again if a folder were deleted: what is linked to from elsewhere, or shares its
// blocks with another file, is not counted; the latter is looked for only where files were cloned. Files that come and go meanwhile are
// passed over.
func Own(folder string, cloned bool) (int64, error) {
	type file struct {
		held  int64
		names uint64
		links uint64
	}
	files := map[[2]uint64]*file{}
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			if path == folder {
				return err
			}
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return nil
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		key := [2]uint64{uint64(stat.Dev), stat.Ino}
		if files[key] == nil {
			f := &file{held: int64(stat.Blocks) * 512, links: uint64(stat.Nlink)}
			if cloned {
				if own, ok := ownExtents(path); ok {
					f.held = min(own, f.held)
				}
			}
			files[key] = f
		}
		files[key].names++
		return nil
	})
	var own int64
	for _, f := range files {
		if f.names >= f.links {
			own += f.held
		}
	}
	return own, err
}

// Size is how many bytes the regular files below a directory have, linked ones too.
func Size(folder string) (int64, error) {
	var total int64
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			if path == folder {
				return err
			}
			return nil // it is deleted while a node runs
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	return total, err
}

// FreeSpace is how many bytes this user can still write to the filesystem of a folder.
func FreeSpace(folder string) (int64, error) { return freeSpace(folder) }

// tryWay tries what works from a file to a name where nothing is.
func tryWay(sample, probe string) How {
	defer os.Remove(probe)
	if cloneFile(sample, probe, 0o600) == nil {
		return Clone
	}
	if os.Link(sample, probe) == nil {
		return Link
	}
	return Copy
}

// Sample is some file below a folder by which to try whether it can be linked or cloned to another; empty if there is none.
func Sample(folder string) (string, error) { return sampleFile(folder) }

// Reaches says whether a file can be linked or cloned to a name where nothing is.
func Reaches(sample, probe string) bool { return tryWay(sample, probe) != Copy }
