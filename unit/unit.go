// Package unit reads a service of systemd as it stands on disk: the unit file and its drop-ins, in systemd's order.
//
// It knows of the syntax (systemd.unit(5), systemd.exec(5), systemd.service(5)) what a command and its environment need. It asks no
// systemd and writes nothing. What it does not know is an error, never a guess.
package unit

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// SearchPath is where systemd looks for the system's units. What stands in an earlier folder counts.
var SearchPath = []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/lib/systemd/system"}

// Service is one service, with its drop-ins applied.
type Service struct {
	Name     string // such as gaiad.service
	Path     string // of the unit file
	DropIns  []string
	Commands []Command         // ExecStart
	Reloads  []string          // ExecReload, as it is written
	Env      map[string]string // Environment= and EnvironmentFile=, with %, but not what systemd adds
	User     string            // empty: root

	files []string // EnvironmentFile
}

// List returns the names of the services in the folders, each once.
func List(path []string) []string {
	names := map[string]bool{}
	for _, dir := range path {
		entries, _ := os.ReadDir(dir) // most of them are not there
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), ".service") || strings.Contains(e.Name(), "@.") {
				continue
			}
			// An alias is a symlink to a unit of another name.
			if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && strings.HasSuffix(target, ".service") && filepath.Base(target) != e.Name() {
				continue
			}
			names[e.Name()] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// Load reads the service of a name, without the drop-ins that leave is true for. The error is fs.ErrNotExist if no folder has it.
func Load(name string, path []string, leave func(path string) bool) (*Service, error) {
	if !strings.HasSuffix(name, ".service") {
		name += ".service"
	}
	s := &Service{Name: name, Env: map[string]string{}}
	candidates := []string{name}
	if prefix, _, ok := strings.Cut(name, "@"); ok {
		candidates = append(candidates, prefix+"@.service")
	}
	for _, candidate := range candidates {
		for _, dir := range path {
			file := filepath.Join(dir, candidate)
			if _, err := os.Stat(file); err == nil && s.Path == "" {
				s.Path = file
			}
		}
	}
	if s.Path == "" {
		return nil, fmt.Errorf("no unit %s in %s: %w", name, strings.Join(path, ", "), fs.ErrNotExist)
	}
	// Of drop-ins of one name the first counts, and all are read in the order of their names, wherever they lie.
	byName := map[string]string{}
	for _, candidate := range append(candidates, "service") {
		for _, dir := range path {
			found, _ := filepath.Glob(filepath.Join(dir, candidate+".d", "*.conf"))
			for _, file := range found {
				if byName[filepath.Base(file)] == "" && (leave == nil || !leave(file)) {
					byName[filepath.Base(file)] = file
				}
			}
		}
	}
	for _, base := range slices.Sorted(maps.Keys(byName)) {
		s.DropIns = append(s.DropIns, byName[base])
	}
	for _, file := range append([]string{s.Path}, s.DropIns...) {
		if err := s.read(file); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return s, s.readEnvironmentFiles()
}

// SetsCommand says whether a file has an ExecStart.
func SetsCommand(file string) bool {
	s := &Service{Name: filepath.Base(file), Env: map[string]string{}}
	err := s.read(file)
	return err != nil || len(s.Commands) > 0
}

// read applies the section Service of a file.
func (s *Service) read(file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	section := ""
	for _, line := range lines(string(content)) {
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok || section != "[Service]" {
			continue
		}
		if err := s.set(strings.TrimSpace(key), strings.TrimSpace(value)); err != nil {
			return err
		}
	}
	return nil
}

// lines are the lines of a file without comments, those that end with a backslash joined to the next.
func lines(content string) (joined []string) {
	line, open := "", false
	for text := range strings.Lines(content) {
		text = strings.TrimSpace(text)
		if strings.HasPrefix(text, "#") || strings.HasPrefix(text, ";") {
			continue
		}
		part, more := strings.CutSuffix(text, `\`)
		if open {
			line += " " + part
		} else {
			line = part
		}
		if open = more; !open && line != "" {
			joined = append(joined, line)
		}
	}
	if open {
		joined = append(joined, line)
	}
	return joined
}

func (s *Service) set(key, value string) (err error) {
	switch key {
	case "ExecStart":
		if value == "" {
			s.Commands = nil
			return nil
		}
		command, err := parseCommand(value)
		s.Commands = append(s.Commands, command)
		return err
	case "ExecReload":
		if value == "" {
			s.Reloads = nil
			return nil
		}
		s.Reloads = append(s.Reloads, value)
	case "Environment":
		if value == "" {
			clear(s.Env)
			return nil
		}
		words, err := split(value)
		for _, w := range words {
			name, value, ok := strings.Cut(w.text, "=")
			if !ok {
				continue // systemd leaves it out too
			}
			if s.Env[name], err = s.specify(value); err != nil {
				return err
			}
		}
		return err
	case "EnvironmentFile":
		if value == "" {
			s.files = nil
			return nil
		}
		value, err = s.specify(value)
		s.files = append(s.files, value)
	case "User":
		s.User, err = s.specify(value)
	}
	return err
}

// specify replaces the specifiers of systemd, as far as they don't depend on the running machine. %h and %u are those of the
// manager, not of User=.
func (s *Service) specify(text string) (string, error) {
	if !strings.Contains(text, "%") {
		return text, nil
	}
	full := strings.TrimSuffix(s.Name, ".service")
	prefix, instance, _ := strings.Cut(full, "@")
	values := map[byte]string{
		'%': "%", 'n': s.Name, 'N': full, 'p': prefix, 'i': instance, 'I': strings.ReplaceAll(instance, "-", "/"),
		'h': "/root", 'u': "root", 'U': "0", 't': "/run", 'S': "/var/lib", 'E': "/etc",
	}
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			out.WriteByte(text[i])
			continue
		}
		i++
		if i == len(text) {
			return "", fmt.Errorf("%q ends in the middle of a specifier", text)
		}
		value, ok := values[text[i]]
		if !ok {
			return "", fmt.Errorf("the specifier %%%c in %q is not known here", text[i], text)
		}
		out.WriteString(value)
	}
	return out.String(), nil
}

// readEnvironmentFiles applies the EnvironmentFile lines, which win over the others. A file with a dash before its name may be missing.
func (s *Service) readEnvironmentFiles() error {
	for _, pattern := range s.files {
		pattern, optional := strings.CutPrefix(pattern, "-")
		found, err := filepath.Glob(pattern)
		if err == nil && len(found) == 0 && !optional {
			err = &fs.PathError{Op: "open", Path: pattern, Err: fs.ErrNotExist}
		}
		if err != nil {
			return fmt.Errorf("%s: EnvironmentFile: %w", s.Name, err)
		}
		for _, file := range found {
			if err := s.readEnvironmentFile(file); err != nil && !(optional && errors.Is(err, fs.ErrNotExist)) {
				return fmt.Errorf("%s: EnvironmentFile: %w", s.Name, err)
			}
		}
	}
	return nil
}

func (s *Service) readEnvironmentFile(file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, line := range lines(string(content)) {
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		words, err := split(strings.TrimSpace(value))
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		var texts []string
		for _, w := range words {
			texts = append(texts, w.text)
		}
		s.Env[strings.TrimSpace(name)] = strings.Join(texts, " ")
	}
	return nil
}
