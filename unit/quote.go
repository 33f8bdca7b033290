package unit

import (
	"fmt"
	"strings"
)

// QuoteSpecifiers keeps systemd from replacing what begins with a percent sign.
func QuoteSpecifiers(text string) string { return strings.ReplaceAll(text, "%", "%%") }

// QuoteValues writes words so that systemd reads them as they are in a list such as
// Environment=, where a dollar sign is itself.
func QuoteValues(words ...string) string {
	var quoted []string
	for _, text := range words {
		quoted = append(quoted, quoteAlways(QuoteSpecifiers(text)))
	}
	return strings.Join(quoted, " ")
}

// QuoteCommand writes a command so that systemd reads its words as they are, and refuses a
// program that systemd would refuse.
func QuoteCommand(words ...string) (string, error) {
	if err := checkProgram(words[0]); err != nil {
		return "", err
	}
	var quoted []string
	for i, text := range words {
		quoted = append(quoted, quoteWord(text, i > 0))
	}
	return strings.Join(quoted, " "), nil
}

// quoteWord writes one word of a command. In its arguments a dollar sign begins a variable,
// and in the program it does not.
func quoteWord(text string, variables bool) string {
	text = QuoteSpecifiers(text)
	if variables {
		text = strings.ReplaceAll(text, "$", "$$")
	}
	return quoteSource(text)
}

// quoteSource writes a word in which % and $ mean something already, in quotes if it needs
// them.
func quoteSource(text string) string {
	if text != "" && strings.IndexFunc(text, needsQuotes) < 0 {
		return text
	}
	return quoteAlways(text)
}

func needsQuotes(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-=:,+@%${}", r))
}

func quoteAlways(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
