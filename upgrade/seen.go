package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"solstice"
	"solstice/internal/durable"
)

// Sighting is what this home has seen of one plan over time. A look at a single moment
// cannot tell a plan that the chain cancelled from one that it never had.
type Sighting struct {
	solstice.Plan
	// Scheduled is one more than the height at which x/upgrade was first seen to have
	// exactly this plan scheduled; 0: never. Unscheduled is one more than a later height,
	// below the plan's, at which it no longer had it; 0: never.
	Scheduled   int64 `json:"scheduled,omitempty"`
	Unscheduled int64 `json:"unscheduled,omitempty"`
	// Ahead says that the plan file held this plan while the chain was below its height,
	// and that the node had not written it: other hands placed it.
	Ahead bool `json:"ahead,omitempty"`
	// Over says that the plan was seen to be applied or passed. It is never due again,
	// unless the data is restored to below its height.
	Over bool `json:"over,omitempty"`
}

// Contradicted says that the chain had this plan scheduled and, later and below its
// height, no longer has.
func (s Sighting) Contradicted() bool { return s.Scheduled > 0 && s.Unscheduled > s.Scheduled }

// Seen are the sightings of a home's plans, in the order in which they were first seen.
type Seen []Sighting

// maxSeen bounds the list: a chain has one scheduled plan at a time.
const maxSeen = 64

// Of is the sighting of a plan; the zero Sighting if it was never seen.
func (s Seen) Of(p solstice.Plan) Sighting {
	if i := slices.IndexFunc(s, func(one Sighting) bool { return one.Is(p) }); i >= 0 {
		return s[i]
	}
	return Sighting{Plan: solstice.Plan{Name: p.Name, Height: p.Height}}
}

// with returns the list with a plan's sighting changed, and whether that changed it.
func (s Seen) with(p solstice.Plan, change func(*Sighting)) (Seen, bool) {
	before := s.Of(p)
	after := before
	change(&after)
	if after == before {
		return s, false
	}
	s = slices.Clone(s)
	if i := slices.IndexFunc(s, func(one Sighting) bool { return one.Is(p) }); i >= 0 {
		s[i] = after
		return s, true
	}
	s = append(s, after)
	return s[max(len(s)-maxSeen, 0):], true
}

// SawSchedule notes which plan x/upgrade has scheduled at a committed height; nil: none.
// Plans that were scheduled before, are still ahead of that height and are not this one
// were taken off. It returns whether anything is new.
func (s Seen) SawSchedule(scheduled *solstice.Plan, height int64) (Seen, bool) {
	changed := false
	if scheduled != nil && scheduled.Height > height {
		first := s.Of(*scheduled).Scheduled == 0
		again := s.Of(*scheduled).Contradicted()
		if first || again {
			s, changed = s.with(*scheduled, func(one *Sighting) { one.Scheduled, one.Unscheduled = height+1, 0 })
		}
	}
	for _, one := range s {
		if one.Scheduled == 0 || one.Contradicted() || one.Height <= height || scheduled != nil && one.Is(*scheduled) {
			continue
		}
		// An answer that is older than the one that had the plan says nothing.
		if height+1 > one.Scheduled {
			s, _ = s.with(one.Plan, func(one *Sighting) { one.Unscheduled = height + 1 })
			changed = true
		}
	}
	return s, changed
}

// SawAhead notes that the plan file holds a plan that is ahead of the chain, and that
// other hands placed it.
func (s Seen) SawAhead(p solstice.Plan) (Seen, bool) {
	return s.with(p, func(one *Sighting) { one.Ahead = true })
}

// SawOver notes that a plan is applied or passed.
func (s Seen) SawOver(p solstice.Plan) (Seen, bool) {
	return s.with(p, func(one *Sighting) { one.Over = true })
}

// ReadSeen reads what was seen in earlier runs. Without a file nothing was.
func ReadSeen(home solstice.Home) (Seen, error) {
	content, err := solstice.ReadFile(home.SeenFile(), solstice.MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var seen Seen
	if err := json.Unmarshal(content, &seen); err != nil {
		return nil, fmt.Errorf("%s: %w", home.SeenFile(), err)
	}
	return slices.DeleteFunc(seen, func(one Sighting) bool { return one.Validate() != nil }), nil
}

// Write replaces the file.
func (s Seen) Write(home solstice.Home) error {
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(home.SeenFile(), append(content, '\n'), 0o600)
}
