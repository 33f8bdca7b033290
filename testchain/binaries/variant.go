package binaries

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Edit is a change of one of the chain's source files: the text Old, which must be there once, becomes New.
type Edit struct{ File, Old, New string }

// Variant returns a version, such as v2, built from sources with these changes, under a name of its own: one with a fault, say. It is
// kept beside the binaries of the set, which come from the same sources, and built by one process at a time.
func (s Set) Variant(ctx context.Context, version, name string, edits []Edit, progress io.Writer) (string, error) {
	dir := filepath.Join(filepath.Dir(filepath.Dir(s.V2)), version+"-"+name)
	binary := filepath.Join(dir, "chaind")
	want, err := json.Marshal(edits)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := lockDir(ctx, dir, progress)
	if err != nil {
		return "", fmt.Errorf("wait for another build: %w", err)
	}
	defer lock.Close()
	built := filepath.Join(dir, "edits.json") // written last
	if have, err := os.ReadFile(built); err == nil && string(have) == string(want) && exists(binary) {
		return binary, nil
	}
	source, err := sourceDir(ctx)
	if err != nil {
		return "", err
	}
	overlay, err := writeOverlay(source, dir, edits)
	if err != nil {
		return "", fmt.Errorf("change the sources for %s: %w", name, err)
	}
	fmt.Fprintf(progress, "building the test chain %s, %s\n", version, name)
	args := append(buildArgs(version), "-overlay", overlay, "-o", binary, "./cmd/chaind")
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=", "GOTMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the test chain %s, %s: %w\n%s", version, name, err, out)
	}
	return binary, os.WriteFile(built, want, 0o644)
}

// writeOverlay writes the changed files, and the file that tells the go command of them (go help build, -overlay).
func writeOverlay(source, dir string, edits []Edit) (string, error) {
	texts := map[string]string{}
	for _, e := range edits {
		path := filepath.Join(source, e.File)
		if texts[path] == "" {
			content, err := os.ReadFile(path)
			if err != nil {
				return "", err
			}
			texts[path] = string(content)
		}
		if n := strings.Count(texts[path], e.Old); n != 1 {
			return "", fmt.Errorf("%s has %q %d times, not once", e.File, e.Old, n)
		}
		texts[path] = strings.Replace(texts[path], e.Old, e.New, 1)
	}
	replace := map[string]string{}
	for path, text := range texts {
		changed := filepath.Join(dir, strings.ReplaceAll(strings.TrimPrefix(path, source+"/"), "/", "_")+".txt")
		if err := os.WriteFile(changed, []byte(text), 0o644); err != nil {
			return "", err
		}
		replace[path] = changed
	}
	content, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, content, 0o644)
}
