package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/journal"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"golang.org/x/sys/unix"
)

// What a node changes in place, in bytes: the sizes at which goleveldb and CometBFT begin the next file.
const (
	journalSize = 4 << 20
	walSize     = 2 << 20
)

// committed is the last block of a node that stands still for benchnode's plan.
const committed = 99

// sizes are those of n tables: from 64 KiB to 2 MiB, and each so many times as large.
func sizes(n int, times int64) []int64 {
	sizes := make([]int64, n)
	for i := range sizes {
		sizes[i] = int64(i%32+1) * 64 << 10 * times
	}
	return sizes
}

// fill makes the data/ of a validator that has run for long and has stopped. makeTable makes table i of application.db. It
// returns the size of all files.
func (h *home) fill(sizes []int64, makeTable func(path string, i int) error) (size int64, err error) {
	app := h.path("data", "application.db")
	state := fmt.Appendf(nil, `{"height":"%d","round":0,"step":3}`, committed)
	key := `{"address":"0102030405060708090A0B0C0D0E0F1011121314"}`
	err = errors.Join(
		makeDatabase(app, "s/latest", []byte{1 << 3, committed}, journalSize),
		makeDatabase(h.path("data", "blockstore.db"), "blockStore", []byte{1 << 3, 1, 2 << 3, committed}, 0),
		os.Mkdir(h.path("data", "cs.wal"), 0o755),
		writeNoise(h.path("data", "cs.wal", "wal"), walSize),
		writeNoise(h.path("config", "genesis.json"), 1<<20),
		os.WriteFile(h.path("config", "addrbook.json"), make([]byte, 64<<10), 0o600),
		os.WriteFile(h.path("config", "priv_validator_key.json"), []byte(key), 0o600),
		os.WriteFile(h.path("data", "priv_validator_state.json"), state, 0o600),
	)
	if err == nil {
		err = listTables(app, sizes)
	}
	for i := 0; i < len(sizes) && err == nil; i++ {
		path := filepath.Join(app, fmt.Sprintf("%06d.ldb", firstTable+i))
		written := time.Now()
		if i < len(sizes)*49/50 {
			written = written.AddDate(0, 0, -1)
		}
		if err = makeTable(path, i); err == nil {
			err = os.Chtimes(path, time.Time{}, written)
		}
	}
	if err != nil {
		return 0, err
	}
	err = filepath.WalkDir(h.path("data"), func(_ string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}

// makeDatabase makes a goleveldb database with one key that matters, all in its journal.
func makeDatabase(dir, key string, value []byte, size int) error {
	db, err := leveldb.OpenFile(dir, &opt.Options{WriteBuffer: 2 * journalSize})
	if err != nil {
		return err
	}
	for i := range size >> 12 {
		err = errors.Join(err, db.Put(fmt.Appendf(nil, "s/k:bank/%08x", i), noise(4<<10-40), nil))
	}
	return errors.Join(err, db.Put([]byte(key), value, nil), db.Close())
}

// firstTable is the number of the first table. Lower ones are the journal's and the MANIFEST's that goleveldb made.
const firstTable = 2

// listTables replaces the MANIFEST of a database by one that lists tables too (version_edit.cc of LevelDB has the format).
func listTables(dir string, sizes []int64) error {
	const comparer, journalNumber, nextFile, sequence, addTable = 1, 2, 3, 4, 7
	const level = 3
	text := func(edit []byte, s string) []byte { return append(binary.AppendUvarint(edit, uint64(len(s))), s...) }
	number := func(edit []byte, values ...int) []byte {
		for _, v := range values {
			edit = binary.AppendUvarint(edit, uint64(v))
		}
		return edit
	}
	own := firstTable + len(sizes)
	edit := text([]byte{comparer}, "leveldb.BytewiseComparator")
	edit = number(edit, journalNumber, 1, nextFile, own+1, sequence, 0)
	for i, size := range sizes {
		edit = number(edit, addTable, level, firstTable+i, int(size))
		for _, end := range []string{"a", "z"} {
			edit = text(edit, fmt.Sprintf("s/k:wasm/n%012d%s\x01\x00\x00\x00\x00\x00\x00\x00", i, end))
		}
	}
	name := fmt.Sprintf("MANIFEST-%06d", own)
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	w := journal.NewWriter(f)
	record, err := w.Next()
	if err == nil {
		_, err = record.Write(edit)
	}
	return errors.Join(err, w.Close(), f.Close(), os.Remove(filepath.Join(dir, "MANIFEST-000000")),
		os.WriteFile(filepath.Join(dir, "CURRENT"), []byte(name+"\n"), 0o644))
}

// sparseTable makes a table of holes, but for its last block: one extent, as a whole table has.
func sparseTable(path string, size int64) error {
	const block = 4096
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, block), size-block)
	return errors.Join(err, f.Close())
}

var random = rand.NewChaCha8([32]byte{})

// noise is content that nothing can compress or share.
func noise(size int) []byte {
	content := make([]byte, size)
	_, _ = random.Read(content) // never fails
	return content
}

func writeNoise(path string, size int) error { return os.WriteFile(path, noise(size), 0o644) }

// settle waits until everything on a filesystem is on the disk, so that nobody pays for what was written before.
func settle(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}
