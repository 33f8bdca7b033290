package unit

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// place writes files below a folder.
func place(t *testing.T, files map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(content, "ROOT", root)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// TestLoad: what counts is what systemd would take, in its order.
func TestLoad(t *testing.T) {
	const plain = "[Service]\nExecStart=/bin/cosmovisor run start\nEnvironment=DAEMON_NAME=gaiad\n"
	for _, tt := range []struct {
		name    string
		files   map[string]string
		unit    string
		command string
		env     string // NAME=VALUE, separated by blanks
		wantErr string
	}{
		{"plain", map[string]string{"etc/g.service": plain}, "g", "/bin/cosmovisor run start", "DAEMON_NAME=gaiad", ""},
		{"missing", nil, "g", "", "", "no unit g.service"},
		{"first-folder-counts", map[string]string{"etc/g.service": plain, "lib/g.service": "[Service]\nExecStart=/other\n"}, "g", "/bin/cosmovisor run start", "DAEMON_NAME=gaiad", ""},
		{"drop-ins-by-name", map[string]string{
			"lib/g.service":          plain,
			"lib/g.service.d/9.conf": "[Service]\nEnvironment=A=lib\n", "etc/g.service.d/5.conf": "[Service]\nEnvironment=A=etc B=etc\n",
		}, "g", "/bin/cosmovisor run start", "A=lib B=etc DAEMON_NAME=gaiad", ""},
		{"drop-in-hidden-by-one-of-its-name", map[string]string{
			"lib/g.service":          plain,
			"lib/g.service.d/1.conf": "[Service]\nEnvironment=A=lib\n", "etc/g.service.d/1.conf": "",
		}, "g", "/bin/cosmovisor run start", "DAEMON_NAME=gaiad", ""},
		{"reset", map[string]string{
			"etc/g.service":          plain,
			"etc/g.service.d/1.conf": "[Service]\nExecStart=\nExecStart=/new run start\nEnvironment=\nEnvironment=A=1\n",
		}, "g", "/new run start", "A=1", ""},
		{"continued-with-a-comment", map[string]string{"etc/g.service": "[Service]\nExecStart=/bin/cosmovisor \\\n# why\n  run start\n"}, "g", "/bin/cosmovisor  run start", "", ""},
		{"other-sections", map[string]string{"etc/g.service": "[Unit]\nExecStart=/no\n[Service]\nExecStart=/yes\n[Install]\nExecStart=/no\n"}, "g", "/yes", "", ""},
		{"quoted-environment", map[string]string{"etc/g.service": "[Service]\nExecStart=/x\nEnvironment=\"A=b c\" 'D=e f' G=\\x41\n"}, "g", "/x", "A=b c D=e f G=A", ""},
		{"environment-file-wins", map[string]string{
			"etc/g.service": "[Service]\nExecStart=/x\nEnvironmentFile=ROOT/env\nEnvironmentFile=-ROOT/none\nEnvironment=A=unit\n", "env": "# c\nA=file\nB=\"c d\"\n",
		}, "g", "/x", "A=file B=c d", ""},
		{"environment-file-missing", map[string]string{"etc/g.service": "[Service]\nExecStart=/x\nEnvironmentFile=ROOT/none\n"}, "g", "", "", "none: file does not exist"},
		{"template", map[string]string{
			"etc/g@.service": "[Service]\nExecStart=/x --home /srv/%i\nEnvironment=DAEMON_HOME=/srv/%i\n", "etc/g@a.service.d/1.conf": "[Service]\nEnvironment=A=%p\n",
		}, "g@a", "/x --home /srv/%i", "A=g DAEMON_HOME=/srv/a", ""},
		{"specifier-that-depends-on-the-machine", map[string]string{"etc/g.service": "[Service]\nEnvironment=A=%b\n"}, "g", "", "", "specifier %b"},
		{"open-quote", map[string]string{"etc/g.service": "[Service]\nExecStart=/x \"a\n"}, "g", "", "", "not closed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := place(t, tt.files)
			s, err := Load(tt.unit, []string{filepath.Join(root, "etc"), filepath.Join(root, "lib")}, nil)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("Load: %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Commands) != 1 || s.Commands[0].Line != tt.command {
				t.Errorf("commands %+v, want %q", s.Commands, tt.command)
			}
			var env []string
			for name, value := range s.Env {
				env = append(env, name+"="+value)
			}
			slices.Sort(env)
			if got := strings.Join(env, " "); got != tt.env {
				t.Errorf("environment %q, want %q", got, tt.env)
			}
		})
	}
}

