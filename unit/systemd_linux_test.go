package unit

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// analyze runs systemd-analyze, which needs no running systemd.
func analyze(t *testing.T, env []string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("needs systemd-analyze: apt-get install -y --no-install-recommends systemd")
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = t.TempDir() // verify looks for units beside its arguments, too
	cmd.Env = append(os.Environ(), env...)
	out, _ := cmd.CombinedOutput() // its code says nothing of a unit that is only unusual
	return string(out)
}

// dumped is what systemd has read of a unit: it prints it when its log is on debug.
type dumped struct {
	fragment string
	dropIns  []string
	env      map[string]string
	fields   map[string][]string
}

func dump(t *testing.T, folders []string, name string) (d dumped, output string) {
	t.Helper()
	output = analyze(t, []string{"SYSTEMD_UNIT_PATH=" + strings.Join(folders, ":"), "SYSTEMD_LOG_LEVEL=debug"}, "--man=no", "verify", name)
	_, text, found := strings.Cut(output, "-> Unit "+name+":\n")
	if !found {
		return d, output
	}
	text, _, _ = strings.Cut(text, "-> Unit ")
	d.env, d.fields = map[string]string{}, map[string][]string{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "Fragment Path":
			d.fragment = value
		case "DropIn Path":
			d.dropIns = append(d.dropIns, value)
		case "Environment":
			name, value, _ := strings.Cut(value, "=")
			d.env[name] = value
		default:
			d.fields[key] = append(d.fields[key], value)
		}
	}
	return d, output
}

// shellWords takes a command line apart that systemd has quoted for a shell.
func shellWords(line string) (words []string) {
	var out strings.Builder
	open, in := false, false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '"':
			open, in = !open, true
		case c == '\\' && open:
			i++
			if value, ok := map[byte]string{'t': "\t", 'n': "\n"}[line[i]]; ok {
				out.WriteString(value)
			} else {
				out.WriteByte(line[i])
			}
		case c == ' ' && !open:
			words, in = append(words, out.String()), false
			out.Reset()
		default:
			in = true
			out.WriteByte(c)
		}
	}
	if in {
		words = append(words, out.String())
	}
	return words
}

// TestAsSystemdReads: for each layout systemd itself reads the same files, in the same
// order, to the same command and variables.
func TestAsSystemdReads(t *testing.T) {
	for _, tt := range layouts {
		t.Run(tt.name, func(t *testing.T) {
			root := place(t, tt.files)
			d, output := dump(t, folders(root), tt.unit+".service")
			if tt.wantErr != "" {
				if len(d.fields["Command Line"]) > 0 {
					t.Errorf("systemd reads it, and we want %q:\n%s", tt.wantErr, output)
				}
				return
			}
			if d.fragment == "" {
				t.Fatalf("systemd reads no unit:\n%s", output)
			}
			s, err := Units{Folders: folders(root)}.Load(tt.unit)
			if err != nil {
				t.Fatal(err)
			}
			if s.Path != d.fragment {
				t.Errorf("unit %s, and for systemd %s", s.Path, d.fragment)
			}
			var real []string // systemd names folders of drop-ins without symlinks
			for _, path := range s.DropIns {
				dir, err := filepath.EvalSymlinks(filepath.Dir(path))
				if err != nil {
					t.Fatal(err)
				}
				real = append(real, filepath.Join(dir, filepath.Base(path)))
			}
			if !slices.Equal(real, d.dropIns) {
				t.Errorf("drop-ins %q, and for systemd %q", real, d.dropIns)
			}
			if want := d.fields["Command Line"]; len(want) != 1 || commandOf(t, s) != strings.Join(shellWords(want[0]), "|") {
				t.Errorf("command %q, and for systemd %q", commandOf(t, s), want)
			}
			var env []string
			for name, value := range d.env {
				env = append(env, name+"="+value)
			}
			slices.Sort(env)
			if got := assigned(t, s); got != strings.Join(env, "|") {
				t.Errorf("environment %q, and for systemd %q", got, env)
			}
			if user := strings.Join(d.fields["User"], ""); s.User != user {
				t.Errorf("user %q, and for systemd %q", s.User, user)
			}
		})
	}
}

// TestSpecifiersAsSystemd: what can be told without a running systemd is what systemd puts
// in, and nothing is taken as it stands.
func TestSpecifiersAsSystemd(t *testing.T) {
	text := "[Service]\nExecStart=/x\n"
	for c := byte('0'); c <= 'z'; c++ {
		if isLetterOrDigit(c) {
			text += "Environment=S_" + string(c) + "=<%" + string(c) + ">\n"
		}
	}
	root := place(t, map[string]string{"etc/pre-gaiad@hub-1.service": text})
	s, err := Units{Folders: folders(root)}.Load("pre-gaiad@hub-1")
	if err != nil {
		t.Fatal(err)
	}
	d, output := dump(t, folders(root), "pre-gaiad@hub-1.service")
	if d.fragment == "" {
		t.Fatal(output)
	}
	told := 0
	for _, a := range s.assigned {
		value, known := d.env[a.name]
		switch {
		case a.err != nil:
			t.Logf("%s is unknown here; systemd: %q", a.name, value)
		case !known, value != a.value:
			t.Errorf("%s is %q, and for systemd %q", a.name, a.value, value)
		default:
			told++
		}
	}
	if told < 30 {
		t.Errorf("only %d specifiers can be told", told)
	}
}

