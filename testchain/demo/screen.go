package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// screen is where the demo is shown. On a terminal its last line can be rewritten; elsewhere every line is plain
// and stays.
type screen struct {
	out      io.Writer
	terminal bool
	colour   bool
	live     bool // the last line is one that is rewritten
}

// newScreen looks at what standard output is.
func newScreen(out *os.File, environ func(string) string) *screen {
	info, err := out.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0 && environ("TERM") != "dumb"
	return &screen{out: out, terminal: terminal, colour: terminal && environ("NO_COLOR") == ""}
}

// colour is what a terminal is told before a text.
type colour string

const (
	bold   colour = "1"
	faint  colour = "2"
	green  colour = "32"
	yellow colour = "33"
	cyan   colour = "36"
)

// paint colours a text where there are colours.
func (s *screen) paint(c colour, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// line prints a line that stays.
func (s *screen) line(format string, values ...any) {
	s.clear()
	fmt.Fprintln(s.out, strings.TrimRight(fmt.Sprintf(format, values...), " "))
}

// now shows a line until the next one; only a terminal can. It is short, as a line that wraps can't be rewritten.
func (s *screen) now(format string, values ...any) {
	if !s.terminal {
		return
	}
	s.clear()
	fmt.Fprintf(s.out, format, values...)
	s.live = true
}

// clear takes the line that is rewritten away.
func (s *screen) clear() {
	if s.live {
		fmt.Fprint(s.out, "\r\x1b[K")
		s.live = false
	}
}

// title begins a chapter.
func (s *screen) title(format string, values ...any) {
	s.line("")
	s.line("%s", s.paint(bold, fmt.Sprintf(format, values...)))
}

// command shows a command as its user would type it.
func (s *screen) command(text string) {
	s.line("  %s %s", s.paint(faint, "$"), s.paint(cyan, text))
}

// Write shows the lines of a program that reports its progress.
func (s *screen) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		line = "  " + strings.TrimRight(line, "\n")
		if s.terminal {
			s.now("%s", line)
		} else {
			s.line("%s", line)
		}
	}
	return len(p), nil
}

// done tells of something that has been reached.
func (s *screen) done(format string, values ...any) {
	s.line("  %s %s", s.paint(green, "✓"), fmt.Sprintf(format, values...))
}

// step tells of a step of an upgrade.
func (s *screen) step(name, duration, note string) {
	s.line("      %-12s %8s   %s", name, duration, s.paint(faint, note))
}

// bar draws how much of a whole is done.
func (s *screen) bar(part, whole int64) string {
	const width = 24
	full := int(width * part / max(whole, 1))
	return s.paint(cyan, strings.Repeat("█", full)) + s.paint(faint, strings.Repeat("░", width-full))
}
