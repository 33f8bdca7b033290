// Package snapshot keeps ways back: what a stopped node has on disk, taken in the time that it takes to link its files.
//
// Files that a database writes once are hard-linked, so a snapshot takes no space until the node rewrites its
// tables. Files that are changed in place are copied. Where the filesystem clones (XFS, btrfs), everything is cloned;
// where it neither clones nor links, everything is copied. A snapshot is complete when its folder has its final name, which
// it gets when everything in it, its manifest included, is synced. Anything else is debris and is removed at the next
// start. The caller makes sure that the node is stopped; a database that is open is noticed and refused.
package snapshot

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"solstice"
	"solstice/internal/durable"
)

// How says how a file was taken.
type How string

const (
	Link  How = "link"  // another name of the node's own file, which is never written again
	Clone How = "clone" // shares its blocks with the node's file until one of them is changed
	Copy  How = "copy"
)

// The parts of a home that a snapshot covers.
const (
	Data   = "data"
	Wasm   = "wasm"   // beside data/, where the chain keeps contracts there
	Config = "config" // without keys
)

const (
	prefix       = "data-backup-" // of a snapshot's folder, as Cosmovisor's
	manifestFile = "manifest.json"
	listFile     = "files.jsonl"
	format       = 1 // of the manifest and the list
)

// Label is what a snapshot is taken for.
type Label struct {
	Plan   solstice.Plan `json:"plan"`   // the zero plan when it was taken by hand
	Height int64         `json:"height"` // the last block that the application had committed; 0 when it is not known
	Dir    string        `json:"dir"`    // of the binary that the data belongs to, relative to the folder cosmovisor/
	Digest string        `json:"digest"` // of that binary, as sha256:…
	Under  solstice.Plan `json:"under"`  // the plan that this binary came with; the zero plan when it is the first
}

// ByHand says that no upgrade took the snapshot.
func (l Label) ByHand() bool { return l.Plan.Name == "" }

// Manifest says what a snapshot is. It is written last.
type Manifest struct {
	Format int    `json:"format"`
	Home   string `json:"home"` // the node's home that it was taken of
	Label
	Taken    time.Time `json:"taken"`
	Seconds  float64   `json:"seconds"` // that it took; on disk without the last sync, which comes after it
	Files    int       `json:"files"`
	Bytes    int64     `json:"bytes"`     // of all files
	Linked   int       `json:"linked"`    // files
	Cloned   int       `json:"cloned"`    // files
	Copied   int       `json:"copied"`    // files
	NewBytes int64     `json:"new_bytes"` // of the copied files: what it cost on the day
	// LeftOut are sockets, FIFOs and devices, what is in config/ and may be a key, and what has a name that is not UTF-8.
	LeftOut []string `json:"left_out,omitempty"`
	// Elsewhere are symlinks to folders: what they point to is not in the snapshot.
	Elsewhere []string `json:"elsewhere,omitempty"`
	List      string   `json:"list"` // SHA-256 of the list of files
}

// File is a line of the list of files.
type File struct {
	Path  string `json:"path"` // relative to the home, with slashes
	Size  int64  `json:"size"`
	MTime int64  `json:"mtime"` // nanoseconds since 1970, UTC
	How   How    `json:"how"`
	// Derived says that the node makes the file anew when it is missing.
	Derived bool   `json:"derived,omitempty"`
	SHA256  string `json:"sha256,omitempty"`
}

// Snapshot is a complete one.
type Snapshot struct {
	ID   string
	Path string // its folder
	Manifest
}

// maxName is how much of a name an ID has at most, in bytes.
const maxName = 96

// ID names the snapshot of an upgrade, or one taken by hand, whose name is then manual. The
// moment tells it from those of other homes that share a folder. A long name is cut, with a
// hash of the whole in place of the rest: a plan's folder may have a name of 255 bytes, and
// a snapshot's is longer than its ID.
func ID(name string, height int64, begun time.Time) string {
	if len(name) > maxName {
		sum := sha256.Sum256([]byte(name))
		name = fmt.Sprintf("%s-%x", name[:maxName], sum[:6])
	}
	return fmt.Sprintf("%s-%d-%s", name, height, begun.UTC().Format("20060102T150405.000000Z"))
}

// RehearsalPrefix begins the name of a folder that a rehearsal works in.
const RehearsalPrefix = ".solstice-rehearsal-"

// IsOurs says whether a name in a node's home is that of a snapshot, whole or not, of what a restore moved aside, or of a rehearsal.
func IsOurs(name string) bool {
	return strings.HasPrefix(name, prefix) || strings.HasPrefix(name, RehearsalPrefix) || strings.HasPrefix(name, durable.TempPrefix) ||
		strings.HasPrefix(name, Aside(Data, "")) || strings.HasPrefix(name, Aside(Wasm, ""))
}

// Aside is the name that a part of a home gets when a restore moves it aside.
func Aside(part, stamp string) string { return part + "-before-" + stamp }

// read reads the manifest in a folder. A folder that is no snapshot gives fs.ErrNotExist.
func read(path string) (Snapshot, error) {
	id, ok := strings.CutPrefix(filepath.Base(path), prefix)
	if !ok {
		return Snapshot{}, fs.ErrNotExist
	}
	s := Snapshot{ID: id, Path: path}
	content, err := solstice.ReadFile(filepath.Join(path, manifestFile), solstice.MaxFile)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(content, &s.Manifest); err != nil {
		return s, fmt.Errorf("%s: %w", filepath.Join(path, manifestFile), err)
	}
	if s.Format != format {
		return s, fmt.Errorf("%s: it has format %d, and this solstice reads format %d", filepath.Join(path, manifestFile), s.Format, format)
	}
	return s, nil
}

// file is where a file of the snapshot is.
func (s Snapshot) file(f File) string { return filepath.Join(s.Path, filepath.FromSlash(f.Path)) }

// Has says whether the snapshot holds this part of a home: Data, Wasm or Config.
func (s Snapshot) Has(part string) bool {
	info, err := os.Lstat(filepath.Join(s.Path, part))
	return err == nil && info.IsDir()
}

// list calls fn with each file of the list. A list that is not the one that the manifest was written for is an error.
func (s Snapshot) list(fn func(File) error) error {
	f, err := solstice.OpenFile(filepath.Join(s.Path, listFile))
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	lines := bufio.NewScanner(io.TeeReader(f, sum))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var file File
		if err := json.Unmarshal(lines.Bytes(), &file); err != nil {
			return fmt.Errorf("%s: %w", f.Name(), err)
		}
		if !filepath.IsLocal(filepath.FromSlash(file.Path)) {
			return fmt.Errorf("%s: path %q leaves the snapshot", f.Name(), file.Path)
		}
		if err := fn(file); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	if hex.EncodeToString(sum.Sum(nil)) != s.List {
		return fmt.Errorf("%s: it is not the list that was written with the snapshot", f.Name())
	}
	return nil
}

// RefuseElsewhere is why a snapshot can't be restored although it is whole, or nil.
func (s Snapshot) RefuseElsewhere() error {
	if len(s.Elsewhere) == 0 {
		return nil
	}
	return &solstice.RefusedError{
		Reason: fmt.Sprintf("snapshot %s does not hold what lies behind symlinks to folders: %s", s.ID, strings.Join(s.Elsewhere, ", ")),
		Hint:   "a snapshot that is a way back needs these folders inside data/, or data/ itself as the symlink",
	}
}
