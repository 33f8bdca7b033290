package artifact

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// CheckExecutable says why this process could not execute a file, or nil: it is on a
// filesystem that executes nothing, or it has no x bit and is not ours to change. Bits
// that MakeExecutable can add are no fault.
func CheckExecutable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	var filesystem unix.Statfs_t
	if err := unix.Statfs(path, &filesystem); err == nil && filesystem.Flags&unix.ST_NOEXEC != 0 {
		return fmt.Errorf("%s is on a filesystem that is mounted noexec", path)
	}
	if unix.Access(path, unix.X_OK) == nil {
		return nil
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && (os.Geteuid() == 0 || int(stat.Uid) == os.Geteuid()) && !errors.Is(unix.Access(path, unix.W_OK), unix.EROFS) {
		return nil
	}
	return fmt.Errorf("%s is not executable by this user (mode %04o): %w", path, info.Mode().Perm(), fs.ErrPermission)
}
