package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// simulated is what solstice simulate -o json says, as far as it matters here.
type simulated struct {
	Passed   bool   `json:"passed"`
	Verdict  string `json:"verdict"`
	Upgrades []struct {
		Nodes []struct {
			Node     string `json:"node"`
			State    string `json:"state"`
			AppHash  string `json:"app_hash"`
			Standing struct {
				Total float64 `json:"total"`
				Ours  float64 `json:"ours"`
			} `json:"standing"`
		} `json:"nodes"`
	} `json:"upgrades"`
	AppHashes struct {
		Agree    bool `json:"agree"`
		Compared int  `json:"compared"`
	} `json:"app_hashes"`
	Notes []string `json:"notes"`
}

// patience is how long an upgrade may take, or the first blocks. Beside other tests on a busy machine the three minutes that simulate gives
// by itself were not enough.
const patience = "20m"

// simulation is a command of solstice simulate whose temporary folders are the test's.
func simulation(t *testing.T, args ...string) (cmd *exec.Cmd, temp string) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a real chain")
	}
	temp = t.TempDir()
	cmd = exec.CommandContext(built.ctx, built.solstice, append([]string{"simulate", "--binary", built.chain.V1, "--block-time", "500ms", "--patience", patience}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, temp
}

// TestSimulate: a network goes through two upgrades, although one node's binary comes late, and another's solstice is killed in the
// middle of each.
func TestSimulate(t *testing.T) {
	t.Parallel()
	page := filepath.Join(t.TempDir(), "report.html")
	cmd, temp := simulation(t, "--upgrade", "v2="+built.chain.V2, "--upgrade", "v3="+built.chain.V3, "--validators", "4",
		"--blocks-between", "5", "--late", "1", "--kill", "validator2", "--output", "json", "--report", page)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := run(built.ctx, cmd); err != nil {
		t.Fatalf("simulate: %v\n%s\n%s", err, stdout.String(), stderr.String())
	}
	var result simulated
	check(t, json.Unmarshal(stdout.Bytes(), &result))
	if !result.Passed || !result.AppHashes.Agree || result.AppHashes.Compared == 0 || len(result.Upgrades) != 2 {
		t.Errorf("the result is %+v", result)
	}
	for _, u := range result.Upgrades {
		if len(u.Nodes) != 4 {
			t.Errorf("%d nodes went through an upgrade, want 4", len(u.Nodes))
		}
		for _, n := range u.Nodes {
			if n.State != "confirmed" || n.Standing.Total <= 0 || n.Standing.Ours <= 0 || n.AppHash != u.Nodes[0].AppHash && n.AppHash != "" {
				t.Errorf("%s went through an upgrade: %+v, and %s: %+v", n.Node, n, u.Nodes[0].Node, u.Nodes[0])
			}
			if n.Node == "validator1" && n.Standing.Ours < 5 {
				t.Errorf("the late node stood still for %v s for want of its binary, want 5 s at least", n.Standing.Ours)
			}
		}
	}
	notes := strings.Join(result.Notes, "\n")
	for _, want := range []string{"validator1: the binary of v3 came 5.00 s after its halt", "validator2: solstice was killed at the step"} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes don't say %q:\n%s", want, notes)
		}
	}
	html, err := os.ReadFile(page)
	check(t, err)
	for _, want := range []string{"Every node went through every upgrade (v2, v3)", `class="migration"`, "validator3"} {
		if !strings.Contains(string(html), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	checkNothingLeft(t, temp)
}

// TestSimulateFails: a binary without the upgrade is found, and named with its own words; Ctrl-C and a kill leave no process, and what a
// kill leaves of the folder is gone after the next one.
func TestSimulateFails(t *testing.T) {
	t.Parallel()
	cmd, temp := simulation(t, "--upgrade", "v2="+built.chain.V1, "--validators", "1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := run(built.ctx, cmd); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(out.String(), "It failed: validator0 has ended in upgrade v2") {
		t.Errorf("a v2 that is v1: %v\n%s", err, out.String())
	}
	checkNothingLeft(t, temp)

	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		cmd, temp := simulation(t, "--upgrade", "v2="+built.chain.V2, "--validators", "1")
		var log bytes.Buffer
		pipe, err := cmd.StdoutPipe()
		check(t, err)
		cmd.Stderr = &log
		check(t, start(cmd))
		text := make([]byte, 0, 4096)
		for !strings.Contains(string(text), "the network makes blocks") {
			n, err := pipe.Read(text[len(text):cap(text)])
			check(t, err)
			text = text[:len(text)+n]
		}
		check(t, cmd.Process.Signal(signal))
		_ = pipe.Close()
		_ = cmd.Wait()
		if signal == syscall.SIGINT {
			if code := cmd.ProcessState.ExitCode(); code != 130 || !strings.Contains(log.String(), "interrupted; no process is left") {
				t.Errorf("interrupted: exit code %d, want 130: %s", code, log.String())
			}
			checkNothingLeft(t, temp)
			continue
		}
		checkNoProcess(t, temp)
		folders, err := filepath.Glob(filepath.Join(temp, "*"))
		check(t, err)
		old := time.Now().Add(-time.Hour)
		for _, folder := range folders {
			check(t, os.Chtimes(folder, old, old))
		}
		again := exec.CommandContext(built.ctx, built.solstice, "simulate", "--binary", "/nowhere")
		again.Env = append(os.Environ(), "TMPDIR="+temp)
		var out bytes.Buffer
		again.Stdout, again.Stderr = &out, &out
		if err := run(built.ctx, again); again.ProcessState.ExitCode() != 3 {
			t.Errorf("a binary that is not there: %v\n%s", err, out.String())
		}
		checkNothingLeft(t, temp)
	}
}

