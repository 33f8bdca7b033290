package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	dbm "github.com/cosmos/cosmos-db"

	"solstice/testchain/network"
)

// TestRollback takes upgrades back, on both databases.
//
// Of three validators, without any of which there is no block, one has a v2 that panics half-way through its migration. It
// goes back and upgrades with the right v2. A full node goes back from beyond the upgrade, and then that validator does,
// killed between its two votes on a block. All end with the blocks and the state of those that never failed, and nobody has
// signed anything twice.
func TestRollback(t *testing.T) {
	for _, backend := range []string{"goleveldb", "pebbledb"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			testRollback(t, backend)
		})
	}
}

func testRollback(t *testing.T, backend string) {
	ctx, nw := layOut(t, network.Config{
		Validators: 3, FullNodes: 1, DBBackend: backend, BlockTime: 250 * time.Millisecond, LedgerKeys: 200,
	})
	var nodes []*node
	for i, n := range nw.Nodes {
		h, v2 := home(t, n), built.chain.V2
		if backend == "pebbledb" {
			h.endsBy = 2 // SDK v0.54 closes application.db twice (server/start.go), which pebble answers with a panic
		}
		if i == 0 {
			v2 = brokenV2(t, 100)
		}
		h.run("init", built.chain.V1)
		h.run("add-upgrade", "v2", v2)
		nodes = append(nodes, h)
	}
	failing, full := nodes[0], nodes[3]
	for _, n := range nodes[:3] {
		n.watchSigned()
	}
	ctx = nodes[2].start(nodes[1].start(ctx))
	failingCtx, fullCtx := failing.start(ctx), full.start(ctx)
	check(t, full.Node.WaitHeight(fullCtx, 2))
	entries := failing.entries(failingCtx)
	plan := schedule(t, ctx, nw, built.chain.V1, "v2")

	t.Log("the migration fails, and is taken back")
	failing.endsFailed(ctx, "migration broken after 100 entries", fmt.Sprintf("the new binary in upgrades/v2 ended before block %d was seen", plan.Height))
	failing.checkState("v2", "switched")
	before := tree(t, failing.Node.Home)
	failing.says("Nothing was changed", "rollback", "--binary", built.chain.V2, "--dry-run")
	checkTree(t, "a dry run", failing.Node.Home, before)
	out := failing.says("the data has changed and is restored", "rollback", "--binary", built.chain.V2, "--yes")
	if want := fmt.Sprintf("committed %d, says application.db", plan.Height-1); !strings.Contains(out, want) {
		t.Errorf("rollback doesn't say %q:\n%s", want, out)
	}
	failing.checkBack(backend, plan)
	failing.checkKept("upgrade not confirmed", 1, 1)
	failingCtx = failing.start(ctx)
	for _, n := range nodes {
		n.checkUpgraded(failingCtx, plan)
	}
	failing.checkKept("upgrade confirmed", 2, 1)
	full.stop() // so that it has not many blocks to undo
	check(t, failing.Node.WaitHeight(failingCtx, plan.Height+5))
	checkSame(t, failingCtx, nodes[:3], plan.Height+5)
	failing.checkEntries(failingCtx, entries)
	failing.says("as they were", "snapshot", "verify", "--deep")

	t.Log("what the chain's own rollback can't undo is left as it was")
	before = tree(t, full.Node.Home)
	// At the height before it there is no store of the upgrade's, and the SDK goes to no version that a store hasn't.
	full.fails(1, "the data is as it was before", "rollback", "--chain", "--yes")
	checkTree(t, "the chain's own rollback", filepath.Join(full.Node.Home, "data"), under(before, "data"))
	if got := full.current(); got != "upgrades/v2" {
		t.Errorf("current -> %s, want upgrades/v2", got)
	}

	t.Log("what was committed is undone with the snapshot")
	full.says("undone with the snapshot", "rollback", "--binary", built.chain.V2, "--yes")
	full.checkBack(backend, plan)
	fullCtx = full.start(failingCtx)
	full.checkUpgraded(fullCtx, plan)
	last, err := failing.Node.AppHeight(fullCtx)
	check(t, err)
	checkSame(t, fullCtx, nodes, last+3)
	full.checkEntries(fullCtx, entries)
	full.says("as they were", "snapshot", "verify", "--deep")
	failing.says("as they were, by content", "snapshot", "verify", "--deep") // once more, after some blocks
	failing.checkKept("upgrade confirmed", 2, 1)

	t.Log("a validator that the others wait for undoes what it has committed")
	cut := failing.killAfterPrevote(fullCtx)
	failing.says("if the chain stands still there, start it once more", "rollback", "--binary", built.chain.V2, "--yes")
	failing.checkBack(backend, plan)
	failingCtx = failing.start(ctx)
	failing.checkUpgraded(failingCtx, plan)
	// The others can't do without its votes at that height. It finds them in its WAL, which CometBFT reads at a start only.
	check(t, failing.Node.WaitHeight(failingCtx, cut-1))
	failing.stop()
	failingCtx = failing.start(ctx)
	last, err = nodes[1].Node.AppHeight(failingCtx)
	check(t, err)
	checkSame(t, failingCtx, nodes, last+5)
	checkSignedOnce(t, failingCtx, nodes, failing, last+5)
	for _, n := range nodes {
		n.stop()
	}
}

