package rollback

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"solstice"
	"solstice/internal/durable"
	"solstice/node"
	"solstice/signstate"
	"solstice/snapshot"
	"solstice/upgrade"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, []byte(content), 0o755))
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(content)
}

// upgraded is a home after an upgrade to v2 whose migration failed: data/ and wasm/ were changed, the settings too, and the
// validator has signed on.
func upgraded(t *testing.T) Home {
	t.Helper()
	dir := t.TempDir()
	home := solstice.Home{Dir: dir, Node: dir, Name: "noded", StateDir: filepath.Join(dir, "cosmovisor", ".solstice")}
	settings := node.ReadSettings(home, nil, func(string) string { return "" })
	h := Home{
		Home: home, Settings: settings, Snapshots: snapshot.Store{Home: home},
		Signs: &signstate.Guard{Validator: signstate.Validator{KeyFile: settings.KeyFile, StateFile: settings.StateFile}, Marks: signstate.OpenMarks(home)},
	}
	check(t, os.MkdirAll(home.StateDir, 0o700))
	for _, binary := range []string{"genesis", v2.Dir} {
		write(t, home.Binary(binary), "#!/bin/sh\n# "+binary+"\n")
	}
	check(t, os.Symlink("genesis", home.CurrentLink()))
	write(t, settings.KeyFile, `{"address":"6A1B2C3D4E5F60718293A4B5C6D7E8F901234567"}`)
	write(t, settings.StateFile, `{"height":"99","round":0,"step":3}`)
	write(t, filepath.Join(dir, "data/application.db/CURRENT"), "MANIFEST-000002\n")
	write(t, filepath.Join(dir, "data/application.db/MANIFEST-000002"), "not one that can be read")
	write(t, filepath.Join(dir, "data/application.db/000001.ldb"), "table")
	write(t, filepath.Join(dir, "data/application.db/000003.log"), "old log")
	write(t, filepath.Join(dir, "data/gone.json"), "{}")
	write(t, filepath.Join(dir, "data/cs.wal/wal"), "old votes")
	write(t, filepath.Join(dir, "wasm/state/x"), "old code")
	write(t, filepath.Join(dir, "config/app.toml"), "old = true\n")
	write(t, filepath.Join(dir, "config/config.toml"), "same = true\n")
	write(t, home.PlanFile(), string(v2.File()))

	u := &upgrade.Upgrade{
		Home: home, Plan: v2.Plan, Dir: v2.Dir, From: "genesis", Node: noNode{}, Options: upgrade.Options{HookTimeout: time.Minute},
		Probes: &upgrade.Probes{Dir: home.StateDir}, Log: slog.New(slog.DiscardHandler),
	}
	check(t, u.Begin())
	check(t, u.Run(t.Context()))
	write(t, settings.StateFile, `{"height":"100","round":0,"step":3}`)
	check(t, os.Remove(filepath.Join(dir, "data/application.db/000001.ldb")))
	check(t, os.Remove(filepath.Join(dir, "data/gone.json")))
	write(t, filepath.Join(dir, "data/application.db/000003.log"), "new log")
	write(t, filepath.Join(dir, "data/application.db/000004.ldb"), "new table")
	write(t, filepath.Join(dir, "data/cs.wal/wal.000"), "full piece")
	write(t, filepath.Join(dir, "data/cs.wal/wal"), "new votes")
	write(t, filepath.Join(dir, "wasm/state/x"), "new code")
	write(t, filepath.Join(dir, "config/app.toml"), "new = true\n")
	check(t, upgrade.WriteHeight(home, upgrade.HeightRecord{Committed: 98, At: time.Now()}))
	return h
}

type noNode struct{}

func (noNode) Stop(context.Context) error { return nil }
func (noNode) Locks() []*os.File          { return nil }

