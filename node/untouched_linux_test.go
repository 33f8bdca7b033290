package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"solstice"
)

// stamps is every file below dir with all that a system keeps of it but when it was last read.
func stamps(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var s unix.Stat_t
		if err := unix.Lstat(path, &s); err != nil {
			return err
		}
		fmt.Fprintln(&b, path, s.Ino, s.Mode, s.Nlink, s.Uid, s.Size, s.Blocks, s.Mtim, s.Ctim)
		if s.Mode&unix.S_IFMT == unix.S_IFREG {
			content, err := os.ReadFile(path)
			fmt.Fprintf(&b, "%q\n", content)
			return err
		}
		return nil
	})
	check(t, err)
	return b.String()
}

// TestNothingIsTouched: of no kind of database any file changes, whatever the reading comes to.
func TestNothingIsTouched(t *testing.T) {
	for _, kind := range kinds {
		for _, tt := range []struct {
			name   string
			change func(t *testing.T, app string)
			want   string // in the error; empty: height 36
		}{
			{"whole", func(*testing.T, string) {}, ""},
			{"no-lock", func(t *testing.T, app string) { remove(t, app+"/LOCK") }, ""},
			{"lock-with-content", func(t *testing.T, app string) { write(t, app+"/LOCK", []byte("x")) }, ""},
			{"leftovers", func(t *testing.T, app string) {
				write(t, app+"/000999.dbtmp", []byte("x"))
				write(t, app+"/000998.log", nil)
				write(t, app+"/CURRENT.bak", []byte("MANIFEST-000001\n"))
			}, ""},
			{"no-tables", func(t *testing.T, app string) {
				for _, pattern := range []string{"*.ldb", "*.sst"} {
					tables, _ := filepath.Glob(filepath.Join(app, pattern))
					remove(t, tables...)
				}
			}, app(kind, "", "file does not exist")},
			{"torn-manifest", func(t *testing.T, app string) {
				manifests, _ := filepath.Glob(filepath.Join(app, "MANIFEST-*"))
				for _, path := range manifests {
					check(t, os.Truncate(path, 20))
				}
			}, "application.db"},
		} {
			t.Run(kind+"-"+tt.name, func(t *testing.T) {
				home, settings := stoppedNode(t, kind, 37)
				tt.change(t, filepath.Join(home.Data(), "application.db"))
				before := stamps(t, home.Node)
				h := ReadHeights(home, settings)
				checkErr(t, h.Committed.Err, tt.want)
				if tt.want == "" && h.Committed.Height != 36 {
					t.Errorf("%+v", h.Committed)
				}
				if _, err := ReadStores(home, 36); err == nil {
					t.Error("there are stores")
				}
				if after := stamps(t, home.Node); after != before {
					t.Errorf("files before:\n%s\nand after:\n%s", before, after)
				}
			})
		}
	}
}

// app is what is said of one kind or the other.
func app(kind, level, pebble string) string {
	if kind == goLevelDB {
		return level
	}
	return pebble
}

// TestReadOnlyFilesystem: where nothing can be written, the databases are read all the same.
func TestReadOnlyFilesystem(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			home, settings := stoppedNode(t, kind, 37)
			if err := unix.Mount(home.Node, home.Node, "", unix.MS_BIND, ""); err != nil {
				t.Skip("cannot mount: ", err)
			}
			defer unix.Unmount(home.Node, unix.MNT_DETACH)
			check(t, unix.Mount("", home.Node, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
			if err := os.WriteFile(filepath.Join(home.Data(), "x"), nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Fatalf("it can be written to: %v", err)
			}
			if h := ReadHeights(home, settings); h.Committed.Height != 36 || h.Stored.Height != 37 || h.State.Height != 36 {
				t.Errorf("%+v", h)
			}
		})
	}
}

// TestOtherUser: a user who can read the databases, but neither write to them nor to their
// folders, reads them. One who cannot read them is told so.
func TestOtherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be another user")
	}
	const nobody = 65534
	for _, kind := range kinds {
		for _, tt := range []struct {
			name string
			mode fs.FileMode
			want string
		}{
			{"may-read", 0o755, "36 37 36"},
			{"may-not", 0o700, "permission denied permission denied permission denied"},
		} {
			t.Run(kind+"-"+tt.name, func(t *testing.T) {
				home, _ := stoppedNode(t, kind, 37)
				check(t, os.Chmod(filepath.Dir(home.Node), 0o755))
				check(t, os.Chmod(home.Node, 0o755))
				for _, name := range []string{"application.db", "blockstore.db", "state.db", "cs.wal"} {
					check(t, os.Chmod(filepath.Join(home.Data(), name), tt.mode))
				}
				before := stamps(t, home.Node)
				cmd := exec.Command("/proc/self/exe", "-test.run=^TestReadsAsOther$", "-test.v")
				cmd.Env = append(os.Environ(), "READ_HOME="+home.Node, "READ_KIND="+kind)
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
				cmd.Dir = "/"
				out, err := cmd.CombinedOutput()
				if err != nil || !strings.Contains(string(out), "read: "+tt.want+"\n") {
					t.Errorf("%v, want %q:\n%s", err, tt.want, out)
				}
				if after := stamps(t, home.Node); after != before {
					t.Errorf("files before:\n%s\nand after:\n%s", before, after)
				}
			})
		}
	}
}

