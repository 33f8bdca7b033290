package snapshot

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/journal"
)

// edit is a version edit of LevelDB with this next-file number, beside all else that one can have.
func edit(next uint64) []byte {
	var e []byte
	number := func(ns ...uint64) {
		for _, n := range ns {
			e = binary.AppendUvarint(e, n)
		}
	}
	text := func(s string) {
		number(uint64(len(s)))
		e = append(e, s...)
	}
	number(tagComparer)
	text("leveldb.BytewiseComparator")
	number(tagJournal, 6, tagPrevJournal, 5, tagSequence, 1<<60, tagDeletedTable, 1, 4, tagCompactionAt, 2)
	text("key")
	number(tagAddedTable, 3, 7, 4096)
	text("from")
	text("to")
	number(tagNextFile, next)
	return e
}

// manifest is a MANIFEST with an edit for each number.
func manifest(nexts ...uint64) string {
	var content bytes.Buffer
	w := journal.NewWriter(&content)
	for _, next := range nexts {
		record, err := w.Next()
		if err == nil {
			_, err = record.Write(edit(next))
		}
		if err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return content.String()
}

// kinds are the files below a folder that are not copied, looked at as a snapshot does.
func kinds(t *testing.T, root string) []string {
	t.Helper()
	var found []string
	var look func(dir, rel, rule string)
	look = func(dir, rel, rule string) {
		entries, err := os.ReadDir(dir)
		check(t, err)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		folder := lookAt(dir, rel, rule, names)
		for _, e := range entries {
			name := path.Join(rel, e.Name())
			if e.IsDir() {
				look(filepath.Join(dir, e.Name()), name, folder.inside)
				continue
			}
			switch folder.kindOf(e.Name()) {
			case written:
				found = append(found, name)
			case derived:
				found = append(found, name+" (derived)")
			}
		}
	}
	for _, part := range []string{Data, Wasm, Config} {
		if _, err := os.Stat(filepath.Join(root, part)); err == nil {
			look(filepath.Join(root, part), part, "")
		}
	}
	return found
}

// TestLookAt: of each tree exactly the files that end in ! are linked.
func TestLookAt(t *testing.T) {
	hash := strings.Repeat("0a", 32)
	for _, tt := range []struct{ name, files string }{
		{"goleveldb", "data/application.db: 000123.ldb! 000124.sst! 000125.log CURRENT=MANIFEST-000122 CURRENT.bak MANIFEST-000122=leveldb LOCK LOG LOG.old 000001.tmp"},
		{"goleveldb, number of the next file", "data/tx_index.db: 000199.ldb! 000200.ldb 000201.ldb CURRENT=MANIFEST-000122 MANIFEST-000122=leveldb"},
		{"goleveldb, MANIFEST can't be read", "data/tx_index.db: 000300.ldb! CURRENT=MANIFEST-000122 MANIFEST-000122=garbage"},
		{"pebble with CURRENT", "data/state.db: 000300.sst! 000301.log CURRENT=MANIFEST-000122 MANIFEST-000122=leveldb OPTIONS-000003 LOCK temporary.000004.dbtmp"},
		{"pebble with markers", "data/state.db: 000300.sst! 000301.log marker.format-version.000001.013 marker.manifest.000002.MANIFEST-000122 MANIFEST-000122=leveldb OPTIONS-000003 LOCK"},
		{"pebble, marker of a MANIFEST that is gone", "data/state.db: 000300.sst marker.manifest.000002.MANIFEST-000122 MANIFEST-000121=leveldb OPTIONS-000003"},
		{"RocksDB", "data/application.db: 000300.sst! 000301.blob! 000302.log CURRENT=MANIFEST-000122 MANIFEST-000122=leveldb IDENTITY LOCK LOG LOG.old.1700000000 OPTIONS-000003"},
		{"tables without a database", "data/strange.db: 000123.ldb 000124.sst CURRENT"},
		{"CURRENT names nothing", "data/strange.db: 000123.ldb CURRENT=MANIFEST-000001 MANIFEST-000002"},
		{"CURRENT leaves the folder", "data/strange.db: 000123.ldb CURRENT=../MANIFEST-000122"},
		{"CURRENT is no number", "data/strange.db: 000123.ldb CURRENT=MANIFEST-x MANIFEST-x"},
		{"names that only look like tables", "data/application.db: 123.ldb.bak x123.ldb .ldb 1.5.sst 99999999999999999999.ldb CURRENT=MANIFEST-000122 MANIFEST-000122=leveldb"},
		{"BoltDB and BadgerDB", "data/application.db: 000001.vlog 000002.sst KEYREGISTRY MANIFEST DISCARD\ndata: blockstore.db"},
		{"state-sync", "data/snapshots: 7\ndata/snapshots/metadata.db: 000003.ldb! CURRENT=MANIFEST-000122 MANIFEST-000122=leveldb\ndata/snapshots/1000/3: 0! 1! 17! tmp 1.part\ndata/snapshots/temp/3: 0\ndata/snapshots/1000/x: 0"},
		{"no state-sync", "data/snapshots/1000/3: 0 1"},
		{"write-ahead log of the consensus", "data/cs.wal: wal wal.000! wal.001! wal.12345! wal.0 wal.000.CORRUPTED"},
		{"contracts", "wasm/wasm: exclusive.lock\nwasm/wasm/state/wasm: " + hash + "! " + hash[2:] + " " + strings.ToUpper(hash) +
			"\nwasm/wasm/cache/modules/v8-wasmer5/x86_64-nehalem: " + hash + "?\nwasm/wasm/cache/modules: v7?"},
		{"contracts in data", "data/wasm/state/wasm: " + hash + "!\ndata/wasm/cache/modules/v5: " + hash + "?\ndata/08-light-client/wasm/state/wasm: " + hash + "!"},
		{"no contracts", "data/x/cache/modules: " + hash + "\ndata/x/wasm: " + hash},
		{"settings", "config: genesis.json! app.toml config.toml client.toml addrbook.json\nconfig/x: genesis.json"},
		{"the rest", "data: priv_validator_state.json upgrade-info.json upgrade-info.json.batch genesis.json 000001.ldb 17 wal.000 " + hash},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := memory(t)
			var want []string
			for line := range strings.Lines(tt.files) {
				folder, files, _ := strings.Cut(strings.TrimSpace(line), ": ")
				for _, name := range strings.Fields(files) {
					name, content, _ := strings.Cut(name, "=")
					name, isWritten := strings.CutSuffix(name, "!")
					name, isDerived := strings.CutSuffix(name, "?")
					switch {
					case isWritten:
						want = append(want, folder+"/"+name)
					case isDerived:
						want = append(want, folder+"/"+name+" (derived)")
					}
					switch {
					case content == "leveldb":
						content = manifest(150, 170, 200)
					case strings.HasPrefix(name, "CURRENT"):
						content += "\n"
					}
					write(t, filepath.Join(root, folder, name), content)
				}
			}
			got := kinds(t, root)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("linked: %q\nwant:   %q", got, want)
			}
		})
	}
	// What names the MANIFEST must be a small file: reading it must neither block nor fill the memory.
	for _, current := range []string{"folder", "large"} {
		dir := memory(t)
		write(t, filepath.Join(dir, "data/x/MANIFEST-1"), manifest(9))
		write(t, filepath.Join(dir, "data/x/1.ldb"), "")
		if current == "folder" {
			check(t, os.Mkdir(filepath.Join(dir, "data/x/CURRENT"), 0o755))
		} else {
			write(t, filepath.Join(dir, "data/x/CURRENT"), "MANIFEST-1"+strings.Repeat("\n", 5000))
		}
		if got := kinds(t, dir); len(got) > 0 {
			t.Errorf("CURRENT is a %s: %q", current, got)
		}
	}
}

