package snapshot

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"solstice"
	"solstice/internal/child"
)

// mount mounts a filesystem on a new folder for the time of the test.
func mount(t *testing.T, kind, source string, flags uintptr, options string) string {
	t.Helper()
	dir := t.TempDir()
	mountOn(t, dir, kind, source, flags, options)
	return dir
}

func mountOn(t *testing.T, dir, kind, source string, flags uintptr, options string) {
	t.Helper()
	if err := unix.Mount(source, dir, kind, flags, options); err != nil {
		t.Skip("needs the right to mount:", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// disk is a filesystem on a loop device whose power can be cut.
type disk struct{ image, dir string }

func newDisk(t *testing.T, mkfs ...string) disk {
	t.Helper()
	for _, tool := range []string{mkfs[0], "xfs_io"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs xfsprogs and e2fsprogs:", err)
		}
	}
	d := disk{filepath.Join(t.TempDir(), "image"), t.TempDir()}
	run(t, "truncate", "-s", "320M", d.image)
	run(t, mkfs[0], append(mkfs[1:], d.image)...)
	if output, err := exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput(); err != nil {
		t.Skipf("needs the right to mount a loop device: %v, %s", err, output)
	}
	t.Cleanup(func() { unix.Unmount(d.dir, unix.MNT_DETACH) })
	return d
}

// cut takes the power, and gives it back.
func (d disk) cut(t *testing.T) {
	t.Helper()
	run(t, "xfs_io", "-x", "-c", "shutdown", d.dir)
	run(t, "umount", d.dir)
	run(t, "mount", "-o", "loop", d.image, d.dir)
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if output, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v, %s", name, args, err, output)
	}
}

// disks are the filesystems that nodes live on, with the way in which snapshots are taken there.
var disks = []struct {
	name string
	mkfs []string
	how  How
}{
	{"XFS", []string{"mkfs.xfs", "-q", "-f", "-m", "reflink=1"}, Clone},
	{"XFS without clones", []string{"mkfs.xfs", "-q", "-f", "-m", "reflink=0"}, Link},
	{"ext4", []string{"mkfs.ext4", "-q", "-F"}, Link},
}

// TestPowerCut: what Take, Place and Transfer have returned from is there after the filesystem was cut off without a sync,
// every file of it, also what the node itself had not synced.
func TestPowerCut(t *testing.T) {
	for _, tt := range disks {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			near := newDisk(t, tt.mkfs...)
			s := storeIn(t, near.dir, node)
			run(t, "sync", "-f", near.dir)
			for i := range 40 {
				name := fmt.Sprintf("data/snapshots/2000/3/%d", i)
				check(t, os.MkdirAll(filepath.Join(s.Home.Node, filepath.Dir(name)), 0o755))
				check(t, os.WriteFile(filepath.Join(s.Home.Node, name), []byte(strings.Repeat(name, 999)), 0o644))
			}
			one := take(t, s)
			if how := listed(t, one)["data/snapshots/2000/3/7"].How; how != tt.how {
				t.Fatalf("taken by %s, want %s", how, tt.how)
			}
			ready := s.Staging(s.Home.Data())
			check(t, s.Place(t.Context(), one, Data, ready, nil))
			check(t, os.WriteFile(filepath.Join(s.Home.Node, "unsynced"), []byte("lost"), 0o644))
			near.cut(t)

			if content, err := os.ReadFile(filepath.Join(s.Home.Node, "unsynced")); err == nil && len(content) > 0 {
				t.Error("nothing was cut: an unsynced file has its content")
			}
			one, err := s.Get(one.ID)
			check(t, err)
			clean(t, one, true)
			for _, dir := range []string{filepath.Join(one.Path, Data), ready} {
				for i := range 40 {
					name := fmt.Sprintf("snapshots/2000/3/%d", i)
					if got := content(t, filepath.Join(dir, name)); got != strings.Repeat("data/"+name, 999) {
						t.Errorf("%s has %d bytes after the cut", filepath.Join(dir, name), len(got))
					}
				}
				if got := content(t, filepath.Join(dir, "cs.wal/wal")); got != "head" {
					t.Errorf("%s: %q", dir, got)
				}
			}

			far := newDisk(t, tt.mkfs...)
			s.Dir = far.dir
			moved, err := s.Transfer(t.Context(), one, nil)
			check(t, err)
			far.cut(t)
			if found := clean(t, moved, true); found.Compared != moved.Files {
				t.Errorf("on the other disk after the cut: %+v", found)
			}
		})
	}
}

