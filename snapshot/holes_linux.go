package snapshot

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// dataFrom says where the next bytes of a file are that are not in a hole, from a byte on,
// and where they end (lseek(2)). Behind the last ones both are the end of the file, which
// has this size.
func dataFrom(f *os.File, from, size int64) (data, hole int64, err error) {
	data, err = f.Seek(from, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return size, size, nil
	}
	if err == nil {
		hole, err = f.Seek(data, unix.SEEK_HOLE)
	}
	if err == nil {
		_, err = f.Seek(data, io.SeekStart)
	}
	return data, hole, err
}
