package snapshot

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestCopy: files, modes, times and links as they are, what is no file left out, data itself followed as a link.
func TestCopy(t *testing.T) {
	home := t.TempDir()
	data := filepath.Join(home, "elsewhere")
	check(t, os.MkdirAll(filepath.Join(data, "application.db"), 0o750))
	check(t, os.WriteFile(filepath.Join(data, "application.db", "000001.ldb"), make([]byte, 3<<20), 0o640))
	check(t, os.WriteFile(filepath.Join(data, "priv_validator_state.json"), []byte(`{"height":"7"}`), 0o600))
	then := time.Unix(1700000000, 5000)
	check(t, os.Chtimes(filepath.Join(data, "priv_validator_state.json"), then, then))
	check(t, os.Symlink("application.db/000001.ldb", filepath.Join(data, "link")))
	check(t, syscall.Mkfifo(filepath.Join(data, "fifo"), 0o600))
	listener, err := net.Listen("unix", filepath.Join(data, "sock"))
	check(t, err)
	defer listener.Close()
	check(t, os.Symlink("elsewhere", filepath.Join(home, "data")))

	to := filepath.Join(home, "backup")
	copied, err := Copy(t.Context(), filepath.Join(home, "data"), to)
	check(t, err)
	if copied.Files != 2 || copied.Bytes != 3<<20+14 || !slices.Equal(copied.LeftOut, []string{"fifo", "sock"}) {
		t.Errorf("copied %+v", copied)
	}
	for name, mode := range map[string]os.FileMode{"application.db": 0o750 | os.ModeDir, "application.db/000001.ldb": 0o640, "priv_validator_state.json": 0o600} {
		info, err := os.Stat(filepath.Join(to, name))
		check(t, err)
		if info.Mode() != mode {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), mode)
		}
	}
	if info, err := os.Stat(filepath.Join(to, "priv_validator_state.json")); err != nil || !info.ModTime().Equal(then) {
		t.Errorf("time %v, %v", info.ModTime(), err)
	}
	if target, err := os.Readlink(filepath.Join(to, "link")); err != nil || target != "application.db/000001.ldb" {
		t.Errorf("link to %q, %v", target, err)
	}
	if size, err := Size(filepath.Join(home, "data")); err != nil || size != copied.Bytes {
		t.Errorf("Size = %d, %v", size, err)
	}
}

// TestCopyIntoItself: a backup folder inside data/ must not be copied into itself.
func TestCopyIntoItself(t *testing.T) {
	data := t.TempDir()
	check(t, os.Mkdir(filepath.Join(data, "backups"), 0o755))
	check(t, os.WriteFile(filepath.Join(data, "f"), []byte("x"), 0o644))
	for _, name := range []string{"one", "two"} {
		copied, err := Copy(t.Context(), data, filepath.Join(data, "backups", name))
		check(t, err)
		if copied.Files != 1 {
			t.Errorf("%d files", copied.Files)
		}
	}
}

// TestFailedCopyLeavesNothing: neither a whole name nor debris.
func TestFailedCopyLeavesNothing(t *testing.T) {
	data, dir := t.TempDir(), t.TempDir()
	check(t, os.WriteFile(filepath.Join(data, "f"), []byte("x"), 0o644))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Copy(ctx, data, filepath.Join(dir, "backup")); err == nil {
		t.Error("a copy that was called off succeeded")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// TestCopyAfterACut: what a cut left of this copy is replaced, and what others have in the folder is not touched.
func TestCopyAfterACut(t *testing.T) {
	data, dir := t.TempDir(), t.TempDir()
	check(t, os.WriteFile(filepath.Join(data, "f"), []byte("x"), 0o644))
	to, other := filepath.Join(dir, "mine"), filepath.Join(dir, "theirs")
	for _, path := range []string{unfinished(to), unfinished(other)} {
		check(t, os.Mkdir(path, 0o700))
		check(t, os.WriteFile(filepath.Join(path, "half"), nil, 0o600))
	}
	_, err := Copy(t.Context(), data, to)
	check(t, err)
	if _, err := os.Stat(filepath.Join(to, "half")); err == nil {
		t.Error("half a copy was taken for a part of the whole")
	}
	if _, err := os.Stat(filepath.Join(unfinished(other), "half")); err != nil {
		t.Errorf("another home's copy: %v", err)
	}
}

func TestName(t *testing.T) {
	got := Name("v2", 100, time.Date(2026, 3, 7, 1, 2, 3, 4000, time.FixedZone("", 3600)))
	if want := "data-backup-v2-100-20260307T000203.000004Z"; got != want || strings.ContainsRune(got, ':') {
		t.Errorf("Name = %q, want %q", got, want)
	}
}
