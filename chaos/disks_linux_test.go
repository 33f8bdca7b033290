package chaos

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"solstice"
	"solstice/internal/testnode"
)

var disks = newCampaign("troubled disks")

// mount mounts a filesystem on a folder for the time of the test.
func mount(t testing.TB, source, dir, kind string, flags uintptr, options string) {
	t.Helper()
	if err := unix.Mount(source, dir, kind, flags, options); err != nil {
		t.Skip("needs the right to mount:", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// oneUpgrade is a chain that upgrades once and goes on.
var oneUpgrade = testnode.Script{BlockTime: 2e6, HaltExit: -1, Database: true, Plans: []testnode.Plan{{Name: "v2", Height: 30}}}

var upgradedOnce = ending{binary: "upgrades/v2", upgrades: []string{"v2"}, snapshots: []string{"v2-30-"}}

// TestDiskTroubles: an upgrade on a disk that has no room, no names or no right to write is not carried out, with a sentence, and
// the node is kept, halted; when the cause is gone it goes on by itself.
func TestDiskTroubles(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options string // of the filesystem in memory that the home lies on
		trouble func(h *home)
		mend    func(h *home)
		say     string
	}{
		{"full", "size=64m", func(h *home) { fill(h) }, func(h *home) { h.must(os.Remove(filepath.Join(h.dir, "filler"))) }, "no space left on device"},
		{"out-of-inodes", "size=64m,nr_inodes=400", useInodes, func(h *home) { h.must(os.RemoveAll(filepath.Join(h.dir, "names"))) }, "no space left on device"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			disks.cuts.Add(1)
			root := t.TempDir()
			mount(t, "tmpfs", root, "tmpfs", 0, tt.options)
			h := newHomeIn(t, root, oneUpgrade)
			h.log = filepath.Join(t.TempDir(), "log")
			elsewhere := filepath.Join(t.TempDir(), "v2") // where the plan's binary can be brought when the trouble is there
			h.must(os.Mkdir(h.paths().Upgrades(), 0o755))
			h.must(os.Symlink(elsewhere, filepath.Join(h.paths().Upgrades(), "v2")))
			run := h.start(h.runArgs()...)
			h.await("the node halts", func() bool { return strings.Contains(h.noded(), "halt for v2") })
			h.await("solstice waits for the binary", func() bool {
				status, err := h.status()
				return err == nil && status.Waiting != ""
			})
			tt.trouble(h)
			h.must(os.MkdirAll(filepath.Join(elsewhere, "bin.new"), 0o755))
			h.must(exec.Command("cp", nodedBinary, filepath.Join(elsewhere, "bin.new")).Run())
			h.must(os.Rename(filepath.Join(elsewhere, "bin.new"), filepath.Join(elsewhere, "bin")))
			h.await("a sentence about it", func() bool {
				content, _ := os.ReadFile(h.log)
				return strings.Contains(string(content), tt.say) || run.ended()
			})
			if run.ended() {
				h.await("its words", func() bool {
					content, _ := os.ReadFile(h.log)
					return strings.Contains(string(content), tt.say)
				})
			}
			if target, _ := os.Readlink(h.paths().CurrentLink()); target != solstice.Genesis {
				t.Errorf("the link says %q", target)
			}
			tt.mend(h)
			if !run.ended() {
				h.await("the upgrade goes on", func() bool {
					status, err := h.status()
					return err == nil && status.Binary.Dir == "upgrades/v2" || run.ended()
				})
				run.kill()
			}
			h.clear()
			link := filepath.Join(h.paths().Upgrades(), "v2")
			h.must(os.Remove(link))
			h.must(exec.Command("cp", "-a", elsewhere, link).Run())
			h.check(upgradedOnce)
			if t.Failed() {
				disks.failures.Add(1)
			}
		})
	}
}

// fill leaves no room on the home's disk.
func fill(h *home) {
	h.Helper()
	file, err := os.Create(filepath.Join(h.dir, "filler"))
	h.must(err)
	defer file.Close()
	for _, block := range []int{1 << 20, 1 << 12, 1} {
		for err == nil {
			_, err = file.Write(make([]byte, block))
		}
		err = nil
	}
}

// useInodes leaves no name for another file.
func useInodes(h *home) {
	h.Helper()
	dir := filepath.Join(h.dir, "names")
	h.must(os.Mkdir(dir, 0o755))
	for i := 0; ; i++ {
		if os.Symlink("x", filepath.Join(dir, strings.Repeat("x", i%200+1)+"-"+strings.Repeat("y", i/200))) != nil {
			return
		}
	}
}

// TestDiskBecomesReadOnly: a filesystem that has found an error on its disk lets nothing be written any more, as it is set up on most
// servers. The upgrade is not carried out, and is when the filesystem is mounted again.
func TestDiskBecomesReadOnly(t *testing.T) {
	disks.cuts.Add(1)
	d := newDisk(t, []string{"mkfs.ext4", "-q", "-F", "-e", "remount-ro"})
	device, err := exec.Command("findmnt", "-n", "-o", "SOURCE", d.dir).Output()
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(strings.TrimSpace(string(device))), "trigger_fs_error")
	if err != nil || unix.Access(trigger, unix.W_OK) != nil {
		t.Skipf("needs a filesystem that can be told of an error: %v, %s", err, trigger)
	}
	h := newHomeIn(t, d.dir, oneUpgrade, "upgrades/v2")
	h.log = filepath.Join(t.TempDir(), "log")
	h.write("cosmovisor/pre.sh", "#!/bin/sh\necho 1 >"+trigger+"\n") // in the middle of the upgrade
	h.env = append(h.env, "COSMOVISOR_CUSTOM_PREUPGRADE=pre.sh")
	d.must("sync", "-f", d.dir) // what stood there long before
	run := h.start(h.runArgs()...)
	if code := h.end(run); code != solstice.ExitFailed {
		t.Errorf("exit code %d", code)
	}
	if said, _ := os.ReadFile(h.log); !strings.Contains(string(said), "read-only file system; the next start goes on with this upgrade") {
		t.Errorf("it does not say why, and what is next:\n%s", said)
	}
	if target, _ := os.Readlink(h.paths().CurrentLink()); target != solstice.Genesis {
		t.Errorf("the link says %q", target)
	}
	h.clear()
	d.on()
	h.env = nil
	h.check(upgradedOnce)
}

