package unit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// kind is the kind of a unit's name.
type kind int

const (
	kindPlain    kind = iota
	kindTemplate      // gaiad@.service
	kindInstance      // gaiad@hub.service
)

func kindOf(name string) kind {
	_, rest, found := strings.Cut(name, "@")
	switch {
	case !found:
		return kindPlain
	case rest == ".service":
		return kindTemplate
	}
	return kindInstance
}

// nameParts are the prefix and the instance of a name.
func nameParts(name string) (prefix, instance string) {
	prefix, instance, _ = strings.Cut(strings.TrimSuffix(name, ".service"), "@")
	return prefix, instance
}

// withInstance is a template's name with an instance in it.
func withInstance(name, instance string) string {
	prefix, _ := nameParts(name)
	return prefix + "@" + instance + ".service"
}

func templateOf(name string) string { return withInstance(name, "") }

// validName says whether systemd takes a name as that of a service.
func validName(name string) bool {
	stem, ok := strings.CutSuffix(name, ".service")
	return ok && stem != "" && stem[0] != '@' && len(name) < 256 && strings.Trim(stem, nameChars+"@") == ""
}

const nameChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\"

// canonical is the name of the unit that a file is read for, when it was asked for by
// another name.
func canonical(path, name string) string {
	base := filepath.Base(path)
	if kindOf(base) == kindTemplate {
		_, instance := nameParts(name)
		return withInstance(base, instance)
	}
	return base
}

// index has the services of all folders by name: the path of the file, or for an alias the
// name that it stands for.
type index map[string]string

// index reads the folders.
func (u Units) index() (index, error) {
	found := index{}
	var own []string // with symlinks resolved too, as systemd compares both
	for _, dir := range u.Folders {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		own = append(own, abs)
		if real, err := filepath.EvalSymlinks(abs); err == nil && !slices.Contains(own, real) {
			own = append(own, real)
		}
	}
	for _, dir := range u.Folders {
		entries, err := readDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			name := e.Name()
			if _, have := found[name]; have || !validName(name) {
				continue
			}
			switch e.Type() {
			case 0:
				found[name] = filepath.Join(dir, name)
			case fs.ModeSymlink:
				if to, ok := follow(own, dir, name); ok {
					found[name] = to
				}
			}
		}
	}
	return found, nil
}

// wanted are the services that the folders have in NAME.wants and NAME.requires: what
// systemctl enable has made.
func (u Units) wanted() (names []string, err error) {
	for _, folder := range u.Folders {
		entries, err := readDir(folder)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), ".wants") && !strings.HasSuffix(e.Name(), ".requires") {
				continue
			}
			links, err := readDir(filepath.Join(folder, e.Name()))
			if err != nil {
				return nil, err
			}
			for _, link := range links {
				if validName(link.Name()) {
					names = append(names, link.Name())
				}
			}
		}
	}
	return names, nil
}

// follow says what a symlink in a unit folder is: an alias, if it leads into one of the
// folders, or else a unit of its own that is kept elsewhere. It is not ok if systemd would
// ignore it.
func follow(folders []string, dir, name string) (to string, ok bool) {
	target, err := os.Readlink(filepath.Join(dir, name))
	if err != nil {
		return "", false
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(dir, target)
	}
	if target, err = filepath.Abs(target); err != nil {
		return "", false
	}
	if real, err := filepath.EvalSymlinks(filepath.Dir(target)); err == nil {
		target = filepath.Join(real, filepath.Base(target))
	}
	if !slices.ContainsFunc(folders, func(f string) bool { return strings.HasPrefix(target, strings.TrimSuffix(f, "/")+"/") }) {
		return filepath.Join(dir, name), true
	}
	to = filepath.Base(target)
	from, other := kindOf(name), kindOf(to)
	_, inst := nameParts(name)
	_, toInst := nameParts(to)
	switch {
	case to == name, !validName(to):
		return "", false
	case from == kindInstance && other == kindTemplate:
		return to, true
	}
	return to, from == other && inst == toInst
}