// TestAloneCloned: blocks that the node shares cost nothing, until it has written its own.
func TestAloneCloned(t *testing.T) {
	t.Parallel()
	// XFS frees what a removed file had a while later, so the probe of a clone is made of another file: the table.
	s := storeIn(t, newDisk(t, disks[0].mkfs...).dir, map[string]string{"data/000001.ldb": ""})
	path := filepath.Join(s.Home.Data(), "file")
	write(t, path, strings.Repeat("x", 1<<20))
	one := take(t, s)
	alone := func(want int64) {
		t.Helper()
		if got, err := one.Alone(); err != nil || got < want || got > want+1<<16 {
			t.Errorf("Alone = %d, %v, want %d and a little", got, err, want)
		}
	}
	alone(0)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	check(t, err)
	_, err = f.WriteAt(make([]byte, 1<<18), 1<<18)
	check(t, errors.Join(err, f.Sync(), f.Close()))
	alone(1 << 18)
	check(t, os.Truncate(path, 0))
	alone(1 << 20)
	clean(t, one, true)
	if got := content(t, filepath.Join(one.Path, "data/file")); got != strings.Repeat("x", 1<<20) {
		t.Error("a clone has changed with its source")
	}
}

// TestFullDisk: an error and no debris where the copies don't fit; the local snapshot stays where the other disk is full.
func TestFullDisk(t *testing.T) {
	s := storeIn(t, mount(t, "tmpfs", "tmpfs", 0, "size=1m"), map[string]string{
		"data/application.db/CURRENT": "MANIFEST-000001\n", "data/application.db/MANIFEST-000001": manifest(9),
		"data/application.db/000007.ldb": strings.Repeat("t", 300<<10), "data/blockstore.db": strings.Repeat("b", 400<<10),
	})
	check(t, s.Room())
	_, err := s.Take(t.Context(), "a", Label{}, nil)
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "blockstore.db") {
		t.Errorf("error %v, want no space", err)
	}
	bare(t, s.Dir)
	check(t, os.Truncate(filepath.Join(s.Home.Data(), "blockstore.db"), 100<<10))
	one := take(t, s)

	s.Dir = mount(t, "tmpfs", "tmpfs", 0, "size=256k")
	_, err = s.Transfer(t.Context(), one, nil)
	checkErr(t, err, "has 0 MiB free and the copy of snapshot "+one.ID+" needs 1 MiB")
	clean(t, one, true)
	waits(t, s, one)
}

