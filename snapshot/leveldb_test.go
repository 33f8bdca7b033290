package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"
	"github.com/syndtr/goleveldb/leveldb/util"

	"solstice"
	"solstice/internal/durable"
)

// small makes goleveldb write many tables for few keys.
var small = &opt.Options{
	WriteBuffer: 8 << 10, CompactionTableSize: 4 << 10, CompactionTotalSize: 16 << 10, Compression: opt.NoCompression, NoSync: true,
}

const application = "data/application.db"

// open opens the real database in a folder.
func open(t *testing.T, dir string) *leveldb.DB {
	t.Helper()
	db, err := leveldb.OpenFile(dir, small)
	check(t, err)
	return db
}

// fill writes and deletes keys, in a database and in a map.
func fill(t *testing.T, db *leveldb.DB, keys map[string]string, round int) {
	t.Helper()
	for i := range 2000 {
		key := fmt.Sprintf("key %d", i*7919%2500)
		if (i+round)%5 == 0 {
			check(t, db.Delete([]byte(key), nil))
			delete(keys, key)
			continue
		}
		value := strings.Repeat(fmt.Sprintf("round %d, %d. ", round, i), 4)
		check(t, db.Put([]byte(key), []byte(value), nil))
		keys[key] = value
	}
}

// holds demands that the database in a folder has exactly these keys.
func holds(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	db := open(t, dir)
	defer db.Close()
	got := keysOf(t, db)
	if !maps.Equal(got, want) {
		t.Errorf("%s has %d keys, and not the %d that it had", dir, len(got), len(want))
	}
}

// tables are the names of a database's tables.
func tables(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*.ldb"))
	check(t, err)
	for i, path := range found {
		found[i] = filepath.Base(path)
	}
	return found
}

// placed is the part data/ of a snapshot, made anew.
func placed(t *testing.T, s Store, one Snapshot) string {
	t.Helper()
	to := filepath.Join(s.Dir, fmt.Sprintf("placed-%s", one.ID))
	check(t, s.Place(t.Context(), one, Data, to, nil))
	return to
}

// TestLinkingIsSafe: the node goes on until every table that was linked is replaced, and the snapshot has every key that
// it had. So has the one that is taken in between.
func TestLinkingIsSafe(t *testing.T) {
	t.Parallel()
	s := newStore(t, nil)
	dir := filepath.Join(s.Home.Node, application)
	keys := map[string]string{}
	var taken []Snapshot
	var then []map[string]string
	for round := range 3 {
		db := open(t, dir)
		fill(t, db, keys, round)
		check(t, db.Close())
		taken, then = append(taken, take(t, s)), append(then, maps.Clone(keys))
	}
	// A database that is closed in the middle of a compaction leaves tables that are nobody's, which are copied.
	var linked []string
	for name, f := range listed(t, taken[0]) {
		if strings.HasSuffix(name, ".ldb") && f.How != Copy {
			linked = append(linked, filepath.Base(name))
		}
	}
	if len(linked) < 20 {
		t.Fatalf("%d linked tables are too few", len(linked))
	}

	db := open(t, dir)
	for round := 3; slices.ContainsFunc(tables(t, dir), func(name string) bool { return slices.Contains(linked, name) }); round++ {
		if round == 20 {
			t.Fatal("the database keeps its tables")
		}
		fill(t, db, keys, round)
		check(t, db.CompactRange(util.Range{}))
	}
	check(t, db.Close())

	for i, one := range taken {
		clean(t, one, true)
		clean(t, one, true)
		to := placed(t, s, one)
		holds(t, filepath.Join(to, "application.db"), then[i])
		// What was placed is a node's again, and is written to as one. That changes no snapshot.
		db := open(t, filepath.Join(to, "application.db"))
		fill(t, db, maps.Clone(then[i]), 50)
		check(t, db.CompactRange(util.Range{}))
		check(t, db.Close())
	}
	for i, one := range taken {
		clean(t, one, true)
		check(t, os.RemoveAll(filepath.Join(s.Dir, "placed-"+one.ID)))
		holds(t, filepath.Join(placed(t, s, one), "application.db"), then[i])
	}
	holds(t, dir, keys)
}

// cutStorage copies a database's folder when a table is written, and not yet in the MANIFEST: what a kill would leave.
// Nothing changes meanwhile.
type cutStorage struct {
	storage.Storage
	dir, to string

	lock  sync.Mutex
	after int   // so many tables
	err   error // of the copy
}

