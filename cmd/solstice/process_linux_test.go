package main

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"solstice/internal/durable"
)

// testHome is a home with the test node in it, and the solstice processes that a test starts there.
type testHome struct {
	*testing.T
	dir string
}

func newHome(t *testing.T, script string, versions ...string) *testHome {
	t.Helper()
	h := &testHome{t, t.TempDir()}
	t.Cleanup(h.clear)
	for _, dir := range append(versions, "genesis") {
		path := filepath.Join(h.dir, "cosmovisor", dir, "bin", "noded")
		h.check(os.MkdirAll(filepath.Dir(path), 0o755))
		h.check(os.Link(nodeBinary, path))
	}
	h.check(os.MkdirAll(filepath.Join(h.dir, "data"), 0o755))
	h.write("config/noded.json", script)
	return h
}

func (h *testHome) check(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *testHome) write(path, content string) {
	h.Helper()
	path = filepath.Join(h.dir, path)
	h.check(os.MkdirAll(filepath.Dir(path), 0o755))
	h.check(writeProgram(path, []byte(content)))
}

// writeProgram writes a file that may be executed soon. No process that another test starts meanwhile may inherit it while it is open for
// writing: then it could not be executed ("text file busy").
func writeProgram(path string, content []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, content, 0o755)
}

func (h *testHome) log() string {
	content, _ := os.ReadFile(filepath.Join(h.dir, "noded.log"))
	return string(content)
}

// await waits until the node's log has the text so many times.
func (h *testHome) await(text string, times int) {
	h.Helper()
	for deadline := time.Now().Add(30 * time.Second); strings.Count(h.log(), text) < times; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.Fatalf("not %d times %q in the node's log:\n%s", times, text, h.log())
		}
	}
}

// command is solstice with these arguments on this home. It is killed at the end of the test.
func (h *testHome) command(args ...string) *exec.Cmd {
	exe, err := os.Executable()
	h.check(err)
	cmd := exec.Command(exe)
	cmd.Args = append([]string{"solstice"}, args...)
	cmd.Env = append(os.Environ(), "DAEMON_HOME="+h.dir, "DAEMON_NAME=noded", raceOption)
	cmd.Stderr = os.Stderr
	h.Cleanup(func() {
		if cmd.Process != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd
}

// clear ends the nodes that ignore what the kernel told them when their supervisor died, and waits until the lock on
// the home is free.
func (h *testHome) clear() {
	_ = exec.Command("pkill", "-KILL", "-f", h.dir+"/cosmovisor").Run() // an error if there is none
	f, err := os.Open(h.dir)
	if err != nil {
		return
	}
	defer f.Close()
	for deadline := time.Now().Add(10 * time.Second); unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.Errorf("a node is left on %s", h.dir)
			return
		}
	}
}

func (h *testHome) start(args ...string) *exec.Cmd {
	h.Helper()
	cmd := h.command(args...)
	h.check(cmd.Start())
	return cmd
}

// validator gives the node a key, so that it signs.
func (h *testHome) validator() {
	h.Helper()
	h.write("config/priv_validator_key.json", `{"address":"6A1B2C3D4E5F60718293A4B5C6D7E8F901234567"}`)
	h.write("data/priv_validator_state.json", `{"height":"0","round":0,"step":0}`)
}

// checkNoCry: the node cries out when it finds another on its home, a height that is not its own, or one that it has
// signed before.
func (h *testHome) checkNoCry() {
	h.Helper()
	for _, cry := range []string{"TWO NODES", "WRONG", "TWICE"} {
		if strings.Contains(h.log(), cry) {
			h.Errorf("%s:\n%s", cry, h.log())
		}
	}
}

// checkNoDebris: nothing half-done is left.
func (h *testHome) checkNoDebris() {
	h.Helper()
	h.check(filepath.WalkDir(h.dir, func(path string, e fs.DirEntry, err error) error {
		if strings.HasPrefix(e.Name(), durable.TempPrefix) {
			h.Errorf("debris: %s", path)
		}
		return err
	}))
}

