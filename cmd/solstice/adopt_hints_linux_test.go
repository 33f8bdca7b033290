package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"solstice/unit"
)

// TestAdoptHints: each refusal has hints, and whoever follows them gets the service
// adopted. What needs a running systemd is looked at.
func TestAdoptHints(t *testing.T) {
	t.Parallel()
	const plain = "[Service]\n" + settings + "ExecStart=@ROOT/bin/cosmovisor run start\n"
	for _, tt := range []struct {
		name     string
		files    map[string]string
		flags    []string
		before   func(a adoptee)
		want     string          // of the refusal
		replace  string          // NAME or INSTANCE in a hint
		path     string          // PATH, if it is another
		repair   func(a adoptee) // what an operator does who is told
		retry    []string        // the flags then, if they are others
		byHand   bool            // the hint is about an editor: there is nothing to run
		elseRuns string          // what the script runs then
	}{
		{
			name:  "a shell that reads a profile",
			files: map[string]string{"gaiad.service": "[Service]\n" + settings + "ExecStart=/bin/bash -c 'source ~/.profile && exec @ROOT/bin/cosmovisor run start --home @HOME'\n"},
			want:  "gaiad.service cannot be adopted: it starts cosmovisor through something else: /bin/bash -c",
		},
		{
			name:  "a login shell",
			files: map[string]string{"gaiad.service": "[Service]\n" + settings + "ExecStart=/bin/bash -lc '@ROOT/bin/cosmovisor run start'\n"},
			want:  "it starts cosmovisor through something else",
		},
		{
			name:  "another user",
			files: map[string]string{"gaiad.service": "[Service]\n" + settings + "ExecStart=/usr/bin/sudo -u root @ROOT/bin/cosmovisor run start\n"},
			want:  "it starts cosmovisor through something else",
		},
		{
			name:  "env in another folder",
			files: map[string]string{"gaiad.service": "[Service]\n" + settings + "ExecStart=/usr/bin/env --chdir=/srv @ROOT/bin/cosmovisor run start\n"},
			want:  "it starts cosmovisor through something else",
		},
		{
			name:  "another name",
			files: map[string]string{"gaiad.service": "[Service]\n" + settings + "ExecStart=@@ROOT/bin/cosmovisor gaia run start\n"},
			want:  "the @ before cosmovisor has the program started by another name",
		},
		{
			name:  "two commands",
			files: map[string]string{"gaiad.service": "[Service]\nType=oneshot\n" + settings + "ExecStart=/bin/true\nExecStart=@ROOT/bin/cosmovisor run start\n"},
			want:  "it has 2 commands",
		},
		{
			name:     "a script",
			files:    map[string]string{"gaiad.service": "[Service]\nExecStart=@ROOT/bin/start.sh\n", "/bin/start.sh": "#!/bin/sh\nexec cosmovisor version\n"},
			want:     "it starts cosmovisor through the script @ROOT/bin/start.sh",
			elseRuns: "/bin/start.sh",
		},
		{
			name:  "masked",
			files: map[string]string{"gaiad.service": "->/dev/null", "/usr/lib/systemd/system/gaiad.service": plain},
			flags: []string{"--unit", "gaiad"},
			want:  "the unit is masked",
		},
		{
			name:  "no such unit",
			files: map[string]string{"gaiad.service": plain},
			flags: []string{"--unit", "gaia"},
			want:  "no unit gaia.service in",
			retry: []string{"--unit", "gaiad"},
		},
		{
			name:    "a template",
			files:   map[string]string{"node@.service": plain},
			flags:   []string{"--unit", "node@"},
			want:    `"node@.service" is not the name of a service`,
			replace: "hub",
		},
		{
			name:    "no service",
			files:   map[string]string{"/elsewhere/gaiad.service": plain},
			want:    "no service starts cosmovisor, in ",
			replace: "@ROOT/elsewhere/gaiad.service",
		},
		{
			name:    "another service",
			files:   map[string]string{"sshd.service": "[Service]\nExecStart=/usr/sbin/sshd -D\n", "gaiad.service": plain},
			flags:   []string{"--unit", "sshd"},
			want:    "sshd.service cannot be adopted: it does not start cosmovisor",
			replace: "gaiad",
		},
		{
			name:  "several services",
			files: map[string]string{"gaiad.service": plain, "osmosisd.service": plain},
			want:  "several services start cosmovisor: gaiad.service, osmosisd.service",
		},
		{
			name:  "a later drop-in has the command",
			files: map[string]string{"gaiad.service": plain, "gaiad.service.d/zz.conf": "[Service]\nExecStart=\nExecStart=@ROOT/bin/cosmovisor run start\n"},
			want:  "zz.conf sets ExecStart too, and is read after solstice.conf",
		},
		{
			name:  "a later drop-in of all services has the command",
			files: map[string]string{"gaiad.service": plain, "service.d/zz.conf": "[Service]\nExecStart=\nExecStart=@ROOT/bin/cosmovisor run start\n"},
			want:  "service.d/zz.conf sets ExecStart too",
		},
		{
			name:   "a batch list that is broken",
			files:  map[string]string{"gaiad.service": plain},
			before: func(a adoptee) { a.write("data/upgrade-info.json.batch", "[{") },
			want:   "Cosmovisor's batch list cannot be read",
		},
		{
			name:  "no link",
			files: map[string]string{"gaiad.service": plain},
			before: func(a adoptee) {
				a.check(os.Remove(filepath.Join(a.dir, "cosmovisor/current")))
				a.write("cosmovisor/upgrades/v2/bin/noded", "x")
			},
			want: "the current link cannot be used: ",

			replace: "genesis",
		},
		{
			name:   "data of another user",
			files:  map[string]string{"gaiad.service": plain},
			before: func(a adoptee) { a.check(os.Chown(filepath.Join(a.dir, "data"), nobody, nobody)) },
			want:   "belongs to user 65534: solstice would refuse to start there",
		},
		{
			name:   "a file of settings that is missing",
			files:  map[string]string{"gaiad.service": plain + "EnvironmentFile=@ROOT/none\n"},
			want:   "systemd would not start the service",
			repair: func(a adoptee) { a.check(os.WriteFile(filepath.Join(a.root, "none"), nil, 0o644)) },
		},
		{
			name:   "a file of settings that cannot be read",
			files:  map[string]string{"gaiad.service": plain + "EnvironmentFile=@ROOT/none\n", "/none": "# note \\\nDAEMON_POLL_INTERVAL=1s\n"},
			want:   "the settings of gaiad.service are not known",
			repair: func(a adoptee) { a.check(os.WriteFile(filepath.Join(a.root, "none"), nil, 0o644)) },
		},
		{
			name:   "a setting that only systemd knows",
			files:  map[string]string{"gaiad.service": "[Service]\nPassEnvironment=DAEMON_HOME\nEnvironment=DAEMON_NAME=noded\nExecStart=@ROOT/bin/cosmovisor run start\n"},
			want:   "DAEMON_HOME: @ROOT/etc/systemd/system/gaiad.service: PassEnvironment=: systemd sets it",
			byHand: true,
		},
		{
			name:   "a specifier that only systemd knows",
			files:  map[string]string{"gaiad.service": "[Service]\nEnvironment=DAEMON_HOME=/srv/%c DAEMON_NAME=noded\nExecStart=@ROOT/bin/cosmovisor run start\n"},
			want:   "gaiad.service: Environment=: %c in",
			byHand: true,
		},
		{
			name:   "another root",
			files:  map[string]string{"gaiad.service": plain + "RootDirectory=/srv/root\n"},
			want:   "its paths begin in another root, /srv/root",
			byHand: true,
		},
		{
			name:   "a user's own systemd",
			files:  map[string]string{"/home/gaia/.config/systemd/user/gaiad.service": plain},
			flags:  []string{"--unit", "@ROOT/home/gaia/.config/systemd/user/gaiad.service"},
			want:   "it belongs to a user's own systemd",
			byHand: true,
		},
		{
			name:   "a user that is made at each start",
			files:  map[string]string{"gaiad.service": plain + "DynamicUser=yes\n"},
			want:   "its user is made anew at each start",
			byHand: true,
		},
		{
			name:   "a binary that cannot run",
			files:  map[string]string{"gaiad.service": plain},
			before: func(a adoptee) { a.replaceBinary([]byte("no program")) },
			want:   "the binary in use cannot run: ",
			repair: func(a adoptee) {
				content, err := os.ReadFile(nodeBinary)
				a.check(err)
				a.replaceBinary(content)
			},
		},
		{
			name:   "a path of solstice that systemd refuses",
			files:  map[string]string{"gaiad.service": plain, "usr/local/bin/.keep": ""},
			before: func(a adoptee) { a.copySelf("it's/solstice") },
			path:   "@ROOT/it's:" + os.Getenv("PATH"),
			want:   "systemd refuses the program",
		},
		{
			name:  "no systemctl",
			files: map[string]string{"gaiad.service": plain},
			flags: []string{"--restart"},
			path:  "@ROOT/bin",
			want:  "there is no systemctl here to restart the service with",
		},
		{
			name:   "no command of the node",
			files:  map[string]string{"gaiad.service": "[Service]\n" + settings + "ExecStart=@ROOT/bin/cosmovisor version\n"},
			want:   "which is not a command of the node that solstice supervises",
			byHand: true,
		},
		{
			name:   "a user that is not there",
			files:  map[string]string{"gaiad.service": plain + "User=no-such-user\n"},
			want:   `there is no user "no-such-user" on this machine`,
			byHand: true,
		},
		{
			name:   "a unit that systemd refuses",
			files:  map[string]string{"gaiad.service": plain + "ExecReload=/x\nUser=%c\n"},
			want:   "User=: %c in",
			byHand: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.name == "data of another user" && os.Geteuid() != 0 {
				t.Skip("needs root, to give the data away")
			}
			files := map[string]string{}
			for name, content := range tt.files {
				if !strings.HasPrefix(name, "/") {
					name = "/etc/systemd/system/" + name
				}
				files[name[1:]] = content
			}
			a := newAdoptee(t, files)
			if tt.before != nil {
				tt.before(a)
			}
			var flags []string
			for _, flag := range tt.flags {
				flags = append(flags, a.fill(flag))
			}
			a.path = a.fill(tt.path)
			out, err := a.adopt(flags...)
			a.path = ""
			exit, _ := err.(*exec.ExitError)
			if exit == nil || exit.ExitCode() != 3 || !strings.Contains(out, a.fill(tt.want)) {
				t.Fatalf("adopt: %v, want code 3 and %q\n%s", err, a.fill(tt.want), out)
			}
			if tt.repair != nil {
				tt.repair(a)
			}
			f := follower{adoptee: a, replace: a.fill(tt.replace)}
			f.follow(out)
			switch {
			case f.hints == 0:
				t.Fatalf("no hint:\n%s", out)
			case tt.byHand:
				if f.adopted != "" {
					t.Errorf("it is adopted all the same:\n%s", f.adopted)
				}
			case tt.elseRuns != "":
				got, err := exec.Command(filepath.Join(a.root, tt.elseRuns)).CombinedOutput()
				if !strings.Contains(string(got), "DAEMON_HOME is not set") && !strings.Contains(string(got), "solstice version") {
					t.Errorf("the script does not start solstice: %v\n%s", err, got)
				}
			case f.adopted == "":
				// The hint put something right; the command that was typed first is typed
				// again.
				if tt.retry != nil {
					flags = tt.retry
				}
				if out, err := a.adopt(flags...); err != nil {
					t.Errorf("adopt, after the hints: %v\n%s", err, out)
				}
			}
		})
	}
}

