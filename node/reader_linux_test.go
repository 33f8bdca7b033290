package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What a reader does in these tests, by the name of the task. A reader is this test binary,
// which is entered before any test.
var _ = func() bool {
	for name, do := range map[string]func(emit func(any) error) error{
		"hang": func(func(any) error) error {
			select {} // the goroutine that watches the memory keeps this from being a deadlock
		},
		"garbage": func(emit func(any) error) error {
			_, _ = syscall.Write(answerFile, []byte("<html>"))
			select {}
		},
		"cut-off": func(func(any) error) error {
			_, err := syscall.Write(answerFile, []byte(`{"State":{"Hei`))
			return err
		},
		"wrong-type": func(emit func(any) error) error { return emit([]string{"x"}) },
		"too-little": func(emit func(any) error) error { return emit(Heights{}) },
		"endless": func(func(any) error) error {
			for {
				if _, err := syscall.Write(answerFile, bytes.Repeat([]byte{' '}, 1<<16)); err != nil {
					return err
				}
			}
		},
		"chatter": func(emit func(any) error) error {
			for range 10_000 {
				fmt.Println(strings.Repeat("x", 10_000))
			}
			return errors.Join(emit(Heights{}), emit(Heights{}))
		},
		"exit":  func(func(any) error) error { os.Exit(7); return nil },
		"error": func(func(any) error) error { return errors.New("no more") },
		"panic": func(func(any) error) error {
			go func() { panic("on a goroutine of its own") }()
			select {}
		},
		"kill": func(func(any) error) error {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		},
		"memory": func(func(any) error) error {
			for all := [][]byte{}; ; {
				all = append(all, make([]byte, 32<<20))
				time.Sleep(5 * time.Millisecond) // the watch looks every 10 ms
			}
		},
		"inherits": func(emit func(any) error) error {
			entries, err := os.ReadDir("/proc/self/fd")
			var files []string
			for _, e := range entries {
				target, err := os.Readlink("/proc/self/fd/" + e.Name())
				kind, _, _ := strings.Cut(target, ":")
				if err == nil && kind != "pipe" && kind != "anon_inode" && !strings.HasSuffix(target, "/fd") {
					files = append(files, target)
				}
			}
			stdin, _ := os.Readlink("/proc/self/fd/0")
			return errors.Join(err, emit(files), emit(append(os.Environ(), stdin)))
		},
	} {
		tasks[name] = func(_ request, emit func(any) error) error { return do(emit) }
	}
	tasks["peak"] = func(r request, emit func(any) error) error {
		if err := tasks["heights"](r, emit); err != nil {
			return err
		}
		status, err := os.ReadFile("/proc/self/status")
		return errors.Join(err, emit(string(status)))
	}
	// A database of this name ends the reader.
	for i, s := range sources {
		sources[i].read = func(f files, h *Heights) {
			if filepath.Base(filepath.Dir(f.State)) == "deadly-"+s.name {
				os.Exit(9)
			}
			s.read(f, h)
		}
	}
	return true
}()

// TestReaderFails: whatever becomes of a reader, that is an error with a reason, and the
// reader is gone.
func TestReaderFails(t *testing.T) {
	for task, want := range map[string]string{
		"garbage":    "returned an invalid answer",
		"cut-off":    "the database reader died (exit status 0)",
		"wrong-type": "returned an invalid answer",
		"too-little": "died (exit status 0)",
		"endless":    "returned an invalid answer",
		"exit":       "died (exit status 7)",
		"error":      `died (exit status 1, "no more")`,
		"panic":      `died (exit status 2, "panic: on a goroutine of its own`,
		"kill":       "died (killed by signal 9 (killed))",
		"memory":     `died (exit status 1, "needs more than 256 MiB of memory")`,
		"no-such":    `died (exit status 1, "no such task: no-such`,
	} {
		t.Run(task, func(t *testing.T) {
			t.Parallel()
			err := ask(t.Context(), request{Task: task}, 2, heightsOnly)
			checkErr(t, err, want)
		})
	}
}

func heightsOnly(value json.RawMessage) error {
	var h Heights
	return json.Unmarshal(value, &h)
}

// TestReaderHangs: a reader that has not answered in time is killed.
func TestReaderHangs(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := ask(ctx, request{Task: "hang"}, 1, heightsOnly)
	checkErr(t, err, "timed out after 10s")
	if children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", os.Getpid(), os.Getpid())); err == nil {
		for pid := range strings.FieldsSeq(string(children)) {
			if name, _ := os.ReadFile("/proc/" + pid + "/cmdline"); strings.Contains(string(name), `"hang"`) {
				t.Errorf("it still runs: %s", name)
			}
		}
	}
}

// TestReaderChatters: what a reader prints besides its answer is nobody's business, however
// much it is.
func TestReaderChatters(t *testing.T) {
	if err := ask(t.Context(), request{Task: "chatter"}, 2, heightsOnly); err != nil {
		t.Error(err)
	}
}

