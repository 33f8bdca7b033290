package snapshot

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"solstice/internal/durable"
)

// farStore is a home whose folder for snapshots is on another filesystem.
func farStore(t *testing.T, files map[string]string) Store {
	t.Helper()
	s := storeIn(t, t.TempDir(), files)
	s.Dir = memory(t)
	write(t, filepath.Join(s.Home.Node, "probe"), "")
	if how := s.wayTo(filepath.Join(s.Home.Node, "probe"), s.Dir); how != Copy {
		t.Skipf("needs two filesystems: from %s to %s it is %s", s.Home.Node, s.Dir, how)
	}
	return s
}

// waits demands that exactly these snapshots wait for their transfer.
func waits(t *testing.T, s Store, want ...Snapshot) {
	t.Helper()
	waiting, err := s.Waiting()
	check(t, err)
	if !slices.EqualFunc(waiting, want, func(a, b Snapshot) bool { return a.Path == b.Path }) {
		t.Errorf("waiting: %v, want %v", waiting, want)
	}
}

// TestTransfer: the snapshot lies near the data first; then every file is on the other disk, as it was, and the local one
// is released.
func TestTransfer(t *testing.T) {
	s := farStore(t, node)
	check(t, os.Symlink("priv_validator_state.json", filepath.Join(s.Home.Data(), "link")))
	check(t, os.Chmod(filepath.Join(s.Home.Data(), "priv_validator_state.json"), 0o600))
	check(t, os.Mkdir(filepath.Join(s.Home.Data(), "empty"), 0o750))
	near, second := take(t, s), take(t, s)
	if filepath.Dir(near.Path) != s.Home.Node {
		t.Fatalf("taken to %s", near.Path)
	}
	waits(t, s, near, second)
	// The node runs again meanwhile: a contract is written once more, a module is compiled anew.
	module := "wasm/wasm/cache/modules/v8-wasmer5/x86_64/" + code
	check(t, os.WriteFile(filepath.Join(s.Home.Node, "wasm/wasm/state/wasm", code), []byte(contract), 0o644))
	check(t, os.WriteFile(filepath.Join(near.Path, module), []byte("another"), 0o644))
	var last, total int64
	far, err := s.Transfer(t.Context(), near, func(done, of int64) { last, total = done, of })
	check(t, err)
	if want := near.Bytes - int64(len(node[module])); last != want || total != near.Bytes {
		t.Errorf("told of %d of %d bytes, want %d", last, total, want)
	}
	waits(t, s, second)
	if _, err := os.Stat(near.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the local one: %v", err)
	}
	got, err := s.Get(near.ID)
	check(t, err)
	if got.Path != far.Path || filepath.Dir(far.Path) != s.Dir || got.List != far.List || got.Label != near.Label || !got.Taken.Equal(near.Taken) ||
		!slices.Equal(got.LeftOut, near.LeftOut) || got.Copied != near.Files-1 || got.Files != got.Copied || got.NewBytes != got.Bytes {
		t.Errorf("on the other disk: %+v\nlocal was: %+v", got, near)
	}
	if found := clean(t, got, true); found.Compared != got.Files {
		t.Errorf("hashes: %+v", found)
	}
	var want []string
	for _, name := range names(t, second.Path) {
		if name != module {
			want = append(want, name)
		}
	}
	if there := names(t, got.Path); !slices.Equal(there, want) {
		t.Errorf("on the other disk: %q, want %q", there, want)
	}
	for _, name := range want {
		if name == listFile || name == manifestFile {
			continue
		}
		a, err := os.Lstat(filepath.Join(second.Path, name))
		check(t, err)
		b, err := os.Lstat(filepath.Join(got.Path, name))
		check(t, err)
		again := strings.HasPrefix(name, "wasm/") && b.Mode().IsRegular() // which was written once more
		if a.Mode() != b.Mode() || a.Mode()&fs.ModeSymlink == 0 && !again && !a.ModTime().Equal(b.ModTime()) {
			t.Errorf("%s is %v of %v, was %v of %v", name, b.Mode(), b.ModTime(), a.Mode(), a.ModTime())
		}
		if a.Mode().IsRegular() && content(t, filepath.Join(got.Path, name)) != node[name] {
			t.Errorf("%s holds %q", name, content(t, filepath.Join(got.Path, name)))
		}
	}
	check(t, s.Place(t.Context(), got, Data, s.Staging(s.Home.Data()), nil))
	check(t, s.Sweep(nil))

	// What is changed on that disk is found, also with its time put back.
	path := filepath.Join(got.Path, "data/cs.wal/wal")
	info, err := os.Stat(path)
	check(t, err)
	check(t, errors.Join(os.WriteFile(path, []byte("HEAD"), 0o644), os.Chtimes(path, time.Time{}, info.ModTime())))
	faulty(t, got, true, "data/cs.wal/wal: its content has another hash")
}

