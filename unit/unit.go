// Package unit reads a service of systemd as it is on disk, by systemd's own rules: which
// file is the unit, which drop-ins apply, in which order, and what its command and
// environment are.
//
// It asks no systemd and writes nothing. A value that only a running systemd knows is
// unknown: it is an error where it is needed, with the setting and the file in it, and
// never a guess. The rules are those of systemd.unit(5), systemd.exec(5),
// systemd.service(5) and systemd.syntax(7); the tests compare with systemd-analyze where
// that is installed.
package unit

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"
)

// SearchPath is where systemd looks for the units of the machine, the folder that wins
// first.
var SearchPath = []string{
	"/etc/systemd/system.control",
	"/run/systemd/system.control",
	"/run/systemd/transient",
	"/run/systemd/generator.early",
	"/etc/systemd/system",
	"/etc/systemd/system.attached",
	"/run/systemd/system",
	"/run/systemd/system.attached",
	"/run/systemd/generator",
	"/usr/local/lib/systemd/system",
	"/usr/lib/systemd/system",
	"/lib/systemd/system",
	"/run/systemd/generator.late",
}

// AdminFolder is where whoever administers the machine keeps units and drop-ins.
const AdminFolder = "/etc/systemd/system"

// ErrMasked is the error for a unit that its administrator has masked: systemd does not
// start it.
var ErrMasked = errors.New("the unit is masked")

// Units are the units of a machine.
type Units struct {
	Folders []string               // the first one wins; SearchPath on a real machine
	Leave   func(path string) bool // drop-ins to read past; nil: none
	Add     map[string]string      // drop-ins that are not written yet, by path
	Root    string                 // in front of /etc and /proc for what specifiers stand for; empty on a real machine
}

// Service is one service with its drop-ins applied.
type Service struct {
	Name             string   // such as gaiad.service; for an alias the name that it stands for
	Path             string   // of the unit file
	DropIns          []string // in the order in which they are read
	Commands         []Command
	Reloads          []string // ExecReload, as written
	User, Group      string   // empty: root
	DynamicUser      bool
	WorkingDirectory string // empty: /; ~: the home of the user
	RootDirectory    string // or RootImage: what the paths of the command start at; empty: the machine's own
	Restart          string // empty: no
	Faults           []error

	root        string
	stop        time.Duration
	stopSet     bool
	manager     manager
	assigned    []assignment
	files       []located
	pass, unset []located
	searchPath  []located
	directories map[string][]located // StateDirectory= and the like, by their key
}

// located is a value and the file that sets it.
type located struct{ text, file string }

// List returns the names of the services of the folders, among them the instances of
// templates that something wants. Templates and aliases are not services of their own.
func (u Units) List() ([]string, error) {
	index, err := u.index()
	if err != nil {
		return nil, err
	}
	wanted, err := u.wanted()
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, name := range append(wanted, slices.Collect(maps.Keys(index))...) {
		if path := index.fragment(name); path != "" && kindOf(name) != kindTemplate {
			names[canonical(path, name)] = true
		}
	}
	return slices.Sorted(maps.Keys(names)), nil
}

// Load reads a service. The error is fs.ErrNotExist if no folder has it, and ErrMasked if
// it is masked. What systemd refuses in it, or what cannot be told here, is in Faults.
func (u Units) Load(name string) (*Service, error) {
	if !strings.HasSuffix(name, ".service") {
		name += ".service"
	}
	if !validName(name) || kindOf(name) == kindTemplate {
		return nil, fmt.Errorf("%q is not the name of a service", name)
	}
	index, err := u.index()
	if err != nil {
		return nil, err
	}
	s := &Service{Path: index.fragment(name), root: u.Root, directories: map[string][]located{}}
	if s.Path == "" {
		return nil, fmt.Errorf("no unit %s in %s: %w", name, strings.Join(u.Folders, ", "), fs.ErrNotExist)
	}
	s.Name = canonical(s.Path, name)
	content, masked, err := readUnitFile(s.Path)
	switch {
	case err != nil:
		return nil, err
	case masked:
		return nil, fmt.Errorf("%s: %w", s.Path, ErrMasked)
	}
	if s.DropIns, err = u.dropIns(s.Name, index.aliases(s.Name, s.Path)); err != nil {
		return nil, err
	}
	if err := s.apply(s.Path, content); err != nil {
		return nil, err
	}
	for _, path := range s.DropIns {
		content, added := u.Add[path]
		if !added {
			if content, _, err = readUnitFile(path); errors.Is(err, fs.ErrNotExist) {
				continue // a symlink that leads nowhere hides others of its name
			} else if err != nil {
				return nil, err
			}
		}
		if err := s.apply(path, content); err != nil {
			return nil, err
		}
	}
	s.manager = readManager(u.Root)
	return s, nil
}

// StopTimeout is how long systemd waits for the service to stop before it kills it. 0 is no
// limit.
func (s *Service) StopTimeout() (time.Duration, error) {
	if s.stopSet {
		return s.stop, nil
	}
	return s.manager.stop, s.manager.fault
}

// apply applies the section [Service] of a file.
func (s *Service) apply(path, content string) error {
	section := ""
	for _, line := range joinLines(content) {
		if strings.HasPrefix(line, "[") {
			if !strings.HasSuffix(line, "]") {
				return fmt.Errorf("%s: %q is not a section", path, line)
			}
			section = line
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if section == "[Service]" && ok && key != "" {
			s.set(strings.TrimRight(key, blanks), located{strings.TrimLeft(value, blanks), path})
		}
	}
	return nil
}

// set applies one setting.
func (s *Service) set(key string, value located) {
	switch key {
	case "ExecStart":
		s.addCommands(value)
	case "ExecReload":
		s.Reloads = appendOrReset(s.Reloads, value.text, value.text)
	case "Environment":
		s.assign(value)
	case "EnvironmentFile":
		s.files = appendOrReset(s.files, value, value.text)
	case "PassEnvironment":
		s.pass = appendOrReset(s.pass, value, value.text)
	case "UnsetEnvironment":
		s.unset = appendOrReset(s.unset, value, value.text)
	case "ExecSearchPath":
		s.searchPath = appendOrReset(s.searchPath, value, value.text)
	case "RuntimeDirectory", "StateDirectory", "CacheDirectory", "LogsDirectory", "ConfigurationDirectory":
		s.directories[key] = appendOrReset(s.directories[key], value, value.text)
	case "User":
		s.User = s.single(key, value)
	case "Group":
		s.Group = s.single(key, value)
	case "WorkingDirectory":
		s.WorkingDirectory = s.single(key, located{strings.TrimPrefix(value.text, "-"), value.file})
	case "RootDirectory", "RootImage":
		s.RootDirectory = s.single(key, value)
	case "DynamicUser":
		s.DynamicUser = slices.Contains([]string{"1", "yes", "y", "true", "t", "on"}, strings.ToLower(value.text))
	case "Restart":
		if slices.Contains([]string{"no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"}, value.text) {
			s.Restart = value.text // systemd ignores others
		}
	case "TimeoutSec", "TimeoutStopSec":
		if d, ok := parseSpan(value.text); ok {
			s.stop, s.stopSet = d, true
		}
	}
}

// single is a setting of one value.
func (s *Service) single(key string, value located) string {
	text, err := s.specify(value.text)
	if err != nil {
		s.Faults = append(s.Faults, fmt.Errorf("%s: %s=: %w", value.file, key, err))
	}
	return text
}

// appendOrReset adds a value to a list that an empty assignment resets.
func appendOrReset[T any](list []T, value T, text string) []T {
	if text == "" {
		return nil
	}
	return append(list, value)
}
