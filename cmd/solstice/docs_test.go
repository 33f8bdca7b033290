package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// root is the folder of README.md.
var root = filepath.Join("..", "..")

// elsewhere are the commands of README.md and docs/ that no script types, and the test that runs them, or what keeps all tests from it.
// Those of solstice stand there as a whole, the others by how they begin. docs/practice.md has a test of its own: TestPracticePage.
var elsewhere = []struct{ line, test, why string }{
	{"solstice simulate --binary ./v1 --upgrade v2=./v2", "TestSimulate", "a real chain"},
	{"solstice simulate … --docker DIR", "TestProject", "a real chain in containers"},
	{"solstice rehearse --plan v2 --binary ./v2", "TestRehearse", "a real chain"},
	{"solstice reload", "TestReload", "a solstice that is a program of its own"},
	{"solstice rehearse --plan v2 --binary ./chaind-v2", "TestRehearse", "a real chain"},
	{"solstice rehearse --plan v2 --binary ./chaind-v2 --repeat 2 --memory 16G --report rehearsal.html", "TestPracticeOperator", "a real chain"},
	{"solstice rehearse --plan v2 --binary /path/to/v2", "TestRehearse", "a real chain"},
	{"solstice run tx slashing unjail --from KEY", "TestScript", "needs a jailed validator; run_one_off.txtar runs a node's own command"},
	{"make", "TestMakeTargets", "what CI runs"},
	{"docker", "TestContainer", "builds an image and runs it"},
	{"kubectl", "TestKubernetes", "no cluster: what is applied is looked at, and the commands in it"},
	{"dpkg", "TestDebian", "needs the package that a release builds"},
	{"rpm", "TestRedHat", "the same"},
	{"update-alternatives", "TestDebian", "the same"},
	{"sha256sum", "TestChecksums", "the same"},
	{"install", "TestDebian", "writes where only root may; the package has these files in these places"},
	{"useradd", "", "makes a user on this machine"},
	{"export", "TestScript", "every script has these variables"},
	{"df", "", "the system's own, and changes nothing"},
	{"systemctl", "TestShapeOfServices", "no systemd here"},
	{"journalctl", "TestShapeOfServices", "the same"},
}

// notCommands are the first lines of blocks that show something else than commands.
var notCommands = regexp.MustCompile(`^(FROM |\{"|# |plan |upgrade "|validator |chain  |\[\[)`)

// pageLine is a command line of a page.
type pageLine struct{ page, line string }

func (d pageLine) String() string { return d.page + ": " + d.line }

// pages are README.md, DESIGN.md and those of docs/, by their path from root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(found) == 0 {
		t.Fatalf("docs/ has no pages: %v", err)
	}
	texts := map[string]string{}
	for _, path := range append(found, filepath.Join(root, "README.md"), filepath.Join(root, "DESIGN.md")) {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name, _ := filepath.Rel(root, path)
		texts[filepath.ToSlash(name)] = string(content)
	}
	return texts
}

// blocks are the indented and the fenced pieces of a page, without what they are indented by.
func blocks(text string) (found [][]string) {
	fenced, open := false, false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		code, indented := strings.CutPrefix(line, "    ")
		if !indented && strings.HasPrefix(line, "      ") {
			indented = true
		}
		switch {
		case strings.HasPrefix(line, "```"):
			fenced, open = !fenced, false
			continue
		case fenced:
			code = line
		case line == "" && open:
			continue // a block goes on after an empty line
		case !indented:
			open = false
			continue
		}
		if !open {
			found, open = append(found, nil), true
		}
		found[len(found)-1] = append(found[len(found)-1], strings.TrimSpace(code))
	}
	return found
}

// comment is what stands behind a command.
var comment = regexp.MustCompile(`\s+# .*$`)

// commands are all command lines of the pages: those after a $, and all lines of a block that begins with none and is not known for
// something else.
func commands(t *testing.T) (found []pageLine) {
	t.Helper()
	for page, text := range pages(t) {
		if page == "DESIGN.md" {
			continue // it shows how the program works, and nothing to type
		}
		for _, block := range blocks(text) {
			_, prompted := strings.CutPrefix(block[0], "$ ")
			if !prompted && notCommands.MatchString(block[0]) {
				continue
			}
			for _, line := range block {
				line, ours := strings.CutPrefix(line, "$ ")
				if ours == prompted {
					found = append(found, pageLine{page, comment.ReplaceAllString(line, "")})
				}
			}
		}
	}
	return found
}

