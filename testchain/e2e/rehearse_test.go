package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"solstice/testchain/binaries"
	"solstice/testchain/network"
)

// A v1 whose in-place-testnet plans the upgrade some blocks ahead, as some chains do; a v2 that takes memory in its migration until it is killed, and one that writes in the order of a Go map.
var (
	ahead = []binaries.Edit{{File: "app/testnet.go", Old: "Height: a.LastBlockHeight() + 1}", New: "Height: a.LastBlockHeight() + 5}"}}
	leaky = []binaries.Edit{{
		File: "ledger/ledger.go",
		Old:  "\tstore := ctx.KVStore(k.entries)\n\tfor i := 0; ; i++ {\n\t\tif i == panicAt {",
		New: "\tstore := ctx.KVStore(k.entries)\n\tvar kept [][]byte\n\tfor i := 0; ; i++ {\n" +
			"\t\tmore := make([]byte, 1<<20)\n\t\tfor j := range more {\n\t\t\tmore[j] = byte(i + j)\n\t\t}\n\t\tkept = append(kept, more)\n" +
			"\t\tif i%1000 == 999 {\n\t\t\tfmt.Println(\"so much is kept:\", len(kept))\n\t\t}\n\t\tif i == panicAt {",
	}}
	uneven = []binaries.Edit{{
		File: "ledger/ledger.go",
		Old:  "\t\tif value == nil {\n\t\t\tk.setCount(ctx, i)\n",
		New: "\t\tif value == nil {\n\t\t\tall := map[int]bool{}\n\t\t\tfor j := range 64 {\n\t\t\t\tall[j] = true\n\t\t\t}\n" +
			"\t\t\tlast := 0\n\t\t\tfor j := range all {\n\t\t\t\tlast = last*7 + j // the order of a map is another one each time\n\t\t\t}\n" +
			"\t\t\tctx.KVStore(k.totals).Set([]byte(\"last\"), []byte(strconv.Itoa(last)))\n\t\t\tk.setCount(ctx, i)\n",
	}}
)

// rehearsal is what solstice rehearse -o json says, as far as it matters here.
type rehearsal struct {
	Outcome string `json:"outcome"`
	Reason  string `json:"reason"`
	Height  int64  `json:"height"`
	Way     string `json:"way"`
	Network string `json:"network"`
	Copied  struct {
		Linked int `json:"linked"`
		Cloned int `json:"cloned"`
	} `json:"copied"`
	Limit struct {
		By string `json:"by"`
	} `json:"limit"`
	Runs []struct {
		FirstBlock float64 `json:"first_block"`
		Blocks     int64   `json:"blocks"`
		BlockHash  string  `json:"block_hash"`
		AppHash    string  `json:"app_hash"`
		Migration  struct {
			CPU     float64 `json:"cpu"`
			Memory  int64   `json:"memory"`
			Written int64   `json:"written"`
		} `json:"migration"`
		Grown int64 `json:"grown"`
	} `json:"runs"`
	Kept string `json:"kept"`
}

// TestRehearse: on a snapshot of a node's state, on both databases, a good v2 goes well; one that panics, one that takes more memory than it may, and one
// that is not deterministic are told from one another. The original stays as it is, and nothing is left over, also of a rehearsal that was
// interrupted, or killed with its node at work.
func TestRehearse(t *testing.T) {
	for _, backend := range []string{"goleveldb", "pebbledb"} {
		t.Run(backend, func(t *testing.T) { testRehearse(t, backend) })
	}
}

