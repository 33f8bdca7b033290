package snapshot

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fiemap is struct fiemap of linux/fiemap.h, with room for some extents.
type fiemap struct {
	start, length uint64
	flags, mapped uint32
	count, _      uint32
	extents       [64]fiemapExtent
}

type fiemapExtent struct {
	logical, physical, length uint64
	_                         [2]uint64
	flags                     uint32
	_                         [3]uint32
}

// extentsFrom returns the next extents of a file from a byte on.
func extentsFrom(f *os.File, start uint64) ([]extent, error) {
	const fsIocFiemap, extentLast, extentShared = 0xC020660B, 0x1, 0x2000
	m := fiemap{start: start, length: ^uint64(0) - start}
	m.count = uint32(len(m.extents))
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fsIocFiemap, uintptr(unsafe.Pointer(&m))); errno != 0 {
		return nil, errno
	}
	var extents []extent
	for _, e := range m.extents[:m.mapped] {
		extents = append(extents, extent{e.logical, e.length, e.flags&extentShared != 0, e.flags&extentLast != 0})
	}
	return extents, nil
}