// typedInScripts are the lines that scripts type.
func typedInScripts(t *testing.T) map[string]bool {
	t.Helper()
	return namesIn(t, `(?m)^!? ?exec typed '([^']+)'`, "testdata/script/*.txtar")
}

// namesIn are the first groups of all matches in the files of these patterns.
func namesIn(t *testing.T, expression string, patterns ...string) map[string]bool {
	t.Helper()
	names, wanted := map[string]bool{}, regexp.MustCompile(expression)
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("no files %s, %v", pattern, err)
		}
		for _, path := range paths {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, match := range wanted.FindAllStringSubmatch(string(content), -1) {
				names[match[1]] = true
			}
		}
	}
	return names
}

// TestDocumentedCommands: each command of README.md and docs/ is run by a script, which types it as it stands there, or stands in
// elsewhere; and what scripts type stands in the docs.
func TestDocumentedCommands(t *testing.T) {
	typed, tests := typedInScripts(t), testNames(t)
	used := map[string]bool{}
	for _, d := range commands(t) {
		used[d.line] = true
		if fault := noSuchSolstice(d.line); fault != "" {
			t.Errorf("%s\n\t%s", d, fault)
		}
		if typed[d.line] || d.page == "docs/practice.md" {
			continue
		}
		program, _, _ := strings.Cut(d.line, " ")
		at := slices.IndexFunc(elsewhere, func(e struct{ line, test, why string }) bool { return e.line == d.line || e.line == program })
		if at < 0 {
			t.Errorf("%s\n\tis run by no test. Type it in a script: exec typed '%s'; or say in elsewhere who runs it. If it is no command: notCommands", d, d.line)
			continue
		}
		used[elsewhere[at].line] = true
	}
	for line := range typed {
		if !used[line] {
			t.Errorf("a script types %q, which stands neither in README.md nor in docs/", line)
		}
	}
	for _, e := range elsewhere {
		if e.test != "" && !tests[e.test] {
			t.Errorf("elsewhere: there is no test %s", e.test)
		}
		if !used[e.line] {
			t.Errorf("elsewhere: no page has the command %q", e.line)
		}
	}
}

// testNames are the tests of all modules here.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	return namesIn(t, `(?m)^func (Test\w+)\(`, "*_test.go", "../dist/*_test.go", "../../testchain/e2e/*_test.go")
}