// follower does what hints say.
type follower struct {
	adoptee
	replace string // what a word such as NAME stands for
	hints   int
	adopted string // what adopt said in the end
}

// follow does what the hints of a refusal say, one after another.
func (f *follower) follow(out string) {
	f.Helper()
	file := ""
	for line := range strings.Lines(out) {
		hint, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), "solstice: hint: ")
		if !ok {
			continue
		}
		f.hints++
		if text, inFile := strings.CutPrefix(hint, "  "); inFile && file != "" {
			f.append(file, text)
			continue
		}
		if found := regexp.MustCompile(`by a file (\S+) with these lines:$`).FindStringSubmatch(hint); found != nil {
			file = found[1]
			continue
		}
		if found := regexp.MustCompile(`^in that script write (\S+) in the place of cosmovisor, then: (.*)$`).FindStringSubmatch(hint); found != nil {
			path := filepath.Join(f.root, "bin/start.sh")
			content, err := os.ReadFile(path)
			f.check(err)
			f.check(os.WriteFile(path, []byte(strings.ReplaceAll(string(content), "cosmovisor", found[1])), 0o755))
			f.run(found[2])
			continue
		}
		if _, command, ok := strings.Cut(hint, ": "); ok {
			for _, inner := range []string{"write ", "with "} { // by hand: ...: systemctl edit
				if strings.HasPrefix(command, "in its ExecStart "+inner) {
					_, command, _ = strings.Cut(command, ": ")
				}
			}
			f.run(command)
		}
	}
}

