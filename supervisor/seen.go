package supervisor

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"solstice/upgrade"
)

// loadSeen reads what was seen of the chain's plans in earlier runs.
func (s *Supervisor) loadSeen() {
	if s.live.SeenKnown {
		return
	}
	seen, err := upgrade.ReadSeen(s.Home)
	s.warn("what was seen of earlier plans can't be read; it is begun again", err)
	s.live.Seen, s.live.SeenKnown = seen, true
}

// noteSeen keeps what is new in what was seen of the chain's plans. Where it can't be
// written it is known for as long as this supervisor lives.
func (s *Supervisor) noteSeen(seen upgrade.Seen, changed bool) {
	if !changed {
		return
	}
	s.live.Seen = seen
	s.warn("what was seen of the chain's plans can't be recorded", seen.Write(s.Home))
}

// noteSchedule takes in what the scout has heard of the chain's scheduled plan since it was
// looked at last.
func (s *Supervisor) noteSchedule() {
	o := s.ahead.Load()
	if o == nil || o == s.heardAhead || o.Fault != nil || o.Pace.Height == 0 || s.process == nil {
		return
	}
	s.heardAhead = o
	s.noteSeen(s.live.Seen.SawSchedule(o.Plan, o.Pace.Height))
}

// noteOver keeps what a decision says of plans that are not outstanding, or ahead.
func (s *Supervisor) noteOver(d upgrade.Decision, facts upgrade.Gathered) {
	for _, p := range slices.Concat(d.Over, d.Drop) {
		if facts.Height.Reached(p.Height) && facts.Height.Tied {
			s.noteSeen(s.live.Seen.SawOver(p))
		}
	}
	for _, p := range d.Ahead {
		if facts.Height.Tied {
			s.noteSeen(s.live.Seen.SawAhead(p))
		}
	}
}

const (
	unknownAfter = 30 * time.Second // how long a node may run before it matters that its height is unknown
	remindEvery  = 10 * time.Minute // how often what keeps a plan from being carried out is said again
)

// tellHeld says which plans are held, and that the height is unknown while a plan waits
// for it: again and again, because neither goes away by itself.
func (s *Supervisor) tellHeld(d upgrade.Decision) {
	for _, h := range d.Held {
		s.remind("held "+h.Plan.String(), func() {
			s.Log.Warn("plan held", "plan", h.Name, "height", h.Height, "reason", h.Reason, "hint", h.Hint)
		})
	}
	s.unknown = ""
	if s.process == nil || s.live.Height.Known() || len(d.Pending) == 0 || s.heightFault == nil || s.uptime() < unknownAfter {
		return
	}
	next := d.Pending[0]
	s.unknown = fmt.Sprintf("the node's height is unknown, so plan %s is not carried out: %v", next.Plan, s.heightFault)
	s.remind("unknown", func() {
		s.Log.Warn("height unknown; a pending plan is not carried out", "plan", next.Name, "height", next.Height, "err", s.heightFault,
			"hint", "enable the node's RPC (laddr below [rpc] in config.toml), or set DAEMON_GRPC_ADDRESS")
	})
}

// uptime is how long the node has been running.
func (s *Supervisor) uptime() time.Duration { return time.Since(s.view.Load().Node.Since) }

// remind says something at first, and again after a while.
func (s *Supervisor) remind(what string, say func()) {
	if time.Since(s.reminded[what]) < remindEvery {
		return
	}
	if s.reminded == nil {
		s.reminded = map[string]time.Time{}
	}
	s.reminded[what] = time.Now()
	say()
}

// tellFileFaults says which optional files can't be used.
func (s *Supervisor) tellFileFaults(facts upgrade.Gathered) {
	s.warn("a file of solstice's own can't be used", errors.Join(facts.FileFaults()...))
}
