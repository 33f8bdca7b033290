package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// message is what a piece of code can say to an operator: its words, with … for what varies.
type message struct{ text, at string }

// verbs are what a format puts values into.
var verbs = regexp.MustCompile(`%[-+# 0]*[0-9.*]*[a-zA-Z]`)

// messagesOf are the messages in the source of this module, tests left out: told are the reasons of refusals and decisions, the warnings
// and errors of the log, and the errors of the supervisor; literals are all strings.
func messagesOf(t *testing.T, root string) (told []message, literals map[string]bool) {
	t.Helper()
	literals = map[string]bool{}
	set := token.NewFileSet()
	consts := map[string]string{}
	files := map[string]*ast.File{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && path != root {
			_, module := os.Stat(filepath.Join(path, "go.mod"))
			if module == nil || e.Name() == "testdata" || strings.HasPrefix(e.Name(), ".") || slices.Contains([]string{"testnode", "chaos", "dist"}, e.Name()) {
				return filepath.SkipDir
			}
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		files[path], err = parser.ParseFile(set, path, nil, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == len(spec.Names) {
				for i, name := range spec.Names {
					if lit, ok := spec.Values[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
						consts[file.Name.Name+"."+name.Name], _ = strconv.Unquote(lit.Value)
					}
				}
			}
			return true
		})
	}
	for path, file := range files {
		name, _ := filepath.Rel(root, path)
		wordsOf := func(e ast.Expr) string { return words(e, file.Name.Name, consts) }
		ast.Inspect(file, func(n ast.Node) bool {
			e, ok := n.(ast.Expr)
			if !ok {
				return true
			}
			if text := wordsOf(e); text != "…" {
				literals[text] = true
			}
			return true
		})
		ast.Inspect(file, func(n ast.Node) bool {
			said := toldBy(n)
			if call, ok := n.(*ast.CallExpr); ok && said == nil && file.Name.Name == "supervisor" && formats(call, "Errorf") {
				said = call // what ends run
			}
			if said != nil {
				if text := wordsOf(said); telling(text) {
					told = append(told, message{text, name + ":" + strconv.Itoa(set.Position(said.Pos()).Line)})
				}
			}
			return true
		})
	}
	return told, literals
}

// toldBy is the expression by which a node tells an operator something: the reason of a refusal, what is logged as a warning or an
// error, or why a decision is what it is.
func toldBy(n ast.Node) ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		for i, to := range n.Lhs {
			if field, ok := to.(*ast.SelectorExpr); ok && len(n.Rhs) == len(n.Lhs) && slices.Contains([]string{"Note", "Reason"}, field.Sel.Name) {
				return n.Rhs[i]
			}
		}
	case *ast.CompositeLit:
		kind, named := n.Type.(*ast.SelectorExpr)
		if !named || kind.Sel.Name != "RefusedError" {
			return nil
		}
		for _, e := range n.Elts {
			if pair, ok := e.(*ast.KeyValueExpr); ok && pair.Key.(*ast.Ident).Name == "Reason" {
				return pair.Value
			}
		}
	case *ast.CallExpr:
		name := ""
		switch f := n.Fun.(type) {
		case *ast.Ident:
			name = f.Name
		case *ast.SelectorExpr:
			name = f.Sel.Name
		}
		if len(n.Args) > 0 && slices.Contains([]string{"Warn", "Error", "warn", "wait", "refuse", "contradiction"}, name) {
			return n.Args[0]
		}
	}
	return nil
}

// words are what is known of an expression's text when it runs.
func words(e ast.Expr, pkg string, consts map[string]string) string {
	text := "…"
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind == token.STRING {
			text, _ = strconv.Unquote(e.Value)
			text = verbs.ReplaceAllString(text, "…")
		}
	case *ast.Ident:
		if value, ok := consts[pkg+"."+e.Name]; ok {
			text = value
		}
	case *ast.BinaryExpr:
		text = words(e.X, pkg, consts) + words(e.Y, pkg, consts)
	case *ast.CallExpr:
		if formats(e, "Sprintf", "Errorf") {
			text = words(e.Args[0], pkg, consts)
		}
	}
	return strings.ReplaceAll(text, "……", "…")
}

// formats says whether a call makes something out of a format, by one of these functions.
func formats(call *ast.CallExpr, functions ...string) bool {
	f, ok := call.Fun.(*ast.SelectorExpr)
	return ok && len(call.Args) > 0 && slices.Contains(functions, f.Sel.Name)
}

// telling says whether a text has words of its own. One that has none, such as "…: …", says what another message says.
func telling(text string) bool {
	return slices.ContainsFunc(strings.Split(text, "…"), func(piece string) bool { return strings.Contains(strings.TrimSpace(piece), " ") })
}

// notInTroubleshooting are the messages that docs/troubleshooting.md leaves out, by the files that have them, and why.
var notInTroubleshooting = []struct{ files, why string }{
	{"simulate/", "practice: nothing is at stake, and the message says what to change"},
	{"localnet/", "the same"},
	{"rehearse/", "the same"},
	{"cmd/solstice/simulate.go", "the same"},
	{"cmd/solstice/rehearse.go", "the same"},
	{"snapshot/borrow.go", "the same: only rehearsals borrow"},
	{"cmd/solstice/adopt", "docs/adopt.md says when it is refused"},
	{"cmd/solstice/eject.go", "the same"},
	{"supervisor/handover.go", "the cause in a row of its section on reloads"},
	{"cmd/solstice/service.go", "docs/service.md; each has a hint, and the unit is not written"},
}

// TestTroubleshooting: each warning, error and refusal of the code has a row in docs/troubleshooting.md, and each message there can still
// be said by the code. In the page … stands for what varies.
func TestTroubleshooting(t *testing.T) {
	t.Parallel()
	told, literals := messagesOf(t, root)
	explained := map[string]bool{}
	for line := range strings.Lines(pages(t)["docs/troubleshooting.md"]) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		first, _, _ := strings.Cut(line[2:], " | ")
		for _, text := range spans(first) {
			explained[text] = true
			if !literals[text] {
				t.Errorf("docs/troubleshooting.md: the code does not say %q any more", text)
			}
		}
	}
	left := map[string]bool{}
	for _, m := range told {
		at := slices.IndexFunc(notInTroubleshooting, func(n struct{ files, why string }) bool { return strings.HasPrefix(m.at, n.files) })
		switch {
		case explained[m.text]:
		case at >= 0:
			left[notInTroubleshooting[at].files] = true
		default:
			t.Errorf("%s: %q has no row in docs/troubleshooting.md. Add one: | `%s` | what it means | what to do |", m.at, m.text, m.text)
		}
	}
	for _, n := range notInTroubleshooting {
		if !left[n.files] {
			t.Errorf("notInTroubleshooting: %s has no message that the page leaves out", n.files)
		}
	}
}

// TestHintedCommandsExist: what messages and hints tell an operator to type can be typed.
func TestHintedCommandsExist(t *testing.T) {
	t.Parallel()
	_, literals := messagesOf(t, root)
	command := regexp.MustCompile(`: (solstice [a-z][^\n;,.]*)`)
	sentence := regexp.MustCompile(`^solstice (is|was|would) `)
	for text := range literals {
		for _, match := range command.FindAllStringSubmatch(text, -1) {
			if fault := noSuchSolstice(match[1]); fault != "" && !sentence.MatchString(match[1]) {
				t.Errorf("%q: %s: %s", text, match[1], fault)
			}
		}
	}
}