func (c *cutStorage) Create(fd storage.FileDesc) (storage.Writer, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	w, err := c.Storage.Create(fd)
	return &cutWriter{w, c, fd.Type == storage.TypeTable}, err
}

func (c *cutStorage) SetMeta(fd storage.FileDesc) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.Storage.SetMeta(fd)
}

func (c *cutStorage) Remove(fd storage.FileDesc) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.Storage.Remove(fd)
}

type cutWriter struct {
	storage.Writer
	c     *cutStorage
	table bool
}

func (w *cutWriter) Write(p []byte) (int, error) {
	w.c.lock.Lock()
	defer w.c.lock.Unlock()
	return w.Writer.Write(p)
}

func (w *cutWriter) Close() error {
	w.c.lock.Lock()
	defer w.c.lock.Unlock()
	err := w.Writer.Close()
	if w.table {
		if w.c.after--; w.c.after == 0 {
			w.c.err = os.CopyFS(w.c.to, os.DirFS(w.c.dir))
		}
	}
	return err
}

// cutOff leaves in a folder what a kill leaves of a database after so many tables.
func cutOff(t *testing.T, to string, after int, options *opt.Options) {
	t.Helper()
	from := filepath.Join(memory(t), "db")
	files, err := storage.OpenFile(from, false)
	check(t, err)
	cut := &cutStorage{Storage: files, dir: from, to: to, after: after}
	db, err := leveldb.Open(cut, options)
	check(t, err)
	fill(t, db, map[string]string{}, 0)
	check(t, errors.Join(db.Close(), files.Close(), cut.err))
	if cut.after > 0 {
		t.Fatalf("the database was not cut off: %d tables too few", cut.after)
	}
}

// keysOf are the keys of a database.
func keysOf(t *testing.T, db *leveldb.DB) map[string]string {
	t.Helper()
	keys := map[string]string{}
	all := db.NewIterator(nil, nil)
	defer all.Release()
	for all.Next() {
		keys[string(all.Key())] = string(all.Value())
	}
	check(t, all.Error())
	return keys
}

// TestLeftoverTable: goleveldb writes a table that a killed node has left in place, under the same number. So a snapshot
// doesn't link it.
func TestLeftoverTable(t *testing.T) {
	s := newStore(t, nil)
	dir := filepath.Join(s.Home.Node, application)
	uncompacted := *small
	uncompacted.CompactionL0Trigger, uncompacted.WriteL0SlowdownTrigger, uncompacted.WriteL0PauseTrigger = 1000, 1000, 1000
	cutOff(t, dir, 10, &uncompacted)
	linking(t, s)

	manifest, err := os.Open(filepath.Join(dir, currentManifest(dir, []string{"CURRENT"})))
	check(t, err)
	next, ok := nextFileNumber(manifest)
	check(t, manifest.Close())
	left := tables(t, dir)
	leftover := left[len(left)-1]
	if leftover < fmt.Sprintf("%06d.ldb", next) || !ok {
		t.Fatalf("the cut left no table from the next number on, %d: %q", next, left)
	}
	witness := filepath.Join(s.Dir, "witness")
	check(t, os.Link(filepath.Join(dir, leftover), witness))
	check(t, os.Chtimes(witness, time.Time{}, time.Unix(1700000000, 0)))
	one := take(t, s)
	if how := listed(t, one)[application+"/"+leftover].How; how != Copy || one.Linked == 0 {
		t.Errorf("the leftover table was taken by %s; %d linked", how, one.Linked)
	}
	placedDB := open(t, filepath.Join(placed(t, s, one), "application.db"))
	keys := keysOf(t, placedDB)
	check(t, placedDB.Close())

	// The node starts again.
	db, err := leveldb.OpenFile(dir, &uncompacted)
	check(t, err)
	check(t, db.Close())
	info, err := os.Stat(witness)
	check(t, err)
	if !sameFile(t, filepath.Join(dir, leftover), witness) || info.ModTime().Unix() == 1700000000 {
		t.Errorf("goleveldb doesn't write leftover tables in place any more: they could be linked (%v)", info.ModTime())
	}
	clean(t, one, true)
	check(t, os.RemoveAll(filepath.Join(s.Dir, "placed-"+one.ID)))
	holds(t, filepath.Join(placed(t, s, one), "application.db"), keys)
}

