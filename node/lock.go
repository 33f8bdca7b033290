package node

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const openNonblock = unix.O_NONBLOCK

// isLocked says whether a process holds a lock on a file, of fcntl(2) or of flock(2).
func isLocked(file *os.File) (bool, error) {
	// F_GETLK asks whether this lock could be taken; unlike taking it, that needs no right to
	// write.
	asked := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(file.Fd(), unix.F_GETLK, &asked); err != nil && !errors.Is(err, unix.EINVAL) {
		return false, err
	} else if err == nil && asked.Type != unix.F_UNLCK {
		return true, nil
	}
	err := unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, unix.Flock(int(file.Fd()), unix.LOCK_UN)
}
