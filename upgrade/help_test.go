package upgrade

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"solstice/node"
)

// TestHelp asks real programs. Each notes in a file that it was asked.
func TestHelp(t *testing.T) {
	t.Setenv("HOME", "/home/me")
	t.Setenv("NODE_HOME", "/srv/node")
	t.Setenv("EMPTY_HOME", "")
	const flags = "echo '  -x, --ex        a switch'\n"
	home := func(value string) string {
		return "echo \"      --home string   where (default \\\"" + value + "\\\")\"\n"
	}
	for _, tt := range []struct {
		name   string
		script string
		want   node.DefaultHome
		path   string // in this environment
		known  bool
	}{
		{"in the user's home", flags + home("$HOME/.gaia"), node.DefaultHome{Variable: "HOME", Path: ".gaia"}, "/home/me/.gaia", true},
		{"in another variable", flags + home("$NODE_HOME"), node.DefaultHome{Variable: "NODE_HOME", Path: "."}, "/srv/node", true},
		{"in DAEMON_HOME", flags + home("$DAEMON_HOME/x"), node.DefaultHome{Variable: "DAEMON_HOME", Path: "x"}, "/daemon/x", true},
		{"in a variable that is not set", flags + home("${EMPTY_HOME:-/none}"), node.DefaultHome{Path: "/none"}, "/none", true},
		{"fixed", flags + home("/var/lib/gaia"), node.DefaultHome{Path: "/var/lib/gaia"}, "/var/lib/gaia", true},
		{"no default", flags + "echo '      --home string   where'\n", node.DefaultHome{}, "", true},
		{"no node", "echo usage: x\n", node.DefaultHome{}, "", false},
		{"an error, after its help", flags + home("$HOME") + "exit 3\n", node.DefaultHome{Variable: "HOME", Path: "."}, "/home/me", true},
		{"it writes into its home", "mkdir -p \"$HOME/.gaia/config\" || exit 1\n" + flags + home("$HOME/.gaia"), node.DefaultHome{Variable: "HOME", Path: ".gaia"}, "/home/me/.gaia", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("DAEMON_HOME", "/daemon")
			binary := filepath.Join(dir, "noded")
			write(t, binary, "#!/bin/sh\n"+tt.script)
			if err := os.Chmod(binary, 0o755); err != nil {
				t.Fatal(err)
			}
			p := &Probes{Dir: dir, HelpFile: filepath.Join(dir, "help.json")}
			if _, known := p.KnownHelp(binary); known {
				t.Error("it is known before it was asked")
			}
			h, err := p.Help(t.Context(), binary)
			if err != nil || h.Known() != tt.known || h.Home != tt.want {
				t.Fatalf("Help = %+v, %v, want %+v, known %v", h, err, tt.want, tt.known)
			}
			if got := h.Home.In("/cwd", os.Getenv); got != tt.path {
				t.Errorf("home %q, want %q", got, tt.path)
			}
			if err := p.KeepHelp(); err != nil {
				t.Fatal(err)
			}
			// The next start knows it, until the binary or the set of variables changes.
			next := &Probes{Dir: dir, HelpFile: p.HelpFile}
			if again, known := next.KnownHelp(binary); !known || again.Home != h.Home || again.Known() != h.Known() {
				t.Errorf("read again: %+v, %v", again, known)
			}
			t.Setenv("OTHER_HOME", "/x")
			if _, known := next.KnownHelp(binary); known {
				t.Error("it is known with another variable")
			}
			t.Setenv("OTHER_HOME", "")
			if _, known := next.KnownHelp(binary); !known {
				t.Error("it is not known any more")
			}
			write(t, binary, "#!/bin/sh\nexit 1\n")
			if _, known := next.KnownHelp(binary); known {
				t.Error("another binary is taken for it")
			}
			if left, _ := filepath.Glob(filepath.Join(dir, ".solstice-tmp-*")); left != nil {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}

// TestHelpFileIsOptional: one that is broken or can't be written costs a question, and no more.
func TestHelpFileIsOptional(t *testing.T) {
	dir := t.TempDir()
	binary, file := filepath.Join(dir, "noded"), filepath.Join(dir, "help.json")
	write(t, binary, "#!/bin/sh\necho '      --home string   where (default \"/x\")'\n")
	if err := os.Chmod(binary, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"", "{", "[]", `{"` + binary + `":{"stamp":5}}`, strings.Repeat("x", 1<<20)} {
		write(t, file, content)
		p := &Probes{Dir: dir, HelpFile: file}
		if h, err := p.Help(t.Context(), binary); err != nil || h.Home.Path != "/x" {
			t.Errorf("with %.20q: %+v, %v", content, h, err)
		}
		if err := p.KeepHelp(); err != nil {
			t.Errorf("with %.20q: %v", content, err)
		}
		if _, known := (&Probes{HelpFile: file}).KnownHelp(binary); !known {
			t.Errorf("with %.20q: it is not kept", content)
		}
	}
	for _, missing := range []string{filepath.Join(dir, "none"), dir} {
		if _, err := (&Probes{Dir: dir}).Help(t.Context(), missing); err == nil {
			t.Errorf("%s has a help", missing)
		}
	}
}
