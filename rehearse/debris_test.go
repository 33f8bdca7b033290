package rehearse

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"solstice"
)

func testHome(t *testing.T) solstice.Home {
	t.Helper()
	dir := t.TempDir()
	return solstice.Home{Dir: dir, Node: dir, Name: "noded", StateDir: filepath.Join(dir, "cosmovisor", ".solstice")}
}

// TestSweep: debris goes, with the process that was started in it; somebody's shell there
// lives on; a rehearsal at work, one that was to be kept, and that of another home stay.
func TestSweep(t *testing.T) {
	home, other := testHome(t), testHome(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	begin := func(home solstice.Home, day int) *folder {
		t.Helper()
		f, err := makeFolder(home, filepath.Dir(home.Dir), at.AddDate(0, 0, day))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.remove() })
		return f
	}
	cut, kept, atWork, theirs := begin(home, 0), begin(home, 1), begin(home, 2), begin(other, 3)
	if err := kept.keep(); err != nil {
		t.Fatal(err)
	}
	left := exec.Command("sleep", "1000")
	left.Dir = filepath.Join(cut.path, "node1")
	if err := os.Mkdir(left.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	left.Env = append(os.Environ(), "DAEMON_HOME="+left.Dir)
	shell := exec.Command("sleep", "1000") // an operator's, who looks around there
	shell.Dir = left.Dir
	for _, cmd := range []*exec.Cmd{left, shell} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { _, _ = shell.Process.Kill(), shell.Wait() }()
	_ = cut.lock.Close()    // its process has ended
	_ = theirs.lock.Close() // so has that of the other home
	ended := waitFor(left)

	removed, err := Sweep(home, []string{filepath.Dir(home.Dir)})
	if err != nil || len(removed) != 1 || removed[0] != cut.path {
		t.Errorf("Sweep = %q, %v, want %q", removed, err, cut.path)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the process that was left over still runs")
	}
	if _, alive := readStat(shell.Process.Pid); !alive {
		t.Error("a shell that was only there was killed")
	}
	for _, f := range []*folder{kept, atWork} {
		if !exists(f.path) {
			t.Errorf("%s is gone", f.path)
		}
	}
	if exists(cut.path) {
		t.Errorf("%s is still there", cut.path)
	}
	if !exists(theirs.path) && filepath.Dir(other.Dir) == filepath.Dir(home.Dir) {
		t.Errorf("%s, of another home, is gone", theirs.path)
	}
}

// waitFor waits for a process.
func waitFor(cmd *exec.Cmd) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	return ended
}
