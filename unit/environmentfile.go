package unit

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// pair is one line of a file of variables.
type pair struct{ name, value string }

// parseEnvironmentFile reads a file of variables, systemd.exec(5). Its syntax is neither
// that of a unit nor that of a shell.
func parseEnvironmentFile(content string) (pairs []pair, err error) {
	if !utf8.ValidString(content) || strings.ContainsRune(content, 0) {
		return nil, errors.New("it is not text")
	}
	p := environmentParser{text: content}
	for p.at < len(p.text) {
		c := p.text[p.at]
		switch {
		case strings.IndexByte(blanks, c) >= 0:
			p.at++
		case c == '#' || c == ';':
			if err := p.skipComment(); err != nil {
				return pairs, err
			}
		default:
			if name, ok := p.name(); ok {
				pairs = append(pairs, pair{name, p.value()})
			}
		}
	}
	return pairs, nil
}

type environmentParser struct {
	text string
	at   int
}

func isNewline(c byte) bool { return c == '\n' || c == '\r' }

// skipComment passes a comment. Whether the line after one that ends with a backslash
// belongs to it changed with systemd 254.
func (p *environmentParser) skipComment() error {
	start := p.at
	for p.at < len(p.text) && !isNewline(p.text[p.at]) {
		p.at++
	}
	comment, next := p.text[start:p.at], ""
	if p.at < len(p.text) {
		next, _, _ = strings.Cut(strings.ReplaceAll(p.text[p.at+1:], "\r", "\n"), "\n")
		next = strings.TrimLeft(next, blanks)
	}
	if endsEscaped(comment) && next != "" && next[0] != '#' && next[0] != ';' {
		const fault = "the comment %q ends with a backslash, and whether the next line counts depends on the version of systemd"
		return fmt.Errorf(fault, comment)
	}
	return nil
}

// name reads up to the equals sign. A line without one is passed.
func (p *environmentParser) name() (string, bool) {
	start := p.at
	for ; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; {
		case isNewline(c):
			return "", false
		case c == '=':
			p.at++
			return strings.TrimRight(p.text[start:p.at-1], blanks), true
		}
	}
	return "", false
}

// value reads up to the end of the line. Quoted pieces may go over several lines, and
// blanks between them are dropped.
func (p *environmentParser) value() string {
	var out strings.Builder
	plain := false // an unquoted piece has begun, in which quotes are characters
	kept := 0      // length up to which blanks at the end count
	for ; p.at < len(p.text); p.at++ {
		c := p.text[p.at]
		switch {
		case isNewline(c):
			p.at++
			return out.String()[:kept]
		case !plain && (c == '\'' || c == '"'):
			p.quoted(&out, c)
			kept = out.Len()
		case c == '\\':
			plain = true
			if p.at++; p.at < len(p.text) && !isNewline(p.text[p.at]) {
				out.WriteByte(p.text[p.at])
			}
			kept = out.Len()
		case strings.IndexByte(blanks, c) >= 0:
			if plain {
				out.WriteByte(c)
			}
		default:
			plain = true
			out.WriteByte(c)
			kept = out.Len()
		}
	}
	return out.String()[:kept]
}

// quoted reads a quoted piece, and leaves at on the closing quote.
func (p *environmentParser) quoted(out *strings.Builder, quote byte) {
	for p.at++; p.at < len(p.text); p.at++ {
		c := p.text[p.at]
		switch {
		case c == quote:
			return
		case c == '\\' && quote == '"':
			if p.at++; p.at == len(p.text) {
				return
			}
			if next := p.text[p.at]; strings.IndexByte("\"\\`$", next) >= 0 {
				out.WriteByte(next)
			} else if next != '\n' {
				out.WriteString(p.text[p.at-1 : p.at+1])
			}
		default:
			out.WriteByte(c)
		}
	}
}
