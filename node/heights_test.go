package node

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/syndtr/goleveldb/leveldb"

	"solstice"
)

func TestReadHeights(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, data string, s *Settings)
		want   string // committed, stored, base
		errs   [2]string
	}{
		{"halted", func(*testing.T, string, *Settings) {}, "36 application.db, 37 blockstore.db, base 3", [2]string{}},
		{"before-there-was-a-base", func(t *testing.T, data string, _ *Settings) {
			makeDatabase(t, goLevelDB, data+"/blockstore.db", "blockStore", varint(2, 37))
		}, "36 application.db, 37 blockstore.db, base 1", [2]string{}},
		{"state-in-json", func(t *testing.T, data string, _ *Settings) {
			makeDatabase(t, goLevelDB, data+"/blockstore.db", "blockStore", []byte(`{"base":"5","height":"37"}`))
		}, "36 application.db, 37 blockstore.db, base 5", [2]string{}},
		{"databases-elsewhere", func(t *testing.T, data string, s *Settings) {
			s.DBDir = data + "/db"
			rename(t, data+"/blockstore.db", data+"/db/blockstore.db")
		}, "36 application.db, 37 db/blockstore.db, base 3", [2]string{}},
		{"pebble-by-the-settings", func(_ *testing.T, _ string, s *Settings) {
			s.DBBackend, s.AppDBBackend = "pebbledb", "pebbledb"
		}, "36 application.db, 37 blockstore.db, base 3", [2]string{}},
		{"pebble-by-its-files", func(t *testing.T, data string, _ *Settings) {
			write(t, data+"/application.db/OPTIONS-000003", nil)
			write(t, data+"/blockstore.db/marker.format-version.000001.013", nil)
		}, "0 , 37 cs.wal/wal, base 0", [2]string{"unknown to the objstorage provider"}},
		{"rocksdb", func(t *testing.T, data string, _ *Settings) {
			write(t, data+"/application.db/OPTIONS-000003", []byte("[Version]\n  rocksdb_version=9.1.1\n"))
			write(t, data+"/blockstore.db/IDENTITY", []byte("x"))
		}, "0 , 37 cs.wal/wal, base 0", [2]string{"a rocksdb database, which cannot be read"}},
		{"badgerdb", func(t *testing.T, data string, _ *Settings) {
			remove(t, data+"/application.db/CURRENT")
			write(t, data+"/application.db/KEYREGISTRY", nil)
		}, "0 , 37 blockstore.db, base 3", [2]string{"a badgerdb database, which cannot be read"}},
		{"boltdb", func(t *testing.T, data string, _ *Settings) {
			remove(t, data+"/blockstore.db")
			write(t, data+"/blockstore.db", append(make([]byte, 16), 0xed, 0xda, 0x0c, 0xed))
		}, "36 application.db, 37 cs.wal/wal, base 0", [2]string{}},
		{"memiavl", func(t *testing.T, data string, _ *Settings) {
			write(t, data+"/memiavl.db/current", nil)
		}, "0 , 37 blockstore.db, base 3", [2]string{"memiavl.db"}},
		{"link-to-nowhere", func(t *testing.T, data string, _ *Settings) {
			remove(t, data+"/application.db")
			if err := os.Symlink("/mnt/not/mounted", data+"/application.db"); err != nil {
				t.Fatal(err)
			}
		}, "0 , 37 blockstore.db, base 3", [2]string{"application.db is a link to /mnt/not/mounted, which does not exist"}},
		{"no-manifest", func(t *testing.T, data string, _ *Settings) {
			manifests, _ := filepath.Glob(data + "/application.db/MANIFEST-*")
			remove(t, manifests...)
		}, "0 , 37 blockstore.db, base 3", [2]string{"database entry point either missing or corrupted"}},
		{"no-databases", func(t *testing.T, data string, _ *Settings) {
			remove(t, data+"/application.db", data+"/blockstore.db")
		}, "0 , 37 cs.wal/wal, base 0", [2]string{"no such file"}},
		{"nothing", func(t *testing.T, data string, _ *Settings) { remove(t, data) }, "0 , 0 , base 0", [2]string{"no such file", "cs.wal: no such file"}},
		{"files-for-folders", func(t *testing.T, data string, _ *Settings) {
			remove(t, data)
			write(t, data+"/application.db", nil)
			write(t, data+"/blockstore.db", nil)
			write(t, data+"/cs.wal", nil)
		}, "0 , 0 , base 0", [2]string{"is a file, not a directory", "is a file, not a directory"}},
		{"before-the-first-block", func(t *testing.T, data string, _ *Settings) {
			remove(t, data+"/cs.wal")
			makeDatabase(t, goLevelDB, data+"/application.db", "s/latest", nil)
			makeDatabase(t, goLevelDB, data+"/blockstore.db", "blockStore", nil)
		}, "0 , 0 , base 0", [2]string{"has no height", "has no height"}},
		{"negative", func(t *testing.T, data string, _ *Settings) {
			makeDatabase(t, goLevelDB, data+"/application.db", "s/latest", varint(1, -5))
			makeDatabase(t, goLevelDB, data+"/blockstore.db", "blockStore", varint(2, -5))
		}, "0 , 37 cs.wal/wal, base 0", [2]string{"has no height"}},
		{"other-keys-only", func(t *testing.T, data string, _ *Settings) {
			remove(t, data+"/application.db")
			makeDatabase(t, goLevelDB, data+"/application.db", "other", varint(1, 5))
		}, "0 , 37 blockstore.db, base 3", [2]string{"not found"}},
		{"no-lock", func(t *testing.T, data string, _ *Settings) { remove(t, data+"/application.db/LOCK") }, "36 application.db, 37 blockstore.db, base 3", [2]string{}},
		{"unreadable-lock", func(t *testing.T, data string, _ *Settings) {
			remove(t, data+"/application.db/LOCK")
			if err := os.Symlink("LOCK", data+"/application.db/LOCK"); err != nil { // to itself
				t.Fatal(err)
			}
		}, "0 , 37 blockstore.db, base 3", [2]string{"too many levels of symbolic links"}},
		{"empty-folder", func(t *testing.T, data string, _ *Settings) {
			remove(t, data+"/application.db")
			write(t, data+"/application.db/LOCK", nil)
		}, "0 , 37 blockstore.db, base 3", [2]string{"no CURRENT file"}},
		{"endless-journal", func(t *testing.T, data string, _ *Settings) {
			write(t, data+"/application.db/000099.log", nil)
			if err := os.Truncate(data+"/application.db/000099.log", 1<<40); err != nil {
				t.Skip(err)
			}
		}, "0 , 37 blockstore.db, base 3", [2]string{"MiB of journals, too much to read into memory"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			home, settings := stoppedNode(t, goLevelDB, 37)
			tt.change(t, home.Data(), &settings)
			before := listing(t, home.Node)
			h := ReadHeights(home, settings)
			if after := listing(t, home.Node); after != before {
				t.Errorf("files before:\n%s\nand after:\n%s", before, after)
			}
			name := func(r Reading) string {
				return fmt.Sprintf("%d %s", r.Height, strings.TrimPrefix(r.File, home.Data()+"/"))
			}
			if got := fmt.Sprintf("%s, %s, base %d", name(h.Committed), name(h.Stored), h.Base); got != tt.want {
				t.Errorf("ReadHeights = %s, want %s", got, tt.want)
			}
			checkErr(t, h.Committed.Err, tt.errs[0])
			checkErr(t, h.Stored.Err, tt.errs[1])
		})
	}
}

