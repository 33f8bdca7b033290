package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"solstice/simulate"
)

// screen shows what goes on in many nodes. On a terminal the lines of the nodes stay at the bottom and are rewritten; elsewhere a line
// is written for each node that is doing something new.
type screen struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
	width    int
	views    []simulate.View
	shown    int               // lines at the bottom that are rewritten
	said     map[string]string // what each node was doing, where nothing is rewritten
}

func newScreen(out *os.File) *screen {
	s := &screen{out: out, terminal: isTerminal(out) && os.Getenv("TERM") != "dumb", width: 80, said: map[string]string{}}
	if size, err := unix.IoctlGetWinsize(int(out.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
		s.width = int(size.Col)
	}
	return s
}

// Say writes a line that stays.
func (s *screen) Say(format string, values ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	fmt.Fprintf(s.out, format+"\n", values...)
	s.draw()
}

// Show shows what all nodes are doing.
func (s *screen) Show(views []simulate.View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.views = views
	if s.terminal {
		s.clear()
		s.draw()
		return
	}
	for _, v := range views {
		if doing := v.Version + v.State; s.said[v.Name] != doing {
			s.said[v.Name] = doing
			fmt.Fprintf(s.out, "  %s\n", v)
		}
	}
}

// End takes the rewritten lines away.
func (s *screen) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	s.views = nil
}

func (s *screen) clear() {
	if s.shown > 0 {
		fmt.Fprintf(s.out, "\r\x1b[%dA\x1b[J", s.shown)
		s.shown = 0
	}
}

// draw writes the nodes' lines. A line that wraps could not be taken away.
func (s *screen) draw() {
	if !s.terminal {
		return
	}
	var text strings.Builder
	for _, v := range s.views {
		line := []rune("  " + v.String())
		text.WriteString(string(line[:min(len(line), s.width-1)]) + "\n")
	}
	s.shown = len(s.views)
	io.WriteString(s.out, text.String())
}
