package durable

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFullDisk: an error, the old content, no debris. The disk is real: a small filesystem in memory.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skip("needs the right to mount:", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	path := filepath.Join(dir, "f")
	check(t, WriteFile(path, []byte("old"), 0o600))
	if err := WriteFile(path, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("error %v, want no space", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "old" || names(t, dir) != "f" {
		t.Errorf("content %q, %v, in the folder: %s", got, err, names(t, dir))
	}
}

// TestPowerCut: what a function has returned from is there after the filesystem was cut off without a sync. XFS on a
// loop device loses everything that was not synced, which the unsynced file shows.
func TestPowerCut(t *testing.T) {
	dir := t.TempDir()
	image, mount := filepath.Join(dir, "image"), filepath.Join(dir, "mount")
	check(t, os.Mkdir(mount, 0o755))
	run := func(name string, args ...string) error {
		output, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Logf("%s %v: %s", name, args, output)
		}
		return err
	}
	for _, tool := range []string{"mkfs.xfs", "xfs_io"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs xfsprogs:", err)
		}
	}
	check(t, run("truncate", "-s", "320M", image))
	check(t, run("mkfs.xfs", "-q", "-f", image))
	if err := run("mount", "-o", "loop", image, mount); err != nil {
		t.Skip("needs the right to mount a loop device:", err)
	}
	defer unix.Unmount(mount, unix.MNT_DETACH)
	path := func(name string) string { return filepath.Join(mount, name) }
	check(t, Symlink("genesis", path("current")))
	check(t, WriteFile(path("state"), []byte("old"), 0o600))

	check(t, MkdirAll(path("a/b"), 0o755))
	check(t, CopyFile(path("state"), path("a/b/copy"), 0o755))
	check(t, Rename(path("a/b/copy"), path("a/kept")))
	check(t, AppendLine(path("journal"), []byte("one")))
	check(t, WriteFile(path("state"), []byte("new"), 0o600))
	check(t, Symlink("upgrades/v2", path("current")))
	check(t, os.WriteFile(path("unsynced"), []byte("lost"), 0o600))
	check(t, run("xfs_io", "-x", "-c", "shutdown", mount))
	check(t, run("umount", mount))
	check(t, run("mount", "-o", "loop", image, mount))

	for name, want := range map[string]string{"state": "new", "a/kept": "old", "journal": "one\n"} {
		if got, err := os.ReadFile(path(name)); err != nil || string(got) != want {
			t.Errorf("%s after the cut: %q, %v, want %q", name, got, err, want)
		}
	}
	if got, err := os.Readlink(path("current")); err != nil || got != "upgrades/v2" {
		t.Errorf("link after the cut: %q, %v", got, err)
	}
	if got, err := os.ReadFile(path("unsynced")); err == nil && len(got) > 0 {
		t.Errorf("nothing was cut: the unsynced file has %q", got)
	}
}
