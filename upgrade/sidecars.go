package upgrade

import (
	"fmt"

	"solstice"
	"solstice/artifact"
	"solstice/internal/shell"
)

// Lack is why a sidecar's binary in a directory can't be used. The zero value is none.
type Lack struct {
	File  string // its name
	Fault string
}

// Hint is what to do about it.
func (l Lack) Hint(plan string) string {
	return fmt.Sprintf("place the sidecar's binary: solstice add-upgrade %s --sidecar %s=PATH", shell.Quote(plan), shell.Quote(l.File))
}

// CheckSidecars says which sidecar's binary in a directory can't be started.
func CheckSidecars(home solstice.Home, dir string) (lack Lack) {
	for _, name := range home.Sidecars {
		if err := artifact.Check(home.File(dir, name)); err != nil {
			return Lack{name, fmt.Sprintf("the binary of a sidecar can't run: %v", err)}
		}
	}
	return Lack{}
}
