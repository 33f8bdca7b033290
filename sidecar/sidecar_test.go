package sidecar

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

const whole = `
[[sidecar]]
name = "companion"
command = ["/opt/companion", "--datadir", "/srv/c"]
start = "before"
ready = { tcp = "127.0.0.1:8551", within = "2m" }

[[sidecar]]
name = "feeder"
command = ["price-feeder"]
env = { KEY = "a=b", A = "" }
[sidecar.ready]
exec = ["feeder-ready", "--quick"]
`

func TestParse(t *testing.T) {
	list, faults := parse([]byte(whole))
	want := []Sidecar{
		{Name: "companion", Command: []string{"/opt/companion", "--datadir", "/srv/c"}, Start: Before, Ready: Ready{TCP: "127.0.0.1:8551", Within: 2 * time.Minute}},
		{Name: "feeder", Command: []string{"price-feeder"}, Env: []string{"A=", "KEY=a=b"}, Start: After, Ready: Ready{Exec: []string{"feeder-ready", "--quick"}, Within: defaultWithin}},
	}
	if faults != nil || !reflect.DeepEqual(list, want) {
		t.Errorf("parse = %+v, %v\nwant %+v", list, faults, want)
	}
	if got := strings.Join(Binaries(list, "price-feeder"), " "); got != "feeder-ready" {
		t.Errorf("Binaries = %s, want feeder-ready: the other is the node's own", got)
	}
	if got := strings.Join(Programs(list), " "); got != "/opt/companion" {
		t.Errorf("Programs = %s", got)
	}
}

func TestParseFaults(t *testing.T) {
	const head = "[[sidecar]]\nname = \"f\"\ncommand = [\"f\"]\n"
	for _, tt := range []struct{ name, content, want string }{
		{"empty", "", "it lists no sidecar; each is a table [[sidecar]]"},
		{"broken", "[[sidecar]]\nname = \n", "line 2: toml: "},
		{"other-table", "[feeder]\n", `no such key: "feeder"; each sidecar is a table [[sidecar]]`},
		{"one-table", "[sidecar]\nname = \"f\"\n", "sidecar must be a list of tables: write [[sidecar]]"},
		{"no-table", "sidecar = [1]\n", "sidecar 1 must be a table: write [[sidecar]]"},
		{"no-name", "[[sidecar]]\ncommand = [\"f\"]\n", "sidecar 1: name is missing"},
		{"no-command", "[[sidecar]]\nname = \"f\"\n", `sidecar "f": command is missing`},
		{"mistyped", head + "strat = \"before\"\n", `sidecar "f": no such key: "strat"; there are name, command, env, start and ready`},
		{"twice", head + head, `sidecar "f": name is that of another sidecar too`},
		{"name-of-a-path", "[[sidecar]]\nname = \"../f\"\ncommand = [\"f\"]\n", `sidecar 1: name must be made of letters, digits, dots and dashes, not "../f"`},
		{"command-line", "[[sidecar]]\nname = \"f\"\ncommand = \"f --x\"\n", `sidecar "f": command must be a list of words, such as `},
		{"relative", "[[sidecar]]\nname = \"f\"\ncommand = [\"./f\"]\n", `sidecar "f": command must begin with the name of a file in each version's bin/, or with an absolute path, not with "./f"`},
		{"leaves-bin", "[[sidecar]]\nname = \"f\"\ncommand = [\"..\"]\n", `not with ".."`},
		{"number-as-word", "[[sidecar]]\nname = \"f\"\ncommand = [\"f\", 1]\n", "must be a list of words in quotes without a NUL byte, and has 1 in it"},
		{"nul", "[[sidecar]]\nname = \"f\"\ncommand = [\"f\", \"\\u0000\"]\n", "without a NUL byte"},
		{"start", head + "start = \"first\"\n", `sidecar "f": start must be "before" or "after": before the node or after it`},
		{"env-of-numbers", head + "env = { A = 1 }\n", `sidecar "f": env has "A" in it, which is no variable with a text in quotes`},
		{"env-with-equals", head + "env = { \"A=B\" = \"1\" }\n", `sidecar "f": env has "A=B" in it`},
		{"ready-text", head + "ready = \"tcp\"\n", `sidecar "f": ready must be a table, such as `},
		{"ready-nothing", head + "ready = { within = \"5s\" }\n", `sidecar "f": ready must have exactly one of exec, tcp and http`},
		{"ready-both", head + "ready = { tcp = \"a:1\", http = \"http://a\" }\n", `sidecar "f": ready must have exactly one of exec, tcp and http`},
		{"ready-mistyped", head + "ready = { tpc = \"a:1\" }\n", `sidecar "f": no such key: "ready.tpc"; there are exec, tcp, http and within`},
		{"no-port", head + "ready = { tcp = \"localhost\" }\n", `sidecar "f": ready.tcp must be an address such as 127.0.0.1:8080, not "localhost"`},
		{"port-too-high", head + "ready = { tcp = \"localhost:65536\" }\n", "ready.tcp must be an address"},
		{"no-scheme", head + "ready = { http = \"localhost:80/health\" }\n", `ready.http must be an address such as http://127.0.0.1:8080/health, not "localhost:80/health"`},
		{"secret", head + "ready = { http = \"ftp://me:secret@host/\" }\n", `not "ftp://xxxxx@host/"`},
		{"no-time", head + "ready = { tcp = \"a:1\", within = \"0s\" }\n", `sidecar "f": ready.within must be a duration such as 5s or 2m, not "0s"`},
		{"time-without-unit", head + "ready = { tcp = \"a:1\", within = 5 }\n", `sidecar "f": ready.within must be a text in quotes, not 5`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, faults := parse([]byte(tt.content))
			if err := errors.Join(faults...); err == nil || !strings.Contains(err.Error(), tt.want) || len(faults) > 1 && tt.name != "ready-mistyped" {
				t.Errorf("parse = %v, %v\nwant %s", list, faults, tt.want)
			}
			if list != nil {
				t.Errorf("a list with faults is returned: %v", list)
			}
		})
	}
}

