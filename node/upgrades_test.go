package node

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// Entries as SDK v0.54 with IAVL v1.2 has written them.
const (
	doneV2     = "s/k:upgrade/f\x01\x00\x00\x00\x00\x00\x00\x00\x16v2"
	doneV3     = "s/k:upgrade/f\x01\x00\x00\x00\x00\x00\x00\x00\x24v3"
	yes        = "\x48\x01\x01"
	scheduled  = "s/k:upgrade/f\x00"
	planOfV4   = "\x48\x0d\x0a\x02v4\x12\x00\x18\x96\x01\x22\x02{}"
	index      = "s/k:upgrade/mstorage_version"
	otherStore = "s/k:upgradex/f\x01\x00\x00\x00\x00\x00\x00\x00\x16v9"
	otherKey   = "s/k:upgrade/f\x02bank"
)

func TestReadUpgrades(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pairs []string
		want  string
	}{
		{"new-chain", []string{index, "1.1.0-36", otherKey, yes}, "done [] scheduled <nil>"},
		{"two-done", []string{index, "1.1.0-36", doneV3, yes, doneV2, yes, otherStore, yes, otherKey, yes}, "done [v2 at height 22 v3 at height 36] scheduled <nil>"},
		{"one-scheduled", []string{index, "1.1.0-36", doneV2, yes, scheduled, planOfV4}, "done [v2 at height 22] scheduled v4 at height 150"},
		{"before-v0.46", []string{index, "1.1.0-36", "s/k:upgrade/f\x01v2", "\x48\x08\x00\x00\x00\x00\x00\x00\x00\x16"}, "done [v2 at height 22] scheduled <nil>"},
		{"no-index", []string{doneV2, yes}, "error: no index (iavl-disable-fastnode) and no tree at height 36"},
		{"index-of-before", []string{index, "1.1.0-30", doneV2, yes}, "error: no index (iavl-disable-fastnode) and no tree at height 36"},
		{"done-in-the-future", []string{index, "1.1.0-36", "s/k:upgrade/f\x01\x00\x00\x00\x00\x00\x00\x00\x25v2", yes}, "error: plan v2 at height 37 is marked as completed, but the height is 36"},
		{"no-name", []string{index, "1.1.0-36", "s/k:upgrade/f\x01\x00\x00\x00\x00\x00\x00\x00\x16", yes}, "error: too short"},
		{"leads-away", []string{index, "1.1.0-36", "s/k:upgrade/f\x01\x00\x00\x00\x00\x00\x00\x00\x16..", yes}, "error: not a directory name"},
		{"damaged-value", []string{index, "1.1.0-36", doneV2, "\x48\x05\x01"}, "error: no value of an index"},
		{"damaged-plan", []string{index, "1.1.0-36", scheduled, "\x48\x01\x0a"}, "error: the scheduled plan"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			home, settings := stoppedNode(t, goLevelDB, 37) // committed 36
			put(t, goLevelDB, filepath.Join(home.Data(), "application.db"), tt.pairs...)
			h := ReadHeights(home, settings)
			if h.Committed.Height != 36 || h.Committed.Err != nil {
				t.Errorf("committed: %+v", h.Committed)
			}
			checkUpgrades(t, h.Upgrades, tt.want)
		})
	}
}

// checkUpgrades compares upgrades with their description, or of an error with a part of it.
func checkUpgrades(t *testing.T, u Upgrades, want string) {
	t.Helper()
	got := describeUpgrades(u)
	part, isError := strings.CutPrefix(want, "error: ")
	if isError && !(strings.HasPrefix(got, "error: ") && strings.Contains(got, part)) || !isError && got != want {
		t.Errorf("upgrades: %s, want %s", got, want)
	}
}

func describeUpgrades(u Upgrades) string {
	if u.Err != nil {
		return "error: " + u.Err.Error()
	}
	return fmt.Sprintf("done %v scheduled %v", u.Done, u.Scheduled)
}

// TestUpgradesAreUnknownWithoutHeight: where the height is not known, neither is what was done up to it.
func TestUpgradesAreUnknownWithoutHeight(t *testing.T) {
	home, settings := stoppedNode(t, goLevelDB, 37)
	remove(t, filepath.Join(home.Data(), "application.db", "CURRENT"))
	if h := ReadHeights(home, settings); h.Upgrades.Err == nil || h.Upgrades.Done != nil {
		t.Errorf("upgrades: %+v", h.Upgrades)
	}
}

func FuzzUpgrade(f *testing.F) {
	f.Add([]byte(strings.TrimPrefix(doneV2, indexPrefix)), []byte("\x01"))
	f.Add([]byte("\x01v2"), []byte("\x00\x00\x00\x00\x00\x00\x00\x16"))
	f.Add([]byte(scheduledKey), []byte(planOfV4[2:]))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		var u Upgrades
		if err := u.see(key, value, 36); err != nil {
			return
		}
		for _, plan := range u.Done {
			if plan.Validate() != nil || plan.Height > 36 {
				t.Errorf("done: %v", plan)
			}
		}
		if u.Scheduled != nil && u.Scheduled.Validate() != nil {
			t.Errorf("scheduled: %v", u.Scheduled)
		}
	})
}

func FuzzParseIndexed(f *testing.F) {
	f.Add([]byte(planOfV4))
	f.Add([]byte(yes))
	f.Fuzz(func(t *testing.T, entry []byte) {
		if value, err := parseIndexed(entry); err == nil && len(value) >= len(entry) {
			t.Errorf("parseIndexed = %q", value)
		}
	})
}