// TestFullCopy: where nothing can be linked everything is copied, with progress, if there is room.
func TestFullCopy(t *testing.T) {
	s := newStore(t, node)
	large := filepath.Join(s.Home.Data(), "large")
	write(t, large, strings.Repeat("x", copyChunk+1<<20))
	// Two mounts of one filesystem: no link leads from the one to the other, and this one can't be written to.
	mountOn(t, s.Home.Data(), "", s.Home.Data(), unix.MS_BIND, "")
	check(t, unix.Mount("", s.Home.Data(), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	s.Dir = mount(t, "tmpfs", "tmpfs", 0, "size=2m")
	for _, err := range []error{s.Room(), func() error { _, err := s.Take(t.Context(), "a", Label{}, nil); return err }()} {
		var refused *solstice.RefusedError
		checkErr(t, err, fmt.Sprintf("a snapshot in %s has to be a full copy: it needs 66 MiB and 2 MiB are free", s.Dir))
		if !errors.As(err, &refused) || !strings.Contains(refused.Hint, "DAEMON_DATA_BACKUP_DIR") {
			t.Errorf("error %#v", err)
		}
	}
	bare(t, s.Dir, s.Home.Node)

	s.Dir = memory(t)
	check(t, s.Room())
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := s.Take(ctx, "a", Label{}, func(done, _ int64) {
		if done > copyChunk+1<<19 {
			t.Error("a copy goes on after it was called off")
		}
		if done >= copyChunk/2 {
			cancel(errors.New("called off"))
		}
	})
	checkErr(t, err, "called off")
	bare(t, s.Dir)
	var told []int64
	taken, err := s.Take(t.Context(), "a", Label{}, func(done, total int64) { told = append(told, done, total) })
	check(t, err)
	one, err := s.Get("a")
	check(t, err)
	var whole int64
	for _, part := range []string{Data, Wasm, Config} {
		bytes, err := size(filepath.Join(s.Home.Node, part))
		check(t, err)
		whole += bytes
	}
	if one.Copied != taken.Files || len(told) != 2*one.Files+2 || slices.Max(told) != whole || told[1] != whole || !slices.IsSorted(everySecond(told)) {
		t.Errorf("copied %d files; progress %v of %d", one.Copied, told, whole)
	}
	clean(t, one, true)
	waits(t, s)
}

func everySecond(all []int64) (some []int64) {
	for i := 0; i < len(all); i += 2 {
		some = append(some, all[i])
	}
	return some
}

// TestDiskOfItsOwn: data/ is a mount point, so the only folder that can be linked to is data/ itself.
func TestDiskOfItsOwn(t *testing.T) {
	s := storeIn(t, memory(t), nil)
	mountOn(t, s.Home.Data(), "tmpfs", "tmpfs", 0, "")
	check(t, os.Mkdir(filepath.Join(s.Home.Data(), "lost+found"), 0o700))
	write(t, filepath.Join(s.Home.Data(), "f"), "f")
	for range 2 {
		one := take(t, s)
		if filepath.Dir(one.Path) != s.Home.Data() || one.Files != 1 || !slices.Equal(names(t, filepath.Join(one.Path, Data)), []string{"f"}) {
			t.Errorf("taken to %s: %q", one.Path, names(t, one.Path))
		}
		if same, err := s.Same(one); err != nil || !same {
			t.Errorf("same: %v, %v", same, err)
		}
	}
	if ours, _, err := s.List(); err != nil || len(ours) != 2 {
		t.Errorf("%v, %v", ours, err)
	}
	bare(t, s.Home.Node)
}

const nobody = 65534

// give makes a folder and what is in it nobody's own.
func give(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be somebody else")
	}
	check(t, os.Chmod(filepath.Dir(dir), 0o755))
	for _, name := range append(names(t, dir), ".") {
		check(t, os.Lchown(filepath.Join(dir, name), nobody, nobody))
	}
}

// asNobody runs fn in a thread of that user.
func asNobody(t *testing.T, fn func()) {
	t.Helper()
	var errno syscall.Errno
	done := make(chan bool)
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread ends with its user
		if _, _, errno = unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno == 0 {
			fn()
		}
	}()
	if <-done; errno != 0 {
		t.Fatal(errno)
	}
}

// TestOtherOwner: a file of somebody else that can be read is copied, and only that one; one that can't be read is an
// error that names it.
func TestOtherOwner(t *testing.T) {
	s := newStore(t, node)
	linking(t, s)
	give(t, s.Home.Node)
	linked := func(id string, want int) {
		t.Helper()
		asNobody(t, func() {
			if one, err := s.Take(t.Context(), id, Label{}, nil); err != nil || one.Linked != want {
				t.Errorf("%s: %d files are linked, want %d; %v", id, one.Linked, want, err)
			}
		})
	}
	linked("all-mine", 7)
	table := filepath.Join(s.Home.Data(), "application.db/000007.ldb")
	check(t, os.Chown(table, 0, 0))
	linked("one-of-root", 6)
	one, err := s.Get("one-of-root")
	check(t, err)
	if how := listed(t, one)["data/application.db/000007.ldb"].How; how != Copy {
		t.Errorf("the file of root was taken by %s", how)
	}
	clean(t, one, true)

	fails := func(want string) {
		t.Helper()
		asNobody(t, func() {
			_, err := s.Take(t.Context(), "fails", Label{}, nil)
			if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want that %s can't be used", err, want)
			}
		})
		if _, err := os.Stat(s.unfinished(s.Dir, "fails")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("left: %v", err)
		}
	}
	check(t, os.Chmod(table, 0o600))
	fails("000007.ldb")
	check(t, os.Chmod(table, 0o644))
	for _, folder := range []string{s.Home.Node, s.Home.Data()} {
		check(t, os.Chown(folder, 0, 0))
	}
	fails(s.Home.Node)
}

