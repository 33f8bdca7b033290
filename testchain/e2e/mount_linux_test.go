package e2e

import (
	"syscall"
	"testing"
)

// mountDisk mounts a filesystem of its own in memory until the test ends.
func mountDisk(t *testing.T, size string) (dir string, resize func(size string)) {
	t.Helper()
	dir = t.TempDir()
	check(t, syscall.Mount("solstice-e2e", dir, "tmpfs", 0, "size="+size))
	t.Cleanup(func() { check(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir, func(size string) {
		t.Helper()
		check(t, syscall.Mount("solstice-e2e", dir, "tmpfs", syscall.MS_REMOUNT, "size="+size))
	}
}