// TestReadOther: what is no file of a sane size is not read.
func TestReadOther(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, maxList+1), 0o644); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		large: "larger than", pipe: "not a regular file", dir: "not a regular file", filepath.Join(dir, "none"): "no such file",
	} {
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}

// FuzzParse: whatever stands in a list, what is read can be started, or is refused with a sentence.
func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte("[[sidecar]]\nname = \"f\"\ncommand = [\"f\"]\nready = { http = \"http://a:1/\" }\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		list, faults := parse(content)
		if (len(list) == 0) == (len(faults) == 0) {
			t.Fatalf("%v and %v", list, faults)
		}
		for _, s := range list {
			first := s.Command[0]
			switch {
			case !nameOf.MatchString(s.Name), len(s.Name) > longestName, s.Start != Before && s.Start != After, s.Ready.asks() != (s.Ready.Within > 0):
				t.Errorf("read %+v", s)
			case !filepath.IsAbs(first) && filepath.Base(first) != first:
				t.Errorf("leaves bin/: %q", first)
			}
			for _, text := range append(append(s.Command, s.Ready.Exec...), s.Env...) {
				if strings.ContainsRune(text, 0) {
					t.Errorf("NUL in %q", text)
				}
			}
		}
		for _, fault := range faults {
			if fault.Error() == "" {
				t.Error("a fault without words")
			}
		}
	})
}

// TestManual: the example of the manual can be read.
func TestManual(t *testing.T) {
	content, err := os.ReadFile("../docs/sidecars.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(content), "```toml\n")
	example, _, found := strings.Cut(example, "```\n")
	if list, faults := parse([]byte(example)); !found || len(list) != 2 || faults != nil {
		t.Errorf("%v, %v", list, faults)
	}
}
