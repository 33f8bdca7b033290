package artifact

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// beingWritten says whether some process has the file open for writing, such as a copy that is under way: then
// the kernel gives no read lease on it (fcntl(2)). Of another user's file it can't be told.
func beingWritten(f *os.File) bool {
	_, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if err == nil {
		_, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	}
	return errors.Is(err, unix.EAGAIN)
}