// TestTransferCutOff: it goes on where it was, and what is there already is not copied once more.
func TestTransferCutOff(t *testing.T) {
	s := farStore(t, node)
	near := take(t, s)
	temp := s.unfinished(s.Dir, near.ID)
	stop := errors.New("stop")
	last, seen := map[string]fs.FileInfo{}, 0
	for cut := int64(0); ; cut += 40 {
		ctx, cancel := context.WithCancelCause(t.Context())
		far, err := s.Transfer(ctx, near, func(done, _ int64) {
			if done >= cut {
				cancel(stop)
			}
		})
		cancel(nil)
		there := map[string]fs.FileInfo{}
		root := temp
		if err == nil {
			root = far.Path
		}
		for _, name := range names(t, root) {
			info, err := os.Lstat(filepath.Join(root, name))
			check(t, err)
			if info.Mode().IsRegular() && filepath.Dir(name) != "." {
				there[name] = info
			}
		}
		for name, before := range last {
			if now := there[name]; now == nil || !os.SameFile(before, now) {
				t.Errorf("cut at %d: %s was copied once more", cut, name)
			}
		}
		if last = there; err == nil {
			clean(t, far, true)
			break
		}
		if seen++; !errors.Is(err, stop) {
			t.Fatal(err)
		}
		waits(t, s, near)
		if ours, _, _ := s.List(); len(ours) != 1 || ours[0].Path != near.Path {
			t.Errorf("cut at %d: %v", cut, ours)
		}
		waiting, err := s.Waiting()
		check(t, err)
		check(t, s.Sweep(func(path string) bool { return s.Transferring(path, waiting) }))
		if _, err := os.Stat(temp); err != nil {
			t.Errorf("cut at %d: a sweep takes what is to be gone on with: %v", cut, err)
		}
		clean(t, near, false)
	}
	if seen < 5 {
		t.Errorf("cut off %d times", seen)
	}
	bare(t, s.Home.Node)
	waits(t, s)
	check(t, s.Sweep(nil))
	bare(t, s.Home.Data())
}

// TestTransferring: only what belongs to a snapshot that still waits.
func TestTransferring(t *testing.T) {
	s := farStore(t, map[string]string{"data/f": "f"})
	one := take(t, s)
	waiting := []Snapshot{one}
	for path, want := range map[string]bool{
		s.unfinished(s.Dir, one.ID):                  true,
		s.unfinished(s.Dir, one.ID+"0"):              false,
		s.unfinished(filepath.Dir(one.Path), "x"):    false,
		s.unfinished(filepath.Dir(one.Path), one.ID): false, // it was being deleted
		one.Path: false,
	} {
		if got := s.Transferring(path, waiting); got != want {
			t.Errorf("Transferring(%s) = %v", path, got)
		}
	}
}

// TestTransferRepairs: what an earlier try has left is taken as it is only if it is whole.
func TestTransferRepairs(t *testing.T) {
	t.Parallel()
	table, module := "data/application.db/000007.ldb", "wasm/wasm/cache/modules/v8-wasmer5/x86_64/"+code
	keepTime := func(t *testing.T, path string, change func() error) {
		info, err := os.Stat(path)
		check(t, err)
		check(t, errors.Join(change(), os.Chtimes(path, time.Time{}, info.ModTime())))
	}
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, near Snapshot, temp string)
	}{
		{"torn", func(t *testing.T, _ Snapshot, temp string) { check(t, os.Truncate(filepath.Join(temp, table), 3)) }},
		{"other content", func(t *testing.T, _ Snapshot, temp string) {
			path := filepath.Join(temp, table)
			keepTime(t, path, func() error { return os.WriteFile(path, []byte("TABLE SEVEN"), 0o600) })
		}},
		{"a folder", func(t *testing.T, _ Snapshot, temp string) {
			path := filepath.Join(temp, table)
			check(t, errors.Join(os.Remove(path), os.MkdirAll(filepath.Join(path, "x"), 0o700)))
		}},
		{"a symlink", func(t *testing.T, near Snapshot, temp string) {
			path := filepath.Join(temp, table)
			check(t, errors.Join(os.Remove(path), os.Symlink(filepath.Join(near.Path, table), path)))
		}},
		{"compiled code is another now", func(t *testing.T, near Snapshot, _ string) {
			check(t, os.WriteFile(filepath.Join(near.Path, module), []byte("other"), 0o644))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := farStore(t, node)
			near := take(t, s)
			ctx, cancel := context.WithCancel(t.Context())
			_, err := s.Transfer(ctx, near, func(done, total int64) {
				if done >= total-int64(len(node["config/genesis.json"])) { // the last
					cancel()
				}
			})
			temp := s.unfinished(s.Dir, near.ID)
			if _, statErr := os.Stat(filepath.Join(temp, module)); statErr != nil || !errors.Is(err, context.Canceled) {
				t.Fatal("the first try: ", err, statErr)
			}
			tt.change(t, near, temp)
			far, err := s.Transfer(t.Context(), near, nil)
			check(t, err)
			clean(t, far, true)
			if info, err := os.Lstat(filepath.Join(far.Path, table)); err != nil || !info.Mode().IsRegular() {
				t.Errorf("the table: %v, %v", info.Mode(), err)
			}
		})
	}
}

