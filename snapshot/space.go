package snapshot

import (
	"io/fs"
	"os"
	"syscall"
)

// Alone returns how many bytes on the disk only this snapshot still holds: what its deletion would free.
func (s Snapshot) Alone() (int64, error) {
	var alone int64
	err := eachFile(s.Path, func(path string, e fs.DirEntry) error {
		info, err := e.Info()
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || stat.Nlink > 1 {
			return nil
		}
		held := int64(stat.Blocks) * 512 // whatever the block size is (stat(2))
		if s.Cloned > 0 {
			if own, ok := ownExtents(path); ok {
				held = own
			}
		}
		alone += held
		return nil
	})
	return alone, err
}

// ownExtents is how many bytes of a file no other file shares, if the filesystem says so.
func ownExtents(path string) (own int64, ok bool) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for start := uint64(0); ; {
		extents, err := extentsFrom(f, start)
		if err != nil {
			return 0, false
		}
		for _, e := range extents {
			if !e.shared {
				own += int64(e.length)
			}
			start = e.logical + e.length
			if e.last {
				return own, true
			}
		}
		if len(extents) == 0 {
			return own, true
		}
	}
}

// extent is a run of blocks of a file.
type extent struct {
	logical, length uint64 // bytes
	shared, last    bool
}
