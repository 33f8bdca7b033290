package unit

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Command is one command of a unit.
type Command struct {
	Line  string // as it is written
	File  string // that sets it
	Flags string // the characters before the program, systemd.service(5): none of its name

	words []word // of this command: a line may have several
}

// flags may be before a program.
const flags = "@-:+!|"

// addCommands applies ExecStart=.
func (s *Service) addCommands(value located) {
	if value.text == "" {
		s.Commands = nil
		return
	}
	words, err := splitCommand(value.text)
	if err != nil {
		s.Faults = append(s.Faults, fmt.Errorf("%s: ExecStart=: %w", value.file, err))
	}
	command := Command{Line: value.text, File: value.file}
	add := func() {
		if len(command.words) > 0 {
			s.Commands = append(s.Commands, command)
		}
		command.words, command.Flags = nil, ""
	}
	for _, w := range words {
		if value.text[w.from:w.to] == ";" {
			add()
			continue
		}
		if len(command.words) == 0 {
			program := strings.TrimLeft(w.text, flags)
			command.Flags, w.text = w.text[:len(w.text)-len(program)], program
			if err := s.checkProgram(program); err != nil {
				s.Faults = append(s.Faults, fmt.Errorf("%s: ExecStart=: %w", value.file, err))
			}
		}
		command.words = append(command.words, w)
	}
	add()
}

// checkProgram checks what systemd refuses as a program.
func (s *Service) checkProgram(text string) error {
	path, err := s.specify(text)
	switch {
	case err != nil:
		return err
	case path == "", strings.HasSuffix(path, "/"), !filepath.IsAbs(path) && strings.Contains(path, "/"):
		return fmt.Errorf("systemd does not take %q for a program: neither an absolute path nor a name", path)
	}
	return checkProgram(path)
}

// checkProgram checks a path for the characters that systemd refuses in the path of a
// program, however they are quoted.
func checkProgram(path string) error {
	for i := range len(path) {
		if c := path[i]; c < ' ' || c == 0x7f || strings.IndexByte(`"'\`, c) >= 0 {
			return fmt.Errorf("systemd refuses the program %q: its path has a quote, a backslash or a control character in it", path)
		}
	}
	return nil
}

// splitCommand splits a command line. \; is a word, and a ; of its own begins another
// command.
func splitCommand(line string) (words []word, err error) {
	for i := 0; ; {
		for i < len(line) && strings.IndexByte(blanks, line[i]) >= 0 {
			i++
		}
		if i == len(line) {
			return words, nil
		}
		if rest, ok := strings.CutPrefix(line[i:], `\;`); ok && (rest == "" || strings.IndexByte(blanks, rest[0]) >= 0) {
			words = append(words, word{";", i, i + 2})
			i += 2
			continue
		}
		w, err := firstWord(line, i, rules{})
		if err != nil {
			if w, err = firstWord(line, i, rules{relaxed: true}); err != nil {
				return words, err
			}
		}
		words = append(words, w)
		i = w.to
	}
}

// Words are the words of the command, the program first, as they stand in the unit: with %
// and $.
func (c Command) Words() (texts []string) {
	for _, w := range c.words {
		texts = append(texts, w.text)
	}
	return texts
}

// Replace returns the line with other words in the place of one. All else stays as it is
// written.
func (c Command) Replace(at int, words ...string) string {
	var quoted []string
	for i, text := range words {
		quoted = append(quoted, quoteWord(text, !(at == 0 && i == 0) && !c.literal()))
	}
	return c.put(at, strings.Join(quoted, " "))
}

// Rewrite returns the line with a word written anew: a text in which % and $ mean what they
// mean in the unit.
func (c Command) Rewrite(at int, text string) string { return c.put(at, quoteSource(text)) }

func (c Command) put(at int, text string) string {
	w := c.words[at]
	if at == 0 {
		text = c.Flags + text
	}
	return c.Line[:w.from] + text + c.Line[w.to:]
}

// literal says whether a dollar sign is itself in the arguments: after a colon.
func (c Command) literal() bool { return strings.Contains(c.Flags, ":") }

// Before is what stands before a word: the flags, but for the dash that lets a failure pass
// for a success, and the words of what it is started through, such as env.
func (c Command) Before(at int) string {
	before := strings.ReplaceAll(c.Flags, "-", "")
	if at == 0 {
		return before
	}
	first := c.words[0]
	return before + quoteSource(first.text) + c.Line[first.to:c.words[at].from]
}

// From is the line from a word on, without the flags.
func (c Command) From(at int) string {
	first := c.words[at]
	if at == 0 {
		return quoteSource(first.text) + c.Line[first.to:]
	}
	return c.Line[first.from:]
}

// ExpandWord returns a word of a command as the program gets it: with specifiers and
// variables put in. A variable may become none or several.
func (s *Service) ExpandWord(c Command, at int, e *Environment) (args []string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: ExecStart=: %w", c.File, err)
		}
	}()
	text, err := s.specify(c.words[at].text)
	if err != nil {
		return nil, err
	}
	name, bare := strings.CutPrefix(text, "$")
	if at == 0 || c.literal() { // the program's own path has no variables
		return []string{text}, nil
	}
	if !bare || strings.HasPrefix(name, "{") || strings.HasPrefix(name, "$") {
		text, err = e.expand(text)
		return []string{text}, err
	}
	// A variable that is a word of its own is split, and one that is not set is no word.
	// Whatever follows the dollar sign is its name, also in $HOME/.gaia.
	value, _, err := e.Get(name)
	if err != nil {
		return nil, err
	}
	words, _ := split(value, rules{keepEscapes: true, open: true})
	for _, w := range words {
		args = append(args, w.text)
	}
	return args, nil
}

// ProgramPath are the folders in which systemd looks for a program that has no path.
func (s *Service) ProgramPath() (folders []string) {
	for _, value := range s.searchPath {
		if text, err := s.specify(value.text); err == nil {
			folders = append(folders, filepath.SplitList(text)...)
		}
	}
	if folders == nil {
		folders = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}
	}
	return folders
}

// expand puts in the variables that are written ${NAME}. $$ is a dollar sign, and one
// before anything else is itself.
func (e *Environment) expand(text string) (string, error) {
	var out strings.Builder
	for text != "" {
		before, rest, found := strings.Cut(text, "$")
		out.WriteString(before)
		if !found {
			break
		}
		name, after, closed := strings.Cut(strings.TrimPrefix(rest, "{"), "}")
		switch {
		case strings.HasPrefix(rest, "$"):
			out.WriteByte('$')
			text = rest[1:]
		case strings.HasPrefix(rest, "{") && !closed && !strings.Contains(name, ":"):
			out.WriteString("$" + rest)
			text = ""
		case strings.HasPrefix(rest, "{") && !strings.Contains(name, ":"):
			value, _, err := e.Get(name)
			if err != nil {
				return "", err
			}
			out.WriteString(value)
			text = after
		default:
			out.WriteByte('$')
			text = rest
		}
	}
	return out.String(), nil
}
