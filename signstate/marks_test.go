package signstate

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"solstice"
	"solstice/internal/durable"
)

var (
	alice = strings.Repeat("A1", 20)
	bob   = strings.Repeat("B0", 20)
)

func newMarks(t *testing.T) Marks {
	return OpenMarks(solstice.Home{StateDir: filepath.Join(t.TempDir(), "cosmovisor", ".solstice")})
}

func checkMark(t *testing.T, m Marks, address string, want State) {
	t.Helper()
	if got, err := m.Of(address); err != nil || got != want {
		t.Errorf("mark of %s: %s, %v, want %s", address, got, err, want)
	}
}

func TestMarksOnlyRise(t *testing.T) {
	m := newMarks(t)
	checkMark(t, m, alice, State{})
	must(t, m.Raise(alice, State{}))
	if _, err := os.Stat(filepath.Dir(m.path)); err == nil {
		t.Error("nothing was signed, and a folder was made for it")
	}
	must(t, m.Raise(alice, State{17, 0, 3}))
	must(t, m.Raise(alice, State{17, 0, 2}))
	must(t, m.Raise(alice, State{16, 9, 3}))
	must(t, m.Raise(alice, State{}))
	checkMark(t, m, alice, State{17, 0, 3})
	checkMark(t, m, strings.ToLower(alice), State{17, 0, 3})
	must(t, m.Raise(strings.ToLower(alice), State{17, 1, 0}))
	checkMark(t, m, alice, State{17, 1, 0})
	checkMark(t, m, bob, State{}) // a new key has its own
	must(t, m.Raise(bob, State{3, 0, 1}))
	checkMark(t, m, alice, State{17, 1, 0})
	checkMark(t, m, bob, State{3, 0, 1})

	for _, path := range []string{m.path, filepath.Dir(m.path)} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v, want it to be the owner's alone", path, info.Mode(), err)
		}
	}
	checkErr(t, m.Raise("", State{18, 0, 3}), "not a validator's")
	checkErr(t, m.Raise(alice, State{18, -1, 3}), "not a validator's")
}

// TestMarksThatCanNotBeRead: what is there and can't be read may hold a mark, so it is not the same as none.
func TestMarksThatCanNotBeRead(t *testing.T) {
	for _, tt := range []struct {
		name string
		make func(path string) error
	}{
		{"folder", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"fifo", func(path string) error { return syscall.Mkfifo(path, 0o600) }},
		{"symlink-to-nowhere", func(path string) error { return os.Symlink("unmounted/marks", path) }},
		{"symlink-to-itself", func(path string) error { return os.Symlink("sign-state.jsonl", path) }},
		{"too-large", func(path string) error { return os.WriteFile(path, make([]byte, sizeLimit+1), 0o600) }},
		{"not-ours", func(path string) error { return os.WriteFile(path, nil, 0o000) }},
		{"state-folder-is-a-file", func(path string) error {
			if err := os.Remove(filepath.Dir(path)); err != nil {
				return err
			}
			return os.WriteFile(filepath.Dir(path), nil, 0o600)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "not-ours" && os.Geteuid() == 0 {
				t.Skip("root reads everything")
			}
			m := newMarks(t)
			must(t, os.MkdirAll(filepath.Dir(m.path), 0o700))
			must(t, tt.make(m.path))
			if s, err := m.Of(alice); err == nil {
				t.Errorf("mark %s, want an error", s)
			}
			if err := m.Raise(alice, State{17, 0, 3}); err == nil {
				t.Error("raised, want an error")
			}
		})
	}
}

// TestMarksSurviveATornLine: a power cut may leave a part of the last line, and what was synced before stays.
func TestMarksSurviveATornLine(t *testing.T) {
	t.Parallel()
	m := newMarks(t)
	must(t, m.Raise(alice, State{17, 0, 3}))
	whole, err := os.ReadFile(m.path)
	must(t, err)
	must(t, m.Raise(alice, State{18, 0, 3}))
	both, err := os.ReadFile(m.path)
	must(t, err)
	for cut := len(whole); cut < len(both)-1; cut++ {
		must(t, os.WriteFile(m.path, both[:cut], 0o600))
		if cut < len(both)-2 {
			checkMark(t, m, alice, State{17, 0, 3})
		}
		must(t, m.Raise(bob, State{5, 0, 1}))
		must(t, m.Raise(alice, State{19, 0, 1}))
		checkMark(t, m, bob, State{5, 0, 1})
		checkMark(t, m, alice, State{19, 0, 1})
	}
}

