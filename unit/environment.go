package unit

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// Environment is what a service's command finds in its environment.
type Environment struct {
	variables map[string]variable // those of which something is known
	hidden    error               // why nothing is known of the others; nil: they are not set
}

// variable is a variable that is set, that is not set, or of which neither can be told.
type variable struct {
	value string
	set   bool
	err   error
}

func newEnvironment() *Environment { return &Environment{variables: map[string]variable{}} }

// Get returns a variable. ok is false if it is not set. The error says why neither can be
// told.
func (e *Environment) Get(name string) (value string, ok bool, err error) {
	v, known := e.variables[name]
	if !known {
		v.err = e.hidden
	}
	if v.err != nil {
		return "", false, fmt.Errorf("%s: %w", name, v.err)
	}
	return v.value, v.set, nil
}

// Names are the names of the variables that are set, or may be.
func (e *Environment) Names() (names []string) {
	for name, v := range e.variables {
		if v.set || v.err != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Hidden says why not all of it can be told, such as a file that this user may not read.
// nil: it can.
func (e *Environment) Hidden() error { return e.hidden }

// Set sets a variable.
func (e *Environment) Set(name, value string) { e.variables[name] = variable{value: value, set: true} }

// Unset takes a variable out.
func (e *Environment) Unset(name string) { e.variables[name] = variable{} }

// Clear takes all of them out, as env -i does.
func (e *Environment) Clear() { *e = *newEnvironment() }

// Clone returns a copy.
func (e *Environment) Clone() *Environment { return &Environment{maps.Clone(e.variables), e.hidden} }

// forget says that a variable cannot be told.
func (e *Environment) forget(name string, err error) { e.variables[name] = variable{err: err} }

// hide says that nothing can be told but what is set from here on.
func (e *Environment) hide(err error) {
	clear(e.variables)
	e.hidden = err
}

// assignment is one variable of Environment=.
type assignment struct {
	name, value string
	err         error // why the value cannot be told
}

// assign applies Environment=. What systemd ignores is ignored here: all that follows an
// error of the syntax, and what is not NAME=VALUE.
func (s *Service) assign(value located) {
	if value.text == "" {
		s.assigned = nil
		return
	}
	s.assigned = append(s.assigned, s.assignments(value)...)
}

func (s *Service) assignments(value located) (list []assignment) {
	words, _ := split(value.text, rules{})
	for _, w := range words {
		resolved, err := s.specify(w.text)
		if err != nil {
			name, _, _ := strings.Cut(w.text, "=")
			list = append(list, assignment{name: name, err: fmt.Errorf("%s: Environment=: %w", value.file, err)})
			continue
		}
		if name, text, ok := strings.Cut(resolved, "="); ok && isName(name) && utf8.ValidString(text) {
			list = append(list, assignment{name: name, value: text})
		}
	}
	return list
}

// isName says whether systemd takes a text as the name of a variable.
func isName(text string) bool {
	return text != "" && (text[0] < '0' || text[0] > '9') && strings.Trim(text, nameLetters) == ""
}

const nameLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_"

// ofManager are variables that systemd itself sets, to what is not known here unless the
// unit sets them.
var ofManager = []string{
	"PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "LC_NUMERIC", "LC_TIME", "TERM", "INVOCATION_ID",
	"JOURNAL_STREAM", "LOG_NAMESPACE", "MAINPID", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC",
	"CREDENTIALS_DIRECTORY", "SYSTEMD_EXEC_PID", "MEMORY_PRESSURE_WATCH", "MEMORY_PRESSURE_WRITE", "FDSTORE",
}

var errOfManager = errors.New("systemd sets it, and only a running systemd can tell to what")

// Environment works out the environment, in the order of systemd.exec(5): what systemd sets
// itself, PassEnvironment=, Environment=, EnvironmentFile=, and last UnsetEnvironment=. The
// error says why systemd would not start the service.
func (s *Service) Environment() (*Environment, error) {
	e := newEnvironment()
	for _, name := range ofManager {
		e.forget(name, errOfManager)
	}
	if s.manager.fault != nil {
		e.hide(s.manager.fault)
	}
	e.add(s.manager.environment)
	s.addLogin(e)
	s.addDirectories(e)
	for _, value := range s.pass {
		for _, name := range s.words(value, "PassEnvironment", e) {
			e.forget(name, fmt.Errorf("%s: PassEnvironment=: %w", value.file, errOfManager))
		}
	}
	e.add(s.assigned)
	for _, value := range s.files {
		if err := s.addFile(e, value); err != nil {
			return nil, err
		}
	}
	for _, value := range s.unset {
		for _, word := range s.words(value, "UnsetEnvironment", e) {
			name, text, exact := strings.Cut(word, "=")
			if have, _, err := e.Get(name); exact && err == nil && have != text {
				continue
			}
			e.Unset(name)
		}
	}
	return e, nil
}

func (e *Environment) add(list []assignment) {
	for _, a := range list {
		if a.err != nil {
			e.forget(a.name, a.err)
		} else {
			e.Set(a.name, a.value)
		}
	}
}

// words are the words of PassEnvironment= or UnsetEnvironment=.
func (s *Service) words(value located, key string, e *Environment) (texts []string) {
	words, _ := split(value.text, rules{keepEscapes: key == "PassEnvironment"})
	for _, w := range words {
		text, err := s.specify(w.text)
		if err != nil {
			e.hide(fmt.Errorf("%s: %s=: %w", value.file, key, err))
			continue
		}
		texts = append(texts, text)
	}
	return texts
}

// addLogin adds what a service with a user has of that user.
func (s *Service) addLogin(e *Environment) {
	if s.User == "" && !s.DynamicUser {
		return
	}
	e.forget("SHELL", errOfManager)
	u, err := lookUpUser(s.User)
	if s.DynamicUser || err != nil {
		for _, name := range []string{"HOME", "USER", "LOGNAME"} {
			e.forget(name, fmt.Errorf("the user %q is not known on this machine", s.User))
		}
		return
	}
	e.Set("USER", u.Username)
	e.Set("LOGNAME", u.Username)
	if filepath.IsAbs(u.HomeDir) && filepath.Clean(u.HomeDir) != "/" {
		e.Set("HOME", filepath.Clean(u.HomeDir))
	}
}

// lookUpUser finds a user by name or number.
func lookUpUser(name string) (*user.User, error) {
	if u, err := user.Lookup(name); err == nil {
		return u, nil
	}
	return user.LookupId(name)
}

// directoryRoots are where StateDirectory= and the like are.
var directoryRoots = map[string]string{
	"RuntimeDirectory": "/run", "StateDirectory": "/var/lib", "CacheDirectory": "/var/cache", "LogsDirectory": "/var/log",
	"ConfigurationDirectory": "/etc",
}

// addDirectories adds STATE_DIRECTORY and the like.
func (s *Service) addDirectories(e *Environment) {
	for key, values := range s.directories {
		name := strings.ToUpper(strings.TrimSuffix(key, "Directory")) + "_DIRECTORY"
		var paths []string
		for _, value := range values {
			words, _ := split(value.text, rules{})
			for _, w := range words {
				text, err := s.specify(strings.Split(w.text, ":")[0])
				if err != nil {
					e.forget(name, fmt.Errorf("%s: %s=: %w", value.file, key, err))
				}
				paths = append(paths, filepath.Join(directoryRoots[key], text))
			}
		}
		if _, _, err := e.Get(name); len(paths) > 0 && err == nil {
			e.Set(name, strings.Join(paths, ":"))
		}
	}
}

// addFile adds the files of one EnvironmentFile=. With a dash before its name a file may be
// missing.
func (s *Service) addFile(e *Environment, value located) error {
	named := func(err error) error { return fmt.Errorf("%s: EnvironmentFile=: %w", value.file, err) }
	pattern, err := s.specify(value.text)
	if err != nil {
		e.hide(named(err))
		return nil
	}
	pattern, optional := strings.CutPrefix(pattern, "-")
	if !filepath.IsAbs(pattern) {
		return nil // systemd ignores it
	}
	paths, err := glob(filepath.Clean(pattern))
	if err == nil && len(paths) == 0 {
		err = &fs.PathError{Op: "open", Path: pattern, Err: fs.ErrNotExist}
	}
	for i := 0; i < len(paths) && err == nil; i++ {
		var content string
		var pairs []pair
		if content, _, err = readUnitFile(paths[i]); err == nil {
			pairs, err = parseEnvironmentFile(content)
		}
		for _, p := range pairs {
			if isName(p.name) {
				e.Set(p.name, p.value)
			}
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist) && optional:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w; systemd would not start the service", named(err))
	}
	e.hide(named(err)) // root may read it
	return nil
}

// glob finds the files of a pattern. A folder that cannot be read is an error, and not one
// without files.
func glob(pattern string) ([]string, error) {
	if !strings.ContainsAny(pattern, `*?[\`) {
		if _, err := os.Lstat(pattern); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil, nil
			}
			return nil, err
		}
		return []string{pattern}, nil
	}
	dir, last := filepath.Split(pattern)
	dirs, err := glob(filepath.Clean(dir))
	if err != nil {
		return nil, err
	}
	var found []string
	for _, dir := range dirs {
		entries, err := readDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.Name()[0] == '.' && last[0] != '.' {
				continue
			}
			ok, err := filepath.Match(strings.ReplaceAll(last, "[!", "[^"), e.Name())
			if err != nil {
				return nil, err
			}
			if ok {
				found = append(found, filepath.Join(dir, e.Name()))
			}
		}
	}
	return found, nil
}
