package snapshot

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"solstice/internal/durable"
)

// Waiting returns the snapshots that lie near the data and belong on the disk that the operator named, oldest first.
func (s Store) Waiting() ([]Snapshot, error) {
	if s.Dir == "" {
		return nil, nil
	}
	dir, err := filepath.EvalSymlinks(s.Dir)
	if err != nil {
		return nil, err
	}
	ours, _, fault := s.all()
	var waiting []Snapshot
	for _, one := range ours {
		if filepath.Dir(one.Path) == dir {
			continue
		}
		sample, err := sampleFile(one.Path)
		if err != nil {
			return nil, err
		}
		if sample != "" && s.wayTo(sample, dir) == Copy {
			waiting = append(waiting, one)
		}
	}
	return waiting, fault
}

// Transfer copies a snapshot to the disk that the operator named, at the lowest priority that the system has, verifies
// each file by reading it back, and then deletes the one near the data. A cut leaves a part of the copy, and the next try goes
// on with it.
func (s Store) Transfer(ctx context.Context, one Snapshot, progress Progress) (Snapshot, error) {
	dir, err := filepath.EvalSymlinks(s.Dir)
	if err != nil {
		return one, err
	}
	copied := one
	copied.Path = filepath.Join(dir, prefix+one.ID)
	if real, err := filepath.EvalSymlinks(one.Path); err != nil || real == copied.Path {
		return one, err // it is there
	}
	if _, err := os.Lstat(copied.Path); err == nil {
		copied, err = proven(ctx, copied.Path)
		if err != nil {
			return one, err
		}
		return copied, s.Delete(one)
	}
	temp := s.unfinished(dir, one.ID)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with its priority
		background()
		t := &transfer{ctx: ctx, from: one, to: temp, progress: progress}
		err := t.run(&copied.Manifest)
		if err == nil {
			err = durable.Rename(temp, copied.Path)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return one, err
	}
	return copied, s.Delete(one)
}

// proven returns what lies under the name of a copy: that of a try that was cut off before it released the local one.
// Whether its name was synced can't be known, nor whether somebody has put something else there.
func proven(ctx context.Context, path string) (Snapshot, error) {
	copied, err := read(path)
	if err != nil {
		return copied, err
	}
	found, err := copied.Verify(ctx, false, nil)
	if err != nil {
		return copied, err
	}
	if len(found.Faults) > 0 {
		return copied, fmt.Errorf("%s is damaged: %s: %s; delete it, and it is copied again", path, found.Faults[0].Path, found.Faults[0].What)
	}
	return copied, durable.Sync(filepath.Dir(path))
}

// Transferring says whether a path is what a cut Transfer has left of a snapshot that still waits: it is gone on with.
func (s Store) Transferring(path string, waiting []Snapshot) bool {
	for _, one := range waiting {
		if filepath.Base(path) == filepath.Base(s.unfinished("", one.ID)) && filepath.Dir(path) != filepath.Dir(one.Path) {
			return true
		}
	}
	return false
}

type transfer struct {
	ctx      context.Context
	from     Snapshot
	to       string
	done     int64
	progress Progress
	list     *bufio.Writer
}

