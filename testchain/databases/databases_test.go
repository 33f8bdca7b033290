// Package databases proves that snapshots by links are safe with the databases of a node, at the versions that the SDK uses:
// whatever a database does after a snapshot was taken, the snapshot keeps what it held.
package databases

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	cmtdb "github.com/cometbft/cometbft-db"
	dbm "github.com/cosmos/cosmos-db"

	"solstice/testchain/e2e"
	"solstice/testchain/network"
)

const (
	// keys is how many keys are written: enough for tables on several levels.
	keys = 12000

	// rounds is how many snapshots are taken. After each, all tables are replaced.
	rounds = 3
)

// kinds are the databases that a node can have. The application's is opened by cosmos-db and CometBFT's by cometbft-db,
// each with options of its own.
var kinds = []struct {
	name string
	open func(dir string) (database, error)
}{
	{"application-goleveldb", func(dir string) (database, error) {
		db, err := dbm.NewDB("application", dbm.GoLevelDBBackend, dir)
		return database{db, iterateCosmos(db), func() error { return db.(*dbm.GoLevelDB).ForceCompact(nil, nil) }}, err
	}},
	{"application-pebbledb", func(dir string) (database, error) {
		db, err := dbm.NewDB("application", dbm.PebbleDBBackend, dir)
		return database{db, iterateCosmos(db), func() error { return db.(*dbm.PebbleDB).DB().Compact(first, last, true) }}, err
	}},
	{"cometbft-goleveldb", func(dir string) (database, error) { return openComet(cmtdb.GoLevelDBBackend, dir) }},
	{"cometbft-pebbledb", func(dir string) (database, error) { return openComet(cmtdb.PebbleDBBackend, dir) }},
}

// first and last are around all keys.
var first, last = []byte{0}, []byte{0xff}

// database is what both libraries have in common.
type database struct {
	store interface {
		Set(key, value []byte) error
		Delete(key []byte) error
		Close() error
	}
	iterate func() (iterator, error)
	compact func() error
}

type iterator interface {
	Valid() bool
	Next()
	Key() []byte
	Value() []byte
	Error() error
	Close() error
}

func iterateCosmos(db dbm.DB) func() (iterator, error) {
	return func() (iterator, error) { return db.Iterator(nil, nil) }
}

func openComet(backend cmtdb.BackendType, dir string) (database, error) {
	db, err := cmtdb.NewDB("application", backend, dir)
	iterate := func() (iterator, error) { return db.Iterator(nil, nil) }
	return database{db, iterate, func() error { return db.Compact(first, last) }}, err
}

// TestLinksAreSafe takes snapshots of a database, and after each one writes, deletes and compacts until no table that was
// linked is the database's own any more. Every snapshot still has every key then, also after it was restored and the
// database went on from there.
func TestLinksAreSafe(t *testing.T) {
	solstice := build(t)
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t, solstice, kind.open)
			now := content{}
			var snapshots []e2e.Snapshot
			var contents []content
			for round := range rounds {
				h.change(now, uint64(2*round))
				h.with(func(db database) error { return db.compact() })
				h.change(now, uint64(2*round+1)) // of which some is in the log only
				snapshots = append(snapshots, h.create(fmt.Sprintf("round%d", round)))
				contents = append(contents, maps.Clone(now))
				h.says("hashed for the first time", "snapshot", "verify", "--deep", snapshots[round].ID)
				h.replaceTables(now, snapshots[round])
			}
			h.says("as they were, by content", "snapshot", "verify", "--deep")
			for i, one := range snapshots {
				h.run("snapshot", "restore", one.ID, "--yes")
				h.check(one.ID, contents[i])
				h.replaceTables(contents[i], one)
				h.says("as they were, by content", "snapshot", "verify", "--deep")
			}
		})
	}
}

// TestChangeInPlaceIsFound: a linked table that is written to, by its name in the data folder, is found in the snapshot.
func TestChangeInPlaceIsFound(t *testing.T) {
	solstice := build(t)
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			for _, tt := range []struct {
				name  string
				flag  int
				quiet bool // the time of change is set back
			}{
				{"append", os.O_APPEND, false},
				{"overwrite", 0, false},
				{"overwrite-and-hide", 0, true},
			} {
				h := newHome(t, solstice, kind.open)
				h.change(content{}, 0)
				h.with(func(db database) error { return db.compact() })
				one := h.create(tt.name)
				h.run("snapshot", "verify", "--deep")
				table := h.linked(one)[0]
				live := filepath.Join(h.Node.Home, table)
				info, err := os.Stat(live)
				check(t, err)
				f, err := os.OpenFile(live, os.O_WRONLY|tt.flag, 0)
				check(t, err)
				_, err = f.WriteString("x")
				check(t, errors.Join(err, f.Close()))
				args := []string{"snapshot", "verify"}
				if tt.quiet {
					check(t, os.Chtimes(live, info.ModTime(), info.ModTime()))
					h.says("as they were", args...) // by size and time it is
					args = append(args, "--deep")
				}
				out, err := h.Command(t.Context(), args...).CombinedOutput()
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), table+": ") {
					t.Errorf("%s: verify: %v, want exit code 1 and %s named:\n%s", tt.name, err, table, out)
				}
			}
		})
	}
}

// content is what a database should hold: by key, the number that its value is made of.
type content map[uint32]uint64

func key(k uint32) []byte { return binary.BigEndian.AppendUint32([]byte("k"), k) }

// value is hundreds of bytes that don't compress.
func value(k uint32, number uint64) []byte {
	random := rand.NewChaCha8([32]byte(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(make([]byte, 16), uint64(k)), number)))
	value := make([]byte, 200+random.Uint64()%1000)
	_, _ = random.Read(value) // it can't fail
	return value
}

