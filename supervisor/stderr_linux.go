package supervisor

import (
	"os"

	"golang.org/x/sys/unix"
)

// enlarge makes a pipe as large as it may be. A user who has many large ones already gets a smaller one (pipe(7)).
func enlarge(pipe *os.File, size int) {
	for ; size > 64<<10; size /= 2 { // what a pipe is by itself
		if _, err := unix.FcntlInt(pipe.Fd(), unix.F_SETPIPE_SZ, size); err == nil {
			return
		}
	}
}
