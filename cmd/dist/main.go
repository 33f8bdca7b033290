// Command dist builds what a release consists of: a static binary for each platform with a list of what is in it, packages for
// Debian and for Red Hat's kin, and the checksums of all.
//
// The same commit and the same Go make the same bytes, wherever and whenever it runs: no path, no clock and no host name gets in. The
// time in a binary or a package is the commit's.
package main

import (
	"cmp"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// checksums is the name of the file that sha256sum -c reads.
const checksums = "SHA256SUMS"

// platforms are those that a release is built for.
var platforms = []string{"linux/amd64", "linux/arm64", "darwin/amd64", "darwin/arm64"}

// release is one run.
type release struct {
	Out     string    // the folder for what is built
	Nfpm    string    // the program that makes packages; empty: none are made
	Version string    // as solstice version says it
	Commit  string    // that it is built from
	Date    time.Time // of the commit
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("dist: ")
	var r release
	var date string
	targets := strings.Join(platforms, ",")
	flag.StringVar(&r.Out, "o", "bin/dist", "the folder for what is built")
	flag.StringVar(&r.Nfpm, "nfpm", "", "the nfpm program; without it no packages are made")
	flag.StringVar(&targets, "platforms", targets, "OS/ARCH,...")
	flag.StringVar(&r.Version, "version", "", "the version (default: what git says)")
	flag.StringVar(&r.Commit, "commit", "", "the commit (default: what git says)")
	flag.StringVar(&date, "date", "", "the commit's time, RFC 3339 (default: what git says)")
	flag.Parse()
	if err := r.build(strings.Split(targets, ","), date); err != nil {
		log.Fatal(err)
	}
}

// build makes a release in Out.
func (r *release) build(targets []string, date string) (err error) {
	if err := r.identify(date); err != nil {
		return err
	}
	if r.Out, err = filepath.Abs(r.Out); err != nil {
		return err
	}
	if strings.ContainsRune(r.Nfpm, filepath.Separator) { // else it is looked up in PATH
		if r.Nfpm, err = filepath.Abs(r.Nfpm); err != nil {
			return err
		}
	}
	if err := r.clear(); err != nil {
		return err
	}
	host, err := os.MkdirTemp("", "solstice-dist-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(host)
	pages, err := r.pages(host)
	if err != nil {
		return err
	}
	for _, target := range targets {
		goos, goarch, _ := strings.Cut(target, "/")
		binary := filepath.Join(r.Out, fmt.Sprintf("solstice_%s_%s_%s", r.Version, goos, goarch))
		if err := timed("build for "+target, func() error { return r.compile(binary, goos, goarch) }); err != nil {
			return err
		}
		if err := r.writeBill(binary); err != nil {
			return err
		}
		if goos != "linux" || r.Nfpm == "" {
			continue
		}
		if err := timed("packages for "+target, func() error { return r.pack(binary, pages, goarch) }); err != nil {
			return err
		}
	}
	return r.writeChecksums()
}

// identify fills in what git knows of the source.
func (r *release) identify(date string) error {
	for _, ask := range []struct {
		value *string
		args  []string
	}{
		{&r.Version, []string{"describe", "--tags", "--always", "--dirty"}},
		{&r.Commit, []string{"rev-parse", "HEAD"}},
		{&date, []string{"log", "-1", "--format=%cI"}},
	} {
		if *ask.value != "" {
			continue
		}
		out, err := output(exec.Command("git", ask.args...))
		if err != nil {
			return err
		}
		*ask.value = strings.TrimSpace(out)
	}
	r.Version = strings.ReplaceAll(r.Version, "/", "-")
	at, err := time.Parse(time.RFC3339, date)
	r.Date = at.UTC()
	return err
}

// clear removes what an earlier run built.
func (r *release) clear() error {
	if err := os.MkdirAll(r.Out, 0o755); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(r.Out, "solstice*"))
	if err != nil {
		return err
	}
	for _, path := range append(old, filepath.Join(r.Out, checksums)) {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

// compile builds a static binary. Nothing of this machine and its settings gets into it.
func (r *release) compile(binary, goos, goarch string) error {
	flags := fmt.Sprintf("-s -w -buildid= -X main.version=%s -X main.commit=%s -X main.date=%s", r.Version, r.Commit, r.Date.Format(time.RFC3339))
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags="+flags, "-o", binary, "./cmd/solstice")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0", "GOOS="+goos, "GOARCH="+goarch)
	_, err := output(cmd)
	return err
}

// pages makes the manual and the completions, by a binary for this machine.
func (r *release) pages(dir string) (pages string, err error) {
	binary, pages := filepath.Join(dir, "solstice"), filepath.Join(dir, "pages")
	if err := timed("build for this machine, manual, completions", func() error { return r.compile(binary, runtime.GOOS, runtime.GOARCH) }); err != nil {
		return "", err
	}
	for _, folder := range []string{"man", "completions"} {
		if err := os.MkdirAll(filepath.Join(pages, folder), 0o755); err != nil {
			return "", err
		}
	}
	if _, err := output(exec.Command(binary, "man", filepath.Join(pages, "man"))); err != nil {
		return "", err
	}
	for _, shell := range []string{"bash", "fish", "zsh"} {
		text, err := output(exec.Command(binary, "completion", shell))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(pages, "completions", "solstice."+shell), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return pages, nil
}

// writeChecksums lists all that was built.
func (r *release) writeChecksums() error {
	entries, err := os.ReadDir(r.Out) // sorted
	if err != nil {
		return err
	}
	var list strings.Builder
	for _, e := range entries {
		sum, err := digest(filepath.Join(r.Out, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&list, "%s  %s\n", sum, e.Name())
	}
	return os.WriteFile(filepath.Join(r.Out, checksums), []byte(list.String()), 0o644)
}

func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

// described is what git describe says of a tag, such as v1.2.0-rc1-5-gabc1234-dirty.
var described = regexp.MustCompile(`^v?(\d+\.\d+\.\d+)(-.*?)??(-\d+-g[0-9a-f]+)?(-dirty)?$`)

// packageVersion is the version as dpkg and rpm order it: a candidate comes before its release, what was built between two releases
// comes between them, and what is older than the first tag comes before everything, by its date.
func packageVersion(version string, date time.Time) string {
	parts := described.FindStringSubmatch(version)
	dots := func(text string) string { return strings.ReplaceAll(strings.TrimPrefix(text, "-"), "-", ".") }
	if parts == nil {
		return "0~" + date.UTC().Format("20060102150405") + "." + dots(version)
	}
	text := parts[1]
	if parts[2] != "" {
		text += "~" + dots(parts[2])
	}
	if more := cmp.Or(parts[3], parts[4]); more != "" {
		text += "+" + dots(parts[3]+parts[4])
	}
	return text
}

// timed says how long a step took: the first build of a platform takes long.
func timed(name string, step func() error) error {
	start := time.Now()
	if err := step(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	log.Printf("%s: %v", name, time.Since(start).Round(100*time.Millisecond))
	return nil
}

// output runs a program. What it said is in the error.
func output(cmd *exec.Cmd) (string, error) {
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, said.String())
	}
	return string(out), err
}
