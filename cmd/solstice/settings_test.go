package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestSettingsPage: docs/settings.md is what the comments and tags of Config say. go generate ./cmd/solstice writes it anew.
func TestSettingsPage(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "settings.md")
	want := settingsPage(t)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what config.go says. Write it anew: go generate ./cmd/solstice", path)
	}
}

// TestSettingsExample: the configuration file that docs/settings.md shows is one.
func TestSettingsExample(t *testing.T) {
	for _, block := range blocks(pages(t)["docs/settings.md"]) {
		if !strings.HasSuffix(block[0], "solstice.toml") {
			continue
		}
		path := filepath.Join(t.TempDir(), "solstice.toml")
		if err := os.WriteFile(path, []byte(strings.Join(block, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
		if c, err := loadConfig(path); err != nil || len(c.unknown) > 0 || c.Grace != 2*time.Minute || c.KeepSnapshots != 2 {
			t.Errorf("read as %+v: %v", c, err)
		}
		return
	}
	t.Error("docs/settings.md shows no configuration file")
}

// settingsPage makes the page out of the source of Config.
func settingsPage(t *testing.T) string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	doc, fields := configDeclaration(file)
	_, intro, found := strings.Cut(doc, "\n\n")
	if fields == nil || !found {
		t.Fatal("config.go has no Config with a comment of two paragraphs")
	}
	var table, text strings.Builder
	for _, field := range fields.List {
		if field.Tag == nil {
			continue
		}
		tag := reflect.StructTag(strings.Trim(field.Tag.Value, "`"))
		name := tag.Get("env")
		kind, known := settingKinds[typeName(field.Type)]
		words, ours := strings.CutPrefix(field.Doc.Text(), field.Names[0].Name+" ")
		if name == "" || !known || !ours {
			t.Fatalf("the field %s of Config needs an env tag, a type that settings.md can name, and a comment that begins with its name", field.Names[0])
		}
		value, has := tag.Lookup("default")
		if is := defaultsTo.FindStringSubmatch(words); !has && is != nil {
			value, has = is[1], true
		}
		if has {
			value = "`" + value + "`"
		} else {
			value = "none"
		}
		fmt.Fprintf(&table, "| [`%s`](#%s) | %s | %s |\n", name, strings.ToLower(name), kind, value)
		fmt.Fprintf(&text, "\n## %s\n\n`%s` %s", name, name, words)
	}
	return `# Settings

<!-- Made from the comments in cmd/solstice/config.go by: go generate ./cmd/solstice -->

` + intro + `
What holds on this machine, and where each value comes from (environment, file or default), says

    solstice config                  # -o json for scripts

A setting that can't be read is a refusal that names it. A service has the environment of its unit, not that of your shell.

A file looks so:

    # DAEMON_HOME/cosmovisor/solstice.toml
    daemon_shutdown_grace = "2m"
    solstice_keep_snapshots = 2

| setting | is | default |
|---|---|---|
` + table.String() + text.String()
}

// defaultsTo is how a comment names a default that follows from another setting.
var defaultsTo = regexp.MustCompile(`Defaults to (\S+)\.`)

// settingKinds are the types of Config's fields, in an operator's words.
var settingKinds = map[string]string{
	"string": "text", "bool": "true or false", "int": "a whole number", "time.Duration": "a duration", "timeFormat": "a name",
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return typeName(e.X) + "." + e.Sel.Name
	}
	return ""
}

// configDeclaration returns the comment of Config and its fields.
func configDeclaration(file *ast.File) (doc string, fields *ast.FieldList) {
	for _, d := range file.Decls {
		general, ok := d.(*ast.GenDecl)
		if !ok || general.Tok != token.TYPE {
			continue
		}
		for _, spec := range general.Specs {
			declared := spec.(*ast.TypeSpec)
			if s, ok := declared.Type.(*ast.StructType); ok && declared.Name.Name == "Config" {
				return general.Doc.Text(), s.Fields
			}
		}
	}
	return "", nil
}
