package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"solstice"
)

// TestHostileText: what the chain, a server, or whoever names files may choose reaches no
// terminal as it is: it moves no cursor, hides nothing, and begins no line of its own.
func TestHostileText(t *testing.T) {
	t.Parallel()
	const forged = "No upgrade is ahead, believe me."
	name := "v2\x1b[2J\u009b31m\u202e\r\n" + forged + "\n'; rm -rf /"
	h := newHome(t, `{"block_time":20000000,"stop_time":50000000}`)
	address := answering(t, "HTTP/1.1 500 no \x1b]52;c;ZXZpbA==\x07 \u202e\r\nContent-Length: 0\r\n\r\n")
	dir := solstice.Home{Dir: h.dir}.UpgradeDir(name)
	h.write(filepath.Join("cosmovisor", dir, "bin", "noded"), "#!/bin/sh\necho '\x1b[31mred'\n")
	h.check(os.WriteFile(filepath.Join(h.dir, "data/upgrade-info.json"), solstice.Plan{Name: name, Height: 900}.File(), 0o600))
	h.check(os.Symlink("genesis", filepath.Join(h.dir, "cosmovisor/current")))
	h.write("config/config.toml", "[rpc]\nladdr = \"tcp://"+address+"\"\n")

	var log strings.Builder
	run := h.command("run", "start")
	run.Stderr = &log
	h.check(run.Start())
	h.await("start at", 1)
	outputs := map[string]string{}
	for _, args := range [][]string{
		{"status"}, {"status", "-o", "json"}, {"plan"}, {"plan", "-o", "json"}, {"doctor"}, {"doctor", "--plan", name}, {"show-upgrade-info"}, {"config"},
		{"add-upgrade", name, "/none"}, {"add-upgrade", name, nodeBinary, "--upgrade-height", "900"}, {"cancel-upgrade", name}, {"cancel-upgrade", name + "x"},
		{"prepare-upgrade"}, {"snapshot", "list"}, {"snapshot", "restore", name}, {"rollback", "--dry-run"}, {name}, {"status", "--" + name},
	} {
		out, _ := h.output(args...)
		outputs[strings.Join(args, " ")] = out
	}
	h.check(run.Process.Signal(syscall.SIGTERM))
	h.endsWithin(run, 10*time.Second)
	for _, args := range [][]string{{"switch", name}, {"switch", name + "x"}, {"status"}, {"snapshot", "create"}, {"snapshot", "list"}, {"rollback", "--dry-run"}, {"eject", "--dry-run"}} {
		out, _ := h.output(args...)
		outputs["stopped: "+strings.Join(args, " ")] = out
	}
	outputs["the log"] = log.String()
	for what, out := range outputs {
		for line := range strings.Lines(out) {
			line = strings.TrimRight(line, "\n")
			if at := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsGraphic(r) && r != '\t' }); at >= 0 {
				t.Errorf("%q prints %q, at %d", what, line, at)
			}
			if strings.HasPrefix(line, forged) {
				t.Errorf("%q prints a line that is not its own:\n%s", what, out)
			}
		}
	}
	for _, what := range []string{"status", "plan", "show-upgrade-info", "the log"} {
		if !strings.Contains(outputs[what], `v2\u001b[2J`) {
			t.Errorf("%q does not show the plan:\n%s", what, outputs[what])
		}
	}
}

// output is all that a command prints.
func (h *testHome) output(args ...string) (string, error) {
	cmd := h.command(args...)
	cmd.Stderr = nil
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// answering is a server that says one thing, whatever it is asked.
func answering(t *testing.T, answer string) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 64<<10))
				_, _ = conn.Write([]byte(answer))
			}()
		}
	}()
	return listener.Addr().String()
}