// path follows the aliases of a name to a file. Empty: there is none.
func (x index) path(name string) string {
	for range 8 {
		to, ok := x[name]
		if !ok {
			return ""
		}
		if strings.ContainsRune(to, '/') {
			return to
		}
		if _, ok := x[to]; !ok && kindOf(to) == kindInstance {
			to = templateOf(to)
		}
		name = to
	}
	return ""
}

// fragment is the file of a service: its own, or that of its template.
func (x index) fragment(name string) string {
	if path := x.path(name); path != "" || kindOf(name) != kindInstance {
		return path
	}
	return x.path(templateOf(name))
}

// aliases are the other names of a service, whose drop-ins apply to it too.
func (x index) aliases(name, path string) []string {
	_, inst := nameParts(name)
	found := map[string]bool{}
	for other := range x {
		if kindOf(other) == kindTemplate {
			if kindOf(name) != kindInstance {
				continue
			}
			if other = withInstance(other, inst); x.fragment(other) != path {
				continue
			}
		}
		if at := x.fragment(other); other != name && at == path && canonical(at, other) == name {
			found[other] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// dropIns are the drop-ins of a service. Of one file name the first counts, and all are
// read in the order of their names.
func (u Units) dropIns(name string, aliases []string) ([]string, error) {
	var dirs []string
	for _, one := range append([]string{name}, aliases...) {
		for _, folder := range u.Folders {
			for _, sub := range dropInNames(one) {
				dirs = append(dirs, filepath.Join(folder, sub+".d"))
			}
		}
	}
	for _, folder := range u.Folders {
		dirs = append(dirs, filepath.Join(folder, "service.d"))
	}
	byName := map[string]string{}
	for _, dir := range dirs {
		entries, err := readDir(dir)
		if err != nil {
			return nil, err
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		for path := range u.Add {
			if filepath.Dir(path) == filepath.Clean(dir) {
				names = append(names, filepath.Base(path))
			}
		}
		for _, base := range names {
			path := filepath.Join(dir, base)
			if byName[base] == "" && strings.HasSuffix(base, ".conf") && base[0] != '.' && (u.Leave == nil || !u.Leave(path)) {
				byName[base] = path
			}
		}
	}
	var paths []string
	for _, base := range slices.Sorted(maps.Keys(byName)) {
		paths = append(paths, byName[base])
	}
	return paths, nil
}

// dropInNames are the names whose drop-ins apply to a service, the most specific first: its
// own, that of its template, and those cut off after each dash, foo-bar-.service and
// foo-.service for foo-bar-baz.service.
func dropInNames(name string) []string {
	names := []string{name}
	if kindOf(name) == kindInstance {
		names = append(names, dropInNames(templateOf(name))...)
	}
	prefix, inst := nameParts(name)
	prefix = strings.TrimSuffix(prefix, "-")
	at := strings.LastIndexByte(prefix, '-')
	if at <= 0 {
		return names
	}
	shorter := prefix[:at+1] + ".service"
	if kindOf(name) == kindInstance {
		shorter = withInstance(shorter, inst)
	}
	return append(names, dropInNames(shorter)...)
}

// readDir reads a folder that may be missing. One that this user may not read is an error:
// what it holds is not known.
func readDir(dir string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	return entries, err
}

// most is the size up to which a file of settings is read.
const most = 4 << 20

// readUnitFile reads a unit file or a drop-in. One that is empty or /dev/null masks a unit.
func readUnitFile(path string) (content string, masked bool, err error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", false, err
	case info.Mode().Type() == fs.ModeDevice|fs.ModeCharDevice:
		return "", true, nil // systemd takes each device for /dev/null
	case !info.Mode().IsRegular():
		return "", false, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	case info.Size() > most:
		return "", false, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("larger than %d MiB", most>>20)}
	}
	f, err := os.Open(path)
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most))
	return string(text), info.Size() == 0, err
}
