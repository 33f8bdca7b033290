package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"solstice"
	"solstice/internal/testnode"
)

// reading is a run whose node's stderr is read, and goes to a file of ours. Solstice itself says nothing there.
func (h *testHome) reading(stderr *os.File) *exec.Cmd {
	h.Helper()
	cmd := h.command("run", "start")
	cmd.Env = append(cmd.Env, "SOLSTICE_RESTART=on-failure", "SOLSTICE_RESTART_LIMIT=1", "COSMOVISOR_DISABLE_LOGS=true")
	cmd.Stderr = stderr
	h.check(cmd.Start())
	return cmd
}

// create makes a file for a stderr.
func (h *testHome) create() *os.File {
	h.Helper()
	f, err := os.Create(filepath.Join(h.TempDir(), "stderr"))
	h.check(err)
	h.Cleanup(func() { f.Close() })
	return f
}

// TestStderrIsHandedOnExactly: every byte of the node, in its order, whatever the pieces are, and the last ones before Solstice's own error.
func TestStderrIsHandedOnExactly(t *testing.T) {
	t.Parallel()
	const size = 3_000_001
	h := newHome(t, fmt.Sprintf(`{"floods":%d,"stop_at":2,"stop_code":1,"says":"last words"}`, size))
	stderr := h.create()
	_ = h.reading(stderr).Wait()
	content, err := os.ReadFile(stderr.Name())
	h.check(err)
	want := testnode.Flood(size) + "last words" + "solstice: error: the node has ended"
	if !strings.HasPrefix(string(content), want) {
		t.Errorf("%d bytes, and they differ from byte %d on", len(content), differ(string(content), want))
	}
}

