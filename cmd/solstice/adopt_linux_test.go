package main

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"solstice"
	"solstice/node"
	"solstice/unit"
)

// TestDistanceTo: what is behind is not near, and what is not known is neither near nor
// far.
func TestDistanceTo(t *testing.T) {
	plan := solstice.Plan{Name: "v2", Height: 1000}
	at := func(height int64) *solstice.Height { return &solstice.Height{Committed: height} }
	pace := func(height int64, block time.Duration) node.Pace {
		return node.Pace{Height: height, Time: time.Now(), Block: block, Blocks: 100}
	}
	for _, tt := range []struct {
		name   string
		height *solstice.Height
		pace   node.Pace
		want   reach
		says   string
	}{
		{"400 blocks past", at(1400), pace(1400, 6*time.Second), passed, "400 blocks ago"},
		{"400 blocks past, with no pace", at(1400), node.Pace{}, passed, "400 blocks ago"},
		{"just committed", at(1000), node.Pace{}, passed, "0 blocks ago"},
		{"due", at(999), node.Pace{}, near, "1 block ahead"},
		{"due, with a pace", at(999), pace(999, 6*time.Second), near, "in 6s"},
		{"14 minutes ahead", at(860), pace(860, 6*time.Second), near, "in 14m0s"},
		{"16 minutes ahead", at(840), pace(840, 6*time.Second), far, "in 16m0s"},
		{"99 blocks ahead at a pace that is not known", at(901), node.Pace{}, near, "99 blocks ahead"},
		{"400 blocks ahead at a pace that is not known", at(600), node.Pace{}, unclear, "400 blocks ahead, at a pace that is not known"},
		{"a height that is not known", nil, node.Pace{}, unclear, "at a distance that is not known"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if d := distanceTo(plan, tt.height, tt.pace); d.reach != tt.want || !strings.Contains(d.text, tt.says) {
				t.Errorf("%d, %q, want %d, %q", d.reach, d.text, tt.want, tt.says)
			}
		})
	}
}

// adoptee is a machine's units, below a root, and a home that they start.
type adoptee struct {
	*testHome
	root string
	path string // PATH, if it is another
}

// newAdoptee places files below a root, in which @ROOT, @HOME and @SELF stand for what they
// are here. A content that begins with -> is a symlink, and one that begins with #! can be
// executed.
func newAdoptee(t *testing.T, files map[string]string) adoptee {
	t.Helper()
	a := adoptee{testHome: newHome(t, "{}"), root: t.TempDir()}
	a.check(os.Symlink("genesis", filepath.Join(a.dir, "cosmovisor/current")))
	files["etc/systemd/system/.keep"], files["usr/lib/systemd/system/.keep"] = "", ""
	files["bin/cosmovisor"] = "#!/bin/sh\n"
	for name, content := range files {
		path, mode := filepath.Join(a.root, name), os.FileMode(0o644)
		a.check(os.MkdirAll(filepath.Dir(path), 0o755))
		content = a.fill(content)
		if target, link := strings.CutPrefix(content, "->"); link {
			a.check(os.Symlink(target, path))
			continue
		}
		if strings.HasPrefix(content, "#!") {
			mode = 0o755
		}
		a.check(os.WriteFile(path, []byte(content), mode))
	}
	return a
}

func (a adoptee) fill(text string) string {
	return strings.NewReplacer("@ROOT", a.root, "@HOME", a.dir, "@SELF", a.self()).Replace(text)
}

// self is the path of this program, as adopt writes it.
func (a adoptee) self() string {
	path, err := exec.LookPath("solstice") // which TestMain has put in front of the others
	a.check(err)
	return path
}

func (a adoptee) folders() []string {
	return []string{filepath.Join(a.root, "etc/systemd/system"), filepath.Join(a.root, "usr/lib/systemd/system")}
}