// tree is every file below a folder with its content, but what only we read.
func tree(t *testing.T, root string) string {
	t.Helper()
	var lines []string
	check(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if strings.HasPrefix(rel, "data-backup-") || strings.HasPrefix(rel, "cosmovisor/.solstice/") {
			return nil
		}
		if e.Type()&fs.ModeSymlink != 0 {
			target, _ := os.Readlink(path)
			lines = append(lines, rel+" -> "+target)
			return nil
		}
		lines = append(lines, fmt.Sprintf("%s: %q", rel, read(t, path)))
		return nil
	}))
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// checkBack: the home is where it was before the upgrade, but for the sign state, and what was there lies beside it.
func checkBack(t *testing.T, h Home, corrected string) {
	t.Helper()
	for path, want := range map[string]string{
		"data/application.db/000001.ldb": "table", "data/application.db/000003.log": "old log", "data/application.db/000004.ldb": "",
		"data/gone.json": "{}", "wasm/state/x": "old code", "config/app.toml": "old = true\n", "config/config.toml": "same = true\n",
		"data/priv_validator_state.json": `{"height":"100","round":0,"step":3}`,
		"data/cs.wal/wal":                "new votes", "data/cs.wal/wal.000": "full piece", // with the sign state that they belong to
		"data/upgrade-info.json":                   string(v2.File()),
		"cosmovisor/upgrades/v2/upgrade-info.json": "", "cosmovisor/upgrades/v2/bin/noded": corrected,
		"cosmovisor/.solstice/rollback.json": "",
	} {
		if got := read(t, filepath.Join(h.Dir, path)); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if link, err := os.Readlink(h.CurrentLink()); err != nil || link != "genesis" {
		t.Errorf("current -> %q, %v", link, err)
	}
	for pattern, want := range map[string]string{
		"data-before-*/application.db/000003.log": "new log", "wasm-before-*/state/x": "new code", "config/app.toml.before-*": "new = true\n",
		"cosmovisor/upgrades/v2/bin/noded.rolled-back-*": "#!/bin/sh\n# upgrades/v2\n",
	} {
		found, _ := filepath.Glob(filepath.Join(h.Dir, pattern))
		if len(found) != 1 || read(t, found[0]) != want {
			t.Errorf("%s: %q", pattern, found)
		}
	}
	check(t, filepath.WalkDir(h.Dir, func(path string, e fs.DirEntry, err error) error {
		if strings.HasPrefix(e.Name(), durable.TempPrefix) {
			t.Errorf("debris: %s", path)
		}
		return err
	}))
	entries, err := upgrade.OpenJournal(h.Home).Read()
	check(t, err)
	history := entries.History()
	if len(history) != 1 || history[0].State != "rolled back" {
		t.Errorf("history: %+v", history)
	}
	if record, err := upgrade.ReadHeight(h.Home); err != nil || record.Committed != 99 {
		t.Errorf("height record: %+v, %v", record, err)
	}
	facts, err := upgrade.Gather(h.Home, upgrade.Live{}, nil)
	check(t, err)
	want := upgrade.Wait
	if corrected != "" {
		want = upgrade.CarryOut
	}
	if d := upgrade.Decide(facts.Facts); d.Action != want || !d.Plan.Is(v2.Plan) {
		t.Errorf("decided then: %v %v", d.Action, d.Plan)
	}
}

func (h Home) way(t *testing.T, wish Wish) (Sight, Way) {
	t.Helper()
	sight, err := h.Look(t.Context())
	check(t, err)
	way, err := Choose(sight, wish)
	check(t, err)
	return sight, way
}

// TestRollback goes the whole way, without a corrected binary and with one.
func TestRollback(t *testing.T) {
	for _, corrected := range []string{"", "#!/bin/sh\n# corrected\n"} {
		t.Run(fmt.Sprintf("corrected-%t", corrected != ""), func(t *testing.T) {
			h := upgraded(t)
			var wish Wish
			if corrected != "" {
				wish.Binary = filepath.Join(h.Dir, "new")
				write(t, wish.Binary, corrected)
			}
			before := tree(t, h.Dir)
			sight, way := h.way(t, wish)
			if tree(t, h.Dir) != before {
				t.Error("looking has changed something")
			}
			_, err := h.Go(t.Context(), sight, way, slog.New(slog.DiscardHandler), nil)
			check(t, err)
			checkBack(t, h, corrected)
		})
	}
}

// TestCutAnywhere cuts a rollback off after each of its actions, twice in a row, and lets the next start finish it.
func TestCutAnywhere(t *testing.T) {
	for n := 0; ; n++ {
		h := upgraded(t)
		wish := Wish{Binary: filepath.Join(h.Dir, "new")}
		write(t, wish.Binary, "#!/bin/sh\n# corrected\n")
		_, way := h.way(t, wish)
		r := h.record(way)
		check(t, h.ready(t.Context(), way, &r, nil))
		check(t, r.write(h.Home))
		actions := r.actions(h.Home)
		for _, do := range actions[:min(n, len(actions))] {
			check(t, do())
		}
		again, err := readRecord(h.Home)
		if err == nil { // cut off once more
			for _, do := range again.actions(h.Home)[:n] {
				check(t, do())
			}
		} else if n < len(actions) {
			t.Fatal(err)
		}
		what, err := Finish(h.Home)
		check(t, err)
		if (what == "") != (n >= len(actions)) {
			t.Errorf("after %d of %d actions: finished %q", n, len(actions), what)
		}
		checkBack(t, h, "#!/bin/sh\n# corrected\n")
		if t.Failed() || n == len(actions) {
			t.Logf("cut after %d of %d actions", n, len(actions))
			return
		}
	}
}

// TestVotesOfTheSnapshot: where the validator has signed nothing since, and on a node that signs nothing, everything is that
// of the snapshot.
func TestVotesOfTheSnapshot(t *testing.T) {
	for name, change := range map[string]func(Home){
		"signed-nothing-since": func(h Home) { write(t, h.Settings.StateFile, `{"height":"99","round":0,"step":3}`) },
		"no-validator":         func(h Home) { check(t, os.Remove(h.Settings.KeyFile)) },
	} {
		t.Run(name, func(t *testing.T) {
			h := upgraded(t)
			change(h)
			sight, way := h.way(t, Wish{})
			_, err := h.Go(t.Context(), sight, way, slog.New(slog.DiscardHandler), nil)
			check(t, err)
			if got := read(t, filepath.Join(h.Dir, "data/cs.wal/wal")); got != "old votes" {
				t.Errorf("WAL: %q", got)
			}
			if got := read(t, filepath.Join(h.Dir, "data/cs.wal/wal.000")); got != "" {
				t.Errorf("piece of the WAL: %q", got)
			}
		})
	}
}

// TestFailureChangesNothing: whatever fails before the record is written leaves the home as it was.
func TestFailureChangesNothing(t *testing.T) {
	for _, tt := range []struct {
		name, wantErr string
		spoil         func(Home)
	}{
		{"snapshot-broken", "is not whole", func(h Home) {
			found, _ := filepath.Glob(filepath.Join(h.Dir, "data-backup-*", "data", "gone.json"))
			check(t, os.Remove(found[0]))
		}},
		{"old-binary-gone", "the binary to go back to can't run", func(h Home) { check(t, os.Remove(h.Binary("genesis"))) }},
		{"corrected-binary-bad", "the corrected binary can't be used", func(h Home) { write(t, filepath.Join(h.Dir, "new"), "text") }},
		{"sign-state-below-mark", "can sign a height twice", func(h Home) {
			check(t, h.Signs.Marks.Raise("6A1B2C3D4E5F60718293A4B5C6D7E8F901234567", signstate.State{Height: 150}))
		}},
		{"state-folder-blocked", "", func(h Home) { check(t, os.Mkdir(h.RollbackFile(), 0o700)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := upgraded(t)
			write(t, filepath.Join(h.Dir, "new"), "#!/bin/sh\n")
			sight, way := h.way(t, Wish{Binary: filepath.Join(h.Dir, "new")})
			tt.spoil(h)
			before := tree(t, h.Dir)
			_, err := h.Go(t.Context(), sight, way, slog.New(slog.DiscardHandler), nil)
			if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
				t.Fatalf("error %v, want %q", err, tt.wantErr)
			}
			if after := tree(t, h.Dir); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

// FuzzReadRecord: whatever lies in its place, it is an error or a record of this home.
func FuzzReadRecord(f *testing.F) {
	home := solstice.Home{Dir: "/home", Node: "/home", Name: "noded", StateDir: f.TempDir()}
	f.Add([]byte(`{"home":"/home","what":"x","replace":[{"ready":"a","place":"b"}],"skip":{"plan":{"name":"v2","height":5}},"height":7}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		check(t, os.WriteFile(home.RollbackFile(), content, 0o600))
		r, err := readRecord(home)
		if err == nil && r.Home != home.Node {
			t.Errorf("a record of %q", r.Home)
		}
		if what, pendingErr := Pending(home); what != r.What || (pendingErr == nil) != (err == nil) {
			t.Errorf("pending %q, %v", what, pendingErr)
		}
	})
}
