package node

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"solstice"
)

// Heights is what the files of a stopped node tell. A reading whose Err is set is not known, which is not the same as 0.
type Heights struct {
	// Committed is the last block that the application has committed (application.db): exact. At a halt for an upgrade at
	// height H it is H-1.
	Committed Reading `json:",omitzero"`

	// AtLeast is a height that the application has committed for certain, where Committed is not known: of a chain that keeps
	// its state in MemIAVL, its last snapshot. The application can be thousands of blocks beyond it.
	AtLeast Reading `json:",omitzero"`

	// State is the last block that CometBFT knows to be committed (state.db). It is written when the application has committed
	// that block and before the next one begins, so the application is at this block or the next. An application that commits
	// asynchronously (MemIAVL can) may have lost blocks in a crash that CometBFT knows to be committed.
	State Reading `json:",omitzero"`

	// Stored is the last block that CometBFT has stored (blockstore.db, or else the consensus WAL). It is stored before the
	// application executes it, so the application is at this block or the one before. At a halt for an upgrade it is at the one
	// before, after an orderly stop mostly at this one.
	//
	// Read from the WAL it can be too low, since blocks that were fetched in bulk are not in the WAL and what follows a torn
	// frame is not read, and too high after a rollback that took blocks away.
	Stored Reading `json:",omitzero"`

	// Base is the first block that CometBFT has stored. It is 0 where Stored is not from the database.
	Base int64 `json:",omitzero"`

	// Initial is the height of the chain's first block and ChainID is the chain's name, as state.db or else genesis.json says.
	// 0 and empty: not known.
	Initial int64  `json:",omitzero"`
	ChainID string `json:",omitzero"`

	// Upgrades is what the application has on upgrades, at the height Committed.
	Upgrades Upgrades `json:",omitzero"`

	// Empty says that there is no database, and the node is not told to fetch a state (statesync.enable): it will begin at its genesis.
	Empty bool `json:",omitzero"`
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
	return errors.Is(h.Committed.Err, ErrInUse) || errors.Is(h.Stored.Err, ErrInUse) || errors.Is(h.State.Err, ErrInUse)
}

// Reading is a height and where it stands.
type Reading struct {
	Height  int64     // 0 if it is not known
	File    string    // the database's folder or the WAL's file that says so; empty if none does
	At      time.Time // when that file was written; zero for a database
	Differs string    // how the database's kind differs from the configured one; empty if it does not
	Err     error     // why it is not known
}

// Says is the reading as a sentence goes on after its subject, such as "committed 36, says application.db".
func (r Reading) Says(verb string) string {
	if errors.Is(r.Err, fs.ErrNotExist) {
		return "none is there"
	}
	differs := ""
	if r.Differs != "" {
		differs = " (" + r.Differs + ")"
	}
	if r.Err != nil {
		return "not known: " + strings.ReplaceAll(r.Err.Error(), "\n", "; ") + differs
	}
	return fmt.Sprintf("%s %d, says %s%s", verb, r.Height, filepath.Base(r.File), differs)
}

// ReadHeights reads the heights of a node that is stopped. It changes no file and keeps no node from starting; but a database
// that is opened meanwhile is ErrInUse, and then its height is not known.
//
// The databases are read by a short-lived process (see reader.go), so that whatever they hold does this one no harm. Without
// that process the consensus WAL is read all the same.
func ReadHeights(home solstice.Home, settings Settings) Heights {
	h := readApart(home, settings)
	if h.Stored.Err != nil && !errors.Is(h.Stored.Err, ErrInUse) {
		h.Stored = readWAL(settings.WALFile, h.Stored)
	}
	h.Empty = !settings.StateSync && !HasDatabases(home, settings)
	return h
}

// readWAL is the reading of the consensus WAL, where that of the block store is not known.
func readWAL(head string, blocks Reading) Reading {
	height, file, err := lastEndHeight(head)
	if err != nil {
		blocks.Err = errors.Join(blocks.Err, err)
		return blocks
	}
	r := Reading{Height: height, File: file}
	if info, err := os.Stat(file); err == nil {
		r.At = info.ModTime()
	}
	return r
}

// files are those that are read apart.
type files struct {
	Application, Blocks, State string   // folders of databases
	AppBackend, Backend        string   // the configured kinds
	Elsewhere                  []string // where some chains keep their state; application.db may be left from before that
	MemIAVL                    []string // the same, of MemIAVL
	Genesis                    string
}

// filesOf says where they are. The application's database is in data/, whatever db_dir says (openDB in server/util.go of the SDK).
func filesOf(home solstice.Home, settings Settings) files {
	return files{
		Application: filepath.Join(home.Data(), "application.db"),
		Blocks:      filepath.Join(settings.DBDir, "blockstore.db"),
		State:       filepath.Join(settings.DBDir, "state.db"),
		AppBackend:  settings.AppDBBackend,
		Backend:     settings.DBBackend,
		Elsewhere:   []string{filepath.Join(home.Data(), "committer.db"), filepath.Join(home.Data(), "state_commit")}, // Sei
		MemIAVL:     []string{filepath.Join(home.Data(), "memiavl.db"), filepath.Join(settings.DBDir, "memiavl.db")},
		Genesis:     filepath.Join(home.Node, "config", "genesis.json"),
	}
}

