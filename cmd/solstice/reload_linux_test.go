package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"solstice"
	"solstice/api"
	"solstice/internal/testnode"
)

// edit is a change of a source file, by which a version of solstice is built that differs.
type edit struct{ file, old, new string }

// buildVersion builds solstice as it is released, as a version and with some edits, and returns its path.
func buildVersion(t *testing.T, version string, edits ...edit) string {
	t.Helper()
	dir := t.TempDir()
	replaced := map[string]string{}
	for i, e := range edits {
		path, err := filepath.Abs(e.file)
		if err != nil {
			t.Fatal(err)
		}
		from := path
		if earlier := replaced[path]; earlier != "" {
			from = earlier
		}
		content, err := os.ReadFile(from)
		if err != nil || !bytes.Contains(content, []byte(e.old)) {
			t.Fatalf("%s has no %q, %v", e.file, e.old, err)
		}
		replaced[path] = filepath.Join(dir, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(replaced[path], bytes.Replace(content, []byte(e.old), []byte(e.new), 1), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o644); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "solstice")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-overlay", filepath.Join(dir, "overlay.json"), "-ldflags=-s -w -X main.version="+version, "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", version, err, out)
	}
	return binary
}

// firstVersion is solstice as it is, as v1.0.0: a file of its own each time, so that another can be put there.
func firstVersion(t *testing.T) string {
	t.Helper()
	first.Do(func() { first.content, first.err = os.ReadFile(buildVersion(t, "v1.0.0")) })
	path := filepath.Join(t.TempDir(), "solstice")
	if err := errors.Join(first.err, writeProgram(path, first.content)); err != nil {
		t.Fatal(err)
	}
	return path
}

var first struct {
	sync.Once
	content []byte
	err     error
}

// reloadHome is a home whose solstice is a program of its own, that can be replaced.
type reloadHome struct {
	*testHome
	binary string
	cmd    *exec.Cmd
	said   string // the file that it prints into
	nodes  int    // its process
}

// reloadable starts solstice v1.0.0 on a validator's home, with a configuration file.
func reloadable(t *testing.T, settings, script string, versions ...string) *reloadHome {
	t.Helper()
	h := &reloadHome{testHome: newHome(t, script, versions...), binary: firstVersion(t)}
	h.validator()
	h.write("cosmovisor/solstice.toml", settings)
	h.said = filepath.Join(h.TempDir(), "said")
	said, err := os.Create(h.said)
	h.check(err)
	defer said.Close()
	h.cmd = h.with("run", "start", "--rpc.laddr", freeAddress(t))
	h.cmd.Stdout, h.cmd.Stderr = said, said
	h.check(h.cmd.Start())
	h.awaitSaid("started at height") // the node
	for h.nodes == 0 {               // which the loop publishes soon
		if node := h.status().Node; node != nil {
			h.nodes = node.PID
		}
	}
	return h
}

func (h *reloadHome) with(args ...string) *exec.Cmd {
	cmd := h.command(args...)
	cmd.Path, cmd.Args[0] = h.binary, h.binary
	return cmd
}

func (h *reloadHome) awaitSaid(pattern string) {
	h.Helper()
	want := regexp.MustCompile(pattern)
	var said []byte
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if said, _ = os.ReadFile(h.said); want.Match(said) {
			return
		}
	}
	h.Fatalf("solstice never said %s:\n%s", pattern, said)
}

func (h *reloadHome) status() solstice.Status {
	h.Helper()
	status, err := api.Status(h.Context(), filepath.Join(h.dir, "cosmovisor/.solstice/control.sock"))
	h.check(err)
	return status
}

// put puts a version where solstice was started from, as a package manager does.
func (h *reloadHome) put(binary string) {
	h.Helper()
	h.check(os.Rename(binary, h.binary))
}

// reload asks for it, and wants it to end with a code and to say something.
func (h *reloadHome) reload(code int, pattern string) {
	h.Helper()
	cmd := exec.Command(h.binary, "reload")
	cmd.Env = h.cmd.Env
	if code != 0 { // what lies there may be no solstice
		self, err := os.Executable()
		h.check(err)
		cmd = exec.Command(self, "reload")
		cmd.Args[0], cmd.Env = "solstice", h.cmd.Env
	}
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != code || !regexp.MustCompile(pattern).Match(out) {
		h.Errorf("reload = %d, want %d and %s:\n%s", got, code, pattern, out)
	}
}

