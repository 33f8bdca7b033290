package signstate

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"solstice"
	"solstice/internal/durable"
)

// newGuard is a validator's home: a key, no state file yet, no marks.
func newGuard(t interface {
	Helper()
	Fatal(...any)
}, dir string) *Guard {
	t.Helper()
	g := &Guard{
		Validator: Validator{
			KeyFile:   filepath.Join(dir, "config", "priv_validator_key.json"),
			StateFile: filepath.Join(dir, "data", "priv_validator_state.json"),
		},
		Marks: OpenMarks(solstice.Home{StateDir: filepath.Join(dir, "cosmovisor", ".solstice")}),
	}
	must(t, os.MkdirAll(filepath.Dir(g.KeyFile), 0o755))
	must(t, os.MkdirAll(filepath.Dir(g.StateFile), 0o755))
	must(t, os.WriteFile(g.KeyFile, key(alice), 0o600))
	return g
}

func key(address string) []byte {
	return fmt.Appendf(nil, `{"address":%q,"priv_key":{"type":"tendermint/PrivKeyEd25519","value":"AA=="}}`, address)
}

// signed is the file of a node that signed this last.
func signed(s State) []byte {
	return fmt.Appendf(nil, "{\n  \"height\": \"%d\",\n  \"round\": %d,\n  \"step\": %d,\n  \"signature\": \"q83v\",\n  \"signbytes\": \"ABCD\"\n}", s.Height, s.Round, s.Step)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if content != "" {
		must(t, os.WriteFile(path, []byte(content), 0o600))
	}
}

func TestCheckAndRaise(t *testing.T) {
	at17 := State{17, 0, 3}
	below := string(signed(State{17, 0, 2}))
	for _, tt := range []struct {
		name, file string
		mark       State
		remote     bool
		noKey      bool
		wantFault  string // of Check; empty: it may start
		raised     State  // what the file says after RaiseFile
	}{
		{name: "new-node"},
		{name: "new-validator", file: string(State{}.file())},
		{name: "first-start-under-us", file: string(signed(at17)), raised: at17},
		{name: "as-recorded", file: string(signed(at17)), mark: at17, raised: at17},
		{name: "went-on-unseen", file: string(signed(State{18, 0, 1})), mark: at17, raised: State{18, 0, 1}},
		{name: "a-step-below", file: below, mark: at17, wantFault: "is at height 17, round 0, step 2", raised: at17},
		{name: "old-copy", file: string(signed(State{3, 5, 3})), mark: at17, wantFault: "is at height 3, round 5, step 3", raised: at17},
		{name: "reset", file: string(State{}.file()), mark: at17, wantFault: "is at height 0, round 0, step 0", raised: at17},
		{name: "missing", mark: at17, wantFault: "priv_validator_state.json is missing", raised: at17},
		{name: "torn", file: `{"height":"1`, mark: at17, wantFault: "not the sign state of a validator: unexpected end", raised: at17},
		{name: "torn-and-nothing-known", file: `{"height":"1`},
		{name: "remote-signer", file: below, mark: at17, remote: true, raised: State{17, 0, 2}},
		{name: "remote-signer-and-no-file", mark: at17, remote: true},
		{name: "no-key", file: below, mark: at17, noKey: true, raised: State{17, 0, 2}},
		{name: "no-key-and-garbage", file: "x", mark: at17, noKey: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuard(t, t.TempDir())
			write(t, g.StateFile, tt.file)
			must(t, g.Marks.Raise(alice, tt.mark))
			g.Remote = tt.remote
			if tt.noKey {
				must(t, os.Remove(g.KeyFile))
			}
			checkRefused(t, g, g.Check(), tt.wantFault)

			old, _ := ReadFile(g.StateFile)
			from, to, err := g.RaiseFile()
			if tt.name == "torn-and-nothing-known" {
				checkErr(t, err, "no mark says how far to raise it")
				return
			}
			must(t, err)
			now, _ := ReadFile(g.StateFile)
			if now != tt.raised {
				t.Errorf("the file is at %s, want %s", now, tt.raised)
			}
			if silent := tt.remote || tt.noKey; !silent && (from != old || to != now) {
				t.Errorf("raised from %s to %s, want %s and %s", from, to, old, now)
			}
			if content, err := os.ReadFile(g.StateFile); tt.wantFault == "" && string(content) != tt.file {
				t.Errorf("the file was changed to %q, %v", content, err)
			}
			must(t, g.Check())
		})
	}
}