func (f *follower) append(path, line string) {
	f.check(os.MkdirAll(filepath.Dir(path), 0o755))
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	f.check(err)
	fmt.Fprintln(file, line)
	f.check(file.Close())
}

// run runs a command of a hint.
func (f *follower) run(line string) {
	f.Helper()
	for _, word := range []string{"INSTANCE", "NAME"} {
		line = strings.ReplaceAll(line, word, f.replace)
	}
	if strings.Contains(line, "/usr/local/bin/") { // not that of this machine
		line = strings.ReplaceAll(line, "/usr/local/bin/", f.root+"/usr/local/bin/")
		f.check(os.MkdirAll(filepath.Join(f.root, "usr/local/bin"), 0o755))
	}
	line = strings.NewReplacer(":PATH:HEIGHT", "v9:"+nodeBinary+":100", "sudo -E ", "", "sudo ", "").Replace(line)
	program, rest, _ := strings.Cut(line, " ")
	switch filepath.Base(program) {
	case "env":
	case "solstice":
		if strings.HasPrefix(rest, "adopt ") {
			line += " --plan-not-near"
		}
	case "systemctl":
		// Without a running systemd these work on the files below a root, and the others
		// are known to exist.
		verb, _, _ := strings.Cut(rest, " ")
		switch verb {
		case "unmask", "list-unit-files":
			line = "systemctl --root=" + f.root + " " + rest
			if _, err := exec.LookPath("systemctl"); err != nil {
				f.Skip("needs systemctl: ", err)
			}
		case "start", "restart", "edit", "cat", "daemon-reload", "--user":
			return
		default:
			f.Fatalf("a hint that nobody has run: %s", line)
		}
	case "mv", "rm", "chown", "install", "sed", "mkdir":
	case "useradd":
		return // it would make a user on this machine
	case "put", "that":
		return // a sentence
	case "--units":
		return // a flag
	default:
		f.Fatalf("a hint that nobody has run: %s", line)
	}
	cmd := exec.Command("sh", "-c", line)
	cmd.Env = []string{"PATH=" + filepath.Dir(f.self()) + ":" + os.Getenv("PATH"), "DAEMON_HOME=" + f.dir, "DAEMON_NAME=noded"}
	out, err := cmd.CombinedOutput()
	switch {
	case strings.HasPrefix(rest, "adopt "):
		if f.adopted = string(out); err != nil {
			f.Errorf("hint %s:\n%s", line, out)
		}
	case err != nil:
		f.Errorf("hint %s: %v\n%s", line, err, out)
	}
}

