package main

import (
	"bufio"
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"debug/macho"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

var dist = flag.String("dist", "", "the folder with the release to test, as make dist leaves it")

// root is the source.
const root = "../.."

// released is the folder with the release, and what it says of itself.
func released(t *testing.T) (dir string, r *release) {
	t.Helper()
	if *dist == "" {
		t.Skip("there is no release to test; make packages builds one")
	}
	var version struct {
		Version string `json:"solstice_version"`
		Commit  string `json:"solstice_commit"`
		Date    string `json:"solstice_date"`
	}
	binaries, err := filepath.Glob(filepath.Join(*dist, "solstice_*_"+runtime.GOOS+"_"+runtime.GOARCH))
	if err != nil || len(binaries) != 1 {
		t.Fatalf("%s has the binaries %q for this machine, want one (%v)", *dist, binaries, err)
	}
	out := run(t, exec.Command(binaries[0], "version", "--cosmovisor-only", "-o", "json"))
	check(t, json.Unmarshal([]byte(out), &version))
	date, err := time.Parse(time.RFC3339, version.Date)
	check(t, err)
	return *dist, &release{Out: *dist, Version: version.Version, Commit: version.Commit, Date: date}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return string(out)
}

// needs skips a test where a program is missing.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip(err)
		}
	}
}

// asRoot skips a test where it can't install.
func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("installing needs root")
	}
}

func TestPackageVersion(t *testing.T) {
	date := time.Date(2026, 11, 25, 22, 5, 53, 0, time.UTC)
	versions := []string{ // in the order of the packages
		"76b75c8",
		"v1.2.0-rc1",
		"v1.2.0-rc1-5-gabc1234",
		"v1.2.0",
		"v1.2.0-5-gabc1234",
		"v1.2.0-5-gabc1234-dirty",
		"v1.10.0",
	}
	want := []string{"0~20261125220553.76b75c8", "1.2.0~rc1", "1.2.0~rc1+5.gabc1234", "1.2.0", "1.2.0+5.gabc1234", "1.2.0+5.gabc1234.dirty", "1.10.0"}
	var got []string
	for _, version := range versions {
		got = append(got, packageVersion(version, date))
	}
	if !slices.Equal(got, want) {
		t.Fatalf("versions %q, want %q", got, want)
	}
	needs(t, "dpkg")
	for i := range got[1:] {
		if err := exec.Command("dpkg", "--compare-versions", got[i], "lt", got[i+1]).Run(); err != nil {
			t.Errorf("dpkg does not put %s before %s", got[i], got[i+1])
		}
	}
}

// TestBinaries: there is one for each platform, it needs nothing beside it, and it says what it is.
func TestBinaries(t *testing.T) {
	dir, r := released(t)
	for _, platform := range platforms {
		goos, goarch, _ := strings.Cut(platform, "/")
		path := filepath.Join(dir, "solstice_"+r.Version+"_"+goos+"_"+goarch)
		info, err := buildinfo.ReadFile(path)
		check(t, err)
		if got := setting(info, "GOOS") + "/" + setting(info, "GOARCH"); got != platform || setting(info, "CGO_ENABLED") != "0" || setting(info, "-trimpath") != "true" {
			t.Errorf("%s is for %s, with the settings %v", path, got, info.Settings)
		}
		if goos == "darwin" {
			f, err := macho.Open(path)
			check(t, err)
			if want := map[string]macho.Cpu{"amd64": macho.CpuAmd64, "arm64": macho.CpuArm64}[goarch]; f.Cpu != want {
				t.Errorf("%s is for %v", path, f.Cpu)
			}
			f.Close()
			continue
		}
		f, err := elf.Open(path)
		check(t, err)
		if want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[goarch]; f.Machine != want {
			t.Errorf("%s is for %v", path, f.Machine)
		}
		if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC }) {
			t.Errorf("%s is not static", path)
		}
		f.Close()
	}
	if r.Commit == "" || r.Date.IsZero() {
		t.Errorf("the binary does not say its commit and date: %+v", r)
	}
	if commit, err := output(exec.Command("git", "-C", root, "rev-parse", "HEAD")); err == nil && r.Commit != strings.TrimSpace(commit) {
		t.Errorf("the release is of commit %s, this is %s: make dist", r.Commit, commit)
	}
}

// TestChecksums: all that was built is in the list, with its digest.
func TestChecksums(t *testing.T) {
	dir, _ := released(t)
	f, err := os.Open(filepath.Join(dir, checksums))
	check(t, err)
	defer f.Close()
	var listed []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		sum, name, _ := strings.Cut(lines.Text(), "  ")
		listed = append(listed, name)
		if got, err := digest(filepath.Join(dir, name)); err != nil || got != sum {
			t.Errorf("%s has the digest %s, %v, want %s", name, got, err, sum)
		}
	}
	entries, err := os.ReadDir(dir)
	check(t, err)
	for _, e := range entries {
		if e.Name() != checksums && !slices.Contains(listed, e.Name()) {
			t.Errorf("%s is not in the list", e.Name())
		}
	}
	if want := 4 + 4 + 4; len(listed) != want { // binaries, bills, packages
		t.Errorf("the list has %d files, want %d: %q", len(listed), want, listed)
	}
}