func checkRefused(t *testing.T, g *Guard, err error, fault string) {
	t.Helper()
	if fault == "" {
		must(t, err)
		return
	}
	var refused *solstice.RefusedError
	if !errors.As(err, &refused) {
		t.Fatalf("error %v, want a refusal", err)
	}
	for _, want := range []string{fault, "validator " + alice + " has signed up to height 17, round 0, step 3", g.Marks.path, "sign a height twice"} {
		if !strings.Contains(refused.Reason, want) {
			t.Errorf("refused: %s\nwant in it: %s", refused.Reason, want)
		}
	}
	if !strings.HasSuffix(refused.Hint, ": solstice sign-state raise") {
		t.Errorf("hint: %s", refused.Hint)
	}
}

func TestRecord(t *testing.T) {
	g := newGuard(t, t.TempDir())
	record := func(want State, wantErr string) {
		t.Helper()
		got, err := g.Record()
		checkErr(t, err, wantErr)
		if got != want {
			t.Errorf("recorded %s, want %s", got, want)
		}
	}
	record(State{}, "") // the node hasn't made its file yet
	write(t, g.StateFile, string(State{}.file()))
	record(State{}, "")
	if _, err := os.Stat(g.Marks.path); err == nil {
		t.Error("there are marks, and nothing was signed")
	}
	write(t, g.StateFile, string(signed(State{17, 0, 3})))
	record(State{17, 0, 3}, "")
	checkMark(t, g.Marks, alice, State{17, 0, 3})

	// What hasn't changed isn't recorded again.
	must(t, os.Rename(g.Marks.path, g.Marks.path+".away"))
	record(State{17, 0, 3}, "")
	if _, err := os.Stat(g.Marks.path); err == nil {
		t.Error("recorded twice")
	}
	must(t, os.Rename(g.Marks.path+".away", g.Marks.path))

	write(t, g.StateFile, "garbage")
	record(State{}, "not the sign state of a validator")
	write(t, g.StateFile, string(signed(State{16, 0, 3})))
	record(State{16, 0, 3}, "") // lower: the mark stays
	checkMark(t, g.Marks, alice, State{17, 0, 3})
	write(t, g.KeyFile, string(key(strings.ToLower(bob)))) // a new key has its own
	record(State{16, 0, 3}, "")
	checkMark(t, g.Marks, bob, State{16, 0, 3})
	must(t, g.Check())
	write(t, g.KeyFile, string(key(alice))) // and the old one comes back
	checkRefused(t, g, g.Check(), "is at height 16")

	write(t, g.KeyFile, "garbage")
	record(State{}, "not a validator's key")
	checkErr(t, g.Check(), "not a validator's key")
	g.Remote = true
	record(State{}, "")
	g.Remote = false
	must(t, os.Remove(g.KeyFile))
	record(State{}, "")
}

// TestRaisedFile: it is what the node's own init would write, for the node's user.
func TestRaisedFile(t *testing.T) {
	g := newGuard(t, t.TempDir())
	must(t, g.Marks.Raise(alice, State{17, 0, 3}))
	data := filepath.Dir(g.StateFile)
	wantUID := os.Geteuid()
	if wantUID == 0 { // root raises the file of a node that runs as another
		wantUID = 12345
		must(t, os.Chown(data, wantUID, 23456))
	}
	elsewhere := filepath.Join(t.TempDir(), "elsewhere.json")
	write(t, elsewhere, string(signed(State{3, 0, 3})))
	must(t, os.Symlink(elsewhere, g.StateFile))
	_, _, err := g.RaiseFile()
	must(t, err)
	content, err := os.ReadFile(g.StateFile)
	must(t, err)
	if want := "{\n  \"height\": \"17\",\n  \"round\": 0,\n  \"step\": 3\n}"; string(content) != want {
		t.Errorf("wrote %s, want %s", content, want)
	}
	info, err := os.Lstat(g.StateFile)
	must(t, err)
	if info.Mode() != 0o600 || int(info.Sys().(*syscall.Stat_t).Uid) != wantUID {
		t.Errorf("mode %v, owner %v", info.Mode(), info.Sys().(*syscall.Stat_t).Uid)
	}
	if s, err := ReadFile(elsewhere); err != nil || s != (State{3, 0, 3}) {
		t.Errorf("behind the symlink: %s, %v", s, err)
	}
	if entries, err := os.ReadDir(data); err != nil || len(entries) != 1 {
		t.Errorf("debris: %v, %v", entries, err)
	}

	must(t, os.RemoveAll(data)) // which is how a node is often begun anew
	_, _, err = g.RaiseFile()
	must(t, err)
	must(t, g.Check())
}