// TestTransferFails: with a reason, and the local snapshot stays.
func TestTransferFails(t *testing.T) {
	t.Parallel()
	table := "data/application.db/000007.ldb"
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, s Store, near Snapshot) error
		want string
	}{
		{"the source has changed", func(t *testing.T, s Store, near Snapshot) error {
			check(t, durable.AppendLine(filepath.Join(near.Path, table), []byte("more")))
			_, err := s.Transfer(t.Context(), near, nil)
			return err
		}, table + ": it has 17 bytes and had 11"},
		{"the source is gone", func(t *testing.T, s Store, near Snapshot) error {
			check(t, os.Remove(filepath.Join(near.Path, table)))
			_, err := s.Transfer(t.Context(), near, nil)
			return err
		}, table + ": it is missing"},
		{"the disk lies", func(t *testing.T, s Store, near Snapshot) error {
			path := filepath.Join(s.unfinished(s.Dir, near.ID), table)
			_, err := s.Transfer(t.Context(), near, func(int64, int64) {
				if f, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
					f.WriteString("X")
					f.Close()
				}
			})
			return err
		}, "what was read back is not what was written"},
		{"the folder is gone", func(t *testing.T, s Store, near Snapshot) error {
			check(t, os.RemoveAll(s.Dir))
			_, err := s.Waiting()
			checkErr(t, err, "no such file")
			_, err = s.Transfer(t.Context(), near, nil)
			return err
		}, "no such file"},
		{"the list was written to", func(t *testing.T, s Store, near Snapshot) error {
			check(t, durable.AppendLine(filepath.Join(near.Path, listFile), []byte(`{"path":"x"}`)))
			_, err := s.Transfer(t.Context(), near, nil)
			return err
		}, "x: it is missing"},
		{"a damaged copy is there already", func(t *testing.T, s Store, near Snapshot) error {
			linkTree(t, near.Path, filepath.Join(s.Home.Node, "kept"))
			far, err := s.Transfer(t.Context(), near, nil)
			check(t, err)
			check(t, os.Rename(filepath.Join(s.Home.Node, "kept"), near.Path))
			check(t, os.Remove(filepath.Join(far.Path, table)))
			_, err = s.Transfer(t.Context(), near, nil)
			return err
		}, "is damaged: " + table + ": it is missing; delete it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := farStore(t, node)
			near := take(t, s)
			checkErr(t, tt.run(t, s, near), tt.want)
			if _, err := read(near.Path); err != nil {
				t.Errorf("the local one: %v", err)
			}
		})
	}
}

// linkTree is cp -al.
func linkTree(t *testing.T, from, to string) {
	t.Helper()
	check(t, os.Mkdir(to, 0o700))
	for _, name := range names(t, from) {
		info, err := os.Lstat(filepath.Join(from, name))
		check(t, err)
		if info.IsDir() {
			err = os.Mkdir(filepath.Join(to, name), 0o700)
		} else {
			err = os.Link(filepath.Join(from, name), filepath.Join(to, name))
		}
		check(t, err)
	}
}

// TestTransferReleases: a cut between the copy's name and the local one's end leaves both. The copy counts, and the next
// try releases the local one.
func TestTransferReleases(t *testing.T) {
	s := farStore(t, node)
	near, kept := take(t, s), filepath.Join(s.Home.Node, "kept")
	linkTree(t, near.Path, kept)
	far, err := s.Transfer(t.Context(), near, nil)
	check(t, err)
	check(t, os.Rename(kept, near.Path))
	ours, _, err := s.List()
	if err != nil || len(ours) != 1 || ours[0].Path != far.Path {
		t.Errorf("with both: %v, %v", ours, err)
	}
	if found, err := s.Find("v2"); err != nil || found.Path != far.Path {
		t.Errorf("with both, Find: %v, %v", found.Path, err)
	}
	waits(t, s, near)
	again, err := s.Transfer(t.Context(), near, func(int64, int64) { t.Error("copied once more") })
	if err != nil || again.Path != far.Path {
		t.Errorf("the next try: %s, %v", again.Path, err)
	}
	waits(t, s)
	bare(t, s.Home.Node)
	// What is there already stays there, by whatever path it is named.
	link := filepath.Join(s.Home.Node, filepath.Base(far.Path))
	check(t, os.Symlink(far.Path, link))
	for _, path := range []string{far.Path, link} {
		far.Path = path
		if _, err := s.Transfer(t.Context(), far, nil); err != nil {
			t.Error(err)
		}
		clean(t, again, true)
	}
}