func TestNextFileNumber(t *testing.T) {
	whole := manifest(3, 1<<40, 12)
	large := manifest(slices.Repeat([]uint64{5}, 1000)...) // several blocks of the log
	for _, tt := range []struct {
		name, content string
		want          uint64
		ok            bool
	}{
		{"empty", "", 0, false},
		{"one", manifest(9), 9, true},
		{"the last counts", whole, 12, true},
		{"several blocks", large, 5, true},
		{"torn", whole[:len(whole)-1], 1 << 40, true},
		{"torn in the header", whole[:len(whole)-len(edit(12))-3], 1 << 40, true},
		{"zeros after it", whole + strings.Repeat("\x00", 5000), 12, true},
		{"garbage after it", whole + "garbage, and more of it", 12, true},
		{"garbage", "garbage, and more of it", 0, false},
	} {
		if got, ok := nextFileNumber(strings.NewReader(tt.content)); got != tt.want || ok != tt.ok {
			t.Errorf("%s: %d, %v, want %d, %v", tt.name, got, ok, tt.want, tt.ok)
		}
	}
	for n, e := 0, edit(300); n < len(e); n++ {
		if got, found := editNextFile(e[:n]); found {
			t.Errorf("%d bytes of an edit have the number %d", n, got)
		}
	}
}