// TestAdoptAsAnotherUser: what this user may not read is unknown, and is read by root.
func TestAdoptAsAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	const plain = "[Service]\n" + settings + "ExecStart=@ROOT/bin/cosmovisor run start\n"
	for _, tt := range []struct {
		name   string
		files  map[string]string
		closed string // the file that only root may read
		want   string
	}{
		{
			name:   "a file of settings",
			files:  map[string]string{"etc/systemd/system/gaiad.service": plain + "EnvironmentFile=-@ROOT/secret.env\n", "secret.env": "DAEMON_POLL_INTERVAL=1s\n"},
			closed: "secret.env",
			want:   "the settings of gaiad.service are not known: ",
		},
		{
			name:   "the unit",
			files:  map[string]string{"etc/systemd/system/gaiad.service": plain},
			closed: "etc/systemd/system/gaiad.service",
			want:   "not every unit can be read, and one that cannot may start cosmovisor: ",
		},
		{
			name:   "another unit",
			files:  map[string]string{"etc/systemd/system/gaiad.service": plain, "etc/systemd/system/other.service": "[Service]\nExecStart=/bin/true\n"},
			closed: "etc/systemd/system/other.service",
			want:   "not every unit can be read, and one that cannot may start cosmovisor: ",
		},
		{
			name:   "a folder of drop-ins",
			files:  map[string]string{"etc/systemd/system/gaiad.service": plain, "etc/systemd/system/gaiad.service.d/1.conf": "[Service]\n"},
			closed: "etc/systemd/system/gaiad.service.d",
			want:   "not every unit can be read",
		},
		{
			name:   "nothing: the drop-in cannot be written",
			files:  map[string]string{"etc/systemd/system/gaiad.service": plain},
			closed: "home",
			want:   "permission denied",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.files["home/x"] = ""
			a := newAdoptee(t, tt.files)
			for _, dir := range []string{a.dir, a.root} {
				a.check(os.Chmod(filepath.Dir(dir), 0o755))
			}
			closed := filepath.Join(a.root, tt.closed)
			info, err := os.Stat(closed)
			a.check(err)
			a.check(os.Chmod(closed, info.Mode().Perm()&0o700))
			cmd := exec.Command(a.copySelf("bin/solstice"), "adopt", "--plan-not-near", "--units", strings.Join(a.folders(), ","))
			cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			out, err := cmd.CombinedOutput()
			exit, _ := err.(*exec.ExitError)
			if exit == nil || exit.ExitCode() != 3 || !strings.Contains(string(out), tt.want) || !strings.Contains(string(out), "hint: run it as root: sudo solstice adopt") {
				t.Fatalf("adopt: %v, want code 3 and %q\n%s", err, tt.want, out)
			}
			f := follower{adoptee: a}
			f.follow(string(out))
			if !strings.Contains(f.adopted, "Written: ") {
				t.Errorf("root, who follows the hint: %s", f.adopted)
			}
		})
	}
}

