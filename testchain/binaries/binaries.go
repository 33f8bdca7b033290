// Package binaries builds the test chain's three versions and keeps them for the next test.
//
// The binaries lie in the user's cache folder, in a folder named after a hash of everything that
// goes into them. A binary has its final name only when it is whole: it is built in a folder that is
// removed again, and renamed. One build at a time works on a folder, guarded by a lock that the compiler's process
// holds too, so that a killed test leaves no second writer behind.
package binaries

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// module is the path of the module that holds the chain.
	module = "solstice/testchain"
	// keep is how long the binaries of other sources stay in the cache after their last use.
	keep = 7 * 24 * time.Hour
	// sdkVersion is the package that holds what the command version prints.
	sdkVersion = "github.com/cosmos/cosmos-sdk/version"
)

// Set is where the chain's binaries are. Each is named chaind, in a folder named after its version.
type Set struct{ V1, V2, V3 string }

// Build returns the chain's binaries and builds those that the cache doesn't have. The first build
// takes minutes: a line on progress says so every ten seconds. An interrupt of the process or the
// end of ctx ends the build.
func Build(ctx context.Context, progress io.Writer) (Set, error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()

	source, err := sourceDir(ctx)
	if err != nil {
		return Set{}, fmt.Errorf("find the test chain's source: %w", err)
	}
	hash, err := sourceHash(ctx, source)
	if err != nil {
		return Set{}, fmt.Errorf("hash the test chain's source: %w", err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return Set{}, err
	}
	dir := filepath.Join(cache, "solstice-testchain", hash)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Set{}, err
	}
	now := time.Now()
	if err := os.Chtimes(dir, now, now); err != nil {
		return Set{}, err
	}
	set := Set{
		V1: filepath.Join(dir, "v1", "chaind"),
		V2: filepath.Join(dir, "v2", "chaind"),
		V3: filepath.Join(dir, "v3", "chaind"),
	}
	if exists(set.V1) && exists(set.V2) && exists(set.V3) {
		return set, nil
	}

	lock, err := lockDir(ctx, dir, progress)
	if err != nil {
		return Set{}, fmt.Errorf("wait for another build: %w", err)
	}
	defer lock.Close()
	for _, binary := range []string{set.V1, set.V2, set.V3} {
		if exists(binary) {
			continue
		}
		if err := build(ctx, source, binary, lock, progress); err != nil {
			return Set{}, err
		}
	}
	return set, prune(filepath.Dir(dir), now.Add(-keep))
}

// sourceDir returns the folder of the module, wherever the calling test was started.
func sourceDir(ctx context.Context) (string, error) {
	out, err := goOutput(ctx, "list", "-m", "-f", "{{.Dir}}", module)
	if err == nil && out == "" {
		err = fmt.Errorf("go list knows no folder for %s", module)
	}
	return out, err
}

// sourceHash names the build: it covers the Go version, the arguments and all source files that the
// chain is made of.
func sourceHash(ctx context.Context, source string) (string, error) {
	version, err := goOutput(ctx, "version")
	if err != nil {
		return "", err
	}
	files := []string{"go.mod", "go.sum"}
	for _, dir := range []string{"app", "ledger", "cmd/chaind"} {
		matches, err := filepath.Glob(filepath.Join(source, dir, "*.go"))
		if err != nil {
			return "", err
		}
		for _, path := range matches {
			if !strings.HasSuffix(path, "_test.go") {
				files = append(files, filepath.Join(dir, filepath.Base(path)))
			}
		}
	}
	h := sha256.New()
	fmt.Fprintln(h, version, buildArgs("v1"))
	for _, name := range files {
		data, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n%s\n", name, len(data), data)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}

// buildArgs are the arguments of the go command that make a version. Without the tag CometBFT has no
// pebbledb.
func buildArgs(version string) []string {
	return []string{
		"build", "-trimpath", "-buildvcs=false", "-tags", "pebbledb", "-ldflags", strings.Join([]string{
			"-s -w",
			"-X " + module + "/app.Version=" + version,
			"-X " + sdkVersion + ".Name=chain",
			"-X " + sdkVersion + ".AppName=chaind",
			"-X " + sdkVersion + ".Version=" + version,
		}, " "),
	}
}

// build builds one version. When it fails or is cut off, no process and no file of it is left.
func build(ctx context.Context, source, binary string, lock *os.File, progress io.Writer) error {
	dir := filepath.Dir(binary)
	version := filepath.Base(dir)
	work := filepath.Join(dir, "building")
	if err := os.RemoveAll(work); err != nil { // a killed build's
		return err
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(work)

	built := filepath.Join(work, "chaind")
	cmd := exec.CommandContext(ctx, "go", append(buildArgs(version), "-o", built, "./cmd/chaind")...)
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=", "GOTMPDIR="+work)
	// The compilers are children of the go command: a process group of their own ends them all.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	cmd.ExtraFiles = []*os.File{lock}
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output

	start := time.Now()
	done := make(chan error, 1)
	go func() { done <- cmd.Run() }()
	alive := time.NewTicker(10 * time.Second)
	defer alive.Stop()
	fmt.Fprintf(progress, "building the test chain %s\n", version)
	for {
		select {
		case <-alive.C:
			fmt.Fprintf(progress, "building the test chain %s … %d s (the first build takes minutes)\n",
				version, int(time.Since(start).Seconds()))
		case err := <-done:
			switch {
			case ctx.Err() != nil:
				return fmt.Errorf("build the test chain %s: %w", version, ctx.Err())
			case err != nil:
				return fmt.Errorf("build the test chain %s: %w\n%s", version, err, output.String())
			}
			return os.Rename(built, binary)
		}
	}
}

// lockDir waits until no other build works on a folder. Closing the file unlocks it.
func lockDir(ctx context.Context, dir string, progress io.Writer) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for tries := 0; ; tries++ {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return lock, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			lock.Close()
			return nil, err
		}
		if tries%100 == 0 {
			fmt.Fprintln(progress, "waiting for another build of the test chain")
		}
		select {
		case <-ctx.Done():
			lock.Close()
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// prune removes the binaries that nobody has asked for since then.
func prune(cache string, since time.Time) error {
	entries, err := os.ReadDir(cache)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if info.ModTime().Before(since) {
			if err := os.RemoveAll(filepath.Join(cache, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// goOutput runs the go command and returns what it prints.
func goOutput(ctx context.Context, args ...string) (string, error) {
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// exists tells whether there is a file.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