// FuzzNextFile: whatever a MANIFEST holds, it is read to its end.
func FuzzNextFile(f *testing.F) {
	dir := f.TempDir()
	db, err := leveldb.OpenFile(dir, nil)
	check(f, err)
	check(f, db.Put([]byte("key"), []byte("value"), nil))
	check(f, db.Close())
	manifests, err := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
	check(f, err)
	real := content(f, manifests[0])
	if next, ok := nextFileNumber(strings.NewReader(real)); !ok || next < 2 {
		f.Errorf("a real MANIFEST has the number %d, %v", next, ok)
	}
	f.Add([]byte(real), uint64(7))
	f.Add([]byte(manifest(3, 12)), uint64(1<<63))
	f.Add(edit(300), uint64(0))
	f.Fuzz(func(t *testing.T, content []byte, next uint64) {
		nextFileNumber(bytes.NewReader(content))
		before := bytes.Clone(content)
		editNextFile(content)
		if !bytes.Equal(content, before) {
			t.Error("the edit was changed")
		}
		if _, found := editNextFile(append(edit(next), content...)); !found {
			t.Error("a whole number was not found")
		}
		if got, found := editNextFile(edit(next)); !found || got != next {
			t.Errorf("%d, %v, want %d", got, found, next)
		}
	})
}

// FuzzRead: a folder with any manifest and list is read without harm, and nothing outside of it is looked at.
func FuzzRead(f *testing.F) {
	one := take(f, newStore(f, node))
	f.Add([]byte(content(f, filepath.Join(one.Path, manifestFile))), []byte(content(f, filepath.Join(one.Path, listFile))), []byte("{}"))
	f.Add([]byte(`{"format":1}`), []byte(`{"path":"../../etc/passwd","size":-1}`+"\n"), []byte(`{"path":"x","sha256":"y"}`))
	f.Add([]byte(`{"format":1}`), []byte(`{"path":"data/\u0000"}`), []byte(""))
	dir := filepath.Join(memory(f), prefix+"x")
	f.Fuzz(func(t *testing.T, manifest, list, hashes []byte) {
		defer os.RemoveAll(dir)
		write(t, filepath.Join(dir, manifestFile), string(manifest))
		write(t, filepath.Join(dir, listFile), string(list))
		write(t, filepath.Join(dir, hashFile), string(hashes))
		one, err := read(dir)
		if err != nil {
			return
		}
		one.list(func(file File) error {
			if rel, err := filepath.Rel(dir, one.file(file)); err != nil || !filepath.IsLocal(rel) {
				t.Errorf("%q leaves the snapshot", file.Path)
			}
			return nil
		})
		one.Verify(context.Background(), false, nil)
		one.hashes()
		one.RefuseElsewhere()
		one.Alone()
	})
}
