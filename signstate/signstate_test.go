package signstate

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func must(t interface {
	Helper()
	Fatal(...any)
}, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func checkErr(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "":
		must(t, err)
	case err == nil || !strings.Contains(err.Error(), want):
		t.Errorf("error %v, want %q in it", err, want)
	}
}

func TestCompare(t *testing.T) {
	ascending := []State{{}, {0, 0, 1}, {1, 0, 0}, {9, 0, 1}, {9, 0, 3}, {9, 1, 0}, {9, 10, 1}, {10, 0, 1}, {1 << 40, 0, 0}}
	for i, a := range ascending {
		for j, b := range ascending {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := a.Compare(b); got != want {
				t.Errorf("%s compared to %s: %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestReadFile(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		want       State
		wantErr    string
	}{
		{"new-node", "{\n  \"height\": \"0\",\n  \"round\": 0,\n  \"step\": 0\n}", State{}, ""},
		{"validator", `{"height":"17","round":2,"step":3,"signature":"q83v","signbytes":"ABCD"}`, State{17, 2, 3}, ""},
		{"height-without-quotes", `{"height":17,"round":0,"step":3}`, State{17, 0, 3}, ""},
		{"round-in-quotes", `{"height":"17","round":"1","step":3}`, State{17, 1, 3}, ""},
		{"greatest", `{"height":"9223372036854775807","round":2147483647,"step":127}`, State{1<<63 - 1, 1<<31 - 1, 127}, ""},
		{"line-at-the-end", "{\"height\":\"17\",\"round\":0,\"step\":3}\n", State{17, 0, 3}, ""},
		{"empty", "", State{}, "end of JSON"},
		{"zeros-of-a-power-cut", strings.Repeat("\x00", 90), State{}, "invalid character"},
		{"torn", `{"height":"17","rou`, State{}, "end of JSON"},
		{"two-of-them", `{"height":"17","round":0,"step":3}{"height":"18","round":0,"step":3}`, State{}, "after top-level value"},
		{"null", `null`, State{}, "it has no height"},
		{"list", `[17,0,3]`, State{}, "cannot unmarshal"},
		{"no-step", `{"height":"17","round":0}`, State{}, "it has no step"},
		{"null-height", `{"height":null,"round":0,"step":3}`, State{}, "it has no height"},
		{"empty-height", `{"height":"","round":0,"step":3}`, State{}, "it has no height"},
		{"name-that-the-node-passes-over", `{"Height":"17","round":0,"step":3}`, State{}, "it has no height"},
		{"negative-height", `{"height":"-17","round":0,"step":3}`, State{}, "its height is no height"},
		{"negative-round", `{"height":"17","round":-1,"step":3}`, State{}, "its round is no round"},
		{"negative-step", `{"height":"17","round":0,"step":-1}`, State{}, "its step is no step"},
		{"fraction", `{"height":17.5,"round":0,"step":3}`, State{}, "its height is no height"},
		{"too-high", `{"height":"9223372036854775808","round":0,"step":3}`, State{}, "its height is no height"},
		{"step-of-another-world", `{"height":"17","round":0,"step":128}`, State{}, "its step is no step"},
		{"huge", strings.Repeat(" ", sizeLimit) + `{"height":"17","round":0,"step":3}`, State{}, "larger than 1 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "priv_validator_state.json")
			must(t, os.WriteFile(path, []byte(tt.file), 0o600))
			got, err := ReadFile(path)
			checkErr(t, err, tt.wantErr)
			if got != tt.want {
				t.Errorf("state %s, want %s", got, tt.want)
			}
			if err != nil && (!strings.Contains(err.Error(), path) || !damaged(err)) {
				t.Errorf("error %v, want one that names the file and says that it is damaged", err)
			}
		})
	}
}

func TestReadFileOfAnotherKind(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadFile(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) || damaged(err) {
		t.Errorf("missing: %v", err)
	}
	if _, err := ReadFile(dir); !damaged(err) {
		t.Errorf("a folder: %v", err)
	}
	fifo := filepath.Join(dir, "fifo")
	must(t, syscall.Mkfifo(fifo, 0o600))
	if _, err := ReadFile(fifo); !damaged(err) { // and it did not wait for a writer
		t.Errorf("a FIFO: %v", err)
	}
	must(t, os.Symlink("fifo/x", filepath.Join(dir, "link")))
	if _, err := ReadFile(filepath.Join(dir, "link")); err == nil || damaged(err) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link through a file: %v", err)
	}
}

func TestAddress(t *testing.T) {
	const address = "00112233445566778899AABBCCDDEEFF00112233"
	for _, tt := range []struct{ name, file, want, wantErr string }{
		{"from-cometbft", `{"address":"` + address + `","pub_key":{"type":"t","value":"AA=="},"priv_key":{"type":"t","value":"c2VjcmV0"}}`, address, ""},
		{"lower-case", `{"address":"` + strings.ToLower(address) + `"}`, address, ""},
		{"empty", ``, "", "not a validator's key"},
		{"torn", `{"address":"` + address + `","priv_key":{"value":"c2VjcmV0`, "", "not a validator's key"},
		{"no-address", `{"priv_key":{"type":"t","value":"c2VjcmV0"}}`, "", "no address of 40 hex digits"},
		{"short", `{"address":"0011"}`, "", "no address of 40 hex digits"},
		{"not-hex", `{"address":"` + address[1:] + `x"}`, "", "no address of 40 hex digits"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := Validator{KeyFile: filepath.Join(t.TempDir(), "priv_validator_key.json")}
			must(t, os.WriteFile(v.KeyFile, []byte(tt.file), 0o600))
			got, err := v.Address()
			checkErr(t, err, tt.wantErr)
			if got != tt.want {
				t.Errorf("address %q, want %q", got, tt.want)
			}
			if err != nil && (!strings.Contains(err.Error(), v.KeyFile) || strings.Contains(err.Error(), "c2V")) {
				t.Errorf("error %v, want one that names the file and tells nothing of the key", err)
			}
		})
	}
}

// asNode reads a state file by the rules of CometBFT: libs/json/decoder.go on FilePVLastSignState.
func asNode(content []byte) (s State, ok bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(content, &fields) != nil {
		return State{}, false
	}
	for name, value := range map[string]any{"height": &s.Height, "round": &s.Round, "step": &s.Step} {
		field := fields[name]
		if len(field) == 0 || string(field) == "null" {
			continue
		}
		if name == "height" {
			if field[0] != '"' || field[len(field)-1] != '"' {
				return State{}, false
			}
			field = field[1 : len(field)-1]
		}
		if json.Unmarshal(field, value) != nil {
			return State{}, false
		}
	}
	return s, true
}

// FuzzParse: what we read in a state file is what the node reads there, and it reads back what we write.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"height":"17","round":0,"step":3,"signature":"q83v","signbytes":"ABCD"}`))
	f.Add([]byte(`{"height":17,"Height":"18","round":"0","step":null}`))
	f.Add([]byte(`{"height":"1","height":"2","round":0,"step":3}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		state, err := parse(content)
		if err != nil {
			if state != (State{}) {
				t.Errorf("%s with the error %v", state, err)
			}
			return
		}
		if !state.valid() {
			t.Errorf("read %s", state)
		}
		if node, ok := asNode(content); ok && node != state {
			t.Errorf("read %s, the node reads %s", state, node)
		}
		if again, ok := asNode(state.file()); !ok || again != state {
			t.Errorf("wrote %s, the node reads %s, %t", state, again, ok)
		}
	})
}
