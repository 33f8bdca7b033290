package readiness

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"solstice"
	"solstice/upgrade"
)

var fileChecks = []check{{"verified", asVerified}, {"permissions", nobodyElse}}

// asVerified looks at the plan's binary and at the one in use: what is another than the verified one is never started.
func asVerified(_ context.Context, s Subject) finding {
	var sources []string
	for _, dir := range slices.Compact([]string{s.Link, s.dir()}) {
		p, known, err := upgrade.ReadPrepared(s.Home, dir)
		if err == nil && !known {
			continue
		}
		if err == nil {
			err = p.Verify(s.Home, s.Probes)
		}
		if err == nil && dir == s.dir() && s.Plan.Info != "" {
			err = p.For(s.Home, s.Plan)
		}
		var refused *solstice.RefusedError
		switch {
		case errors.As(err, &refused):
			return notReady(refused.Hint, "%s", refused.Reason)
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return unknown("see that it can be read", "%v", err)
		case err == nil:
			sources = append(sources, dir+" is as it was downloaded from "+p.Source)
		}
	}
	if sources == nil {
		return ok("nothing here was downloaded, so there is nothing to compare")
	}
	return ok("%s", strings.Join(sources, "; "))
}
