package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestCosmovisor hands a home from the released Cosmovisor to solstice and back, each way, with an upgrade by each of them, by
// the commands that an operator uses: adopt and eject. It is here and not in bench/, where Cosmovisor is built, because that is
// another module, and because this test's own binary is solstice.
func TestCosmovisor(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1.5.0", "1.7.1"} {
		cosmovisor, err := filepath.Abs("../../bin/cosmovisor-" + version)
		if err != nil {
			t.Fatal(err)
		}
		for _, first := range []string{"cosmovisor", "solstice"} {
			t.Run(version+"-"+first+"-first", func(t *testing.T) {
				if _, err := os.Stat(cosmovisor); err != nil {
					t.Skip("Cosmovisor", version, "is not built here: make cosmovisor, which needs its module: ", err)
				}
				t.Parallel()
				h := newExchange(t, cosmovisor)
				if first == "solstice" {
					// A home that was never Cosmovisor's: the first link is relative.
					h.run(h.command("init", filepath.Join(h.dir, "cosmovisor/genesis/bin/noded")))
					h.run(h.command("eject", "--units", h.units))
				}
				h.upgrade(h.underCosmovisor, "v2")
				h.run(h.command("adopt", "--plan-not-near", "--units", h.units))
				h.upgrade(h.underSolstice, "v3")
				h.run(h.command("eject", "--units", h.units))
				h.upgrade(h.underCosmovisor, "v4")
				if first == "solstice" {
					h.run(h.command("adopt", "--plan-not-near", "--units", h.units))
					h.upgrade(h.underSolstice, "v5")
				}
				h.checkNoCry()
			})
		}
	}
}

// exchange is a home that goes from hand to hand.
type exchange struct {
	*testHome
	units string // folder of the service
	plans []string
}

func newExchange(t *testing.T, cosmovisor string) *exchange {
	t.Helper()
	h := &exchange{testHome: newHome(t, "", "upgrades/v2", "upgrades/v3", "upgrades/v4", "upgrades/v5"), units: t.TempDir()}
	// The service calls it by its own name.
	h.check(os.Symlink(cosmovisor, filepath.Join(h.units, "cosmovisor")))
	me, err := user.Current()
	h.check(err)
	h.check(os.WriteFile(filepath.Join(h.units, "noded.service"), fmt.Appendf(nil,
		"[Service]\nUser=%s\nEnvironment=DAEMON_HOME=%s DAEMON_NAME=noded DAEMON_SHUTDOWN_GRACE=10s DAEMON_POLL_INTERVAL=50ms\nExecStart=%s/cosmovisor run start\n",
		me.Username, h.dir, h.units), 0o644))
	h.script()
	return h
}

