package chaos

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"solstice/internal/testnode"
	"solstice/upgrade"
)

var systemCalls = newCampaign("system calls")

// TestSystemCalls cuts solstice off before each of its system calls that change the disk or processes, and lets each of them fail.
func TestSystemCalls(t *testing.T) {
	needTrace(t)
	var mu sync.Mutex
	var all []attempt
	t.Run("unharmed", func(t *testing.T) {
		for _, s := range scenarios {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				calls := s.try(t, harm{}, 0)
				t.Logf("%d calls: %v", len(calls), calls)
				mu.Lock()
				defer mu.Unlock()
				for i, c := range calls {
					all = append(all, attempt{s, harm{n: i + 1}, c.String(), 0})
					if i > 0 && i+1 < len(calls) && calls[i-1].String() == c.String() && calls[i+1].String() == c.String() {
						continue // in the middle of many writes to one file an error is the same error
					}
					for _, errno := range c.errors {
						all = append(all, attempt{s, harm{n: i + 1, errno: errno}, c.String(), 0}, attempt{s, harm{n: i + 1, errno: errno, lasting: true}, c.String(), 0})
					}
				}
			})
		}
	})
	if t.Failed() {
		return
	}
	slices.SortStableFunc(all, func(a, b attempt) int { return strings.Compare(a.name, b.name) })
	t.Logf("%d attempts", len(all))
	r := random("system calls")
	began := time.Now()
	long, full := systemCalls.full()
	for round := 0; ; round++ {
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		if !full {
			all = append(mended(t, all), all[:min(len(all), shortForm)]...)
		} else if round == 0 { // the cuts first: an error at least says where it is
			slices.SortStableFunc(all, func(a, b attempt) int { return min(1, int(a.errno)) - min(1, int(b.errno)) })
		}
		if round > 0 { // and the start after it
			for i := range all {
				all[i].then = 1 + r.IntN(laterCalls)
			}
		}
		for batch := range slices.Chunk(all, 50) {
			if round > 0 && time.Since(began) > long {
				return
			}
			t.Run(fmt.Sprintf("round-%d", round), func(t *testing.T) {
				for _, a := range batch {
					t.Run(a.String(), func(t *testing.T) {
						t.Parallel()
						a.try(t, a.harm, a.then)
					})
				}
			})
		}
		if !full {
			return
		}
	}
}

// laterCalls is how many calls a start after a cut has, about.
const laterCalls = 150

// shortForm is how many attempts are drawn in the short form, besides those that failed once.
const shortForm = 6

// failed are attempts that showed a bug, which was mended. The short form makes them each time.
var failed = []struct {
	scenario, call string // a regular expression
	errno          syscall.Errno
}{
	{"upgrade", `^fsync home/cosmovisor/upgrades/v2/bin$`, 0},                               // the download stayed for ever
	{"add-upgrade-force", `^copy_file_range home/cosmovisor/upgrades/v2/bin/`, unix.ENOSPC}, // the old binary was deleted
	{"add-upgrade-height", `^fsync home/cosmovisor/.solstice$`, unix.EIO},                   // planned without a binary
	{"prepare-upgrade", `^fsync home/cosmovisor/upgrades/v2/lib/`, unix.ENOSPC},             // could never be prepared again
}

// mended finds these among all attempts.
func mended(t *testing.T, all []attempt) (found []attempt) {
	t.Helper()
	for _, f := range failed {
		i := slices.IndexFunc(all, func(a attempt) bool {
			return a.name == f.scenario && a.errno == f.errno && !a.lasting && regexp.MustCompile(f.call).MatchString(a.call)
		})
		if i < 0 {
			t.Errorf("%s has no call like %s any more", f.scenario, f.call)
			continue
		}
		found = append(found, all[i])
	}
	return found
}

// attempt is one scenario under one harm.
type attempt struct {
	*scenario
	harm
	call string // that was the n-th when nothing was harmed
	then int    // the call of the start after it before which that is killed too; 0: it is not
}

