package main

import (
	"fmt"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine describes what it was measured on.
func machine(dir string) string {
	var system unix.Utsname
	_ = unix.Uname(&system) // can't fail with memory of our own
	goVersion := runtime.Version()
	if out, err := exec.Command("go", "env", "GOVERSION").Output(); err == nil {
		goVersion = strings.TrimSpace(string(out)) // that of the builds
	}
	return fmt.Sprintf("%d cores, %s, Linux %s, %s, homes on %s", runtime.NumCPU(), runtime.GOARCH,
		unix.ByteSliceToString(system.Release[:]), goVersion, filesystem(dir))
}

// filesystem names the type of the filesystem below a directory.
func filesystem(dir string) string {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return "unknown"
	}
	switch int64(fs.Type) {
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	}
	return fmt.Sprintf("%#x", fs.Type)
}
