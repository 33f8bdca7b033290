package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"solstice"
	"solstice/unit"
)

// analyze runs systemd-analyze, which needs no running systemd. Its exit code says nothing of unknown keys, so its words count.
func analyze(t *testing.T, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("needs systemd-analyze: apt-get install -y --no-install-recommends systemd")
	}
	out, _ := exec.Command(path, args...).CombinedOutput()
	return string(out)
}

func writeUnit(t *testing.T, unit string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "solstice-noded.service")
	if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// exampleService is one as most are: the node has a user of its own, and nothing of it lies in a folder for temporary files.
func exampleService() *service {
	return &service{
		home: solstice.Home{Dir: "/srv/node", Node: "/srv/node", Name: "noded"}, program: []string{"/bin/sh"}, args: []string{"start"},
		env: []string{"DAEMON_HOME=/srv/node", "DAEMON_NAME=noded"}, user: "daemon", group: "daemon", stop: time.Minute, writable: []string{"/srv/node"},
	}
}

func textOf(t *testing.T, s *service) string {
	t.Helper()
	text, err := s.text()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestUnitIsValid: systemd has nothing to say about it, whatever stands in it, and thinks little of what it exposes.
func TestUnitIsValid(t *testing.T) {
	t.Parallel()
	odd := exampleService()
	odd.args = append(odd.args, "--odd", `a "b" 100% \n $HOME ; 'c'`, ";", "")
	odd.env = append(odd.env, "SOLSTICE_ODD=a \"b\" 100% \\n $HOME\n'c'\x01é")
	odd.home.Name, odd.writable = "no%de", []string{`/srv/no de%"`, "/srv/b\\"}
	odd.inTemp, odd.user = true, "root"
	for _, s := range []*service{exampleService(), odd} {
		for line := range strings.Lines(analyze(t, "verify", writeUnit(t, textOf(t, s)))) {
			if strings.Contains(line, "solstice-noded") { // else it is about this machine's own units
				t.Error(line)
			}
		}
	}
	out := analyze(t, "security", "--offline=true", "--no-pager", writeUnit(t, textOf(t, exampleService())))
	found := regexp.MustCompile(`Overall exposure level for \S+: ([\d.]+)`).FindStringSubmatch(out)
	if found == nil {
		t.Fatal(out)
	}
	if score, err := strconv.ParseFloat(found[1], 64); err != nil || score > 2.5 {
		t.Errorf("exposure %s, want at most 2.5", found[1])
	}
	t.Log(found[0])
}

// TestQuotedAsSystemdReads: what we quote is what systemd reads. It shows that when it complains: a name must not begin with a
// digit, and a program must be there.
func TestQuotedAsSystemdReads(t *testing.T) {
	texts := []string{"plain", "two words", `a "b"`, "100% %h", `back\slash \n`, "$HOME ${HOME} $$", "'c'", "; x", "é", "tab\there", " "}
	environment := "[Service]\nExecStart=/bin/sh\n"
	for _, text := range texts {
		environment += "Environment=" + unit.QuoteValues("1="+text) + "\n"
	}
	environment = analyze(t, "verify", writeUnit(t, environment))
	for _, text := range texts {
		if want := "Invalid environment assignment, ignoring: 1=" + text + "\n"; !strings.Contains(environment, want) {
			t.Errorf("want %q in\n%s", want, environment)
		}
		line, err := unit.QuoteCommand("/no/such/" + text)
		if refused := strings.ContainsAny(text, "\"'\\\t"); refused != (err != nil) {
			t.Errorf("%q as a program: %v; systemd refuses quotes, backslashes and control characters", text, err)
		}
		if err != nil {
			continue
		}
		out := analyze(t, "verify", writeUnit(t, "[Service]\nExecStart="+line+"\n"))
		if want := "Command /no/such/" + text + " is not executable"; !strings.Contains(out, want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
}

// TestOneMountWhereLinksAre: no hard link leads from one ReadWritePaths to another, so the folders on one disk are one.
func TestOneMountWhereLinksAre(t *testing.T) {
	dir := t.TempDir()
	for _, sub := range []string{"node/cosmovisor", "node/data", "backup", "elsewhere/data"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	node := filepath.Join(dir, "node")
	check := func(backup string, want ...string) {
		t.Helper()
		c := &Config{Home: node, BackupDir: backup}
		s := &service{home: solstice.Home{Dir: node, Node: node, StateDir: filepath.Join(node, "cosmovisor/.solstice")}}
		s.mayWrite(c)
		if got := strings.Join(s.writable, " "); got != strings.Join(want, " ") {
			t.Errorf("writable %s, want %s", got, want)
		}
	}
	check("", node)
	check(filepath.Join(dir, "backup"), dir)
	if err := os.Remove(filepath.Join(node, "data")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "elsewhere/data"), filepath.Join(node, "data")); err != nil {
		t.Fatal(err)
	}
	check("", dir)
	if got := common([]string{"/srv/a", "/srv/ab", "/home/x"}); got != "/" || isOwn(got) {
		t.Errorf("around them is %s", got)
	}
}
