package readiness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"solstice"
	"solstice/snapshot"
)

// TestSmallDisk: data/ on a disk that is nearly full, then on a larger one.
func TestSmallDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a disk")
	}
	dir := t.TempDir()
	home := solstice.Home{Dir: dir, Node: dir, Name: "noded", StateDir: filepath.Join(dir, "cosmovisor", ".solstice")}
	for _, folder := range []string{home.Data(), home.Root()} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("tmpfs", home.Data(), "tmpfs", 0, "size=2m"); err != nil {
		t.Skip("tmpfs can't be mounted here:", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(home.Data(), unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(home.Data(), "file"), make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	s := Subject{Home: home, Snapshots: snapshot.Store{Home: home}}
	expect := func(look func(Subject) finding, want solstice.Verdict, says string) {
		t.Helper()
		if f := look(s); f.verdict != want || !strings.Contains(f.evidence, says) {
			t.Errorf("%+v, want %s, %q", f, want, says)
		}
	}
	space := func(s Subject) finding { return migrationFits(t.Context(), s) }
	expect(space, solstice.Warning, "0.0 GiB free beside data/, and 1.0 GiB are wanted")
	if err := unix.Mount("", home.Data(), "", unix.MS_REMOUNT, "size=3g"); err != nil {
		t.Fatal(err)
	}
	expect(space, solstice.OK, "3.0 GiB free")
	writable := func(s Subject) finding { return foldersWritable(t.Context(), s) }
	expect(writable, solstice.OK, "can be written to")
	if err := unix.Mount("", home.Data(), "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	expect(writable, solstice.NotReady, "/data can't be written to: read-only file system")
	s.Home.Node = filepath.Join(dir, "nowhere")
	expect(space, solstice.Unknown, "no such file")
}
