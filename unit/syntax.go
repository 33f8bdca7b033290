package unit

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// blanks are what systemd takes for white space.
const blanks = " \t\n\r"

// joinLines are the lines of a file as systemd reads them: without comments, also those
// inside of a continued line, and those that end with a backslash joined to the next.
func joinLines(content string) (joined []string) {
	content = strings.TrimPrefix(content, "\ufeff")
	content = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\x00", "\n").Replace(content)
	line, open := "", false
	for text := range strings.Lines(content) {
		text = strings.TrimSuffix(text, "\n")
		if start := strings.TrimLeft(text, blanks); start != "" && (start[0] == '#' || start[0] == ';') {
			continue
		}
		line += text
		if open = endsEscaped(line); open {
			line = line[:len(line)-1] + " "
			continue
		}
		if line = strings.Trim(line, blanks); line != "" {
			joined = append(joined, line)
		}
		line = ""
	}
	if line = strings.Trim(line, blanks); open && line != "" {
		joined = append(joined, line)
	}
	return joined
}

// endsEscaped says whether a text ends with a backslash that is not escaped itself.
func endsEscaped(text string) bool {
	n := len(text) - len(strings.TrimRight(text, `\`))
	return n%2 == 1
}

// word is one word of a line, and where it stands there.
type word struct {
	text     string // without quotes and escapes
	from, to int
}

// rules are what differs between the settings that are split into words.
type rules struct {
	keepEscapes bool // a backslash before a character stands for that character
	relaxed     bool // an escape that is not known stays as it is
	open        bool // a quote that is not closed ends with the text
}

// split splits a text as systemd does: at blanks that are not quoted or escaped. With an
// error come the words before it.
func split(text string, r rules) (words []word, err error) {
	for i := 0; ; {
		for i < len(text) && strings.IndexByte(blanks, text[i]) >= 0 {
			i++
		}
		if i == len(text) {
			return words, nil
		}
		w, err := firstWord(text, i, r)
		if err != nil {
			return words, err
		}
		words = append(words, w)
		i = w.to
	}
}

// firstWord reads the word that begins at an index.
func firstWord(text string, from int, r rules) (word, error) {
	var out strings.Builder
	quote := byte(0)
	i := from
	for ; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '\\':
			if i+1 == len(text) {
				if r.relaxed && quote == 0 {
					out.WriteByte(c)
				} else if !r.open {
					return word{}, fmt.Errorf("nothing follows the backslash at the end: %s", text)
				}
				continue
			}
			value, length, ok := unescape(text[i+1:])
			switch {
			case r.keepEscapes:
				value, length = text[i+1:i+2], 1
			case !ok && r.relaxed:
				value, length = text[i:i+2], 1
			case !ok:
				return word{}, fmt.Errorf("systemd does not know the escape %q: %s", text[i:i+2], text)
			}
			out.WriteString(value)
			i += length
		case quote == 0 && strings.IndexByte(blanks, c) >= 0:
			return word{out.String(), from, i}, nil
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		default:
			out.WriteByte(c)
		}
	}
	if quote != 0 && !r.open {
		return word{}, fmt.Errorf("a quote is not closed: %s", text)
	}
	return word{out.String(), from, i}, nil
}

// escapes are those of one character after the backslash.
var escapes = map[byte]string{
	'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v", '\\': `\`, '"': `"`, '\'': "'", 's': " ",
}

// unescape reads the escape that follows a backslash. ok is false for one that systemd does
// not know.
func unescape(text string) (value string, length int, ok bool) {
	if value, ok := escapes[text[0]]; ok {
		return value, 1, true
	}
	digits, base, from := 0, 16, 1
	switch c := text[0]; {
	case c == 'x':
		digits = 2
	case c == 'u':
		digits = 4
	case c == 'U':
		digits = 8
	case c >= '0' && c <= '7':
		digits, base, from = 3, 8, 0
	}
	end := from + digits
	if digits == 0 || len(text) < end || strings.ContainsAny(text[from:end], "+-_") {
		return "", 0, false
	}
	n, err := strconv.ParseUint(text[from:end], base, 32)
	switch {
	case err != nil || n == 0:
		return "", 0, false
	case text[0] == 'u' || text[0] == 'U':
		return string(rune(n)), end, text[0] == 'u' || utf8.ValidRune(rune(n))
	case n > 255:
		return "", 0, false
	}
	return string([]byte{byte(n)}), end, true
}

// timeUnits are the units of a time span, by systemd.time(7).
var timeUnits = map[string]time.Duration{
	"usec": time.Microsecond, "us": time.Microsecond, "µs": time.Microsecond, "μs": time.Microsecond,
	"msec": time.Millisecond, "ms": time.Millisecond,
	"seconds": time.Second, "second": time.Second, "sec": time.Second, "s": time.Second, "": time.Second,
	"minutes": time.Minute, "minute": time.Minute, "min": time.Minute, "m": time.Minute,
	"hours": time.Hour, "hour": time.Hour, "hr": time.Hour, "h": time.Hour,
	"days": day, "day": day, "d": day, "weeks": 7 * day, "week": 7 * day, "w": 7 * day,
	"months": month, "month": month, "M": month, "years": year, "year": year, "y": year,
}

const (
	day   = 24 * time.Hour
	month = year / 12
	year  = 8766 * time.Hour // 365.25 days
)

// parseSpan reads a time span of systemd, such as 5min 20s. No limit is 0, which is written
// 0 or infinity. A span that systemd would ignore is not ok.
func parseSpan(text string) (total time.Duration, ok bool) {
	text = strings.Trim(text, blanks)
	if text == "infinity" {
		return 0, true
	}
	for text != "" {
		digits := strings.TrimLeft(text, "0123456789.")
		number := text[:len(text)-len(digits)]
		rest := strings.TrimLeft(digits, blanks)
		unit := rest
		if end := strings.IndexAny(rest, blanks+"0123456789."); end >= 0 {
			unit = rest[:end]
		}
		multiplier, known := timeUnits[unit]
		value, err := strconv.ParseFloat(number, 64)
		if err != nil || !known || strings.HasSuffix(number, ".") {
			return 0, false
		}
		if value*float64(multiplier) >= float64(math.MaxInt64-total) {
			return 0, true // centuries
		}
		total += time.Duration(value * float64(multiplier))
		text = strings.TrimLeft(rest[len(unit):], blanks)
		ok = true
	}
	return total, ok
}
