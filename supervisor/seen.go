package supervisor

import (
	"errors"
	"fmt"
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

// keepSeen writes what was seen of the chain's plans, where there is news. Where it can't
// be written it is known for as long as this supervisor lives.
func (s *Supervisor) keepSeen(news bool) {
	if news {
		s.warn("what was seen of the chain's plans can't be recorded", s.live.Seen.Write(s.Home))
	}
}

// noteSchedule takes in what the scout has heard of the chain's scheduled plan since it was
// looked at last.
func (s *Supervisor) noteSchedule() {
	o := s.ahead.Load()
	if o == nil || o == s.heardAhead || o.Fault != nil || o.Pace.Height == 0 || s.process == nil || !s.live.Height.Tied {
		return
	}
	s.heardAhead = o
	s.keepSeen(s.live.SawSchedule(o.Plan, o.Pace.Height))
}

const (
	unknownAfter = 30 * time.Second // how long a node may run before it matters that its height is unknown
	remindEvery  = 10 * time.Minute // how often what keeps a plan from being carried out is said again
)

// tellHeld says which plans are held, and that the height is unknown while a plan waits
// for it: again and again, because neither goes away by itself.
func (s *Supervisor) tellHeld(d upgrade.Decision) {
	for _, p := range d.Over {
		if what := "held " + p.String(); !s.reminded[what].IsZero() {
			delete(s.reminded, what)
			s.Log.Info("the height of a held plan has passed; it was not carried out", "plan", p.Name, "height", p.Height)
		}
	}
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
