package child

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

type runner func(context.Context, *exec.Cmd, time.Duration, func(string)) (End, error)

// TestRunConfined: each command works when it runs freely, and fails when it is confined.
func TestRunConfined(t *testing.T) {
	if !CanConfine() {
		t.Skip("this kernel has no Landlock")
	}
	home, allowed := t.TempDir(), t.TempDir()
	write(t, filepath.Join(home, "key"))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	sleep := exec.Command("sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleep.Process.Kill(); _ = sleep.Wait() }()
	confined := func(ctx context.Context, cmd *exec.Cmd, limit time.Duration, line func(string)) (End, error) {
		return RunConfined(ctx, cmd, allowed, limit, line)
	}
	for _, tt := range []struct{ name, script string }{
		{"write", "echo x > new"},
		{"append", "echo x >> key"},
		{"truncate", "truncate -s 0 key"},
		{"mkdir", "mkdir sub"},
		{"symlink", "ln -s key soft"},
		{"link-out", "ln key " + allowed + "/hard-$$"},
		{"rename-in", "touch " + allowed + "/mine && mv " + allowed + "/mine key"},
		{"remove", "rm -f key"},
		{"nested", "sh -c 'sh -c \"echo x > newer\"'"},
		{"tcp", "exec bash -c 'exec 3<>/dev/tcp/127.0.0.1/" + strconv.Itoa(listener.Addr().(*net.TCPAddr).Port) + "'"},
		{"signal", "kill -0 " + strconv.Itoa(sleep.Process.Pid)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "tcp" && landlock() < 4 || tt.name == "signal" && landlock() < 6 {
				t.Skip("this kernel's Landlock can't keep it from that")
			}
			write(t, filepath.Join(home, "key"))
			do := func(run runner) (int, string) {
				cmd := exec.Command("sh", "-c", tt.script)
				cmd.Dir = home
				var said strings.Builder
				end, err := run(t.Context(), cmd, time.Minute, func(line string) { said.WriteString(line + "\n") })
				if err != nil {
					t.Fatal(err)
				}
				return end.ExitCode(), said.String()
			}
			if code, said := do(confined); code == 0 {
				t.Errorf("it could, confined: %s", said)
			}
			if data, err := os.ReadFile(filepath.Join(home, "key")); err != nil || string(data) != "key" {
				t.Errorf("the file is %q, %v", data, err)
			}
			if code, said := do(Run); code != 0 {
				t.Errorf("it could not, free: %s", said)
			}
		})
	}
}

// TestConfinedWorks: what a program needs to tell its version it can do, and those who started it are not confined with it.
func TestConfinedWorks(t *testing.T) {
	dir := t.TempDir()
	// The score is set just after the start: on a busy machine the shell may come to it before.
	cmd := exec.Command("sh", "-c", "mkdir sub && echo x > sub/file && mv sub/file file && echo y > /dev/null && "+
		"until grep -qx 1000 /proc/self/oom_score_adj; do :; done && cat /proc/self/oom_score_adj && nice && kill -0 $$")
	cmd.Dir = dir
	var lines []string
	end, err := RunConfined(t.Context(), cmd, dir, time.Minute, func(line string) { lines = append(lines, line) })
	if err != nil || end.ExitCode() != 0 || len(lines) != 2 || lines[0] != "1000" || lines[1] != "10" {
		t.Errorf("RunConfined = %v, %q, %v", end, lines, err)
	}
	for range 50 {
		write(t, filepath.Join(t.TempDir(), "file"))
	}
	if _, err := RunConfined(t.Context(), exec.Command("true"), filepath.Join(dir, "missing"), time.Minute, nil); CanConfine() && err == nil {
		t.Error("RunConfined with a folder that is not there succeeded")
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
}