// TestSkip: the network gives up an upgrade that nobody can carry out, and goes on with the old binary.
func TestSkip(t *testing.T) {
	t.Parallel()
	ctx, nw := layOut(t, network.Config{BlockTime: 250 * time.Millisecond})
	h := home(t, nw.Nodes[0])
	h.watchSigned()
	h.run("init", built.chain.V1)
	h.run("add-upgrade", "v2", brokenV2(t, 0))
	running := h.start(ctx)
	check(t, h.Node.WaitHeight(running, 2))
	plan := schedule(t, running, nw, built.chain.V1, "v2")
	h.endsFailed(ctx, "migration broken")

	flag := fmt.Sprintf("--unsafe-skip-upgrades %d", plan.Height)
	h.says("start it with: solstice run start "+flag, "rollback", "--skip", "--yes")
	if got := h.current(); got != "genesis" {
		t.Errorf("current -> %s, want genesis", got)
	}
	h.fails(3, "start it with: solstice run start "+flag, append([]string{"run"}, h.Node.StartArgs()...)...)
	running = h.start(ctx, strings.Fields(flag)...)
	check(t, h.Node.WaitHeight(running, plan.Height+2))
	h.stop()
	running = h.start(ctx) // beyond the height it takes no flag
	check(t, h.Node.WaitHeight(running, plan.Height+5))
	h.checkEntry(running, "v1:")
	if got := h.current(); got != "genesis" {
		t.Errorf("current -> %s, want genesis", got)
	}
	checkSignedOnce(t, running, []*node{h}, h, plan.Height+5)
	h.stop()
}

// TestFullNode takes full nodes back from beyond an upgrade: one whose snapshots lie on another disk, and one whose rollbacks
// are cut off.
func TestFullNode(t *testing.T) {
	t.Parallel()
	ctx, nw := layOut(t, network.Config{FullNodes: 2, BlockTime: 250 * time.Millisecond})
	validator := home(t, nw.Nodes[0])
	validator.run("init", built.chain.V1)
	validator.run("add-upgrade", "v2", built.chain.V2)
	ctx = validator.start(ctx)
	plan := validator.upgradeByGovernance(ctx, nw, built.chain.V1, "v2")
	t.Run("another-disk", func(t *testing.T) {
		t.Parallel()
		testAnotherDisk(t, ctx, validator, nw.Nodes[1], plan)
	})
	t.Run("cut-off", func(t *testing.T) {
		t.Parallel()
		testCutOff(t, ctx, validator, nw.Nodes[2], plan)
	})
}

