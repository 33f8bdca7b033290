package readiness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"solstice"
	"solstice/node"
	"solstice/upgrade"
)

// TestHomeOfProcess: what a real process has open tells which home it uses.
func TestHomeOfProcess(t *testing.T) {
	for _, tt := range []struct {
		name   string
		script string // run in a folder with own/ and other/, both of them homes; it holds what it opens and says when it does
		env    string
		data   string // a symlink of own/data leads there; empty: it is a folder
		want   string
	}{
		{name: "the home", script: `exec 5>>own/data/application.db/LOCK`, want: "same"},
		{name: "its WAL", script: `exec 5>>own/data/cs.wal/wal`, want: "same"},
		{name: "a database that was deleted while it is open", script: `exec 5>>own/data/application.db/1; rm own/data/application.db/1`, want: "same"},
		{name: "data/ is a symlink", script: `exec 5>>own/data/application.db/LOCK`, data: "disk", want: "same"},
		{name: "another home", script: `exec 5>>other/data/state.db/LOCK`, want: "other/data"},
		{name: "another home, by a child of a wrapper", script: `sh -c 'exec 5>>other/data/state.db/LOCK; echo ready; exec sleep 60' & wait`, want: "other/data"},
		{name: "both: a database of another program beside its own", script: `exec 5>>other/data/state.db/LOCK 6>>own/data/state.db/LOCK`, want: "same"},
		{name: "nothing open", script: `:`, want: "unknown"},
		{name: "nothing open, and a variable names the home", script: `:`, env: "/own", want: "same"},
		{name: "nothing open, and a variable names another", script: `:`, env: "/other", want: "other/data"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, folder := range []string{"own", "other", "disk"} {
				for _, below := range []string{"data/application.db", "data/state.db", "data/cs.wal", "application.db"} {
					if err := os.MkdirAll(filepath.Join(dir, folder, below), 0o755); err != nil {
						t.Fatal(err)
					}
				}
			}
			if tt.data != "" {
				must(t, os.RemoveAll(filepath.Join(dir, "own", "data")))
				must(t, os.Symlink(filepath.Join(dir, tt.data), filepath.Join(dir, "own", "data")))
			}
			cmd := exec.Command("/bin/sh", "-c", tt.script+"\necho ready\nread x")
			cmd.Dir = dir
			if tt.env != "" {
				shell, err := filepath.EvalSymlinks("/bin/sh")
				must(t, err)
				cmd.Env = append(os.Environ(), strings.ToUpper(filepath.Base(shell))+"_HOME="+dir+tt.env)
			}
			stdin, err := cmd.StdinPipe()
			must(t, err)
			out, err := cmd.StdoutPipe()
			must(t, err)
			must(t, cmd.Start())
			defer cmd.Wait()
			defer stdin.Close()
			defer cmd.Process.Kill()
			if _, err := out.Read(make([]byte, 10)); err != nil {
				t.Fatal(err)
			}
			home := solstice.Home{Dir: dir, Node: filepath.Join(dir, "own"), Name: "noded"}
			settings := node.ReadSettings(home, nil, func(string) string { return "" })
			got := ""
			for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline) && got != tt.want; {
				switch found := HomeOfProcess(home, settings, cmd.Process.Pid); {
				case found.Unknown != nil:
					got = "unknown"
				case found.Same:
					got = "same"
				default:
					got, err = filepath.Rel(dir, strings.Join(found.Others, ","))
					must(t, err)
				}
			}
			if got != tt.want {
				t.Errorf("found %s, want %s", got, tt.want)
			}
		})
	}
	if found := HomeOfProcess(solstice.Home{}, node.Settings{}, 1<<30); found.Unknown == nil || found.Same {
		t.Errorf("a process that is not there: %+v", found)
	}
}

// TestHomeStays: a plan's binary with another default home would start on an empty one.
func TestHomeStays(t *testing.T) {
	help := func(home string) string {
		return fmt.Sprintf("#!/bin/sh\necho 'Flags:'\necho \"      --home string   the home (default \\\"%s\\\")\"\n", home)
	}
	for _, tt := range []struct {
		name        string
		from        string
		now, next   string
		want        solstice.Verdict
		mustMention string
	}{
		{"the same", node.FromDefault, help("$HOME/.noded"), help("$HOME/.noded"), solstice.OK, "$HOME/.noded"},
		{"another", node.FromDefault, help("$HOME/.noded"), help("$HOME/.other"), solstice.NotReady, "$HOME/.other, not $HOME/.noded"},
		{"another, and it is named", node.FromFlag, help("$HOME/.noded"), help("$HOME/.other"), solstice.OK, ""},
		{"it says none", node.FromDefault, help("$HOME/.noded"), "#!/bin/sh\necho no flags\n", solstice.Unknown, "plan's binary"},
		{"the one in use says none", node.FromDefault, "#!/bin/sh\nexit 1\n", help("x"), solstice.Unknown, "binary in use"},
		{"no binary", node.FromDefault, help("x"), "", solstice.Unknown, "can't be asked"},
	} {
		dir := t.TempDir()
		home := solstice.Home{Dir: dir, Node: dir, Name: "noded", StateDir: filepath.Join(dir, "state"), NodeFrom: tt.from}
		for folder, content := range map[string]string{solstice.Genesis: tt.now, "upgrades/v2": tt.next} {
			must(t, os.MkdirAll(filepath.Dir(home.Binary(folder)), 0o755))
			if content != "" {
				must(t, os.WriteFile(home.Binary(folder), []byte(content), 0o755))
			}
		}
		s := Subject{Home: home, Link: solstice.Genesis, Plan: solstice.Plan{Name: "v2", Height: 9}, Probes: &upgrade.Probes{Dir: dir}}
		if f := homeStays(t.Context(), s); f.verdict != tt.want || !strings.Contains(f.evidence, tt.mustMention) {
			t.Errorf("%s: %+v, want %s, %s", tt.name, f, tt.want, tt.mustMention)
		}
	}
}
