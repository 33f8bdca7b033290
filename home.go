package solstice

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Genesis is the directory of the binary that a chain started with, relative to Home.Root.
const Genesis = "genesis"

// Home is where a node and its binaries live. Its methods name every path that Solstice knows; asking
// changes nothing.
type Home struct {
	Dir      string // DAEMON_HOME
	Node     string // the home that the node itself uses
	NodeFrom string // what names it: --home, a variable, the binary's default, DAEMON_HOME
	Name     string // DAEMON_NAME, the file name of the binary
	StateDir string // what is Solstice's alone, made when it is needed
	KeepCase bool   // directories have the plan's exact name (COSMOVISOR_DISABLE_RECASE)
	// SwitchesItself says that the binary has its successors inside and goes over to them by itself (SOLSTICE_SWITCH).
	SwitchesItself bool
	// Sidecars are the file names of the sidecars' own binaries, which lie beside the node's in the directory of each version.
	Sidecars []string
}

// Root is the folder with the binaries, laid out exactly as Cosmovisor's.
func (h Home) Root() string { return filepath.Join(h.Dir, "cosmovisor") }

// CurrentLink is the symlink to the directory of the binary in use.
func (h Home) CurrentLink() string { return filepath.Join(h.Root(), "current") }

// Upgrades is the folder with one directory an upgrade.
func (h Home) Upgrades() string { return filepath.Join(h.Root(), "upgrades") }

// Binary is the node's binary in a directory relative to Root, such as Genesis or "upgrades/v2".
func (h Home) Binary(dir string) string { return h.File(dir, h.Name) }

// File is a file that lies beside the node's binary in a directory relative to Root.
func (h Home) File(dir, name string) string { return filepath.Join(h.Root(), dir, "bin", name) }

// AppliedFile holds the plan that a directory relative to Root was switched to for. Cosmovisor writes it at
// each switch and reads it at each start, and so do we.
func (h Home) AppliedFile(dir string) string {
	return filepath.Join(h.Root(), dir, "upgrade-info.json")
}

// Data is the node's data directory. It may be a symlink.
func (h Home) Data() string { return filepath.Join(h.Node, "data") }

// PlanFile is where x/upgrade writes the plan when its height has come.
func (h Home) PlanFile() string { return filepath.Join(h.Data(), "upgrade-info.json") }

// BatchFile is Cosmovisor's list of upgrades that an operator added.
func (h Home) BatchFile() string { return h.PlanFile() + ".batch" }

// ManualFile is our list of upgrades that an operator added.
func (h Home) ManualFile() string { return filepath.Join(h.StateDir, "plans.json") }

// JournalFile lists the steps of all upgrades, one JSON document a line.
func (h Home) JournalFile() string { return filepath.Join(h.StateDir, "journal.jsonl") }

// HeightFile holds the last committed height that the node told us.
func (h Home) HeightFile() string { return filepath.Join(h.StateDir, "height.json") }

// SeenFile holds what was seen of the chain's plans over time.
func (h Home) SeenFile() string { return filepath.Join(h.StateDir, "seen-plans.json") }

// SignStateFile holds how far each validator of this home has signed, one JSON document a line. It lies outside Data, which
// a restore takes back, and in a folder of its own, which is locked while it is written.
func (h Home) SignStateFile() string { return filepath.Join(h.StateDir, "sign-state", "marks.jsonl") }

// ArgsFile holds what the node was started with last.
func (h Home) ArgsFile() string { return filepath.Join(h.StateDir, "args.json") }

// Started is what ArgsFile holds. The arguments may name the node's home; in a copy of the home they still name that of the
// original, so they count only where Dir is Home.Dir.
type Started struct {
	Dir      string   `json:"home"`
	Args     []string `json:"args"`
	Node     string   `json:"node_home,omitempty"`      // the home that the node used; empty from a version before it was kept
	NodeFrom string   `json:"node_home_from,omitempty"` // what named it then
}

// HelpFile holds what binaries say of their flags and their default home when they are asked for help.
func (h Home) HelpFile() string { return filepath.Join(h.StateDir, "help.json") }

// CrashFile holds the last end of the node with an error that nobody asked for.
func (h Home) CrashFile() string { return filepath.Join(h.StateDir, "crash.json") }

// RollbackFile says what a restore or a rollback that was cut off has left to do.
func (h Home) RollbackFile() string { return filepath.Join(h.StateDir, "rollback.json") }

// DownloadDir holds what is downloaded until it is whole.
func (h Home) DownloadDir() string { return filepath.Join(h.StateDir, "downloads") }