// TestUnreadableStateFileIsLeftAlone: it may be above the mark.
func TestUnreadableStateFileIsLeftAlone(t *testing.T) {
	g := newGuard(t, t.TempDir())
	must(t, g.Marks.Raise(alice, State{17, 0, 3}))
	must(t, os.Symlink(filepath.Base(g.StateFile), g.StateFile)) // ELOOP, for root too
	if _, _, err := g.RaiseFile(); err == nil {
		t.Error("raised")
	}
	if info, err := os.Lstat(g.StateFile); err != nil || info.Mode().IsRegular() {
		t.Errorf("the file: %v, %v", info, err)
	}
	var refused *solstice.RefusedError
	if err := g.Check(); !errors.As(err, &refused) || strings.Contains(refused.Hint, "raise") {
		t.Errorf("refused: %+v, want a hint that helps", refused)
	}
	write(t, g.StateFile+".snapshot", string(signed(State{17, 0, 3})))
	if _, err := g.Keep(g.StateFile + ".snapshot"); !errors.As(err, &refused) {
		t.Errorf("kept, %v", err)
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	at := func(height int64) string { return string(signed(State{height, 0, 3})) }
	raised := string(State{17, 0, 3}.file())
	for _, tt := range []struct {
		name, live, snapshot string
		height               int64 // of the mark
		want                 string
		wantErr              string
	}{
		{"live-is-above", at(18), at(12), 17, at(18), ""},
		{"live-is-raised", raised, at(12), 17, raised, ""},
		{"both-alike", raised, at(17), 17, raised, ""},
		{"live-was-reset", at(0), at(17), 17, at(17), ""},
		{"live-is-missing", "", at(17), 17, at(17), ""},
		{"first-restore-under-us", at(18), at(12), 0, at(18), ""},
		{"first-restore-on-a-new-machine", "", at(12), 0, at(12), ""},
		{"none-in-the-snapshot", at(18), "", 17, at(18), ""},
		{"garbage-in-the-snapshot", at(18), "x", 17, at(18), ""},
		{"nothing-anywhere", "", "", 0, "", ""},
		{"garbage-and-nothing-known", "", "x", 0, "", ""},
		{"live-garbage-and-nothing-known", "x", at(12), 0, "", "not the sign state of a validator"},
		{"live-garbage", "x", at(17), 17, "", "refused: not the sign state of a validator"},
		{"both-below", at(13), at(12), 17, "", "refused: live is at height 13"},
		{"only-an-old-snapshot", "", at(12), 17, "", "refused: snapshot is at height 12"},
		{"all-is-gone", "", "", 17, "", "refused: live is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			g := newGuard(t, dir)
			g.StateFile = filepath.Join(dir, "live")
			snapshot := filepath.Join(dir, "snapshot")
			write(t, g.StateFile, tt.live)
			write(t, snapshot, tt.snapshot)
			if tt.height > 0 {
				must(t, g.Marks.Raise(alice, State{tt.height, 0, 3}))
			}
			kept, err := g.Keep(snapshot)
			if fault, ok := strings.CutPrefix(tt.wantErr, "refused: "); ok {
				checkRefused(t, g, err, fault)
			} else {
				checkErr(t, err, tt.wantErr)
			}
			if string(kept.Content) != tt.want {
				t.Errorf("kept %q, want %q", kept.Content, tt.want)
			}
			if kept.Content != nil {
				content, err := os.ReadFile(kept.From)
				must(t, err)
				if s, err := parse(content); err != nil || s != kept.State || string(content) != tt.want {
					t.Errorf("kept %+v, which is not what the file says", kept)
				}
			}
			if fault, ok := strings.CutPrefix(tt.wantErr, "refused: "); ok { // and the hint leads on
				_, _, err := g.RaiseFile()
				must(t, err)
				if kept, err := g.Keep(snapshot); err != nil || kept.State.Compare(State{17, 0, 3}) < 0 {
					t.Errorf("%s, then raised: kept %s, %v", fault, kept.State, err)
				}
			}
			g.Remote = true // then nobody asks for the file
			if kept, err := g.Keep(snapshot); err != nil || kept.Content != nil {
				t.Errorf("remote: kept %+v, %v", kept, err)
			}
		})
	}
}

