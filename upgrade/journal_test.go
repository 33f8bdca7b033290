package upgrade

import (
	"testing"
	"time"

	"solstice"
)

// TestStandingOfPlansInARow: where the next plan's height follows at once, this binary makes no block beyond its own height,
// and the downtime ended with that.
func TestStandingOfPlansInARow(t *testing.T) {
	at := func(second int) time.Time { return time.Date(2026, 12, 1, 0, 0, second, 0, time.UTC) }
	entries := Entries{
		{Plan: v("v2", 100), Step: stepBegin, Time: at(0)},
		{Plan: v("v2", 100), Step: stepSwitch, Time: at(1)},
		{Plan: v("v2", 100), Step: stepStart, Time: at(2)},
		{Plan: v("v2", 100), Step: stepConfirm, Time: at(5), Height: 100},
	}
	if got := entries.History()[0].Standing.Total; got != 0 {
		t.Errorf("before any block beyond its height it stood still for %v, want 0: not known", got)
	}
	entries = append(entries, Entry{Plan: v("v3", 101), Step: stepBegin, Time: at(6)})
	if got, want := entries.History()[0].Standing.Total, solstice.Seconds(5*time.Second); got != want {
		t.Errorf("it stood still for %v, want %v", got, want)
	}
}