// TestBill: the bill of a binary is what go version -m finds in it, in the shape of CycloneDX 1.6.
func TestBill(t *testing.T) {
	dir, r := released(t)
	path := filepath.Join(dir, "solstice_"+r.Version+"_linux_amd64")
	content, err := os.ReadFile(path + ".cdx.json")
	check(t, err)
	var b bill
	strict := json.NewDecoder(bytes.NewReader(content))
	strict.DisallowUnknownFields()
	check(t, strict.Decode(&b))
	if b.Format != "CycloneDX" || b.Spec != "1.6" || b.Version != 1 {
		t.Errorf("the bill is %s %s, version %d", b.Format, b.Spec, b.Version)
	}
	if !regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(b.Serial) {
		t.Errorf("the serial number is %s", b.Serial)
	}
	self := b.Metadata.Component
	if sum, err := digest(path); err != nil || len(self.Hashes) != 1 || self.Hashes[0] != (hash{"SHA-256", sum}) {
		t.Errorf("the bill is of %v, the binary's digest is %s, %v", self.Hashes, sum, err)
	}
	refs := map[string]bool{self.Ref: true}
	var listed []string
	for _, c := range b.Components {
		if c.Type != "library" || c.Name == "" || c.PURL != "pkg:golang/"+c.Name+"@"+c.Version || refs[c.Ref] {
			t.Errorf("component %+v", c)
		}
		refs[c.Ref] = true
		if c.Name != "stdlib" {
			listed = append(listed, c.Name+" "+c.Version+" "+c.Properties[0].Value)
		}
	}
	if len(b.Dependencies) != 1 || b.Dependencies[0].Ref != self.Ref || len(b.Dependencies[0].DependsOn) != len(b.Components) {
		t.Errorf("dependencies %+v", b.Dependencies)
	}
	for _, d := range b.Dependencies {
		for _, ref := range d.DependsOn {
			if !refs[ref] {
				t.Errorf("a dependency on %s, which is no component", ref)
			}
		}
	}
	var linked []string
	for line := range strings.Lines(run(t, exec.Command("go", "version", "-m", path))) {
		if fields := strings.Fields(line); len(fields) == 4 && fields[0] == "dep" {
			linked = append(linked, strings.Join(fields[1:], " "))
		}
	}
	if len(linked) == 0 || !slices.Equal(linked, listed) {
		t.Errorf("the bill has %q, the binary %q", listed, linked)
	}
}

// TestReproducible: the same source in another folder, built with another cache, gives the same bytes: a binary, its bill, and the
// packages. It compiles everything once more.
func TestReproducible(t *testing.T) {
	dir, r := released(t)
	if testing.Short() {
		t.Skip("compiles everything once more")
	}
	t.Parallel()
	elsewhere := filepath.Join(t.TempDir(), "else", "where")
	files, err := output(exec.Command("git", "-C", root, "ls-files", "-z"))
	if err != nil {
		t.Skipf("what belongs to the source is not known: %v", err)
	}
	for name := range strings.SplitSeq(strings.TrimRight(files, "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		check(t, err)
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(elsewhere, name)), 0o700))
		check(t, os.WriteFile(filepath.Join(elsewhere, name), content, 0o600))
	}
	nfpm, err := filepath.Glob(filepath.Join(root, "bin", "nfpm-*"))
	check(t, err)
	if len(nfpm) == 0 {
		t.Skip("there is no nfpm in bin/; make packages gets it")
	}
	tool, err := filepath.Abs(nfpm[0])
	check(t, err)
	out := filepath.Join(elsewhere, "out")
	cmd := exec.Command("go", "run", "./cmd/dist", "-o", out, "-nfpm", tool, "-platforms", "linux/amd64",
		"-version", r.Version, "-commit", r.Commit, "-date", r.Date.In(time.FixedZone("", 7*3600)).Format(time.RFC3339))
	cmd.Dir = elsewhere
	// With the flags of a release the tool itself needs no other standard library than the binary does.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath", "GOCACHE="+filepath.Join(t.TempDir(), "cache"), "TZ=Asia/Tokyo")
	start := time.Now()
	t.Logf("compiling everything once more, in another folder\n%s", run(t, cmd))
	t.Logf("took %v", time.Since(start).Round(time.Second))
	entries, err := os.ReadDir(out)
	check(t, err)
	compared := 0
	for _, e := range entries {
		if e.Name() == checksums {
			continue
		}
		got, err := digest(filepath.Join(out, e.Name()))
		check(t, err)
		want, err := digest(filepath.Join(dir, e.Name()))
		check(t, err)
		if got != want {
			t.Errorf("%s built elsewhere has the digest %s, not %s", e.Name(), got, want)
		}
		compared++
	}
	if compared != 4 {
		t.Errorf("compared %d files, want a binary, its bill, a .deb and an .rpm", compared)
	}
}