// TestReaderInheritsNothing: no file, so no lock and no socket; no environment, so no secret;
// and nothing to read from.
func TestReaderInheritsNothing(t *testing.T) {
	held, err := os.OpenFile(t.TempDir(), os.O_RDONLY, 0)
	check(t, err)
	defer held.Close()
	check(t, syscall.Flock(int(held.Fd()), syscall.LOCK_EX))
	t.Setenv("SECRET_TOKEN", "s3cret")
	var got [][]string
	err = ask(t.Context(), request{Task: "inherits"}, 2, func(value json.RawMessage) error {
		var list []string
		err := json.Unmarshal(value, &list)
		got = append(got, list)
		return err
	})
	check(t, err)
	for _, file := range got[0] {
		if file != os.DevNull && !strings.HasPrefix(file, "/sys/fs/cgroup/") { // which Go's runtime opens
			t.Errorf("it has %s open", file)
		}
	}
	for _, word := range got[1] {
		if word != os.DevNull && !strings.HasPrefix(word, "GORACE=") && !strings.HasPrefix(word, "GOTRACEBACK=") {
			t.Errorf("its environment has %s", word)
		}
	}
}

// TestReaderDiesOfOne: a database that a reader dies of costs that database only.
func TestReaderDiesOfOne(t *testing.T) {
	for _, s := range sources {
		t.Run(s.name, func(t *testing.T) {
			home, settings := stoppedNode(t, goLevelDB, 37)
			db := filepath.Join(home.Data(), "deadly-"+s.name)
			rename(t, filepath.Join(home.Data(), "state.db"), filepath.Join(db, "state.db"))
			rename(t, filepath.Join(home.Data(), "blockstore.db"), filepath.Join(db, "blockstore.db"))
			remove(t, filepath.Join(home.Data(), "cs.wal"))
			settings.DBDir = db
			genesis := []byte(`{"chain_id":"cosmoshub-4","initial_height":"3"}`)
			write(t, filepath.Join(home.Node, "config", "genesis.json"), genesis)
			h := ReadHeights(home, settings)
			for name, r := range readings(h) {
				if name != s.name && (r.Err != nil || r.Height == 0) {
					t.Errorf("%s: %+v", name, r)
				}
				if name == s.name {
					checkErr(t, r.Err, name+": the database reader died (exit status 9)")
				}
			}
			if s.name == "application.db" && h.Upgrades.Err == nil {
				t.Error("the upgrades are known")
			}
			if h.Initial != 3 || h.ChainID != "cosmoshub-4" {
				t.Errorf("initial height %d, chain %q", h.Initial, h.ChainID)
			}
		})
	}
}

// TestReaderCannotStart: without a reader nothing is known but the WAL, and the reason is told.
func TestReaderCannotStart(t *testing.T) {
	readerProgram = "/proc/no/such/program"
	defer func() { readerProgram = "/proc/self/exe" }()
	home, settings := stoppedNode(t, goLevelDB, 37)
	h := ReadHeights(home, settings)
	for _, err := range []error{h.Committed.Err, h.State.Err, h.Upgrades.Err} {
		checkErr(t, err, "cannot start the database reader: fork/exec /proc/no/such/program: no such file or directory")
	}
	if errors.Is(h.Committed.Err, fs.ErrNotExist) {
		t.Error("it looks as if there were no database")
	}
	if h.Stored.Height != 37 || h.Stored.Err != nil || h.Base != 0 || h.Empty {
		t.Errorf("%+v", h)
	}
	if _, err := ReadStores(home, 36); err == nil {
		t.Error("ReadStores succeeded")
	}
}

// TestErrorsSurviveTelling: who asks for a kind of error gets an answer from what a reader
// has told, too.
func TestErrorsSurviveTelling(t *testing.T) {
	for _, err := range []error{ErrInUse, fs.ErrNotExist, fs.ErrPermission, errors.New("other"), nil} {
		told := func(v, into any) {
			t.Helper()
			content, err := json.Marshal(v)
			check(t, err)
			check(t, json.Unmarshal(content, into))
		}
		var r Reading
		var u Upgrades
		if err != nil {
			err = fmt.Errorf("open it: %w", err)
		}
		told(Reading{Err: err}, &r)
		told(Upgrades{Err: err}, &u)
		for _, got := range []error{r.Err, u.Err} {
			if (got == nil) != (err == nil) || err != nil && got.Error() != err.Error() {
				t.Errorf("told %v, got %v", err, got)
			}
			for _, kind := range toldKinds {
				if errors.Is(got, kind) != errors.Is(err, kind) {
					t.Errorf("told %v, got one that is %v: %t", err, kind, errors.Is(got, kind))
				}
			}
		}
	}
}

// TestPeakMemory: a database of 100 GiB, in 50,000 tables, takes 64 MiB of memory at most to
// be read, as a release reads it: the race detector needs several times as much.
func TestPeakMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles this package")
	}
	const tables, most = 50_000, 64 << 10 // KiB
	program := filepath.Join(t.TempDir(), "node.test")
	build := exec.Command("go", "test", "-c", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	readerProgram = program
	defer func() { readerProgram = "/proc/self/exe" }()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			home, settings := stoppedNode(t, kind, 37)
			makeLarge(t, kind, filepath.Join(home.Data(), "application.db"), tables)
			var h Heights
			var peak int
			r := request{Task: "peak", Files: filesOf(home, settings)}
			err := ask(t.Context(), r, len(sources)+1, func(value json.RawMessage) error {
				var status string
				if json.Unmarshal(value, &status) != nil {
					return json.Unmarshal(value, &h)
				}
				_, after, _ := strings.Cut(status, "VmHWM:")
				_, err := fmt.Sscan(after, &peak)
				return err
			})
			if err != nil || h.Committed.Height != 36 || h.Committed.Err != nil {
				t.Fatalf("%+v, %v", h.Committed, err)
			}
			t.Logf("peak %d KiB", peak)
			if peak > most || peak < 1<<10 {
				t.Errorf("peak %d KiB, want %d at most", peak, most)
			}
		})
	}
}