// TestEjectHints: whoever follows them has the service back under Cosmovisor, and keeps
// what is not solstice's.
func TestEjectHints(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, added string // to the drop-in
		want        string
		keeps       string // in the drop-in; empty: it is removed
	}{
		{"a line more", "Nice=5\n", "has more in it than adopt wrote", "[Service]\nNice=5\n"},
		{"another section", "[Unit]\nDescription=x\n", "has more in it than adopt wrote", "[Service]\n[Unit]\nDescription=x\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newAdoptee(t, map[string]string{"etc/systemd/system/gaiad.service": "[Service]\n" + settings + "ExecStart=@ROOT/bin/cosmovisor run start\n"})
			if out, err := a.adopt(); err != nil {
				t.Fatal(err, out)
			}
			file := filepath.Join(a.root, "etc/systemd/system/gaiad.service.d/solstice.conf")
			content, err := os.ReadFile(file)
			a.check(err)
			a.check(os.WriteFile(file, append(content, tt.added...), 0o644))
			cmd := exec.Command(a.self(), "eject", "--units", strings.Join(a.folders(), ","))
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "DAEMON_HOME=" + a.dir, "DAEMON_NAME=noded"}
			out, err := cmd.CombinedOutput()
			exit, _ := err.(*exec.ExitError)
			if exit == nil || exit.ExitCode() != 3 || !strings.Contains(string(out), tt.want) {
				t.Fatalf("eject: %v, want code 3 and %q\n%s", err, tt.want, out)
			}
			f := follower{adoptee: a}
			f.follow(string(out))
			if content, _ := os.ReadFile(file); f.hints != 3 || string(content) != tt.keeps {
				t.Errorf("after %d hints the drop-in is %q, want %q", f.hints, content, tt.keeps)
			}
			service, err := unit.Units{Folders: a.folders()}.Load("gaiad")
			if err != nil || service.Commands[0].Line != filepath.Join(a.root, "bin/cosmovisor")+" run start" {
				t.Errorf("the service starts %+v, %v", service.Commands, err)
			}
		})
	}
}

