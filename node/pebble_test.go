package node

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble"

	"solstice"
)

// TestPebbleFormats: all formats up to the newest of this version are read, and of a newer
// one is said which it is.
func TestPebbleFormats(t *testing.T) {
	for format := pebble.FormatMostCompatible; format <= pebble.FormatNewest; format++ {
		home := solstice.Home{Node: t.TempDir()}
		check(t, os.Mkdir(home.Data(), 0o755))
		options := &pebble.Options{Logger: pebbleLogger{}, FormatMajorVersion: format}
		db, err := pebble.Open(filepath.Join(home.Data(), "application.db"), options)
		check(t, err)
		for i := range 100 {
			check(t, db.Set(fmt.Appendf(nil, "s/k:bank/%d", i), make([]byte, 1000), pebble.NoSync))
		}
		check(t, db.Set([]byte("s/latest"), varint(1, 36), pebble.Sync))
		check(t, db.Flush())
		check(t, db.Close())
		r := committedHere(home, Settings{AppDBBackend: pebbleDB})
		if r.Height != 36 || r.Err != nil || r.Differs != "" {
			t.Errorf("format %d: %+v", format, r)
		}
	}
	home, settings := stoppedNode(t, pebbleDB, 37)
	write(t, filepath.Join(home.Data(), "application.db", "marker.format-version.000001.024"), nil)
	checkErr(t, committedHere(home, settings).Err, "written in format major version 24")
}

// TestCutOffPebble: wherever a file ends or is missing, or a byte is wrong, the answer is a
// height that was committed once, or an error.
func TestCutOffPebble(t *testing.T) {
	home, settings := stoppedNode(t, pebbleDB, 37)
	dir := filepath.Join(home.Data(), "application.db")
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	check(t, err)
	look := func(what string) {
		t.Helper()
		r := committedHere(home, settings)
		if r.Err == nil && r.Height != 36 && (r.Height < 1 || r.Height > 3) {
			t.Errorf("%s: %+v", what, r)
		}
		if r.Err != nil && strings.TrimSpace(r.Err.Error()) == "" {
			t.Errorf("%s: an error without a word", what)
		}
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		check(t, err)
		for i := 0; i < len(content); i += 1 + len(content)/100 {
			damaged := slices.Clone(content)
			damaged[i] ^= 0x80
			write(t, path, damaged)
			look(fmt.Sprintf("%s with byte %d changed", filepath.Base(path), i))
			write(t, path, content[:i])
			look(fmt.Sprintf("%s cut at %d", filepath.Base(path), i))
		}
		remove(t, path)
		look(filepath.Base(path) + " missing")
		write(t, path, content)
	}
	if r := committedHere(home, settings); r.Height != 36 || r.Err != nil {
		t.Errorf("undamaged again: %+v", r)
	}
}

// FuzzReadPebble: whatever lies in a file of a database, its height is one, or an error.
func FuzzReadPebble(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "application.db")
	makeDatabase(f, pebbleDB, dir, "s/latest", varint(1, 36))
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	check(f, err)
	contents := map[string][]byte{}
	for i, path := range paths {
		contents[path], err = os.ReadFile(path)
		check(f, err)
		f.Add(uint8(i), contents[path])
	}
	f.Fuzz(func(t *testing.T, which uint8, content []byte) {
		path := paths[int(which)%len(paths)]
		write(t, path, content)
		defer write(t, path, contents[path])
		read := func(db database) (int64, error) { return getHeight(db, "s/latest", parseLatest) }
		if r := readHeight(dir, pebbleDB, read); r.Err == nil && r.Height <= 0 {
			t.Errorf("%+v", r)
		}
	})
}
