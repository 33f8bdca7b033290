package main

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/syndtr/goleveldb/leveldb"
	"google.golang.org/protobuf/encoding/protowire"
)

// TestCancelOfTheChainsPlan: what the chain has scheduled is found in the databases of a node that is stopped, too.
func TestCancelOfTheChainsPlan(t *testing.T) {
	home := t.TempDir()
	t.Setenv("DAEMON_HOME", home)
	t.Setenv("DAEMON_NAME", "noded")
	for _, dir := range []string{"cosmovisor/genesis/bin", "data"} {
		if err := os.MkdirAll(filepath.Join(home, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	db, err := leveldb.OpenFile(filepath.Join(home, "data", "application.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	plan := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "v2")
	plan = protowire.AppendVarint(protowire.AppendTag(plan, 3, protowire.VarintType), 100)
	for key, value := range map[string][]byte{ // as the SDK and IAVL write it
		"s/latest":                     {1 << 3, 50},
		"s/k:upgrade/mstorage_version": []byte("1.1.0-50"),
		"s/k:upgrade/f\x00":            append(binary.AppendUvarint(binary.AppendVarint(nil, 50), uint64(len(plan))), plan...),
	} {
		err = errors.Join(err, db.Put([]byte(key), value, nil))
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	root := newRoot()
	root.SetArgs([]string{"cancel-upgrade", "V2"})
	var said strings.Builder
	if code := tell(&said, root.Execute()); code != 3 || !strings.Contains(said.String(), "plan v2 at height 100 is the chain's, which solstice can't cancel") {
		t.Errorf("code %d: %s", code, said.String())
	}
}