// TestKilledSupervisorNeverLeavesTwoNodes kills solstice a hundred times, at any moment, over two upgrades, and starts it
// again at once (A8). What snapshots there are then are whole.
func TestKilledSupervisorNeverLeavesTwoNodes(t *testing.T) {
	t.Parallel()
	h := newHome(t, `{"block_time":5000000,"stop_time":20000000,"halt_exit":-1,"plans":[{"name":"v2","height":100},{"name":"v3","height":300}]}`,
		"upgrades/v2", "upgrades/v3")
	h.validator()
	for range 100 {
		cmd := h.start("run", "start")
		time.Sleep(rand.N(60 * time.Millisecond))
		h.check(cmd.Process.Kill())
		_ = cmd.Wait()
	}
	last := h.start("run", "start")
	h.await("v3 start at", 1)
	h.check(last.Process.Signal(syscall.SIGTERM))
	_ = last.Wait()
	h.checkNoCry()
	h.checkNoDebris()
	if out, err := h.command("snapshot", "verify").Output(); err != nil || !strings.Contains(string(out), "v3-300-") {
		t.Errorf("snapshots: %s%v", out, err)
	}
}

// TestKilledRollbackIsFinished kills a rollback at any moment. The next start finishes it, or finds that nothing was
// changed; the data goes with the binary, and nothing is signed twice.
func TestKilledRollbackIsFinished(t *testing.T) {
	t.Parallel()
	const failing = `{"block_time":1000000,"halt_exit":-1,"plans":[{"name":"v2","height":5}],"fail":{"v2":9}}`
	for i := range 12 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			h := newHome(t, failing, "upgrades/v2")
			h.validator()
			_ = h.start("run", "start").Wait() // v2 fails
			back := h.start("rollback", "--binary", filepath.Join(h.dir, "cosmovisor/genesis/bin/noded"), "--yes")
			time.Sleep(rand.N(40 * time.Millisecond))
			h.check(back.Process.Kill())
			_ = back.Wait()

			h.write("config/noded.json", `{"block_time":1000000,"halt_exit":-1,"plans":[{"name":"v2","height":5}],"stop_at":12}`)
			_ = h.start("run", "start").Wait()
			h.checkNoCry()
			h.checkNoDebris()
			if height, err := os.ReadFile(filepath.Join(h.dir, "data", "height")); err != nil || string(height) != "12" {
				t.Errorf("ended at height %q, %v", height, err)
			}
			if _, err := os.Lstat(filepath.Join(h.dir, "cosmovisor", ".solstice", "rollback.json")); err == nil {
				t.Error("the rollback is not finished")
			}
		})
	}
}

// TestSecondSupervisorIsRefused: at once, with the first one's number and exit code 3.
func TestSecondSupervisorIsRefused(t *testing.T) {
	t.Parallel()
	h := newHome(t, `{}`)
	first := h.start("run", "start")
	h.await("start at 0", 1)
	second := h.command("run", "start")
	var stderr strings.Builder
	second.Stderr = &stderr
	_ = second.Run()
	want := fmt.Sprintf("solstice: error: another solstice supervises this home (pid %d): %s/cosmovisor\n", first.Process.Pid, h.dir)
	if code := second.ProcessState.ExitCode(); code != 3 || !strings.HasPrefix(stderr.String(), want) {
		t.Errorf("exit code %d, %q, want 3, %q", code, stderr.String(), want)
	}
}

// link makes a command's program known under another name.
func (h *testHome) link(cmd *exec.Cmd, name string) {
	h.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.Symlink(cmd.Path, path); err != nil && !os.IsExist(err) {
		h.Fatal(err)
	}
	cmd.Path = path
}

// TestNodeLeftBehindIsWaitedFor: a node that takes its time to stop after its supervisor was killed keeps the next
// supervisor waiting.
func TestNodeLeftBehindIsWaitedFor(t *testing.T) {
	t.Parallel()
	h := newHome(t, `{"stop_time":700000000}`)
	for i, grace := range []string{"10s", "0s"} {
		cmd := h.start("run", "start")
		h.await("start at", 2*i+1)
		h.check(cmd.Process.Kill())
		_ = cmd.Wait()
		next := h.command("run", "start")
		next.Env = append(next.Env, "DAEMON_SHUTDOWN_GRACE="+grace)
		h.check(next.Start())
		h.await("start at", 2*i+2)
		h.check(next.Process.Signal(syscall.SIGTERM))
		if err := next.Wait(); err != nil {
			t.Errorf("grace %s: %v", grace, err)
		}
	}
	if strings.Contains(h.log(), "TWO") {
		t.Error(h.log())
	}
}

