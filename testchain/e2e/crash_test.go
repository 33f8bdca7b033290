package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"solstice/testchain/network"
)

// TestCrash: what a real node says on its stderr when it dies names its crash: with the state of another chain, with a binary that adds a
// store before its upgrade. Beside another node on the same databases none is started.
func TestCrash(t *testing.T) {
	t.Parallel()
	ctx, nw := layOut(t, network.Config{BlockTime: 250 * time.Millisecond, DBBackend: "pebbledb"})
	h := home(t, nw.Nodes[0], "SOLSTICE_RESTART=on-failure", "SOLSTICE_RESTART_LIMIT=1")
	h.run("init", built.chain.V1)
	run := append([]string{"run"}, h.Node.StartArgs()...)
	data := filepath.Join(h.Node.Home, "data")

	// alone runs a node without solstice until it is killed.
	alone := func(folder string) *exec.Cmd {
		t.Helper()
		cmd := exec.CommandContext(ctx, built.chain.V1, "start", "--home", folder)
		check(t, start(cmd))
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		return cmd
	}
	end := func(cmd *exec.Cmd) {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}

	other := filepath.Join(t.TempDir(), "other")
	check(t, os.CopyFS(other, os.DirFS(h.Node.Home)))
	changeState(t, other)
	node := alone(other)
	check(t, h.Node.WaitHeight(ctx, 2))
	end(node)

	node = alone(h.Node.Home)
	check(t, h.Node.WaitHeight(ctx, 8))
	h.fails(3, "another process has the node's databases open: a node that runs without solstice?", run...)
	end(node)

	binary := filepath.Join(h.Node.Home, "cosmovisor", "genesis", "bin", "chaind")
	check(t, os.Remove(binary))
	check(t, os.Symlink(built.chain.V2, binary))
	h.fails(2, "wrong binary: it is the wrong binary for this height: panic: failed to load latest version: version of store", run...)
	check(t, os.Remove(binary))
	check(t, os.Symlink(built.chain.V1, binary))

	check(t, os.RemoveAll(filepath.Join(data, "application.db")))
	check(t, os.Rename(filepath.Join(other, "data", "application.db"), filepath.Join(data, "application.db")))
	h.fails(2, "app hash mismatch: it has another state than its chain: panic: block.AppHash does not match AppHash after replay", run...)
	if status := h.run("status"); !strings.Contains(status, "to do: starting it again does not help") {
		t.Errorf("status:\n%s", status)
	}
}

// changeState has a node begin with another state than its chain, which nobody sees before the second block.
func changeState(t *testing.T, folder string) {
	t.Helper()
	genesis := filepath.Join(folder, "config", "genesis.json")
	var content map[string]any
	check(t, json.Unmarshal(read(t, genesis), &content))
	content["app_state"].(map[string]any)["gov"].(map[string]any)["params"].(map[string]any)["voting_period"] = "171000s"
	changed, err := json.Marshal(content)
	check(t, errors.Join(err, os.WriteFile(genesis, changed, 0o644)))
}