// checkUntouched: the process is the same, and so is the node.
func (h *reloadHome) checkUntouched(version string) {
	h.Helper()
	status := h.status()
	if status.Version != version || status.Supervisor.PID != h.cmd.Process.Pid || status.Node == nil || status.Node.PID != h.nodes {
		h.Errorf("solstice %s, process %d with node %+v, want %s, %d and %d", status.Version, status.Supervisor.PID, status.Node, version, h.cmd.Process.Pid, h.nodes)
	}
	if n := strings.Count(h.log(), " start at"); n != 1 {
		h.Errorf("the node was started %d times:\n%s", n, h.log())
	}
}

// TestReload: a new version takes over in the same process, also one with another format of what is handed over. The node notices nothing,
// an upgrade goes well after it, and so does the end.
func TestReload(t *testing.T) {
	t.Parallel()
	h := reloadable(t, "", `{"halt_exit":-1,"plans":[{"name":"v2","height":1000000}]}`, "upgrades/v2")
	began := h.status()
	h.reload(0, `^v1.0.0 has taken over from v1.0.0 in process \d+; the node runs on as process \d+\n$`)
	h.checkUntouched("v1.0.0")
	h.put(buildVersion(t, "v2.0.0",
		edit{"../../supervisor/handover.go", "const handoverFormat = 2", "const handoverFormat = 3"},
		edit{"../../supervisor/handover.go", "`json:\"node_home\"`", "`json:\"where_the_node_lives\"`"},
		edit{"../../supervisor/handover.go", "error{1: gatherLive}",
			"error{1: gatherLive, 2: func(f map[string]json.RawMessage) error { f[\"where_the_node_lives\"] = f[\"node_home\"]; return nil }}"}))
	h.reload(0, "^v2.0.0 has taken over from v1.0.0 ")
	h.checkUntouched("v2.0.0")
	h.reload(0, "^v2.0.0 has taken over from v2.0.0 ")
	h.put(firstVersion(t))
	h.reload(3, "error: the new version can't take over: what was handed over can't be read: it has format 3, and this version knows those up to 2: it is older than the one that runs")
	h.checkUntouched("v2.0.0")
	if status := h.status(); !status.Supervisor.Since.Equal(began.Supervisor.Since) || status.Supervisor.Reloads != 3 {
		t.Errorf("%+v, at first %+v", status.Supervisor, began.Supervisor)
	}
	h.write("config/noded.json", "")
	add := h.with("add-upgrade", "v3", filepath.Join(h.dir, "cosmovisor/upgrades/v2/bin/noded"), "--upgrade-height", fmt.Sprint(h.status().Height.Committed+50))
	h.check(add.Run())
	h.write("config/noded.json", `{}`)
	h.await("v3 start", 1)
	h.check(h.cmd.Process.Signal(syscall.SIGTERM))
	if err := h.cmd.Wait(); err != nil {
		t.Errorf("the end: %v", err)
	}
	h.checkNoCry()
}

// TestReloadRefused: what can't take over does not get the chance to, and is told apart.
func TestReloadRefused(t *testing.T) {
	t.Parallel()
	h := reloadable(t, "", `{}`)
	ran := filepath.Join(t.TempDir(), "ran")
	script := func(text string) string {
		path := filepath.Join(t.TempDir(), "script")
		h.check(writeProgram(path, []byte(text)))
		return path
	}
	for _, tt := range []struct{ name, program, want string }{
		{"another program", "#!/bin/sh\necho \"$@\" >>" + ran + "\necho \"Error: unknown command $1\"\nexit 1\n", `can't take over: Error: unknown command reload \(exit status 1\)`},
		{"one that says nothing", "#!/bin/sh\nexit 0\n", `it did not pass its trial \(exit status 0\)`},
		{"no program", "nonsense", `can't take over: .*exec format error`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.put(script(tt.program))
			h.reload(3, tt.want)
		})
	}
	if args, _ := os.ReadFile(ran); strings.Contains(strings.Split(string(args), "--")[0], "run") {
		t.Errorf("another program, which might start a second node, was called with %s", args)
	}
	h.check(os.Remove(h.binary))
	h.reload(3, "no such file or directory")
	h.put(firstVersion(t))
	h.write("cosmovisor/solstice.toml", `daemon_shutdown_grace = "soon"`)
	h.check(h.cmd.Process.Signal(syscall.SIGUSR2))
	h.awaitSaid(`no new version takes over; this one goes on .*DAEMON_SHUTDOWN_GRACE must be a duration`)
	h.write("cosmovisor/solstice.toml", `daemon_shutdown_grace = "7s"`)
	h.reload(0, "has taken over")
	h.checkUntouched("v1.0.0")
}

