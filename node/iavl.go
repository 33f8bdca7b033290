package node

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// maxNodes is how many nodes of a tree are read at most: a tree that is damaged may lead in a
// circle.
const maxNodes = 100_000

// tree is a store of the multistore as IAVL keeps it, in either of its forms:
//
// v1: a node has a key of 12 bytes, the height that it was made at and a number, and stands
// under s and that key. The root of a height is number 1 of it, or stands there as a
// reference to the root of a height before. A root that pruning has moved is number 0.
//
// before v1: a node has a key of 32 bytes, its hash, and stands under n and that key. The key
// of a height's root stands under r and the height. Nodes of a v1 tree that have not changed
// since are still in this form.
type tree struct {
	db     database
	prefix string // of the store's keys in the database
	nodes  int    // read so far
}

const (
	numberedKey = 12
	hashedKey   = 32
)

// read calls see with all entries from start to below end at a height.
func (t *tree) read(height int64, start, end []byte, see func(key, value []byte) error) error {
	root, err := t.root(height)
	if err != nil || root == nil {
		return err
	}
	return t.walk(root, start, end, see)
}

// root returns the key of a height's root node, or nil if the store is empty.
func (t *tree) root(height int64) ([]byte, error) {
	key := numbered(height, 1)
	value, err := t.get("s", key)
	if errors.Is(err, errNotFound) {
		value, err = t.get("r", key[:8])
		if errors.Is(err, errNotFound) {
			return nil, fmt.Errorf("no index (iavl-disable-fastnode) and no tree at height %d", height)
		}
		if err != nil || len(value) == 0 {
			return nil, err
		}
		return value, nil
	}
	switch {
	case err != nil || len(value) == 0:
		return nil, err
	case value[0] != 's':
		return key, nil // the value is the root node itself, which begins with a small number
	case len(value) == 1+numberedKey:
		key = value[1:]
	case len(value) == 1+8:
		key = append(value[1:], 0, 0, 0, 1)
	default:
		return nil, fmt.Errorf("%.40q does not refer to a root", value)
	}
	if _, err := t.get("s", key); errors.Is(err, errNotFound) {
		key = append(key[:8:8], 0, 0, 0, 0)
	}
	return key, nil
}

// walk calls see with all entries from start to below end of the tree below a node.
func (t *tree) walk(key, start, end []byte, see func(key, value []byte) error) error {
	if t.nodes++; t.nodes > maxNodes {
		return fmt.Errorf("the tree has more than %d nodes", maxNodes)
	}
	form := "s"
	if len(key) == hashedKey {
		form = "n"
	}
	value, err := t.get(form, key)
	if err != nil {
		return fmt.Errorf("tree node %x: %w", key, err)
	}
	n, err := parseNode(value, form == "n")
	if err != nil {
		return fmt.Errorf("tree node %x: %w", key, err)
	}
	if n.leaf {
		if bytes.Compare(n.key, start) < 0 || bytes.Compare(n.key, end) >= 0 {
			return nil
		}
		return see(n.key, n.value)
	}
	if bytes.Compare(start, n.key) < 0 {
		if err := t.walk(n.left, start, end, see); err != nil {
			return err
		}
	}
	if bytes.Compare(n.key, end) < 0 {
		return t.walk(n.right, start, end, see)
	}
	return nil
}

func (t *tree) get(form string, key []byte) ([]byte, error) {
	return t.db.get(append([]byte(t.prefix+form), key...))
}

func numbered(height int64, number uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(nil, uint64(height)), number)
}

// treeNode is a node: a leaf with a value, or the smallest key of its right side and the keys
// of two nodes.
type treeNode struct {
	leaf        bool
	key         []byte
	value       []byte
	left, right []byte
}

// parseNode reads a node (MakeNode and MakeLegacyNode in node.go of IAVL): how far it is
// above the leaves, how many there are below it, in the older form the height that it was
// made at, and its key. A leaf has its value then. Another one of v1 has its hash, which of
// its two sides are in the older form, and their keys; of before v1 just the two hashes.
func parseNode(value []byte, older bool) (n treeNode, err error) {
	in := &fieldReader{value}
	n.leaf = in.varint() == 0
	in.varint()
	if older {
		in.varint()
	}
	n.key = in.bytes()
	switch {
	case n.leaf:
		n.value = in.bytes()
	case older:
		n.left, n.right = in.bytes(), in.bytes()
	default:
		in.bytes()
		mode := in.varint()
		n.left, n.right = in.nodeKey(mode&1 != 0), in.nodeKey(mode&2 != 0)
	}
	if in.rest == nil {
		return n, fmt.Errorf("%.40q is cut off", value)
	}
	for _, side := range [][]byte{n.left, n.right} {
		if !n.leaf && len(side) != numberedKey && len(side) != hashedKey {
			return n, fmt.Errorf("%.40q has a side without a key", value)
		}
	}
	return n, nil
}

// fieldReader reads numbers and texts. After one that is cut off rest is nil, and all that
// follows is empty.
type fieldReader struct{ rest []byte }

func (in *fieldReader) varint() int64 {
	value, n := binary.Varint(in.rest)
	in.skip(n)
	return value
}

func (in *fieldReader) uvarint() uint64 {
	value, n := binary.Uvarint(in.rest)
	in.skip(n)
	return value
}

func (in *fieldReader) bytes() []byte {
	size := in.uvarint()
	if size > uint64(len(in.rest)) {
		in.rest = nil
		return nil
	}
	value := in.rest[:size]
	in.rest = in.rest[size:]
	return value
}

func (in *fieldReader) nodeKey(older bool) []byte {
	if older {
		return in.bytes()
	}
	height, number := in.varint(), in.varint()
	if number < 0 || number > math.MaxUint32 {
		return nil
	}
	return numbered(height, uint32(number))
}

func (in *fieldReader) skip(n int) {
	if n <= 0 {
		in.rest = nil
		return
	}
	in.rest = in.rest[n:]
}
