package rollback

import (
	"errors"
	"strings"
	"testing"

	"solstice"
	"solstice/node"
	"solstice/snapshot"
	"solstice/upgrade"
)

var (
	v2    = upgrade.Switched{Plan: solstice.Plan{Name: "v2", Height: 100}, Dir: "upgrades/v2"}
	v3    = upgrade.Switched{Plan: solstice.Plan{Name: "v3", Height: 200}, Dir: "upgrades/v3"}
	whole = &snapshot.Snapshot{ID: "v2-100-x", Manifest: snapshot.Manifest{Label: snapshot.Label{Plan: v2.Plan, Height: 99, Dir: "genesis"}}}
)

// switched is a home that was switched to v2, with a whole snapshot, and data that has changed since.
func switched(change func(*Sight)) Sight {
	s := Sight{
		Link: v2.Dir, Applied: []upgrade.Switched{v2}, Plan: v2.Plan, Stage: Switched, Dir: v2.Dir, Before: "genesis",
		Snapshot: whole, Seen: true, Told: 98,
	}
	if change != nil {
		change(&s)
	}
	return s
}

func committed(height int64) func(*Sight) {
	return func(s *Sight) {
		s.Heights.Committed = node.Reading{Height: height, File: "application.db"}
		s.Reached = height >= s.Plan.Height
	}
}

