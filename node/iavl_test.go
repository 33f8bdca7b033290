package node

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// entries is a database of no kind.
type entries map[string]string

func (e entries) get(key []byte) ([]byte, error) {
	value, ok := e[string(key)]
	if !ok {
		return nil, errNotFound
	}
	return []byte(value), nil
}

func (e entries) each(prefix []byte, see func(key, value []byte) error) error {
	for _, key := range slices.Sorted(maps.Keys(e)) {
		if strings.HasPrefix(key, string(prefix)) {
			if err := see([]byte(key), []byte(e[key])); err != nil {
				return err
			}
		}
	}
	return nil
}

// realTree is the store upgrade of a node of the test chain (SDK v0.54, IAVL v1.2) that ran
// with iavl-disable-fastnode from its first block to 117: v2 was scheduled in block 91, for
// 114.
func realTree(t testing.TB) entries {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", "upgrade-tree.txt"))
	check(t, err)
	tree := entries{}
	for line := range strings.Lines(string(content)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		k, err := hex.DecodeString(key)
		check(t, err)
		v, err := hex.DecodeString(value)
		check(t, err)
		tree[upgradeStore+string(k)] = string(v)
	}
	return tree
}

func TestUpgradesFromTree(t *testing.T) {
	tree := realTree(t)
	without := func(height int64, number uint32) entries {
		left := maps.Clone(tree)
		delete(left, upgradeStore+"s"+string(numbered(height, number)))
		return left
	}
	with := func(pairs ...string) entries {
		more := maps.Clone(tree)
		for i := 0; i < len(pairs); i += 2 {
			more[upgradeStore+pairs[i]] = pairs[i+1]
		}
		return more
	}
	for _, tt := range []struct {
		name   string
		of     entries
		height int64
		want   string
	}{
		{"genesis", tree, 1, "done [] scheduled <nil>"},
		{"refers-to-an-older-root", tree, 90, "done [] scheduled <nil>"},
		{"scheduled", tree, 91, "done [] scheduled v2 at height 114"},
		{"halted", tree, 113, "done [] scheduled v2 at height 114"},
		{"carried-out", tree, 114, "done [v2 at height 114] scheduled <nil>"},
		{"last", tree, 117, "done [v2 at height 114] scheduled <nil>"},
		{"of-another-height", tree, 118, "error: no tree at height 118"},
		{"index-of-another-height", with("mstorage_version", "1.1.0-60"), 117, "done [v2 at height 114] scheduled <nil>"},
		{"empty-store", with("s"+string(numbered(118, 1)), ""), 118, "done [] scheduled <nil>"},
		{"reference-of-before-lazy-pruning", with("s"+string(numbered(118, 1)), "s"+string(numbered(91, 1)[:8])), 118, "done [] scheduled v2 at height 114"},
		{"root-moved-by-pruning", with("s"+string(numbered(118, 1)), "s"+string(numbered(50, 7)), "s"+string(numbered(50, 0)), tree[upgradeStore+"s"+string(numbered(114, 1))]), 118, "done [v2 at height 114] scheduled <nil>"},
		{"root-is-gone", without(117, 1), 117, "error: no tree at height 117"},
		{"node-is-gone", without(114, 3), 117, "error: tree node 000000000000007200000003: not found"},
		{"odd-reference", with("s"+string(numbered(118, 1)), "sxyz"), 118, "error: does not refer to a root"},
		{"node-is-cut-off", with("s"+string(numbered(114, 1)), "\x0a"), 117, "error: is cut off"},
		{"node-is-empty", with("s"+string(numbered(114, 3)), ""), 117, "error: is cut off"},
		{"leads-in-a-circle", with("s"+string(numbered(114, 3)), tree[upgradeStore+"s"+string(numbered(114, 1))]), 117, "error: more than 100000 nodes"},
		{"marked-for-later", oneLeaf("\x01\x00\x00\x00\x00\x00\x00\x00\x99v2", "\x01"), 118, "error: plan v2 at height 153 is marked as completed, but the height is 118"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkUpgrades(t, readUpgrades(tt.of, tt.height), tt.want)
		})
	}
}

// oneLeaf is a tree of one leaf, at height 118.
func oneLeaf(key, value string) entries {
	return entries{upgradeStore + "s" + string(numbered(118, 1)): "\x00\x02" + sized(key) + sized(value)}
}

