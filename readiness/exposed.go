package readiness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"solstice"
	"solstice/internal/durable"
	"solstice/node"
)

// Exposure is a file or folder that is executed or trusted, and that somebody else can get at.
type Exposure struct {
	Path string
	Why  string // as a sentence goes on after the path
	Do   string // the command that mends it
}

// Exposed looks at what Solstice and the node execute or trust, and at every folder and symlink on the way there: who can write a
// folder can replace what is in it. Only root, this user and the owner of data/ may, and their own groups, which have the user's
// number (as with the umask 002 of Debian). more are other paths that are trusted; none needs to exist. The error is what could not
// be looked at.
func Exposed(home solstice.Home, settings node.Settings, more []string) ([]Exposure, error) {
	l := looker{trusted: map[uint32]bool{0: true, uint32(os.Geteuid()): true}}
	if info, err := os.Stat(home.Data()); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			l.owner = stat.Uid
			l.trusted[stat.Uid] = true // who else runs a node on it is refused, or was allowed to
		}
	}
	for _, path := range slices.Concat(trustedPaths(home), []string{settings.KeyFile, settings.StateFile}, more) {
		if path != "" {
			l.walk(path)
		}
	}
	l.private(home.StateDir)
	return l.found, l.fault
}

// trustedPaths are the paths in the home's layout. Those above them are looked at on the way.
func trustedPaths(home solstice.Home) []string {
	config := filepath.Join(home.Node, "config")
	paths := []string{
		home.Root(), home.CurrentLink(), home.Upgrades(), filepath.Join(home.Root(), "solstice.toml"), filepath.Join(home.Root(), "config.toml"),
		home.StateDir, home.SignStateFile(), home.Data(), home.PlanFile(), home.BatchFile(),
		config, filepath.Join(config, "config.toml"), filepath.Join(config, "app.toml"),
	}
	folders := []string{home.StateDir}
	for _, dir := range home.BinaryDirs() {
		binary, lib := home.Binary(dir), filepath.Join(home.Root(), dir, "lib")
		paths = append(paths, binary, filepath.Dir(binary), filepath.Join(home.Root(), dir), lib, home.AppliedFile(dir))
		for _, name := range home.Sidecars {
			paths = append(paths, home.File(dir, name))
		}
		folders = append(folders, lib)
	}
	for _, folder := range folders {
		entries, _ := os.ReadDir(folder) // one that can't be read is told of by walk
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), durable.TempPrefix) {
				paths = append(paths, filepath.Join(folder, e.Name()))
			}
		}
	}
	return paths
}

// looker collects what it finds.
type looker struct {
	trusted map[uint32]bool // users, and the groups that are theirs
	owner   uint32          // of data/
	found   []Exposure
	fault   error
}

// maxLinks is how many symlinks one path may lead through, as with the kernel (path_resolution(7)).
const maxLinks = 40

// walk goes a path from / on as the kernel does, through every symlink, and looks at all that it comes by.
func (l *looker) walk(path string) {
	dir, rest, links := "/", strings.Split(path, "/"), 0
	l.see(dir, true)
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			dir = filepath.Dir(dir) // there are no symlinks in it any more
			continue
		}
		at := filepath.Join(dir, name)
		target, isLink := l.see(at, true)
		switch {
		case !isLink:
			dir = at
		case links == maxLinks:
			return
		default:
			links++
			if filepath.IsAbs(target) {
				dir = "/"
			}
			rest = slices.Concat(strings.Split(target, "/"), rest)
		}
	}
	l.see(dir, false)
}

// see looks at one thing without following it, and says where it leads to if it is a symlink. In a folder with the sticky bit, such
// as /tmp, only owners replace what is theirs: on the way that is enough. But anybody can make something new there.
func (l *looker) see(path string, onTheWay bool) (target string, isLink bool) {
	info, err := os.Lstat(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) && l.fault == nil {
			l.fault = err
		}
		return "", false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", false
	}
	mode := info.Mode()
	isLink = mode&fs.ModeSymlink != 0
	held := onTheWay && info.IsDir() && mode&fs.ModeSticky != 0
	switch {
	case !l.trusted[stat.Uid]:
		l.add(path, "belongs to "+UserName(stat.Uid)+", who is neither root nor the node's", fmt.Sprintf("chown -h %d", l.owner))
	case isLink || held: // a symlink is as good as its folder
	case mode&0o002 != 0:
		l.add(path, fmt.Sprintf("can be written by everybody (mode %04o)", mode.Perm()), "chmod go-w")
	case mode&0o020 != 0 && !l.trusted[stat.Gid]:
		l.add(path, fmt.Sprintf("can be written by group %d (mode %04o)", stat.Gid, mode.Perm()), "chmod g-w")
	}
	if isLink {
		if target, err = os.Readlink(path); err != nil {
			return "", false
		}
	}
	return target, isLink
}

// private looks whether a folder is closed to others, as we make the state folder. One that somebody has made wider is his: we
// say so, and leave it as it is.
func (l *looker) private(folder string) {
	info, err := os.Stat(folder)
	if err != nil {
		return // there is none yet
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if mode := info.Mode().Perm(); ok && (mode&0o007 != 0 || mode&0o070 != 0 && !l.trusted[stat.Gid]) {
		l.add(folder, fmt.Sprintf("is open to others (mode %04o)", mode), "chmod 700")
	}
}

// add adds what was not found on the way to something else already.
func (l *looker) add(path, why, command string) {
	if !slices.ContainsFunc(l.found, func(e Exposure) bool { return e.Path == path }) {
		l.found = append(l.found, Exposure{path, why, command + " " + path})
	}
}

// UserName is a user for people, with the number, which is what counts.
func UserName(uid uint32) string {
	number := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(number); err == nil {
		return fmt.Sprintf("user %s (%s)", u.Username, number)
	}
	return "user " + number
}

// shownExposures is how many of them a check names.
const shownExposures = 3

// nobodyElse: who can change a binary, its folder or the state can run what he likes as the node's user.
func nobodyElse(_ context.Context, s Subject) finding {
	found, err := Exposed(s.Home, s.Settings, s.Trusted)
	switch {
	case len(found) == 0 && err != nil:
		return unknown("run this as the user that the node runs as", "not all of it can be looked at: %v", err)
	case len(found) == 0:
		return ok("nobody but root and the node's user can change what is executed and trusted")
	}
	var whys, dos []string
	for _, e := range found[:min(len(found), shownExposures)] {
		whys, dos = append(whys, e.Path+" "+e.Why), append(dos, e.Do)
	}
	if n := len(found) - shownExposures; n > 0 {
		whys = append(whys, fmt.Sprintf("and %d more", n))
	}
	return warning(strings.Join(dos, "; "), "%s", strings.Join(whys, "; "))
}
