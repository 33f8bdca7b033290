package crash

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Room is what is free on a filesystem for who is not root. The zero value is: not known.
type Room struct {
	Known  bool
	Bytes  int64
	Inodes int64 // -1: the filesystem has no fixed number of them
}

// leastRoom is below what a node's disk counts as full: a memtable of goleveldb takes 4 MiB, one of pebble up to 64, and the write that
// failed has left less than it needed. A disk with more is not called full without the node's own word.
const leastRoom = 16 << 20

// RoomOf looks at the filesystem of a folder.
func RoomOf(folder string) Room {
	var fs unix.Statfs_t
	if err := unix.Statfs(folder, &fs); err != nil {
		return Room{}
	}
	r := Room{Known: true, Bytes: int64(fs.Bavail) * int64(fs.Bsize), Inodes: int64(fs.Ffree)}
	if fs.Files == 0 {
		r.Inodes = -1 // btrfs
	}
	return r
}

func (r Room) full() bool { return r.Known && (r.Bytes < leastRoom || r.Inodes == 0) }

func (r Room) String() string {
	if r.Inodes == 0 && r.Bytes >= leastRoom {
		return "no inode is free"
	}
	return fmt.Sprintf("%d KiB are free", r.Bytes>>10)
}