// run runs a command that has to go well.
func (h *exchange) run(cmd *exec.Cmd) {
	h.Helper()
	if out, err := cmd.Output(); err != nil {
		h.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}

// script writes the chain's plans for the node.
func (h *exchange) script() {
	h.write("config/noded.json", `{"halt_exit":-1,"plans":[`+strings.Join(h.plans, ",")+`]}`)
}

func (h *exchange) underCosmovisor() *exec.Cmd { return h.service("cosmovisor") }
func (h *exchange) underSolstice() *exec.Cmd   { return h.service("solstice") }

// service is the command that systemd would run, which must be this program.
func (h *exchange) service(program string) *exec.Cmd {
	h.Helper()
	line := ""
	for _, file := range []string{"noded.service", "noded.service.d/solstice.conf"} {
		content, _ := os.ReadFile(filepath.Join(h.units, file)) // without a drop-in Cosmovisor runs
		for one := range strings.Lines(string(content)) {
			if command, ok := strings.CutPrefix(strings.TrimSpace(one), "ExecStart="); ok && command != "" {
				line = command
			}
		}
	}
	args := strings.Fields(line)
	if len(args) != 3 || filepath.Base(args[0]) != program {
		h.Fatalf("the service runs %q, want %s", line, program)
	}
	cmd := h.command(args[1:]...)
	cmd.Path, cmd.Args[0] = args[0], args[0]
	cmd.Env = append(cmd.Env, "DAEMON_SHUTDOWN_GRACE=10s", "DAEMON_POLL_INTERVAL=50ms")
	return cmd
}

// upgrade lets the chain go through one more plan under a supervisor, and stops both after it.
func (h *exchange) upgrade(supervisor func() *exec.Cmd, plan string) {
	h.Helper()
	content, _ := os.ReadFile(filepath.Join(h.dir, "data", "height"))
	height, _ := strconv.ParseInt(string(content), 10, 64)
	h.plans = append(h.plans, fmt.Sprintf(`{"name":%q,"height":%d}`, plan, height+20))
	h.script()
	cmd := supervisor()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	h.check(cmd.Start())
	h.await(fmt.Sprintf("%s start at %d\n", plan, height+19), 1)
	// All of the service gets it, as by systemd: after an upgrade Cosmovisor 1.5 ends and may leave the node alone.
	h.check(syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM))
	_ = cmd.Wait() // Cosmovisor ends with 1
	h.await(plan+" stopped at", 1)
	h.nodeEnded()
	if link, err := filepath.EvalSymlinks(filepath.Join(h.dir, "cosmovisor", "current")); err != nil || filepath.Base(link) != plan {
		h.Fatalf("the link names %s, %v, want %s", link, err, plan)
	}
}

// nodeEnded waits until the node has left its data: Cosmovisor may end before it.
func (h *exchange) nodeEnded() {
	h.Helper()
	f, err := os.Open(filepath.Join(h.dir, "data", "LOCK"))
	h.check(err)
	defer f.Close()
	for deadline := time.Now().Add(30 * time.Second); unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.Fatal("the node does not end")
		}
	}
}

// TestUserOfTheService: adopt sees what the service's user could not do, and eject by root leaves what that user can change.
func TestUserOfTheService(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be another user than the service's")
	}
	u, err := user.LookupId(strconv.Itoa(nobody))
	if err != nil {
		t.Skip("there is no user nobody here: ", err)
	}
	h := newHome(t, "", "upgrades/v2")
	units := t.TempDir()
	service := fmt.Sprintf("[Service]\nUser=%s\nEnvironment=DAEMON_HOME=%s DAEMON_NAME=noded\nExecStart=/usr/bin/cosmovisor run start\n", u.Username, h.dir)
	h.check(os.WriteFile(filepath.Join(units, "noded.service"), []byte(service), 0o644))
	h.check(os.Symlink("genesis", filepath.Join(h.dir, "cosmovisor/current")))
	adopt := h.command("adopt", "--units", units)
	adopt.Stderr = nil
	_, err = adopt.Output() // this test's binary lies in a folder of root's own
	exit, _ := err.(*exec.ExitError)
	if want := "is closed to it"; exit == nil || exit.ExitCode() != 3 || !strings.Contains(string(exit.Stderr), want) {
		t.Errorf("adopt: %v, want code 3 and %q", err, want)
	}
	h.check(os.Chown(filepath.Join(h.dir, "data"), nobody, nobody))

	h.check(h.command("add-upgrade", "v2", "/bin/sh", "--force", "--upgrade-height", "50").Run())
	for _, path := range []string{"", "cosmovisor", "cosmovisor/.solstice", "cosmovisor/.solstice/plans.json", "cosmovisor/current"} {
		h.check(os.Lchown(filepath.Join(h.dir, path), nobody, nobody))
	}
	h.check(os.Chmod(filepath.Dir(h.dir), 0o755))
	h.check(h.command("eject", "--units", units).Run())
	for _, path := range []string{"data/upgrade-info.json", "cosmovisor/current", "cosmovisor/.solstice/plans.json"} {
		info, err := os.Lstat(filepath.Join(h.dir, path))
		h.check(err)
		if owner := info.Sys().(*syscall.Stat_t).Uid; owner != nobody {
			t.Errorf("%s belongs to user %d", path, owner)
		}
	}
}