func testRehearse(t *testing.T, backend string) {
	ctx, nw := layOut(t, network.Config{DBBackend: backend, BlockTime: 250 * time.Millisecond, LedgerKeys: 20000})
	n := home(t, nw.Nodes[0])
	if backend == "pebbledb" {
		n.endsBy = 2 // SDK v0.54 closes application.db twice (server/start.go), which pebble answers with a panic
	}
	n.run("init", built.chain.V1)
	n.run("add-upgrade", "v2", built.chain.V2)
	nodeCtx := n.start(ctx)
	check(t, n.Node.WaitHeight(nodeCtx, 5))
	n.fails(3, "there is no snapshot to rehearse on", "rehearse", "--plan", "v2", "--binary", built.chain.V2)
	n.fails(3, "it is stopped while its state is copied, and signs nothing", "rehearse", "--plan", "v2", "--binary", built.chain.V2, "--from", "live")
	if backend == "goleveldb" {
		if got := n.rehearse(0, built.chain.V2, "--from", "live", "--yes"); got.Height < 6 {
			t.Errorf("rehearsal on the state of the running node = %+v", got)
		}
		if left, err := n.Snapshots(ctx); err != nil || len(left) > 0 {
			t.Errorf("snapshots are left: %+v, %v", left, err)
		}
		height, err := n.Node.AppHeight(nodeCtx)
		check(t, err)
		check(t, n.Node.WaitHeight(nodeCtx, height+2)) // under the same solstice
	}
	n.stop()
	n.fails(3, "this node can sign blocks", "rehearse", "--plan", "v2", "--binary", built.chain.V2, "--from", "live")
	n.run("snapshot", "create")
	before := inodes(t, n.Node.Home)
	files := tree(t, n.Node.Home)

	page := filepath.Join(t.TempDir(), "report.html")
	got := n.rehearse(0, built.chain.V2, "--repeat", "2", "--report", page)
	if got.Outcome != "passed" || got.Way != "in-place-testnet" || len(got.Runs) != 2 || got.Copied.Linked+got.Copied.Cloned == 0 {
		t.Fatalf("rehearsal of a good v2 = %+v", got)
	}
	for i, run := range got.Runs {
		if run.AppHash == "" || run.AppHash != got.Runs[0].AppHash || run.BlockHash != got.Runs[0].BlockHash || run.Blocks < 5 {
			t.Errorf("run %d = %+v, want the same block and the same state as in run 1, and 5 blocks", i+1, run)
		}
		if run.FirstBlock <= 0 || run.Migration.CPU <= 0 || run.Migration.Memory < 50<<20 || run.Migration.Written == 0 || run.Grown == 0 {
			t.Errorf("run %d = %+v, want everything measured", i+1, run)
		}
	}
	if html := string(read(t, page)); !strings.Contains(html, "It went well") || !strings.Contains(html, got.Runs[0].AppHash[:16]) {
		t.Errorf("the page lacks what it is about:\n%s", html)
	}
	n.checkDoctor("ok", "rehearsed at")

	if got := n.rehearse(1, brokenV2(t, 100)); got.Outcome != "panicked" || !strings.Contains(got.Reason, "migration broken after 100 entries") {
		t.Errorf("rehearsal of a v2 that panics = %s: %s", got.Outcome, got.Reason)
	}
	n.checkDoctor("warning", "another binary was rehearsed")
	leaks, err := built.chain.Variant(built.ctx, "v2", "leaky", leaky, os.Stderr)
	check(t, err)
	if got := n.rehearse(1, leaks, "--memory", "400M"); got.Outcome != "memory limit" || !strings.Contains(got.Reason, "more than the 400.0 MiB that it may have") {
		t.Errorf("rehearsal of a v2 that leaks = %s: %s", got.Outcome, got.Reason)
	} else {
		t.Logf("the limit was kept by %s", got.Limit.By)
	}
	unevenV2, err := built.chain.Variant(built.ctx, "v2", "uneven", uneven, os.Stderr)
	check(t, err)
	if got := n.rehearse(1, unevenV2, "--repeat", "2"); got.Outcome != "not deterministic" || got.Runs[0].BlockHash != got.Runs[1].BlockHash ||
		backend == "goleveldb" && !strings.HasSuffix(got.Reason, "; the stores that differ: totals") {
		t.Errorf("rehearsal of a v2 that is not deterministic = %s: %s", got.Outcome, got.Reason)
	}
	if backend == "goleveldb" { // what follows does not depend on it
		if got := n.rehearse(1, built.chain.V2, "--max-disk", "100K"); got.Outcome != "disk limit" {
			t.Errorf("rehearsal with no room = %s: %s", got.Outcome, got.Reason)
		}
		n.rehearseCut(ctx)
	}

	n.checkUntouched(before, files)
	start := n.start(ctx) // it is the node that it was
	check(t, n.Node.WaitHeight(start, 8))
	n.stop()
}

// TestRehearseHalted: where the chain plans the upgrade some blocks after the first of its in-place-testnet, the old binary comes to it and
// halts, and each run begins there.
func TestRehearseHalted(t *testing.T) {
	ctx, nw := layOut(t, network.Config{BlockTime: 250 * time.Millisecond, LedgerKeys: 2000})
	v1, err := built.chain.Variant(built.ctx, "v1", "ahead", ahead, os.Stderr)
	check(t, err)
	n := home(t, nw.Nodes[0])
	n.run("init", v1)
	nodeCtx := n.start(ctx)
	check(t, n.Node.WaitHeight(nodeCtx, 4))
	n.stop()
	got := n.rehearse(0, built.chain.V2, "--from", "live", "--yes", "--repeat", "2", "--blocks", "2")
	if got.Way != "halted" || len(got.Runs) != 2 || got.Runs[0].AppHash != got.Runs[1].AppHash || got.Runs[0].BlockHash != got.Runs[1].BlockHash {
		t.Errorf("rehearsal = %+v, want two runs from the halt, with the same state", got)
	}
}

// checkDoctor checks what doctor makes of the last rehearsal.
func (n *node) checkDoctor(want, says string) {
	n.t.Helper()
	if verdict, evidence := n.ask(built.ctx, "rehearsal", "--plan", "v2"); verdict != want || !strings.Contains(evidence, says) {
		n.t.Errorf("doctor: rehearsal is %s: %s; want %s, with %q in it", verdict, evidence, want, says)
	}
}

