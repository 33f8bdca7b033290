package durable

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
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

// TestErrorsNameTheFile: what can't be written is named, and not the temporary file beside
// it, which is called otherwise each time.
func TestErrorsNameTheFile(t *testing.T) {
	dir := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(dir, "full", "of"), 0o755))
	check(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	for _, path := range []string{filepath.Join(dir, "full"), filepath.Join(dir, "file", "below"), filepath.Join(dir, "none", "f")} {
		for what, err := range map[string]error{"WriteFile": WriteFile(path, nil, 0o600), "Symlink": Symlink("target", path)} {
			if err == nil || !strings.Contains(err.Error(), path+":") || strings.Contains(err.Error(), TempPrefix) {
				t.Errorf("%s %s: %v", what, path, err)
			}
		}
	}
	check(t, TryWrite(filepath.Join(dir, "f")))
	if err := TryWrite(filepath.Join(dir, "none", "f")); err == nil || strings.Contains(err.Error(), TempPrefix) {
		t.Errorf("TryWrite: %v", err)
	}
	if got := names(t, dir); got != "file full" {
		t.Errorf("left: %s", got)
	}
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
				return Sync(dir)
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

// TestRootWorksForTheOwner: what root makes in the folder of another user belongs to that user.
func TestRootWorksForTheOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	const uid, gid = 12345, 23456
	dir := t.TempDir()
	check(t, os.Chown(dir, uid, gid))
	path := func(name string) string { return filepath.Join(dir, name) }
	check(t, os.WriteFile(path("source"), nil, 0o600)) // root's own
	check(t, WriteFile(path("written"), nil, 0o600))
	check(t, WriteFile(path("source"), nil, 0o600))
	check(t, AppendLine(path("appended"), []byte("x")))
	check(t, NoteLine(path("noted"), []byte("x")))
	check(t, CopyFile(path("source"), path("copied"), 0o600))
	check(t, MkdirAll(path("a/b"), 0o700))
	for _, name := range []string{"written", "source", "appended", "noted", "copied", "a", "a/b"} {
		info, err := os.Stat(path(name))
		check(t, err)
		if stat := info.Sys().(*syscall.Stat_t); stat.Uid != uid || stat.Gid != gid {
			t.Errorf("%s belongs to %d:%d", name, stat.Uid, stat.Gid)
		}
	}
}
