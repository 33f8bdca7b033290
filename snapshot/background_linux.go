package snapshot

import (
	"os"

	"golang.org/x/sys/unix"
)

// background gives the calling thread the lowest priority for the processor, and the disk only when nobody else wants it
// (ioprio_set(2), IOPRIO_CLASS_IDLE). A system that refuses has its reasons.
func background() {
	const whoProcess, classIdle, classShift = 1, 3, 13
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, 0, classIdle<<classShift)
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), 19)
}

// forget drops a file's pages from memory. They are synced.
func forget(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }
