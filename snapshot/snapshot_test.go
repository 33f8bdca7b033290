package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"solstice"
	"solstice/internal/durable"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func checkErr(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
}

// write makes a file, and the folders that it is in, long enough ago.
func write(t testing.TB, path, content string) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, []byte(content), 0o644))
	then := time.Now().Add(-time.Hour)
	check(t, os.Chtimes(path, then, then))
}

func content(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	check(t, err)
	return string(content)
}

// node is the home of a node, as far as snapshots are concerned: every kind of file once.
var node = map[string]string{
	"data/application.db/000007.ldb":                    "table seven",
	"data/application.db/000009.ldb":                    "table nine",
	"data/application.db/000010.log":                    "journal",
	"data/application.db/CURRENT":                       "MANIFEST-000008\n",
	"data/application.db/MANIFEST-000008":               manifest(9),
	"data/application.db/LOCK":                          "",
	"data/application.db/LOG":                           "opened",
	"data/cs.wal/wal":                                   "head",
	"data/cs.wal/wal.000":                               "chunk",
	"data/priv_validator_state.json":                    `{"height":"7"}`,
	"data/upgrade-info.json":                            `{"name":"v2","height":8}`,
	"data/snapshots/metadata.db/CURRENT":                "MANIFEST-000001\n",
	"data/snapshots/metadata.db/MANIFEST-000001":        manifest(4),
	"data/snapshots/metadata.db/000003.ldb":             "metadata",
	"data/snapshots/1000/3/0":                           "chunk zero",
	"wasm/wasm/state/wasm/" + code:                      contract,
	"wasm/wasm/cache/modules/v8-wasmer5/x86_64/" + code: "compiled",
	"wasm/wasm/exclusive.lock":                          "",
	"config/app.toml":                                   "a = 1",
	"config/config.toml":                                "b = 1",
	"config/genesis.json":                               "{}",
	"config/node_key.json":                              "secret",
	"config/priv_validator_key.json":                    "secret",
	"config/gentx/gentx.json":                           "signed",
	"config/old.toml/node_key.json":                     "secret",
}

// Contract code is named by its hash.
const (
	contract = "contract"
	code     = "cc8321d6375c494d043fdd0260f21bc0ec51dacc9f6abb7f909cdcd3041b78bf"
)

// newStore makes a home with these files, and a folder for its snapshots beside data/.
func newStore(t testing.TB, files map[string]string) Store {
	t.Helper()
	return storeIn(t, memory(t), files)
}

// memory is a folder in memory where the system has such a filesystem: hundreds of snapshots are then no hundreds of syncs.
func memory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "snapshot-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func storeIn(t testing.TB, dir string, files map[string]string) Store {
	t.Helper()
	check(t, os.MkdirAll(dir, 0o755))
	dir, err := filepath.EvalSymlinks(dir)
	check(t, err)
	home := filepath.Join(dir, "home")
	check(t, os.MkdirAll(filepath.Join(home, Data), 0o755))
	for name, content := range files {
		write(t, filepath.Join(home, name), content)
	}
	return Store{Home: solstice.Home{Dir: home, Node: home, Name: "noded"}, Dir: home}
}

// linking skips a test where the temporary folder clones.
func linking(t *testing.T, s Store) {
	t.Helper()
	if _, how, err := s.Reach(); err != nil || how != Link {
		t.Skipf("needs a filesystem that links and doesn't clone, here it is %s: %v", how, err)
	}
}

var ids atomic.Int64

func take(t testing.TB, s Store) Snapshot {
	t.Helper()
	id := ID("v2", 7, time.Unix(1700000000, ids.Add(1)*1000))
	_, err := s.Take(context.Background(), id, Label{Plan: solstice.Plan{Name: "v2", Height: 8}, Height: 7, Dir: "genesis"}, nil)
	check(t, err)
	one, err := s.Get(id)
	check(t, err)
	return one
}

// clean demands that a snapshot is what it was.
func clean(t testing.TB, one Snapshot, deep bool) Verified {
	t.Helper()
	found, err := one.Verify(context.Background(), deep, nil)
	check(t, err)
	if len(found.Faults) > 0 {
		t.Errorf("faults: %v", found.Faults)
	}
	return found
}

// faulty demands exactly these faults, each as path: what.
func faulty(t *testing.T, one Snapshot, deep bool, want ...string) {
	t.Helper()
	found, err := one.Verify(t.Context(), deep, nil)
	check(t, err)
	var got []string
	for _, f := range found.Faults {
		got = append(got, f.Path+": "+f.What)
	}
	slices.Sort(got)
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("faults %q, want %q", got, want)
	}
}

// listed are the files of a snapshot, each as it was taken.
func listed(t testing.TB, one Snapshot) map[string]File {
	t.Helper()
	files := map[string]File{}
	check(t, one.list(func(f File) error {
		files[f.Path] = f
		return nil
	}))
	return files
}

// names are what is below a folder.
func names(t testing.TB, dir string) []string {
	t.Helper()
	var found []string
	check(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if path != dir {
			rel, _ := filepath.Rel(dir, path)
			found = append(found, rel)
		}
		return err
	}))
	return found
}

// bare demands that a folder has nothing of ours.
func bare(t testing.TB, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		check(t, err)
		for _, e := range entries {
			if IsOurs(e.Name()) {
				t.Errorf("left in %s: %s %v", dir, e.Name(), names(t, filepath.Join(dir, e.Name())))
			}
		}
	}
}

func sameFile(t testing.TB, a, b string) bool {
	t.Helper()
	infoA, err := os.Lstat(a)
	check(t, err)
	infoB, err := os.Lstat(b)
	check(t, err)
	return os.SameFile(infoA, infoB)
}

// TestTake: what is written once is linked, the rest is copied, keys stay where they are, and the live files can be written
// to and deleted.
func TestTake(t *testing.T) {
	s := newStore(t, node)
	linking(t, s)
	home := s.Home.Node
	check(t, os.Chmod(filepath.Join(home, "data/priv_validator_state.json"), 0o600))
	check(t, os.Chmod(filepath.Join(home, "data/cs.wal"), 0o700))
	label := Label{Plan: solstice.Plan{Name: "v2", Height: 8, Info: "long"}, Height: 7, Dir: "genesis", Digest: "sha256:00"}
	taken, err := s.Take(t.Context(), "v2-8-now", label, nil)
	check(t, err)
	one, err := s.Get("v2-8-now")
	check(t, err)

	wantLinked := []string{
		"config/genesis.json", "data/application.db/000007.ldb", "data/cs.wal/wal.000",
		"data/snapshots/1000/3/0", "data/snapshots/metadata.db/000003.ldb",
		"wasm/wasm/cache/modules/v8-wasmer5/x86_64/" + code, "wasm/wasm/state/wasm/" + code,
	}
	files := listed(t, one)
	var linked []string
	for name, f := range files {
		live, there := filepath.Join(home, name), one.file(f)
		if f.How == Link {
			linked = append(linked, name)
		}
		if got := sameFile(t, live, there); got != (f.How == Link) {
			t.Errorf("%s is the same file: %v, and it was taken by %s", name, got, f.How)
		}
		info, err := os.Stat(live)
		check(t, err)
		if f.Size != info.Size() || f.MTime != info.ModTime().UnixNano() {
			t.Errorf("%s is listed as %+v", name, f)
		}
		if got := content(t, there); got != node[name] {
			t.Errorf("%s: %q, want %q", name, got, node[name])
		}
		if f.Derived != strings.Contains(name, "/modules/") {
			t.Errorf("%s: derived is %v", name, f.Derived)
		}
	}
	slices.Sort(linked)
	if !slices.Equal(linked, wantLinked) {
		t.Errorf("linked %q, want %q", linked, wantLinked)
	}
	wantLeft := []string{"config/gentx", "config/node_key.json", "config/old.toml", "config/priv_validator_key.json"}
	if !slices.Equal(one.LeftOut, wantLeft) || len(one.Elsewhere) > 0 {
		t.Errorf("left out %q, want %q; elsewhere %q", one.LeftOut, wantLeft, one.Elsewhere)
	}
	for _, name := range names(t, one.Path) {
		if strings.Contains(name, "key") || strings.Contains(name, "gentx") {
			t.Errorf("a snapshot has %s", name)
		}
	}

	if want := len(node) - len(wantLeft); one.Files != want || len(files) != want || one.Linked != 7 || one.Copied != want-7 || one.Cloned != 0 {
		t.Errorf("manifest: %d files, %d linked, %d copied; the list has %d", one.Files, one.Linked, one.Copied, len(files))
	}
	var bytes, copied int64
	for _, f := range files {
		bytes += f.Size
		if f.How == Copy {
			copied += f.Size
		}
	}
	if one.Bytes != bytes || one.NewBytes != copied {
		t.Errorf("manifest: %d bytes, %d new, want %d and %d", one.Bytes, one.NewBytes, bytes, copied)
	}
	label.Plan.Info = ""
	if one.Label != label || one.Manifest.Home != home || !one.Taken.Equal(taken.Taken) || taken.Path != one.Path || taken.List != one.List {
		t.Errorf("manifest %+v, Take said %+v", one.Manifest, taken.Manifest)
	}
	for name, mode := range map[string]fs.FileMode{
		".": 0o700, "data": 0o755, "data/cs.wal": 0o700, "data/cs.wal/wal": 0o644, "data/priv_validator_state.json": 0o600,
		"manifest.json": 0o600, "files.jsonl": 0o600,
	} {
		if info, err := os.Stat(filepath.Join(one.Path, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, %v, want %v", name, info.Mode(), err, mode)
		}
	}
	live, err := os.Stat(filepath.Join(home, "data/cs.wal"))
	check(t, err)
	if info, err := os.Stat(filepath.Join(one.Path, "data/cs.wal")); err != nil || !info.ModTime().Equal(live.ModTime()) {
		t.Errorf("the folder's time is %v, %v, want %v", info.ModTime(), err, live.ModTime())
	}

	for name, f := range files {
		path := filepath.Join(home, name)
		if f.How == Copy {
			check(t, os.WriteFile(path, []byte("written again"), 0o644))
		} else {
			check(t, os.Remove(path))
		}
	}
	for name := range files {
		if got := content(t, filepath.Join(one.Path, name)); got != node[name] {
			t.Errorf("%s after the node went on: %q, want %q", name, got, node[name])
		}
	}
	clean(t, one, true)
}

// TestTakeUnusual: what is unusual in a data folder is kept as it is, or named.
func TestTakeUnusual(t *testing.T) {
	s := newStore(t, map[string]string{"elsewhere/application.db/CURRENT": "MANIFEST-000001\n", "elsewhere/f": "f", "other/g": "g"})
	home := s.Home.Node
	at := func(name string) string { return filepath.Join(home, name) }
	check(t, os.Remove(at("data")))
	check(t, os.Symlink("elsewhere", at("data")))
	check(t, os.Symlink("f", at("data/inside")))
	check(t, os.Symlink("../other/g", at("data/file")))
	check(t, os.Symlink("application.db", at("data/db")))
	check(t, os.Symlink("../other", at("data/folder")))
	check(t, os.Symlink(at("elsewhere/application.db"), at("data/absolute")))
	check(t, os.Symlink("gone", at("data/broken")))
	check(t, syscall.Mkfifo(at("data/fifo"), 0o600))
	socket, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	check(t, err)
	defer syscall.Close(socket)
	t.Chdir(at("data")) // the path of a socket must be short
	check(t, syscall.Bind(socket, &syscall.SockaddrUnix{Name: "sock"}))
	check(t, os.Mkdir("lost+found", 0o000))
	check(t, os.Mkdir("empty", 0o750))
	noUTF8 := os.WriteFile("\xff", nil, 0o600) == nil // macOS has no such names

	one := take(t, s)
	for name, want := range map[string]string{
		"inside": "f", "file": "../other/g", "db": "application.db", "folder": "../other", "absolute": at("elsewhere/application.db"), "broken": "gone",
	} {
		if got, err := os.Readlink(filepath.Join(one.Path, "data", name)); err != nil || got != want {
			t.Errorf("symlink %s to %q, %v, want %q", name, got, err, want)
		}
	}
	wantLeft := []string{"data/fifo", "data/sock"}
	if noUTF8 {
		wantLeft = append(wantLeft, "data/\ufffd")
	}
	if !slices.Equal(one.LeftOut, wantLeft) {
		t.Errorf("left out %q, want %q", one.LeftOut, wantLeft)
	}
	if want := []string{"data/absolute -> " + at("elsewhere/application.db"), "data/folder -> ../other"}; !slices.Equal(one.Elsewhere, want) {
		t.Errorf("elsewhere %q, want %q", one.Elsewhere, want)
	}
	checkErr(t, one.RefuseElsewhere(), "data/folder -> ../other")
	if info, err := os.Stat(filepath.Join(one.Path, "data/empty")); err != nil || info.Mode() != 0o750|fs.ModeDir {
		t.Errorf("empty folder: %v, %v", info, err)
	}
	if _, err := os.Lstat(filepath.Join(one.Path, "data/lost+found")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("lost+found: %v", err)
	}
	if files := listed(t, one); len(files) != 2 {
		t.Errorf("files: %v", files)
	}
	clean(t, one, false)
}

// TestTakeBesideSnapshots: where they lie in data/ itself, as where that is a disk of its
// own, they are not taken again and again; nor what a restore moved aside. In a folder
// below they would be moved away with it.
func TestTakeBesideSnapshots(t *testing.T) {
	for _, place := range []string{"data/backups", "data/deep/er"} {
		s := newStore(t, map[string]string{"data/f": "f"})
		s.Dir = filepath.Join(s.Home.Node, place)
		check(t, os.MkdirAll(s.Dir, 0o755))
		_, err := s.Take(t.Context(), "a", Label{}, nil)
		checkErr(t, err, "is inside the node's data")
		checkErr(t, s.Room(), "is inside the node's data")
	}
	s := newStore(t, map[string]string{"data/f": "f", "data/data-before-1/g": "g", "data/data-backup-of-cosmovisor/h": "h"})
	s.Dir = s.Home.Data()
	for range 3 {
		if one := take(t, s); one.Files != 1 || filepath.Dir(one.Path) != s.Dir {
			t.Errorf("%d files, in %s", one.Files, one.Path)
		}
	}
	ours, _, err := s.List()
	check(t, err)
	if same, err := s.Same(ours[0]); err != nil || !same || len(ours) != 3 {
		t.Errorf("same %v, %v, %d snapshots", same, err, len(ours))
	}
}

// TestTakeAgain: what a cut has left of the same snapshot is replaced, and what others have in the folder is not touched.
func TestTakeAgain(t *testing.T) {
	s := newStore(t, map[string]string{"data/f": "f"})
	mine, theirs := s.unfinished(s.Dir, "a"), filepath.Join(s.Dir, durable.TempPrefix+"00000000-data-backup-a")
	write(t, filepath.Join(mine, "half"), "")
	write(t, filepath.Join(theirs, "half"), "")
	one, err := s.Take(t.Context(), "a", Label{}, nil)
	check(t, err)
	if got, want := names(t, one.Path), []string{"data", "data/f", "files.jsonl", "manifest.json"}; !slices.Equal(got, want) {
		t.Errorf("the snapshot has %q, want %q", got, want)
	}
	check(t, s.Sweep(nil))
	if _, err := os.Stat(filepath.Join(theirs, "half")); err != nil {
		t.Error("another home's:", err)
	}
	if _, err := s.Take(t.Context(), "a", Label{}, nil); err == nil {
		t.Error("an ID was given twice")
	}
	clean(t, one, false)
}

// TestTakeFails: an error names the file, and nothing is left.
func TestTakeFails(t *testing.T) {
	s := newStore(t, nil)
	check(t, os.Remove(s.Home.Data()))
	_, err := s.Take(t.Context(), "a", Label{}, nil)
	checkErr(t, err, "data")
	write(t, s.Home.Data(), "a file")
	_, err = s.Take(t.Context(), "a", Label{}, nil)
	checkErr(t, err, "not a directory")
	bare(t, s.Dir)
}

// cutContext ends at the n-th look at it, in one of two ways.
type cutContext struct {
	context.Context
	left int
	cut  func()
}

func (c *cutContext) Err() error {
	if c.left--; c.left < 0 {
		c.cut()
		return context.Canceled
	}
	return nil
}

// TestTakeCutOff: wherever it ends, by a context or by a kill, there is no snapshot; and after a sweep there is nothing.
func TestTakeCutOff(t *testing.T) {
	t.Parallel()
	s := newStore(t, node)
	live := names(t, s.Home.Node)
	killed := errors.New("killed")
	for _, kill := range []bool{false, true} {
		cuts := 0
		for {
			ctx := &cutContext{Context: t.Context(), left: cuts, cut: func() {
				if kill {
					panic(killed) // nothing of Take is run any more but the closing of files
				}
			}}
			var err error
			func() {
				defer func() {
					if r := recover(); r != nil && r != any(killed) {
						panic(r)
					}
				}()
				err = killed
				_, err = s.Take(ctx, "a", Label{}, nil)
			}()
			if err == nil {
				break
			}
			cuts++
			if ours, others, fault := s.List(); len(ours)+len(others) > 0 || fault != nil {
				t.Fatalf("cut %d: %v, %v, %v", cuts, ours, others, fault)
			}
			if !kill {
				bare(t, s.Dir)
				continue
			}
			check(t, s.Sweep(nil))
			if got := names(t, s.Home.Node); !slices.Equal(got, live) {
				t.Fatalf("cut %d: the home has %q, want %q", cuts, got, live)
			}
		}
		if cuts < len(node) {
			t.Errorf("%d cuts in %d files", cuts, len(node))
		}
		one, err := s.Get("a")
		check(t, err)
		clean(t, one, true)
		check(t, s.Delete(one))
		bare(t, s.Dir)
	}
}

// TestList: two homes share a folder, and what is broken in it hides nothing.
func TestList(t *testing.T) {
	shared := memory(t)
	a, b := newStore(t, map[string]string{"data/f": "f"}), newStore(t, map[string]string{"data/f": "f"})
	a.Dir, b.Dir = shared, shared
	first, theirs, second := take(t, a), take(t, b), take(t, a)
	check(t, os.MkdirAll(filepath.Join(shared, "data-backup-2025-1-2/data"), 0o755)) // Cosmovisor's
	write(t, filepath.Join(shared, "data-backup-file"), "")
	write(t, filepath.Join(a.unfinished(shared, "cut"), manifestFile), "{}")

	ours, others, fault := a.List()
	check(t, fault)
	if len(ours) != 2 || ours[0].ID != first.ID || ours[1].ID != second.ID || len(others) != 1 || others[0].ID != theirs.ID {
		t.Errorf("ours %v, others %v", ours, others)
	}
	write(t, filepath.Join(shared, "data-backup-torn", manifestFile), `{"format":`)
	write(t, filepath.Join(shared, "data-backup-later", manifestFile), `{"format":2}`)
	ours, others, fault = b.List()
	if len(ours) != 1 || len(others) != 2 {
		t.Errorf("with broken ones: ours %v, others %v", ours, others)
	}
	checkErr(t, fault, "torn")
	checkErr(t, fault, "format 2, and this solstice reads format 1")

	check(t, a.Sweep(nil))
	check(t, b.Delete(theirs))
	if ours, _, _ := a.List(); len(ours) != 2 {
		t.Errorf("after another home's was deleted: %v", ours)
	}
	// A home that was moved keeps what lies in it.
	moved := take(t, newStore(t, map[string]string{"data/f": "f"}))
	there := filepath.Join(filepath.Dir(filepath.Dir(moved.Path)), "moved")
	check(t, os.Rename(filepath.Dir(moved.Path), there))
	if ours, _, _ := (Store{Home: solstice.Home{Dir: there, Node: there}}).List(); len(ours) != 1 {
		t.Errorf("in a moved home: %v", ours)
	}
}

// TestTryTogether: a command that looks what works does not disturb a snapshot that is being taken.
func TestTryTogether(t *testing.T) {
	s := newStore(t, map[string]string{"data/f": "f"})
	file := filepath.Join(s.Home.Data(), "f")
	want := s.wayTo(file, s.Dir)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 50 {
				if how := s.wayTo(file, s.Dir); how != want {
					t.Errorf("%s, want %s", how, want)
				}
			}
		})
	}
	all.Wait()
	bare(t, s.Dir)
}

func TestFind(t *testing.T) {
	s := newStore(t, map[string]string{"data/f": "f"})
	for _, id := range []string{"v2-8-1", "v2-8-10", "v3-9-1"} {
		_, err := s.Take(t.Context(), id, Label{}, nil)
		check(t, err)
	}
	other := newStore(t, map[string]string{"data/f": "f"})
	foreign := take(t, other)
	for _, tt := range []struct{ id, want, wantErr string }{
		{"v2-8-10", "v2-8-10", ""},
		{"v2-8-1", "v2-8-1", ""}, // although another begins so
		{"data-backup-v2-8-1", "v2-8-1", ""},
		{"v3", "v3-9-1", ""},
		{"v2", "", `2 snapshots begin with "v2"`},
		{"", "", `there is no snapshot ""`},
		{"v4", "", `there is no snapshot "v4"`},
		{filepath.Join(s.Dir, "data-backup-v3-9-1") + "/", "v3-9-1", ""},
		{foreign.Path, foreign.ID, ""},
		{s.Home.Data(), "", "no whole snapshot is in"},
		{filepath.Join(s.Dir, "data-backup-gone"), "", "no whole snapshot is in"},
	} {
		got, err := s.Find(tt.id)
		if tt.wantErr == "" {
			check(t, err)
		} else {
			var refused *solstice.RefusedError
			if checkErr(t, err, tt.wantErr); !errors.As(err, &refused) || refused.Hint == "" {
				t.Errorf("Find(%q): %v, want a refusal with a hint", tt.id, err)
			}
		}
		if got.ID != tt.want && tt.wantErr == "" {
			t.Errorf("Find(%q) = %q, want %q", tt.id, got.ID, tt.want)
		}
	}
	if _, err := s.Get("v2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get of half an ID: %v", err)
	}
}

func TestSurplus(t *testing.T) {
	for _, tt := range []struct {
		have   string // oldest first: an upgrade each, in upper case still needed, - by hand
		keep   int
		remove string
	}{
		{"", 3, ""},
		{"abc", 3, ""},
		{"abcde", 3, "ab"},
		{"Abcde", 3, "b"},
		{"ABCDE", 3, ""},
		{"a-b-c-d-", 3, "a"},
		{"abc", 0, "abc"},
		{"abC", 0, "ab"},
		{"----", 1, ""},
		{"abCdEf", 2, "abd"},
	} {
		var ours []Snapshot
		for _, r := range tt.have {
			one := Snapshot{ID: string(r)}
			if r != '-' {
				one.Plan.Name = string(r)
			}
			ours = append(ours, one)
		}
		got := ""
		for _, one := range Surplus(ours, tt.keep, func(one Snapshot) bool { return strings.ToUpper(one.ID) == one.ID }) {
			got += one.ID
		}
		if got != tt.remove {
			t.Errorf("of %q with %d kept: %q is removed, want %q", tt.have, tt.keep, got, tt.remove)
		}
	}
}

func TestID(t *testing.T) {
	got := ID("v2", 100, time.Date(2026, 3, 7, 1, 2, 3, 4000, time.FixedZone("", 3600)))
	if want := "v2-100-20260307T000203.000004Z"; got != want {
		t.Errorf("ID = %q, want %q", got, want)
	}
}

// TestVerify finds what is not as it was.
func TestVerify(t *testing.T) {
	table := "data/application.db/000007.ldb"
	at := func(one Snapshot, name string) string { return filepath.Join(one.Path, name) }
	// inPlace writes to a file and puts its time back.
	inPlace := func(t *testing.T, path, content string) {
		info, err := os.Stat(path)
		check(t, err)
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		check(t, err)
		_, err = f.WriteString(content)
		check(t, errors.Join(err, f.Close(), os.Chtimes(path, time.Time{}, info.ModTime())))
	}
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, s Store, one Snapshot)
		quick  []string
		deep   []string // beside these
	}{
		{"nothing", func(*testing.T, Store, Snapshot) {}, nil, nil},
		{"live table grows", func(t *testing.T, s Store, one Snapshot) {
			check(t, durable.AppendLine(filepath.Join(s.Home.Node, table), []byte("more")))
		}, []string{table + ": it has 17 bytes and had 11"}, nil},
		{"live table is written", func(t *testing.T, s Store, one Snapshot) {
			check(t, os.WriteFile(filepath.Join(s.Home.Node, table), []byte("TABLE SEVEN"), 0o644))
		}, []string{table + ": it was changed at "}, nil},
		{"live table is written, its time put back", func(t *testing.T, s Store, one Snapshot) {
			inPlace(t, filepath.Join(s.Home.Node, table), "TABLE")
		}, nil, []string{table + ": its content has another hash than before"}},
		{"copied file is written, its time put back", func(t *testing.T, s Store, one Snapshot) {
			inPlace(t, at(one, "data/cs.wal/wal"), "HEAD")
		}, nil, []string{"data/cs.wal/wal: its content has another hash than before"}},
		{"missing", func(t *testing.T, s Store, one Snapshot) {
			check(t, os.Remove(at(one, table)))
		}, []string{table + ": it is missing"}, nil},
		{"no file any more", func(t *testing.T, s Store, one Snapshot) {
			check(t, errors.Join(os.Remove(at(one, table)), os.Symlink("000009.ldb", at(one, table))))
		}, []string{table + ": it is no regular file any more"}, nil},
		{"new", func(t *testing.T, s Store, one Snapshot) {
			write(t, at(one, "data/new"), "")
		}, []string{"data/new: it was not there"}, nil},
		{"new in config", func(t *testing.T, s Store, one Snapshot) {
			write(t, at(one, "config/new"), "")
		}, []string{"config/new: it was not there"}, nil},
		{"contract code is written once more", func(t *testing.T, s Store, one Snapshot) {
			check(t, os.WriteFile(filepath.Join(s.Home.Node, "wasm/wasm/state/wasm", code), []byte(contract), 0o644))
		}, nil, nil},
		{"contract code is another", func(t *testing.T, s Store, one Snapshot) {
			check(t, os.WriteFile(filepath.Join(s.Home.Node, "wasm/wasm/state/wasm", code), []byte("CONTRACT"), 0o644))
		}, []string{"wasm/wasm/state/wasm/" + code + ": it was changed at "}, nil},
		{"compiled code is another", func(t *testing.T, s Store, one Snapshot) {
			check(t, os.WriteFile(filepath.Join(s.Home.Node, "wasm/wasm/cache/modules/v8-wasmer5/x86_64", code), []byte("other"), 0o644))
		}, nil, nil},
		{"compiled code is gone", func(t *testing.T, s Store, one Snapshot) {
			check(t, os.Remove(at(one, "wasm/wasm/cache/modules/v8-wasmer5/x86_64/"+code)))
		}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStore(t, node)
			linking(t, s)
			one := take(t, s)
			if found := clean(t, one, true); found.Recorded != one.Files || found.Compared != 0 {
				t.Errorf("the first deep look: %+v", found)
			}
			if found := clean(t, one, true); found.Recorded != 0 || found.Compared != one.Files {
				t.Errorf("the second deep look: %+v", found)
			}
			tt.change(t, s, one)
			faulty(t, one, false, tt.quick...)
			faulty(t, one, true, append(tt.quick, tt.deep...)...)
		})
	}
}

// TestVerifyProgress: it is told from one goroutine at a time, up to the whole; and a look can be called off.
func TestVerifyProgress(t *testing.T) {
	one := take(t, newStore(t, node))
	var last, total int64
	_, err := one.Verify(t.Context(), true, func(done, of int64) { last, total = max(last, done), of })
	check(t, err)
	if last != one.Bytes || total != one.Bytes {
		t.Errorf("told of %d of %d bytes, want %d", last, total, one.Bytes)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("called off"))
	_, err = one.Verify(ctx, false, nil)
	checkErr(t, err, "called off")
	ctx, cancel = context.WithCancelCause(t.Context())
	_, err = one.Verify(ctx, true, func(int64, int64) { cancel(errors.New("called off")) })
	checkErr(t, err, "called off")
}

// TestBroken: a list or manifest that is not the one that was written is an error, never a shorter snapshot.
func TestBroken(t *testing.T) {
	s := newStore(t, node)
	one := take(t, s)
	list := content(t, filepath.Join(one.Path, listFile))
	first, rest, _ := strings.Cut(list, "\n")
	const another = "it is not the list that was written with the snapshot"
	for _, tt := range []struct{ list, want string }{
		{rest, another},
		{list + list, another},
		{strings.Replace(list, `"size":1`, `"size":2`, 1), another},
		{list + "\n", "unexpected end of JSON input"},
		{first + "\ngarbage\n" + rest, "invalid character"},
		{list[:len(list)-9], "unexpected end of JSON input"},
		{`{"path":"../x"}` + "\n" + list, `path "../x" leaves the snapshot`},
		{`{"path":"/etc/passwd"}` + "\n" + list, `path "/etc/passwd" leaves the snapshot`},
		{`{"path":"` + strings.Repeat("x", 2<<20) + `"}`, "token too long"},
	} {
		check(t, os.WriteFile(filepath.Join(one.Path, listFile), []byte(tt.list), 0o600))
		_, err := one.Verify(t.Context(), false, nil)
		checkErr(t, err, tt.want)
		_, err = s.Same(one)
		checkErr(t, err, tt.want)
		checkErr(t, s.Place(t.Context(), one, Data, s.Staging(s.Home.Data()), nil), tt.want)
		check(t, s.Sweep(nil))
	}
	check(t, os.Remove(filepath.Join(one.Path, listFile)))
	if _, err := one.Verify(t.Context(), false, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a list: %v", err)
	}
	check(t, os.WriteFile(filepath.Join(one.Path, listFile), []byte(list), 0o600))
	check(t, os.WriteFile(filepath.Join(one.Path, hashFile), []byte("garbage"), 0o600))
	_, err := one.Verify(t.Context(), true, nil)
	checkErr(t, err, hashFile)
	check(t, os.WriteFile(filepath.Join(one.Path, manifestFile), []byte("garbage"), 0o600))
	_, err = s.Get(one.ID)
	checkErr(t, err, manifestFile)
	_, _, err = s.List()
	checkErr(t, err, manifestFile)
}

