package snapshot

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// cloneFile makes to, where nothing is, share the blocks of from (ioctl_ficlone(2)).
func cloneFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	err = unix.IoctlFileClone(int(out.Fd()), int(in.Fd()))
	if err != nil {
		err = &fs.PathError{Op: "clone", Path: from, Err: err}
		return errors.Join(err, out.Close(), os.Remove(to))
	}
	return out.Close()
}

// syncFilesystem makes everything durable that was written to the filesystem of a folder (syncfs(2)). After cloning
// thousands of files that is one transaction; an fsync of each would be thousands of calls.
func syncFilesystem(folder string) error {
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// startWriting lets the system begin to write a file to the disk (sync_file_range(2)), so that a later sync waits less. A file
// that can't be written is an error of that sync.
func startWriting(f *os.File) { _ = unix.SyncFileRange(int(f.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE) }
