package main

import (
	"strings"
	"testing"
)

// TestScreen: on a terminal the last line is rewritten, and leaves nothing behind; elsewhere there are neither such
// lines nor any control characters.
func TestScreen(t *testing.T) {
	for _, tt := range []struct {
		name             string
		terminal, colour bool
		want             string
	}{
		{"pipe", false, false, "  $ solstice status\n  one\n  ✓ done\n"},
		{"terminal-without-colours", true, false, "  $ solstice status\n  one\r\x1b[Kheight 1\r\x1b[Kheight 2\r\x1b[K  ✓ done\n"},
		{"terminal", true, true, "  \x1b[2m$\x1b[0m \x1b[36msolstice status\x1b[0m\n  one\r\x1b[Kheight 1\r\x1b[Kheight 2\r\x1b[K  \x1b[32m✓\x1b[0m done\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			s := &screen{out: &out, terminal: tt.terminal, colour: tt.colour}
			s.command("solstice status")
			if _, err := s.Write([]byte("one\n")); err != nil {
				t.Fatal(err)
			}
			s.now("height %d", 1)
			s.now("height %d", 2)
			s.done("done")
			if got := out.String(); got != tt.want {
				t.Errorf("shown %q, want %q", got, tt.want)
			}
		})
	}
}

// TestBar: the bar is never longer or shorter than it should be.
func TestBar(t *testing.T) {
	for _, tt := range []struct{ part, whole int64 }{{0, 0}, {0, 7}, {3, 7}, {7, 7}} {
		got := (&screen{}).bar(tt.part, tt.whole)
		if n := len([]rune(got)); n != 24 {
			t.Errorf("bar(%d, %d) = %q, %d wide, want 24", tt.part, tt.whole, got, n)
		}
	}
}