// solstice runs this program as an operator would: nothing of the home is in the
// environment.
func (a adoptee) solstice(args ...string) (out string, err error) {
	cmd := exec.Command(a.self(), args...)
	cmd.Env = []string{"PATH=" + cmp.Or(a.path, os.Getenv("PATH")), "NODED_HOME=/of/the/operator"}
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// replaceBinary puts something else in the place of the binary in use, which is one file
// for all tests.
func (a adoptee) replaceBinary(content []byte) {
	path := filepath.Join(a.dir, "cosmovisor/genesis/bin/noded")
	a.check(os.Remove(path))
	a.check(writeProgram(path, content))
}

// copySelf puts this program at a path below the root, for all users.
func (a adoptee) copySelf(name string) string {
	real, err := filepath.EvalSymlinks(a.self())
	a.check(err)
	path := filepath.Join(a.root, name)
	a.check(os.MkdirAll(filepath.Dir(path), 0o755))
	if os.Link(real, path) == nil {
		return path
	}
	content, err := os.ReadFile(real) // on another filesystem
	a.check(err)
	a.check(writeProgram(path, content))
	return path
}

func (a adoptee) adopt(flags ...string) (out string, err error) {
	return a.solstice(append([]string{"adopt", "--plan-not-near", "--units", strings.Join(a.folders(), ",")}, flags...)...)
}

const settings = "Environment=DAEMON_HOME=@HOME\nEnvironment=DAEMON_NAME=noded\n"

// foundInTheField are units as operators have them: of chains' guides, of installers, of
// roles for Ansible.
var foundInTheField = []struct {
	name  string
	files map[string]string // below etc/systemd/system, unless they begin with /
	unit  string            // empty: the only one
	words []string          // of the command that systemd starts then, variables not put in
	args  string            // of the node, as solstice sees them; empty: start
}{
	{
		name:  "as most guides have it",
		files: map[string]string{"gaiad.service": "[Unit]\nDescription=\"gaia node\"\nAfter=network-online.target\n\n[Service]\nUser=root\nExecStart=@ROOT/bin/cosmovisor run start\nRestart=always\nRestartSec=3\nLimitNOFILE=4096\nEnvironment=\"DAEMON_NAME=noded\"\nEnvironment=\"DAEMON_HOME=@HOME\"\nEnvironment=\"UNSAFE_SKIP_BACKUP=true\"\n\n[Install]\nWantedBy=multi-user.target\n"},
		words: []string{"@SELF", "run", "start"},
	},
	{
		name:  "as before Cosmovisor 1.5 without run",
		files: map[string]string{"starsd.service": "[Service]\nExecStart=@ROOT/bin/cosmovisor start\n" + settings},
		words: []string{"@SELF", "run", "start"},
	},
	{
		name:  "without run of the package's folder and named after Cosmovisor",
		files: map[string]string{"/usr/lib/systemd/system/cosmovisor.service": "[Service]\nUser =root\nExecStart=@ROOT/bin/cosmovisor start --home @HOME\n" + settings},
		words: []string{"@SELF", "run", "start", "--home", "@HOME"},
		args:  "start --home @HOME",
	},
	{
		name:  "a note behind a variable and quotes inside of a word",
		files: map[string]string{"commercionetworkd.service": "[Service]\nEnvironment=\"LD_LIBRARY_PATH=:/home/c/bin/go\" # <-- only if you built it here\n" + settings + "ExecStart=@ROOT/bin/cosmovisor start --home=\"@HOME\" \n"},
		words: []string{"@SELF", "run", "start", "--home=@HOME"},
		args:  "start --home=@HOME",
	},
	{
		name:  "settings in a file below the home",
		files: map[string]string{"und.service": "[Service]\nUser=root\nGroup=root\nWorkingDirectory=/root\nEnvironmentFile=@HOME/cosmovisor/UND_ENV\nExecStart=@ROOT/bin/cosmovisor run start\n", "/env/UND_ENV": "DAEMON_NAME=noded\nDAEMON_HOME='@HOME'\n# nothing else\n"},
		words: []string{"@SELF", "run", "start"},
	},
	{
		name:  "variables in single quotes",
		files: map[string]string{"junod.service": "[Service]\nExecStart=@ROOT/bin/cosmovisor run start --x-crisis-skip-assert-invariants\nEnvironment='DAEMON_NAME=noded'\nEnvironment='DAEMON_HOME=@HOME'\n"},
		words: []string{"@SELF", "run", "start", "--x-crisis-skip-assert-invariants"},
		args:  "start --x-crisis-skip-assert-invariants",
	},
	{
		name:  "a long command over several lines as a role for Ansible writes it",
		files: map[string]string{"osmosisd.service": "[Service]\n" + settings + "ExecStart=@ROOT/bin/cosmovisor run start \\\n    --home @HOME \\\n    # the port\n    --rpc.laddr tcp://127.0.0.1:1 \\\n    --log_format=json\n"},
		words: []string{"@SELF", "run", "start", "--home", "@HOME", "--rpc.laddr", "tcp://127.0.0.1:1", "--log_format=json"},
		args:  "start --home @HOME --rpc.laddr tcp://127.0.0.1:1 --log_format=json",
	},
	{
		name: "an instance of a template that is only enabled",
		files: map[string]string{
			"node@.service": "[Service]\nEnvironmentFile=@ROOT/nodes/%i.env\nExecStart=@ROOT/bin/cosmovisor run start --moniker %i\n", "/nodes/hub.env": "DAEMON_NAME=noded\nDAEMON_HOME=@HOME\n",
			"multi-user.target.wants/node@hub.service": "->@ROOT/etc/systemd/system/node@.service",
		},
		words: []string{"@SELF", "run", "start", "--moniker", "hub"},
		args:  "start --moniker hub",
	},
	{
		name:  "settings for all of a group by a name that ends with a dash",
		files: map[string]string{"cosmos-gaiad.service": "[Service]\nExecStart=@ROOT/bin/cosmovisor run start\n", "cosmos-.service.d/settings.conf": "[Service]\n" + settings},
		words: []string{"@SELF", "run", "start"},
	},
	{
		name: "a command that systemctl edit has replaced",
		files: map[string]string{
			"/usr/lib/systemd/system/gaiad.service": "[Service]\nExecStart=@ROOT/bin/cosmovisor run start\n" + settings,
			"gaiad.service.d/override.conf":         "[Service]\nExecStart=\nExecStart=@ROOT/bin/cosmovisor run start --pruning nothing\nLimitNOFILE=65535\n",
		},
		words: []string{"@SELF", "run", "start", "--pruning", "nothing"},
		args:  "start --pruning nothing",
	},
	{
		name:  "through bash which does nothing else",
		files: map[string]string{"gaiad.service": "[Service]\n" + settings + "ExecStart=/bin/bash -c \"exec @ROOT/bin/cosmovisor run start --moniker a\"\n"},
		words: []string{"/bin/bash", "-c", "exec @SELF run start --moniker a"},
		args:  "start --moniker a",
	},
	{
		name:  "through bash which sets the settings and without run",
		files: map[string]string{"gaiad.service": "[Service]\nExecStart=/bin/bash -c 'DAEMON_NAME=noded DAEMON_HOME=@HOME @ROOT/bin/cosmovisor start'\n"},
		words: []string{"/bin/bash", "-c", "DAEMON_NAME=noded DAEMON_HOME=@HOME @SELF run start"},
	},
	{
		name:  "through env which finds it in the unit's PATH",
		files: map[string]string{"gaiad.service": "[Service]\nEnvironment=PATH=@ROOT/bin:/bin NODE=@HOME\nExecStart=/usr/bin/env -u DAEMON_ALLOW_DOWNLOAD_BINARIES DAEMON_NAME=noded DAEMON_HOME=${NODE} cosmovisor run start --home ${NODE}\n"},
		words: []string{"/usr/bin/env", "-u", "DAEMON_ALLOW_DOWNLOAD_BINARIES", "DAEMON_NAME=noded", "DAEMON_HOME=${NODE}", "@SELF", "run", "start", "--home", "${NODE}"},
		args:  "start --home @HOME",
	},
	{
		name:  "with another priority",
		files: map[string]string{"gaiad.service": "[Service]\n" + settings + "ExecStart=-/usr/bin/nice -n -5 /usr/bin/ionice -c 2 @ROOT/bin/cosmovisor run start\n"},
		words: []string{"/usr/bin/nice", "-n", "-5", "/usr/bin/ionice", "-c", "2", "@SELF", "run", "start"},
	},
	{
		name:  "arguments in a file of /etc/default",
		files: map[string]string{"gaiad.service": "[Service]\nEnvironmentFile=-@ROOT/default/%N\nExecStart=@ROOT/bin/cosmovisor $COSMOVISOR_ARGS\n", "/default/gaiad": "DAEMON_NAME=noded\nDAEMON_HOME=@HOME\nCOSMOVISOR_ARGS=\"run start --moniker 'a b'\"\n"},
		words: []string{"@SELF", "$COSMOVISOR_ARGS"},
		args:  "start --moniker a b",
	},
	{
		name:  "under a name of its own",
		files: map[string]string{"gaiad.service": "[Service]\n" + settings + "ExecStart=@ROOT/bin/gaia-supervisor run start\n", "/bin/gaia-supervisor": "->cosmovisor"},
		words: []string{"@SELF", "run", "start"},
	},
	{
		name:  "kept elsewhere and linked by systemctl link",
		files: map[string]string{"/home/gaia/gaiad.service": "[Service]\n" + settings + "ExecStart=@ROOT/bin/cosmovisor run start\n", "gaiad.service": "->@ROOT/home/gaia/gaiad.service"},
		words: []string{"@SELF", "run", "start"},
	},
	{
		name:  "with a configuration file beside the working directory",
		files: map[string]string{"gaiad.service": "[Service]\nWorkingDirectory=@ROOT/conf\nExecStart=@ROOT/bin/cosmovisor --cosmovisor-config config.toml run start\n", "/conf/config.toml": "daemon_name = \"noded\"\ndaemon_home = \"@HOME\"\n"},
		words: []string{"@SELF", "--cosmovisor-config", "config.toml", "run", "start"},
	},
	{
		name:  "by an alias",
		files: map[string]string{"gaiad.service": "[Service]\n" + settings + "ExecStart=@ROOT/bin/cosmovisor run start\n", "validator.service": "->gaiad.service", "validator.service.d/1.conf": "[Service]\nEnvironment=DAEMON_SHUTDOWN_GRACE=45s\n"},
		unit:  "validator",
		words: []string{"@SELF", "run", "start"},
	},
}

// TestAdoptInTheField: each of them is understood, and with the drop-in systemd starts
// solstice with the same arguments.
func TestAdoptInTheField(t *testing.T) {
	t.Parallel()
	for _, tt := range foundInTheField {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			files := map[string]string{}
			for name, content := range tt.files {
				if !strings.HasPrefix(name, "/") {
					name = "/etc/systemd/system/" + name
				}
				files[name[1:]] = content
			}
			a := newAdoptee(t, files)
			if content, err := os.ReadFile(filepath.Join(a.root, "env/UND_ENV")); err == nil {
				a.check(os.WriteFile(filepath.Join(a.dir, "cosmovisor/UND_ENV"), content, 0o644))
			}
			var flags []string
			if tt.unit != "" {
				flags = []string{"--unit", tt.unit}
			}
			out, err := a.adopt(flags...)
			if err != nil {
				t.Fatalf("adopt: %v\n%s", err, out)
			}
			dropIn := regexp.MustCompile(`(?m)^Written: (\S+/([^/]+)\.d/solstice\.conf)$`).FindStringSubmatch(out)
			if dropIn == nil || !strings.Contains(out, a.dir) {
				t.Fatal(out)
			}
			service, err := unit.Units{Folders: a.folders()}.Load(dropIn[2])
			if err != nil || len(service.Commands) != 1 || len(service.Faults) > 0 {
				t.Fatal(err, service)
			}
			want := strings.Split(a.fill(strings.Join(tt.words, "\n")), "\n")
			got := strings.ReplaceAll(strings.Join(service.Commands[0].Words(), "\n"), "%i", "hub")
			if got != strings.Join(want, "\n") {
				t.Errorf("command %q, want %q", got, want)
			}
			if words := asSystemdStarts(t, a.folders(), service.Name); words != "" {
				for _, word := range want {
					if !strings.Contains(words, strings.ReplaceAll(word, "$", `\$`)) {
						t.Errorf("systemd starts %s, want %q in it", words, word)
					}
				}
			}
			if got, want := nodeArguments(t, service), a.fill(cmp.Or(tt.args, "start")); got != want {
				t.Errorf("arguments of the node %q, want %q", got, want)
			}
		})
	}
}

// nodeArguments are the words after run, variables put in.
func nodeArguments(t *testing.T, s *unit.Service) string {
	t.Helper()
	env, err := s.Environment()
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for i := range s.Commands[0].Words() {
		more, err := s.ExpandWord(s.Commands[0], i, env)
		if err != nil {
			t.Fatal(err)
		}
		words = append(words, more...)
	}
	if words[1] == "-c" {
		words = strings.Fields(words[2])
	}
	at := slices.Index(words, "run")
	if at < 0 || at == len(words)-1 {
		t.Fatalf("no run in %q", words)
	}
	return strings.Join(words[at+1:], " ")
}

// asSystemdStarts is the command line that systemd reads, or empty where there is no
// systemd-analyze.
func asSystemdStarts(t *testing.T, folders []string, name string) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		return ""
	}
	cmd := exec.Command(path, "--man=no", "verify", name)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+strings.Join(folders, ":"), "SYSTEMD_LOG_LEVEL=debug")
	out, _ := cmd.CombinedOutput()
	_, text, _ := strings.Cut(string(out), "-> Unit "+name+":")
	found := regexp.MustCompile(`ExecStart:\n\s*Command Line: (.*)`).FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("systemd starts nothing:\n%s", out)
	}
	return found[1]
}
