package readiness

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"solstice/artifact"
	"solstice/sidecar"
	"solstice/upgrade"
)

// sidecarsThere: at the height a plan waits for its sidecars' binaries as for the node's. What the present ones lack keeps the node from
// nothing.
func sidecarsThere(_ context.Context, s Subject) finding {
	if lack := upgrade.CheckSidecars(s.Home, s.dir()); s.Plan.Name != "" && !s.Home.SwitchesItself && lack != (upgrade.Lack{}) {
		return notReady(lack.Hint(s.Plan.Name), "%s", lack.Fault)
	}
	for _, path := range sidecar.Programs(s.Sidecars) {
		if err := artifact.Check(path); err != nil {
			return warning("put it there; a sidecar that can't be started is tried again and again", "a program of a sidecar can't run: %v", err)
		}
	}
	if lack := upgrade.CheckSidecars(s.Home, s.Link); s.Link != "" && lack != (upgrade.Lack{}) {
		return warning(fmt.Sprintf("install -m 755 PATH %s", s.Home.File(s.Link, lack.File)), "in use now: %s", lack.Fault)
	}
	var names []string
	for _, one := range s.Sidecars {
		names = append(names, fmt.Sprintf("%s (%s)", one.Name, filepath.Base(one.Command[0])))
	}
	return ok("the binaries of %s can run here", strings.Join(names, ", "))
}
