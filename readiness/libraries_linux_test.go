package readiness

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
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