// TestSearchPath: our folders are systemd's, in its order. Which of /lib and /usr/lib is
// first depends on the distribution; mostly they are one.
func TestSearchPath(t *testing.T) {
	found := strings.Fields(analyze(t, nil, "unit-paths"))
	fold := func(paths []string) (folded []string) {
		for _, path := range paths {
			if path = strings.TrimPrefix(path, "/usr"); !slices.Contains(folded, path) || !strings.HasPrefix(path, "/lib/") {
				folded = append(folded, path)
			}
		}
		return folded
	}
	if got, want := fold(SearchPath), fold(found); !slices.Equal(got, want) {
		t.Errorf("folders %q\n  systemd %q", got, want)
	}
}

// environmentFiles are files of variables, and what systemd takes from them.
var environmentFiles = []struct {
	name, content string
	want          map[string]string
	elsewhere     bool // systemd's generator treats it in another way than its EnvironmentFile=
}{
	{name: "plain", content: "A=1\nB=2\n", want: map[string]string{"A": "1", "B": "2"}},
	{name: "comments and empty lines", content: "# c\n; c\n\n  # c\nA=1\n", want: map[string]string{"A": "1"}},
	{name: "a hash inside of a value", content: "A=1 # no comment\n", want: map[string]string{"A": "1 # no comment"}},
	{name: "quoted", content: "A=\"b c\"\nB='d e'\nC=f'g'\n", want: map[string]string{"A": "b c", "B": "d e", "C": "f'g'"}},
	{name: "pieces", content: "A=\"b\" 'c' d 'e'\n", want: map[string]string{"A": "bcd 'e'"}},
	{name: "blanks around", content: "  A =  b c  \nB=d\t\n", want: map[string]string{"A": "b c", "B": "d"}},
	{name: "a backslash before the end", content: "A=b\\\nc\nB=d \\\n  e\n", want: map[string]string{"A": "bc", "B": "d   e"}},
	{name: "escapes", content: "A=b\\nc\nB=\"d\\ne\\\"f\\\\g\"\nC='h\\i'\n", want: map[string]string{"A": "bnc", "B": `d\ne"f\g`, "C": `h\i`}},
	{name: "over lines", content: "A=\"b\nc\"\nB='d\ne'\n", want: map[string]string{"A": "b\nc", "B": "d\ne"}},
	{name: "the last one counts", content: "A=1\nA=2\n", want: map[string]string{"A": "2"}},
	{name: "no variable", content: "export A=1\nB\n1C=2\nD=3\n", want: map[string]string{"D": "3"}},
	{name: "without an end of line", content: "A=b ", want: map[string]string{"A": "b"}},
	{name: "an open quote", content: "A=\"b\nC=d", want: map[string]string{"A": "b\nC=d"}},
	{name: "lines of Windows", content: "A=1\r\nB=2\r\n", want: map[string]string{"A": "1", "B": "2"}},
	{name: "percent and dollar signs are themselves", content: "A=%h $B ${C}\n", want: map[string]string{"A": "%h $B ${C}"}, elsewhere: true},
	{name: "empty", content: "A=\nB=\"\"\n", want: map[string]string{"A": "", "B": ""}, elsewhere: true},
}

// TestEnvironmentFile: a file of variables as systemd reads it, for which its own
// generator, with the same parser, is asked.
func TestEnvironmentFile(t *testing.T) {
	for _, tt := range environmentFiles {
		t.Run(tt.name, func(t *testing.T) {
			pairs, err := parseEnvironmentFile(tt.content)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, p := range pairs {
				if isName(p.name) {
					got[p.name] = p.value
				}
			}
			if !maps.Equal(got, tt.want) {
				t.Errorf("%q\nwant %q", got, tt.want)
			}
			const generator = "/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator"
			if _, err := os.Stat(generator); err != nil || tt.elsewhere {
				t.Skip("systemd is not asked: ", err)
			}
			root := place(t, map[string]string{"environment.d/x.conf": tt.content})
			cmd := exec.Command(generator)
			cmd.Env = []string{"XDG_CONFIG_HOME=" + root, "HOME=" + root}
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range tt.want {
				if !strings.Contains("\n"+string(out), "\n"+name+"=") {
					t.Errorf("systemd does not set %s:\n%s", name, out)
				}
				plain := strings.ContainsAny(value, " \t\n\"'\\#;`$&|<>()*?[]!~") // else it is quoted there
				if !plain && !strings.Contains("\n"+string(out), "\n"+name+"="+value+"\n") {
					t.Errorf("systemd sets %s to another value than %q:\n%s", name, value, out)
				}
				if plain && !strings.Contains(value, "\n") && !slices.Contains(shellWords(strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", " ")), name+"="+value) {
					t.Errorf("systemd sets %s to another value than %q:\n%s", name, value, out)
				}
			}
		})
	}
}
