package solstice

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// layers are the packages from the bottom up. A package imports only what stands in a lower layer.
var layers = [][]string{
	{"solstice", "solstice/internal/shell", "solstice/internal/outlet"},
	{"solstice/internal/durable", "solstice/internal/child"},
	{"solstice/watch", "solstice/node", "solstice/artifact", "solstice/api", "solstice/unit", "solstice/crash"},
	{"solstice/snapshot", "solstice/signstate", "solstice/sidecar", "solstice/internal/testnode"},
	{"solstice/upgrade"},
	{"solstice/rollback"},
	{"solstice/readiness"},
	{"solstice/supervisor", "solstice/localnet", "solstice/report"},
	{"solstice/simulate", "solstice/rehearse"},
	{"solstice/cmd/solstice", "solstice/cmd/dist", "solstice/internal/testnode/noded"},
	{"solstice/chaos"},
}

// rootForbids is technology, which has no place among the words of the root package.
var rootForbids = []string{"net", "net/http", "os/exec", "log/slog"}

// TestImportsGoDown keeps the house as DESIGN.md draws it: what is new stands in layers, or nowhere.
func TestImportsGoDown(t *testing.T) {
	for path, imports := range packages(t) {
		layer := layerOf(path)
		if layer < 0 {
			t.Errorf("package %s stands in no layer", path)
		}
		for _, imported := range imports {
			switch {
			case imported == "solstice" || strings.HasPrefix(imported, "solstice/"):
				if below := layerOf(imported); below >= layer {
					t.Errorf("%s imports %s, which is not below it", path, imported)
				}
			case path == "solstice" && (strings.Contains(imported, ".") || slices.Contains(rootForbids, imported)):
				t.Errorf("the root package imports %s", imported)
			}
		}
	}
}

func layerOf(path string) int {
	return slices.IndexFunc(layers, func(layer []string) bool { return slices.Contains(layer, path) })
}

// packages are the packages of this module and what they import, tests left out. Each must have one package doc.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	docs := map[string]int{}
	err := filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && path != "." {
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil || e.Name() == "testdata" || strings.HasPrefix(e.Name(), ".") {
				return filepath.SkipDir
			}
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		name := strings.TrimSuffix("solstice/"+filepath.ToSlash(filepath.Dir(path)), "/.")
		if found[name] == nil {
			found[name] = []string{}
		}
		for _, spec := range file.Imports {
			found[name] = append(found[name], strings.Trim(spec.Path.Value, `"`))
		}
		if file.Doc != nil {
			docs[name]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range found {
		if docs[name] != 1 {
			t.Errorf("package %s has %d package docs, want one", name, docs[name])
		}
	}
	return found
}

// TestModulesHaveNoReplace: what a stranger builds is what we tested.
func TestModulesHaveNoReplace(t *testing.T) {
	modules, err := filepath.Glob("*/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(modules, "go.mod") {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(content)) {
			if strings.HasPrefix(strings.TrimSpace(line), "replace") {
				t.Errorf("%s: %s", path, line)
			}
		}
	}
}

// TestFilesAreReadInBoundedTime: what others can put in the place of a file, such as a FIFO
// or one without an end, is not waited for. The packages here read files of the system, or
// what they have just made.
func TestFilesAreReadInBoundedTime(t *testing.T) {
	unbounded := []string{
		"api/api.go", "artifact/fetch.go", "cmd/dist/", "crash/memory.go", "internal/child/", "internal/durable/", "internal/testnode/", "localnet/", "node/process_linux.go",
		"readiness/", "rehearse/debris.go", "rehearse/meter.go", "rollback/mount_linux.go", "simulate/", "unit/specifier.go", "chaos/", "bench/", "testchain/",
	}
	err := filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		if slices.ContainsFunc(unbounded, func(prefix string) bool { return strings.HasPrefix(filepath.ToSlash(path), prefix) }) {
			return nil
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte("os.ReadFile(")) {
			t.Errorf("%s: os.ReadFile waits for whatever is there; solstice.ReadFile does not", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestParentDeathSignal: the kernel sends it when the thread ends that started the child, so that whoever asks for it has to know how long
// that thread lives. These two do: they start all children on one thread.
func TestParentDeathSignal(t *testing.T) {
	want := []string{"internal/child/child_linux.go", "testchain/e2e/start_linux.go"}
	var got []string
	err := filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte("Pdeath"+"sig")) {
			got = append(got, filepath.ToSlash(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("these set the parent's death signal: %q, want %q", got, want)
	}
}
