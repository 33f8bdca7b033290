package localnet

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"solstice/internal/child"
	"solstice/internal/durable"
)

// sleeps is the environment variable that has this test's binary sleep, in place of a command of solstice.
const sleeps = "LOCALNET_TEST_SLEEPS"

func TestMain(m *testing.M) {
	if os.Getenv(sleeps) != "" {
		time.Sleep(time.Hour)
	}
	os.Exit(m.Run())
}

// TestKilledCommandSaysWhy: a command that a deadline kills says which one, and not that a signal came from nowhere.
func TestKilledCommandSaysWhy(t *testing.T) {
	c, err := Open(t.Context(), write(t, strings.Replace(chaind, "  environment*)", "  slow*) exec sleep 1000 ;;\n  environment*)", 1)))
	if err != nil {
		t.Fatal(err)
	}
	n := Node{Home: t.TempDir(), Chain: "examplechaind", Environ: []string{sleeps + "=1"}}
	for _, tt := range []struct {
		name string
		run  func(context.Context) error
		want string
	}{
		{
			name: "the binary's help",
			run:  func(ctx context.Context) error { _, err := c.help(ctx, "slow"); return err },
			want: "chaind slow --help: not done after 50ms",
		},
		{
			name: "a command of the binary",
			run:  func(ctx context.Context) error { _, err := c.Run(ctx, n.Home, "slow", "--flag"); return err },
			want: "chaind slow: not done after 50ms",
		},
		{
			name: "a command of solstice",
			run:  func(ctx context.Context) error { return n.Solstice(ctx, "slow") },
			want: "solstice slow: not done after 50ms",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("not done after 50ms"))
			defer cancel()
			if err := tt.run(ctx); err == nil || err.Error() != tt.want {
				t.Errorf("error = %v, want %s", err, tt.want)
			}
		})
	}
}

// TestKillAllKillsTheNode: the node of a solstice that has ended is found, and killed.
func TestKillAllKillsTheNode(t *testing.T) {
	home := t.TempDir()
	lock, err := durable.Lock(home)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "trap '' TERM; sleep 1000 & exit")
	cmd.ExtraFiles = []*os.File{lock}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := &Process{Home: home}
	if p.Process, err = child.Start(cmd, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	lock.Close()
	<-p.Done()
	if !p.LeftBehind() {
		t.Fatal("nothing is left to be killed")
	}
	if err := p.KillAll(); err != nil || p.LeftBehind() {
		t.Errorf("KillAll = %v; something is left: %v", err, p.LeftBehind())
	}
}

// TestKillAllKillsNoOther: the number of a process that has ended may be another's when KillAll is called.
func TestKillAllKillsNoOther(t *testing.T) {
	other := exec.Command("cat")
	other.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	to, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	from, err := other.StdoutPipe()
	if err == nil {
		err = other.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	p := &Process{Home: t.TempDir()}
	if p.Process, err = child.Start(exec.Command("true"), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	p.PID = other.Process.Pid // as if the kernel had given the number anew
	lock, err := durable.Lock(p.Home)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, func() { lock.Close() }) // it is another's too
	if err := p.KillAll(); err != nil {
		t.Fatal(err)
	}
	if _, err := to.Write([]byte("alive\n")); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(from).ReadString('\n'); line != "alive\n" {
		t.Errorf("the other process says %q, %v; it was killed", line, err)
	}
}
