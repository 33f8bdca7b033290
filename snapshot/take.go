package snapshot

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"solstice"
	"solstice/internal/durable"
)

// Progress is told how many of the bytes that have to be copied are. It is called from one goroutine at a time.
type Progress func(done, total int64)

// Take takes a snapshot of the stopped node. Its ID must be new; a cut try with the same one is replaced. The error is a
// refusal if a database is open or the disk has no room for the copies that have to be made.
//
// A crash leaves debris with a temporary name, or the whole snapshot.
func (s Store) Take(ctx context.Context, id string, label Label, progress Progress) (Snapshot, error) {
	start := time.Now()
	if err := s.InUse(); err != nil {
		return Snapshot{}, err
	}
	dir, how, total, err := s.room()
	if err != nil {
		return Snapshot{}, err
	}
	parts, err := s.parts()
	if err != nil {
		return Snapshot{}, err
	}
	final := filepath.Join(dir, prefix+id)
	temp := s.unfinished(dir, id)
	if err := os.RemoveAll(temp); err != nil {
		return Snapshot{}, err
	}
	if err := os.Mkdir(temp, 0o700); err != nil {
		return Snapshot{}, err
	}
	taken := Snapshot{ID: id, Path: final, Manifest: Manifest{Format: format, Home: s.Home.Node, Label: label, Taken: start}}
	taken.Plan.Info = "" // it can be long
	t := &taker{ctx: ctx, how: how, total: total, progress: progress, Manifest: &taken.Manifest}
	err = t.all(parts, temp, start)
	if err == nil {
		err = durable.Rename(temp, final)
	}
	if err != nil {
		return Snapshot{}, errors.Join(err, os.RemoveAll(temp))
	}
	taken.Seconds = time.Since(start).Seconds()
	return taken, nil
}

// part is a directory of the home that is taken.
type part struct {
	name string // Data, Wasm or Config
	from string // where it really is
}

// parts are what there is to take. data/ must be there.
func (s Store) parts() ([]part, error) { return partsOf(s.Home.Node) }

func partsOf(home string) ([]part, error) {
	var parts []part
	for _, name := range []string{Data, Wasm, Config} {
		from, err := filepath.EvalSymlinks(filepath.Join(home, name))
		if errors.Is(err, fs.ErrNotExist) && name != Data {
			continue
		}
		if err != nil {
			return nil, err
		}
		if info, err := os.Stat(from); err != nil || !info.IsDir() {
			if name == Data {
				return nil, errors.Join(fmt.Errorf("%s is not a directory", from), err)
			}
			continue
		}
		parts = append(parts, part{name, from})
	}
	return parts, nil
}

// taker makes one tree of links, clones and copies.
type taker struct {
	*Manifest
	ctx      context.Context
	how      How   // the best that can be done from here to there
	total    int64 // bytes that will be copied, where everything is
	done     int64
	progress Progress
	list     *bufio.Writer
	unsynced []string
	leave    func(rel string) bool // files to leave out; may be nil
	strict   bool                  // only what is never opened for writing again is linked, and no symlink leads out
	beside   chan<- func() error   // copies that are made beside the links; nil: they are made at once
}

