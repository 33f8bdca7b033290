package snapshot

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestHolesStayHoles: a sparse file, as LMDB, MDBX and others make them, is in a snapshot
// what it is, byte by byte, and takes no more room there, wherever its holes are.
func TestHolesStayHoles(t *testing.T) {
	const size = 64 << 20
	s := newStore(t, nil)
	layouts := map[string][]int64{
		"nothing": nil, "beginning": {0}, "end": {size - 100}, "middle": {size / 2}, "odd": {1, 4097, 12345, size - 7}, "all-but-the-last-page": {size - 4096},
	}
	for i := range 4 {
		var at []int64
		for range 20 {
			at = append(at, rand.Int64N(size-100))
		}
		layouts[fmt.Sprintf("random-%d", i)] = at
	}
	paths := map[string]string{}
	for name, pieces := range layouts {
		path := filepath.Join(s.Home.Data(), name+".mdb")
		f, err := os.Create(path)
		check(t, err)
		check(t, f.Truncate(size))
		for _, at := range pieces {
			_, err := f.WriteAt(bytes.Repeat([]byte{7}, 100), at)
			check(t, err)
		}
		check(t, f.Sync())
		check(t, f.Close())
		paths[name] = path
	}
	one := take(t, s)
	clean(t, one, true)
	for name, path := range paths {
		copied := filepath.Join(one.Path, Data, name+".mdb")
		want, err := os.ReadFile(path)
		check(t, err)
		got, err := os.ReadFile(copied)
		check(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: the copy differs", name)
		}
		if is, was := blocks(t, copied), blocks(t, path); is > was+64 {
			t.Errorf("%s: the copy takes %d blocks, and the file %d", name, is, was)
		}
	}
}

// TestHolesStayHolesElsewhere: so it is with a copy on another disk.
func TestHolesStayHolesElsewhere(t *testing.T) {
	const size = 64 << 20
	s := farStore(t, node)
	path := filepath.Join(s.Home.Data(), "x.mdb")
	f, err := os.Create(path)
	check(t, err)
	for _, at := range []int64{0, 1 << 20, size - 5_000_000} {
		_, err := f.WriteAt([]byte("page"), at)
		check(t, err)
	}
	check(t, f.Truncate(size))
	check(t, f.Close())
	far, err := s.Transfer(t.Context(), take(t, s), nil)
	check(t, err)
	clean(t, far, true)
	want, err := os.ReadFile(path)
	check(t, err)
	copied := filepath.Join(far.Path, Data, "x.mdb")
	got, err := os.ReadFile(copied)
	check(t, err)
	if !bytes.Equal(got, want) || blocks(t, copied) > 1<<20/512 {
		t.Errorf("equal %t, %d blocks", bytes.Equal(got, want), blocks(t, copied))
	}
}

// blocks is the room that a file takes, in units of 512 bytes.
func blocks(t *testing.T, path string) int64 {
	t.Helper()
	var stat syscall.Stat_t
	check(t, syscall.Stat(path, &stat))
	return stat.Blocks
}
