package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"
)

// goLevelDB is the name of the one kind of database that we read.
const goLevelDB = "goleveldb"

// maxJournals is how much of a database may lie in journals, in bytes: opening it reads them into memory. A node begins a
// new one every 4 MiB.
const maxJournals = 64 << 20

// ErrInUse means that another process has a database open, so the node is not stopped.
var ErrInUse = errors.New("another process has the database open")

// readLevelDB opens a database for read. It writes nothing. While it reads, the node can't open the database.
//
// A damaged database is an error, also where the library panics. Then what the library held is lost to the process; it is
// small.
func readLevelDB(dir string, read func(*leveldb.DB) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("read %s: %v", dir, r)
		}
	}()
	journals, err := checkLevelDB(dir)
	if err != nil {
		return err
	}
	files, err := storage.OpenFile(dir, true)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("open %s: %w", dir, ErrInUse)
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	defer files.Close()
	db, err := leveldb.Open(checkedFiles{files}, &opt.Options{
		ReadOnly:               true,
		ErrorIfMissing:         true,
		DisableBlockCache:      true,
		DisableSeeksCompaction: true,
		NoSync:                 true,
		OpenFilesCacheCapacity: 4,
		WriteBuffer:            max(64<<10, int(journals)), // the journals go there: a smaller one grows, again and again
	})
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	if err = read(db); err != nil {
		err = fmt.Errorf("read %s: %w", dir, err)
	}
	return errors.Join(err, db.Close())
}

// getHeight reads the height that stands under a key.
func getHeight(db *leveldb.DB, key string, parse func(value []byte) (int64, error)) (height int64, err error) {
	value, err := db.Get([]byte(key), nil)
	if err == nil {
		height, err = parse(value)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", key, err)
	}
	return height, err
}

// checkLevelDB returns an error unless dir holds a database of goleveldb, and nothing that opening it would write or that
// would not fit into memory. journals is their size in bytes.
func checkLevelDB(dir string) (journals int64, err error) {
	d, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	var current, lock bool
	for {
		names, err := d.Readdirnames(1024) // an archive node has a hundred thousand tables
		for _, name := range names {
			switch {
			case strings.HasPrefix(name, "OPTIONS-"), strings.HasPrefix(name, "marker."), name == "IDENTITY":
				return 0, fmt.Errorf("%s is a database of pebble or RocksDB: it has a file %s", dir, name)
			case name == "CURRENT":
				current = true
			case name == "LOCK":
				lock = true
			case strings.HasSuffix(name, ".log"):
				if info, err := os.Lstat(filepath.Join(dir, name)); err == nil {
					journals += info.Size()
				}
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	switch {
	case !current:
		return 0, fmt.Errorf("%s is no database: it has no file CURRENT", dir)
	case !lock:
		// The library would make it.
		return 0, fmt.Errorf("%s has no file LOCK", dir)
	case journals > maxJournals:
		return 0, fmt.Errorf("%s has %d MiB of journals", dir, journals>>20)
	}
	return journals, nil
}

// checkedFiles opens no table whose footer names a block that the file does not hold: the library would allocate whatever
// a damaged footer says, and no checksum guards it.
type checkedFiles struct{ storage.Storage }

func (c checkedFiles) Open(fd storage.FileDesc) (storage.Reader, error) {
	file, err := c.Storage.Open(fd)
	if err != nil || fd.Type != storage.TypeTable {
		return file, err
	}
	if err := checkFooter(file); err != nil {
		file.Close()
		return nil, &storage.ErrCorrupted{Fd: fd, Err: err}
	}
	return file, nil
}

// checkFooter reads the 48 bytes at a table's end: offset and length of two blocks, as varints, padding, 8 bytes of magic.
func checkFooter(file storage.Reader) error {
	end, err := file.Seek(-48, io.SeekEnd) // of the blocks
	if err != nil {
		return errors.New("it is too short for a table")
	}
	footer := make([]byte, 40)
	if _, err := io.ReadFull(file, footer); err != nil {
		return err
	}
	for range 2 {
		offset, n := binary.Uvarint(footer)
		length, m := binary.Uvarint(footer[max(n, 0):])
		if n <= 0 || m <= 0 || offset > uint64(end) || length > uint64(end)-offset {
			return errors.New("its footer names a block outside of the file")
		}
		footer = footer[n+m:]
	}
	return nil
}
