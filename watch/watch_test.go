package watch

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestHints: every way in which a plan file can come is seen, by events alone and by the poll alone.
func TestHints(t *testing.T) {
	for _, poll := range []time.Duration{0, 5 * time.Millisecond} {
		for _, tt := range []struct {
			name  string
			setup func(t *testing.T, home string)
			act   func(t *testing.T, home string)
		}{
			{"written", mkData, func(t *testing.T, home string) { write(t, home+"/data/f", "x") }},
			{"grows", func(t *testing.T, home string) { mkData(t, home); write(t, home+"/data/f", "x") },
				func(t *testing.T, home string) { appendTo(t, home+"/data/f", "y") }},
			{"replaced-by-rename", func(t *testing.T, home string) { mkData(t, home); write(t, home+"/data/f", "x") },
				func(t *testing.T, home string) {
					write(t, home+"/g", "x")
					check(t, os.Rename(home+"/g", home+"/data/f"))
				}},
			{"removed", func(t *testing.T, home string) { mkData(t, home); write(t, home+"/data/f", "x") },
				func(t *testing.T, home string) { check(t, os.Remove(home+"/data/f")) }},
			{"folder-appears", func(*testing.T, string) {}, func(t *testing.T, home string) { mkData(t, home); write(t, home+"/data/f", "x") }},
			{"folder-is-replaced", mkData, func(t *testing.T, home string) {
				check(t, os.Mkdir(home+"/new", 0o755))
				check(t, os.Rename(home+"/data", home+"/old"))
				check(t, os.Rename(home+"/new", home+"/data"))
				write(t, home+"/data/f", "x")
			}},
			{"folder-is-a-link-that-changes", func(t *testing.T, home string) {
				check(t, os.Mkdir(home+"/one", 0o755))
				check(t, os.Symlink("one", home+"/data"))
			}, func(t *testing.T, home string) {
				check(t, os.Mkdir(home+"/two", 0o755))
				check(t, os.Symlink("two", home+"/link"))
				check(t, os.Rename(home+"/link", home+"/data"))
				write(t, home+"/two/f", "x")
			}},
		} {
			name := tt.name + "-by-events"
			if poll > 0 {
				name = tt.name + "-with-poll"
			}
			t.Run(name, func(t *testing.T) {
				home := t.TempDir()
				tt.setup(t, home)
				f, err := New(filepath.Join(home, "data", "f"), poll)
				check(t, err)
				defer f.Close()
				tt.act(t, home)
				select {
				case <-f.Hints():
				case <-time.After(10 * time.Second):
					t.Fatal("no hint")
				}
			})
		}
	}
}

// TestStampTells: no two states of a file have the same stamp.
func TestStampTells(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	none := StampOf(path)
	write(t, path, "x")
	one := StampOf(path)
	check(t, os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)))
	two := StampOf(path)
	if none == one || one == two || none != (Stamp{}) {
		t.Errorf("stamps %v, %v, %v", none, one, two)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mkData(t *testing.T, home string) {
	t.Helper()
	check(t, os.Mkdir(filepath.Join(home, "data"), 0o755))
}

func write(t *testing.T, path, content string) {
	t.Helper()
	check(t, os.WriteFile(path, []byte(content), 0o644))
}

func appendTo(t *testing.T, path, content string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	check(t, err)
	_, err = f.WriteString(content)
	check(t, err)
	check(t, f.Close())
}