// testAnotherDisk: an upgrade doesn't wait for its snapshot to be on the disk that the operator named. It comes there when
// there is room, and is a way back from there.
func testAnotherDisk(t *testing.T, ctx context.Context, validator *node, full *network.Node, plan network.Plan) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a filesystem")
	}
	disk, resize := mountDisk(t, "64k")
	n := home(t, full, "DAEMON_DATA_BACKUP_DIR="+disk)
	n.run("init", built.chain.V1)
	n.run("add-upgrade", "v2", built.chain.V2)
	running := n.start(ctx)
	n.checkUpgraded(running, plan)
	_, err := n.WaitStatus(running, func(s Status) bool { return s.Copying != nil && strings.Contains(s.Copying.Waiting, "MiB free") })
	check(t, err)
	n.checkOn(n.Node.Home, 1)
	n.stop()

	resize("256m")
	running = n.start(ctx)
	copied := func() (bool, error) {
		snapshots, err := n.Snapshots(running)
		elsewhere := func(one Snapshot) bool { return filepath.Dir(one.Path) != disk }
		return err == nil && !slices.ContainsFunc(snapshots, elsewhere), err
	}
	check(t, Wait(running, copied))
	_, err = n.WaitStatus(running, func(s Status) bool { return s.Copying == nil })
	check(t, err)
	n.checkOn(disk, 1)
	n.checkOn(n.Node.Home, 0)
	n.says("as they were, by content", "snapshot", "verify", "--deep")
	check(t, n.Node.WaitHeight(running, plan.Height+3)) // until the node runs, SIGTERM kills it
	n.stop()

	n.says("undone with the snapshot", "rollback", "--binary", built.chain.V2, "--yes")
	n.checkBack("goleveldb", plan)
	running = n.start(ctx)
	n.checkUpgraded(running, plan)
	checkAgree(t, running, []*node{validator, n})
	check(t, Wait(running, copied))
	n.checkOn(disk, 2)
	n.stop()
}

// checkOn checks how many snapshots lie in a folder.
func (n *node) checkOn(dir string, want int) {
	n.t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "data-backup-*"))
	check(n.t, err)
	if len(found) != want {
		n.t.Errorf("snapshots in %s: %q, want %d", dir, found, want)
	}
}

// testCutOff kills rollbacks and a restore right before one of their changes, and starts the node: it is where it was, or
// where it was to go, and catches up.
func testCutOff(t *testing.T, ctx context.Context, validator *node, full *network.Node, plan network.Plan) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("needs strace, to kill at a system call")
	}
	n := home(t, full)
	n.run("init", built.chain.V1)
	n.run("add-upgrade", "v2", built.chain.V2)
	running := n.start(ctx)
	n.checkUpgraded(running, plan)
	n.stop()

	const renames, ready = "rename,renameat,renameat2", ".solstice-tmp-*-restore-data"
	rollback := []string{"rollback", "--binary", built.chain.V2, "--yes"}
	restore := []string{"snapshot", "restore", "the newest", "--yes"}
	readyName := "" // the same each time; the first cut leaves it
	for _, tt := range []struct {
		name, calls, path string
		args              []string
		dataGone          bool
	}{
		{"rollback-before-its-record", renames, "cosmovisor/.solstice/rollback.json", rollback, false},
		{"rollback-before-the-data-comes", renames, ready, rollback, true},
		{"rollback-before-the-link", renames, "cosmovisor/current", rollback, false},
		{"rollback-before-its-end", "unlink,unlinkat", "cosmovisor/.solstice/rollback.json", rollback, false},
		{"restore-before-the-data-comes", renames, ready, restore, true},
	} {
		path := filepath.Join(n.Node.Home, tt.path)
		if tt.path == ready {
			path = readyName
		}
		if tt.args[0] == "snapshot" {
			snapshots, err := n.Snapshots(ctx)
			check(t, err)
			tt.args[2] = snapshots[len(snapshots)-1].ID
		}
		cmd := n.Command(ctx, tt.args...)
		cmd.Path = strace
		cmd.Args = slices.Concat([]string{"strace", "-f", "-qq", "-o", os.DevNull, "-P", path, "-e", "trace=" + tt.calls,
			"-e", "inject=" + tt.calls + ":signal=KILL", n.Solstice}, tt.args)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := run(ctx, cmd)
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGKILL {
			t.Fatalf("%s: %v, want a kill at %s:\n%s", tt.name, err, path, out.String())
		}
		if found, err := filepath.Glob(filepath.Join(n.Node.Home, ready)); err == nil && len(found) == 1 {
			readyName = found[0]
		}
		if _, err := os.Stat(filepath.Join(n.Node.Home, "data")); (err != nil) != tt.dataGone {
			t.Errorf("%s: data/: %v", tt.name, err)
		}
		running = n.start(ctx)
		n.checkUpgraded(running, plan)
		checkAgree(t, running, []*node{validator, n})
		n.stop()
		t.Logf("%s: went on", tt.name)
	}
	left, err := filepath.Glob(filepath.Join(n.Node.Home, ".solstice-tmp-*"))
	check(t, err)
	if len(left) > 0 {
		t.Errorf("debris: %q", left)
	}
}

