package solstice

import "strings"

// Exit codes of the solstice command besides 0 and the node's own (COMPAT.md A2).
const (
	// ExitFailed means that something failed in the middle. The journal brings the next start back to it.
	ExitFailed = 1
	// ExitRefused means that Solstice declined and changed nothing.
	ExitRefused = 3
	// ExitSignal plus a signal's number means that the signal ended the node, or Solstice on request.
	ExitSignal = 128
)

// RefusedError says that Solstice declined and changed nothing, why, and what the operator can do.
type RefusedError struct {
	Reason string
	Hint   string // the next step, best as a command; several lines are several hints
}

func (e *RefusedError) Error() string { return e.Reason }

// Hints returns the lines of the hint.
func (e *RefusedError) Hints() []string {
	if e.Hint == "" {
		return nil
	}
	return strings.Split(e.Hint, "\n")
}
