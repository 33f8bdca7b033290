package solstice

import "strings"

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
