package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"solstice"
	"solstice/node"
)

// TestStartHome: which home is locked, watched and guarded, and when a start is refused. The binary is the test node, whose default home
// stands in a file beside it.
func TestStartHome(t *testing.T) {
	for _, tt := range []struct {
		name   string
		homes  string // which of the folders daemon, user/.noded, other and old have a node's data
		args   string
		env    string // NAME=folder
		binary string // node, script or none
		last   string // the home at the last start, by default; empty: never started
		want   string // folder, and what named it
		fault  string // of the refusal; empty: none
		hint   string
	}{
		{name: "the default is there, DAEMON_HOME is not", homes: "user/.noded", want: "user/.noded " + node.FromDefault},
		{name: "both are there: the node uses its default", homes: "user/.noded daemon", want: "user/.noded " + node.FromDefault},
		{name: "the default is no home, DAEMON_HOME is", homes: "daemon", fault: "/user/.noded (default of the binary), which is no node's home; ", hint: "--home DIR/daemon"},
		{name: "the same, and a variable names DAEMON_HOME", homes: "daemon", env: "APP_HOME=daemon", want: "daemon DAEMON_HOME"},
		{name: "the same, and a variable names another", homes: "daemon", env: "APP_HOME=other", fault: "no node's home", hint: "--home DIR/daemon"},
		{name: "neither is there", fault: "and neither is DAEMON_HOME", hint: "solstice run init MONIKER"},
		{name: "neither is there, and the last home is", homes: "old", last: "old", fault: "no node's home; DIR/old is one", hint: "--home DIR/old"},
		{name: "flag", homes: "daemon user/.noded", args: "--home DIR/other", want: "other --home"},
		{name: "variable of the SDK", homes: "daemon user/.noded", env: "NODED_HOME=other", want: "other NODED_HOME"},
		{name: "flag before variable", env: "NODED_HOME=daemon", args: "--home=DIR/other", want: "other --home"},

		{name: "a script, and DAEMON_HOME is there", binary: "script", homes: "daemon user/.noded", want: "daemon DAEMON_HOME"},
		{name: "a script, and DAEMON_HOME is not", binary: "script", homes: "user/.noded", fault: "is a script", hint: "--home DIR/daemon"},
		{name: "a script and a flag", binary: "script", args: "--home DIR/other", want: "other --home"},
		{name: "no binary, and DAEMON_HOME is there", binary: "none", homes: "daemon", want: "daemon DAEMON_HOME"},
		{name: "no binary, and DAEMON_HOME is not", binary: "none", fault: "cannot tell which home the node uses: ", hint: "--home DIR/daemon"},
		{name: "no binary just now, and the last start used its default", binary: "none", homes: "daemon old", last: "old", want: "old " + node.FromDefault},
		{name: "the user has no home", env: "HOME=", fault: "the binary's default is in $HOME, which is not set", hint: "--home DIR/daemon"},
		{name: "the user has no home, and DAEMON_HOME is there", env: "HOME=", homes: "daemon", want: "daemon DAEMON_HOME"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			must := func(err error) {
				if err != nil {
					t.Helper()
					t.Fatal(err)
				}
			}
			c := &Config{Home: filepath.Join(dir, "daemon"), Name: "noded", StateDir: filepath.Join(dir, "daemon", "cosmovisor", ".solstice")}
			t.Setenv("DAEMON_HOME", c.Home)
			t.Setenv("HOME", filepath.Join(dir, "user"))
			if name, folder, found := strings.Cut(tt.env, "="); found {
				if folder != "" {
					folder = filepath.Join(dir, folder)
				}
				t.Setenv(name, folder)
			}
			binary := c.layout().Binary(solstice.Genesis)
			must(os.MkdirAll(filepath.Dir(binary), 0o755))
			must(os.MkdirAll(c.StateDir, 0o755))
			switch tt.binary {
			case "":
				must(os.Link(nodeBinary, binary))
				must(os.WriteFile(binary+".home", []byte(".noded"), 0o644))
			case "script":
				must(os.WriteFile(binary, []byte("#!/bin/sh\necho '      --home string   x (default \"/x\")'\n"), 0o755))
			}
			for _, home := range strings.Fields(tt.homes) {
				must(os.MkdirAll(filepath.Join(dir, home, "data"), 0o755))
			}
			if tt.last != "" {
				content, err := json.Marshal(solstice.Started{Dir: c.Home, Args: []string{"start"}, Node: filepath.Join(dir, tt.last), NodeFrom: node.FromDefault})
				must(err)
				must(os.WriteFile(c.layout().ArgsFile(), content, 0o600))
			}
			here := strings.NewReplacer("DIR", dir)
			home, err := c.startHome(strings.Fields("start " + here.Replace(tt.args)))
			if tt.fault != "" {
				refused, ok := err.(*solstice.RefusedError)
				if !ok || !strings.Contains(refused.Reason, here.Replace(tt.fault)) || !strings.Contains(refused.Hint, here.Replace(tt.hint)) {
					t.Fatalf("startHome = %+v, %v, want a refusal with %q and the hint %q", home, err, tt.fault, tt.hint)
				}
				return
			}
			must(err)
			if got := strings.TrimPrefix(home.Node, dir+"/") + " " + home.NodeFrom; got != tt.want {
				t.Errorf("startHome = %s, want %s", got, tt.want)
			}
		})
	}
}

// TestReaderRefusesAnotherHome: a binary that is known to use another home than the first one did is not started.
func TestReaderRefusesAnotherHome(t *testing.T) {
	dir := t.TempDir()
	c := &Config{Home: filepath.Join(dir, "daemon"), Name: "noded", StateDir: filepath.Join(dir, "daemon", "cosmovisor", ".solstice")}
	t.Setenv("DAEMON_HOME", c.Home)
	t.Setenv("HOME", filepath.Join(dir, "user"))
	for folder, home := range map[string]string{solstice.Genesis: ".noded", "upgrades/same": ".noded", "upgrades/other": ".other"} {
		binary := c.layout().Binary(folder)
		if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(nodeBinary, binary); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(binary+".home", []byte(home), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "user", ".noded", "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"start"}, {"start", "--home", dir}} {
		home, err := c.startHome(args)
		if err != nil {
			t.Fatal(err)
		}
		read := c.reader(home, args)
		launch := func(folder string) error {
			_ = os.Remove(home.CurrentLink())
			if err := os.Symlink(folder, home.CurrentLink()); err != nil {
				t.Fatal(err)
			}
			_, err := read()
			return err
		}
		for _, folder := range []string{"upgrades/same", "upgrades/other"} {
			if err := launch(folder); err != nil {
				t.Errorf("%s, %v: it was not asked yet, and is refused: %v", args, folder, err)
			}
			if c.probes != nil { // a home that is named needs no help
				c.probes.Ahead(t.Context(), home, folder)
			}
		}
		if err := launch("upgrades/same"); err != nil {
			t.Errorf("%s: the same default home is refused: %v", args, err)
		}
		err = launch("upgrades/other")
		if named := len(args) > 1; (err == nil) != named {
			t.Errorf("%s: another default home: %v", args, err)
		}
		_ = os.Remove(home.CurrentLink())
	}
}
