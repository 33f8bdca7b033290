package solstice

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// ErrNotFile means that a path is not a regular file, or that the file exceeds the size limit.
var ErrNotFile = errors.New("not a file of that kind")

type notFileError string

func (e notFileError) Error() string        { return string(e) }
func (e notFileError) Is(target error) bool { return target == ErrNotFile }

// MaxFile is the limit for a small file of which none is near it, such as a configuration,
// in bytes.
const MaxFile = 4 << 20

// OpenFile opens a regular file, or the empty one that os.DevNull is, for reading. Other
// people put files where we read some, so it never waits, as for the writer of a FIFO. The
// error of what is no regular file is an ErrNotFile.
func OpenFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() && !isNull(info) {
		err = &fs.PathError{Op: "read", Path: path, Err: notFileError("not a regular file")}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// isNull says whether a file is os.DevNull, which stands for none.
func isNull(info fs.FileInfo) bool {
	null, err := os.Stat(os.DevNull)
	return err == nil && os.SameFile(info, null)
}

func size(bytes int64) string {
	if bytes >= 1<<20 {
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%d KiB", bytes>>10)
}

// ReadFile reads a regular file of limit bytes at most, as OpenFile opens it. The error of
// a larger one is an ErrNotFile.
func ReadFile(path string, limit int64) ([]byte, error) {
	f, err := OpenFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = &fs.PathError{Op: "read", Path: path, Err: notFileError("larger than " + size(limit))}
	}
	if err != nil {
		return nil, err
	}
	return content, nil
}