func (a attempt) String() string {
	if a.then > 0 {
		return fmt.Sprintf("%s-%s-then-kill-%d", a.name, a.harm, a.then)
	}
	return a.name + "-" + a.harm.String()
}

// scenario is something that solstice does, from a home that is ready for it to what has to come of it.
type scenario struct {
	name     string
	script   testnode.Script // while it is prepared
	versions []string
	prepare  func(h *home)
	args     func(h *home) []string
	until    func(h *home) bool // where a supervisor is to be stopped; nil for a command, which ends by itself
	again    func(h *home)      // what the operator does when the command was cut off, or failed
	finished bool               // by the next start, if it was cut off: then the operator does it half of the times only
	left     func(h *home)      // looks at what is there right after it; may be nil
	want     ending
	end      func(h *home, completed bool) // looks once more at the end; may be nil
}

const chainHeight = 10 // of the upgrade in all scenarios

func plans(info string) []testnode.Plan {
	return []testnode.Plan{{Name: "v2", Height: chainHeight, Info: info}}
}

const blockTime = 5 * time.Millisecond

var toV2 = ending{binary: "upgrades/v2", upgrades: []string{"v2"}, snapshots: []string{"v2-10-"}}

var scenarios = []*scenario{
	{
		name: "upgrade",
		prepare: func(h *home) {
			h.env = []string{"DAEMON_ALLOW_DOWNLOAD_BINARIES=true", "COSMOVISOR_CUSTOM_PREUPGRADE=pre.sh"}
			h.write("cosmovisor/pre.sh", "#!/bin/sh\necho script $1 at $2 >>noded.log\n")
			h.write("cosmovisor/upgrades/v2/bin/noded.pre-upgrade", "0")
			h.write("data/tx_index.db/CURRENT", "MANIFEST-000002\n")
			h.write("data/tx_index.db/MANIFEST-000002", "x")
			h.write("data/tx_index.db/000001.ldb", "table")
			h.write("config/app.toml", "x = 1\n")
			info := fmt.Sprintf(`{"binaries":{"any":"%s?checksum=sha256:%s"}}`, nodedBinary, digest(h, nodedBinary))
			h.script(testnode.Script{BlockTime: blockTime, Database: true, HaltExit: -1, Plans: plans(info)})
		},
		args: (*home).runArgs,
		until: func(h *home) bool {
			entries, err := upgrade.OpenJournal(h.paths()).Read()
			return h.height() > chainHeight+30 || err == nil && slices.ContainsFunc(entries, func(e upgrade.Entry) bool { return e.Step == "confirm" })
		},
		left: (*home).checkWhole,
		want: toV2,
		end: func(h *home, _ bool) {
			for _, hook := range []string{"script v2 at 10\n", "v2 pre-upgrade\n"} {
				if !strings.Contains(h.noded(), hook) {
					h.Errorf("it was not run: %s", hook)
				}
			}
		},
	},
	{
		name:   "restore",
		script: testnode.Script{BlockTime: time.Millisecond, Database: true, StopAt: 12},
		prepare: func(h *home) {
			h.runToEnd(0)
			h.write("data/file", "old")
			h.output("snapshot", "create", "before")
			h.write("data/file", "new")
			h.script(testnode.Script{BlockTime: time.Millisecond, Database: true, StopAt: 20})
			h.runToEnd(0)
			h.script(testnode.Script{BlockTime: blockTime, Database: true})
		},
		args:     func(*home) []string { return []string{"snapshot", "restore", "before", "--yes"} },
		again:    func(h *home) { h.output("snapshot", "restore", "before", "--yes") },
		finished: true,
		want:     ending{binary: "genesis", snapshots: []string{"before-"}},
		end: func(h *home, completed bool) {
			starts := strings.Split(h.noded(), "genesis start at ")
			at, _, _ := strings.Cut(starts[3], "\n") // the first after the two that made the data
			content, err := os.ReadFile(filepath.Join(h.dir, "data", "file"))
			switch got := fmt.Sprintf("%s at %s, %v", content, at, err); {
			case got == "old at 12, <nil>":
			case got == "new at 20, <nil>" && !completed:
			default:
				h.Errorf("the data is %s", got)
			}
		},
	},
	{
		name:     "rollback",
		script:   testnode.Script{BlockTime: time.Millisecond, Database: true, HaltExit: -1, Plans: plans(""), Fail: map[string]int{"v2": 9}},
		versions: []string{"upgrades/v2"},
		prepare: func(h *home) {
			h.runToEnd(9)
			h.script(testnode.Script{BlockTime: blockTime, Database: true, HaltExit: -1, Plans: plans("")})
		},
		args: func(*home) []string { return []string{"rollback", "--binary", nodedBinary, "--yes"} },
		again: func(h *home) {
			// What was cut off when all but the last word was done has nothing left to take back.
			_ = h.end(h.start("rollback", "--binary", nodedBinary, "--yes"))
		},
		finished: true,
		left:     (*home).checkWhole,
		want:     ending{binary: "upgrades/v2", upgrades: []string{"v2"}, snapshots: []string{"v2-10-"}, more: []string{"v2-10-"}},
		end: func(h *home, completed bool) {
			if got := strings.Count(h.noded(), "v2 upgrade at 10\n"); completed && got != 2 {
				h.Errorf("v2 has begun its migration %d times; it was rolled back, so want 2", got)
			}
		},
	},
	{
		name: "add-upgrade",
		prepare: func(h *home) {
			h.script(testnode.Script{BlockTime: blockTime, Database: true, HaltExit: -1, Plans: plans("")})
		},
		args:  func(*home) []string { return []string{"add-upgrade", "v2", nodedBinary} },
		again: func(h *home) { h.output("add-upgrade", "v2", nodedBinary, "--force") },
		left:  (*home).checkWhole,
		want:  toV2,
	},
	{
		name:   "add-upgrade-height",
		script: testnode.Script{BlockTime: time.Millisecond, Database: true, StopAt: 5},
		prepare: func(h *home) {
			h.runToEnd(0)
			manual := plans("")
			manual[0].Manual = true
			h.script(testnode.Script{BlockTime: blockTime, Database: true, Plans: manual})
		},
		args:  func(*home) []string { return []string{"add-upgrade", "v2", nodedBinary, "--upgrade-height", "10"} },
		again: func(h *home) { h.output("add-upgrade", "v2", nodedBinary, "--upgrade-height", "10", "--force") },
		left:  (*home).checkWhole,
		want:  toV2,
	},
	{
		name:   "cancel-upgrade",
		script: testnode.Script{BlockTime: time.Millisecond, Database: true, StopAt: 5},
		prepare: func(h *home) {
			h.runToEnd(0)
			h.output("add-upgrade", "v2", nodedBinary, "--upgrade-height", "10")
			h.output("add-upgrade", "v3", nodedBinary, "--upgrade-height", "1000000")
			h.script(testnode.Script{BlockTime: blockTime, Database: true})
		},
		args:  func(*home) []string { return []string{"cancel-upgrade", "v2"} },
		again: func(h *home) { _ = h.end(h.start("cancel-upgrade", "v2")) }, // refused, where it was cut off after the last word
		left: func(h *home) {
			h.checkWhole()
			if planned, err := upgrade.ReadManual(h.paths()); err != nil || len(planned) == 0 || planned[len(planned)-1].Name != "v3" {
				h.Errorf("planned are %v, %v", planned, err)
			}
		},
		want: ending{binary: "genesis", pending: []string{"v3"}},
	},
	{
		name: "add-upgrade-force",
		prepare: func(h *home) {
			content, err := os.ReadFile(nodedBinary)
			h.must(err)
			h.write("cosmovisor/upgrades/v2/bin/noded", string(content)+"old")
			h.script(testnode.Script{BlockTime: blockTime, Database: true, HaltExit: -1, Plans: plans("")})
		},
		args: func(*home) []string { return []string{"add-upgrade", "v2", nodedBinary, "--force"} },
		left: (*home).checkWhole,
		want: toV2,
	},
	{
		name:     "switch",
		script:   testnode.Script{BlockTime: time.Millisecond, Database: true, StopAt: 5},
		versions: []string{"upgrades/v2"},
		prepare: func(h *home) {
			h.runToEnd(0)
			early := filepath.Join(h.dir, "early")
			h.must(exec.Command("cp", "-a", filepath.Join(h.dir, "data"), early).Run())
			h.script(testnode.Script{BlockTime: time.Millisecond, Database: true, HaltExit: -1, Plans: plans(""), StopAt: 20})
			h.runToEnd(0)
			h.must(os.RemoveAll(filepath.Join(h.dir, "data")))
			h.must(os.Rename(early, filepath.Join(h.dir, "data")))
			h.output("sign-state", "raise")
			h.script(testnode.Script{BlockTime: blockTime, Database: true, HaltExit: -1, Plans: plans("")})
		},
		args:  func(*home) []string { return []string{"switch", "genesis"} },
		again: func(h *home) { h.output("switch", "genesis") },
		want:  ending{binary: "upgrades/v2", upgrades: []string{"v2"}, snapshots: []string{"v2-10-", "v2-10-"}},
	},
	{
		name: "prepare-upgrade",
		prepare: func(h *home) {
			archive := archiveOfV2(h)
			info := fmt.Sprintf(`{"binaries":{"any":"%s?checksum=sha256:%s"}}`, archive, digest(h, archive))
			plan, err := json.Marshal(map[string]any{"name": "v2", "height": chainHeight, "info": info})
			h.must(err)
			h.write("plan", string(plan))
			h.script(testnode.Script{BlockTime: blockTime, Database: true, HaltExit: -1, Plans: plans(info)})
		},
		args:  func(h *home) []string { return []string{"prepare-upgrade", "--info", filepath.Join(h.dir, "plan")} },
		again: func(h *home) { h.output("prepare-upgrade", "--info", filepath.Join(h.dir, "plan")) },
		left:  (*home).checkWhole,
		want:  toV2,
		end: func(h *home, _ bool) {
			if content, err := os.ReadFile(filepath.Join(h.dir, "cosmovisor/upgrades/v2/lib/libwasmvm.so")); err != nil || string(content) != library {
				h.Errorf("the library: %q, %v", content, err)
			}
		},
	},
}