// Each run draws so many histories, other ones each time. For more of them: -rapid.checks 1000.
func init() { flag.Set("rapid.checks", "30") }

// TestNoHistoryStartsBelowWhatWasRecorded draws lives of two keys on one home: the node signs, old files and garbage come
// back, keys change, marks are torn and written anew, supervisors come and go. No start may be let through below what
// was recorded of its key, and a raise always leads on.
func TestNoHistoryStartsBelowWhatWasRecorded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(memory(), "solstice-signstate-")
		must(rt, err)
		defer os.RemoveAll(dir)
		g := newGuard(rt, dir)
		address := alice
		recorded := map[string]State{}
		files := [][]byte{[]byte("garbage"), State{}.file()} // all that was ever in the state file, and what else may come
		snapshot := filepath.Join(dir, "snapshot")
		draw := func(rt *rapid.T) State {
			return State{rapid.Int64Range(0, 20).Draw(rt, "height"), rapid.Int32Range(0, 2).Draw(rt, "round"), rapid.Int8Range(1, 3).Draw(rt, "step")}
		}
		put := func(rt *rapid.T, content []byte) {
			files = append(files, content)
			must(rt, os.WriteFile(g.StateFile, content, 0o600))
		}
		rt.Repeat(map[string]func(*rapid.T){
			"": func(rt *rapid.T) {
				state, stateErr := ReadFile(g.StateFile)
				if err := g.Check(); err == nil && recorded[address] != (State{}) {
					if stateErr != nil || state.Compare(recorded[address]) < 0 {
						rt.Fatalf("may start at %s, %v; %s was recorded", state, stateErr, recorded[address])
					}
				}
				for address, want := range recorded {
					if got, err := g.Marks.Of(address); err != nil || got != want {
						rt.Fatalf("mark of %s: %s, %v, want %s", address, got, err, want)
					}
				}
			},
			"sign": func(rt *rapid.T) {
				if s := draw(rt); g.Check() == nil {
					if now, err := ReadFile(g.StateFile); err != nil || s.Compare(now) > 0 {
						put(rt, signed(s))
					}
				}
			},
			"record": func(rt *rapid.T) {
				if s, err := g.Record(); err == nil && s.Compare(recorded[address]) > 0 {
					recorded[address] = s
				}
			},
			"raise": func(rt *rapid.T) {
				before, beforeErr := ReadFile(g.StateFile)
				from, to, err := g.RaiseFile()
				if err != nil {
					if recorded[address] != (State{}) {
						rt.Fatal(err)
					}
					return
				}
				after, _ := ReadFile(g.StateFile)
				if from != before || to != after || after.Compare(before) < 0 || beforeErr == nil && to == from && after != before {
					rt.Fatalf("raised from %s to %s; the file was at %s, is at %s", from, to, before, after)
				}
				must(rt, g.Check())
			},
			"restore": func(rt *rapid.T) {
				must(rt, os.WriteFile(snapshot, rapid.SampledFrom(files).Draw(rt, "snapshot"), 0o600))
				live, liveErr := ReadFile(g.StateFile)
				kept, err := g.Keep(snapshot)
				if err != nil {
					return
				}
				if kept.State.Compare(recorded[address]) < 0 || liveErr == nil && kept.State.Compare(live) < 0 {
					rt.Fatalf("restored to %s; the file was at %s, %s was recorded", kept.State, live, recorded[address])
				}
				if kept.Content != nil {
					put(rt, kept.Content)
					must(rt, g.Check())
				}
			},
			"old file": func(rt *rapid.T) { put(rt, rapid.SampledFrom(files).Draw(rt, "file")) },
			"no file":  func(rt *rapid.T) { must(rt, durable.Remove(g.StateFile)) },
			"key": func(rt *rapid.T) {
				address = rapid.SampledFrom([]string{alice, bob}).Draw(rt, "address")
				must(rt, os.WriteFile(g.KeyFile, key(address), 0o600))
			},
			"supervisor": func(*rapid.T) { g = &Guard{Validator: g.Validator, Marks: g.Marks} },
			"torn": func(rt *rapid.T) {
				if _, err := os.Stat(g.Marks.path); err == nil {
					line := entry{Address: address, State: State{1000, 0, 3}}.line()
					tear(rt, g.Marks.path, line[:rapid.IntRange(0, len(line)-1).Draw(rt, "cut")])
				}
			},
			"grown": func(rt *rapid.T) {
				if info, err := os.Stat(g.Marks.path); err == nil && info.Size() < compactAt && rapid.IntRange(0, 4).Draw(rt, "rarely") == 0 {
					tear(rt, g.Marks.path, bytes.Repeat([]byte("x"), compactAt))
				}
			},
			"command": func(rt *rapid.T) { // another process records for the other key
				other := map[string]string{alice: bob, bob: alice}[address]
				s := draw(rt)
				must(rt, g.Marks.Raise(other, s))
				if s.Compare(recorded[other]) > 0 {
					recorded = maps.Clone(recorded)
					recorded[other] = s
				}
			},
		})
	})
}