// TestReadsAsOther is what TestOtherUser runs as another user.
func TestReadsAsOther(t *testing.T) {
	home := solstice.Home{Node: os.Getenv("READ_HOME")}
	if home.Node == "" {
		t.Skip("run by TestOtherUser")
	}
	settings := ReadSettings(home, nil, noEnv)
	settings.DBBackend, settings.AppDBBackend = os.Getenv("READ_KIND"), os.Getenv("READ_KIND")
	h := ReadHeights(home, settings)
	say := func(r Reading) string {
		if errors.Is(r.Err, fs.ErrPermission) {
			return "permission denied"
		}
		if r.Err != nil {
			return r.Err.Error()
		}
		return fmt.Sprint(r.Height)
	}
	fmt.Printf("read: %s %s %s\n", say(h.Committed), say(h.Stored), say(h.State))
}

// TestNodeStartsMeanwhile: a database that is being read can be opened, and then the reading
// does not count.
func TestNodeStartsMeanwhile(t *testing.T) {
	for _, kind := range kinds {
		home, _ := stoppedNode(t, kind, 37)
		dir := filepath.Join(home.Data(), "application.db")
		_, err := readDatabase(dir, kind, func(database) error {
			node := holdOpen(t, kind, dir)
			t.Cleanup(node)
			return nil
		})
		if !errors.Is(err, ErrInUse) {
			t.Errorf("%s: %v, want ErrInUse", kind, err)
		}
	}
}

// holdOpen opens a database in another process, as a node does, until it is released.
func holdOpen(t *testing.T, kind, dir string) (release func()) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestHoldsOpen$")
	cmd.Env = append(os.Environ(), "HOLD_DIR="+dir, "HOLD_KIND="+kind)
	stdin, err := cmd.StdinPipe()
	check(t, err)
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	if n, err := stdout.Read(make([]byte, 1)); n != 1 {
		t.Fatal(err)
	}
	return func() {
		stdin.Close()
		_ = cmd.Wait() // it has said all that it had to
	}
}

// TestHoldsOpen is what holdOpen runs.
func TestHoldsOpen(t *testing.T) {
	dir := os.Getenv("HOLD_DIR")
	if dir == "" {
		t.Skip("run by holdOpen")
	}
	db := create(t, os.Getenv("HOLD_KIND"), dir)
	defer db.Close()
	fmt.Print("\n")
	os.Stdin.Read(make([]byte, 1))
}

// TestDatabaseInUse: a node that runs is not read, also where its WAL would tell. It goes on.
func TestDatabaseInUse(t *testing.T) {
	for _, kind := range kinds {
		for _, name := range []string{"application.db", "blockstore.db", "state.db"} {
			t.Run(kind+"-"+name, func(t *testing.T) {
				home, settings := stoppedNode(t, kind, 37)
				release := holdOpen(t, kind, filepath.Join(home.Data(), name))
				h := ReadHeights(home, settings)
				release()
				of := readings(h)
				if r := of[name]; r.Height != 0 || r.File != "" || !errors.Is(r.Err, ErrInUse) || !h.InUse() {
					t.Errorf("%+v, want ErrInUse", r)
				}
				delete(of, name)
				for name, r := range of {
					if r.Err != nil {
						t.Errorf("%s: %+v", name, r)
					}
				}
				if h := ReadHeights(home, settings); h.InUse() || h.Committed.Height != 36 {
					t.Errorf("after it has stopped: %+v", h)
				}
			})
		}
	}
}

// TestUnreadableInUse: a node whose database nobody can read is seen to run, too.
func TestUnreadableInUse(t *testing.T) {
	home, settings := stoppedNode(t, pebbleDB, 37)
	dir := filepath.Join(home.Data(), "application.db")
	release := holdOpen(t, pebbleDB, dir)
	defer release()
	write(t, filepath.Join(dir, "IDENTITY"), []byte("x")) // RocksDB locks as pebble does
	if h := ReadHeights(home, settings); !h.InUse() {
		t.Errorf("%+v", h.Committed)
	}
}