// try carries the scenario out under a harm, and checks what comes of it. It returns the calls that were counted. The start after it
// is killed too if then says where.
func (s *scenario) try(t *testing.T, x harm, then int) []call {
	h := newHome(t, s.script, s.versions...)
	s.prepare(h)
	h.mark()
	before, err := os.ReadFile(h.log)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	tr := h.trace(x, s.args(h)...)
	defer func() {
		_, victim, victims := tr.met()
		switch {
		case victims > 0 && x.errno == 0:
			systemCalls.cuts.Add(1)
		case victims > 0:
			systemCalls.faults.Add(int64(victims))
		}
		if t.Failed() {
			systemCalls.failures.Add(1)
			t.Logf("%s: %v before %v; %d calls were harmed", s.name, x, victim, victims)
		}
	}()
	if x.lasting {
		h.await("the harm is done", func() bool { return tr.ended() || isClosed(tr.struck) || s.until != nil && s.until(h) })
		for deadline := time.Now().Add(outage); !tr.ended() && time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		}
		tr.heal()
	}
	log := func() string {
		content, err := os.ReadFile(h.log)
		h.must(err)
		return string(content[len(before):])
	}
	stopped := false
	h.await("the end", func() bool {
		if s.until != nil && !stopped && !tr.ended() {
			// A download is tried again after seconds. Most of the tries don't wait for that, but start anew.
			impatient := x.n%8 != 0 && strings.Contains(log(), "can't be downloaded")
			if impatient || s.until(h) {
				h.must(tr.Process.Signal(syscall.SIGTERM))
				stopped = true
			}
		}
		return tr.ended()
	})
	calls, _, victims := tr.met()
	completed := s.judge(h, x, tr, stopped, victims, log())
	if s.left != nil {
		s.left(h)
	}
	if s.again != nil && !completed && (!s.finished || x.errno != 0 || x.n%2 == 0) {
		s.again(h)
		completed = true
	}
	if then > 0 {
		tr := h.trace(harm{n: then}, h.runArgs()...)
		for deadline := time.Now().Add(outage); !tr.ended() && time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		}
		tr.kill()
		systemCalls.cuts.Add(1)
	}
	h.check(s.want)
	if s.end != nil {
		s.end(h, completed)
	}
	return calls
}