// checkNothingLeft checks that a command has left neither a process nor a file.
func checkNothingLeft(t *testing.T, temp string) {
	t.Helper()
	checkNoProcess(t, temp)
	entries, err := os.ReadDir(temp)
	check(t, err)
	if len(entries) > 0 {
		t.Errorf("left in the folder for temporary files: %v", entries)
	}
}

// checkNoProcess waits until no process has a folder in its arguments.
func checkNoProcess(t *testing.T, folder string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(built.ctx, 20*time.Second)
	defer cancel()
	var found []string
	err := Wait(ctx, func() (bool, error) {
		found = nil
		paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, path := range paths {
			if content, err := os.ReadFile(path); err == nil && bytes.Contains(content, []byte(folder)) {
				found = append(found, string(content))
			}
		}
		return len(found) == 0, err
	})
	if err != nil {
		t.Errorf("processes are left: %q", found)
	}
}

// TestProject runs what docs/practice.md tells about containers: a project of a validator behind sentries is brought up, goes through two
// upgrades, and is stopped and started again in the last version.
func TestProject(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a real chain")
	}
	for _, command := range []string{"docker info", "docker-compose version"} {
		if out, err := exec.CommandContext(built.ctx, "sh", "-c", command).CombinedOutput(); err != nil {
			t.Skipf("there is no Docker Engine with docker-compose: %s: %v: %s", command, err, out)
		}
	}
	t.Parallel()
	p := newPractice(t, "In containers")
	project := filepath.Join(p.dir, "practice")
	t.Cleanup(func() {
		if t.Failed() {
			logs := exec.Command("docker-compose", "logs", "--no-color", "--tail", "20")
			logs.Dir = project
			out, _ := logs.CombinedOutput()
			t.Logf("the containers said last:\n%s", out)
		}
		down := exec.Command("docker-compose", "down", "--volumes", "--rmi", "all", "--remove-orphans")
		down.Dir = project
		if out, err := down.CombinedOutput(); err != nil {
			t.Errorf("take the project down: %v\n%s", err, out)
		}
	})
	const ask = "docker-compose exec -T validator0 /usr/local/bin/solstice status"
	status := func() (s Status) {
		t.Helper()
		check(t, json.Unmarshal([]byte(p.run(ask+" --output json")), &s))
		return s
	}
	var before Status
	for _, command := range p.commands {
		if command == "docker-compose stop" {
			before = status()
			// The validator's one network is internal: it reaches its sentries and nobody beyond them.
			networks := p.run("docker inspect --format '{{range $name, $n := .NetworkSettings.Networks}}{{$name}} {{end}}' $(docker-compose ps -q validator0)")
			if !strings.HasSuffix(networks, "private-validator0 \n") || len(strings.Fields(networks)) != 1 {
				t.Errorf("the validator is in the networks %s, want its private one alone", networks)
			}
		}
		out := p.run(command)
		switch {
		case strings.Contains(command, "governance"):
			if !strings.Contains(out, "Every node went through every upgrade") {
				t.Errorf("%s printed:\n%s", command, out)
			}
		case command == "docker-compose start":
			check(t, Wait(built.ctx, func() (bool, error) {
				now := status()
				return now.Height != nil && now.Height.Committed > before.Height.Committed && now.Binary.Dir == "upgrades/v3", nil
			}))
		case command == ask && !strings.Contains(out, "binary    upgrades/v3"):
			t.Errorf("in the end the status is:\n%s", out)
		}
	}
}