// TestKilledNode: wherever in its work a database is cut off, the snapshot of what is left opens with the same keys as that
// itself, whatever the node does when it comes up again.
func TestKilledNode(t *testing.T) {
	t.Parallel()
	for _, after := range []int{1, 12, 25} {
		s := newStore(t, nil)
		dir := filepath.Join(s.Home.Node, application)
		cutOff(t, dir, after, small)
		one := take(t, s)
		db := open(t, dir)
		keys := keysOf(t, db)
		fill(t, db, map[string]string{}, 1)
		check(t, errors.Join(db.CompactRange(util.Range{}), db.Close()))
		clean(t, one, false)
		holds(t, filepath.Join(placed(t, s, one), "application.db"), keys)
	}
}

// TestInUse: a database that is open is noticed, and nothing is taken.
func TestInUse(t *testing.T) {
	s := storeIn(t, filepath.Join(memory(t), "[a]*"), node)
	check(t, s.InUse())
	db := open(t, filepath.Join(s.Home.Node, "data/tx_index.db"))
	defer db.Close()
	_, err := s.Take(t.Context(), "a", Label{}, nil)
	var refused *solstice.RefusedError
	if checkErr(t, err, "a node runs on this home"); !errors.As(err, &refused) || !strings.Contains(refused.Hint, "tx_index.db/LOCK") {
		t.Errorf("error %#v", err)
	}
	bare(t, s.Dir)
	check(t, db.Close())
	check(t, s.InUse())
	take(t, s)
}

// TestSame: nothing has written since, or something has.
func TestSame(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, home string)
		want   bool
	}{
		{"nothing", func(*testing.T, string) {}, true},
		{"settings", func(t *testing.T, home string) { write(t, filepath.Join(home, "config/app.toml"), "a = 2") }, true},
		{"an opened database", func(t *testing.T, home string) {
			db := open(t, filepath.Join(home, application))
			check(t, db.Close())
		}, false},
		{"a new file", func(t *testing.T, home string) { write(t, filepath.Join(home, "data/new"), "") }, false},
		{"a file less", func(t *testing.T, home string) { check(t, os.Remove(filepath.Join(home, "data/cs.wal/wal.000"))) }, false},
		{"the same bytes", func(t *testing.T, home string) {
			write(t, filepath.Join(home, "data/upgrade-info.json"), node["data/upgrade-info.json"])
		}, false},
		{"a contract", func(t *testing.T, home string) { write(t, filepath.Join(home, "wasm/new"), "") }, false},
		{"what is ours", func(t *testing.T, home string) { write(t, filepath.Join(home, "data/data-before-1/f"), "") }, true},
	} {
		s := newStore(t, node)
		check(t, os.RemoveAll(filepath.Join(s.Home.Node, application)))
		check(t, open(t, filepath.Join(s.Home.Node, application)).Close())
		one := take(t, s)
		tt.change(t, s.Home.Node)
		if got, err := s.Same(one); err != nil || got != tt.want {
			t.Errorf("%s: Same = %v, %v, want %v", tt.name, got, err, tt.want)
		}
	}
}

