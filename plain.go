package solstice

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Line is text from outside, such as a chain's plan names and a server's words, as it
// stands in one line of ours: without anything that a terminal obeys, that hides or
// reorders what is shown (control characters, escape sequences, marks of writing
// direction), or that begins another line. Each stands there as JSON would have it, such as
// \u001b.
func Line(text string) string { return plain(text, false) }

// Text is Line for a text of several lines, which stay lines.
func Text(text string) string { return plain(strings.ReplaceAll(text, "\r\n", "\n"), true) }

func plain(text string, lines bool) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return !shown(r, lines) }) && utf8.ValidString(text) {
		return text
	}
	var out strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&out, `\x%02x`, text[i])
		case shown(r, lines):
			out.WriteString(text[i : i+size])
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
		i += size
	}
	return out.String()
}

// shown says whether a character only shows itself.
func shown(r rune, lines bool) bool {
	return unicode.IsGraphic(r) || lines && (r == '\n' || r == '\t')
}

// PlainWriter writes the Text of what it is given. The rest of a document in JSON stays
// what it was, as there the same characters may be written so.
type PlainWriter struct {
	To   io.Writer
	mu   sync.Mutex
	rest []byte // of a character that is not whole yet
}

// Write writes all but the beginning of a character.
func (w *PlainWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := append(w.rest, p...)
	end := len(text)
	for i := 1; i < utf8.UTFMax && i <= len(text); i++ {
		if b := text[len(text)-i]; utf8.RuneStart(b) {
			if !utf8.FullRune(text[len(text)-i:]) {
				end = len(text) - i
			}
			break
		}
	}
	w.rest = append([]byte(nil), text[end:]...)
	if _, err := io.WriteString(w.To, Text(string(text[:end]))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// File is the file that it writes to, or nil: for what only a terminal is to see.
func (w *PlainWriter) File() *os.File {
	f, _ := w.To.(*os.File)
	return f
}