// PreparedFile says where the binaries that were downloaded came from, one JSON document a line.
func (h Home) PreparedFile() string { return filepath.Join(h.StateDir, "prepared.jsonl") }

// RehearsalsFile holds what the rehearsals of upgrades have shown, one JSON document a line.
func (h Home) RehearsalsFile() string { return filepath.Join(h.StateDir, "rehearsals.jsonl") }

// SidecarLock is the folder whose lock a running sidecar holds.
func (h Home) SidecarLock(name string) string { return filepath.Join(h.StateDir, "sidecars", name) }

// Socket is where a running supervisor answers.
func (h Home) Socket() string { return filepath.Join(h.StateDir, "control.sock") }

// DirNames returns the names that the plan's directory may have under Upgrades, the preferred one first: lower
// case, then as the chain spells it (docs/cosmovisor.md A20).
func (h Home) DirNames(plan string) []string {
	exact := url.PathEscape(plan)
	lower := url.PathEscape(strings.ToLower(plan))
	if h.KeepCase || exact == lower {
		return []string{exact}
	}
	return []string{lower, exact}
}

// UpgradeDir returns the plan's directory relative to Root: the first of DirNames that exists, else the first.
func (h Home) UpgradeDir(plan string) string {
	names := h.DirNames(plan)
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(h.Upgrades(), name)); err == nil {
			return filepath.Join("upgrades", name)
		}
	}
	return filepath.Join("upgrades", names[0])
}

// Link is what stands in the place of Home.CurrentLink.
type Link struct {
	Dir    string // Genesis or upgrades/..., relative to Home.Root; empty if it is none of these
	Target string // what the symlink says; empty if there is none
	Fault  string // why the link names no directory of ours; empty if it does or if nothing is there
	Moved  bool   // the link is absolute and names Dir as it was called before the home was moved
}

// Missing says that nothing is there.
func (l Link) Missing() bool { return l == Link{} }

// DirInUse is the directory of the binary that runs next, if no upgrade comes first and the link is whole.
func (h Home) DirInUse() string {
	if link, err := h.Current(); err == nil && link.Dir != "" {
		return link.Dir
	}
	return Genesis
}

// Current reads the link. Whether the directory that it names exists is another question.
func (h Home) Current() (Link, error) {
	target, err := os.Readlink(h.CurrentLink())
	if errors.Is(err, fs.ErrNotExist) {
		return Link{}, nil
	}
	if err != nil {
		if info, statErr := os.Lstat(h.CurrentLink()); statErr == nil && info.Mode()&fs.ModeSymlink == 0 {
			return Link{Fault: "it is not a symlink"}, nil
		}
		return Link{}, err
	}
	link := Link{Target: target}
	path := target
	if !filepath.IsAbs(path) {
		path = filepath.Join(h.Root(), path)
	}
	if dir, err := filepath.Rel(h.Root(), path); err == nil && isBinaryDir(dir) {
		link.Dir = dir
		return link, nil
	}
	// An absolute link may name our directory by another path, as after a mount or through a symlink.
	for _, dir := range h.BinaryDirs() {
		if sameFile(path, filepath.Join(h.Root(), dir)) {
			link.Dir = dir
			return link, nil
		}
	}
	// A home that was moved: nothing is where the link points to, and what it means is here.
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if _, tail, found := cutLast(path, "/cosmovisor/"); found && slices.Contains(h.BinaryDirs(), tail) {
			link.Dir, link.Moved = tail, true
			return link, nil
		}
	}
	link.Fault = fmt.Sprintf("it points to %s, which is neither genesis nor a folder in upgrades/", target)
	return link, nil
}

// Dirs returns the directory names under Upgrades.
func (h Home) Dirs() []string {
	entries, err := os.ReadDir(h.Upgrades())
	if err != nil {
		return nil // none yet, or not readable: then its binaries are not usable either, which is said there
	}
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

// BinaryDirs are Genesis and the directories of upgrades, relative to Root.
func (h Home) BinaryDirs() []string {
	dirs := []string{Genesis}
	for _, name := range h.Dirs() {
		dirs = append(dirs, filepath.Join("upgrades", name))
	}
	return dirs
}

// cutLast cuts text at the last separator.
func cutLast(text, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(text, separator); i >= 0 {
		return text[:i], text[i+len(separator):], true
	}
	return text, "", false
}

func isBinaryDir(dir string) bool {
	parent, name := filepath.Split(dir)
	return dir == Genesis || parent == "upgrades/" && name != "" && name != ".." && name != "."
}

func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}
