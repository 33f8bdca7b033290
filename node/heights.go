package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

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

	// Base is the first block that CometBFT has stored. It is 0 where Stored is not from the database.
	Base int64
}

// Reading is a height and where it stands.
type Reading struct {
	Height int64  // 0 if it is not known
	File   string // the database's folder or the WAL's file that says so; empty if none does
	Err    error  // why it is not known
}

// ReadHeights reads the heights of a node that is stopped, and writes nothing. No node may be started before it returns: it
// could not open its databases. A database in use is ErrInUse, and then its height is not known.
func ReadHeights(home solstice.Home, settings Settings) Heights {
	var h Heights
	h.Committed = committed(home, settings)
	h.Stored, h.Base = stored(settings)
	return h
}

// committed reads what the SDK, v0.47 to v0.54, writes and syncs when all stores have committed a block
// (latestVersionKey in store/rootmulti). It opens application.db in data/, whatever db_dir says (openDB in server/util.go).
func committed(home solstice.Home, settings Settings) Reading {
	// These chains keep their state elsewhere, and application.db may be left from before that.
	for _, path := range []string{
		filepath.Join(home.Data(), "memiavl.db"),
		filepath.Join(settings.DBDir, "memiavl.db"),
		filepath.Join(home.Data(), "committer.db"), // Sei
		filepath.Join(home.Data(), "state_commit"), // Sei
	} {
		if _, err := os.Stat(path); err == nil {
			return Reading{Err: fmt.Errorf("the application keeps its state in %s, which we can't read", path)}
		}
	}
	return readDatabase(filepath.Join(home.Data(), "application.db"), settings.AppDBBackend, "s/latest", parseLatest)
}

// stored reads the block store, or else the WAL.
func stored(settings Settings) (reading Reading, base int64) {
	reading = readDatabase(filepath.Join(settings.DBDir, "blockstore.db"), settings.DBBackend, "blockStore", func(value []byte) (height int64, err error) {
		base, height, err = parseBlockStore(value)
		return height, err
	})
	if reading.Err == nil || errors.Is(reading.Err, ErrInUse) {
		return reading, base
	}
	height, file, err := lastEndHeight(settings.WALFile)
	if err != nil {
		return Reading{Err: errors.Join(reading.Err, err)}, 0
	}
	return Reading{Height: height, File: file}, 0
}

// readDatabase reads one key of a database. A height of 0 is not known: nothing tells a node before its first block from
// one that keeps its height elsewhere.
func readDatabase(dir, backend, key string, parse func(value []byte) (int64, error)) Reading {
	if backend != goLevelDB {
		return Reading{Err: fmt.Errorf("%s is a database of %s, which we can't read", dir, backend)}
	}
	value, err := readLevelDB(dir, key)
	if err != nil {
		return Reading{Err: err}
	}
	height, err := parse(value)
	if err != nil {
		return Reading{Err: fmt.Errorf("read %s of %s: %w", key, dir, err)}
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