// differ is where two texts differ.
func differ(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// TestKilledSupervisorLeavesStderr: a node whose supervisor was killed says what it has to say, and ends in order. Without a reading end of its
// own the first byte would kill it.
func TestKilledSupervisorLeavesStderr(t *testing.T) {
	t.Parallel()
	const size = 1_000_000 // a pipe of a mebibyte has room for it
	h := newHome(t, fmt.Sprintf(`{"stop_floods":%d}`, size))
	run := h.reading(h.create())
	h.await("start at", 1)
	h.check(run.Process.Kill())
	_ = run.Wait()
	h.await(fmt.Sprintf("flooded %d", size), 1)
	h.await("stopped at", 1)
}

// TestStuckStderr: a stderr of ours that nobody reads does not hold the node up. What is left out is told, to the byte, where it is missing;
// then it goes on.
func TestStuckStderr(t *testing.T) {
	t.Parallel()
	const size = 12 << 20
	h := newHome(t, fmt.Sprintf(`{"floods":%d,"stop_floods":640}`, size))
	reader, writer, err := os.Pipe()
	h.check(err)
	defer reader.Close()
	run := h.reading(writer)
	writer.Close()
	h.await(fmt.Sprintf("flooded %d", size), 1)
	h.await("start at", 1)

	// Somebody reads again, up to the gap, and then what comes after it.
	note := regexp.MustCompile(`\nsolstice: (\d+) bytes dropped here: output blocked or closed\n`)
	var content []byte
	buf := make([]byte, 1<<20)
	h.check(reader.SetReadDeadline(time.Now().Add(30 * time.Second)))
	for note.Find(content) == nil {
		n, err := reader.Read(buf)
		content = append(content, buf[:n]...)
		if err != nil {
			t.Fatalf("no gap is told in %d bytes: %v", len(content), err)
		}
	}
	h.check(run.Process.Signal(syscall.SIGTERM))
	rest, err := io.ReadAll(reader)
	h.check(err)
	_ = run.Wait()
	content = append(content, rest...)

	// With what was left out it is all that the node has written.
	want, at := testnode.Flood(size)+testnode.Flood(640), 0
	take := func(piece string) {
		t.Helper()
		if at+len(piece) > len(want) || want[at:at+len(piece)] != piece {
			t.Fatalf("a piece of %d bytes is not what was written from byte %d on", len(piece), at)
		}
		at += len(piece)
	}
	gaps := note.FindAllSubmatchIndex(content, -1)
	begin := 0
	for _, gap := range gaps {
		take(string(content[begin:gap[0]]))
		lost, err := strconv.Atoi(string(content[gap[2]:gap[3]]))
		h.check(err)
		at, begin = at+lost, gap[1]
	}
	take(string(content[begin:]))
	if at != len(want) || len(content) < 1<<20 {
		t.Errorf("%d bytes in %d pieces come to %d, not to the %d that were written", len(content), len(gaps)+1, at, len(want))
	}
}

// TestStderrOfLeftBehind: a process that a wrapper leaves behind holds the pipe open. Its node's end is seen all the same, and its words are
// handed on.
func TestStderrOfLeftBehind(t *testing.T) {
	t.Parallel()
	h := newHome(t, `{}`)
	h.node(`(trap 'echo later >&2; exit' TERM; echo ready >&2; touch "$DAEMON_HOME/ready"; while :; do sleep 0.01; done) &
until [ -e "$DAEMON_HOME/ready" ]; do sleep 0.01; done
echo now >&2
exit 7
`)
	stderr := h.create()
	if err := h.reading(stderr).Wait(); exitCode(err) != 7 {
		t.Errorf("ended with %v", err)
	}
	content, err := os.ReadFile(stderr.Name())
	h.check(err)
	got, _, _ := strings.Cut(string(content), "solstice: error")
	got = strings.ReplaceAll(got, "Terminated\n", "") // the shell's word, where its sleep was told to end as well
	if got != "ready\nnow\nlater\n" {
		t.Errorf("stderr %q", content)
	}
	if c := h.crash(); c.Kind != solstice.CrashUnknown || !strings.Contains(c.Cause, "now") {
		t.Errorf("%+v", c)
	}
}

func exitCode(err error) int {
	if exit, ok := err.(*exec.ExitError); ok {
		return exit.ExitCode()
	}
	return 0
}

// crash is the last one as the status tells it.
func (h *testHome) crash() solstice.Crash {
	h.Helper()
	out, err := h.command("status", "-o", "json").Output()
	h.check(err)
	var status solstice.Status
	h.check(json.Unmarshal(out, &status))
	if status.Crash == nil {
		h.Fatalf("no crash in %s", out)
	}
	return *status.Crash
}

// node is a shell script in the place of the node's binary.
func (h *testHome) node(script string) {
	h.Helper()
	h.check(os.Remove(filepath.Join(h.dir, "cosmovisor/genesis/bin/noded")))
	h.write("cosmovisor/genesis/bin/noded", "#!/bin/sh\n"+script)
}

// TestCrashOfMemory: a node that the kernel kills in a control group, beside its supervisor, ran out of memory.
func TestCrashOfMemory(t *testing.T) {
	if _, err := os.Stat("/bin/bash"); err != nil {
		t.Skip("there is no bash")
	}
	dir := fmt.Sprintf("/sys/fs/cgroup/memory/solstice-test-%d", os.Getpid())
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("no control group of version 1 can be made: %v", err)
	}
	h := newHome(t, `{}`)
	t.Cleanup(func() {
		h.clear()
		_ = os.Remove(dir)
	})
	limit := []byte(strconv.Itoa(256 << 20)) // solstice with its race detector has to fit
	h.check(os.WriteFile(filepath.Join(dir, "memory.limit_in_bytes"), limit, 0))
	_ = os.WriteFile(filepath.Join(dir, "memory.memsw.limit_in_bytes"), limit, 0) // absent without accounting for swap
	h.node(`exec awk 'BEGIN { for (s = "x"; ; s = s s) ; }'` + "\n")
	// The shell goes into the group; what takes its place there is solstice by its first word, like everywhere in these tests.
	run := h.command("run", "start")
	exe := run.Path
	run.Path, run.Args = "/bin/bash", []string{"bash", "-c", `echo $$ >"$1/cgroup.procs" && exec -a solstice "$2" run start`, "bash", dir, exe}
	if err := run.Run(); exitCode(err) != 137 {
		t.Errorf("ended with %v", err)
	}
	if c := h.crash(); c.Kind != solstice.CrashMemory || !strings.Contains(c.Cause, "as its control group counts") {
		t.Errorf("%+v", c)
	}
}

// TestCrashOfFullDisk: a node that has filled its disk, by the room that is left, and by its own words.
func TestCrashOfFullDisk(t *testing.T) {
	h := newHome(t, `{}`)
	if err := unix.Mount("tmpfs", filepath.Join(h.dir, "data"), "tmpfs", 0, "size=20m"); err != nil {
		t.Skip("tmpfs can't be mounted here:", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(h.dir, "data"), unix.MNT_DETACH) })
	h.node("cat /dev/zero >\"$DAEMON_HOME/data/fill\"\nexit 1\n")
	run := h.command("run", "start")
	var log bytes.Buffer
	run.Stderr = &log
	if err := run.Run(); exitCode(err) != 1 {
		t.Errorf("ended with %v", err)
	}
	if c := h.crash(); c.Kind != solstice.CrashDisk || !strings.Contains(c.Cause, "0 KiB are free on the filesystem of "+h.dir+"/data") || c.Lines != nil {
		t.Errorf("%+v\n%s", c, &log)
	}
	_ = h.reading(h.create()).Wait()
	if c := h.crash(); c.Kind != solstice.CrashDisk || !strings.Contains(c.Cause, "No space left on device") {
		t.Errorf("%+v", c)
	}
}