// TestWrapperScript: where the binary is a script that runs the node as its child, a signal ends the script and not the
// node. Nothing is started before the node has ended too.
func TestWrapperScript(t *testing.T) {
	t.Parallel()
	h := newHome(t, `{"stop_time":300000000,"halt_exit":-1,"plans":[{"name":"v2","height":10}]}`, "upgrades/v2")
	for _, dir := range []string{"genesis", "upgrades/v2"} {
		dir = filepath.Join(h.dir, "cosmovisor", dir)
		h.check(os.Rename(dir+"/bin", dir+"/real"))
		h.write(strings.TrimPrefix(dir, h.dir)+"/bin/noded", "#!/bin/sh\n\"$(dirname $0)/../real/noded\" \"$@\"\n")
	}
	cmd := h.start("run", "start")
	h.await("v2 start at 9", 1)
	if log := h.log(); strings.Contains(log, "TWO") || !strings.Contains(log, "genesis stopped at 9") {
		t.Error(log)
	}
	h.check(cmd.Process.Signal(syscall.SIGTERM))
	_ = cmd.Wait()
	if !strings.Contains(h.log(), "v2 stopped at") {
		t.Errorf("solstice ended before the node:\n%s", h.log())
	}

	// Killed instead, solstice leaves the node behind: the kernel told the script to stop, and not the node. The next one
	// refuses to join it.
	cmd = h.start("run", "start")
	h.await("v2 start at", 2)
	h.check(cmd.Process.Kill())
	_ = cmd.Wait()
	next := h.command("run", "start")
	next.Env = append(next.Env, "DAEMON_SHUTDOWN_GRACE=100ms")
	_ = next.Run()
	if code := next.ProcessState.ExitCode(); code != 3 || strings.Contains(h.log(), "TWO") || strings.Count(h.log(), "v2 start") != 2 {
		t.Errorf("exit code %d, log:\n%s", code, h.log())
	}
}

// TestStubbornNodeLeftBehindIsNotJoined: a node that ignores SIGTERM outlives its supervisor; the next one refuses.
func TestStubbornNodeLeftBehindIsNotJoined(t *testing.T) {
	t.Parallel()
	h := newHome(t, `{"ignore_term":true}`)
	first := h.start("run", "start")
	h.await("start at 0", 1)
	h.check(first.Process.Kill())
	_ = first.Wait()
	h.await("signal 15", 1) // from the kernel
	second := h.command("run", "start")
	second.Env = append(second.Env, "DAEMON_SHUTDOWN_GRACE=100ms")
	var stderr strings.Builder
	second.Stderr = &stderr
	_ = second.Run()
	if code := second.ProcessState.ExitCode(); code != 3 || !strings.Contains(stderr.String(), "error: the node of an earlier solstice still runs on this home (pid ") {
		t.Errorf("exit code %d, %s", code, stderr.String())
	}
	if !regexp.MustCompile(`hint: stop it with: kill -KILL \d+\n`).MatchString(stderr.String()) {
		t.Errorf("no hint: %s", stderr.String())
	}
}

// TestSignalsReachTheNodeEachTime: also after an upgrade, when Cosmovisor's first handler would have been left (A7).
func TestSignalsReachTheNodeEachTime(t *testing.T) {
	t.Parallel()
	h := newHome(t, `{"halt_exit":0,"plans":[{"name":"v2","height":5}],"ignore_term":true}`, "upgrades/v2")
	cmd := h.start("run", "start")
	h.await("v2 start", 1)
	for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGINT, syscall.SIGTERM} {
		for i := range 3 {
			h.check(cmd.Process.Signal(sig))
			h.await(fmt.Sprintf("v2 signal %d\n", sig), i+1)
		}
	}
}

// TestSignalEndsNodeAndSolstice: solstice ends after the node, with the node's exit code.
func TestSignalEndsNodeAndSolstice(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP} {
		if signal.Ignored(sig) {
			continue // these tests run under nohup, and so does solstice
		}
		h := newHome(t, `{"stop_time":100000000}`)
		cmd := h.start("run", "start")
		h.await("start at 0", 1)
		h.check(cmd.Process.Signal(sig))
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 0 || !strings.Contains(h.log(), "stopped at") {
			t.Errorf("%v: exit code %d, log:\n%s", sig, code, h.log())
		}
	}
}