// TestReplace: the program is another, and everything else is as it was written.
func TestReplace(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		word       int
		program    string
		want       string
	}{
		{"plain", "/bin/cosmovisor run start --home /x", 0, "/bin/solstice", "/bin/solstice run start --home /x"},
		{"prefixes", "-!/bin/cosmovisor run", 0, "/bin/solstice", "-!/bin/solstice run"},
		{"quoted", `"/my bin/cosmovisor" run "a  b"  'c'`, 0, "/bin/solstice", `/bin/solstice run "a  b"  'c'`},
		{"through-env", "/usr/bin/env A=b cosmovisor run start", 2, "/bin/solstice", "/usr/bin/env A=b /bin/solstice run start"},
		{"to-a-path-that-needs-quotes", "/bin/cosmovisor run", 0, `/my 50% "b"`, `"/my 50%% \"b\"" run`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := parseCommand(tt.line)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Replace(tt.word, tt.program); got != tt.want {
				t.Errorf("Replace = %s\n    want %s", got, tt.want)
			}
		})
	}
}

// TestBefore: what a command is started through is there for another one, too; a failure of that is told.
func TestBefore(t *testing.T) {
	for _, tt := range []struct {
		line string
		word int
		want string
	}{
		{"/bin/cosmovisor run start", 0, ""},
		{"-/bin/cosmovisor run start", 0, ""},
		{`-+"/my bin/cosmovisor" run start`, 0, "+"},
		{`/usr/bin/env "A=b c"  cosmovisor run start`, 2, `/usr/bin/env "A=b c"  `},
		{"!!-/usr/bin/env -i A=b cosmovisor run start", 3, "!!/usr/bin/env -i A=b "},
	} {
		c, err := parseCommand(tt.line)
		if got := c.Before(tt.word); err != nil || got != tt.want {
			t.Errorf("%s: Before = %q, %v, want %q", tt.line, got, err, tt.want)
		}
	}
}

// TestReloads: of the unit and its drop-ins, those that are not taken back.
func TestReloads(t *testing.T) {
	for _, tt := range []struct {
		name, unit, dropIn string
		want               []string
	}{
		{"none", "ExecStart=/x", "", nil},
		{"in-the-unit", "ExecReload=/bin/kill -HUP $MAINPID", "", []string{"/bin/kill -HUP $MAINPID"}},
		{"in-a-drop-in", "ExecStart=/x", "ExecReload=/a\nExecReload=/b", []string{"/a", "/b"}},
		{"taken-back", "ExecReload=/a", "ExecReload=", nil},
		{"not-readable", "ExecReload=/a \"", "", []string{`/a "`}}, // which is none of our concern
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := place(t, map[string]string{"g.service": "[Service]\n" + tt.unit + "\n", "g.service.d/1.conf": "[Service]\n" + tt.dropIn + "\n"})
			s, err := Load("g", []string{root}, nil)
			if err != nil || !slices.Equal(s.Reloads, tt.want) {
				t.Errorf("%q, %v, want %q", s.Reloads, err, tt.want)
			}
		})
	}
}

// TestExpand: words as the program gets them.
func TestExpand(t *testing.T) {
	s := &Service{Name: "g@a.service", Env: map[string]string{"HOME_DIR": "/srv/a b", "FLAGS": "--x  1"}}
	c, err := parseCommand(`/bin/cosmovisor run start --home ${HOME_DIR}/%i $FLAGS "--y=$${no} $FLAGS" %%`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Expand(c.Words())
	want := []string{"/bin/cosmovisor", "run", "start", "--home", "/srv/a b/a", "--x", "1", "--y=${no} $FLAGS", "%"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Expand = %q, %v\n   want %q", got, err, want)
	}
}

// TestList: templates and aliases are no services of their own.
func TestList(t *testing.T) {
	root := place(t, map[string]string{"a.service": "", "b@.service": "", "b@x.service": "", "c.timer": ""})
	if err := os.Symlink("a.service", filepath.Join(root, "alias.service")); err != nil {
		t.Fatal(err)
	}
	if got, want := List([]string{root, root + "/none"}), []string{"a.service", "b@x.service"}; !slices.Equal(got, want) {
		t.Errorf("List = %q, want %q", got, want)
	}
	if _, err := Load("none", []string{root}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of no unit: %v", err)
	}
}