// TestCrashOfMissingLibrary: the loader's words, and without them the library that the binary needs.
func TestCrashOfMissingLibrary(t *testing.T) {
	t.Parallel()
	shell, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("there is no bash")
	}
	h := newHome(t, `{}`)
	content, err := os.ReadFile(shell)
	h.check(err)
	if !bytes.Contains(content, []byte("libtinfo.so.6\x00")) {
		t.Skip("this bash does not need libtinfo")
	}
	h.check(os.Remove(filepath.Join(h.dir, "cosmovisor/genesis/bin/noded")))
	h.write("cosmovisor/genesis/bin/noded", strings.ReplaceAll(string(content), "libtinfo.so.6\x00", "libtinfX.so.6\x00"))
	if err := h.start("run", "start").Wait(); exitCode(err) != 127 {
		t.Errorf("ended with %v", err)
	}
	if c := h.crash(); c.Kind != solstice.CrashLibrary || !strings.Contains(c.Cause, `needs "libtinfX.so.6", which is not here`) || !strings.Contains(c.Do, "genesis/lib") {
		t.Errorf("%+v", c)
	}
	_ = h.reading(h.create()).Wait()
	if c := h.crash(); c.Kind != solstice.CrashLibrary || !strings.Contains(c.Cause, "error while loading shared libraries: libtinfX.so.6") {
		t.Errorf("%+v", c)
	}

	loader := regexp.MustCompile(`/lib64/ld-linux-[\w-]+\.so\.\d`).FindString(string(content))
	if loader == "" {
		return // another machine's
	}
	h.check(os.Remove(filepath.Join(h.dir, "cosmovisor/genesis/bin/noded")))
	h.write("cosmovisor/genesis/bin/noded", strings.Replace(string(content), loader, strings.Replace(loader, "linux", "linuX", 1), 1))
	var said bytes.Buffer
	run := h.command("run", "start")
	run.Stderr = &said
	if err := run.Run(); exitCode(err) != 1 || !strings.Contains(said.String(), "no such file or directory: noded needs the loader /lib64/ld-linuX-") {
		t.Errorf("%v: %s", err, &said)
	}
}

// TestRestartWithoutBinary: a node that died while its binary is being replaced is started
// again when the binary is whole; until then solstice says what is in the way.
func TestRestartWithoutBinary(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"gone", "still-written"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := newHome(t, `{"block_time":20000000,"stop_at":20,"stop_code":2}`)
			binary := filepath.Join(h.dir, "cosmovisor/genesis/bin/noded")
			content, err := os.ReadFile(binary)
			h.check(err)
			h.check(os.Remove(binary)) // it is a link to that of all tests
			h.check(writeProgram(binary, content))
			log := h.create()
			run := h.command("run", "start")
			run.Env, run.Stderr = append(run.Env, "SOLSTICE_RESTART=on-failure"), log
			h.check(run.Start())
			said := func() string {
				content, err := os.ReadFile(log.Name())
				h.check(err)
				return string(content)
			}
			h.await("start at", 1)
			says := "the binary in use can't run"
			var written *os.File
			if way == "gone" {
				h.check(os.Rename(binary, binary+".next"))
			} else {
				says = "is still being written"
				h.check(os.Rename(binary, binary+".before")) // what runs can't be written to
				h.check(writeProgram(binary, content))
				written, err = os.OpenFile(binary, os.O_WRONLY, 0)
				h.check(err)
			}
			for deadline := time.Now().Add(20 * time.Second); !strings.Contains(said(), says); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("it does not say %q:\n%s", says, said())
				}
			}
			if way == "gone" {
				h.check(os.Rename(binary+".next", binary))
			} else {
				h.check(written.Close())
			}
			h.await("start at", 2)
			h.check(run.Process.Signal(syscall.SIGTERM))
			h.endsWithin(run, 10*time.Second)
			h.checkNoCry()
		})
	}
}
