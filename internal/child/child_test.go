package child

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func runScript(t *testing.T, ctx context.Context, limit time.Duration, script string) (End, []string, error) {
	t.Helper()
	var lines []string
	end, err := Run(ctx, exec.Command("sh", "-c", script), limit, func(line string) { lines = append(lines, line) })
	return end, lines, err
}

func TestRun(t *testing.T) {
	end, lines, err := runScript(t, t.Context(), time.Minute, "echo out; echo err >&2; printf last; exit 7")
	if err != nil || end.ExitCode() != 7 || !slices.Equal(lines, []string{"out", "err", "last"}) {
		t.Errorf("Run = %v, %q, %v", end, lines, err)
	}
	if end, _, err = runScript(t, t.Context(), time.Minute, "kill -SEGV $$"); err != nil || end.ExitCode() != 139 || end.Signal != syscall.SIGSEGV {
		t.Errorf("Run of one that a signal ends = %v, %v", end, err)
	}
	if end, lines, err = runScript(t, t.Context(), 0, "sleep 0.1; echo done"); err != nil || end.ExitCode() != 0 || !slices.Equal(lines, []string{"done"}) {
		t.Errorf("Run without a limit = %v, %q, %v", end, lines, err)
	}
	if _, err := Run(t.Context(), exec.Command("/no/such/program"), time.Minute, nil); err == nil {
		t.Error("Run of nothing succeeded")
	}
}

// TestRunLongLine: a line without an end does not stop the output from being read.
func TestRunLongLine(t *testing.T) {
	end, lines, err := runScript(t, t.Context(), time.Minute, "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo after")
	if err != nil || end.ExitCode() != 0 || lines[len(lines)-1] != "after" || len(strings.Join(lines, "")) != 1000000+5 {
		t.Errorf("%v, %d lines, %v", end, len(lines), err)
	}
}

// TestRunEndsAllChildren: by the limit, by the caller, and those that a program leaves behind.
func TestRunEndsAllChildren(t *testing.T) {
	cause := errors.New("called off")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(cause) })
	for _, tt := range []struct {
		name    string
		ctx     context.Context
		limit   time.Duration
		script  string
		wantErr string
	}{
		{"limit", t.Context(), 50 * time.Millisecond, "sleep 1000 & sleep 1000", "not done after 50ms"},
		{"caller", ctx, time.Minute, "sleep 1000 & sleep 1000", "called off"},
		{"left-behind", t.Context(), time.Minute, "sleep 1000 & exit 0", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			kept, inherited, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer kept.Close()
			cmd := exec.Command("sh", "-c", tt.script)
			cmd.ExtraFiles = []*os.File{inherited}
			start := time.Now()
			_, err = Run(tt.ctx, cmd, tt.limit, func(string) {})
			inherited.Close()
			if (tt.wantErr == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("Run = %v, want %q", err, tt.wantErr)
			}
			if time.Since(start) > 30*time.Second {
				t.Error("it waited for the children")
			}
			_ = kept.SetReadDeadline(time.Now().Add(30 * time.Second))
			if _, err := kept.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("a process is left: %v", err)
			}
		})
	}
}

func TestStartedProcessTellsItsEnd(t *testing.T) {
	p, err := Start(exec.Command("sleep", "1000"), syscall.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second signal finds nobody, and that is no error
		if err := p.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-p.Done()
	}
	if end := p.End(); end.Signal != syscall.SIGTERM || end.String() != "killed by signal 15 (terminated)" {
		t.Errorf("End = %v", end)
	}
}

// TestLeftBehind: a process that the child started, and that outlives it, is seen until it ends.
func TestLeftBehind(t *testing.T) {
	p, err := Start(exec.Command("sh", "-c", "sleep 0.3 & exit 0"), syscall.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if !p.LeftBehind() {
		t.Error("the sleep is not seen")
	}
	for deadline := time.Now().Add(20 * time.Second); p.LeftBehind(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("its end is not seen")
		}
	}
}

// TestLeftBehindAmongSignals: a signal that comes at the wrong moment does not make a process vanish: a second node was started
// beside it once.
func TestLeftBehindAmongSignals(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 1000 & exit")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p, err := Start(cmd, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	defer syscall.Kill(-p.PID, syscall.SIGKILL) // the number is theirs as long as the sleep lives
	stop := make(chan struct{})
	defer close(stop)
	for range 2 {
		go func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = syscall.Kill(os.Getpid(), syscall.SIGURG) // which the runtime expects at any time
				}
			}
		}()
	}
	for i := range 100_000 {
		if !p.LeftBehind() {
			t.Fatalf("it is gone, in look %d", i)
		}
	}
}
