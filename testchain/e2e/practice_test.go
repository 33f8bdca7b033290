package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// practice are the commands of a section of docs/practice.md, in a folder that has what the page says is needed.
type practice struct {
	t        *testing.T
	dir      string
	commands []string
	environ  []string
}

func newPractice(t *testing.T, section string) *practice {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a real chain")
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "practice.md"))
	check(t, err)
	_, text, found := strings.Cut(string(page), "\n## "+section+"\n")
	if !found {
		t.Fatalf("docs/practice.md has no section %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	p := &practice{t: t, dir: t.TempDir()}
	for line := range strings.Lines(text) {
		if command, ok := strings.CutPrefix(line, "    "); ok {
			p.commands = append(p.commands, strings.TrimSpace(command))
		}
	}
	if len(p.commands) == 0 {
		t.Fatalf("section %q of docs/practice.md has no commands", section)
	}
	for name, path := range map[string]string{"chaind-v1": built.chain.V1, "chaind-v2": built.chain.V2, "chaind-v3": built.chain.V3} {
		check(t, os.Symlink(path, filepath.Join(p.dir, name)))
	}
	p.environ = append(os.Environ(), "PATH="+filepath.Dir(built.solstice)+":"+os.Getenv("PATH"), "TMPDIR="+t.TempDir())
	return p
}

// run runs one command, which must succeed, and returns what it prints. Of cd and export it remembers what they do.
func (p *practice) run(command string) string {
	p.t.Helper()
	if folder, ok := strings.CutPrefix(command, "cd "); ok {
		p.dir = filepath.Join(p.dir, folder)
		return ""
	}
	if variables, ok := strings.CutPrefix(command, "export "); ok {
		for _, variable := range strings.Fields(variables) {
			p.environ = append(p.environ, os.Expand(variable, func(name string) string {
				if name == "PWD" {
					return p.dir
				}
				return "$" + name
			}))
		}
		return ""
	}
	command = strings.Replace(command, "solstice simulate ", "solstice simulate --patience "+patience+" ", 1)
	cmd := exec.CommandContext(built.ctx, "sh", "-c", command)
	cmd.Dir, cmd.Env = p.dir, p.environ
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := run(built.ctx, cmd); err != nil {
		p.t.Fatalf("%s: %v\n%s\n%s", command, err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

// TestPractice runs what docs/practice.md tells a chain developer.
func TestPractice(t *testing.T) {
	t.Parallel()
	p := newPractice(t, "For a chain developer")
	for _, command := range p.commands {
		out := p.run(command)
		if strings.Contains(command, " simulate ") && !strings.Contains(command, "json") && !strings.Contains(out, "Every node went through every upgrade") {
			t.Errorf("%s printed:\n%s", command, out)
		}
	}
	for file, want := range map[string]string{"simulation.html": "Every node went through every upgrade (v2, v3)", "simulation.json": `"passed": true`, "network/validator0.log": "height="} {
		content, err := os.ReadFile(filepath.Join(p.dir, file))
		if err != nil || !bytes.Contains(content, []byte(want)) {
			t.Errorf("%s lacks %q: %v", file, want, err)
		}
	}
}

// TestPracticeOperator runs what docs/practice.md tells an operator.
func TestPracticeOperator(t *testing.T) {
	t.Parallel()
	p := newPractice(t, "For an operator")
	for _, command := range p.commands {
		out := p.run(command)
		for part, want := range map[string]string{
			"rehearse --plan v2 --binary ./chaind-v2 --report": "It went well: plan v2 was carried out at height",
			"doctor": " rehearsed at ",
		} {
			if strings.Contains(command, part) && !strings.Contains(out, want) {
				t.Errorf("%s doesn't say %q:\n%s", command, want, out)
			}
		}
	}
	for file, want := range map[string]string{"rehearsal.html": "It went well", "rehearsal.json": `"outcome": "passed"`} {
		content, err := os.ReadFile(filepath.Join(p.dir, file))
		if err != nil || !bytes.Contains(content, []byte(want)) {
			t.Errorf("%s lacks %q: %v", file, want, err)
		}
	}
}
