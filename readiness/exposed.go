package readiness

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"solstice"
)

// Exposure is a file or folder that is executed or trusted, and that somebody else can change.
type Exposure struct {
	Path string
	Why  string // as a sentence goes on after the path
	Do   string // the command that mends it
}

// Exposed looks at what Solstice and the node execute or trust, and at the folders above it: who can write a folder can replace
// what is in it. Only root, this user and the owner of data/ may. more are other paths that are trusted, which need not exist.
func Exposed(home solstice.Home, more ...string) []Exposure {
	trusted := map[uint32]bool{0: true, uint32(os.Geteuid()): true}
	if info, err := os.Stat(home.Data()); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			trusted[stat.Uid] = true // who else signs with the key is told at the start
		}
	}
	var found []Exposure
	for _, path := range trustedPaths(home, more) {
		if e, exposed := expose(path, trusted); exposed {
			found = append(found, e)
		}
	}
	return found
}

// trustedPaths are the paths to look at, each once. What is a symlink is looked at together with what it points to.
func trustedPaths(home solstice.Home, more []string) []string {
	paths := slices.Concat([]string{home.Root(), home.Data(), home.StateDir, filepath.Join(home.Node, "config"),
		filepath.Join(home.Root(), "solstice.toml"), filepath.Join(home.Root(), "config.toml"), home.Upgrades()}, more)
	for _, dir := range home.BinaryDirs() {
		binary := home.Binary(dir)
		paths = append(paths, filepath.Join(home.Root(), dir), filepath.Dir(binary), binary, filepath.Join(home.Root(), dir, "lib"))
	}
	entries, _ := os.ReadDir(home.StateDir) // one that can't be read is exposed to nobody
	for _, e := range entries {
		if e.Type().IsRegular() {
			paths = append(paths, filepath.Join(home.StateDir, e.Name()))
		}
	}
	var all []string
	add := func(path string) {
		if path != "" && !slices.Contains(all, path) {
			all = append(all, path)
		}
	}
	for _, path := range paths {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			add(path)
			for above := real; above != filepath.Dir(above); above = filepath.Dir(above) {
				add(above)
			}
		}
	}
	return all
}

// expose says who else can change a file or folder. A folder whose files only their owners may rename, such as /tmp, is none; nor
// is what a user's own group can write, which has the user's number (umask 002, as Debian sets it up).
func expose(path string, trusted map[uint32]bool) (Exposure, bool) {
	info, err := os.Stat(path)
	if err != nil {
		return Exposure{}, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return Exposure{}, false
	}
	mode := info.Mode()
	sticky := info.IsDir() && mode&fs.ModeSticky != 0
	switch {
	case !trusted[stat.Uid]:
		return Exposure{path, fmt.Sprintf("belongs to user %d, who is neither root nor the node's", stat.Uid), "chown it to root or to the node's user"}, true
	case mode&0o002 != 0 && !sticky:
		return Exposure{path, fmt.Sprintf("can be written by everybody (mode %04o)", mode.Perm()), "chmod go-w " + path}, true
	case mode&0o020 != 0 && !sticky && stat.Gid != 0 && stat.Gid != stat.Uid:
		return Exposure{path, fmt.Sprintf("can be written by group %d (mode %04o)", stat.Gid, mode.Perm()), "chmod g-w " + path}, true
	}
	return Exposure{}, false
}

// nobodyElseWrites: who can change a binary, its folder or the state can run what he likes as the node's user.
func nobodyElseWrites(_ context.Context, s Subject) finding {
	found := Exposed(s.Home, s.Settings.KeyFile, s.Settings.StateFile)
	if len(found) == 0 {
		return ok("nobody but root and the node's user can change what is executed and trusted")
	}
	text := found[0].Path + " " + found[0].Why
	if n := len(found) - 1; n > 0 {
		text += fmt.Sprintf("; %d more are named at a start", n)
	}
	return warning(found[0].Do, "%s", text)
}
