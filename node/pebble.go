package node

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cockroachdb/pebble"
	"github.com/cockroachdb/pebble/vfs"
	"golang.org/x/sys/unix"
)

// pebbleCache is how much of the tables is kept in memory, in bytes.
const pebbleCache = 1 << 20

// readPebble opens a database of pebble and reads it. Nodes write it with pebble v1, in its
// oldest format; this version reads all formats up to its own.
func readPebble(dir string, read func(database) error) error {
	cache := pebble.NewCache(pebbleCache)
	defer cache.Unref()
	db, err := pebble.Open(dir, &pebble.Options{
		ReadOnly:         true,
		ErrorIfNotExists: true,
		FS:               pebbleFiles{},
		Logger:           pebbleLogger{},
		Cache:            cache,
	})
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	if err = read(pebbleDatabase{db}); err != nil {
		err = fmt.Errorf("read %s: %w", dir, err)
	}
	return errors.Join(err, db.Close())
}

type pebbleDatabase struct{ db *pebble.DB }

func (d pebbleDatabase) get(key []byte) ([]byte, error) {
	value, done, err := d.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, err
	}
	return slices.Clone(value), done.Close()
}

func (d pebbleDatabase) each(prefix []byte, see func(key, value []byte) error) error {
	after := slices.Clone(prefix)
	after[len(after)-1]++ // no prefix of ours ends with 0xff
	entries, err := d.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after})
	if err != nil {
		return err
	}
	for entries.First(); entries.Valid(); entries.Next() {
		if err := see(slices.Clone(entries.Key()), slices.Clone(entries.Value())); err != nil {
			return errors.Join(err, entries.Close())
		}
	}
	return errors.Join(entries.Error(), entries.Close())
}

// pebbleLogger panics where pebble wants to end the process.
type pebbleLogger struct{}

func (pebbleLogger) Infof(string, ...any)                {}
func (pebbleLogger) Errorf(string, ...any)               {}
func (pebbleLogger) Fatalf(format string, values ...any) { panic(fmt.Sprintf(format, values...)) }

// pebbleFiles is the filesystem, of which pebble can change nothing: opened to be read only,
// it still opens LOCK to be written, truncates it and takes the lock.
//
// It lists a directory four times and asks for the size of each table. So the names are kept,
// and sizes cost little.
type pebbleFiles map[string][]string

func (pebbleFiles) Open(name string, options ...vfs.OpenOption) (vfs.File, error) {
	return vfs.Default.Open(name, options...)
}

func (f pebbleFiles) List(dir string) (names []string, err error) {
	if names, ok := f[dir]; ok {
		return names, nil
	}
	if names, err = vfs.Default.List(dir); err == nil {
		f[dir] = names
	}
	return names, err
}

func (pebbleFiles) Stat(name string) (os.FileInfo, error) {
	var status unix.Stat_t
	if err := unix.Stat(name, &status); err != nil {
		return nil, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	return fileSize(status.Size), nil
}

// fileSize is all that pebble asks of a file.
type fileSize int64

func (s fileSize) Size() int64      { return int64(s) }
func (fileSize) Name() string       { return "" }
func (fileSize) Mode() os.FileMode  { return 0 }
func (fileSize) ModTime() time.Time { return time.Time{} }
func (fileSize) IsDir() bool        { return false }
func (fileSize) Sys() any           { return nil }

func (pebbleFiles) OpenDir(name string) (vfs.File, error) { return vfs.Default.OpenDir(name) }
func (pebbleFiles) PathBase(path string) string           { return filepath.Base(path) }
func (pebbleFiles) PathJoin(elements ...string) string    { return filepath.Join(elements...) }
func (pebbleFiles) PathDir(path string) string            { return filepath.Dir(path) }
func (pebbleFiles) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{}, vfs.ErrUnsupported
}
func (pebbleFiles) Lock(string) (io.Closer, error)              { return io.NopCloser(nil), nil } // see checkUnused
func (pebbleFiles) Create(string) (vfs.File, error)             { return nil, errReadOnly }
func (pebbleFiles) Link(_, _ string) error                      { return errReadOnly }
func (pebbleFiles) Remove(string) error                         { return errReadOnly }
func (pebbleFiles) RemoveAll(string) error                      { return errReadOnly }
func (pebbleFiles) Rename(_, _ string) error                    { return errReadOnly }
func (pebbleFiles) MkdirAll(string, os.FileMode) error          { return errReadOnly }
func (pebbleFiles) ReuseForWrite(_, _ string) (vfs.File, error) { return nil, errReadOnly }
func (pebbleFiles) OpenReadWrite(string, ...vfs.OpenOption) (vfs.File, error) {
	return nil, errReadOnly
}
