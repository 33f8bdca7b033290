package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"solstice/testchain/network"
)

// TestReadiness: a plan is seen long before its height. What would spoil the upgrade is done to a running node, one thing after
// the other, and mended; the verdict follows each time. In the end it is ready.
func TestReadiness(t *testing.T) {
	t.Parallel()
	ctx, nw := layOut(t, network.Config{BlockTime: 250 * time.Millisecond})
	h := home(t, nw.Nodes[0])
	h.run("init", built.chain.V1)
	resize := h.dataOnSmallDisk()
	ctx = h.start(ctx)
	check(t, h.Node.WaitHeight(ctx, 2))
	_, err := nw.ScheduleUpgrade(ctx, built.chain.V1, "v2", "", 2000)
	check(t, err)

	h.doctor(ctx, "binary", "not ready", "is not there")
	h.supervisorSees(ctx, "binary", "not ready")
	h.testBinaries(ctx)
	h.place(read(t, built.chain.V2))
	h.supervisorSees(ctx, "binary", "ok")
	h.doctor(ctx, "handler", "unknown", `the name "v2" is so short that it occurs in any binary`)
	h.testVerified(ctx)

	other := filepath.Join(h.Node.Home, "cosmovisor", "upgrades", "V2")
	check(t, os.Mkdir(other, 0o755))
	h.doctor(ctx, "folder", "not ready", "two folders for the plan: V2 and v2")
	check(t, os.Remove(other))
	h.doctor(ctx, "folder", "ok", "one folder")

	h.testSettings(ctx)
	if resize != nil {
		resize("200m")
		h.doctor(ctx, "space", "warning", "GiB free beside data/, and 1.0 GiB are wanted")
		resize("3g")
		h.doctor(ctx, "space", "ok", "GiB free beside data/")
	}
	h.testOpenFiles(ctx)
	h.stop()
}

// place puts a program where the binary of v2 belongs, for everybody to execute.
func (n *node) place(content []byte) {
	n.t.Helper()
	n.placeAs(content, 0o755)
}