// tear adds bytes to a file without ending a line, as a power cut may.
func tear(rt *rapid.T, path string, part []byte) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	must(rt, err)
	_, err = f.Write(part)
	must(rt, errors.Join(err, f.Close()))
}

// memory is a folder on a filesystem in memory, where there is one: these histories sync thousands of times.
func memory() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// TestKeyWithoutAddress: a key file that doesn't tell its address stops no node that has nothing to fall below.
func TestKeyWithoutAddress(t *testing.T) {
	g := newGuard(t, t.TempDir())
	write(t, g.KeyFile, `{"pub_key":{},"priv_key":{}}`)
	must(t, g.Check())
	must(t, g.Marks.Raise(alice, State{17, 0, 3}))
	checkErr(t, g.Check(), "no address of 40 hex digits")
}

// TestUnknownKey: where it is not known which key the node signs with, a key that happens to lie at the default place counts for nothing.
func TestUnknownKey(t *testing.T) {
	g := newGuard(t, t.TempDir())
	at17 := State{17, 0, 3}
	must(t, os.WriteFile(g.StateFile, signed(at17), 0o600))
	g.Unknown = errors.New("config.toml can't be read")
	if err := g.Check(); err != nil {
		t.Errorf("Check without a mark: %v, want a start: nothing is known to be signed", err)
	}
	if _, err := g.Record(); !errors.Is(err, g.Unknown) {
		t.Errorf("Record = %v, want the reason why nothing can be recorded", err)
	}
	if err := g.Marks.Raise(alice, at17); err != nil {
		t.Fatal(err)
	}
	if err := g.Check(); !errors.Is(err, g.Unknown) {
		t.Errorf("Check with a mark = %v, want a refusal with the reason", err)
	}
	if _, _, err := g.RaiseFile(); !errors.Is(err, g.Unknown) {
		t.Errorf("RaiseFile = %v, want the reason", err)
	}
	if _, err := g.Keep(filepath.Join(t.TempDir(), "none")); !errors.Is(err, g.Unknown) {
		t.Errorf("Keep = %v, want the reason", err)
	}
	g.Remote = true
	if err := g.Check(); err != nil {
		t.Errorf("Check with a remote signer: %v", err)
	}
}