// rehearse runs a rehearsal of v2 that ends with this code.
func (n *node) rehearse(code int, binary string, more ...string) (got rehearsal) {
	n.t.Helper()
	cmd := n.Command(built.ctx, append([]string{"rehearse", "--plan", "v2", "--binary", binary, "-o", "json"}, more...)...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	start := time.Now()
	err := run(built.ctx, cmd)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		n.t.Fatal(err)
	}
	if cmd.ProcessState.ExitCode() != code {
		n.t.Fatalf("solstice rehearse %v ended with %d, want %d:\n%s%s", more, cmd.ProcessState.ExitCode(), code, out.String(), stderr.String())
	}
	check(n.t, json.Unmarshal(out.Bytes(), &got))
	n.t.Logf("%s: %s: %s, in %v (%s)", filepath.Base(filepath.Dir(binary)), got.Outcome, got.Reason, time.Since(start).Round(time.Millisecond), got.Network)
	if left := n.leftOver(); len(left) > 0 {
		n.t.Errorf("left over after a rehearsal: %v", left)
	}
	return got
}

func (n *node) leftOver() []string {
	n.t.Helper()
	left, err := filepath.Glob(filepath.Join(n.Node.Home, ".solstice-rehearsal-*"))
	check(n.t, err)
	return left
}

// rehearseCut interrupts a rehearsal, then kills one, and its solstice, while the new binary migrates.
func (n *node) rehearseCut(ctx context.Context) {
	n.t.Helper()
	slow := filepath.Join(n.t.TempDir(), "slow")
	check(n.t, os.WriteFile(slow, fmt.Appendf(nil, "#!/bin/sh\nexport CHAIND_MIGRATION_SLEEP=1h\nexec %s \"$@\"\n", built.chain.V2), 0o755))
	begin := func() (*exec.Cmd, chan error) {
		cmd := n.Command(ctx, "rehearse", "--plan", "v2", "--binary", slow)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		check(n.t, start(cmd))
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		check(n.t, Wait(ctx, func() (bool, error) {
			logs, _ := filepath.Glob(filepath.Join(n.Node.Home, ".solstice-rehearsal-*", "*.log"))
			for _, path := range logs {
				text, _ := os.ReadFile(path)
				if bytes.Contains(text, []byte("migrating module ledger")) {
					return true, nil
				}
			}
			return false, nil
		}))
		return cmd, done
	}
	cmd, done := begin()
	check(n.t, cmd.Process.Signal(syscall.SIGINT))
	<-done
	if left := n.leftOver(); cmd.ProcessState.ExitCode() != 130 || len(left) > 0 {
		n.t.Errorf("an interrupted rehearsal ended with %v and left %v", cmd.ProcessState, left)
	}

	cmd, done = begin()
	folder := n.leftOver()
	if len(folder) != 1 {
		n.t.Fatalf("folders of a rehearsal at work = %v, want one", folder)
	}
	check(n.t, cmd.Process.Kill())
	<-done
	out := n.rehearseOutput(built.chain.V2)
	if !strings.Contains(out, "removed what a rehearsal that was cut off had left") {
		n.t.Errorf("the next rehearsal doesn't tell of the debris:\n%s", out)
	}
	if left := n.leftOver(); len(left) > 0 {
		n.t.Errorf("left over after a kill, and the next rehearsal: %v", left)
	}
	if out, err := exec.Command("pgrep", "-f", folder[0]).Output(); err == nil {
		n.t.Errorf("processes are left over: %s", out)
	}
}

func (n *node) rehearseOutput(binary string) string {
	n.t.Helper()
	var out bytes.Buffer
	cmd := n.Command(built.ctx, "rehearse", "--plan", "v2", "--binary", binary, "--blocks", "1")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := run(built.ctx, cmd); err != nil {
		n.t.Fatalf("rehearse: %v\n%s", err, out.String())
	}
	return out.String()
}

// inode is what of a file changes with anything that is done to it, besides its names.
type inode struct {
	number uint64
	size   int64
	mtime  time.Time
}

// inodes are those of the files below a folder.
func inodes(t *testing.T, root string) map[string]inode {
	t.Helper()
	found := map[string]inode{}
	check(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		found[path] = inode{info.Sys().(*syscall.Stat_t).Ino, info.Size(), info.ModTime()}
		return nil
	}))
	return found
}

var ownRecords = regexp.MustCompile(`/cosmovisor/\.solstice/`)

// checkUntouched checks that all files of the home are those of before, with the same content and time, and no more: but for what
// solstice notes of its own.
func (n *node) checkUntouched(before map[string]inode, files map[string]string) {
	n.t.Helper()
	after := inodes(n.t, n.Node.Home)
	for path, was := range before {
		if is := after[path]; is != was && !ownRecords.MatchString(path) {
			n.t.Errorf("%s is %+v, was %+v", path, is, was)
		}
	}
	for path := range after {
		if _, ok := before[path]; !ok && !ownRecords.MatchString(path) {
			n.t.Errorf("%s is new", path)
		}
	}
	for path, is := range tree(n.t, n.Node.Home) {
		if is != files[path] && !ownRecords.MatchString("/"+path) {
			n.t.Errorf("%s is %q, was %q", path, is, files[path])
		}
	}
}