// all takes the parts into a folder, writes list and manifest, and syncs everything.
func (t *taker) all(parts []part, to string, start time.Time) error {
	list, err := os.OpenFile(filepath.Join(to, listFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer list.Close()
	sum := sha256.New()
	t.list = bufio.NewWriterSize(io.MultiWriter(list, sum), 1<<20)
	copied := func() error { return nil }
	if t.how == Link {
		copied = t.copyBeside()
	}
	for _, p := range parts {
		if err = t.dir(p.from, filepath.Join(to, p.name), p.name, ""); err != nil {
			break
		}
	}
	if err := errors.Join(err, copied(), t.list.Flush()); err != nil {
		return err
	}
	t.Seconds = time.Since(start).Seconds()
	return t.seal(to, sum)
}

// seal writes the manifest of a tree whose list is written, and syncs the whole.
func (t *taker) seal(to string, sum hash.Hash) error {
	t.List = hex.EncodeToString(sum.Sum(nil))
	content, err := json.MarshalIndent(t.Manifest, "", "  ")
	if err != nil {
		return err
	}
	manifest := filepath.Join(to, manifestFile)
	if err := os.WriteFile(manifest, append(content, '\n'), 0o600); err != nil {
		return err
	}
	return t.sync(to, manifest, filepath.Join(to, listFile), to)
}

// sync makes everything durable that was made below a folder.
func (t *taker) sync(folder string, more ...string) error {
	if t.Cloned > 0 {
		return syncFilesystem(folder)
	}
	return syncAll(append(t.unsynced, more...))
}

// syncAll syncs files and folders side by side: the filesystem makes one commit of many. One after the other, each
// would wait for a commit of its own.
func syncAll(paths []string) error {
	const workers = 32
	var wait sync.WaitGroup
	errs := make([]error, workers)
	for i := range workers {
		wait.Go(func() {
			for j := i; j < len(paths); j += workers {
				errs[i] = errors.Join(errs[i], durable.Sync(paths[j]))
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// dir takes one directory. rel is its place in the home.
func (t *taker) dir(from, to, rel, rule string) error {
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
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	look := lookAt(from, rel, rule, names)
	for e := range statAhead(entries) {
		if err := t.ctx.Err(); err != nil {
			return context.Cause(t.ctx)
		}
		if t.leavesOut(rel, e) {
			continue
		}
		if err := t.entry(e, look, filepath.Join(from, e.Name()), filepath.Join(to, e.Name()), path.Join(rel, e.Name())); err != nil {
			return err
		}
	}
	t.unsynced = append(t.unsynced, to)
	return keep(to, info)
}

// statAhead yields the entries with what a stat(2) of them says already read: some hundreds of them while those before them
// are linked.
func statAhead(entries []fs.DirEntry) iter.Seq[fs.DirEntry] {
	return func(yield func(fs.DirEntry) bool) {
		ready, enough := make(chan []stated, 1), make(chan struct{})
		defer close(enough)
		go func() {
			defer close(ready)
			for some := range slices.Chunk(entries, 256) {
				read := make([]stated, len(some))
				for i, e := range some {
					read[i] = statEntry(e)
				}
				select {
				case ready <- read:
				case <-enough:
					return
				}
			}
		}()
		for some := range ready {
			for _, e := range some {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// stated is an entry of a directory whose Info is read already.
type stated struct {
	fs.DirEntry
	info fs.FileInfo
	err  error
}

func statEntry(e fs.DirEntry) stated {
	info, err := e.Info()
	return stated{e, info, err}
}

func (e stated) Info() (fs.FileInfo, error) { return e.info, e.err }

// leavesOut says what is not taken: what is not the node's, what may be a key, and a name that the list, which is JSON, can't
// hold.
func (t *taker) leavesOut(rel string, e fs.DirEntry) bool {
	name := path.Join(rel, e.Name())
	if foreign(e) || t.leave != nil && t.leave(name) {
		return true
	}
	if rel == Config && (e.IsDir() || !inConfig(e.Name())) || !utf8.ValidString(e.Name()) {
		t.LeftOut = append(t.LeftOut, name)
		return true
	}
	return false
}

func (t *taker) entry(e fs.DirEntry, look folder, from, to, rel string) error {
	switch {
	case e.IsDir():
		return t.dir(from, to, rel, look.inside)
	case e.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		if info, err := os.Stat(from); (t.strict || err == nil && info.IsDir()) && !inside(rel, target) {
			t.Elsewhere = append(t.Elsewhere, rel+" -> "+target)
		}
		return os.Symlink(target, to)
	case !e.Type().IsRegular():
		t.LeftOut = append(t.LeftOut, rel)
		return nil
	}
	info, err := e.Info()
	if err != nil {
		return err
	}
	k := look.kindOf(e.Name())
	if t.strict && !look.sealed {
		k = changed
	}
	how, err := t.file(from, to, info, k)
	if err != nil {
		return err
	}
	return t.enter(File{Path: rel, Size: info.Size(), MTime: info.ModTime().UnixNano(), How: how, Derived: k == derived})
}

// enter counts a file and adds it to the list.
func (t *taker) enter(f File) error {
	t.Files++
	t.Bytes += f.Size
	switch f.How {
	case Link:
		t.Linked++
	case Clone:
		t.Cloned++
	case Copy:
		t.Copied++
		t.NewBytes += f.Size
	}
	if t.list == nil {
		return nil
	}
	line, err := json.Marshal(f)
	if err != nil {
		return err
	}
	_, err = t.list.Write(append(line, '\n'))
	return err
}

// inside says whether a symlink stays in its part of the home, by its text alone.
func inside(rel, target string) bool {
	if filepath.IsAbs(target) {
		return false
	}
	_, below, _ := strings.Cut(path.Dir(rel), "/")
	return filepath.IsLocal(filepath.Join(filepath.FromSlash(below), target))
}

// unsettled is how young content may be in memory only: the system writes it out within a minute. A node doesn't sync all
// that it writes once, its state-sync chunks for one.
const unsettled = 5 * time.Minute

// file takes one file in the best way that works for it. A file may be of somebody else (proc(5), protected_hardlinks),
// have too many names, or lie below another mount. Why else it can't be linked or cloned, its copy says.
func (t *taker) file(from, to string, info fs.FileInfo, k kind) (How, error) {
	switch {
	case t.how == Clone && cloneFile(from, to, info.Mode().Perm()) == nil:
		return Clone, keep(to, info)
	case t.how == Link && k != changed && os.Link(from, to) == nil:
		if time.Since(info.ModTime()) < unsettled {
			t.unsynced = append(t.unsynced, to)
		}
		return Link, nil
	}
	t.unsynced = append(t.unsynced, to)
	return Copy, t.copy(from, to, info)
}

// copyChunk is how much is copied between two looks at the context, in bytes.
const copyChunk = 64 << 20

// copyBeside makes the copies of a snapshot whose files are linked: they take little beside the links, and the disk can begin
// with them. copied waits for them.
func (t *taker) copyBeside() (copied func() error) {
	work, done := make(chan func() error, 64), make(chan error)
	t.beside = work
	go func() {
		var errs []error
		for do := range work {
			errs = append(errs, do())
		}
		done <- errors.Join(errs...)
	}()
	return func() error {
		close(work)
		return <-done
	}
}

// copy makes the new file at once, and fills it at once or beside the links.
func (t *taker) copy(from, to string, info fs.FileInfo) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	fill := func() error {
		defer in.Close()
		if err := errors.Join(t.fill(out, in), out.Close()); err != nil {
			return err
		}
		return keep(to, info)
	}
	if t.beside == nil {
		return fill()
	}
	t.beside <- fill
	return nil
}

// fill copies the content of a file. Its holes stay holes: databases such as LMDB and MDBX
// make files of gigabytes that hold a few pages.
func (t *taker) fill(out, in *os.File) error {
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if size := info.Size(); onDisk(info) < size {
		for at := int64(0); at < size && err == nil; {
			var data, hole int64
			if data, hole, err = dataFrom(in, at, size); err == nil {
				_, err = out.Seek(data, io.SeekStart)
			}
			if err == nil && data < hole {
				err = t.fillUpTo(out, in, hole-data)
			}
			at = hole
		}
		err = cmp.Or(err, out.Truncate(size))
	} else {
		err = t.fillUpTo(out, in, math.MaxInt64)
	}
	startWriting(out)
	if err == io.EOF {
		return nil
	}
	return err
}

// fillUpTo copies so many bytes, in chunks. The error is io.EOF where there are not so many.
func (t *taker) fillUpTo(out, in *os.File, left int64) (err error) {
	for left > 0 && err == nil {
		var n int64
		n, err = io.CopyN(out, in, min(left, copyChunk)) // copy_file_range where the system has it
		left -= n
		if t.progress != nil && t.total > 0 {
			t.done += n
			t.progress(min(t.done, t.total), t.total)
		}
		if err == nil {
			err = context.Cause(t.ctx)
		}
	}
	return err
}

// onDisk is how many bytes of a file take room: not those in its holes.
func onDisk(info fs.FileInfo) int64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return min(info.Size(), stat.Blocks*512) // stat(2)
	}
	return info.Size()
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

// room finds where a snapshot goes and how, and refuses one that can't fit: that has to be known before a long copy. total
// is what will be copied, if everything is.
func (s Store) room() (dir string, how How, total int64, err error) {
	if err := s.inData(); err != nil {
		return "", "", 0, err
	}
	dir, how, err = s.Reach()
	if err != nil || how != Copy {
		return dir, how, 0, err
	}
	parts, err := s.parts()
	if err != nil {
		return dir, how, 0, err
	}
	for _, p := range parts {
		size, err := size(p.from)
		if err != nil {
			return dir, how, 0, err
		}
		total += size
	}
	free, err := freeSpace(dir)
	if err == nil && total > free {
		err = &solstice.RefusedError{
			Reason: fmt.Sprintf("a snapshot in %s has to be a full copy: it needs %d MiB and %d MiB are free", dir, mebi(total), free>>20),
			Hint:   "make room, or name a folder on the filesystem of data/ in DAEMON_DATA_BACKUP_DIR: there a snapshot takes no space",
		}
	}
	return dir, how, total, err
}

// Room is nil if a snapshot can be taken as far as that is known before: it takes no space, or has room.
func (s Store) Room() error {
	_, _, _, err := s.room()
	return err
}

// size is how many bytes of the regular files below a directory take room.
func size(dir string) (size int64, err error) {
	err = eachFile(dir, func(_ string, e fs.DirEntry) error {
		info, err := e.Info()
		if err == nil {
			size += onDisk(info)
		}
		return err
	})
	return size, err
}

// mebi is how many MiB are needed for so many bytes.
func mebi(bytes int64) int64 { return (bytes + 1<<20 - 1) >> 20 }

func freeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// InUse is a refusal if a process has a database of the home open. goleveldb locks the file LOCK by flock(2), pebble
// and RocksDB by fcntl(2).
func (s Store) InUse() error {
	data, err := filepath.EvalSymlinks(s.Home.Data())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(data)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if path := filepath.Join(data, e.Name(), "LOCK"); lockedByOther(path) {
			return &solstice.RefusedError{
				Reason: fmt.Sprintf("a process has the database %s open: a node runs on this home", filepath.Dir(path)),
				Hint:   "stop it first; fuser shows which process it is: fuser " + path,
			}
		}
	}
	return nil
}

// lockedByOther says whether another process holds a lock on a file, of either kind. One that can't be opened is not.
func lockedByOther(path string) bool {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	err = unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock)
	return err == nil && lock.Type != unix.F_UNLCK
}