func TestMarksStaySmall(t *testing.T) {
	m := newMarks(t)
	must(t, m.Raise(alice, State{17, 0, 3}))
	f, err := os.OpenFile(m.path, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	for height := int64(1); height < 800; height++ { // what a life of raises leaves
		_, err := f.Write(append(entry{Address: bob, State: State{height, 0, 3}, Time: "\x01\xff"}.line(), '\n'))
		must(t, err)
	}
	must(t, f.Close())
	must(t, m.Raise(strings.ToLower(alice), State{18, 0, 3}))
	content, err := os.ReadFile(m.path)
	must(t, err)
	if lines := strings.Count(string(content), "\n"); lines != 2 {
		t.Errorf("%d lines in %d bytes, want 2", lines, len(content))
	}
	checkMark(t, m, alice, State{18, 0, 3})
	checkMark(t, m, bob, State{799, 0, 3})
	if debris, _ := filepath.Glob(filepath.Join(filepath.Dir(m.path), durable.TempPrefix+"*")); len(debris) > 0 {
		t.Errorf("debris: %q", debris)
	}
}

// TestTheGreatestLineCounts: lines may stand in any order, as after two files were joined by hand.
func TestTheGreatestLineCounts(t *testing.T) {
	m := newMarks(t)
	must(t, os.MkdirAll(filepath.Dir(m.path), 0o700))
	content := strings.Join([]string{
		`{"address":"` + alice + `","height":9,"round":1,"step":1}`,
		`{"address":"` + strings.ToLower(alice) + `","height":17,"round":0,"step":3,"time":"2026-11-23T05:01:22Z"}`,
		`{"address":"` + alice + `","height":17,"round":0,"step":2}`,
		`{"address":"` + alice + `","height":99,"round":-1,"step":2}`,
		`{"address":"` + alice + `","height":9223372036854775808,"round":0,"step":2}`,
		`{"address":"` + alice[2:] + `","height":99,"round":0,"step":2}`,
		`{"address":"` + alice + `","height":99,"round":0,"st{"address":"` + bob + `","height":99,"round":0,"step":3}`,
		`{"address":"` + bob + `","height":3,"round":0,"step":1}`,
		``, `null`, `[]`, "\x00\x00\x00",
	}, "\n")
	must(t, os.WriteFile(m.path, []byte(content), 0o600))
	checkMark(t, m, alice, State{17, 0, 3})
	checkMark(t, m, bob, State{3, 0, 1})
}

// TestRaisesAtOnce: a supervisor and commands raise, while the file is written anew again and again; none is lost.
func TestRaisesAtOnce(t *testing.T) {
	t.Parallel()
	m := newMarks(t)
	must(t, os.MkdirAll(filepath.Dir(m.path), 0o700))
	grow := func() error {
		f, err := os.OpenFile(m.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = f.WriteString("\n" + strings.Repeat("x", compactAt) + "\n")
		return errors.Join(err, f.Close())
	}
	address := func(i int) string { return fmt.Sprintf("%040X", i) }
	const raisers, raises = 6, 12
	var mu sync.Mutex
	var done State // the greatest that a raise of alice has returned from
	var wg sync.WaitGroup
	for i := range raisers {
		wg.Go(func() {
			for n := range raises {
				own, shared := State{int64(n), 0, 3}, State{int64(n*raisers + i), 0, 3}
				err := errors.Join(grow(), m.Raise(address(i), own), m.Raise(alice, shared))
				mu.Lock()
				if shared.Compare(done) > 0 {
					done = shared
				}
				want := done
				mu.Unlock()
				if got, ofErr := m.Of(alice); err != nil || ofErr != nil || got.Compare(want) < 0 {
					t.Errorf("mark %s after a raise to %s: %v, %v", got, want, err, ofErr)
				}
			}
		})
	}
	wg.Wait()
	for i := range raisers {
		checkMark(t, m, address(i), State{raises - 1, 0, 3})
	}
	checkMark(t, m, alice, State{raises*raisers - 1, 0, 3})
}

// FuzzParseMarks: whatever is in the file, a raise holds beside it, and nothing of it is lost when it is written anew.
func FuzzParseMarks(f *testing.F) {
	f.Add([]byte(string(entry{Address: alice, State: State{17, 0, 3}}.line())+"\n{\"addr"), int64(18))
	f.Add([]byte(`{"address":"`+strings.ToLower(bob)+`","height":1,"round":-1,"time":"\u0001"}`+"\n\n"), int64(0))
	f.Fuzz(func(t *testing.T, content []byte, height int64) {
		before := parseMarks(content)
		var anew []byte
		for address, e := range before {
			if !e.valid() || e.State == (State{}) || e.Address != address || address != strings.ToUpper(address) {
				t.Errorf("%q: %+v", address, e)
			}
			anew = append(append(anew, e.line()...), '\n')
		}
		for address, e := range parseMarks(anew) {
			if e.State != before[address].State {
				t.Errorf("%s written anew: %s, was %s", address, e.State, before[address].State)
			}
		}
		if got := len(parseMarks(anew)); got != len(before) {
			t.Errorf("%d marks written anew, were %d", got, len(before))
		}
		raised := State{max(height, 0), 0, 3}
		content = append(append(append(content, '\n'), entry{Address: alice, State: raised}.line()...), '\n')
		after := parseMarks(content)
		if after[alice].Compare(raised) < 0 || after[alice].Compare(before[alice].State) < 0 {
			t.Errorf("raised to %s above %s: %s", raised, before[alice].State, after[alice].State)
		}
	})
}
