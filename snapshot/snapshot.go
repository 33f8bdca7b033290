// Package snapshot copies the data directory of a stopped node.
//
// A copy has its final name only when it is whole and synced; until then its name begins with
// durable.TempPrefix. The caller makes sure that the node is stopped: snapshot cannot tell.
package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"solstice/internal/durable"
)

// Copied says what a copy holds.
type Copied struct {
	Files   int
	Bytes   int64
	LeftOut []string // sockets, FIFOs and devices, relative to the source
}

// Copy copies the directory from, following it if it is a symlink, to the path to, which must not exist
// and may lie inside from. Symlinks inside are kept as they are; modes, times and, for root, owners are kept.
func Copy(ctx context.Context, from, to string) (Copied, error) {
	source, err := filepath.EvalSymlinks(from)
	if err != nil {
		return Copied{}, err
	}
	if err := Discard(to); err != nil {
		return Copied{}, err
	}
	c := copier{ctx: ctx, target: filepath.Dir(to)}
	err = c.dir(source, unfinished(to), "")
	if err == nil {
		err = durable.Rename(unfinished(to), to)
	}
	if err != nil {
		return Copied{}, errors.Join(err, Discard(to))
	}
	return c.Copied, nil
}

// Discard removes what a cut left of a copy to this path. The folder may be shared with other homes, so nothing
// else in it is touched.
func Discard(to string) error { return os.RemoveAll(unfinished(to)) }

// unfinished is the name of a copy until it is whole.
func unfinished(to string) string {
	return filepath.Join(filepath.Dir(to), durable.TempPrefix+filepath.Base(to))
}

// Size returns how many bytes the regular files below a directory have.
func Size(dir string) (int64, error) {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return 0, err
	}
	var size int64
	err = filepath.WalkDir(root, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}

type copier struct {
	Copied
	ctx    context.Context
	target string // what a copy into its own source must not copy
}

func (c *copier) dir(from, to, rel string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	for _, e := range entries {
		if err := c.entry(e, filepath.Join(from, e.Name()), filepath.Join(to, e.Name()), filepath.Join(rel, e.Name())); err != nil {
			return err
		}
	}
	if err := keep(to, info); err != nil {
		return err
	}
	return durable.SyncDir(to)
}

func (c *copier) entry(e fs.DirEntry, from, to, rel string) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	switch {
	case e.IsDir():
		if from == c.target {
			return nil
		}
		return c.dir(from, to, rel)
	case e.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	case !e.Type().IsRegular():
		c.LeftOut = append(c.LeftOut, rel)
		return nil
	}
	info, err := e.Info()
	if err != nil {
		return err
	}
	if err := durable.CopyFile(from, to, info.Mode().Perm()); err != nil {
		return err
	}
	c.Files++
	c.Bytes += info.Size()
	return keep(to, info)
}

// keep gives a copy the owner, mode and times of its source.
func keep(path string, info fs.FileInfo) error {
	// Only root can give a file away.
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		if err := os.Lchown(path, int(stat.Uid), int(stat.Gid)); err != nil {
			return err
		}
	}
	if err := os.Chmod(path, info.Mode().Perm()); err != nil {
		return err
	}
	return os.Chtimes(path, time.Time{}, info.ModTime())
}

// Name is the name of the copy that an upgrade takes. The moment at which the upgrade was begun tells it from those of
// other homes that share a folder for their backups.
func Name(plan string, height int64, begun time.Time) string {
	return fmt.Sprintf("data-backup-%s-%d-%s", plan, height, begun.UTC().Format("20060102T150405.000000Z"))
}
