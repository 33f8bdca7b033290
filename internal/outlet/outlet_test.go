package outlet

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// pipe is an outlet to a pipe, and the reading end.
func pipe(t *testing.T) (*Outlet, *os.File) {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	o, err := Open(in)
	if err != nil {
		t.Fatal(err)
	}
	return o, out
}

func say(t *testing.T, o *Outlet, text []byte) {
	t.Helper()
	if n, err := o.Write(text); n != len(text) || err != nil {
		t.Fatalf("Write of %d bytes = %d, %v", len(text), n, err)
	}
}

// TestWithoutReader: nobody is held up, and nothing is kept, where what we write goes nowhere.
func TestWithoutReader(t *testing.T) {
	o, out := pipe(t)
	out.Close()
	for range 2 * ahead >> 10 {
		say(t, o, make([]byte, 1<<10))
	}
	o.Flush(Patience{time.Hour, time.Hour})
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.waiting) > 0 || o.lost != 2*ahead {
		t.Errorf("%d bytes wait, %d are lost", len(o.waiting), o.lost)
	}
}

// TestGapIsTold: what a reader that stands still does not take is counted, and told where
// it is missing; what comes later is whole.
func TestGapIsTold(t *testing.T) {
	o, out := pipe(t)
	defer out.Close()
	line := []byte(strings.Repeat("x", 1023) + "\n")
	for range 2 * ahead / len(line) {
		say(t, o, line)
	}
	read := make(chan []byte)
	go func() {
		var text bytes.Buffer
		_, err := io.CopyN(&text, out, ahead) // what is kept, or more
		if err == nil {
			buf := make([]byte, 64<<10)
			for n := 0; err == nil && !bytes.HasSuffix(text.Bytes(), []byte("after\n")); {
				n, err = out.Read(buf)
				text.Write(buf[:n])
			}
		}
		read <- text.Bytes()
	}()
	o.Flush(Patience{time.Hour, time.Hour})
	say(t, o, []byte("after\n"))
	got := string(<-read)
	kept := strings.Count(got, string(line))
	if want := fmt.Sprintf("%s\nsolstice: %d bytes dropped here: output blocked or closed\nafter\n",
		strings.Repeat(string(line), kept), 2*ahead-kept*len(line)); got != want {
		t.Errorf("%d lines are kept; the end is %q", kept, got[max(0, len(got)-200):])
	}
}

// TestReaderComesBack: the reader of a FIFO may be started anew, as a log agent is.
func TestReaderComesBack(t *testing.T) {
	path := t.TempDir() + "/log"
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	open := func(flag int) *os.File {
		f, err := os.OpenFile(path, flag, 0)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	first := make(chan *os.File)
	go func() { first <- open(os.O_RDONLY) }()
	in := open(os.O_WRONLY)
	o, err := Open(in)
	if err != nil {
		t.Fatal(err)
	}
	in.Close()
	(<-first).Close()
	say(t, o, []byte("nobody hears it\n"))
	o.Flush(Patience{time.Hour, time.Hour})
	second := open(os.O_RDONLY)
	defer second.Close()
	want := "\nsolstice: 16 bytes dropped here: output blocked or closed\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(second, got); err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestFlushIsBounded: a file that takes nothing is not waited for, and a slow one not for ever.
func TestFlushIsBounded(t *testing.T) {
	o, out := pipe(t)
	defer out.Close()
	say(t, o, make([]byte, 1<<20))
	o.Flush(Patience{10 * time.Millisecond, time.Hour})
	o.Flush(Patience{time.Hour, 10 * time.Millisecond})
}

// TestFlushWaitsForASlowFile: as long as something is taken it is waited for, up to the
// whole patience; one that is stuck is given up sooner.
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
				o := &Outlet{writing: 10}
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
				o.Flush(Patience{time.Second, tt.whole})
				if took := time.Since(start); took != tt.want {
					t.Errorf("waited for %v, want %v", took, tt.want)
				}
				taking.Wait()
			})
		})
	}
}

// TestLinesStayWhole: what the node writes to the same pipe stands between our lines, and
// not within one, however much of ours was waiting.
func TestLinesStayWhole(t *testing.T) {
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	o, err := Open(in)
	if err != nil {
		t.Fatal(err)
	}
	const lines = 2000
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := range lines {
			fmt.Fprintf(in, "{node %d}\n", i)
		}
	})
	for i := range lines {
		fmt.Fprintf(o, "{ours %d %s}\n", i, strings.Repeat("x", i%200))
	}
	scanner := bufio.NewScanner(out)
	for range 2 * lines {
		if !scanner.Scan() {
			t.Fatal(scanner.Err())
		}
		if line := scanner.Text(); !strings.HasPrefix(line, "{") || !strings.HasSuffix(line, "}") || strings.Count(line, "{") != 1 {
			t.Fatalf("torn: %q", line)
		}
	}
	writing.Wait()
	in.Close()
}