// TestReloadGoesBack: a version that passes its trial and then gets stuck, panics or fails is not left in charge.
func TestReloadGoesBack(t *testing.T) {
	t.Parallel()
	h := reloadable(t, "", `{}`)
	const settles = "	c, args, err := settle(configPath, args)\n"
	bad, err := os.ReadFile(buildVersion(t, "v9.9.9",
		edit{"../../supervisor/reload.go", "ReloadTimeout = 10 * time.Second", "ReloadTimeout = 2 * time.Second"},
		edit{"reload.go", "import (\n", "import (\n	\"os\"\n"},
		edit{"reload.go", settles, `	fate, _ := os.ReadFile(os.Getenv("DAEMON_HOME") + "/fate")
	switch string(fate) {
	case "stuck":
		select {}
	case "panics":
		panic("no luck")
	case "fails":
		return errors.New("no luck")
	}
` + settles}))
	h.check(err)
	for _, tt := range []struct{ fate, want string }{
		{"stuck", "it was not ready after 2s"},
		{"panics", "it panicked: no luck"},
		{"fails", "v1.0.0, goes on: no luck"},
	} {
		t.Run(tt.fate, func(t *testing.T) {
			h.write("fate", tt.fate)
			binary := filepath.Join(t.TempDir(), "solstice")
			h.check(writeProgram(binary, bad))
			h.put(binary)
			h.reload(1, tt.want)
			h.checkUntouched("v1.0.0")
		})
	}
	h.put(firstVersion(t))
	h.reload(0, "has taken over")
	h.checkUntouched("v1.0.0")
}

// TestReloadSignals: while one version after the other takes over, each SIGUSR1 reaches the node, and no SIGTERM is swallowed. One that
// comes when neither version can catch it ends solstice, and the kernel tells the node to stop.
func TestReloadSignals(t *testing.T) {
	t.Parallel()
	h := reloadable(t, "", `{}`)
	h.reload(0, "has taken over") // only the first version of a process may lose a SIGUSR1
	var reloads atomic.Int32
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				h.reload(0, "has taken over")
				reloads.Add(1)
			}
		}
	}()
	for i := 0; i < 100 || reloads.Load() < 10; i++ { // which of both is faster depends on the machine
		h.check(h.cmd.Process.Signal(syscall.SIGUSR1))
		h.await("signal 10\n", i+1)
	}
	close(stop)
	<-ended
	h.checkUntouched("v1.0.0")
	h.check(h.cmd.Process.Kill())
	_ = h.cmd.Wait()
	for range 10 {
		h := reloadable(t, "", `{}`)
		h.check(h.cmd.Process.Signal(syscall.SIGUSR2))
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		h.check(h.cmd.Process.Signal(syscall.SIGTERM))
		_ = h.cmd.Wait()
		status := h.cmd.ProcessState.Sys().(syscall.WaitStatus)
		if code := h.cmd.ProcessState.ExitCode(); code != 0 && !(status.Signaled() && status.Signal() == syscall.SIGTERM) {
			t.Errorf("%v", h.cmd.ProcessState)
		}
		h.await("stopped at", 1)
	}
}

// TestReloadStderr: what the node says on stderr is read by the next version too, nothing of it gets lost, and a crash is named by it. The
// next node's is not, as the settings have changed.
func TestReloadStderr(t *testing.T) {
	t.Parallel()
	h := reloadable(t, `solstice_restart = "on-failure"`, `{"stop_floods":100000}`)
	h.reload(0, "has taken over")
	h.write("cosmovisor/solstice.toml", "")
	h.reload(0, "has taken over")
	h.checkUntouched("v1.0.0")
	h.check(h.cmd.Process.Signal(syscall.SIGTERM))
	if err := h.cmd.Wait(); err != nil {
		t.Errorf("the end: %v", err)
	}
	said, err := os.ReadFile(h.said)
	h.check(err)
	if !strings.Contains(string(said), testnode.Flood(100000)) {
		t.Errorf("what the node said at its end is not whole:\n%s", said)
	}

	h = reloadable(t, `solstice_restart = "on-failure"`, `{"block_time":5000000,"stop_at":300,"stop_code":2,"panics":"no luck"}`)
	h.reload(0, "has taken over")
	h.awaitSaid("panic: no luck\n")
	h.awaitSaid(`node ended.* kind=panic .*no luck`)
	h.awaitSaid("the node is started again, as SOLSTICE_RESTART says")
}