// TestKeepsOwner: root restores a node's files as the node's.
func TestKeepsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a file away")
	}
	s := newStore(t, node)
	for _, name := range names(t, s.Home.Node) {
		check(t, os.Chown(filepath.Join(s.Home.Node, name), 1234, 5678))
	}
	one := take(t, s)
	s.Dir = t.TempDir()
	far, err := s.Transfer(t.Context(), one, nil)
	check(t, err)
	to := filepath.Join(s.Home.Node, "placed")
	check(t, s.Place(t.Context(), far, Data, to, nil))
	for _, name := range append(names(t, to), ".") {
		info, err := os.Stat(filepath.Join(to, name))
		check(t, err)
		if stat := info.Sys().(*syscall.Stat_t); stat.Uid != 1234 || stat.Gid != 5678 {
			t.Errorf("%s is of %d:%d", name, stat.Uid, stat.Gid)
		}
	}
}

// again runs this test binary once more, as what TestMain says, until the test ends. It reads from stdin for ever.
func again(t *testing.T, what string, s Store) (p *child.Process, stdout *bufio.Scanner) {
	t.Helper()
	self, err := os.Executable()
	check(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "SNAPSHOT_CHILD="+what, "SNAPSHOT_HOME="+s.Home.Node)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	check(t, err)
	output, err := cmd.StdoutPipe()
	check(t, err)
	p, err = child.Start(cmd, syscall.SIGKILL)
	check(t, err)
	t.Cleanup(func() {
		check(t, errors.Join(p.Signal(syscall.SIGKILL), stdin.Close(), output.Close()))
		<-p.Done()
	})
	return p, bufio.NewScanner(output)
}

func TestMain(m *testing.M) {
	home := os.Getenv("SNAPSHOT_HOME")
	s := Store{Home: solstice.Home{Dir: home, Node: home}}
	switch os.Getenv("SNAPSHOT_CHILD") {
	case "":
		os.Exit(m.Run())
	case "take": // and delete, on and on
		for i := 0; ; i++ {
			one, err := s.Take(context.Background(), fmt.Sprintf("v2-%d", i), Label{}, nil)
			if err == nil && i%2 == 0 {
				fmt.Println(one.ID)
			} else if err == nil {
				err = s.Delete(one)
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	case "lock": // as pebble does
		f, err := os.Create(filepath.Join(home, "data/state.db/LOCK"))
		if err == nil {
			err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
		}
		fmt.Println(err)
		bufio.NewReader(os.Stdin).ReadByte()
	}
}

// TestKill: a process that takes and deletes snapshots is killed at any moment. What it said it has taken is there and
// whole, and what else there is is whole or swept.
func TestKill(t *testing.T) {
	t.Parallel()
	for round := range 6 {
		s := newStore(t, node)
		live := names(t, s.Home.Node)
		p, lines := again(t, "take", s)
		said := map[string]bool{}
		for lines.Scan() {
			if said[lines.Text()] = true; len(said) == 1 {
				time.AfterFunc(time.Duration(round)*1300*time.Microsecond, func() { _ = p.Signal(syscall.SIGKILL) })
			}
		}
		<-p.Done()
		if end := p.End(); end.Signal != syscall.SIGKILL || len(said) == 0 {
			t.Fatalf("the child: %v; it has taken %d", end, len(said))
		}
		check(t, s.Sweep(nil))
		ours, _, fault := s.List()
		check(t, fault)
		for _, one := range ours {
			clean(t, one, true)
			delete(said, one.ID)
			check(t, s.Delete(one))
		}
		if len(said) > 0 {
			t.Errorf("these were taken, and are not there: %v", said)
		}
		if got := names(t, s.Home.Node); !slices.Equal(got, live) {
			t.Errorf("left in the home: %q", got)
		}
	}
}

// TestInUseByFcntl: the lock of pebble and RocksDB.
func TestInUseByFcntl(t *testing.T) {
	s := newStore(t, map[string]string{"data/state.db/LOCK": ""})
	p, lines := again(t, "lock", s)
	if lines.Scan(); lines.Text() != "<nil>" {
		t.Fatalf("the child: %q, %v", lines.Text(), lines.Err())
	}
	checkErr(t, s.InUse(), "data/state.db open")
	_, err := s.Take(t.Context(), "a", Label{}, nil)
	checkErr(t, err, "a node runs on this home")
	check(t, p.Signal(syscall.SIGKILL))
	<-p.Done()
	check(t, s.InUse())
}
