package rehearse

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"strings"

	"solstice/crash"
)

// words reads what a node and its solstice have written to a log, a piece at a time.
type words struct {
	path   string
	offset int64
	rest   []byte // of a line that is not whole yet

	errors   int
	lines    []string // of level error, the first of them
	panicked string   // the line that says so
	last     []string
}

const (
	shownErrors = 10
	shownLast   = 15
	longest     = 400 // of a line that is shown, in bytes
)

var (
	// The formats of the SDK's logger (text and JSON), of CometBFT's before it, and of slog.
	errorLine = regexp.MustCompile(`(?:^|[\s\x1b\[\]0-9;m])(?:ERR|ERROR|FTL|PNC)(?:\x1b\[0m)?\s|"level":"(?:error|fatal|panic)"|level=(?:error|ERROR)|^E\[`)
	panicLine = regexp.MustCompile(`^panic: |CONSENSUS FAILURE!!!`)
	// notErrors are what a node says of level error because of how it is rehearsed: it has no log of the blocks before, and databases
	// are closed twice at its end.
	notErrors = regexp.MustCompile(`error on catchup replay|leveldb: closed`)
)

// read reads what is new.
func (w *words) read() {
	f, err := os.Open(w.path)
	if err != nil {
		return
	}
	defer f.Close()
	fresh, err := io.ReadAll(io.NewSectionReader(f, w.offset, 1<<40))
	if err != nil {
		return
	}
	w.offset += int64(len(fresh))
	w.rest = append(w.rest, fresh...)
	for {
		line, rest, whole := bytes.Cut(w.rest, []byte("\n"))
		if !whole {
			return
		}
		w.rest = rest
		w.line(crash.Colours.ReplaceAllString(string(line), ""))
	}
}

func (w *words) line(line string) {
	if strings.TrimSpace(line) == "" {
		return
	}
	line, _, _ = strings.Cut(line, ` stack="`) // it is for the chain's developers, and in the log that --keep leaves
	if len(line) > longest {
		line = strings.ToValidUTF8(line[:longest], "") + " …"
	}
	if panicLine.MatchString(line) && w.panicked == "" {
		w.panicked = line
	}
	if errorLine.MatchString(line) && !notErrors.MatchString(line) {
		w.errors++
		if len(w.lines) < shownErrors {
			w.lines = append(w.lines, line)
		}
	}
	w.last = append(w.last, line)
	if len(w.last) > shownLast {
		w.last = w.last[1:]
	}
}
