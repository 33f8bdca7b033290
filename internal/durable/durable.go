// Package durable changes files so that a power cut leaves the old state or the new one, whole.
//
// Every function but NoteLine has synced what it promises when it returns nil: the file, and the directory
// that names it. Temporary files begin with TempPrefix and are debris once their writer is gone. What root makes belongs to the
// owner of the folder that it is in.
package durable

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// TempPrefix begins the name of every temporary file and directory.
const TempPrefix = ".solstice-tmp-"

// TempName returns a name beside path that nothing has yet.
func TempName(path string) string {
	base := filepath.Base(path)
	base = base[:min(len(base), 200)] // with what stands around it, a name may have 255 bytes
	return filepath.Join(filepath.Dir(path), fmt.Sprintf("%s%s-%08x", TempPrefix, base, rand.Uint32()))
}

// WriteFile replaces path by a file with this content and mode. Nothing ever sees a part of it.
func WriteFile(path string, content []byte, mode fs.FileMode) error {
	temp := TempName(path)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return named(path, err)
	}
	_, err = f.Write(content)
	if err == nil {
		err = inherit(temp)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = Rename(temp, path)
	}
	if err != nil {
		os.Remove(temp) // debris; the cause is already being returned
	}
	return named(path, err)
}

// TryWrite says why a file could not be written beside path now. Nothing is left of the try.
func TryWrite(path string) error {
	temp := TempName(path)
	err := os.WriteFile(temp, []byte{'\n'}, 0o600)
	if removeErr := os.Remove(temp); err == nil {
		err = removeErr
	}
	return named(path, err)
}

// named makes an error of a temporary file one of the file that it was to replace: who
// reads it knows that name, and it is the same the next time.
func named(path string, err error) error {
	var ofPath *fs.PathError
	var ofLink *os.LinkError
	switch {
	case errors.As(err, &ofPath):
		return &fs.PathError{Op: ofPath.Op, Path: path, Err: ofPath.Err}
	case errors.As(err, &ofLink):
		return &fs.PathError{Op: ofLink.Op, Path: path, Err: ofLink.Err}
	}
	return err
}

// CopyFile copies a regular file to a path where nothing is, and syncs its content. The mode is exactly the
// one given. The caller renames it to its place.
func CopyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in) // copy_file_range where the system has it
	if err == nil {
		err = cmp.Or(out.Chmod(mode), inherit(to)) // whatever the umask is
	}
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}

// inherit gives what root has made to the owner of the folder that it is in: the node's user has to change it later. What
// other users make is their own.
func inherit(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 {
		return os.Lchown(path, int(stat.Uid), int(stat.Gid))
	}
	return nil
}

// Symlink makes link point to target, whatever link was, by one rename.
func Symlink(target, link string) error {
	temp := TempName(link)
	if err := os.Symlink(target, temp); err != nil {
		return named(link, err)
	}
	if err := Rename(temp, link); err != nil {
		os.Remove(temp)
		return named(link, err)
	}
	return nil
}

// Rename moves a file or directory within one filesystem.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	if err := Sync(filepath.Dir(to)); err != nil {
		return err
	}
	if filepath.Dir(from) != filepath.Dir(to) {
		return Sync(filepath.Dir(from))
	}
	return nil
}

// Remove removes a file. One that does not exist is no error.
func Remove(path string) error {
	if err := os.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return Sync(filepath.Dir(path))
}

// MkdirAll makes the directory and its missing parents.
func MkdirAll(path string, mode fs.FileMode) error {
	if info, err := os.Stat(path); err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: path, Err: unix.ENOTDIR}
		}
		return nil
	}
	if err := MkdirAll(filepath.Dir(path), mode); err != nil {
		return err
	}
	err := os.Mkdir(path, mode)
	if err == nil {
		err = inherit(path)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return Sync(filepath.Dir(path))
}

// AppendLine adds one line to a file, which is made if it is not there. A torn last line that a cut left
// is ended first, so that it spoils only itself.
func AppendLine(path string, line []byte) error {
	_, statErr := os.Lstat(path)
	err := addLine(path, line, (*os.File).Sync)
	if err == nil && errors.Is(statErr, fs.ErrNotExist) {
		err = Sync(filepath.Dir(path))
	}
	return err
}

// NoteLine is AppendLine without the sync, for what may be lost in a power cut: the next AppendLine makes it durable.
func NoteLine(path string, line []byte) error {
	return addLine(path, line, func(*os.File) error { return nil })
}

func addLine(path string, line []byte, sync func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil && end == 0 {
		err = inherit(path)
	}
	if err == nil && end > 0 {
		last := make([]byte, 1)
		if _, err = f.ReadAt(last, end-1); err == nil && last[0] != '\n' {
			line = append([]byte("\n"), line...)
		}
	}
	if err == nil {
		_, err = f.Write(append(line, '\n'))
	}
	if err == nil {
		err = sync(f)
	}
	return errors.Join(err, f.Close())
}

// Sync makes the content of a file durable, or the names in a directory.
func Sync(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) {
		err = nil // a filesystem that has nothing to sync there says so this way
	}
	return errors.Join(err, d.Close())
}

// LockFile takes the place of a folder where a folder can't be locked.
const LockFile = ".solstice.lock"

// ErrLocked means that another process has the lock.
var ErrLocked error = unix.EWOULDBLOCK

// Lock takes the lock on a folder, which nothing has to be written for (flock(2)). It lasts until the file, and every copy of it that
// was handed down, is closed. NFS locks only what is open for writing (nfs(5)), which a folder never is: there LockFile in it
// takes its place.
func Lock(folder string) (*os.File, error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EBADF) {
		f.Close()
		if f, err = os.OpenFile(filepath.Join(folder, LockFile), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Holders returns the other processes that hold the lock on a folder, as far as /proc shows them.
func Holders(folder string) []int {
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	real, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return nil
	}
	var pids []int
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err != nil || target != real && target != filepath.Join(real, LockFile) {
			continue
		}
		parts := strings.Split(fd, "/") // "", proc, PID, fd, N
		info, err := os.ReadFile(filepath.Join("/proc", parts[2], "fdinfo", parts[4]))
		pid, _ := strconv.Atoi(parts[2])
		if err == nil && strings.Contains(string(info), "FLOCK") && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// lockPatience is how long Locked waits for another process, which only changes a file or places a binary.
const lockPatience = 30 * time.Second

// Locked runs fn while no other process runs one for the same directory, which must exist. One that does not end is
// an error after lockPatience.
func Locked(dir string, fn func() error) error { return LockedWithin(lockPatience, dir, fn) }

// TryLocked is Locked that does not wait: the error is ErrLocked, and fn was not run, while
// another process has the lock.
func TryLocked(dir string, fn func() error) error { return LockedWithin(0, dir, fn) }

// LockedWithin is Locked with a patience of its own. The error is ErrLocked when it is over, and fn was not run.
func LockedWithin(patience time.Duration, dir string, fn func() error) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		lock, err := Lock(dir)
		if err == nil {
			defer lock.Close() // which ends it
			return fn()
		}
		if !errors.Is(err, ErrLocked) || !time.Now().Before(deadline) {
			return fmt.Errorf("lock %s: %w", dir, err)
		}
	}
}

// Sweep removes the debris of writers that were cut off in a directory. The caller makes sure that
// none is at work there.
func Sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), TempPrefix) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}