func sized(s string) string { return string(binary.AppendUvarint(nil, uint64(len(s)))) + s }

// TestUpgradesFromOlderTree: the form of before IAVL v1, and one in which only what has
// changed since is in the new form.
func TestUpgradesFromOlderTree(t *testing.T) {
	hash := func(c byte) string { return strings.Repeat(string(c), hashedKey) }
	leaf := func(key, value string) string { return "\x00\x02\x48" + sized(key) + sized(value) }
	inner := func(key string, left, right byte) string {
		return "\x02\x04\x48" + sized(key) + sized(hash(left)) + sized(hash(right))
	}
	done := func(name string) string { return "\x01\x00\x00\x00\x00\x00\x00\x00\x16" + name }
	older := entries{
		upgradeStore + "r" + string(numbered(36, 1)[:8]): hash('a'),
		upgradeStore + "r" + string(numbered(35, 1)[:8]): "",
		upgradeStore + "n" + hash('a'):                   inner(done("v2"), 'b', 'c'),
		upgradeStore + "n" + hash('b'):                   leaf(scheduledKey, planOfV4[2:]),
		upgradeStore + "n" + hash('c'):                   inner("\x02bank", 'd', 'e'),
		upgradeStore + "n" + hash('d'):                   leaf(done("v2"), "\x01"),
		upgradeStore + "n" + hash('e'):                   leaf("\x02bank", "\x01"),
	}
	mixed := maps.Clone(older)
	mixed[upgradeStore+"s"+string(numbered(37, 1))] = "\x06\x06" + sized(done("v2")) + sized(hash('h')) + "\x04" + "\x4a\x04" + sized(hash('c'))
	mixed[upgradeStore+"s"+string(numbered(37, 2))] = "\x00\x02" + sized("\x00") + sized(planOfV4[2:])
	both := "done [v2 at height 22] scheduled v4 at height 150"
	for _, tt := range []struct {
		name   string
		of     entries
		height int64
		want   string
	}{
		{"older", older, 36, both},
		{"empty", older, 35, "done [] scheduled <nil>"},
		{"of-another-height", older, 34, "error: no index (iavl-disable-fastnode) and no tree at height 34"},
		{"mixed", mixed, 37, both},
	} {
		t.Run(tt.name, func(t *testing.T) { checkUpgrades(t, readUpgrades(tt.of, tt.height), tt.want) })
	}
}

// TestTreeReadsLittle: of a large store only the way to what is asked for is read.
func TestTreeReadsLittle(t *testing.T) {
	tree := tree{db: realTree(t), prefix: upgradeStore}
	found := 0
	check(t, tree.read(117, []byte(donePrefix), []byte{2}, func(_, _ []byte) error { found++; return nil }))
	if found != 1 || tree.nodes > 12 {
		t.Errorf("%d marks found in %d nodes, want 1 in 12 at most", found, tree.nodes)
	}
}

// FuzzTree: whatever stands in a node, what is read of the tree are plans, or an error, and
// there is an end to it.
func FuzzTree(f *testing.F) {
	all := realTree(f)
	keys := slices.Sorted(maps.Keys(all))
	for i, key := range keys {
		if i%10 == 0 {
			f.Add(uint16(i), []byte(all[key]))
		}
	}
	f.Fuzz(func(t *testing.T, which uint16, value []byte) {
		key := keys[int(which)%len(keys)]
		damaged := maps.Clone(all)
		damaged[key] = string(value)
		u := readUpgrades(damaged, 117)
		for _, plan := range u.Done {
			if plan.Validate() != nil || plan.Height > 117 {
				t.Errorf("%v", plan)
			}
		}
		if u.Err != nil && (len(u.Done) > 0 || u.Scheduled != nil) {
			t.Errorf("%+v", u)
		}
	})
}

func FuzzParseNode(f *testing.F) {
	for _, value := range realTree(f) {
		f.Add([]byte(value), false)
	}
	f.Add([]byte("\x00\x02\x48\x01a\x01b"), true)
	f.Fuzz(func(t *testing.T, value []byte, older bool) {
		n, err := parseNode(value, older)
		if err == nil && !n.leaf && (len(n.left) < numberedKey || len(n.right) < numberedKey) {
			t.Errorf("parseNode(%q) = %+v", value, n)
		}
		if err == nil && !bytes.Contains(value, n.key) {
			t.Errorf("parseNode(%q) has key %q", value, n.key)
		}
	})
}