// packageOf is the package for this machine.
func packageOf(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s has the packages %q, want one (%v)", dir, found, err)
	}
	return found[0]
}

// TestDebian installs the package below a folder, uses what is in it, gives it the name cosmovisor, and removes it.
func TestDebian(t *testing.T) {
	dir, r := released(t)
	needs(t, "dpkg", "update-alternatives", "chroot", "gzip")
	asRoot(t)
	deb := packageOf(t, dir, "solstice_*_"+runtime.GOARCH+".deb")
	target := t.TempDir()
	for _, folder := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/alternatives", "var/log", "etc/alternatives"} {
		check(t, os.MkdirAll(filepath.Join(target, folder), 0o755))
	}
	check(t, os.WriteFile(filepath.Join(target, "var/lib/dpkg/status"), nil, 0o644))
	dpkg := func(args ...string) string {
		t.Helper()
		return run(t, exec.Command("dpkg", append([]string{"--root=" + target, "--force-script-chrootless"}, args...)...))
	}
	at := func(path string) string { return filepath.Join(target, path) }
	exists := func(path string) bool { _, err := os.Lstat(at(path)); return err == nil }
	dpkg("-i", deb)

	// It works, with its manual and completions.
	solstice := at("usr/bin/solstice")
	home, node := t.TempDir(), filepath.Join(t.TempDir(), "mynode")
	check(t, os.WriteFile(node, []byte("#!/bin/sh\necho mynode 1.0\n"), 0o755))
	use := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(solstice, args...)
		cmd.Env = append(os.Environ(), "DAEMON_HOME="+home, "DAEMON_NAME=mynode")
		return run(t, cmd)
	}
	use("init", node)
	want := fmt.Sprintf("solstice version: %s (commit %.12s of %s)\nmynode 1.0\n", r.Version, r.Commit, r.Date.Format(time.RFC3339))
	if got := use("version"); got != want {
		t.Errorf("version says %q, want %q", got, want)
	}
	for _, page := range []string{"solstice", "solstice-run", "solstice-status", "solstice-snapshot-restore"} {
		text := run(t, exec.Command("gzip", "-dc", at("usr/share/man/man1/"+page+".1.gz")))
		if !strings.HasPrefix(text, ".TH ") || !strings.Contains(text, r.Version) {
			t.Errorf("the page of %s begins with %.100q", page, text)
		}
	}
	if _, err := exec.LookPath("man"); err == nil {
		cmd := exec.Command("man", "-M", at("usr/share/man"), "-P", "cat", "--warnings=all", "solstice-status")
		cmd.Env = append(os.Environ(), "MANWIDTH=100", "LC_ALL=C")
		if got := run(t, cmd); !strings.Contains(got, "--check[=alive]") || strings.Contains(got, "warning:") {
			t.Errorf("man shows\n%s", got)
		}
	}
	if _, err := exec.LookPath("bash"); err == nil {
		run(t, exec.Command("bash", "-n", at("usr/share/bash-completion/completions/solstice")))
	}
	if got := use("__complete", "sta"); !strings.HasPrefix(got, "status\t") {
		t.Errorf("sta is completed to %q", got)
	}
	for _, path := range []string{"usr/lib/systemd/system/solstice@.service", "usr/share/zsh/vendor-completions/_solstice",
		"usr/share/fish/vendor_completions.d/solstice.fish", "usr/share/doc/solstice/example.env", "usr/share/doc/solstice/solstice.cdx.json"} {
		if !exists(path) {
			t.Errorf("%s is not installed", path)
		}
	}
	texts, err := os.ReadFile(at("usr/share/doc/solstice/copyright"))
	check(t, err)
	info, err := buildinfo.ReadFile(solstice)
	check(t, err)
	for _, m := range info.Deps {
		if !bytes.Contains(texts, []byte(m.Path+" "+m.Version+", ")) {
			t.Errorf("the licence of %s is not handed on", m.Path)
		}
	}

	// The name cosmovisor is given by a command, kept over an update of the package, and goes with it.
	if exists("usr/bin/cosmovisor") {
		t.Error("the name cosmovisor is taken without being asked for")
	}
	const alternative = "update-alternatives --install /usr/bin/cosmovisor cosmovisor /usr/bin/solstice 10"
	page, err := os.ReadFile(filepath.Join(root, "docs/install.md"))
	check(t, err)
	if !bytes.Contains(page, []byte(alternative+"\n")) {
		t.Errorf("docs/install.md does not say %s", alternative)
	}
	words := strings.Fields(alternative)
	run(t, exec.Command(words[0], append([]string{"--root", target, "--log", at("var/log/alternatives.log")}, words[1:]...)...))
	if got := run(t, exec.Command("chroot", target, "/usr/bin/cosmovisor", "version", "--cosmovisor-only")); !strings.Contains(got, r.Version) {
		t.Errorf("cosmovisor says %q", got)
	}
	check(t, os.WriteFile(at("etc/solstice/gaia.env"), []byte("DAEMON_NAME=gaiad\n"), 0o600))
	dpkg("-i", deb)
	if !exists("usr/bin/cosmovisor") {
		t.Error("an update of the package takes the name cosmovisor away")
	}

	// Nothing stays but what the operator has written.
	dpkg("-P", "solstice")
	for _, path := range []string{"usr/bin/solstice", "usr/bin/cosmovisor", "etc/alternatives/cosmovisor", "usr/lib/systemd/system/solstice@.service", "usr/share/man/man1/solstice.1.gz"} {
		if exists(path) {
			t.Errorf("%s stays after the package is gone", path)
		}
	}
	if !exists("etc/solstice/gaia.env") {
		t.Error("the operator's settings are gone with the package")
	}
}