func (t *transfer) run(m *Manifest) error {
	if err := durable.MkdirAll(t.to, 0o700); err != nil {
		return err
	}
	free, err := freeSpace(t.to)
	if err != nil {
		return err
	}
	have, err := size(t.to)
	if err != nil {
		return err
	}
	if need := t.from.Bytes - have; need > free {
		return fmt.Errorf("%s has %d MiB free and the copy of snapshot %s needs %d MiB", filepath.Dir(t.to), free>>20, t.from.ID, mebi(need))
	}
	list, err := os.OpenFile(filepath.Join(t.to, listFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer list.Close()
	sum := sha256.New()
	t.list = bufio.NewWriter(io.MultiWriter(list, sum))
	out := taker{Manifest: m, list: t.list}
	m.Files, m.Bytes, m.Linked, m.Cloned, m.Copied, m.NewBytes = 0, 0, 0, 0, 0, 0
	err = t.from.list(func(f File) error {
		taken, err := t.file(&f)
		if err != nil || !taken {
			return err
		}
		return out.enter(f)
	})
	if err == nil {
		err = t.list.Flush()
	}
	if err == nil {
		err = t.frame(&out)
	}
	if err != nil {
		return err
	}
	return out.seal(t.to, sum)
}

// file copies one file, unless it is there already, and proves that both have the same content. A derived file that has
// changed is not taken.
func (t *transfer) file(f *File) (taken bool, err error) {
	if t.ctx.Err() != nil {
		return false, context.Cause(t.ctx)
	}
	from, to := t.from.file(*f), filepath.Join(t.to, filepath.FromSlash(f.Path))
	what, err := t.from.fault(*f)
	if err != nil {
		return false, err
	}
	if what != "" && f.Derived {
		return false, os.RemoveAll(to) // of an earlier try
	}
	if what != "" {
		return false, fmt.Errorf("snapshot %s: %s: %s", t.from.ID, f.Path, what)
	}
	f.How = Copy
	if info, err := os.Lstat(to); err == nil && info.Size() == f.Size && info.ModTime().UnixNano() == f.MTime && t.same(f, from, to) {
		t.report(f.Size)
		return true, durable.Sync(to)
	}
	if err := errors.Join(os.RemoveAll(to), os.MkdirAll(filepath.Dir(to), 0o700)); err != nil {
		return false, err
	}
	if f.SHA256, err = t.copy(from, to, time.Unix(0, f.MTime)); err != nil {
		return false, err
	}
	sum, err := hashOf(t.ctx, to)
	if err == nil && sum != f.SHA256 {
		err = fmt.Errorf("%s: what was read back is not what was written: this disk can't be trusted", to)
	}
	return true, err
}

// same says whether a copy of an earlier try has the content of its source. One that can't be read is copied again.
func (t *transfer) same(f *File, from, to string) bool {
	want, err := hashOf(t.ctx, from)
	if err != nil {
		return false
	}
	f.SHA256 = want
	got, err := hashOf(t.ctx, to)
	return err == nil && got == want
}

// copyStep is how much is written before it is synced, in bytes: a node beside us must not wait for gigabytes of ours.
const copyStep = 8 << 20

// copy copies one file and syncs it. Its time is that of the list, which contract code that was written once more has not
// any longer; it comes last, so a copy that has it is whole.
func (t *transfer) copy(from, to string, mtime time.Time) (sum string, err error) {
	in, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return "", err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	var dest io.Writer = out
	sparse := onDisk(info) < info.Size()
	if sparse {
		dest = holes{out}
	}
	for content := io.TeeReader(in, hash); err == nil; {
		var n int64
		n, err = io.CopyN(dest, content, copyStep)
		t.report(n)
		if err == nil {
			err = cmp.Or(out.Sync(), context.Cause(t.ctx))
		}
	}
	if err == io.EOF && sparse {
		err = cmp.Or(out.Truncate(info.Size()), io.EOF)
	}
	if err == io.EOF {
		err = cmp.Or(keep(to, info), os.Chtimes(to, time.Time{}, mtime), out.Sync())
	}
	forget(out) // so that it is read back from the disk
	return hex.EncodeToString(hash.Sum(nil)), errors.Join(err, out.Close())
}

// holes writes to a file and leaves holes where there would be nothing but zeros.
type holes struct{ file *os.File }

func (h holes) Write(p []byte) (int, error) {
	if bytes.Count(p, []byte{0}) < len(p) {
		return h.file.Write(p)
	}
	_, err := h.file.Seek(int64(len(p)), io.SeekCurrent)
	return len(p), err
}

// frame makes the folders and symlinks as they are in the source.
func (t *transfer) frame(out *taker) error {
	var folders []string
	err := filepath.WalkDir(t.from.Path, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(t.from.Path, path)
		if err != nil {
			return err
		}
		to := filepath.Join(t.to, rel)
		switch {
		case e.IsDir():
			folders = append(folders, rel)
			return os.MkdirAll(to, 0o700)
		case e.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			_ = os.Remove(to) // of an earlier try
			return os.Symlink(target, to)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, rel := range folders {
		out.unsynced = append(out.unsynced, filepath.Join(t.to, rel))
		info, err := os.Stat(filepath.Join(t.from.Path, rel))
		if err != nil {
			return err
		}
		if rel != "." {
			if err := keep(filepath.Join(t.to, rel), info); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *transfer) report(n int64) {
	t.done += n
	if t.progress != nil {
		t.progress(t.done, t.from.Bytes)
	}
}