// TestSignalledNodeGives128: a node that a signal ended gives 128 plus its number (A2).
func TestSignalledNodeGives128(t *testing.T) {
	h := newHome(t, `{}`)
	h.write("cosmovisor/genesis/bin/script", "#!/bin/sh\nkill -SEGV $$\n")
	cmd := h.command("run", "start")
	cmd.Env = append(cmd.Env, "DAEMON_NAME=script")
	_ = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 128+int(syscall.SIGSEGV) {
		t.Errorf("exit code %d", code)
	}
}

// TestStopDuringAnUpgrade: a signal while no node runs stops the upgrade; the next start goes on with it.
func TestStopDuringAnUpgrade(t *testing.T) {
	t.Parallel()
	h := newHome(t, `{"halt_exit":-1,"plans":[{"name":"v2","height":5}]}`, "upgrades/v2")
	h.write("cosmovisor/pre.sh", "#!/bin/sh\necho ran >>noded.log\nsleep 30\n")
	cmd := h.command("run", "start")
	cmd.Env = append(cmd.Env, "COSMOVISOR_CUSTOM_PREUPGRADE=pre.sh")
	h.check(cmd.Start())
	h.await("ran", 1)
	h.check(cmd.Process.Signal(syscall.SIGTERM))
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 143 {
		t.Errorf("exit code %d, want 143", code)
	}
	h.start("run", "start")
	h.await("v2 start at 4", 1)
	if strings.Count(h.log(), "genesis start") != 1 {
		t.Error(h.log())
	}
}

// TestCtrlCReachesTheNodeOnce: the terminal sends SIGINT to the whole foreground, the node included.
func TestCtrlCReachesTheNodeOnce(t *testing.T) {
	t.Parallel()
	terminal, name := openTerminal(t)
	slave, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	h := newHome(t, `{"ignore_term":true}`)
	cmd := h.command("run", "start")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	h.check(cmd.Start())
	slave.Close()
	go func() { // an unread terminal would block the node's output
		for buffer := make([]byte, 1024); ; {
			if _, err := terminal.Read(buffer); err != nil {
				return
			}
		}
	}()
	h.await("start at 0", 1)
	for i := range 3 {
		_, err := terminal.WriteString("\x03")
		h.check(err)
		h.await("signal 2\n", i+1)
	}
	h.check(cmd.Process.Signal(syscall.SIGUSR1)) // when this one has come, a second SIGINT would have too
	h.await("signal 10\n", 1)
	if got := strings.Count(h.log(), "signal 2\n"); got != 3 {
		t.Errorf("three times Ctrl-C reached the node %d times", got)
	}
}

// openTerminal makes a pseudo terminal.
func openTerminal(t *testing.T) (master *os.File, slave string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminals here:", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return master, fmt.Sprintf("/dev/pts/%d", number)
}

// TestPID1ReapsOrphans: as the first process of a container, solstice waits for what is re-parented to it.
func TestPID1ReapsOrphans(t *testing.T) {
	t.Parallel()
	h := newHome(t, `{}`)
	h.write("cosmovisor/genesis/bin/script", `#!/bin/sh
for i in 1 2 3 4 5 6 7 8 9 10; do (sh -c 'sleep 0.0$0' $i &); done
until [ "$(cat /proc/[0-9]*/stat | grep -c '(sleep)')" = 0 ]; do sleep 0.1; done
echo "pid1 is $(cat /proc/1/comm), zombies: $(cat /proc/[0-9]*/stat | grep -c ') Z 1 ')" >"$DAEMON_HOME/noded.log"
`)
	unshare, err := exec.LookPath("unshare")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and unshare for a process namespace")
	}
	cmd := h.command("run", "start")
	h.link(cmd, "solstice")
	cmd.Args = []string{"unshare", "-p", "-f", "--kill-child", "--mount-proc", cmd.Path, "run", "start"}
	cmd.Path = unshare
	cmd.Env = append(cmd.Env, "DAEMON_NAME=script")
	if output, err := cmd.Output(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if got := h.log(); got != "pid1 is solstice, zombies: 0\n" {
		t.Errorf("the node saw %q", got)
	}
}

