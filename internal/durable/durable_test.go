package durable

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	check(t, WriteFile(path, []byte("one"), 0o600))
	check(t, WriteFile(path, []byte("two"), 0o600))
	if got, err := os.ReadFile(path); err != nil || string(got) != "two" {
		t.Errorf("content %q, %v", got, err)
	}
	if got := names(t, filepath.Dir(path)); got != "f" {
		t.Errorf("in the folder: %s", got)
	}
}

// TestFailuresLeaveTheOldState: what can't be replaced stays, and nothing lies beside it.
func TestFailuresLeaveTheOldState(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "d")
	check(t, os.Mkdir(target, 0o755))
	check(t, os.WriteFile(filepath.Join(target, "x"), nil, 0o644))
	if err := WriteFile(target, []byte("one"), 0o600); err == nil {
		t.Error("a folder was replaced by a file")
	}
	if err := Symlink("elsewhere", target); err == nil {
		t.Error("a folder was replaced by a link")
	}
	if got := names(t, dir); got != "d" {
		t.Errorf("in the folder: %s", got)
	}
}

func TestSymlink(t *testing.T) {
	link := filepath.Join(t.TempDir(), "current")
	for _, target := range []string{"genesis", "upgrades/v2", "upgrades/v2"} {
		check(t, Symlink(target, link))
		if got, err := os.Readlink(link); err != nil || got != target {
			t.Errorf("link to %q, %v, want %q", got, err, target)
		}
	}
}

func TestMkdirAll(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b", "c")
	check(t, MkdirAll(dir, 0o755))
	check(t, MkdirAll(dir, 0o755))
	check(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o644))
	if err := MkdirAll(filepath.Join(dir, "f"), 0o755); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("a file in the way: %v", err)
	}
}

func TestAppendLineEndsATornOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	check(t, AppendLine(path, []byte("one")))
	check(t, os.WriteFile(path, []byte("one\ntw"), 0o600))
	check(t, AppendLine(path, []byte("three")))
	if got, err := os.ReadFile(path); err != nil || string(got) != "one\ntw\nthree\n" {
		t.Errorf("content %q, %v", got, err)
	}
}

func TestLockedIsExclusive(t *testing.T) {
	dir := t.TempDir()
	var inside, most int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			err := Locked(dir, func() error {
				mu.Lock()
				inside++
				most = max(most, inside)
				mu.Unlock()
				defer func() { mu.Lock(); inside--; mu.Unlock() }()
				return SyncDir(dir)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most != 1 {
		t.Errorf("%d at once", most)
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "kept"), nil, 0o644))
	check(t, os.WriteFile(TempName(filepath.Join(dir, "x")), nil, 0o644))
	check(t, os.MkdirAll(filepath.Join(TempName(filepath.Join(dir, "y")), "sub"), 0o755))
	check(t, Sweep(dir))
	check(t, Sweep(filepath.Join(dir, "none")))
	if got := names(t, dir); got != "kept" {
		t.Errorf("in the folder: %s", got)
	}
}

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
	check(t, unix.Access(mount, unix.W_OK))

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