// TestPracticePage: each section of docs/practice.md that has commands is run by a test on a real chain.
func TestPracticePage(t *testing.T) {
	var tests strings.Builder
	files, err := filepath.Glob(filepath.Join(root, "testchain", "e2e", "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(content)
	}
	for i, section := range strings.Split(pages(t)["docs/practice.md"], "\n## ") {
		name, text, _ := strings.Cut(section, "\n")
		if i > 0 && len(blocks(text)) > 0 && !strings.Contains(tests.String(), fmt.Sprintf("newPractice(t, %q)", name)) {
			t.Errorf("docs/practice.md: no test runs the commands of the section %q", name)
		}
	}
}

// TestMakeTargets: what the pages say to make can be made.
func TestMakeTargets(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	made := regexp.MustCompile(`\bmake ((?:[a-z]+ ?)+)`)
	for page, text := range pages(t) {
		var lines []string
		for _, block := range blocks(text) {
			lines = append(lines, block...)
		}
		lines = append(lines, spans(text)...)
		for _, line := range lines {
			if !strings.HasPrefix(line, "make ") {
				continue
			}
			for _, target := range strings.Fields(made.FindStringSubmatch(line)[1]) {
				if !strings.Contains(string(content), "\n"+target+":") {
					t.Errorf("%s: %s: there is no target %s", page, line, target)
				}
			}
		}
	}
}

// TestShapeOfServices: what can't be run here without systemd has the form that its programs take.
func TestShapeOfServices(t *testing.T) {
	unit := `(UNIT|NODE|gaiad|solstice-NAME|solstice@gaia)`
	shape := regexp.MustCompile(`^(systemctl (start|stop|restart|status|edit|disable) ` + unit + `|systemctl enable --now ` + unit +
		`|systemctl daemon-reload|systemctl reload ` + unit + `|systemctl kill --signal=KILL ` + unit + `|journalctl -u ` + unit + ` (-f|-n [0-9]+))$`)
	for _, d := range commands(t) {
		if name, _, _ := strings.Cut(d.line, " "); (name == "systemctl" || name == "journalctl") && !shape.MatchString(d.line) {
			t.Errorf("%s: not of a known form", d)
		}
	}
}

// spans are the pieces of a page that stand between backticks.
func spans(text string) (found []string) {
	for _, match := range regexp.MustCompile("`([^`\n]+(?:\n[^`\n]+)?)`").FindAllStringSubmatch(text, -1) {
		found = append(found, strings.Join(strings.Fields(match[1]), " "))
	}
	return found
}

// TestMentionedCommandsExist: a command that is mentioned in a sentence exists, with its flags.
func TestMentionedCommandsExist(t *testing.T) {
	for page, text := range pages(t) {
		for _, span := range spans(text) {
			if fault := noSuchSolstice(span); fault != "" {
				t.Errorf("%s: `%s`: %s", page, span, fault)
			}
		}
	}
}

// solsticeIn is where a line calls solstice, perhaps through something else.
var solsticeIn = regexp.MustCompile(`^(?:sudo -E |(?:kubectl|docker|docker-compose) exec .*/)?solstice ([a-z-].*)$`)

// noSuchSolstice says what is wrong with the command of solstice in a line, or nothing.
func noSuchSolstice(line string) string {
	match := solsticeIn.FindStringSubmatch(line)
	if match == nil {
		return ""
	}
	words := strings.Fields(match[1])
	if end := slices.IndexFunc(words, func(word string) bool { return word == "|" || word == "--" }); end >= 0 {
		words = words[:end]
	}
	top := newRoot()
	var names []string
	for _, word := range words {
		if !strings.HasPrefix(word, "-") {
			names = append(names, word)
		}
	}
	cmd, rest, err := top.Find(names)
	switch {
	case err != nil || cmd == top:
		return "there is no such command"
	case cmd.Name() == "run":
		return "" // what follows is the node's
	case len(rest) > 0 && cmd.HasSubCommands():
		return fmt.Sprintf("%s has no command %s", cmd.CommandPath(), rest[0])
	}
	for _, word := range words {
		name, _, _ := strings.Cut(word, "=")
		long, isFlag := strings.CutPrefix(name, "--")
		if isFlag && long != "help" && cmd.Flags().Lookup(long) == nil && cmd.InheritedFlags().Lookup(long) == nil {
			return "there is no flag " + name
		}
	}
	return ""
}

// TestLinks: each link between the pages leads somewhere, each page can be reached from README.md, and README.md stays one page.
func TestLinks(t *testing.T) {
	texts := pages(t)
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	reached := map[string]bool{"README.md": true}
	for queue := []string{"README.md"}; len(queue) > 0; queue = queue[1:] {
		page := queue[0]
		for _, match := range link.FindAllStringSubmatch(texts[page], -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(match[1], "#")
			to := page
			if path != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(page), path))
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s: the link %s leads nowhere", page, match[1])
			}
			if anchor != "" && !slices.Contains(anchors(texts[to]), anchor) {
				t.Errorf("%s: the link %s leads to no heading", page, match[1])
			}
			if _, isPage := texts[to]; isPage && !reached[to] {
				reached[to] = true
				queue = append(queue, to)
			}
		}
	}
	for page := range texts {
		if !reached[page] {
			t.Errorf("%s can't be reached from README.md", page)
		}
	}
	if n := strings.Count(texts["README.md"], "\n"); n > 120 {
		t.Errorf("README.md has %d lines: it is one page, 120 at most", n)
	}
}

// anchors are what a page's headings can be linked by.
func anchors(text string) (found []string) {
	for line := range strings.Lines(text) {
		heading := strings.TrimLeft(line, "#")
		if heading == line || !strings.HasPrefix(heading, " ") {
			continue
		}
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', '0' <= r && r <= '9', 'a' <= r && r <= 'z':
				return r
			}
			return -1
		}, strings.ToLower(strings.TrimSpace(heading)))
		found = append(found, anchor)
	}
	return found
}

// typed is a program for the scripts: it runs a command line of README.md or docs/ in a shell, as an operator would. Each further
// argument OLD=NEW says what an operator would type in the place of something in it, such as a path.
func typed() {
	line := os.Args[1]
	for _, change := range os.Args[2:] {
		old, new, _ := strings.Cut(change, "=")
		if !strings.Contains(line, old) {
			fmt.Fprintf(os.Stderr, "typed: %q has no %q in it\n", line, old)
			os.Exit(2)
		}
		line = strings.ReplaceAll(line, old, new)
	}
	if strings.HasPrefix(line, "solstice ") && !strings.ContainsAny(line, "|&;") {
		line = "exec " + line // so that a signal reaches it
	}
	shell, err := exec.LookPath("sh")
	if err == nil {
		err = syscall.Exec(shell, []string{"sh", "-c", line}, os.Environ())
	}
	fmt.Fprintln(os.Stderr, "typed:", err)
	os.Exit(2)
}