// nobody is a user that owns nothing here but what a test gives to it.
const nobody = 65534

// TestOtherOwnerIsRefused: who starts a node on the data of another user, which is mostly root, is told what would come of it.
// Nothing is changed before, not even what a rollback has left to do. The owner himself is let in.
func TestOtherOwnerIsRefused(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be another user than the owner")
	}
	h := newHome(t, `{"stop_at":2}`)
	h.check(os.Chmod(filepath.Dir(h.dir), 0o755)) // for who is not root
	self, err := os.Executable()
	h.check(err)
	h.check(exec.Command("cp", self, filepath.Join(h.dir, "solstice")).Run())
	start := func(uid uint32, env ...string) (int, string) {
		cmd := h.command("run", "start")
		cmd.Path = filepath.Join(h.dir, "solstice") // the same program, where everybody can reach it
		cmd.Env = append(cmd.Env, env...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		var said strings.Builder
		cmd.Stderr = &said
		_ = cmd.Run()
		return cmd.ProcessState.ExitCode(), said.String()
	}
	refused := func(uid uint32, wants ...string) {
		t.Helper()
		code, said := start(uid)
		for _, want := range append(wants, "hint: or, where a container sees owners that mean nothing: SOLSTICE_ALLOW_OTHER_OWNER=true") {
			if !strings.Contains(said, want) {
				t.Errorf("it does not say %q:\n%s", want, said)
			}
		}
		if _, err := os.Lstat(filepath.Join(h.dir, "cosmovisor/current")); code != 3 || h.log() != "" || err == nil {
			t.Errorf("exit code %d, node's log %q, the link: %v", code, h.log(), err)
		}
	}
	refused(nobody, "/data belongs to user root (0), and this is user ", "hint: run it as its owner: User=root in the unit, or: sudo -E -u root solstice run start")

	const left = `{"home":%q,"begun":"2026-01-01T00:00:00Z","what":"cut off","link":"genesis"}`
	h.write("cosmovisor/.solstice/rollback.json", fmt.Sprintf(left, h.dir))
	for _, path := range []string{"", "data", "cosmovisor", "cosmovisor/.solstice", "cosmovisor/.solstice/rollback.json"} {
		h.check(os.Chown(filepath.Join(h.dir, path), nobody, nobody))
	}
	refused(0, "/data belongs to user ", "(65534), and this is user root (0): what one of them makes there,", "hint: or give the node's home to this user: chown -R 0 "+h.dir)
	h.check(os.Rename(filepath.Join(h.dir, "data"), filepath.Join(h.dir, "aside"))) // as in the middle of a rollback
	refused(0, h.dir+" belongs to user ")
	h.check(os.Rename(filepath.Join(h.dir, "aside"), filepath.Join(h.dir, "data")))

	if code, said := start(nobody); code != 0 || !strings.Contains(said, "cut off") || !strings.Contains(h.log(), "start at 0") {
		t.Errorf("the owner: exit code %d, %s", code, said)
	}
	if code, said := start(0, "SOLSTICE_ALLOW_OTHER_OWNER=true"); code != 0 {
		t.Errorf("with the setting: exit code %d, %s", code, said)
	}
}

// TestNothingListens: by default solstice answers on its socket in the home alone.
func TestNothingListens(t *testing.T) {
	t.Parallel()
	h := newHome(t, `{}`)
	cmd := h.start("run", "start")
	h.await("start at 0", 1)
	inodes := map[string]bool{}
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", cmd.Process.Pid))
	h.check(err)
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, "socket:[") {
			inodes[strings.Trim(strings.TrimPrefix(target, "socket:"), "[]")] = true
		}
	}
	if len(inodes) == 0 {
		t.Fatal("solstice has no socket at all: its control socket is not seen")
	}
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", cmd.Process.Pid, table))
		h.check(err)
		for line := range strings.Lines(string(content)) {
			if words := strings.Fields(line); len(words) > 9 && inodes[words[9]] {
				t.Errorf("a socket in %s: %s", table, line)
			}
		}
	}
}