// home is a node's home with one database, under a real solstice.
type home struct {
	e2e.Home
	t    *testing.T
	open func(dir string) (database, error)
}

// build builds solstice once for a test.
func build(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds solstice")
	}
	path := filepath.Join(t.TempDir(), "solstice")
	check(t, e2e.Build(t.Context(), path))
	return path
}

func newHome(t *testing.T, solstice string, open func(dir string) (database, error)) home {
	t.Helper()
	dir := t.TempDir()
	h := home{e2e.Home{Node: &network.Node{Home: filepath.Join(dir, "home")}, Solstice: solstice}, t, open}
	check(t, os.MkdirAll(filepath.Join(h.Node.Home, "data"), 0o755))
	binary := filepath.Join(dir, "chaind")
	check(t, os.WriteFile(binary, []byte("#!/bin/sh\n"), 0o755))
	h.run("init", binary)
	return h
}

func (h home) run(args ...string) string {
	h.t.Helper()
	out, err := h.Run(h.t.Context(), args...)
	check(h.t, err)
	return out
}

func (h home) says(want string, args ...string) {
	h.t.Helper()
	if out := h.run(args...); !strings.Contains(out, want) {
		h.t.Errorf("solstice %s doesn't say %q:\n%s", strings.Join(args, " "), want, out)
	}
}

// with opens the database in the data folder for a while.
func (h home) with(fn func(db database) error) {
	h.t.Helper()
	db, err := h.open(filepath.Join(h.Node.Home, "data"))
	if err != nil && strings.Contains(err.Error(), "unknown db_backend") {
		h.t.Skipf("built without it: %v", err) // cometbft-db has pebbledb with the build tag pebbledb
	}
	check(h.t, err)
	check(h.t, errors.Join(fn(db), db.store.Close()))
}

// change writes all keys anew, in an order of its own, and deletes every fifth. now follows.
func (h home) change(now content, seed uint64) {
	h.t.Helper()
	h.with(func(db database) error {
		for _, i := range rand.New(rand.NewPCG(seed, 0)).Perm(keys) {
			k := uint32(i)
			if (uint64(k)+seed)%5 == 0 {
				if err := db.store.Delete(key(k)); err != nil {
					return err
				}
				delete(now, k)
				continue
			}
			now[k] += seed + 1
			if err := db.store.Set(key(k), value(k, now[k])); err != nil {
				return err
			}
		}
		return nil
	})
}

// create takes a snapshot and checks that its tables are links.
func (h home) create(name string) e2e.Snapshot {
	h.t.Helper()
	h.run("snapshot", "create", name)
	all, err := h.Snapshots(h.t.Context())
	check(h.t, err)
	one := all[len(all)-1]
	if !strings.HasPrefix(one.ID, name) {
		h.t.Fatalf("last snapshot = %+v, want %s", one, name)
	}
	if one.Manifest.Cloned > 0 {
		h.t.Skip("nothing is linked on a filesystem that clones")
	}
	tables := h.linked(one)
	if len(tables) == 0 {
		h.t.Fatal("no table was linked")
	}
	if left := h.live(one, tables); len(left) != len(tables) {
		h.t.Errorf("%d of %d files are links to what is in data/", len(left), len(tables))
	}
	return one
}

// linked lists the files of a snapshot that were taken by linking.
func (h home) linked(one e2e.Snapshot) (paths []string) {
	h.t.Helper()
	list, err := os.Open(filepath.Join(one.Path, "files.jsonl"))
	check(h.t, err)
	defer list.Close()
	lines := bufio.NewScanner(list)
	for lines.Scan() {
		var file struct {
			Path string `json:"path"`
			How  string `json:"how"`
		}
		check(h.t, json.Unmarshal(lines.Bytes(), &file))
		if file.How == "link" {
			paths = append(paths, file.Path)
		}
	}
	check(h.t, lines.Err())
	return paths
}

// live returns which of these files of a snapshot the database still has.
func (h home) live(one e2e.Snapshot, paths []string) (live []string) {
	h.t.Helper()
	for _, path := range paths {
		ours, err := os.Stat(filepath.Join(one.Path, path))
		check(h.t, err)
		theirs, err := os.Stat(filepath.Join(h.Node.Home, path))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			h.t.Fatal(err)
		}
		if err == nil && os.SameFile(ours, theirs) {
			live = append(live, path)
		}
	}
	return live
}

// replaceTables writes, deletes and compacts until no table of the snapshot is in use.
func (h home) replaceTables(now content, one e2e.Snapshot) {
	h.t.Helper()
	tables := h.linked(one)
	for seed := uint64(100); len(h.live(one, tables)) > 0; seed++ {
		if seed == 110 {
			h.t.Fatalf("these tables of snapshot %s are not replaced: %q", one.ID, h.live(one, tables))
		}
		h.change(now, seed)
		h.with(func(db database) error { return db.compact() })
	}
}

// check compares every key in the data folder with what should be there.
func (h home) check(name string, want content) {
	h.t.Helper()
	seen, wrong := 0, 0
	h.with(func(db database) error {
		it, err := db.iterate()
		if err != nil {
			return err
		}
		for ; it.Valid(); it.Next() {
			seen++
			k := binary.BigEndian.Uint32(it.Key()[1:])
			if number, ok := want[k]; !ok || string(it.Value()) != string(value(k, number)) {
				wrong++
			}
		}
		return errors.Join(it.Error(), it.Close())
	})
	if seen != len(want) || wrong > 0 {
		h.t.Errorf("%s: %d keys, %d of them wrong or not to be there; want %d", name, seen, wrong, len(want))
	}
	h.t.Logf("%s: %d keys compared", name, seen)
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
