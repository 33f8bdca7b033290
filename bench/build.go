package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

const cosmovisorModule = "cosmossdk.io/tools/cosmovisor"

// build makes the programs: Solstice and the node anew in dir, Cosmovisor only if it is not in the cache. All are built
// in the same way.
func build(ctx context.Context, dir string) (cosmovisor, solstice tool, node string, err error) {
	progress("building solstice and the node")
	solstice = tool{"solstice", filepath.Join(dir, "solstice")}
	if err = goBuild(ctx, "..", "./cmd/solstice", solstice.path); err != nil {
		return
	}
	node = filepath.Join(dir, "benchnode")
	if err = goBuild(ctx, ".", "./benchnode", node); err != nil {
		return
	}
	cosmovisor = tool{name: "cosmovisor"}
	cosmovisor.path, err = cachedCosmovisor(ctx)
	return
}

// cachedCosmovisor returns Cosmovisor's binary. It is kept under a hash of everything that it depends on.
func cachedCosmovisor(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	fmt.Fprintln(hash, runtime.Version(), runtime.GOOS, runtime.GOARCH, buildFlags)
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		hash.Write(content)
	}
	path := filepath.Join(cache, "solstice-bench", fmt.Sprintf("%x", hash.Sum(nil)[:8]), "cosmovisor")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	progress("building cosmovisor, which takes some minutes the first time")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	if err := goBuild(ctx, ".", cosmovisorModule+"/cmd/cosmovisor", path+".new"); err != nil {
		return "", err
	}
	return path, os.Rename(path+".new", path)
}

var buildFlags = []string{"-trimpath", "-ldflags", "-s -w"}

func goBuild(ctx context.Context, dir, pkg, to string) error {
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build"}, buildFlags...), "-o", to, pkg)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s: %w", pkg, err)
	}
	return nil
}

// cosmovisorVersion is the version that go.mod requires.
func cosmovisorVersion(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", cosmovisorModule).Output()
	if err != nil {
		return "", fmt.Errorf("find the version of %s: %w", cosmovisorModule, err)
	}
	return strings.TrimPrefix(strings.TrimSpace(string(out)), "v"), nil
}
