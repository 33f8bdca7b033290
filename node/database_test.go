package node

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble"
	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/journal"

	"solstice"
)

// kinds are the databases that can be read.
var kinds = []string{goLevelDB, pebbleDB}

// writer is an open database of either kind.
type writer interface {
	put(key, value []byte) error
	flush() error // what was put goes into tables
	Close() error
}

type levelWriter struct{ *leveldb.DB }

func (w levelWriter) put(key, value []byte) error { return w.Put(key, value, nil) }
func (w levelWriter) flush() error                { return nil } // it does that when it is opened

type pebbleWriter struct{ *pebble.DB }

func (w pebbleWriter) put(key, value []byte) error { return w.Set(key, value, pebble.Sync) }
func (w pebbleWriter) flush() error                { return w.Flush() }

// create opens a database as a node does, and makes it if it is not there.
func create(t testing.TB, kind, dir string) writer {
	t.Helper()
	if kind == goLevelDB {
		db, err := leveldb.OpenFile(dir, nil)
		check(t, err)
		return levelWriter{db}
	}
	check(t, os.MkdirAll(filepath.Dir(dir), 0o755))
	db, err := pebble.Open(dir, &pebble.Options{Logger: pebbleLogger{}})
	check(t, err)
	return pebbleWriter{db}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// makeDatabase makes a database with a table and a journal, in which a key has this value.
func makeDatabase(t testing.TB, kind, dir, key string, value []byte) {
	t.Helper()
	for i := range 3 {
		db := create(t, kind, dir)
		for j := range 4 {
			check(t, db.put(fmt.Appendf(nil, "s/k:bank/%d/%d", i, j), make([]byte, 10)))
		}
		check(t, db.put([]byte(key), varint(1, int64(i+1))))
		if i == 2 {
			check(t, db.put([]byte(key), value))
		} else {
			check(t, db.flush())
		}
		check(t, db.Close())
	}
}

// put writes keys and their values into a database, which is made if it is not there.
func put(t testing.TB, kind, dir string, pairs ...string) {
	t.Helper()
	db := create(t, kind, dir)
	for i := 0; i < len(pairs); i += 2 {
		check(t, db.put([]byte(pairs[i]), []byte(pairs[i+1])))
	}
	check(t, db.Close())
}

// stateOf is a State as CometBFT keeps it.
func stateOf(height, initial int64, chainID string) []byte {
	return join(nested(1, varint(1, 11)), text(2, chainID), varint(3, height), varint(14, initial))
}

// stoppedNode is a home with the files of a node that has stored this block and committed the
// one before it.
func stoppedNode(t testing.TB, kind string, height int64) (solstice.Home, Settings) {
	t.Helper()
	home := solstice.Home{Node: t.TempDir(), Name: "noded"}
	makeDatabase(t, kind, filepath.Join(home.Data(), "application.db"), "s/latest", varint(1, height-1))
	blocks := join(varint(1, 3), varint(2, height))
	makeDatabase(t, kind, filepath.Join(home.Data(), "blockstore.db"), "blockStore", blocks)
	makeDatabase(t, kind, filepath.Join(home.Data(), "state.db"), "stateKey", stateOf(height-1, 3, "cosmoshub-4"))
	write(t, filepath.Join(home.Data(), "cs.wal", "wal"), join(ended(height-1), ended(height)))
	settings := ReadSettings(home, nil, noEnv)
	settings.DBBackend, settings.AppDBBackend = kind, kind
	return home, settings
}

// readings are the readings of databases, by name.
func readings(h Heights) map[string]Reading {
	return map[string]Reading{"application.db": h.Committed, "blockstore.db": h.Stored, "state.db": h.State}
}

// makeLarge gives a database this many more tables, of 2 MiB each, which share one empty
// file: opening it, nobody looks into tables.
func makeLarge(t testing.TB, kind, dir string, tables int) {
	t.Helper()
	current, err := os.ReadFile(filepath.Join(dir, "CURRENT"))
	check(t, err)
	manifest := filepath.Join(dir, string(bytes.TrimSpace(current)))
	content, err := os.ReadFile(manifest)
	check(t, err)
	var rewritten bytes.Buffer
	records := journal.NewWriter(&rewritten)
	add := func(record []byte) {
		w, err := records.Next()
		check(t, err)
		_, err = w.Write(record)
		check(t, err)
	}
	for in := journal.NewReader(bytes.NewReader(content), nil, true, true); ; {
		r, err := in.Next()
		if err == io.EOF {
			break
		}
		check(t, err)
		record, err := io.ReadAll(r)
		check(t, err)
		add(record)
	}
	const first, size, level = 1000, 2 << 20, 6
	extension := map[string]string{goLevelDB: "ldb", pebbleDB: "sst"}[kind]
	name := func(i int) string { return filepath.Join(dir, fmt.Sprintf("%06d.%s", first+i, extension)) }
	write(t, name(0), nil)
	check(t, os.Truncate(name(0), size))
	// Both are heirs of LevelDB, and have its records: 7 is a new table, 3 the next number of
	// a file.
	var record []byte
	for i := range tables {
		if i > 0 {
			check(t, os.Link(name(0), name(i)))
		}
		record = append(record, 7, level)
		record = binary.AppendUvarint(binary.AppendUvarint(record, uint64(first+i)), size)
		for edge := range 2 {
			key := binary.BigEndian.AppendUint64([]byte("s/p:another/"), uint64(2*i+edge))
			key = append(key, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0)
			record = append(binary.AppendUvarint(record, uint64(len(key))), key...)
		}
	}
	add(binary.AppendUvarint(append(record, 3), uint64(first+tables)))
	check(t, records.Close())
	write(t, manifest, rewritten.Bytes())
}

// TestBothKinds: either kind of database tells the same, and the files tell which one it is.
func TestBothKinds(t *testing.T) {
	for _, kind := range kinds {
		for _, configured := range append(slices.Clone(kinds), rocksDB) {
			t.Run(kind+"-configured-"+configured, func(t *testing.T) {
				home, settings := stoppedNode(t, kind, 37)
				put(t, kind, filepath.Join(home.Data(), "application.db"), index, "1.1.0-36", doneV2, yes, scheduled, planOfV4)
				settings.DBBackend, settings.AppDBBackend = configured, configured
				h := ReadHeights(home, settings)
				for _, r := range []struct {
					reading Reading
					want    int64
				}{{h.Committed, 36}, {h.Stored, 37}, {h.State, 36}} {
					if r.reading.Height != r.want || r.reading.Err != nil || (r.reading.Differs == "") != (kind == configured) {
						t.Errorf("%+v, want height %d", r.reading, r.want)
					}
				}
				if got, want := describeUpgrades(h.Upgrades), "done [v2 at height 22] scheduled v4 at height 150"; got != want {
					t.Errorf("upgrades: %s, want %s", got, want)
				}
				if h.Base != 3 || h.Initial != 3 || h.ChainID != "cosmoshub-4" || h.Empty {
					t.Errorf("%+v", h)
				}
			})
		}
	}
}

// TestDiffersIsTold: who reads the evidence is told that the configuration names another kind.
func TestDiffersIsTold(t *testing.T) {
	home, settings := stoppedNode(t, pebbleDB, 37)
	settings.AppDBBackend = goLevelDB
	got := ReadHeights(home, settings).Committed.Says("committed")
	want := "committed 36, says application.db (files are pebbledb, configured is goleveldb)"
	if got != want {
		t.Errorf("Says = %s, want %s", got, want)
	}
}

// TestLargeDatabase: what is read of a database with many tables is right.
func TestLargeDatabase(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			home, settings := stoppedNode(t, kind, 37)
			makeLarge(t, kind, filepath.Join(home.Data(), "application.db"), 500)
			h := ReadHeights(home, settings)
			if h.Committed.Height != 36 || h.Committed.Err != nil {
				t.Errorf("%+v", h.Committed)
			}
		})
	}
}

// TestNoneIsThere: only of a database whose folder is missing is it said that there is none.
func TestNoneIsThere(t *testing.T) {
	for _, kind := range kinds {
		home, settings := stoppedNode(t, kind, 37)
		dir := filepath.Join(home.Data(), "application.db")
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		check(t, err)
		for _, path := range files {
			content, err := os.ReadFile(path)
			check(t, err)
			remove(t, path)
			r := committedHere(home, settings)
			if errors.Is(r.Err, fs.ErrNotExist) || strings.Contains(r.Says("committed"), "none is there") {
				t.Errorf("without %s: %v", filepath.Base(path), r.Err)
			}
			write(t, path, content)
		}
		remove(t, dir)
		if r := committedHere(home, settings); !errors.Is(r.Err, fs.ErrNotExist) || r.Says("committed") != "none is there" {
			t.Errorf("without the folder: %v", r.Err)
		}
	}
}
