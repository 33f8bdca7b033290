package node

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The kinds of databases that a node can have, under the names that cosmos-db and cometbft-db
// give them.
const (
	goLevelDB = "goleveldb"
	pebbleDB  = "pebbledb"
	rocksDB   = "rocksdb"
	badgerDB  = "badgerdb"
	boltDB    = "boltdb"
)

// maxJournals is how much of a database may lie in journals, in bytes: opening it reads them
// into memory. A node begins a new one every 4 MiB.
const maxJournals = 64 << 20

// ErrInUse means that another process has a database open, so the node is not stopped.
var ErrInUse = errors.New("another process has the database open")

// errNotFound means that a database has no such key.
var errNotFound = errors.New("not found")

// errReadOnly is what a view of a database answers to everything but reading.
var errReadOnly = fmt.Errorf("the database is opened to be read only: %w", fs.ErrPermission)

// database is an open database. What it returns is the caller's own.
type database interface {
	get(key []byte) ([]byte, error) // errNotFound without the key

	// each calls see with every entry whose key begins with prefix, in order, until see
	// returns an error.
	each(prefix []byte, see func(key, value []byte) error) error
}

// readDatabase opens the database in dir and reads it. It changes no file, creates none and
// holds no lock, so it works on a read-only filesystem, and a node that starts meanwhile can
// open the database. If one does, the error is ErrInUse.
//
// The files tell which kind of database it is. The configured kind is compared with that:
// differs says how they differ.
//
// A damaged database is an error, also where a library panics. But a library can end the
// process too (by running out of memory, or by a panic on a goroutine of its own), so nobody
// calls this but the reader: see reader.go.
func readDatabase(dir, configured string, read func(database) error) (differs string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("read %s: %v", dir, r)
		}
	}()
	found, err := identify(dir)
	if err != nil {
		return "", err
	}
	defer func() {
		if errors.Is(err, fs.ErrNotExist) { // a file of it, and nobody may take that for a database that is not there
			err = errors.New(err.Error())
		}
	}()
	if !sameKind(found.kind, configured) {
		differs = fmt.Sprintf("files are %s, configured is %s", found.kind, configured)
	}
	if err := checkUnused(dir); err != nil {
		return differs, err
	}
	switch found.kind {
	case goLevelDB:
		err = readLevelDB(dir, found.journals, read)
	case pebbleDB:
		err = readPebble(dir, read)
	default:
		return differs, fmt.Errorf("%s is a %s database, which cannot be read", dir, found.kind)
	}
	if inUse := checkUnused(dir); inUse != nil {
		return differs, inUse // what was read may be a mixture of before and after
	}
	return differs, err
}

// sameKind says whether a node that is configured for one kind of database opens this one.
func sameKind(found, configured string) bool {
	switch configured {
	case "leveldb", "cleveldb": // another library, the same files
		configured = goLevelDB
	case "pebble":
		configured = pebbleDB
	}
	return found == configured
}

// identified is what the names of a database's files say.
type identified struct {
	kind     string
	journals int64 // their size in bytes
}

// identify tells the kind of a database from its files. It is an error if there is none, or
// if opening it would need too much memory.
func identify(dir string) (found identified, err error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if target, linkErr := os.Readlink(dir); linkErr == nil {
			return found, fmt.Errorf("%s is a link to %s, which does not exist", dir, target)
		}
	}
	if err != nil {
		return found, err
	}
	defer d.Close()
	if info, err := d.Stat(); err == nil && info.Mode().IsRegular() {
		if isBolt(d) {
			return found, fmt.Errorf("%s is a %s database, which cannot be read", dir, boltDB)
		}
		return found, fmt.Errorf("%s is a file, not a directory", dir)
	}
	var current, options, identity, marker, badger bool
	for {
		names, err := d.Readdirnames(1024) // an archive node has a hundred thousand tables
		for _, name := range names {
			switch {
			case name == "CURRENT":
				current = true
			case name == "IDENTITY":
				identity = true
			case name == "KEYREGISTRY", name == "DISCARD", strings.HasSuffix(name, ".vlog"):
				badger = true
			case strings.HasPrefix(name, "marker."):
				marker = true
			case strings.HasPrefix(name, "OPTIONS-"):
				options = true
				identity = identity || isRocksOptions(filepath.Join(dir, name))
			case strings.HasSuffix(name, ".log"):
				if info, err := os.Lstat(filepath.Join(dir, name)); err == nil {
					found.journals += info.Size()
				}
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return found, err
		}
	}
	switch {
	case identity:
		found.kind = rocksDB
	case options, marker:
		found.kind = pebbleDB
	case current:
		found.kind = goLevelDB
	case badger:
		found.kind = badgerDB
	default:
		return found, fmt.Errorf("%s is not a database: no CURRENT file", dir)
	}
	if found.journals > maxJournals {
		return found, fmt.Errorf("%s has %d MiB of journals, too much to read into memory", dir, found.journals>>20)
	}
	return found, nil
}

// isRocksOptions says whether a file OPTIONS-NNNNNN is RocksDB's. Pebble's has pebble_version
// in the same place.
func isRocksOptions(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	head, _ := io.ReadAll(io.LimitReader(file, 4096)) // what cannot be read tells nothing
	return bytes.Contains(head, []byte("rocksdb_version="))
}

// isBolt says whether a file is a database of BoltDB, whose first page has this number at its
// byte 16, in the order of the machine's bytes.
func isBolt(file *os.File) bool {
	magic := make([]byte, 4)
	_, err := file.ReadAt(magic, 16)
	return err == nil && bytes.Equal(magic, []byte{0xed, 0xda, 0x0c, 0xed})
}

// checkUnused returns ErrInUse if a process has the database open. Without a file LOCK nobody
// has.
//
// Pebble, RocksDB and LevelDB in C lock the file with fcntl(2), which can be asked about
// without taking anything. goleveldb locks it with flock(2), which cannot: there the shared
// lock is taken and given back at once. A node that tries to take its own in those few
// microseconds fails to start.
func checkUnused(dir string) error {
	path := filepath.Join(dir, "LOCK")
	lock, err := os.OpenFile(path, os.O_RDONLY|openNonblock, 0) // a pipe would be waited for
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	locked, err := isLocked(lock)
	if err != nil {
		return fmt.Errorf("lock of %s: %w", dir, err)
	}
	if locked {
		return fmt.Errorf("open %s: %w", dir, ErrInUse)
	}
	return nil
}

// getHeight reads the height that stands under a key.
func getHeight(db database, key string, parse func(value []byte) (int64, error)) (height int64, err error) {
	value, err := db.get([]byte(key))
	if err == nil {
		height, err = parse(value)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", key, err)
	}
	return height, err
}