// TestPlace: a part is made anew as it was, beside the live one, and the snapshot stays what it is.
func TestPlace(t *testing.T) {
	s := newStore(t, node)
	home := s.Home.Node
	check(t, os.Symlink("priv_validator_state.json", filepath.Join(home, "data/link")))
	check(t, os.Chmod(filepath.Join(home, "data/cs.wal"), 0o700))
	one := take(t, s)
	module := "wasm/wasm/cache/modules/v8-wasmer5/x86_64/" + code
	check(t, os.WriteFile(filepath.Join(home, module), []byte("compiled by another"), 0o644))
	check(t, os.RemoveAll(filepath.Join(home, Data)))
	check(t, os.Mkdir(filepath.Join(home, Data), 0o755))

	for _, part := range []string{Data, Wasm, Config} {
		if !one.Has(part) {
			t.Errorf("the snapshot has no %s", part)
		}
		to := s.Staging(filepath.Join(home, part))
		if !strings.HasPrefix(filepath.Base(to), s.debris()) || filepath.Dir(to) != home {
			t.Errorf("staging %s", to)
		}
		check(t, s.Place(t.Context(), one, part, to, nil))
		var got, want []string
		for _, name := range names(t, to) {
			got = append(got, part+"/"+name)
		}
		for _, name := range names(t, filepath.Join(one.Path, part)) {
			if part+"/"+name == module && listed(t, one)[module].How == Link {
				continue // it is the node's own file, which is another now
			}
			want = append(want, part+"/"+name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("placed %q, want %q", got, want)
		}
		for _, name := range got {
			placed := filepath.Join(to, strings.TrimPrefix(name, part+"/"))
			a, err := os.Lstat(placed)
			check(t, err)
			b, err := os.Lstat(filepath.Join(one.Path, name))
			check(t, err)
			if a.Mode() != b.Mode() || a.Mode().Type() != fs.ModeSymlink && !a.ModTime().Equal(b.ModTime()) {
				t.Errorf("%s is %v of %v, was %v of %v", name, a.Mode(), a.ModTime(), b.Mode(), b.ModTime())
			}
			if a.Mode().IsRegular() && content(t, placed) != node[name] {
				t.Errorf("%s holds %q", name, content(t, placed))
			}
			// What is written to is a file of its own.
			if a.Mode().IsRegular() && strings.HasSuffix(name, ".json") && part == Data && os.SameFile(a, b) {
				t.Errorf("%s is the snapshot's own file", name)
			}
		}
		checkErr(t, s.Place(t.Context(), one, part, to, nil), "file exists")
	}
	clean(t, one, true)
	check(t, s.Sweep(nil))
	if got := names(t, home); slices.ContainsFunc(got, func(name string) bool { return strings.Contains(name, "restore-") }) {
		t.Errorf("after a sweep: %q", got)
	}
	if one := take(t, newStore(t, map[string]string{"data/f": ""})); one.Has(Wasm) || one.Has(Config) {
		t.Error("a snapshot has parts that were not there")
	}
}

func TestChangedConfig(t *testing.T) {
	s := newStore(t, node)
	one := take(t, s)
	changed := func(want ...string) {
		t.Helper()
		if got, err := s.ChangedConfig(one); err != nil || !slices.Equal(got, want) {
			t.Errorf("changed: %q, %v, want %q", got, err, want)
		}
	}
	changed()
	write(t, filepath.Join(s.Home.Node, "config/app.toml"), node["config/app.toml"])
	write(t, filepath.Join(s.Home.Node, "config/genesis.json"), "another")
	write(t, filepath.Join(s.Home.Node, "config/new.toml"), "")
	changed()
	write(t, filepath.Join(s.Home.Node, "config/app.toml"), "a = 2")
	check(t, os.Remove(filepath.Join(s.Home.Node, "config/config.toml")))
	changed("app.toml", "config.toml")
	without := newStore(t, map[string]string{"data/f": ""})
	if got, err := without.ChangedConfig(take(t, without)); err != nil || len(got) > 0 {
		t.Errorf("without settings: %q, %v", got, err)
	}
}

// TestSweep removes what a cut has left anywhere near the home, and what is still needed stays.
func TestSweep(t *testing.T) {
	s := newStore(t, map[string]string{"data/f": "f", "config/app.toml": ""})
	wasm := filepath.Join(memory(t), "elsewhere")
	check(t, os.Mkdir(wasm, 0o755))
	check(t, os.Symlink(wasm, filepath.Join(s.Home.Node, Wasm)))
	one := take(t, s)
	debris := []string{
		s.unfinished(s.Dir, "cut"), s.Staging(s.Home.Data()), s.Staging(filepath.Join(s.Home.Node, "config/app.toml")),
		s.Staging(wasm), s.Staging(filepath.Join(s.Home.Data(), Data)),
	}
	for _, path := range debris {
		write(t, filepath.Join(path, "f"), "")
	}
	check(t, s.Sweep(func(path string) bool { return path == debris[0] }))
	for i, path := range debris {
		if _, err := os.Stat(path); (err == nil) != (i == 0) {
			t.Errorf("%s: %v", path, err)
		}
	}
	check(t, s.Sweep(nil))
	bare(t, filepath.Dir(wasm), s.Home.Data(), filepath.Join(s.Home.Node, Config))
	clean(t, one, false)
	if got := strings.Join(names(t, s.Home.Node), "\n"); strings.Contains(got, durable.TempPrefix) {
		t.Errorf("left: %s", got)
	}
}
