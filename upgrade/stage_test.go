package upgrade

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"solstice/artifact"
	"solstice/internal/durable"
)

// TestStageFails: what can't be placed leaves what is there: a folder in the binary's
// place, or nothing, where no file can have the name.
func TestStageFails(t *testing.T) {
	for _, there := range []bool{true, false} {
		home := newHome(t)
		path := home.Binary("upgrades/v2")
		if there {
			write(t, filepath.Join(path, "kept"), "old")
		} else {
			home.Name = strings.Repeat("n", 256)
		}
		binary := filepath.Join(t.TempDir(), "binary")
		write(t, binary, "#!/bin/sh\n")
		if _, _, _, err := Stage(home, "v2", binary, true); err == nil || !there && !strings.Contains(err.Error(), "file name too long") {
			t.Fatalf("error %v", err)
		}
		left, _ := filepath.Glob(filepath.Join(home.Upgrades(), "v2", "bin", "*"))
		if there && (len(left) != 1 || left[0] != path) {
			t.Errorf("left: %q", left)
		}
		if content, err := os.ReadFile(filepath.Join(path, "kept")); there && (err != nil || string(content) != "old") {
			t.Errorf("what was there: %q, %v", content, err)
		}
		if _, err := os.Lstat(filepath.Join(home.Upgrades(), "v2")); !there && err == nil {
			t.Error("a folder is left")
		}
	}
}

// TestStageUndone: the old binary is back, and nothing else is there.
func TestStageUndone(t *testing.T) {
	home := newHome(t)
	path := home.Binary("upgrades/v2")
	write(t, path, "#!/bin/sh\necho old\n")
	binary := filepath.Join(t.TempDir(), "binary")
	write(t, binary, "#!/bin/sh\n")
	_, undo, _, err := Stage(home, "v2", binary, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := undo(); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if content, readErr := os.ReadFile(path); err != nil || len(entries) != 1 || readErr != nil || string(content) != "#!/bin/sh\necho old\n" {
		t.Errorf("%v, %v; %q, %v", entries, err, content, readErr)
	}
}

// TestSweepDownloads: what is left of a download goes when the binary is there, and not before.
func TestSweepDownloads(t *testing.T) {
	home := newHome(t)
	done := filepath.Join(home.DownloadDir(), downloadsOf("upgrades/v2")+"0")
	open := filepath.Join(home.DownloadDir(), downloadsOf("upgrades/v3")+"0")
	for _, folder := range []string{done, open} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, home.Binary("upgrades/v2"), "#!/bin/sh\n")
	write(t, filepath.Join(home.Upgrades(), "v3", "bin", durable.TempPrefix+"noded"), "#!/bin")
	if err := Sweep(home); err != nil {
		t.Error(err)
	}
	for folder, want := range map[string]bool{done: false, open: true} {
		if _, err := os.Lstat(folder); (err == nil) != want {
			t.Errorf("%s: %v", folder, err)
		}
	}
}

// TestPlaceAgain: libraries that a cut left without their binary don't stand in the way.
func TestPlaceAgain(t *testing.T) {
	home := newHome(t)
	from := t.TempDir()
	got := artifact.Got{Path: filepath.Join(from, "noded"), Libraries: []string{filepath.Join(from, "lib.so")}}
	write(t, got.Path, "#!/bin/sh\n")
	write(t, got.Libraries[0], "\x7fELF")
	placed := filepath.Join(artifact.Libraries(home.Binary("upgrades/v2")), "lib.so")
	write(t, placed, "\x7f")
	write(t, home.PreparedFile(), "")
	if err := place(home, got, &Prepared{Dir: "upgrades/v2", Plan: "v2"}); err != nil {
		t.Error(err)
	}
	if content, err := os.ReadFile(placed); err != nil || string(content) != "\x7fELF" {
		t.Errorf("the library: %q, %v", content, err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
}