// brokenV2 is a v2 whose migration panics when it has rewritten so many entries.
func brokenV2(t *testing.T, entries int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "chaind")
	script := fmt.Sprintf("#!/bin/sh\nexport CHAIND_MIGRATION_PANIC=%d\nexec '%s' \"$@\"\n", entries, built.chain.V2)
	check(t, os.WriteFile(path, []byte(script), 0o755))
	return path
}

// says runs a command of solstice that must succeed and print this.
func (n *node) says(want string, args ...string) string {
	n.t.Helper()
	out := n.run(args...)
	if !strings.Contains(out, want) {
		n.t.Errorf("solstice %s on %s doesn't say %q:\n%s", strings.Join(args, " "), n.Node.Moniker, want, out)
	}
	return out
}

// fails runs a command of solstice that must fail with this code and say this.
func (n *node) fails(code int, want string, args ...string) {
	n.t.Helper()
	_, err := n.Run(built.ctx, args...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code || !strings.Contains(err.Error(), want) {
		n.t.Errorf("solstice %s on %s: %v, want exit code %d and %q", strings.Join(args, " "), n.Node.Moniker, err, code, want)
	}
}

// endsFailed waits for solstice to end by itself, with an error, after its log said this.
func (n *node) endsFailed(ctx context.Context, want ...string) {
	n.t.Helper()
	code, err := n.process.Wait(ctx)
	check(n.t, err)
	if code == 0 {
		n.t.Error("solstice ended with exit code 0, want an error")
	}
	log := n.process.Tail(1e6)
	for _, text := range want {
		if !strings.Contains(log, text) {
			n.t.Errorf("the log doesn't say %q", text)
		}
	}
}

// checkState checks what the status says of the last upgrade of that name.
func (n *node) checkState(name, want string) {
	n.t.Helper()
	status, err := n.Status(built.ctx)
	check(n.t, err)
	if u := status.Upgrade(name); u == nil || u.State != want {
		n.t.Errorf("upgrades of %s = %+v, want %s %s last", n.Node.Moniker, status.Upgrades, name, want)
	}
}

// checkBack checks that a node is where it was before the upgrade to v2.
func (n *node) checkBack(backend string, plan network.Plan) {
	n.t.Helper()
	n.checkState(plan.Name, "rolled back")
	if got := n.current(); got != "genesis" {
		n.t.Errorf("current of %s -> %s, want genesis", n.Node.Moniker, got)
	}
	if got := n.committed(backend); got != plan.Height-1 {
		n.t.Errorf("height of the application of %s = %d, want %d", n.Node.Moniker, got, plan.Height-1)
	}
}

// committed is the height in the application's database of a stopped node.
func (n *node) committed(backend string) int64 {
	n.t.Helper()
	dir := n.t.TempDir() // to look at a database is to write to it
	check(n.t, os.CopyFS(filepath.Join(dir, "application.db"), os.DirFS(filepath.Join(n.Node.Home, "data", "application.db"))))
	db, err := dbm.NewDB("application", dbm.BackendType(backend), dir)
	check(n.t, err)
	value, err := db.Get([]byte("s/latest"))
	check(n.t, errors.Join(err, db.Close()))
	height, size := binary.Uvarint(value[min(1, len(value)):]) // field 1 of an Int64Value
	if size <= 0 {
		n.t.Fatalf("height of the application of %s: %x", n.Node.Moniker, value)
	}
	return int64(height)
}

// checkKept checks how many snapshots there are, all in this state, and that everything which was set aside is still there.
func (n *node) checkKept(state string, snapshots, asides int) {
	n.t.Helper()
	got, err := n.Snapshots(built.ctx)
	check(n.t, err)
	for _, one := range got {
		if one.State != state || one.Manifest.Linked+one.Manifest.Cloned == 0 {
			n.t.Errorf("snapshot = %+v, want %s, and something linked or cloned", one, state)
		}
	}
	if len(got) != snapshots {
		n.t.Errorf("%d snapshots, want %d: %+v", len(got), snapshots, got)
	}
	for _, pattern := range []string{"data-before-*/application.db", "cosmovisor/upgrades/v2/bin/chaind.rolled-back-*"} {
		found, err := filepath.Glob(filepath.Join(n.Node.Home, pattern))
		check(n.t, err)
		if len(found) != asides {
			n.t.Errorf("%s: %q, want %d", pattern, found, asides)
		}
	}
}

// entries reads the whole ledger.
func (n *node) entries(ctx context.Context) (entries []string) {
	n.t.Helper()
	for i := byte(0); ; i++ {
		value, err := n.Node.Store(ctx, "ledger", []byte{0, 0, 0, 0, 0, 0, 0, i})
		check(n.t, err)
		if value == nil {
			return entries
		}
		entries = append(entries, string(value))
	}
}

// checkEntries checks that each entry of the ledger was migrated once, by what it was in v1.
func (n *node) checkEntries(ctx context.Context, old []string) {
	n.t.Helper()
	got, want := n.entries(ctx), slices.Clone(old)
	for i := range want {
		want[i] = "v2:" + strings.TrimPrefix(want[i], "v1:")
	}
	if !slices.Equal(got, want) {
		n.t.Errorf("%d entries of the ledger of %s, want %d:\n%q\n%q", len(got), n.Node.Moniker, len(want), got, want)
	}
	if count, err := n.Node.Store(ctx, "totals", []byte("entries")); err != nil || string(count) != fmt.Sprint(len(old)) {
		n.t.Errorf("count of entries = %q, %v, want %d", count, err, len(old))
	}
}

// watchSigned looks at the sign state until the test ends: it must never go down.
func (n *node) watchSigned() {
	done := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		var last network.SignState
		for {
			state, err := n.Node.SignState()
			switch {
			case errors.Is(err, fs.ErrNotExist): // while data/ is replaced
			case err != nil:
				n.t.Error(err)
				return
			case state.Compare(last) < 0:
				n.t.Errorf("sign state of %s fell from %+v to %+v", n.Node.Moniker, last, state)
				return
			default:
				last = state
			}
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	n.t.Cleanup(func() {
		close(done)
		wait.Wait()
	})
}

// killAfterPrevote kills solstice and its node when the validator has given its prevote on a block, and not its precommit. It
// returns the block's height.
func (n *node) killAfterPrevote(ctx context.Context) int64 {
	n.t.Helper()
	for ctx.Err() == nil {
		if state, err := n.Node.SignState(); err == nil && state.Step == 2 {
			check(n.t, n.process.KillAll())
			return state.Height
		}
	}
	n.t.Fatal(context.Cause(ctx))
	return 0
}

// signs waits until a block that is still to come has a signature of the validator, and returns the height of the block
// that says so.
func (n *node) signs(ctx context.Context) int64 {
	n.t.Helper()
	address, err := n.Node.ConsensusAddress()
	check(n.t, err)
	height, err := n.Node.AppHeight(ctx)
	check(n.t, err)
	for {
		height++
		check(n.t, n.Node.WaitHeight(ctx, height))
		commit, err := n.Node.Commit(ctx, height)
		check(n.t, err)
		if slices.Contains(commit.Signed, address) {
			return height
		}
	}
}

// checkSignedOnce checks that nobody has signed anything twice: by the votes in all nodes' logs, and by the blocks, which
// hold no evidence. The validator must have gone on signing up to the last height.
func checkSignedOnce(t *testing.T, ctx context.Context, nodes []*node, validator *node, last int64) {
	t.Helper()
	address, err := validator.Node.ConsensusAddress()
	check(t, err)
	signed := 0
	for height := int64(2); height <= last; height++ {
		commit, err := nodes[len(nodes)-1].Node.Commit(ctx, height)
		check(t, err)
		block, err := validator.Node.Block(ctx, height-1)
		check(t, err)
		if commit.Evidence != 0 || commit.Height != block.Height || commit.Hash != block.Hash {
			t.Errorf("block %d = %+v, want no evidence, and signatures of %+v", height, commit, block)
		}
		names := slices.Sorted(slices.Values(commit.Signed))
		if len(slices.Compact(names)) != len(commit.Signed) {
			t.Errorf("block %d has two signatures of one validator: %+v", height, commit)
		}
		if slices.Contains(commit.Signed, address) {
			signed++
		} else if height == last {
			t.Errorf("block %d has no signature of %s", height, validator.Node.Moniker)
		}
	}

	seen := map[network.Vote]string{} // without the signature, which is the value
	own := 0
	for _, n := range nodes {
		dirs, err := filepath.Glob(filepath.Join(n.Node.Home, "data*", "cs.wal"))
		check(t, err)
		for _, dir := range dirs {
			if strings.Contains(dir, "data-backup-") {
				dir = filepath.Join(filepath.Dir(dir), "data", "cs.wal")
			}
			votes, err := network.ReadVotes(dir)
			check(t, err)
			for _, vote := range votes {
				signature := vote.Signature
				vote.Signature = ""
				if other, ok := seen[vote]; ok && other != signature {
					t.Errorf("two signatures of one vote: %+v", vote)
				} else if !ok && vote.Validator == address {
					own++
				}
				seen[vote] = signature
			}
		}
	}
	if own == 0 {
		t.Error("no vote of the validator was found")
	}
	t.Logf("%d of %d blocks have a signature of %s; %d of its votes and %d in all were compared", signed, last-1, validator.Node.Moniker, own, len(seen))
}

// checkSame checks that all nodes have the same blocks, and by them the same state, up to a height that may be still to
// come.
func checkSame(t *testing.T, ctx context.Context, nodes []*node, last int64) {
	t.Helper()
	var want []network.Block
	for i, n := range nodes {
		check(t, n.Node.WaitHeight(ctx, last))
		for height := int64(1); height <= last; height++ {
			got, err := n.Node.Block(ctx, height)
			check(t, err)
			if i == 0 {
				want = append(want, got)
			}
			if got != want[height-1] || got.AppHash == "" && height > 1 {
				t.Errorf("block %d of %s = %+v, want %+v", height, n.Node.Moniker, got, want[height-1])
			}
		}
	}
}

// tree is what is below a folder: by path the kind, the mode and a hash of the content.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	check(t, filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		what := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += fmt.Sprintf(" %x", sha256.Sum256(content))
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			what += " " + target
		}
		name, err := filepath.Rel(root, path)
		found[name] = what
		return err
	}))
	return found
}

// under is the part of a tree below one of its folders.
func under(all map[string]string, folder string) map[string]string {
	part := map[string]string{".": all[folder]}
	for path, what := range all {
		if name, ok := strings.CutPrefix(path, folder+"/"); ok {
			part[name] = what
		}
	}
	return part
}

// checkTree checks that something has left a folder as it was.
func checkTree(t *testing.T, what, root string, want map[string]string) {
	t.Helper()
	got := tree(t, root)
	if maps.Equal(got, want) {
		return
	}
	for path := range got {
		if got[path] != want[path] {
			t.Errorf("%s has changed %s: %q, was %q", what, path, got[path], want[path])
		}
	}
	for path := range want {
		if _, ok := got[path]; !ok {
			t.Errorf("%s has removed %s", what, path)
		}
	}
}
