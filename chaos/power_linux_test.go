package chaos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"solstice/internal/testnode"
)

// disk is a filesystem on a loop device whose power can be cut.
type disk struct {
	testing.TB
	image, dir string
}

// filesystems are those that nodes live on.
var filesystems = []struct {
	name string
	mkfs []string
}{
	{"xfs", []string{"mkfs.xfs", "-q", "-f", "-m", "reflink=1"}},
	{"xfs-without-clones", []string{"mkfs.xfs", "-q", "-f", "-m", "reflink=0"}},
	{"ext4", []string{"mkfs.ext4", "-q", "-F"}},
}

func newDisk(t testing.TB, mkfs []string) disk {
	t.Helper()
	for _, tool := range []string{mkfs[0], "xfs_io"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("needs the tools of the filesystem:", err)
		}
	}
	d := disk{t, filepath.Join(t.TempDir(), "image"), t.TempDir()}
	d.must("truncate", "-s", "320M", d.image)
	d.must(mkfs[0], append(mkfs[1:], d.image)...)
	if output, err := exec.Command("mount", "-o", "loop", d.image, d.dir).CombinedOutput(); err != nil {
		t.Skipf("needs the right to mount a loop device: %v, %s", err, output)
	}
	t.Cleanup(func() { unix.Unmount(d.dir, unix.MNT_DETACH) })
	return d
}

func (d disk) must(name string, args ...string) {
	d.Helper()
	if output, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.Fatalf("%s %q: %v, %s", name, args, err, output)
	}
}

// off takes the power: from here on nothing reaches the disk. flushed says that the filesystem's journal still does, as by a cut a
// moment later: then a rename is there whose file is not.
func (d disk) off(flushed bool) {
	d.Helper()
	command := "shutdown"
	if flushed {
		command = "shutdown -f"
	}
	d.must("xfs_io", "-x", "-c", command, d.dir)
}

// on gives it back.
func (d disk) on() {
	d.Helper()
	d.must("umount", d.dir)
	d.must("mount", "-o", "loop", d.image, d.dir)
}

var power = newCampaign("power cuts")

// TestPowerCut takes the power at each step of an upgrade, and at random moments of it. What was not synced is lost. Each time
// the next start finds a state that it can name, and completes it.
func TestPowerCut(t *testing.T) {
	steps := []string{"begin", "stop", "snapshot", "script", "pre-upgrade", "switch", "start", "confirm"}
	limit, full := power.full()
	start := time.Now()
	for i, fs := range filesystems {
		t.Run(fs.name, func(t *testing.T) {
			t.Parallel()
			drawn := random(fs.name)
			for j, step := range steps {
				if full || j%len(filesystems) == i {
					cutPower(t, fs.mkfs, step, 0, drawn.IntN(2) == 0)
				}
			}
			for round := 0; full && time.Since(start) < limit || round < 1; round++ {
				cutPower(t, fs.mkfs, "begin", time.Duration(drawn.IntN(60))*time.Millisecond, drawn.IntN(2) == 0)
			}
		})
	}
}

// cutPower takes the power so long after a step of the upgrade to v2 stands in the journal.
func cutPower(t *testing.T, mkfs []string, step string, later time.Duration, flushed bool) {
	t.Run(fmt.Sprintf("%s-and-%s", step, later), func(t *testing.T) {
		power.cuts.Add(1)
		d := newDisk(t, mkfs)
		script := testnode.Script{BlockTime: 2 * time.Millisecond, HaltExit: -1, Plans: []testnode.Plan{{Name: "v2", Height: 12}}, Database: true}
		h := newHomeIn(t, d.dir, script, "upgrades/v2")
		h.log = filepath.Join(t.TempDir(), "log") // of this machine, not of the one that loses its power
		h.write("cosmovisor/pre.sh", "#!/bin/sh\ntrue\n")
		h.env = append(h.env, "COSMOVISOR_CUSTOM_PREUPGRADE=pre.sh")
		d.must("sync", "-f", d.dir) // what stood there long before
		running := h.start(h.runArgs()...)
		h.await("step "+step, func() bool {
			journal, _ := os.ReadFile(h.paths().JournalFile())
			return strings.Contains(string(journal), `"step":"`+step+`"`)
		})
		time.Sleep(later)
		d.off(flushed) // a mark that was written and not synced yet is none
		running.kill()
		h.clear()
		d.on()
		h.check(ending{binary: "upgrades/v2", upgrades: []string{"v2"}, snapshots: []string{"v2-12-"}})
		if t.Failed() {
			power.failures.Add(1)
		}
	})
}