// TestReadsAgain: reading leaves no lock behind, for a second reading and for the node.
func TestReadsAgain(t *testing.T) {
	home, settings := stoppedNode(t, goLevelDB, 37)
	for range 2 {
		if h := ReadHeights(home, settings); h.Committed.Height != 36 {
			t.Errorf("%+v", h)
		}
	}
	db, err := leveldb.OpenFile(filepath.Join(home.Data(), "application.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
}

// TestDamagedDatabase: wherever a byte is wrong or the file ends, the answer is a height that was committed once, or an
// error.
func TestDamagedDatabase(t *testing.T) {
	home, settings := stoppedNode(t, goLevelDB, 37)
	dir := filepath.Join(home.Data(), "application.db")
	files, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string) {
		t.Helper()
		r := committedHere(home, settings)
		if r.Err == nil && r.Height != 36 && (r.Height < 1 || r.Height > 3) {
			t.Errorf("%s: %+v", what, r)
		}
	}
	for _, path := range files {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(path) == "LOG" {
			continue
		}
		for i := range content {
			damaged, mask := slices.Clone(content), []byte{0x80, 0xff}[i%2]
			damaged[i] = content[i] ^ mask
			write(t, path, damaged)
			check(fmt.Sprintf("%s with byte %d ^ %x", filepath.Base(path), i, mask))
			write(t, path, content[:i])
			check(fmt.Sprintf("%s cut at %d", filepath.Base(path), i))
		}
		write(t, path, content)
	}
	if r := committedHere(home, settings); r.Height != 36 {
		t.Errorf("undamaged again: %+v", r)
	}
}

// committedHere is what the application has committed, read in this process.
func committedHere(home solstice.Home, settings Settings) Reading {
	var h Heights
	readCommitted(filesOf(home, settings), &h)
	return h.Committed
}

// TestDamagedFooter: the library would allocate a block of the size that a table's footer gives, and without memory for it
// the process would end.
func TestDamagedFooter(t *testing.T) {
	home, _ := stoppedNode(t, goLevelDB, 37)
	tables, err := filepath.Glob(filepath.Join(home.Data(), "application.db", "*.ldb"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	for _, footer := range [][]byte{
		bytes.Repeat([]byte{0xff}, 40),
		{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 1},
		{0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f},
	} {
		for _, path := range tables {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			copy(content[len(content)-48:], footer)
			write(t, path, content)
		}
		_, err := readDatabase(filepath.Dir(tables[0]), goLevelDB, func(db database) error {
			_, err := db.get([]byte("s/k:bank/0/0")) // in a table, not in the journal
			return err
		})
		checkErr(t, err, "a block outside of the file")
	}
}

func FuzzParseLatest(f *testing.F) {
	f.Add(varint(1, 36))
	f.Add([]byte{8})
	f.Fuzz(func(t *testing.T, value []byte) {
		if height, err := parseLatest(value); err == nil && height <= 0 {
			t.Errorf("height %d", height)
		}
	})
}

func FuzzParseBlockStore(f *testing.F) {
	f.Add(join(varint(1, 3), varint(2, 37)))
	f.Add([]byte(`{"base":"5","height":"37"}`))
	f.Add([]byte(`{"Height":37}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		if base, height, err := parseBlockStore(value); err == nil && (base <= 0 || height < base) {
			t.Errorf("base %d, height %d", base, height)
		}
	})
}

// listing is every file below dir with its mode, size, time and content.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(&b, path, info.Mode(), info.Size(), info.ModTime().UnixNano())
		if info.Mode().IsRegular() && info.Size() < 1<<20 {
			content, err := os.ReadFile(path)
			fmt.Fprintf(&b, "%q\n", content)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	write(t, filepath.Join(to, "x"), nil)
	remove(t, to)
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzReadLevelDB: whatever lies in a file of a database, its height is one, or an error.
func FuzzReadLevelDB(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "application.db")
	makeDatabase(f, goLevelDB, dir, "s/latest", varint(1, 36))
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		f.Fatal(err)
	}
	contents := map[string][]byte{}
	for i, path := range files {
		if contents[path], err = os.ReadFile(path); err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), contents[path])
	}
	f.Fuzz(func(t *testing.T, which uint8, content []byte) {
		path := files[int(which)%len(files)]
		write(t, path, content)
		defer write(t, path, contents[path])
		read := func(db database) (int64, error) { return getHeight(db, "s/latest", parseLatest) }
		if r := readHeight(dir, goLevelDB, read); r.Err == nil && r.Height <= 0 {
			t.Errorf("%+v", r)
		}
	})
}
