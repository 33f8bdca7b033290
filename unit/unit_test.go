package unit

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// place writes files below a folder. A content that begins with -> is a symlink to what
// follows.
func place(t *testing.T, files map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		content = strings.ReplaceAll(content, "ROOT", root)
		target, link := strings.CutPrefix(content, "->")
		err := error(nil)
		if link {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// TestLoad: what counts is what systemd would take.
func TestLoad(t *testing.T) {
	for _, tt := range layouts {
		t.Run(tt.name, func(t *testing.T) {
			root := place(t, tt.files)
			s, err := Units{Folders: folders(root)}.Load(tt.unit)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("Load: %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil || len(s.Faults) > 0 {
				t.Fatal(err, s)
			}
			if got := commandOf(t, s); got != tt.command {
				t.Errorf("command %q\n   want %q", got, tt.command)
			}
			if got := assigned(t, s); got != tt.env {
				t.Errorf("environment %q\n       want %q", got, tt.env)
			}
			if got := strings.ReplaceAll(strings.Join(s.DropIns, " "), root+"/", ""); got != tt.dropIns {
				t.Errorf("drop-ins %q\n    want %q", got, tt.dropIns)
			}
		})
	}
}

// commandOf are the words of the only command, with specifiers put in and variables not.
func commandOf(t *testing.T, s *Service) string {
	t.Helper()
	if len(s.Commands) != 1 {
		t.Fatalf("commands %+v, want one", s.Commands)
	}
	var words []string
	for _, text := range s.Commands[0].Words() {
		text, err := s.specify(text)
		if err != nil {
			t.Fatal(err)
		}
		words = append(words, text)
	}
	return strings.Join(words, "|")
}

// assigned is what Environment= sets.
func assigned(t *testing.T, s *Service) string {
	t.Helper()
	values := map[string]string{}
	for _, a := range s.assigned {
		if a.err != nil {
			t.Fatal(a.err)
		}
		values[a.name] = a.value
	}
	var list []string
	for name, value := range values {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return strings.Join(list, "|")
}

// TestFaults: what systemd refuses, or what only a running systemd can tell, is said with
// the setting and the file.
func TestFaults(t *testing.T) {
	for _, tt := range []struct{ name, unit, want string }{
		{"open quote", "ExecStart=/x \"a\n", `etc/g.service: ExecStart=: a quote is not closed: /x "a`},
		{"relative program", "ExecStart=./x\n", `systemd does not take "./x" for a program`},
		{"quotes in the program", "ExecStart=\"/my \\\"x\\\"\"\n", "has a quote"},
		{"user of the control group", "ExecStart=/x\nUser=%c\n", `etc/g.service: User=: %c in "%c": only a running systemd can tell`},
		{"program by a specifier of another version", "ExecStart=/%D/x\n", "%D"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := place(t, map[string]string{"etc/g.service": "[Service]\n" + tt.unit})
			s, err := Units{Folders: folders(root)}.Load("g")
			if err != nil || len(s.Faults) != 1 || !strings.Contains(s.Faults[0].Error(), tt.want) {
				t.Errorf("%v, %v, want %q", err, s.Faults, tt.want)
			}
		})
	}
}

// TestUnreadable: a file or a folder that this user may not read is not one that is not
// there.
func TestUnreadable(t *testing.T) {
	root := place(t, map[string]string{"etc/g.service": gaiad, "etc/g.service.d/1.conf": sets("A=1"), "fifo/g.service": "->ROOT/pipe"})
	if err := os.Mkdir(filepath.Join(root, "pipe"), 0o755); err != nil { // stands for what is no file
		t.Fatal(err)
	}
	if _, err := (Units{Folders: []string{filepath.Join(root, "fifo")}}).Load("g"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of what is no file: %v", err)
	}
	if os.Geteuid() == 0 {
		t.Skip("root may read everything: TestAdoptAsAnotherUser covers the rest")
	}
	for _, path := range []string{"etc/g.service.d/1.conf", "etc/g.service.d", "etc/g.service", "etc"} {
		if err := os.Chmod(filepath.Join(root, path), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := (Units{Folders: folders(root)}).Load("g"); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("Load without permission for %s: %v", path, err)
		}
		if err := os.Chmod(filepath.Join(root, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// TestList: templates, aliases and masked names.
func TestList(t *testing.T) {
	root := place(t, map[string]string{
		"etc/a.service": gaiad, "etc/b@.service": gaiad, "etc/b@x.service": "->b@.service", "etc/c.timer": "", "etc/alias.service": "->a.service",
		"etc/multi-user.target.wants/b@y.service": "->ROOT/etc/b@.service", "etc/multi-user.target.wants/gone.service": "->ROOT/etc/gone.service",
		"etc/masked.service": "->/dev/null", "lib/d.service": gaiad, "etc/e.service/x": "",
	})
	got, err := Units{Folders: append(folders(root), root+"/none")}.List()
	if want := []string{"a.service", "b@x.service", "b@y.service", "d.service", "masked.service"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("List = %q, %v, want %q", got, err, want)
	}
	if _, err := (Units{Folders: folders(root)}).Load("masked"); !errors.Is(err, ErrMasked) {
		t.Errorf("Load of a masked unit: %v", err)
	}
}

// TestAdd: a drop-in that is not written yet is read as if it were, and one that is left is
// not.
func TestAdd(t *testing.T) {
	root := place(t, map[string]string{"etc/g.service": gaiad, "etc/g.service.d/old.conf": sets("A=old"), "control/g.service.d/z.conf": sets("B=z")})
	path := filepath.Join(root, "etc/g.service.d/new.conf")
	units := Units{
		Folders: folders(root),
		Leave:   func(path string) bool { return filepath.Base(path) == "old.conf" },
		Add:     map[string]string{path: sets("A=new B=new"), filepath.Join(root, "lib/g.service.d/only.conf"): sets("C=1")},
	}
	s, err := units.Load("g")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := assigned(t, s), "A=new|B=z|C=1|DAEMON_NAME=gaiad"; got != want {
		t.Errorf("environment %q, want %q", got, want)
	}
}

// TestReplace: other words stand in the place of one, and all else is as it was written.
func TestReplace(t *testing.T) {
	for _, tt := range []struct {
		name, line string
		at         int
		with       []string
		want       string
	}{
		{"plain", "/bin/cosmovisor run start --home /x", 0, []string{"/bin/solstice"}, "/bin/solstice run start --home /x"},
		{"flags", "-!/bin/cosmovisor run", 0, []string{"/bin/solstice"}, "-!/bin/solstice run"},
		{"flags in quotes", `"-/my bin/cosmovisor" run`, 0, []string{"/bin/solstice"}, "-/bin/solstice run"},
		{"quoted", `"/my bin/cosmovisor" run "a  b"  'c'`, 0, []string{"/bin/solstice"}, `/bin/solstice run "a  b"  'c'`},
		{"through env", "/usr/bin/env A=b cosmovisor run start", 2, []string{"/bin/solstice"}, "/usr/bin/env A=b /bin/solstice run start"},
		{"two words", "/bin/cosmovisor start", 0, []string{"/bin/solstice", "run"}, "/bin/solstice run start"},
		{"a program with a dollar sign", "/bin/cosmovisor run", 0, []string{"/my 50%/$b"}, `"/my 50%%/$b" run`},
		{"an argument with a dollar sign", "/bin/env cosmovisor run", 1, []string{"/my$b"}, `/bin/env /my$$b run`},
		{"an argument after a colon", ":/bin/env cosmovisor run", 1, []string{"/my$b"}, `:/bin/env /my$b run`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &Service{Name: "g.service"}
			s.set("ExecStart", located{tt.line, "g"})
			if got := s.Commands[0].Replace(tt.at, tt.with...); got != tt.want {
				t.Errorf("Replace = %s\n    want %s", got, tt.want)
			}
		})
	}
}

// TestBefore: what a command is started through is there for another one, too; a failure of
// that is told.
func TestBefore(t *testing.T) {
	for _, tt := range []struct {
		line string
		at   int
		want string
	}{
		{"/bin/cosmovisor run start", 0, ""},
		{"-/bin/cosmovisor run start", 0, ""},
		{`-+"/my bin/cosmovisor" run start`, 0, "+"},
		{`/usr/bin/env "A=b c"  cosmovisor run start`, 2, `/usr/bin/env "A=b c"  `},
		{"!!-/usr/bin/env -i A=b cosmovisor run start", 3, "!!/usr/bin/env -i A=b "},
	} {
		s := &Service{Name: "g.service"}
		s.set("ExecStart", located{tt.line, "g"})
		if got := s.Commands[0].Before(tt.at); got != tt.want {
			t.Errorf("%s: Before = %q, want %q", tt.line, got, tt.want)
		}
	}
}

// TestCommands: a line may have several, and a bad one in it is a fault of the line.
func TestCommands(t *testing.T) {
	for _, tt := range []struct {
		line string
		want string // the programs
	}{
		{"/a ; /b x", "/a /b"},
		{`/a \; /b`, "/a"},
		{"/a ';' x;y", "/a"},
		{"@/a b", "/a"},
		{"|/a b", "/a"},
	} {
		s := &Service{Name: "g.service"}
		s.set("ExecStart", located{tt.line, "g"})
		var programs []string
		for _, c := range s.Commands {
			programs = append(programs, c.Words()[0])
		}
		if got := strings.Join(programs, " "); got != tt.want || len(s.Faults) > 0 {
			t.Errorf("%s: %s, %v, want %s", tt.line, got, s.Faults, tt.want)
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
			root := place(t, map[string]string{"etc/g.service": "[Service]\n" + tt.unit + "\n", "etc/g.service.d/1.conf": "[Service]\n" + tt.dropIn + "\n"})
			s, err := Units{Folders: folders(root)}.Load("g")
			if err != nil || !slices.Equal(s.Reloads, tt.want) {
				t.Errorf("%q, %v, want %q", s.Reloads, err, tt.want)
			}
		})
	}
}

// expand are all words of a command as the program gets them.
func expand(s *Service, c Command, e *Environment) (args []string, err error) {
	for i := range c.Words() {
		words, err := s.ExpandWord(c, i, e)
		if err != nil {
			return nil, err
		}
		args = append(args, words...)
	}
	return args, nil
}

// TestExpand: words as the program gets them.
func TestExpand(t *testing.T) {
	e := newEnvironment()
	e.Set("HOME_DIR", "/srv/a b")
	e.Set("FLAGS", `--x  1 "y z" \q`)
	e.forget("LATER", errors.New("unknown"))
	for _, tt := range []struct {
		name, line string
		want       string // separated by |
		wantErr    string
	}{
		{"in braces, as a piece of a word", "/x --home ${HOME_DIR}/%i", "/x|--home|/srv/a b/a", ""},
		{"a word of its own is split by its quotes", "/x $FLAGS.", "/x", ""},
		{"a word of its own", "/x $FLAGS", "/x|--x|1|y z|q", ""},
		{"not set", "/x $NO ${NO} a${NO}b", "/x||ab", ""},
		{"a word that begins with a variable is not that variable", "/x $HOME_DIR/.gaia", "/x", ""},
		{"without braces inside of a word it is itself", "/x a$FLAGS", "/x|a$FLAGS", ""},
		{"doubled", "/x $$FLAGS $${FLAGS} ${$$", "/x|$FLAGS|${FLAGS}|${$$", ""},
		{"as a shell writes a default", "/x ${NO:-$$y}", "/x|${NO:-$y}", ""},
		{"the program has none", "/$FLAGS ${FLAGS}", `/$FLAGS|--x  1 "y z" \q`, ""},
		{"after a colon there are none", ":/x $FLAGS ${FLAGS} $$", "/x|$FLAGS|${FLAGS}|$$", ""},
		{"specifiers after a colon", ":/x %i %%", "/x|a|%", ""},
		{"unknown", "/x ${LATER}", "", "LATER: unknown"},
		{"unknown in a word of its own", "/x $LATER", "", "LATER: unknown"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &Service{Name: "g@a.service"}
			s.set("ExecStart", located{tt.line, "g"})
			args, err := expand(s, s.Commands[0], e)
			if got := strings.Join(args, "|"); got != tt.want || (err == nil) != (tt.wantErr == "") || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("Expand = %q, %v\n   want %q, %q", got, err, tt.want, tt.wantErr)
			}
		})
	}
}

// TestStopTimeout: the last one counts, of the unit or of systemd itself.
func TestStopTimeout(t *testing.T) {
	for _, tt := range []struct {
		name, unit, manager string
		want                time.Duration
	}{
		{"by default", "", "", 90 * time.Second},
		{"seconds", "TimeoutStopSec=10\n", "", 10 * time.Second},
		{"units", "TimeoutStopSec=1min 30s 500ms\n", "", 90*time.Second + 500*time.Millisecond},
		{"without blanks", "TimeoutStopSec=1h2m\n", "", 62 * time.Minute},
		{"days", "TimeoutStopSec=1.5d\n", "", 36 * time.Hour},
		{"zero is none", "TimeoutStopSec=0\n", "", 0},
		{"infinity", "TimeoutStopSec=infinity\n", "", 0},
		{"the last one counts", "TimeoutStopSec=10\nTimeoutSec=20\n", "", 20 * time.Second},
		{"what is no span is ignored", "TimeoutStopSec=10\nTimeoutStopSec=5 apples\nTimeoutStopSec=\nTimeoutStopSec=-3\n", "", 10 * time.Second},
		{"of systemd itself", "", "[Manager]\nDefaultTimeoutStopSec=3min\n", 3 * time.Minute},
		{"the unit's own first", "TimeoutStopSec=10\n", "[Manager]\nDefaultTimeoutStopSec=3min\n", 10 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := place(t, map[string]string{"etc/g.service": "[Service]\n" + tt.unit, "etc/systemd/system.conf.d/x.conf": tt.manager})
			s, err := Units{Folders: folders(root), Root: root}.Load("g")
			if err != nil {
				t.Fatal(err)
			}
			if got, err := s.StopTimeout(); got != tt.want || err != nil {
				t.Errorf("%v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

// FuzzLoad: whatever is in a unit file, it is read or refused.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(gaiad))
	f.Add([]byte("[Service]\nExecStart=-@/x %i \\x4 'a\nEnvironment=A=%d \\\n#\n\\"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, "g.service"), content, 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := Units{Folders: []string{dir}}.Load("g")
		if err != nil {
			return
		}
		e, err := s.Environment()
		if err != nil {
			return
		}
		for _, c := range s.Commands {
			args, err := expand(s, c, e)
			if err == nil && len(args) == 0 {
				t.Errorf("no words in %q", c.Line)
			}
		}
	})
}

// FuzzQuoteCommand: what is quoted is read back as it was.
func FuzzQuoteCommand(f *testing.F) {
	f.Add("/my bin", `a "b" 100% $HOME ${X} \n ; 'c'`)
	f.Fuzz(func(t *testing.T, program, arg string) {
		line, err := QuoteCommand("/"+program, arg)
		if err != nil || strings.ContainsAny(program+arg, "\x00") || strings.HasSuffix("/"+program, "/") {
			return
		}
		s := &Service{Name: "g.service"}
		s.set("ExecStart", located{line, "g"})
		if len(s.Faults) > 0 || len(s.Commands) != 1 {
			t.Fatalf("%s: %v, %d commands", line, s.Faults, len(s.Commands))
		}
		args, err := expand(s, s.Commands[0], newEnvironment())
		if want := []string{"/" + program, arg}; err != nil || !slices.Equal(args, want) {
			t.Errorf("%s: %q, %v, want %q", line, args, err, want)
		}
	})
}
