package readiness

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"solstice"
)

// TestLibraries: a program of this system finds what it needs; one whose library was renamed in its own bytes does not, until
// the library lies beside it.
func TestLibraries(t *testing.T) {
	shell, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("there is no bash")
	}
	content, err := os.ReadFile(shell)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(content, []byte("libtinfo.so.6\x00")) {
		t.Skip("this bash does not need libtinfo")
	}
	real, err := filepath.Glob("/lib/*/libtinfo.so.6")
	if err != nil || len(real) == 0 {
		t.Skip("libtinfo is elsewhere")
	}
	home := solstice.Home{Dir: t.TempDir(), Name: "noded"}
	s := Subject{Home: home, Plan: solstice.Plan{Name: "v2", Height: 7}}
	binary := home.Binary("upgrades/v2")
	place := func(path string, content []byte) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want solstice.Verdict, says string) {
		t.Helper()
		if f := librariesResolve(t.Context(), s); f.verdict != want || !strings.Contains(f.evidence, says) {
			t.Errorf("%+v, want %s, %q", f, want, says)
		}
	}
	place(binary, content)
	expect(solstice.OK, "libraries are here")
	renamed := bytes.Replace(content, []byte("libtinfo.so.6\x00"), []byte("libtinfX.so.6\x00"), -1)
	place(binary, renamed)
	expect(solstice.NotReady, `noded needs "libtinfX.so.6", which is not here`)
	library, err := os.ReadFile(real[0])
	if err != nil {
		t.Fatal(err)
	}
	place(filepath.Join(home.Root(), "upgrades/v2/lib/libtinfX.so.6"), library)
	expect(solstice.OK, "libraries are here")
	newer := bytes.Replace(content, []byte("GLIBC_2.34\x00"), []byte("GLIBC_9.99\x00"), -1)
	if !bytes.Equal(newer, content) {
		place(binary, newer)
		expect(solstice.NotReady, "needs GLIBC_9.99 of libc.so.6")
	}
	other := bytes.Replace(content, []byte("/ld-linux-x86-64.so.2\x00"), []byte("/ld-linux-y86-64.so.2\x00"), 1)
	if !bytes.Equal(other, content) {
		place(binary, other)
		expect(solstice.NotReady, "needs the loader /lib64/ld-linux-y86-64.so.2, which is not here")
	}
	place(binary, []byte("#!/bin/sh\n"))
	expect(solstice.OK, "it is a script")
}

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