func TestChoose(t *testing.T) {
	both := func(changes ...func(*Sight)) Sight {
		return switched(func(s *Sight) {
			for _, change := range changes {
				change(s)
			}
		})
	}
	noSnapshot := func(s *Sight) { s.Snapshot = nil }
	broken := func(s *Sight) { s.Faults = []snapshot.Fault{{Path: "data/x", What: "it is missing"}} }
	unchanged := func(s *Sight) { s.Unchanged = true }
	due := func(s *Sight) { s.Stage, s.Link, s.Applied = Due, "genesis", nil }
	begun := func(s *Sight) { s.Stage, s.Link, s.Applied = Begun, "genesis", nil }
	manual := func(s *Sight) { s.Manual = true }
	skipped := func(s *Sight) { s.Skipped = []upgrade.Skipped{{Plan: s.Plan}} }
	for _, tt := range []struct {
		name  string
		sight Sight
		wish  Wish
		want  string // what is done, in short
		says  string // part of the case, or of the refusal
	}{
		{"migration-failed", both(committed(99)), Wish{}, "restore link=genesis undo=v2 aside=upgrades/v2", "its height was never committed; the data has changed and is restored"},
		{"migration-failed-unread", both(), Wish{}, "restore link=genesis undo=v2 aside=upgrades/v2", "its height was never committed; the data has changed"},
		{"height-not-known", both(func(s *Sight) { s.Seen = false }), Wish{}, "restore link=genesis undo=v2 aside=upgrades/v2", "nothing tells that its height was committed"},
		{"data-untouched", both(committed(99), unchanged), Wish{}, "link=genesis undo=v2 aside=upgrades/v2", "the data is as it was; it stays"},
		{"no-snapshot", both(committed(99), noSnapshot), Wish{}, "link=genesis undo=v2 aside=upgrades/v2", "there is no whole snapshot, so the data stays"},
		{"broken-snapshot", both(committed(99), broken), Wish{}, "link=genesis undo=v2 aside=upgrades/v2", "there is no whole snapshot, so the data stays"},
		{"older-data", both(committed(90)), Wish{}, "link=genesis undo=v2 aside=upgrades/v2", "the data is older than the snapshot, at height 90"},
		{"corrected-binary", both(committed(99)), Wish{Binary: "/new"}, "restore link=genesis undo=v2 aside=upgrades/v2 binary=/new", "never committed"},
		{"skip", both(committed(99)), Wish{Skip: true}, "restore link=genesis undo=v2 skip", "never committed"},
		{"committed", both(committed(105)), Wish{}, "restore link=genesis undo=v2 aside=upgrades/v2", "6 blocks are undone with the snapshot"},
		{"committed-one", both(committed(100)), Wish{}, "restore link=genesis undo=v2 aside=upgrades/v2", "1 block is undone with the snapshot"},
		{"committed-told", both(func(s *Sight) { s.Reached, s.Told = true, 103 }), Wish{}, "restore link=genesis undo=v2 aside=upgrades/v2", "4 or more blocks are undone"},
		{"committed-chain", both(committed(101)), Wish{Chain: true}, "chain=2 link=genesis undo=v2 aside=upgrades/v2", "with the chain's own rollback command"},
		{"committed-no-snapshot", both(committed(101), noSnapshot), Wish{}, "chain=2 link=genesis undo=v2 aside=upgrades/v2", "with the chain's own rollback command"},
		{"committed-long-ago", both(committed(5000), noSnapshot), Wish{}, "", "no case fits: 4901 blocks have to be undone"},
		{"committed-unread-no-snapshot", both(func(s *Sight) { s.Reached = true }, noSnapshot), Wish{}, "", "how many blocks have to be undone is not known"},
		{"begun", both(committed(99), begun), Wish{}, "restore undo=v2 aside=upgrades/v2", "never committed"},
		{"due", both(committed(99), due), Wish{}, "", "plan v2 at height 100 is due and was not carried out"},
		{"due-skip", both(committed(99), due), Wish{Skip: true}, "skip", "nothing was done for it yet"},
		{"due-binary", both(committed(99), due), Wish{Binary: "/new"}, "aside=upgrades/v2 binary=/new", "nothing was done for it yet"},
		{"skipped-already", both(committed(99), due, skipped), Wish{Skip: true}, "", "plan v2 at height 100 is skipped"},
		{"skipped-taken-back", both(committed(99), due, skipped), Wish{Binary: "/new"}, "aside=upgrades/v2 binary=/new unskip", "is to be carried out after all"},
		{"manual", both(committed(105), manual), Wish{}, "restore link=genesis undo=v2 skip drop", "6 blocks are undone"},
		{"manual-corrected", both(committed(105), manual), Wish{Binary: "/new"}, "restore link=genesis undo=v2 aside=upgrades/v2 binary=/new", "6 blocks are undone"},
		{"nothing", Sight{Link: "genesis"}, Wish{}, "", "no upgrade to take back: the binary in use is that of genesis"},
		{"both-wishes", both(committed(99)), Wish{Skip: true, Binary: "/new"}, "", "either skipped or carried out"},
		{"before-unknown", both(committed(99), func(s *Sight) { s.Before = "" }), Wish{}, "", "which binary ran before plan v2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			way, err := Choose(tt.sight, tt.wish)
			var refused *solstice.RefusedError
			if tt.want == "" {
				if !errors.As(err, &refused) || !strings.Contains(refused.Reason, tt.says) || refused.Hint == "" {
					t.Fatalf("Choose: %v, %+v, want a refusal with a hint that says %q", err, way, tt.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := short(way); got != tt.want {
				t.Errorf("way: %s, want %s", got, tt.want)
			}
			if !strings.Contains(way.Case, tt.says) || way.Next == "" {
				t.Errorf("says %q, next %q, want %q", way.Case, way.Next, tt.says)
			}
		})
	}
}

// short is a way in a line.
func short(w Way) string {
	var parts []string
	add := func(ok bool, text string) {
		if ok {
			parts = append(parts, text)
		}
	}
	add(w.Chain > 0, "chain="+string(rune('0'+w.Chain)))
	add(w.Restore != nil, "restore")
	add(w.Link != "", "link="+w.Link)
	for _, u := range w.Undone {
		add(true, "undo="+u.Name)
	}
	add(w.SetAside != "", "aside="+w.SetAside)
	add(w.Binary != "", "binary="+w.Binary)
	add(w.Skip != nil, "skip")
	add(w.Unskip != nil, "unskip")
	add(w.Drop, "drop")
	return strings.Join(parts, " ")
}

// TestToSnapshot: the link goes where the snapshot was taken, and the switches after that are taken back.
func TestToSnapshot(t *testing.T) {
	sight := Sight{Link: v3.Dir, Applied: []upgrade.Switched{v2, v3}}
	for _, tt := range []struct {
		name  string
		label snapshot.Label
		sight Sight
		want  string
	}{
		{"before-the-first", snapshot.Label{Plan: v2.Plan, Dir: "genesis"}, sight, "restore link=genesis undo=v2 undo=v3"},
		{"before-the-last", snapshot.Label{Plan: v3.Plan, Dir: v2.Dir, Under: v2.Plan}, sight, "restore link=upgrades/v2 undo=v3"},
		{"same-binary", snapshot.Label{Dir: v3.Dir, Under: v3.Plan}, sight, "restore"},
		{"no-link-then", snapshot.Label{}, sight, "restore"},
		{"forward", snapshot.Label{Dir: v3.Dir, Under: v3.Plan}, Sight{Link: "genesis"}, "restore link=upgrades/v3 redo=v3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			way := ToSnapshot(tt.sight, snapshot.Snapshot{Manifest: snapshot.Manifest{Label: tt.label}})
			got := short(way)
			if way.Redone != nil {
				got += " redo=" + way.Redone.Name
			}
			if got != tt.want {
				t.Errorf("way: %s, want %s", got, tt.want)
			}
		})
	}
}
