//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"solstice"
	"solstice/api"
	"solstice/internal/durable"
	"solstice/internal/testnode"
	"solstice/upgrade"
)

var (
	chaosFor = flag.Duration("chaos", 0, "try everything, then go on at random until so much time is over; 0 is the short form")
	seed     = flag.Uint64("seed", 0, "of what is drawn at random; 0 is another one each time")
)

// workDir holds everything that the campaigns make, and is removed at the end.
var workDir string

// The programs under test, as they are built for users, and not under the race detector.
var solsticeBinary, nodedBinary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(runAll(m))
}

func runAll(m *testing.M) (code int) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	dir, err := os.MkdirTemp("", "chaos-") // short: the path of a socket has 107 bytes at most
	if err == nil {
		workDir = dir
		defer leave()
		go leaveEarly()
		solsticeBinary, nodedBinary = filepath.Join(dir, "solstice"), filepath.Join(dir, "noded")
		build := exec.Command("go", "build", "-ldflags=-s -w", "-o", dir, "solstice/cmd/solstice", "solstice/internal/testnode/noded")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		err = build.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "the programs under test can't be built:", err)
		return 1
	}
	return m.Run()
}

// leave tells what was done, and leaves nothing behind.
func leave() {
	for _, c := range campaigns {
		fmt.Println(c)
	}
	for _, pid := range executing(workDir) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = os.RemoveAll(workDir)
}

// leaveEarly is for a long run that somebody breaks off.
func leaveEarly() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	<-signals
	leave()
	// The tests still run, and may have made new files meanwhile. They end with the program that takes the place of this one.
	_ = syscall.Exec("/bin/sh", []string{"sh", "-c", `rm -rf "$0"; exit 1`, workDir}, os.Environ())
	os.Exit(1)
}

