package rehearse

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"

	"solstice/localnet"
	"solstice/node"
	"solstice/snapshot"
)

// TestIsolate: a copy of a home has none of its keys and none of its peers; and whatever is done to the copy, the original is as it was.
func TestIsolate(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	for name, content := range map[string]string{
		"config/config.toml": "priv_validator_laddr = \"tcp://10.0.0.1:26659\"\npriv_validator_key_file = \"data/own_key.json\"\n" +
			"[rpc]\nladdr = \"tcp://0.0.0.0:26657\"\n[p2p]\nseeds = \"a@b:1\"\npersistent_peers = \"c@d:2\"\npex = true\n" +
			"[statesync]\nenable = true\n[tx_index]\nindexer = \"psql\"\npsql-conn = \"postgresql://secret\"\n",
		"config/app.toml":                             "halt-height = 7\n[api]\nenable = true\n",
		"config/client.toml":                          "chain-id = \"chain_9000-1\"\n",
		"config/genesis.json":                         `{"chain_id":"chain_9000-1"}`,
		"config/addrbook.json":                        `{"addrs":["secret"]}`,
		"config/node_key.json":                        "secret",
		"config/priv_validator_key.json":              "secret",
		"config/gentx/one.json":                       "secret",
		"data/own_key.json":                           "secret",
		"data/priv_validator_state.json":              `{"height":"99"}`,
		"data/cs.wal/wal":                             "votes",
		"keyring-file/a.info":                         "secret",
		"wasm/state/wasm/" + strings.Repeat("ab", 32): "code",
	} {
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, filepath.Join(home, "data", "application.db"), "original")
	before := tree(t, home)

	copied := filepath.Join(filepath.Dir(home), "copied")
	if err := os.Mkdir(copied, 0o700); err != nil {
		t.Fatal(err)
	}
	settings := node.Settings{KeyFile: filepath.Join(home, "data/own_key.json"), StateFile: filepath.Join(home, "data/priv_validator_state.json")}
	m, err := snapshot.Borrow(t.Context(), home, copied, private(home, settings), nil)
	if err != nil {
		t.Fatal(err)
	}
	if m.Linked+m.Cloned == 0 {
		t.Errorf("nothing is linked: %+v", m)
	}
	k, err := newKeys()
	if err != nil {
		t.Fatal(err)
	}
	n := &localnet.Node{Home: copied, Chain: "noded"}
	if err := isolate(n, k); err != nil {
		t.Fatal(err)
	}
	for path := range tree(t, copied) {
		content, err := os.ReadFile(filepath.Join(copied, path))
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"secret", "a@b:1", "c@d:2", "10.0.0.1", "0.0.0.0", `"99"`} {
			if strings.Contains(string(content), bad) && !strings.HasPrefix(path, "data/application.db") {
				t.Errorf("%s has %q:\n%s", path, bad, content)
			}
		}
	}
	if got, want := chainID(copied), "rehearsal_9000-1"; got != want {
		t.Errorf("chain id = %q, want %q", got, want)
	}

	// What a node does there: its database changes and is compacted, contract code, genesis and settings are written in place.
	fill(t, filepath.Join(copied, "data", "application.db"), "copied")
	for path := range tree(t, copied) {
		if strings.HasPrefix(path, "data/application.db") {
			continue
		}
		if err := os.WriteFile(filepath.Join(copied, path), []byte("changed"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if after := tree(t, home); !maps.Equal(after, before) {
		t.Errorf("the original has changed:\n%v\nwas\n%v", after, before)
	}
}

// fill writes so much into a database that it has tables, and compacts it.
func fill(t *testing.T, path, value string) {
	t.Helper()
	db, err := leveldb.OpenFile(path, &opt.Options{WriteBuffer: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for i := range 5000 {
		if err := db.Put(fmt.Appendf(nil, "key %d", i), fmt.Appendf(nil, "%s %d", value, i*i), nil); err != nil {
			t.Fatal(err)
		}
	}
}

// tree is each file below a folder, with its inode, time and content.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		found[filepath.ToSlash(rel)] = fmt.Sprintf("inode %d, %v, %x", info.Sys().(*syscall.Stat_t).Ino, info.ModTime(), sha256.Sum256(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestBorrowRefusesSymlinks: what is written through a symlink would be written to the original.
func TestBorrowRefusesSymlinks(t *testing.T) {
	home, to, elsewhere := t.TempDir(), t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(home, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Join(home, "data", "application.db")); err != nil {
		t.Fatal(err)
	}
	_, err := snapshot.Borrow(t.Context(), home, to, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "behind symlinks can't be borrowed: data/application.db") {
		t.Errorf("Borrow = %v, want a refusal", err)
	}
}