// TestFilesystems: an upgrade on each filesystem that a node may live on, on data behind a symlink to another, and where the
// system has no file events to give.
func TestFilesystems(t *testing.T) {
	for _, tt := range []struct {
		name string
		mkfs []string
	}{
		{"xfs", filesystems[0].mkfs}, {"xfs-without-clones", filesystems[1].mkfs}, {"ext4", filesystems[2].mkfs}, {"btrfs", []string{"mkfs.btrfs", "-q", "-f"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			disks.cuts.Add(1)
			d := newDisk(t, tt.mkfs)
			newHomeIn(t, d.dir, oneUpgrade, "upgrades/v2").check(upgradedOnce)
		})
	}
	t.Run("data-elsewhere", func(t *testing.T) {
		t.Parallel()
		disks.cuts.Add(1)
		d := newDisk(t, filesystems[0].mkfs)
		h := newHome(t, oneUpgrade, "upgrades/v2")
		data := filepath.Join(d.dir, "data")
		h.must(exec.Command("cp", "-a", filepath.Join(h.dir, "data"), data).Run())
		h.must(os.RemoveAll(filepath.Join(h.dir, "data")))
		h.must(os.Symlink(data, filepath.Join(h.dir, "data")))
		h.check(upgradedOnce)
	})
	t.Run("without-file-events", func(t *testing.T) {
		t.Parallel()
		disks.cuts.Add(1)
		strace, err := exec.LookPath("strace")
		if err != nil {
			t.Skip("needs strace:", err)
		}
		h := newHome(t, oneUpgrade, "upgrades/v2")
		cmd := h.command(h.runArgs()...)
		cmd.Args = append([]string{"strace", "-f", "-qq", "-o", filepath.Join(t.TempDir(), "trace"), "-e", "trace=inotify_init1,inotify_init",
			"-e", "inject=inotify_init1,inotify_init:error=EMFILE"}, cmd.Args...)
		cmd.Path = strace
		run := h.begin(cmd)
		h.await("the upgrade is confirmed", func() bool {
			status, err := h.status()
			return run.ended() || err == nil && len(confirmed(status)) == 1
		})
		if content, _ := os.ReadFile(h.log); !strings.Contains(string(content), "the system has no file events to give") {
			t.Errorf("it does not say that there are no events:\n%s", content)
		}
		h.killSupervisor()
		run.kill()
		h.clear()
		h.check(upgradedOnce)
	})
}

// killSupervisor kills the solstice that supervises the home, below whatever traces it.
func (h *home) killSupervisor() {
	h.Helper()
	status, err := h.status()
	if err == nil && status.Supervisor != nil {
		_ = unix.Kill(status.Supervisor.PID, unix.SIGKILL)
	}
}
