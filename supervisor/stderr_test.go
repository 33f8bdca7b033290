package supervisor

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"solstice"
	"solstice/internal/outlet"
)

// reading reads a pipe into an outlet, as the stderr of a node is read.
func reading(t *testing.T) (r *stderr, node *os.File, out *os.File) {
	t.Helper()
	var said, taken [2]int
	if err := unix.Pipe(said[:]); err != nil {
		t.Fatal(err)
	}
	if err := unix.Pipe(taken[:]); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(said[0], true); err != nil {
		t.Fatal(err)
	}
	ours := os.NewFile(uintptr(taken[1]), "our stderr")
	to, err := outlet.Open(ours)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	pipe := os.NewFile(uintptr(said[0]), "pipe")
	defer pipe.Close()
	reading, err := readStderr(pipe, to)
	if err != nil {
		t.Fatal(err)
	}
	return reading, os.NewFile(uintptr(said[1]), "node"), os.NewFile(uintptr(taken[0]), "out")
}

// TestSaid: what stands in the pipe when somebody asks is known, though the pipe stays open; and reading goes on after that.
func TestSaid(t *testing.T) {
	r, node, out := reading(t)
	defer out.Close()
	for i := range 100 {
		text := strings.Repeat("x", i*300) + "\nlast " + string(rune('A'+i%26)) + "\n"
		if _, err := node.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if last := r.said().Last; !strings.HasSuffix(text, last[len(last)-1]+"\n") {
			t.Fatalf("said %q after %q", last, text[max(len(text)-20, 0):])
		}
		if _, err := io.ReadFull(out, make([]byte, len(text))); err != nil {
			t.Fatal(err)
		}
	}
	node.Close()
	<-r.ended
	r.said()
}

// TestFailuresInARow: one that ran for a while starts a new row.
func TestFailuresInARow(t *testing.T) {
	s := &Supervisor{RestartLimit: 3}
	start := time.Now()
	s.view.Store(&view{Node: &solstice.Process{Since: start}})
	for i, tt := range []struct {
		ran      time.Duration
		failures int
		spent    bool
	}{
		{time.Second, 1, false}, {time.Second, 2, false}, {steadyAfter, 1, false}, {0, 2, false}, {time.Second, 3, true}, {time.Second, 4, true}, {time.Hour, 1, false},
	} {
		c := &solstice.Crash{At: start.Add(tt.ran)}
		if s.count(c); c.Failures != tt.failures || s.spent() != tt.spent {
			t.Errorf("%d: %d failures, spent %v, want %d, %v", i, c.Failures, s.spent(), tt.failures, tt.spent)
		}
	}
	s.RestartLimit = 0
	if s.spent() {
		t.Error("without a limit it is given up")
	}
}