// executing are the processes whose program lies in a folder.
func executing(dir string) (pids []int) {
	proc, _ := os.ReadDir("/proc") // what can't be read shows as processes that are missing
	for _, e := range proc {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && strings.HasPrefix(exe, dir+"/") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// campaign counts what was tried with one kind of harm.
type campaign struct {
	name                   string
	cuts, faults, failures atomic.Int64
}

// campaigns share the time that is given.
var campaigns []*campaign

func newCampaign(name string) *campaign {
	c := &campaign{name: name}
	campaigns = append(campaigns, c)
	return c
}

// full says whether everything is to be tried, and how long to go on at random, what was tried included.
func (c *campaign) full() (time.Duration, bool) {
	return *chaosFor / time.Duration(len(campaigns)), *chaosFor > 0
}

func (c *campaign) String() string {
	return fmt.Sprintf("campaign %s: %d cuts tried, %d faults injected, %d failures (seed %d)", c.name, c.cuts.Load(), c.faults.Load(), c.failures.Load(), *seed)
}

// random is a source that gives the same for one seed and purpose.
func random(purpose string) *rand.Rand {
	sum := *seed
	for _, b := range []byte(purpose) {
		sum = sum*31 + uint64(b)
	}
	return rand.New(rand.NewPCG(*seed, sum))
}

// home is the home of one test node, and the solstice processes on it.
type home struct {
	testing.TB
	dir    string   // DAEMON_HOME
	log    string   // what solstice and the node print
	env    []string // settings, besides DAEMON_HOME and DAEMON_NAME
	laddr  string   // of the node's RPC
	marked int64    // the highest mark of the sign state that was seen
}

// newHome makes a home on the disk of the folder for temporary files.
func newHome(t testing.TB, script testnode.Script, versions ...string) *home {
	t.Helper()
	root, err := os.MkdirTemp(workDir, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	return newHomeIn(t, root, script, versions...)
}

// newHomeIn makes a home in a folder, with the test node as its first binary and at the versions, such as upgrades/v2. The
// node is a validator.
func newHomeIn(t testing.TB, root string, script testnode.Script, versions ...string) *home {
	t.Helper()
	h := &home{TB: t, dir: filepath.Join(root, "home"), log: filepath.Join(root, "log")}
	// An address of its own on the loopback network, so that a port that is free stays free.
	h.laddr = fmt.Sprintf("tcp://127.%d.%d.%d:26657", 1+rand.N(254), rand.N(255), 1+rand.N(254))
	t.Cleanup(h.clear)
	for _, dir := range append([]string{solstice.Genesis}, versions...) {
		h.place(filepath.Join("cosmovisor", dir, "bin", "noded"))
	}
	h.script(script)
	h.write("config/priv_validator_key.json", `{"address":"6A1B2C3D4E5F60718293A4B5C6D7E8F901234567","pub_key":{},"priv_key":{}}`)
	h.write("data/priv_validator_state.json", `{"height":"0","round":0,"step":0}`)
	return h
}

// place puts the test node at a path.
func (h *home) place(path string) {
	h.Helper()
	path = filepath.Join(h.dir, path)
	h.must(os.MkdirAll(filepath.Dir(path), 0o755))
	if os.Link(nodedBinary, path) != nil { // another disk
		h.must(exec.Command("cp", nodedBinary, path).Run())
	}
}

// script tells the node what to do from its next start on.
func (h *home) script(script testnode.Script) {
	h.Helper()
	content, err := json.Marshal(script)
	h.must(err)
	h.write("config/noded.json", string(content))
}

func (h *home) write(path, content string) {
	h.Helper()
	path = filepath.Join(h.dir, path)
	h.must(os.MkdirAll(filepath.Dir(path), 0o755))
	h.must(os.WriteFile(path, []byte(content), 0o755))
}

func (h *home) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// paths names the files of the home.
func (h *home) paths() solstice.Home {
	return solstice.Home{Dir: h.dir, Node: h.dir, Name: "noded", StateDir: filepath.Join(h.dir, "cosmovisor", ".solstice")}
}

// runArgs are those of solstice to supervise the node.
func (h *home) runArgs() []string { return []string{"run", "start", "--rpc.laddr", h.laddr} }

// command is solstice with these arguments on this home. What it prints goes to the log.
func (h *home) command(args ...string) *exec.Cmd {
	h.Helper()
	cmd := exec.Command(solsticeBinary, args...)
	cmd.Env = append(os.Environ(), "DAEMON_HOME="+h.dir, "DAEMON_NAME=noded", "COSMOVISOR_TIMEFORMAT_LOGS=rfc3339nano")
	cmd.Env = append(cmd.Env, h.env...)
	out, err := os.OpenFile(h.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	h.must(err)
	h.Cleanup(func() { out.Close() })
	fmt.Fprintf(out, "--- solstice %s\n", strings.Join(args, " "))
	cmd.Stdout, cmd.Stderr = out, out
	return cmd
}

// running is a command that was started. It is killed at the end of the test.
type running struct {
	*exec.Cmd
	done chan struct{} // closed when it has ended; ProcessState says how
}

func (h *home) begin(cmd *exec.Cmd) *running {
	h.Helper()
	h.must(cmd.Start())
	r := &running{cmd, make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		close(r.done)
	}()
	h.Cleanup(r.kill)
	return r
}

func (h *home) start(args ...string) *running {
	h.Helper()
	return h.begin(h.command(args...))
}

// kill ends it as nothing can be cleared up after, and waits for its end.
func (r *running) kill() {
	_ = r.Process.Kill() // an error if it has ended
	<-r.done
}

func (r *running) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// end waits for the end by itself of a command, and returns its exit code; -1 if a signal ended it.
func (h *home) end(r *running) int {
	h.Helper()
	h.await("the end of solstice "+strings.Join(r.Args[1:], " "), r.ended)
	return r.ProcessState.ExitCode()
}

// output runs a command that has to go well, and returns what it prints.
func (h *home) output(args ...string) string {
	h.Helper()
	cmd := h.command(args...)
	cmd.Stdout = nil
	out, err := cmd.Output()
	if err != nil {
		h.Errorf("solstice %s: %v: %s\n%s", strings.Join(args, " "), err, out, h.story())
	}
	return string(out)
}

// patience is for what has to happen. It is long, for machines that have much else to do.
const patience = 60 * time.Second

// await waits until something is so.
func (h *home) await(what string, so func() bool) {
	h.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.Fatalf("it never came to this: %s\n%s", what, h.story())
		}
	}
}

// noded is what the nodes wrote into their log, a line an event.
func (h *home) noded() string {
	content, _ := os.ReadFile(filepath.Join(h.dir, "noded.log"))
	return string(content)
}

// status asks the running solstice.
func (h *home) status() (solstice.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return api.Status(ctx, h.paths().Socket())
}

// story is everything that explains a failure.
func (h *home) story() string {
	log, _ := os.ReadFile(h.log)
	journal, _ := os.ReadFile(h.paths().JournalFile())
	link, _ := os.Readlink(h.paths().CurrentLink())
	var names strings.Builder
	_ = filepath.WalkDir(h.dir, func(path string, _ fs.DirEntry, err error) error {
		names.WriteString(strings.TrimPrefix(path, h.dir) + "\n")
		return nil
	})
	return fmt.Sprintf("-- log\n%s-- noded.log\n%s-- journal\n%s-- current -> %s\n-- files%s", log, h.noded(), journal, link, names.String())
}

// processes are those that execute a binary of this home.
func (h *home) processes() []int { return executing(h.dir) }

// clear ends the nodes that were left behind.
func (h *home) clear() {
	deadline := time.Now().Add(patience)
	for pids := h.processes(); len(pids) > 0; pids = h.processes() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if time.Now().After(deadline) {
			h.Errorf("a node can't be ended: %v", pids)
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// free waits until no solstice and no node has the home any more: its locks are free.
func (h *home) free() {
	h.Helper()
	for _, dir := range []string{h.paths().Root(), h.dir} {
		f, err := os.Open(dir)
		h.must(err)
		h.await("the lock on "+dir+" is free", func() bool { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil })
		f.Close()
	}
}

// mark is the height below which the validator of this home never starts. It is an error if it was higher before.
func (h *home) mark() int64 {
	h.Helper()
	content, err := os.ReadFile(h.paths().SignStateFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.Error(err)
	}
	var mark int64
	for line := range strings.Lines(string(content)) {
		var m struct{ Height int64 }
		if json.Unmarshal([]byte(line), &m) == nil {
			mark = max(mark, m.Height)
		}
	}
	if mark < h.marked {
		h.Errorf("the mark of the sign state was at %d and is at %d", h.marked, mark)
	}
	h.marked = max(h.marked, mark)
	return mark
}

// ending is what has to be in the end.
type ending struct {
	binary    string   // directory of the binary that runs, relative to cosmovisor/
	upgrades  []string // names of those that were carried out and confirmed
	snapshots []string // what the IDs begin with, each the beginning of exactly one: "v2-20-"
	more      []string // the same for those that there may be besides
	pending   []string // names of the plans that are still to come
}

// check starts the home as it is, without any harm, waits until the node runs and makes blocks where it should, stops it, and looks
// at everything. It is the one check at the end of every try. More may be asked of the running home by while.
func (h *home) check(want ending, while ...func(solstice.Status)) {
	h.Helper()
	h.mark()
	run := h.start(h.runArgs()...)
	var status solstice.Status
	h.await(fmt.Sprintf("%s runs, upgrades %v are confirmed", want.binary, want.upgrades), func() bool {
		if run.ended() {
			h.Fatalf("solstice ended instead of running %s: %v\n%s", want.binary, run.ProcessState, h.story())
		}
		var err error
		status, err = h.status()
		return err == nil && status.Node != nil && status.Doing == nil && status.Binary.Dir == want.binary && status.Height != nil &&
			status.Height.Source == "node" && slices.Equal(confirmed(status), want.upgrades) && slices.Equal(pending(status), want.pending)
	})
	// A binary that is asked for its version before its plan may still answer; a second node would not end.
	var pids []int
	h.await("the node alone executes a binary of the home", func() bool {
		pids = h.processes()
		return slices.Equal(pids, []int{status.Node.PID}) || run.ended()
	})
	if !slices.Equal(pids, []int{status.Node.PID}) {
		h.Errorf("the node is process %d, and on the home are %v", status.Node.PID, pids)
	}
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", status.Node.PID)); err != nil || exe != h.paths().Binary(want.binary) {
		h.Errorf("the node executes %s, %v; want that of %s", exe, err, want.binary)
	}
	var told solstice.Status
	if err := json.Unmarshal([]byte(h.output("status", "-o", "json")), &told); err != nil || !slices.Equal(confirmed(told), want.upgrades) {
		h.Errorf("solstice status -o json tells of %v, %v; want %v", confirmed(told), err, want.upgrades)
	}
	for _, look := range while {
		look(status)
	}
	h.must(run.Process.Signal(syscall.SIGTERM))
	if code := h.end(run); code != 0 {
		h.Errorf("stopped with SIGTERM: %v", run.ProcessState)
	}
	h.free()
	h.checkDisk(want)
	if h.Failed() {
		h.Log(h.story())
	}
}

// confirmed are the upgrades that a status tells of as done.
func confirmed(s solstice.Status) (names []string) {
	for _, u := range s.Upgrades {
		if u.State == "confirmed" {
			names = append(names, u.Name)
		}
	}
	return names
}

func pending(s solstice.Status) (names []string) {
	for _, p := range s.Pending {
		names = append(names, p.Name)
	}
	return names
}

// checkDisk looks at a home that was stopped.
func (h *home) checkDisk(want ending) {
	h.Helper()
	for _, cry := range []string{"TWO NODES", "WRONG", "TWICE"} {
		if strings.Contains(h.noded(), cry) {
			h.Error(cry)
		}
	}
	if left := h.processes(); len(left) > 0 {
		h.Errorf("left behind: %v", left)
	}
	if target, err := os.Readlink(h.paths().CurrentLink()); err != nil || target != want.binary {
		h.Errorf("the link says %q, %v; want %q", target, err, want.binary)
	}
	if info, err := os.Stat(h.paths().Binary("current")); err != nil || info.Mode()&0o100 == 0 {
		h.Errorf("the binary that the link leads to: %v, %v", info, err)
	}
	if journal, err := upgrade.OpenJournal(h.paths()).Read(); err != nil || len(want.upgrades) > 0 && len(journal) == 0 {
		h.Errorf("journal: %d entries, %v", len(journal), err)
	}
	h.checkSnapshots(want.snapshots, want.more)
	h.checkDebris()
	if signed, _ := h.signed(); h.mark() != signed {
		h.Errorf("the mark of the sign state is at %d, and the file of the stopped node at %d", h.mark(), signed)
	}
}

// signed is what the validator has signed, by the file of its stopped node, and that file.
func (h *home) signed() (height int64, file []byte) {
	h.Helper()
	var state struct {
		Height int64 `json:"height,string"`
	}
	file, err := os.ReadFile(filepath.Join(h.dir, "data", "priv_validator_state.json"))
	if err := errors.Join(err, json.Unmarshal(file, &state)); err != nil {
		h.Error(err)
	}
	return state.Height, file
}

// checkSnapshots: those that are there are whole. Each prefix begins the ID of one, and each of more may begin that of one besides.
func (h *home) checkSnapshots(prefixes, more []string) {
	h.Helper()
	var list []struct{ ID, Path string }
	out := h.output("snapshot", "list", "-o", "json")
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		h.Errorf("snapshot list: %v: %s", err, out)
	}
	var rest []string
	for _, s := range list {
		rest = append(rest, s.ID)
	}
	all := rest
	for _, prefix := range prefixes {
		i := slices.IndexFunc(rest, func(id string) bool { return strings.HasPrefix(id, prefix) })
		if i < 0 {
			h.Errorf("no snapshot %s...: there are %v", prefix, all)
			continue
		}
		rest = slices.Delete(slices.Clone(rest), i, i+1)
	}
	for _, prefix := range more {
		if i := slices.IndexFunc(rest, func(id string) bool { return strings.HasPrefix(id, prefix) }); i >= 0 {
			rest = slices.Delete(slices.Clone(rest), i, i+1)
		}
	}
	if len(rest) > 0 {
		h.Errorf("there are snapshots %v too many: there are %v", rest, all)
	}
	// One that is to go to another disk, or could not be linked at first, lies near the data until it is copied.
	h.must(filepath.WalkDir(h.dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && strings.HasPrefix(e.Name(), "data-backup-") {
			if !slices.ContainsFunc(list, func(one struct{ ID, Path string }) bool { return one.Path == path }) {
				h.Errorf("a snapshot that is not listed: %s", path)
			}
			return fs.SkipDir
		}
		return err
	}))
	if len(all) > 0 {
		h.output("snapshot", "verify")
	}
}

// checkDebris: nothing half-done is left.
func (h *home) checkDebris() {
	h.Helper()
	h.must(filepath.WalkDir(h.dir, func(path string, e fs.DirEntry, err error) error {
		if strings.HasPrefix(e.Name(), durable.TempPrefix) || strings.HasSuffix(e.Name(), ".new") || strings.HasSuffix(e.Name(), ".unverified") {
			h.Errorf("debris: %s", path)
		}
		return err
	}))
	if _, err := os.Lstat(h.paths().RollbackFile()); err == nil {
		h.Error("a rollback is not finished")
	}
	if left, err := os.ReadDir(h.paths().DownloadDir()); len(left) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		h.Errorf("downloads: %v, %v", left, err)
	}
}

// TestHome tries the base of all campaigns out, on an upgrade without any harm.
func TestHome(t *testing.T) {
	h := newHome(t, testnode.Script{
		BlockTime: 5 * time.Millisecond, HaltExit: -1, Plans: []testnode.Plan{{Name: "v2", Height: 10}},
	}, "upgrades/v2")
	h.check(ending{binary: "upgrades/v2", upgrades: []string{"v2"}, snapshots: []string{"v2-10-"}})
}