// source is one thing that is read apart. What is read first is in no danger of what follows, so those come first that are
// small. A source sets the fields of Heights that are its own; where it cannot be read, fail says so in them.
type source struct {
	name string
	read func(files, *Heights)
	fail func(*Heights, error)
}

var sources = []source{
	{"state.db", readState, func(h *Heights, err error) { h.State.Err = err }},
	{"blockstore.db", readStored, func(h *Heights, err error) { h.Stored.Err = err }},
	{"application.db", readCommitted, func(h *Heights, err error) { h.Committed.Err, h.Upgrades.Err = err, err }},
	{"genesis.json", readFirst, func(*Heights, error) {}},
}

// readState reads the State that CometBFT keeps, v0.34 and later (State in state/types.proto).
func readState(f files, h *Heights) {
	h.State = readHeight(f.State, f.Backend, func(db database) (int64, error) {
		return getHeight(db, "stateKey", func(value []byte) (height int64, err error) {
			height, h.Initial, h.ChainID, err = parseState(value)
			return height, err
		})
	})
}

// readStored reads the state of the block store, v0.32 and later.
func readStored(f files, h *Heights) {
	h.Stored = readHeight(f.Blocks, f.Backend, func(db database) (int64, error) {
		return getHeight(db, "blockStore", func(value []byte) (height int64, err error) {
			h.Base, height, err = parseBlockStore(value)
			return height, err
		})
	})
}

// readCommitted reads what the SDK, v0.47 to v0.54, writes and syncs when all stores have committed a block
// (latestVersionKey in store/rootmulti), and the upgrades in that state.
func readCommitted(f files, h *Heights) {
	for _, path := range slices.Concat(f.MemIAVL, f.Elsewhere) {
		if _, err := os.Stat(path); err == nil {
			err := fmt.Errorf("the application keeps its state in %s, which cannot be read", path)
			h.Committed, h.Upgrades = Reading{Err: err}, Upgrades{Err: err}
			if slices.Contains(f.MemIAVL, path) {
				h.AtLeast = readSnapshot(path)
			}
			return
		}
	}
	h.Committed = readHeight(f.Application, f.AppBackend, func(db database) (height int64, err error) {
		if height, err = getHeight(db, "s/latest", parseLatest); err == nil {
			h.Upgrades = readUpgrades(db, height)
		}
		return height, err
	})
	if h.Committed.Err != nil {
		h.Upgrades = Upgrades{Err: h.Committed.Err}
	}
}

// readFirst reads the genesis for what state.db has not told: it has it only once the node was started.
func readFirst(f files, h *Heights) {
	if h.Initial > 0 && h.ChainID != "" {
		return
	}
	initial, chainID, err := readGenesis(f.Genesis)
	if err != nil {
		return // not known
	}
	h.Initial, h.ChainID = cmp.Or(h.Initial, initial), cmp.Or(h.ChainID, chainID)
}

// readSnapshot reads the height of MemIAVL's last snapshot: current links to snapshot- and the height.
func readSnapshot(dir string) Reading {
	target, err := os.Readlink(filepath.Join(dir, "current"))
	if err != nil {
		return Reading{Err: err}
	}
	digits, ok := strings.CutPrefix(filepath.Base(target), "snapshot-")
	height, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || height <= 0 {
		return Reading{Err: fmt.Errorf("%s has no snapshot: its link is %.40q", dir, target)}
	}
	if _, err := os.Stat(filepath.Join(dir, "current")); err != nil {
		return Reading{Err: err}
	}
	return Reading{Height: height, File: dir}
}

// readHeight reads a height from a database. A height of 0 is not known: nothing tells a node before its first block from
// one that keeps its height elsewhere.
func readHeight(dir, configured string, read func(database) (int64, error)) Reading {
	var height int64
	differs, err := readDatabase(dir, configured, func(db database) (err error) {
		height, err = read(db)
		return err
	})
	if err != nil {
		return Reading{Differs: differs, Err: err}
	}
	return Reading{Height: height, File: dir, Differs: differs}
}

// parseState reads a State: field 2 is the chain's name, 3 the last block, 14 the height of the first block.
func parseState(value []byte) (height, initial int64, chainID string, err error) {
	err = each(value, func(field protowire.Number, content []byte, v uint64) {
		switch {
		case field == 2 && content != nil:
			chainID = string(content)
		case field == 3 && content == nil:
			height = int64(v)
		case field == 14 && content == nil:
			initial = int64(v)
		}
	})
	if err != nil {
		return 0, 0, "", fmt.Errorf("%.40q is not a state: %w", value, err)
	}
	if initial < 0 || height < 0 || chainID == "" {
		return 0, 0, "", fmt.Errorf("%.40q is not a state", value)
	}
	if height == 0 {
		err = errors.New("no block is committed yet")
	}
	return height, initial, chainID, err
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
