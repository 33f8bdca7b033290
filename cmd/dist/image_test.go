package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"solstice"
)

// TestContainer: the image from scratch is the first process of a container, as another user than root and on a root filesystem that
// can't be written: it lays out an empty volume, becomes healthy, carries the node through an upgrade, stops with it in good
// order, and goes on from the volume.
func TestContainer(t *testing.T) {
	dir, r := released(t)
	const limit = 8 * time.Minute
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, fmt.Errorf("the test is not done after %v", limit))
	defer cancel()
	if runtime.GOOS != "linux" {
		t.Skip("the containers of this machine are of another platform")
	}
	if out, err := exec.CommandContext(ctx, "docker", "version").CombinedOutput(); err != nil {
		t.Skipf("there is no Docker Engine: %v: %s", err, out)
	}
	t.Parallel() // with TestReproducible: it waits more than it works
	name := fmt.Sprintf("solstice-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	docker := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
		if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			said, _ := exec.Command("docker", "logs", "--tail", "30", name).CombinedOutput()
			t.Fatalf("docker %s: %v\n%s\n%s", strings.Join(args, " "), err, out, said)
		}
		return strings.TrimSpace(string(out))
	}
	t.Cleanup(func() {
		for _, args := range [][]string{{"rm", "--force", "--volumes", name}, {"volume", "rm", "--force", name}, {"image", "rm", "--force", name + ":node", name + ":solstice"}} {
			if out, err := exec.Command("docker", args...).CombinedOutput(); err != nil && !strings.Contains(string(out), "No such") {
				t.Errorf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
			}
		}
	})

	// The image as anybody builds it, and a node's as docs/install.md shows it.
	base, node := t.TempDir(), t.TempDir()
	place := func(to, from string) {
		t.Helper()
		check(t, os.MkdirAll(filepath.Dir(to), 0o755))
		content, err := os.ReadFile(from)
		check(t, err)
		check(t, os.WriteFile(to, content, 0o755))
	}
	place(filepath.Join(base, "Dockerfile"), filepath.Join(root, "Dockerfile"))
	place(filepath.Join(base, "bin", "solstice"), filepath.Join(dir, "solstice_"+r.Version+"_linux_"+runtime.GOARCH))
	noded := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", filepath.Join(node, "noded"), "./internal/testnode/noded")
	noded.Dir, noded.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	run(t, noded)
	check(t, os.MkdirAll(filepath.Join(node, "home", "data"), 0o755))
	check(t, os.MkdirAll(filepath.Join(node, "home", "config"), 0o755))
	check(t, os.WriteFile(filepath.Join(node, "home", "config", "noded.json"), []byte(`{"plans":[{"name":"v2","height":500}],"halt_exit":-1}`), 0o644))
	check(t, os.WriteFile(filepath.Join(node, "Dockerfile"), []byte("FROM "+name+`:solstice
COPY noded /usr/local/bin/noded
COPY --chown=1000:1000 home /home/node
ENV DAEMON_HOME=/home/node DAEMON_NAME=noded
CMD ["run", "start", "--home", "/home/node", "--rpc.laddr", "tcp://127.0.0.1:26657"]
`), 0o644))
	docker("build", "--quiet", "--tag", name+":solstice", base)
	docker("build", "--quiet", "--tag", name+":node", node)

	safe := []string{"--user", "1000:1000", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--volume", name + ":/home/node"}
	for range 2 { // the second time nothing changes: an init container runs before each start
		docker(append(append([]string{"run", "--rm"}, safe...), name+":node", "init", "/usr/local/bin/noded")...)
	}
	docker(append(append([]string{"run", "--detach", "--name", name, "--health-interval", "1s"}, safe...), name+":node")...)
	inside := func(args ...string) string {
		t.Helper()
		return docker(append([]string{"exec", name, "/usr/local/bin/solstice"}, args...)...)
	}
	status := func() (s solstice.Status) {
		t.Helper()
		check(t, json.Unmarshal([]byte(inside("status", "-o", "json")), &s))
		return s
	}
	await := func(what string, holds func() bool) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(200 * time.Millisecond) {
			if time.Now().After(deadline) {
				said, _ := exec.Command("docker", "logs", "--tail", "30", name).CombinedOutput()
				t.Fatalf("never %s\n%s", what, said)
			}
		}
	}
	asked := func(check string) bool {
		return exec.CommandContext(ctx, "docker", "exec", name, "/usr/local/bin/solstice", "status", check).Run() == nil
	}
	health := func() string { return docker("inspect", "--format", "{{.State.Health.Status}}", name) }

	await("ready", func() bool { return asked("--check=ready") })
	await("healthy", func() bool { return health() == "healthy" })
	if s := status(); s.Supervisor.PID != 1 || s.Node == nil {
		t.Errorf("solstice is process %d, the node %v", s.Supervisor.PID, s.Node)
	}
	if who := docker("inspect", "--format", "{{.Config.User}}", name); who != "1000:1000" {
		t.Errorf("it runs as %s", who)
	}

	// At the height without the binary it is alive, healthy for Docker, and not ready.
	await("waiting", func() bool { return status().Waiting != "" })
	if !asked("--check") || asked("--check=ready") || health() != "healthy" {
		t.Errorf("while it waits it is alive %v, ready %v, %s", asked("--check"), asked("--check=ready"), health())
	}
	inside("add-upgrade", "v2", "/usr/local/bin/noded")
	await("upgraded", func() bool { s := status(); return s.Binary.Dir == "upgrades/v2" && asked("--check=ready") })

	// It stops in good order, and goes on from the volume.
	docker("stop", "--time", "60", name)
	if code := docker("inspect", "--format", "{{.State.ExitCode}}", name); code != "0" {
		t.Errorf("stopped with exit code %s", code)
	}
	docker("start", name)
	await("ready again", func() bool { return asked("--check=ready") })
	if s := status(); s.Binary.Dir != "upgrades/v2" || s.Height.Committed < 500 {
		t.Errorf("after the restart it runs %s at height %v", s.Binary.Dir, s.Height)
	}
	if log := docker("logs", name); strings.Contains(log, "WRONG") || strings.Contains(log, "TWO NODES") {
		t.Errorf("the log says\n%s", log)
	}
}