// TestReloadSidecars: sidecars run on over reloads, are restarted after that when they die, and end before and after the node. One that the list
// has got meanwhile is started, and with one less there is no reload.
func TestReloadSidecars(t *testing.T) {
	t.Parallel()
	list := filepath.Join(t.TempDir(), "sidecars.toml")
	command := filepath.Join(t.TempDir(), "sidecar")
	entry := func(name, start string) string {
		return fmt.Sprintf("[[sidecar]]\nname = %q\ncommand = [%q, %q]\nstart = %q\n", name, command, name, start)
	}
	write := func(path, text string) {
		t.Helper()
		if err := writeProgram(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	write(command, "#!/bin/sh\ntrap 'echo $1 ends >>$DAEMON_HOME/noded.log; exit' TERM\necho $1 starts >>$DAEMON_HOME/noded.log\nwhile :; do sleep 60 & wait $!; done\n")
	write(list, entry("companion", "before")+entry("feeder", "after"))
	h := reloadable(t, fmt.Sprintf("solstice_sidecars = %q", list), `{}`)
	h.await("feeder starts", 1)
	pids := func() (pids []int) {
		for _, s := range h.status().Sidecars {
			pids = append(pids, s.PID)
		}
		return pids
	}
	before := pids()
	for range 3 {
		h.reload(0, "has taken over")
	}
	h.checkUntouched("v1.0.0")
	if now := pids(); !slices.Equal(now, before) {
		t.Errorf("processes of the sidecars = %v, before %v", now, before)
	}
	write(list, entry("companion", "before"))
	h.reload(3, `the sidecar "feeder" runs and stands in the list of sidecars no more`)
	write(list, entry("companion", "before")+entry("feeder", "after")+entry("third", "after"))
	h.reload(0, "has taken over")
	h.await("third starts", 1)
	h.check(syscall.Kill(before[1], syscall.SIGKILL))
	h.await("feeder starts", 2)
	h.checkUntouched("v1.0.0")
	h.check(h.cmd.Process.Signal(syscall.SIGTERM))
	if err := h.cmd.Wait(); err != nil {
		t.Errorf("the end: %v", err)
	}
	if n := strings.Count(h.log(), " starts"); n != 4 || !regexp.MustCompile(`(?s)stopped at .*companion ends\n$`).MatchString(h.log()) {
		t.Errorf("%d starts of sidecars, want 4, and the companion's end at last:\n%s", n, h.log())
	}
	for _, pid := range before {
		if syscall.Kill(pid, 0) == nil {
			t.Errorf("sidecar %d is left", pid)
		}
	}
}

// TestReloadsOverUpgrades: reloads at any moment of two upgrades, one after the other.
func TestReloadsOverUpgrades(t *testing.T) {
	t.Parallel()
	h := reloadable(t, "", `{"block_time":5000000,"halt_exit":-1,"plans":[{"name":"v2","height":300},{"name":"v3","height":600}]}`, "upgrades/v2", "upgrades/v3")
	taken := 0
	for i := 0; taken < 30 || !strings.Contains(h.log(), "v3 start"); i++ {
		if i == 2000 {
			t.Fatalf("%d reloads of %d tries:\n%s", taken, i, h.log())
		}
		cmd := h.with("reload")
		cmd.Stderr = nil
		out, err := cmd.CombinedOutput()
		switch {
		case err == nil:
			taken++
		case !strings.Contains(string(out), "this is no time for it"):
			said, _ := os.ReadFile(h.said)
			t.Fatalf("%v: %s\n%s", err, out, said)
		}
	}
	h.awaitSaid(`upgrade confirmed.* plan=v3 `) // soon after its start
	h.checkNoCry()
	status := h.status()
	for i, u := range status.Upgrades {
		if u.State != "confirmed" {
			t.Errorf("upgrade %d: %+v", i, u)
		}
	}
	if len(status.Upgrades) != 2 || strings.Count(h.log(), " start at") != 3 || status.Supervisor.PID != h.cmd.Process.Pid {
		t.Errorf("%+v\n%s", status, h.log())
	}
	if zombies, _ := exec.Command("ps", "--ppid", fmt.Sprint(h.cmd.Process.Pid), "-o", "stat=").Output(); strings.Contains(string(zombies), "Z") {
		t.Errorf("children that nobody waits for: %s", zombies)
	}
	h.check(h.cmd.Process.Signal(syscall.SIGTERM))
	h.check(h.cmd.Wait())
	h.checkNoDebris()
}
