package binaries

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestBuild: two builds at once build each binary once, the next builds none, and a changed source
// has other binaries.
func TestBuild(t *testing.T) {
	source, log := fakeGo(t, `printf "$*" >"$out"`)
	var wg sync.WaitGroup
	sets := make([]Set, 2)
	for i := range sets {
		wg.Go(func() { sets[i] = mustBuild(t) })
	}
	wg.Wait()
	if sets[0] != sets[1] || mustBuild(t) != sets[0] {
		t.Errorf("builds of one source lie apart: %v", sets)
	}
	if got := strings.Count(read(t, log), "build\n"); got != 3 {
		t.Errorf("%d binaries were built, want 3", got)
	}
	if got, want := read(t, sets[0].V2), "-X solstice/testchain/app.Version=v2 "; !strings.Contains(got, want) {
		t.Errorf("v2 was built with %q, want %q", got, want)
	}
	if err := os.WriteFile(filepath.Join(source, "app", "app.go"), []byte("package app // changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if mustBuild(t) == sets[0] {
		t.Error("a changed source has the old binaries")
	}
}

// TestBuildCancelled: a build that is cut off leaves no process and no file.
func TestBuildCancelled(t *testing.T) {
	_, log := fakeGo(t, `printf half >"$out"; sleep 60 & echo "pid $!" >>"$LOG"; wait`)
	ctx, cancel := context.WithCancel(t.Context())
	pids := make(chan int, 1)
	go func() {
		defer cancel()
		for t.Context().Err() == nil {
			_, text, _ := strings.Cut(read(t, log), "pid ")
			if pid, err := strconv.Atoi(strings.TrimSuffix(text, "\n")); err == nil && strings.HasSuffix(text, "\n") {
				pids <- pid
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	if _, err := Build(ctx, io.Discard); !errors.Is(err, context.Canceled) {
		t.Fatalf("Build = %v, want %v", err, context.Canceled)
	}
	pid := <-pids
	for deadline := time.Now().Add(5 * time.Second); running(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d is left", pid)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(cache, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && entry.Name() != "lock" {
			t.Errorf("%s is left", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// running tells whether a process is alive; one that waits to be reaped isn't.
func running(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

// fakeGo puts a go command on the path that builds with a line of shell, and an empty cache. It
// returns the source's folder and a log of the builds.
func fakeGo(t *testing.T, build string) (source, log string) {
	t.Helper()
	dir := t.TempDir()
	source, log = filepath.Join(dir, "source"), filepath.Join(dir, "log")
	script := `#!/bin/sh
case "$1" in
list) echo "` + source + `" ;;
version) echo go version ;;
build)
	for out; do [ "$previous" = -o ] && break; previous=$out; done
	echo build >>"$LOG"
	` + build + `
	;;
esac
`
	for name, content := range map[string]string{
		"bin/go": script, "source/go.mod": "", "source/go.sum": "", "source/app/app.go": "package app", "log": "",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	t.Setenv("LOG", log)
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	t.Setenv("HOME", dir)
	return source, log
}

// mustBuild builds and expects no error.
func mustBuild(t *testing.T) Set {
	t.Helper()
	set, err := Build(t.Context(), io.Discard)
	if err != nil {
		t.Error(err)
	}
	return set
}

// read returns a file's content.
func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return string(data)
}
