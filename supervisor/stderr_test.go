package supervisor

import (
	"bytes"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"solstice"
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
	to, err := openOutlet(ours)
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

// TestOutletWithoutReader: nobody is held up, and nothing is kept, where what we write goes nowhere.
func TestOutletWithoutReader(t *testing.T) {
	r, node, out := reading(t)
	out.Close()
	text := bytes.Repeat([]byte("0123456789abcde\n"), 2*ahead/16)
	if _, err := node.Write(text); err != nil {
		t.Fatal(err)
	}
	node.Close()
	<-r.ended
	r.to.flush(patience{time.Hour, time.Hour})
	if len(r.to.waiting) > 0 || r.to.lost != 0 {
		t.Errorf("%d bytes wait, %d are lost", len(r.to.waiting), r.to.lost)
	}
}

// TestFlushIsBounded: a file that takes nothing is not waited for, and a slow one not for ever.
func TestFlushIsBounded(t *testing.T) {
	r, node, out := reading(t)
	defer out.Close()
	if _, err := node.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	r.said()
	r.to.flush(patience{10 * time.Millisecond, time.Hour})
	r.to.flush(patience{time.Hour, 10 * time.Millisecond})
	node.Close()
	<-r.ended
}

// TestFlushWaitsForASlowFile: as long as something is taken it is waited for, up to the whole patience; one that is stuck is given up sooner.
func TestFlushWaitsForASlowFile(t *testing.T) {
	for _, tt := range []struct {
		name   string
		pieces int // that are taken, one each 900 ms, of ten
		whole  time.Duration
		want   time.Duration
	}{
		{"slow", 10, time.Hour, 9 * time.Second},
		{"stuck-in-the-middle", 5, time.Hour, 5*900*time.Millisecond + time.Second},
		{"too-slow", 10, 4 * time.Second, 4 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &outlet{writing: 10}
				o.changed = sync.NewCond(&o.mu)
				var taking sync.WaitGroup
				taking.Go(func() {
					for range tt.pieces {
						time.Sleep(900 * time.Millisecond)
						o.mu.Lock()
						o.writing--
						o.taken++
						o.mu.Unlock()
						o.changed.Broadcast()
					}
				})
				start := time.Now()
				o.flush(patience{time.Second, tt.whole})
				if took := time.Since(start); took != tt.want {
					t.Errorf("waited for %v, want %v", took, tt.want)
				}
				taking.Wait()
			})
		})
	}
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
