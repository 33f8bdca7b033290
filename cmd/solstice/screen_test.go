package main

import (
	"strings"
	"testing"

	"solstice/simulate"
)

// TestScreen: on a terminal the nodes' lines stay at the bottom and leave nothing behind; elsewhere there is a line for what is new, and no
// control character.
func TestScreen(t *testing.T) {
	one := simulate.View{Name: "validator0", Height: 1, Version: "genesis", State: "running"}
	two := one
	two.Height = 2
	three := two
	three.State = "v2: snapshot"
	show := func(s *screen) {
		s.Show([]simulate.View{one})
		s.Show([]simulate.View{two})
		s.Say("proposal %d", 7)
		s.Show([]simulate.View{three})
		s.End()
	}
	var plain strings.Builder
	show(&screen{out: &plain, width: 80, said: map[string]string{}})
	if got, want := plain.String(), "  validator0     height 1        genesis    running\nproposal 7\n  validator0     height 2        genesis    v2: snapshot\n"; got != want {
		t.Errorf("shown elsewhere %q, want %q", got, want)
	}
	var live strings.Builder
	show(&screen{out: &live, terminal: true, width: 20, said: map[string]string{}})
	const line, clear = "  validator0     he\n", "\r\x1b[1A\x1b[J"
	if got, want := live.String(), line+clear+line+clear+"proposal 7\n"+line+clear+line+clear; got != want {
		t.Errorf("shown on a terminal %q, want %q", got, want)
	}
}
