package upgrade

import (
	"testing"
	"time"

	"solstice"
)

// TestDowntimeOfPlansInARow: a binary whose next plan follows at once makes no block beyond
// its own plan's height, so the downtime ends with that block.
func TestDowntimeOfPlansInARow(t *testing.T) {
	at := func(second int) time.Time { return time.Date(2026, 12, 1, 0, 0, second, 0, time.UTC) }
	entries := Entries{
		{Plan: v("v2", 100), Step: stepBegin, Time: at(0)},
		{Plan: v("v2", 100), Step: stepSwitch, Time: at(1)},
		{Plan: v("v2", 100), Step: stepStart, Time: at(2)},
		{Plan: v("v2", 100), Step: stepConfirm, Time: at(5), Height: 100},
	}
	if got := entries.History()[0].Standing.Total; got != 0 {
		t.Errorf("downtime before any block beyond the height = %v, want 0", got)
	}
	entries = append(entries, Entry{Plan: v("v3", 101), Step: stepBegin, Time: at(6)})
	if got, want := entries.History()[0].Standing.Total, solstice.Seconds(5*time.Second); got != want {
		t.Errorf("downtime = %v, want %v", got, want)
	}
}
