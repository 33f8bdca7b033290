package crash

import (
	"bytes"
	"regexp"
	"strings"
	"unicode"

	"solstice"
)

// Tail keeps the end of what a node writes to its stderr, and the beginning of its panic, however much follows that. The zero value
// is empty. It takes a bounded amount of memory.
type Tail struct {
	end    []byte   // of everything
	line   []byte   // the beginning of the line that is not whole yet
	before []string // the lines before the present one
	panic  []string // the first lines of a panic, and up to it
	led    []string // what stood before it
	traced bool     // the panic's trace has begun
}

const (
	keptEnd    = 64 << 10
	longest    = 400 // of a line that is shown, in bytes
	keptBefore = 3
	keptPanic  = 12 // lines
	keptLast   = 15
	shownLast  = 5
)

// Said is what a node has said on stderr, in lines that can be shown: no colours, nothing that moves a cursor, none too long.
type Said struct {
	Panic []string // the first lines of the panic that ended it; nil: none was seen
	Led   []string // the lines before these
	Last  []string // the last lines; usage texts are left out
}

// panicLine begins a panic or a fatal error of Go's runtime, or what it prints of a signal in native code (runtime/panic.go,
// runtime/signal_unix.go).
var panicLine = regexp.MustCompile(`^(panic: |fatal error: |SIG[A-Z]+: )`)

// beginsPanic asks the expression about few lines, as a node may print thousands a second.
func beginsPanic(line string) bool {
	return line != "" && strings.IndexByte("pfS", line[0]) >= 0 && panicLine.MatchString(line)
}

// Write takes what the node has written. It never fails.
func (t *Tail) Write(p []byte) (int, error) {
	t.keep(p)
	for rest := p; len(rest) > 0; {
		text, after, whole := bytes.Cut(rest, []byte("\n"))
		rest = after
		if room := longest + 1 - len(t.line); room < len(text) {
			text = text[:max(room, 0)]
		}
		t.line = append(t.line, text...)
		if !whole {
			break
		}
		t.look(string(t.line))
		t.line = t.line[:0]
	}
	return len(p), nil
}

// keep keeps the end.
func (t *Tail) keep(p []byte) {
	if len(p) > keptEnd {
		p = p[len(p)-keptEnd:]
	}
	if len(t.end)+len(p) > 2*keptEnd {
		kept := copy(t.end, t.end[len(t.end)-(keptEnd-len(p)):])
		t.end = t.end[:kept]
	}
	t.end = append(t.end, p...)
}

// look looks at a whole line. A second panic replaces the first one if that has come to its trace and did not end the node.
func (t *Tail) look(raw string) {
	line := shown(raw)
	switch {
	case beginsPanic(line) && (t.panic == nil || t.traced):
		t.panic, t.led, t.traced = nil, t.before, false
		if n := len(t.led) - 1; n >= 0 && strings.HasPrefix(t.led[n], "runtime: ") { // it says more than the line of the fatal error
			t.panic, t.led = []string{t.led[n]}, t.led[:n:n]
		}
		t.panic, t.before = append(t.panic, line), nil
	case t.panic != nil && strings.HasPrefix(line, "goroutine "):
		t.traced = true
	case t.panic != nil && !t.traced && len(t.panic) < keptPanic && line != "":
		t.panic = append(t.panic, line)
	}
	if line != "" {
		t.before = append(t.before, line)
		t.before = t.before[max(len(t.before)-keptBefore, 0):]
	}
}

// Said is what was said up to now.
func (t *Tail) Said() Said {
	now := *t
	if len(t.line) > 0 {
		now.before, now.panic = append([]string(nil), t.before...), append([]string(nil), t.panic...)
		if t.panic == nil {
			now.panic = nil
		}
		now.look(string(t.line))
	}
	end := t.end[max(len(t.end)-keptEnd, 0):]
	if len(t.end) > keptEnd {
		_, end, _ = bytes.Cut(end, []byte("\n")) // the first line is cut
	}
	return Said{Panic: append([]string(nil), now.panic...), Led: append([]string(nil), now.led...), Last: lastLines(string(end))}
}

// lastLines are the last lines of a text, without the usage texts that cobra prints after an error.
func lastLines(text string) (lines []string) {
	usage := false
	for raw := range strings.Lines(text) {
		line := shown(strings.TrimRight(raw, "\n"))
		switch {
		case strings.HasPrefix(line, "Usage:"):
			usage = true
		case usage && (line == "" || strings.HasPrefix(raw, " ") || strings.HasPrefix(raw, "\t") || strings.HasSuffix(line, ":") || strings.HasPrefix(line, "Use \"")):
		case line != "":
			usage = false
			lines = append(lines, line)
			lines = lines[max(len(lines)-keptLast, 0):]
		}
	}
	return lines
}

// Colours matches what colours a terminal.
var Colours = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// shown is a line as it can be shown.
func shown(line string) string {
	if len(line) <= longest && plain(line) {
		return strings.TrimSpace(line)
	}
	line = Colours.ReplaceAllString(line, "")
	if len(line) > longest {
		line = line[:longest] + " …"
	}
	line = strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, line)
	return strings.TrimSpace(line)
}

// plain says that a line has nothing but printable ASCII, as most have.
func plain(line string) bool {
	for i := range len(line) {
		if line[i] < ' ' || line[i] > '~' {
			return false
		}
	}
	return true
}

// find finds the words of a kind, in the panic and what led to it, else in the last lines.
func (s Said) find() (kind solstice.CrashKind, line string) {
	lines := s.Last
	if s.Panic != nil {
		lines = append(append([]string(nil), s.Panic...), s.Led...)
	}
	for _, w := range words() {
		for i := range lines {
			if w.pattern.MatchString(lines[i]) {
				return w.kind, lines[i]
			}
		}
	}
	return "", ""
}

// PanicIn returns the last panic in what a program has printed, from its first line up to its trace; ok says that there is one.
func PanicIn(text string) (panic string, ok bool) {
	at := strings.LastIndex("\n"+text, "\npanic: ")
	if at < 0 {
		return "", false
	}
	text, _, _ = strings.Cut(text[at:], "\n\n")
	text, _, _ = strings.Cut(text, "\ngoroutine ")
	return text, true
}
