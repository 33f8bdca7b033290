package snapshot

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/syndtr/goleveldb/leveldb/journal"

	"solstice"
)

// kind is what is known of a file in a node's home. What follows from it is how a snapshot takes it.
type kind int

const (
	// changed in place, or not known: it is copied.
	changed kind = iota
	// written once: after that it is only read, and deleted. It can be linked.
	written
	// derived files are written once, and the node makes them anew when they are missing: one that differs is left
	// out of a restored directory.
	derived
)

// Names that say what a file is, inside of a folder that is recognised.
var (
	tableName    = regexp.MustCompile(`^(\d+)\.(ldb|sst|blob)$`)
	manifestName = regexp.MustCompile(`^MANIFEST-\d+$`)
	walChunkName = regexp.MustCompile(`^wal\.\d{3,}$`)
	number       = regexp.MustCompile(`^\d+$`)
	codeName     = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// folder says what the files directly in one folder are.
type folder struct {
	kindOf   func(name string) kind
	database bool
	// sealed says that what is written once here is not even opened for writing later.
	sealed bool
	// inside is what the folders in it are, where that follows from this one: the name of its rule.
	inside string
}

var unknownFolder = folder{kindOf: func(string) kind { return changed }}

// Rules that a folder hands down.
const (
	stateSync = "state-sync" // a folder of a height or a format, and chunks
	modules   = "modules"    // what cosmwasm-vm compiled
)

// lookAt recognises a folder by what is in it. path is its place on disk, rel its place in the home, rule what the
// folder above hands down.
//
// A database is recognised by the file that names its MANIFEST, and that MANIFEST. goleveldb, pebble and RocksDB write a
// table once (goleveldb doc/impl, pebble docs/rocksdb.md); the rest is theirs to change.
func lookAt(path, rel, rule string, names []string) folder {
	parts := strings.Split(rel, "/")
	last := parts[len(parts)-1]
	switch {
	case isDatabase(path, names):
		limit := firstFreeTable(path, names)
		return folder{database: true, sealed: true, kindOf: func(name string) kind {
			if m := tableName.FindStringSubmatch(name); m != nil {
				if n, err := strconv.ParseUint(m[1], 10, 64); err == nil && n < limit {
					return written
				}
			}
			return changed
		}}
	case rule == stateSync:
		// snapshots/HEIGHT/FORMAT/CHUNK. The SDK makes the folder of a format anew, or fails (store/snapshots/store.go).
		if number.MatchString(last) {
			return folder{inside: stateSync, sealed: true, kindOf: matching(number, written)}
		}
	case last == "snapshots" && slices.Contains(names, "metadata.db"):
		return folder{inside: stateSync, kindOf: unknownFolder.kindOf}
	case last == "cs.wal":
		// The head is written to; when it is full it becomes a chunk, which is only read (CometBFT libs/autofile).
		return folder{kindOf: matching(walChunkName, written)}
	case strings.HasSuffix(rel, "state/wasm"):
		// Code is named by its SHA-256. cosmwasm-vm may write it once more, with the same bytes.
		return folder{kindOf: matching(codeName, written)}
	case rule == modules || strings.HasSuffix(rel, "cache/modules") && slices.Contains(parts, "wasm"):
		return folder{inside: modules, kindOf: func(string) kind { return derived }}
	case rel == "config":
		// The node reads its genesis and never writes it; that of an old chain is large.
		return folder{kindOf: func(name string) kind {
			if name == "genesis.json" {
				return written
			}
			return changed
		}}
	}
	return unknownFolder
}

func matching(pattern *regexp.Regexp, k kind) func(string) kind {
	return func(name string) kind {
		if pattern.MatchString(name) {
			return k
		}
		return changed
	}
}

// isDatabase: CURRENT names a MANIFEST that is there (LevelDB, RocksDB, pebble), or a marker file of pebble does.
func isDatabase(path string, names []string) bool {
	for _, name := range names {
		if marked, ok := strings.CutPrefix(name, "marker.manifest."); ok {
			_, manifest, _ := strings.Cut(marked, ".")
			if manifestName.MatchString(manifest) && slices.Contains(names, manifest) {
				return true
			}
		}
	}
	manifest := currentManifest(path, names)
	return manifest != "" && slices.Contains(names, manifest)
}

// currentManifest is the MANIFEST that CURRENT names, or empty.
func currentManifest(path string, names []string) string {
	if !slices.Contains(names, "CURRENT") {
		return ""
	}
	content, err := solstice.ReadFile(filepath.Join(path, "CURRENT"), 4<<10)
	if err != nil {
		return ""
	}
	if name := strings.TrimSuffix(string(content), "\n"); manifestName.MatchString(name) {
		return name
	}
	return ""
}

// firstFreeTable is the number from which on goleveldb may write a table that exists already: one that a killed node has
// left, and that no MANIFEST lists, is written again in place when the database is recovered from its journal, before
// leftovers are deleted (leveldb/db.go openDB). Such a table is nobody's; to link it would let a later change of it look
// like damage. pebble and RocksDB never use the number of a file that exists.
func firstFreeTable(path string, names []string) uint64 {
	const all = 1<<64 - 1
	for _, name := range names {
		if strings.HasPrefix(name, "OPTIONS-") || strings.HasPrefix(name, "marker.") || name == "IDENTITY" {
			return all
		}
	}
	f, err := os.Open(filepath.Join(path, currentManifest(path, names)))
	if err != nil {
		return all // whoever opens the database will say so
	}
	defer f.Close()
	if next, ok := nextFileNumber(f); ok {
		return next
	}
	return all
}

// nextFileNumber reads a LevelDB MANIFEST, a log of version edits, and returns the last next-file number in it
// (doc/log_format.md and db/version_edit.cc of LevelDB). A torn end is passed over, as LevelDB does.
func nextFileNumber(r io.Reader) (next uint64, ok bool) {
	edits := journal.NewReader(r, nil, false, true)
	for {
		edit, err := edits.Next()
		if err != nil {
			return next, ok
		}
		content, err := io.ReadAll(io.LimitReader(edit, 64<<20))
		if err != nil {
			continue
		}
		if n, found := editNextFile(content); found {
			next, ok = n, true
		}
	}
}

// Tags of a version edit.
const (
	tagComparer     = 1
	tagJournal      = 2
	tagNextFile     = 3
	tagSequence     = 4
	tagCompactionAt = 5
	tagDeletedTable = 6
	tagAddedTable   = 7
	tagPrevJournal  = 9
)

// editNextFile finds the next-file number in a version edit. What follows a tag that LevelDB doesn't know can't be read.
func editNextFile(edit []byte) (next uint64, found bool) {
	whole := true
	uvarint := func() uint64 {
		n, size := binary.Uvarint(edit)
		whole = whole && size > 0
		edit = edit[max(size, 0):]
		return n
	}
	skip := func(fields int) {
		for range fields {
			n := min(uvarint(), uint64(len(edit)))
			edit = edit[n:]
		}
	}
	for whole && len(edit) > 0 {
		switch uvarint() {
		case tagNextFile:
			if n := uvarint(); whole {
				next, found = n, true
			}
		case tagComparer:
			skip(1)
		case tagJournal, tagSequence, tagPrevJournal:
			uvarint()
		case tagCompactionAt:
			uvarint()
			skip(1)
		case tagDeletedTable:
			uvarint()
			uvarint()
		case tagAddedTable:
			uvarint()
			uvarint()
			uvarint()
			skip(2)
		default:
			return next, found
		}
	}
	return next, found
}

// inConfig says what of config/ is taken. What a snapshot must never hold, keys, is not known by name on every chain; what
// it must hold is.
func inConfig(name string) bool {
	return strings.HasSuffix(name, ".toml") || name == "genesis.json" || name == "addrbook.json"
}
