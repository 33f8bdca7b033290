package artifact

import (
	"debug/elf"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestMuslPath: musl's loader has a search path of its own, and a file beside it that replaces it.
func TestMuslPath(t *testing.T) {
	root := t.TempDir()
	interpreter := filepath.Join(root, "lib", "ld-musl-x86_64.so.1")
	if got, want := muslPath(interpreter), []string{"/lib", "/usr/local/lib", "/usr/lib"}; !slices.Equal(got, want) {
		t.Errorf("without a file: %q, want %q", got, want)
	}
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc", "ld-musl-x86_64.path"), []byte("/a:/b\n/c\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, want := muslPath(interpreter), []string{"/a", "/b", "/c"}; !slices.Equal(got, want) {
		t.Errorf("with a file: %q, want %q", got, want)
	}
	l := loader{musl: interpreter}
	if got := l.folders(&elf.File{}, "/x"); !slices.Equal(got[len(got)-3:], []string{"/a", "/b", "/c"}) {
		t.Errorf("folders = %q, want those of the file last", got)
	}
}

func FuzzLibraries(f *testing.F) {
	if shell, err := os.ReadFile("/bin/true"); err == nil {
		f.Add(shell)
	}
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "a")
		if err := os.WriteFile(path, content, 0o755); err != nil {
			t.Skip()
		}
		l := loader{own: t.TempDir(), seen: map[string]string{}}
		_, _ = l.missing(path)
	})
}
