package solstice

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Exit codes of the solstice command besides 0, the node's own, and 128 plus the number of a signal that ended it
// (docs/cosmovisor.md A2).
const (
	// ExitFailed means that something failed in the middle. The journal brings the next start back to it.
	ExitFailed = 1
	// ExitRefused means that Solstice declined and changed nothing.
	ExitRefused = 3
)

// RefusedError says that Solstice declined and changed nothing, why, and what the operator can do.
type RefusedError struct {
	Reason   string
	Evidence Lines  // what was found, where the reason alone does not show it
	Hint     string // the next step, best as a command; several lines are several hints
}

// Lines are what was found, for people: one thing a line.
type Lines []struct{ What, Value string }

// Add adds a line.
func (l *Lines) Add(what, format string, values ...any) {
	*l = append(*l, struct{ What, Value string }{what, fmt.Sprintf(format, values...)})
}

// Print prints the lines as a table.
func (l Lines) Print(w io.Writer, prefix string) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range l {
		fmt.Fprintf(table, "%s%s\t%s\n", prefix, line.What, line.Value)
	}
	return table.Flush()
}

func (e *RefusedError) Error() string { return e.Reason }

// Hints returns the lines of the hint.
func (e *RefusedError) Hints() []string {
	if e.Hint == "" {
		return nil
	}
	return strings.Split(e.Hint, "\n")
}

// CrashError says that the node has ended with an error and is not started again, and what it most likely was.
type CrashError struct {
	Reason string
	Crash  Crash
}

func (e *CrashError) Error() string { return e.Reason }

// Hints returns what to do about the crash.
func (e *CrashError) Hints() []string { return []string{e.Crash.Do} }

// HintOf is the hint of the refusal that an error is, or otherwise what is given.
func HintOf(err error, otherwise string) string {
	var refused *RefusedError
	if errors.As(err, &refused) && refused.Hint != "" {
		return refused.Hint
	}
	return otherwise
}