// TestRedHat: the .rpm holds what the .deb holds, and asks for nothing.
func TestRedHat(t *testing.T) {
	dir, r := released(t)
	needs(t, "rpm", "dpkg-deb", "tar")
	rpm := packageOf(t, dir, "solstice-*."+map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]+".rpm")
	query := func(args ...string) string {
		t.Helper()
		return run(t, exec.Command("rpm", append(args, rpm)...))
	}
	if got, want := query("-qp", "--qf", "%{NAME} %{VERSION} %{BUILDHOST}"), "solstice "+packageVersion(r.Version, r.Date)+" localhost"; got != want {
		t.Errorf("it is %s, want %s", got, want)
	}
	var inRPM, inDeb []string
	for path := range strings.Lines(query("-qlp")) {
		inRPM = append(inRPM, strings.TrimSpace(path))
	}
	list := exec.Command("sh", "-c", `dpkg-deb --fsys-tarfile "$0" | tar -t`, packageOf(t, dir, "solstice_*_"+runtime.GOARCH+".deb"))
	for path := range strings.Lines(run(t, list)) {
		path = strings.TrimSpace(strings.TrimPrefix(path, "."))
		if !strings.HasSuffix(path, "/") || path == "/etc/solstice/" {
			inDeb = append(inDeb, strings.TrimSuffix(strings.Replace(path, "vendor-completions/_", "site-functions/_", 1), "/"))
		}
	}
	slices.Sort(inRPM)
	slices.Sort(inDeb)
	if len(inRPM) == 0 || !slices.Equal(inRPM, inDeb) {
		t.Errorf("the .rpm has %q, the .deb %q", inRPM, inDeb)
	}
	for need := range strings.Lines(query("-qRp")) {
		if need = strings.TrimSpace(need); !strings.HasPrefix(need, "rpmlib(") && need != "/bin/sh" && !strings.HasPrefix(need, "config(") {
			t.Errorf("it needs %s", need)
		}
	}
	// The same scripts as in the .deb, whose removal TestDebian tries.
	if got := query("-qp", "--scripts"); !strings.Contains(got, "--remove cosmovisor /usr/bin/solstice") {
		t.Errorf("its scripts are\n%s", got)
	}
}

// TestUnit: systemd takes every line of the unit template. It exits with 0 for a key that it doesn't know, and says so.
func TestUnit(t *testing.T) {
	needs(t, "systemd-analyze")
	unit, err := os.ReadFile(filepath.Join(root, "packaging/solstice@.service"))
	check(t, err)
	self, err := os.Executable()
	check(t, err)
	path := filepath.Join(t.TempDir(), "solstice@.service")
	// systemd looks whether the program is there.
	check(t, os.WriteFile(path, bytes.ReplaceAll(unit, []byte("/usr/bin/solstice "), []byte(self+" ")), 0o644))
	cmd := exec.Command("systemd-analyze", "verify", "--man=no", path)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// TestStepsNameThemselves: a step that fails names itself, and what the program said.
func TestStepsNameThemselves(t *testing.T) {
	err := timed("build for nowhere", func() error {
		_, err := output(exec.Command("go", "version", "no-such-file"))
		return err
	})
	if err == nil || !strings.HasPrefix(err.Error(), "build for nowhere: go version no-such-file: exit status 1\n") || !strings.Contains(err.Error(), "no-such-file: no such file") {
		t.Errorf("the error is %v", err)
	}
}