// TestServiceHints: each refusal has hints that can be typed.
func TestServiceHints(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		args   []string
		before func(a adoptee)
		want   string
		there  string // a file that is there in the end
	}{
		{
			name: "a unit for another home",
			args: []string{"--install", "--dir", "@ROOT/units"},
			before: func(a adoptee) {
				a.check(os.WriteFile(filepath.Join(a.root, "units/solstice-noded.service"), []byte("[Service]\nExecStart=/x\nEnvironment=DAEMON_HOME=/other\n"), 0o644))
			},
			want:  "solstice-noded.service is there, and for another home than",
			there: "units/mine.service",
		},
		{
			name: "a unit whose home only systemd knows",
			args: []string{"--install", "--dir", "@ROOT/units"},
			before: func(a adoptee) {
				a.check(os.WriteFile(filepath.Join(a.root, "units/solstice-noded.service"), []byte("[Service]\nExecStart=/x\nPassEnvironment=DAEMON_HOME\n"), 0o644))
			},
			want:  "is there, and whose home it is for is not known",
			there: "units/mine.service",
		},
		{
			name:  "no folder",
			args:  []string{"--install", "--dir", "@ROOT/none"},
			want:  "the unit cannot be written: ",
			there: "none",
		},
		{
			name: "no start",
			args: []string{"--", "query", "bank"},
			want: "this command of the node is not supervised: query bank",
		},
		{
			name: "no such user",
			args: []string{"--user", "no-such-user"},
			want: `there is no user "no-such-user"`,
		},
		{
			name:   "data of another user",
			before: func(a adoptee) { a.check(os.Chown(filepath.Join(a.dir, "data"), nobody, nobody)) },
			args:   []string{"--user", "root"},
			want:   "does not belong to root: solstice would refuse to start the node",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.name == "data of another user" && os.Geteuid() != 0 {
				t.Skip("needs root, to give the data away")
			}
			a := newAdoptee(t, map[string]string{"units/.keep": ""})
			if tt.before != nil {
				tt.before(a)
			}
			args := []string{"service"}
			for _, arg := range tt.args {
				args = append(args, a.fill(arg))
			}
			cmd := exec.Command(a.self(), args...)
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "DAEMON_HOME=" + a.dir, "DAEMON_NAME=noded"}
			out, err := cmd.CombinedOutput()
			exit, _ := err.(*exec.ExitError)
			if exit == nil || exit.ExitCode() != 3 || !strings.Contains(string(out), tt.want) {
				t.Fatalf("service: %v, want code 3 and %q\n%s", err, tt.want, out)
			}
			f := follower{adoptee: a, replace: "mine"}
			f.follow(string(out))
			if _, err := os.Stat(filepath.Join(a.root, tt.there)); f.hints == 0 || err != nil {
				t.Errorf("after %d hints: %v", f.hints, err)
			}
		})
	}
}