func (n *node) placeAs(content []byte, mode os.FileMode) {
	n.t.Helper()
	path := filepath.Join(n.Node.Home, "cosmovisor", "upgrades", "v2", "bin", "chaind")
	check(n.t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(n.t, os.WriteFile(path+".new", content, mode))
	check(n.t, os.Rename(path+".new", path))
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	check(t, err)
	return content
}

// testBinaries brings binaries that are no good.
func (n *node) testBinaries(ctx context.Context) {
	n.t.Helper()
	n.place(foreign(n.t))
	n.doctor(ctx, "binary", "not ready", "is a program for linux/arm64, this machine is linux/")

	n.placeAs([]byte("#!/bin/sh\nexit 7\n"), 0o644)
	n.doctor(ctx, "runs", "not ready", "it does not run: exit status 7")
	n.doctor(ctx, "handler", "warning", "occurs nowhere in the binary")
	n.supervisorSees(ctx, "runs", "not ready")

	n.place([]byte("#!/bin/sh\necho '{\"name\":\"otherd\",\"version\":\"2\"}'\n"))
	n.doctor(ctx, "runs", "not ready", `it is "otherd", and the one in use is`)

	n.place(read(n.t, built.chain.V1))
	n.doctor(ctx, "runs", "warning", "the same version as the one in use")

	// A program that needs a library that is not here, until it is brought.
	shell, err := os.ReadFile("/bin/bash")
	libraries, _ := filepath.Glob("/lib/*/libtinfo.so.6")
	if err != nil || len(libraries) == 0 || !bytes.Contains(shell, []byte("libtinfo.so.6\x00")) {
		n.t.Log("left out: a missing library needs a bash that uses libtinfo")
		return
	}
	n.place(bytes.ReplaceAll(shell, []byte("libtinfo.so.6\x00"), []byte("libtinfX.so.6\x00")))
	n.doctor(ctx, "libraries", "not ready", `chaind needs "libtinfX.so.6", which is not here`)
	lib := filepath.Join(n.Node.Home, "cosmovisor", "upgrades", "v2", "lib")
	check(n.t, os.Mkdir(lib, 0o755))
	check(n.t, os.WriteFile(filepath.Join(lib, "libtinfX.so.6"), read(n.t, libraries[0]), 0o644))
	n.doctor(ctx, "libraries", "ok", "libraries are here")
	check(n.t, os.RemoveAll(lib))
}

// testVerified brings the binary by a download, then changes it.
func (n *node) testVerified(ctx context.Context) {
	n.t.Helper()
	v2 := read(n.t, built.chain.V2)
	info := filepath.Join(n.t.TempDir(), "info.json")
	check(n.t, os.WriteFile(info, fmt.Appendf(nil, `{"binaries":{"any":"file:%s?checksum=sha256:%x"}}`, built.chain.V2, sha256.Sum256(v2)), 0o644))
	check(n.t, os.RemoveAll(filepath.Join(n.Node.Home, "cosmovisor", "upgrades", "v2")))
	n.run("prepare-upgrade", "--info", info, "--name", "v2")
	n.doctor(ctx, "verified", "ok", "as it was downloaded from file:")
	n.place(append(v2, 0))
	n.doctorNot(ctx, "verified", "ok", "and what came from file:")
	n.place(v2)
	n.doctor(ctx, "verified", "ok", "as it was downloaded from file:")
}

// testSettings leaves settings behind that would spoil it, one after the other.
func (n *node) testSettings(ctx context.Context) {
	n.t.Helper()
	config := filepath.Join(n.Node.Home, "config")
	for _, s := range []struct{ file, good, bad, check, verdict, says, mended string }{
		{"app.toml", "halt-height = 0", "halt-height = 99999", "halt", "warning", "halt-height is 99999", "no halt-height"},
		{"config.toml", "[statesync]", "[statesync]\nenable = true\n[left]", "state sync", "warning", "state sync is enabled", "state sync is off"},
		{"config.toml", `priv_validator_laddr = ""`, `priv_validator_laddr = "tcp://127.0.0.1:1"`, "signer", "not ready", "no remote signer is connected to tcp://127.0.0.1:1", "no remote signer is set up"},
	} {
		path := filepath.Join(config, s.file)
		content := read(n.t, path)
		spoiled := bytes.Replace(content, []byte(s.good), []byte(s.bad), 1)
		if bytes.Equal(content, spoiled) {
			n.t.Fatalf("%s has no %s", path, s.good)
		}
		check(n.t, os.WriteFile(path, spoiled, 0o644))
		n.doctor(ctx, s.check, s.verdict, s.says)
		check(n.t, os.WriteFile(path, content, 0o644))
		n.doctor(ctx, s.check, "ok", s.mended)
	}
}

// dataOnSmallDisk moves the data of a node that was not started yet to a disk of its own, whose size can be changed. resize is nil
// where only root could.
func (n *node) dataOnSmallDisk() (resize func(size string)) {
	n.t.Helper()
	if os.Getuid() != 0 {
		n.t.Log("left out: only root can mount a small disk")
		return nil
	}
	data := filepath.Join(n.Node.Home, "data")
	dir, resize := mountDisk(n.t, "3g")
	check(n.t, os.CopyFS(dir, os.DirFS(data)))
	check(n.t, os.RemoveAll(data))
	check(n.t, os.Symlink(dir, data))
	return resize
}

// testOpenFiles takes the running node's right to open files.
func (n *node) testOpenFiles(ctx context.Context) {
	n.t.Helper()
	prlimit, err := exec.LookPath("prlimit")
	if err != nil || os.Getuid() != 0 {
		n.t.Log("left out: it needs prlimit, and root to raise the limit again")
		return
	}
	status, err := n.Status(ctx)
	check(n.t, err)
	limit := func(files string) {
		n.t.Helper()
		check(n.t, exec.Command(prlimit, fmt.Sprintf("--pid=%d", status.Node.PID), "--nofile="+files).Run())
	}
	limit("1024:8192")
	n.doctor(ctx, "open files", "warning", "the node may open 1024 files")
	limit("8192:8192")
	n.doctor(ctx, "open files", "ok", "the node may open 8192 files")
}

// verdicts is what solstice finds of readiness, in doctor as in status.
type verdicts struct {
	Plan    string `json:"plan"`
	Verdict string `json:"verdict"`
	Checks  []struct {
		Name     string `json:"name"`
		Verdict  string `json:"verdict"`
		Evidence string `json:"evidence"`
		Do       string `json:"do"`
	} `json:"checks"`
}

// doctor asks solstice doctor for one check's verdict and a part of its evidence.
func (n *node) doctor(ctx context.Context, name, want, says string) {
	n.t.Helper()
	if verdict, evidence := n.ask(ctx, name); verdict != want || !strings.Contains(evidence, says) {
		n.t.Errorf("doctor: %s is %s: %s; want %s, with %q in it", name, verdict, evidence, want, says)
	}
}

// doctorNot is doctor for a verdict that it must not be.
func (n *node) doctorNot(ctx context.Context, name, unwanted, says string) {
	n.t.Helper()
	if verdict, evidence := n.ask(ctx, name); verdict == unwanted || verdict == "" || !strings.Contains(evidence, says) {
		n.t.Errorf("doctor: %s is %s: %s; want another verdict, with %q in it", name, verdict, evidence, says)
	}
}

// ask runs solstice doctor, checks that its exit code goes with what it finds and that each bad verdict says what to do, and
// returns one check's.
func (n *node) ask(ctx context.Context, name string, more ...string) (verdict, evidence string) {
	n.t.Helper()
	var out bytes.Buffer
	cmd := n.Command(ctx, append([]string{"doctor", "-o", "json"}, more...)...)
	cmd.Stdout = &out
	err := run(ctx, cmd)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		check(n.t, err)
	}
	var v verdicts
	check(n.t, json.Unmarshal(out.Bytes(), &v))
	bad := 0
	for _, c := range v.Checks {
		if c.Verdict == "not ready" {
			bad++
		}
		if c.Verdict != "ok" && c.Do == "" {
			n.t.Errorf("doctor: %s is %s and does not say what to do", c.Name, c.Verdict)
		}
		if c.Name == name {
			verdict, evidence = c.Verdict, c.Evidence
		}
	}
	if want := map[bool]int{true: 3}[bad > 0]; code != want || v.Plan != "v2" {
		n.t.Errorf("doctor ended with %d for plan %q, with %d that are not ready; want %d for v2", code, v.Plan, bad, want)
	}
	return verdict, evidence
}

// supervisorSees waits until the supervisor has found this by itself.
func (n *node) supervisorSees(ctx context.Context, name, want string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	last := "nothing"
	err := Wait(ctx, func() (bool, error) {
		out, err := n.Run(ctx, "status", "-o", "json")
		if err != nil {
			return false, err
		}
		var s struct {
			Readiness verdicts `json:"readiness"`
		}
		err = json.Unmarshal([]byte(out), &s)
		for _, c := range s.Readiness.Checks {
			if c.Name == name {
				last = c.Verdict
			}
		}
		return last == want, err
	})
	if err != nil {
		n.t.Errorf("the supervisor finds %s %s, want %s: %v", name, last, want, err)
	}
}

// foreign builds a program for a machine that this one is not.
func foreign(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	source, path := filepath.Join(dir, "main.go"), filepath.Join(dir, "foreign")
	check(t, os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o644))
	cmd := exec.Command("go", "build", "-o", path, source)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build for arm64: %v: %s", err, out)
	}
	return read(t, path)
}
