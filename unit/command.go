package unit

import (
	"fmt"
	"strconv"
	"strings"
)

// Command is one command line of a unit.
type Command struct {
	Line  string // as it is written
	words []word
}

// word is one word of a line, and where it stands there.
type word struct {
	text     string // without quotes and escapes
	from, to int
}

// prefixes may stand before a program, systemd.service(5).
const prefixes = "@-:+!|"

func parseCommand(line string) (Command, error) {
	words, err := split(line)
	if err == nil && len(words) > 0 {
		w := &words[0]
		program := strings.TrimLeft(line[w.from:w.to], prefixes)
		w.from = w.to - len(program)
		w.text = strings.TrimLeft(w.text, prefixes)
	}
	return Command{line, words}, err
}

// Words are the words of the command, the program first, as they stand in the unit: with % and $.
func (c Command) Words() (texts []string) {
	for _, w := range c.words {
		texts = append(texts, w.text)
	}
	return texts
}

// Replace returns the line with another program in the place of a word. Everything else stays as it is written.
func (c Command) Replace(word int, program string) string {
	w := c.words[word]
	return c.Line[:w.from] + Quote(program) + c.Line[w.to:]
}

// Prefixes is what stands before the program and is none of its name.
func (c Command) Prefixes() string {
	if len(c.words) == 0 {
		return ""
	}
	return c.Line[:c.words[0].from]
}

// Before is what stands before a word: the prefixes, but for the dash that lets a failure pass for a success, and the words of what it is
// started through, such as env.
func (c Command) Before(word int) string {
	return strings.ReplaceAll(c.Prefixes(), "-", "") + c.Line[c.words[0].from:c.words[word].from]
}

// Quote writes a word so that systemd reads it as it is.
func Quote(text string) string {
	text = strings.NewReplacer("%", "%%", "$", "$$").Replace(text)
	if strings.ContainsAny(text, " \t\"'\\;") {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
	}
	return text
}

// Expand returns the words as the program gets them: with the specifiers and the service's variables put in.
func (s *Service) Expand(words []string) (args []string, err error) {
	for _, text := range words {
		if text, err = s.specify(text); err != nil {
			return nil, err
		}
		if name, ok := strings.CutPrefix(text, "$"); ok && isName(name) {
			args = append(args, strings.Fields(s.Env[name])...) // a variable that is a word of its own is split
			continue
		}
		args = append(args, s.expandWithin(text))
	}
	return args, nil
}

func (s *Service) expandWithin(text string) string {
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
		case strings.HasPrefix(rest, "{") && closed && isName(name):
			out.WriteString(s.Env[name])
			text = after
		default:
			out.WriteByte('$')
			text = rest
		}
	}
	return out.String()
}

func isName(text string) bool {
	return text != "" && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// split splits a line as systemd does: at blanks that are not quoted or escaped.
func split(line string) (words []word, err error) {
	var text strings.Builder
	from, quote := -1, byte(0)
	end := func(to int) {
		if from >= 0 {
			words = append(words, word{text.String(), from, to})
			text.Reset()
			from = -1
		}
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		if quote == 0 && (c == ' ' || c == '\t') {
			end(i)
			continue
		}
		if from < 0 {
			from = i
		}
		switch {
		case c == '\\' && i+1 < len(line):
			value, length := unescape(line[i:])
			text.WriteString(value)
			i += length - 1
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		default:
			text.WriteByte(c)
		}
	}
	end(len(line))
	if quote != 0 {
		return words, fmt.Errorf("a quote is not closed: %s", line)
	}
	return words, nil
}

// unescape reads the escape that a text begins with. One that systemd does not know stays as it is.
func unescape(text string) (value string, length int) {
	switch c := text[1]; c {
	case 'n':
		return "\n", 2
	case 't':
		return "\t", 2
	case 's':
		return " ", 2
	case '\\', '"', '\'':
		return string(c), 2
	case 'x':
		if len(text) >= 4 {
			if n, err := strconv.ParseUint(text[2:4], 16, 8); err == nil {
				return string([]byte{byte(n)}), 4
			}
		}
	}
	return text[:2], 2
}