// outage is how long a lasting harm lasts.
const outage = 500 * time.Millisecond

// judge looks at how a traced solstice has ended, and says whether it did what it was there for.
func (s *scenario) judge(h *home, x harm, tr *trace, stopped bool, victims int, log string) (completed bool) {
	for _, word := range []string{"panic:", "goroutine ", "fatal error:"} {
		if strings.Contains(log, word) {
			h.Errorf("it panicked:\n%s", log)
		}
	}
	code := tr.ProcessState.ExitCode()
	if x.lasting && victims > 1 && !strings.Contains(log, " WRN ") && !strings.Contains(log, "solstice: error: ") {
		h.Errorf("%d calls failed, and it did not say a word:\n%s", victims, log)
	}
	switch {
	case x.errno == 0 && victims > 0:
		return false
	case stopped || code == 0:
		return code == 0
	case victims == 0:
		h.Errorf("unharmed it ended with %v:\n%s", tr.ProcessState, log)
	case !strings.Contains(log, "solstice: error: ") || !strings.Contains(log, x.errno.Error()):
		h.Errorf("it ended with %v, and no sentence that says why:\n%s", tr.ProcessState, log)
	}
	return false
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// height is what the node has committed.
func (h *home) height() int64 {
	content, _ := os.ReadFile(filepath.Join(h.dir, "data", "height"))
	height, _ := strconv.ParseInt(string(content), 10, 64)
	return height
}

// runToEnd supervises the node until it ends with that code.
func (h *home) runToEnd(code int) {
	h.Helper()
	if got := h.end(h.start(h.runArgs()...)); got != code {
		h.Fatalf("the node ended with %d, want %d\n%s", got, code, h.story())
	}
}

// checkWhole: the binary of v2 is not there, and not planned, or it is the whole of one.
func (h *home) checkWhole() {
	h.Helper()
	content, err := os.ReadFile(h.paths().Binary("upgrades/v2"))
	if os.IsNotExist(err) {
		if planned, err := upgrade.ReadManual(h.paths()); err != nil || len(planned) > 0 {
			h.Errorf("planned without a binary: %v, %v", planned, err)
		}
		return
	}
	h.must(err)
	want, err := os.ReadFile(nodedBinary)
	h.must(err)
	if !bytes.Equal(content, want) && string(content) != string(want)+"old" {
		h.Errorf("the binary of v2 is not whole: %d bytes of %d", len(content), len(want))
	}
}

func digest(h *home, path string) string {
	h.Helper()
	content, err := os.ReadFile(path)
	h.must(err)
	return fmt.Sprintf("%x", sha256.Sum256(content))
}

const library = "\x7fELF of a library"

var archiving sync.Mutex

// archiveOfV2 is an archive with the test node and a library, made once.
func archiveOfV2(h *home) string {
	h.Helper()
	archiving.Lock()
	defer archiving.Unlock()
	path := nodedBinary + ".tar.gz"
	if _, err := os.Stat(path); err == nil {
		return path
	}
	node, err := os.ReadFile(nodedBinary)
	h.must(err)
	var out bytes.Buffer
	zip, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	h.must(err)
	w := tar.NewWriter(zip)
	for _, file := range []struct{ name, content string }{{"bin/noded", string(node)}, {"lib/libwasmvm.so", library}} {
		h.must(w.WriteHeader(&tar.Header{Name: file.name, Mode: 0o755, Size: int64(len(file.content))}))
		_, err := w.Write([]byte(file.content))
		h.must(err)
	}
	h.must(w.Close())
	h.must(zip.Close())
	h.must(os.WriteFile(path, out.Bytes(), 0o644))
	return path
}
