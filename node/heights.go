package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/syndtr/goleveldb/leveldb"

	"solstice"
)

// Heights is what the files of a stopped node tell.
type Heights struct {
	// Committed is the last block that the application has committed. At a halt for an upgrade at height H it is H-1.
	Committed Reading

	// Stored is the last block that CometBFT has stored: the one after Committed at a halt and after some cuts, else mostly
	// the same. Read from the WAL it can be too low, since blocks that were fetched in bulk are not in the WAL and what
	// follows a torn frame is not read, and too high after a rollback that took blocks away.
	Stored Reading

	// State is the last block that CometBFT's state is of. It is saved after the application has committed that block, so the
	// application is not below it.
	State Reading

	// Initial is the chain's first height, from its genesis; 0: not known.
	Initial int64

	// Base is the first block that CometBFT has stored. It is 0 where Stored is not from the database.
	Base int64

	// Upgrades is what the application has on upgrades, at the height Committed.
	Upgrades Upgrades

	// Empty says that there is no database, and the node is not told to fetch a state (statesync.enable): it will begin at its genesis.
	Empty bool
}

// HasDatabases says whether a node has any database, of whatever kind. Where that can't be seen it says yes.
func HasDatabases(home solstice.Home, settings Settings) bool {
	for _, dir := range []string{home.Data(), settings.DBDir} {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return true
		}
		if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return filepath.Ext(e.Name()) == ".db" || e.Name() == "state_commit" }) { // the latter is Sei's
			return true
		}
	}
	return false
}

// InUse says that a process has one of the databases open: the node is not stopped.
func (h Heights) InUse() bool {
	return errors.Is(h.Committed.Err, ErrInUse) || errors.Is(h.Stored.Err, ErrInUse)
}

// Reading is a height and where it stands.
type Reading struct {
	Height int64     // 0 if it is not known
	File   string    // the database's folder or the WAL's file that says so; empty if none does
	At     time.Time // when that file was written; zero for a database
	Err    error     // why it is not known
}

// Says is the reading as a sentence goes on after its subject, such as "committed 36, says application.db".
func (r Reading) Says(verb string) string {
	if errors.Is(r.Err, fs.ErrNotExist) {
		return "none is there"
	}
	if r.Err != nil {
		return "not known: " + strings.ReplaceAll(r.Err.Error(), "\n", "; ")
	}
	return fmt.Sprintf("%s %d, says %s", verb, r.Height, filepath.Base(r.File))
}

// ReadHeights reads the heights of a node that is stopped, and writes nothing. No node may be started before it returns: it
// could not open its databases. A database in use is ErrInUse, and then its height is not known.
func ReadHeights(home solstice.Home, settings Settings) Heights {
	var h Heights
	h.Committed, h.Upgrades = committed(home, settings)
	h.Stored, h.Base = stored(settings)
	h.Empty = !settings.StateSync && !HasDatabases(home, settings)
	return h
}

// committed reads what the SDK, v0.47 to v0.54, writes and syncs when all stores have committed a block
// (latestVersionKey in store/rootmulti). It opens application.db in data/, whatever db_dir says (openDB in server/util.go).
func committed(home solstice.Home, settings Settings) (reading Reading, upgrades Upgrades) {
	// These chains keep their state elsewhere, and application.db may be left from before that.
	for _, path := range []string{
		filepath.Join(home.Data(), "memiavl.db"),
		filepath.Join(settings.DBDir, "memiavl.db"),
		filepath.Join(home.Data(), "committer.db"), // Sei
		filepath.Join(home.Data(), "state_commit"), // Sei
	} {
		if _, err := os.Stat(path); err == nil {
			err := fmt.Errorf("the application keeps its state in %s, which we can't read", path)
			return Reading{Err: err}, Upgrades{Err: err}
		}
	}
	reading = readDatabase(filepath.Join(home.Data(), "application.db"), settings.AppDBBackend, func(db *leveldb.DB) (height int64, err error) {
		if height, err = getHeight(db, "s/latest", parseLatest); err == nil {
			upgrades = readUpgrades(db, height)
		}
		return height, err
	})
	if reading.Err != nil {
		upgrades = Upgrades{Err: reading.Err}
	}
	return reading, upgrades
}

// stored reads the block store, or else the WAL.
func stored(settings Settings) (reading Reading, base int64) {
	reading = readDatabase(filepath.Join(settings.DBDir, "blockstore.db"), settings.DBBackend, func(db *leveldb.DB) (int64, error) {
		return getHeight(db, "blockStore", func(value []byte) (height int64, err error) {
			base, height, err = parseBlockStore(value)
			return height, err
		})
	})
	if reading.Err == nil || errors.Is(reading.Err, ErrInUse) {
		return reading, base
	}
	height, file, err := lastEndHeight(settings.WALFile)
	if err != nil {
		return Reading{Err: errors.Join(reading.Err, err)}, 0
	}
	reading = Reading{Height: height, File: file}
	if info, err := os.Stat(file); err == nil {
		reading.At = info.ModTime()
	}
	return reading, 0
}

// readDatabase reads a height from a database. A height of 0 is not known: nothing tells a node before its first block from
// one that keeps its height elsewhere.
func readDatabase(dir, backend string, read func(*leveldb.DB) (int64, error)) Reading {
	if backend != goLevelDB {
		return Reading{Err: fmt.Errorf("%s is a database of %s, which we can't read", dir, backend)}
	}
	var height int64
	err := readLevelDB(dir, func(db *leveldb.DB) (err error) {
		height, err = read(db)
		return err
	})
	if err != nil {
		return Reading{Err: err}
	}
	return Reading{Height: height, File: dir}
}

// parseLatest reads a google.protobuf.Int64Value, whose field 1 is the value.
func parseLatest(value []byte) (int64, error) {
	height := integer(value, 1)
	if height <= 0 {
		return 0, fmt.Errorf("%.40q has no height", value)
	}
	return height, nil
}

// parseBlockStore reads a BlockStoreState: field 1 is the base, 2 the height. Before v0.34 it was JSON with numbers as
// strings. A state without a base is from before there was one, and begins at 1.
func parseBlockStore(value []byte) (base, height int64, err error) {
	base, height = integer(value, 1), integer(value, 2)
	if len(value) > 0 && value[0] == '{' {
		var state struct{ Base, Height json.Number } // Number takes strings too
		if err := json.Unmarshal(value, &state); err != nil {
			return 0, 0, err
		}
		base, _ = state.Base.Int64()
		height, _ = state.Height.Int64()
	}
	if height <= 0 || base < 0 || base > height {
		return 0, 0, fmt.Errorf("%.40q has no height", value)
	}
	return max(base, 1), height, nil
}