// TestAlone: a linked file costs nothing until the node has deleted its name.
func TestAlone(t *testing.T) {
	s := newStore(t, map[string]string{
		"data/application.db/CURRENT": "MANIFEST-000001\n", "data/application.db/MANIFEST-000001": manifest(99),
		"data/application.db/000002.ldb": strings.Repeat("t", 1<<20), "data/LOG": strings.Repeat("l", 1<<18),
	})
	linking(t, s)
	one := take(t, s)
	alone := func(want int64) {
		t.Helper()
		// Blocks of the list, the manifest and the small files; and some filesystems allocate more ahead.
		if got, err := one.Alone(); err != nil || got < want || got > want+1<<17 {
			t.Errorf("Alone = %d, %v, want %d and a little", got, err, want)
		}
	}
	alone(1 << 18)
	second := take(t, s)
	check(t, os.Remove(filepath.Join(s.Home.Data(), "application.db/000002.ldb")))
	alone(1 << 18) // both snapshots hold it
	check(t, s.Delete(second))
	alone(1<<20 + 1<<18)
}

// TestManifestFields keeps the names that are on disks.
func TestManifestFields(t *testing.T) {
	s := newStore(t, map[string]string{"data/f": "f"})
	one := take(t, s)
	var fields map[string]any
	check(t, json.Unmarshal([]byte(content(t, filepath.Join(one.Path, manifestFile))), &fields))
	for _, name := range []string{
		"format", "home", "plan", "height", "dir", "digest", "taken", "seconds", "files", "bytes", "linked", "cloned", "copied", "new_bytes", "list",
	} {
		if _, ok := fields[name]; !ok {
			t.Errorf("manifest.json has no %s: %v", name, fields)
		}
	}
	info, err := os.Stat(filepath.Join(s.Home.Data(), "f"))
	check(t, err)
	how := listed(t, one)["data/f"].How
	want := fmt.Sprintf(`{"path":"data/f","size":1,"mtime":%d,"how":"%s"}`+"\n", info.ModTime().UnixNano(), how)
	if got := content(t, filepath.Join(one.Path, listFile)); got != want {
		t.Errorf("list %q, want %q", got, want)
	}
}

// TestIDOfALongName: each name that a plan's folder can have gives an ID that a folder can
// be called by, with room for what stands around it, and two names give two.
func TestIDOfALongName(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	seen := map[string]int{}
	for n := 1; n <= 255; n++ {
		id := ID(strings.Repeat("%E5", 85)[:n], 1<<62, at)
		if len(durable.TempName(prefix+id)) > 255 || id != filepath.Base(id) {
			t.Fatalf("%d bytes give %q", n, id)
		}
		if other, taken := seen[id]; taken {
			t.Errorf("%d and %d bytes give %q", other, n, id)
		}
		seen[id] = n
	}
	if got := ID("v2", 7, at); got != "v2-7-20260102T030405.000006Z" {
		t.Error(got)
	}
}
