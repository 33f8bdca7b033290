package simulate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"solstice"
	"solstice/localnet"
)

const (
	// lateBy is how long after its halt a late node gets its binary.
	lateBy = 5 * time.Second
	// standingLimit is how long a network may stand still that waits for nodes whose binaries are missing.
	standingLimit = 15 * time.Second
)

// upgrade takes the network through one plan. An error is for what the network can't go on from.
func (s *Simulation) upgrade(ctx context.Context, i int) error {
	u, old := s.config.Upgrades[i], s.chains[i]
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, s.config.Patience, fmt.Errorf("upgrade %s was not done after %s", u.Name, took(s.config.Patience)))
	defer cancel()
	for _, m := range s.members {
		if s.attached || s.isIn(s.config.Late, m) || s.isIn(s.config.Missing, m) {
			continue
		}
		if err := m.Place(u.Name, s.chains[i+1].Path); err != nil {
			return err
		}
	}
	plan, proposal, err := s.schedule(ctx, old, u.Name, s.result.height()+s.config.BlocksBetween)
	if err != nil {
		return err
	}
	s.result.Upgrades = append(s.result.Upgrades, Passed{Plan: plan, Proposal: proposal, Scheduled: time.Now()})
	s.screen.Say("scheduled: %s, decided %s after it was begun", plan, took(time.Since(began)))

	faults, stopFaults := context.WithCancel(ctx)
	defer stopFaults()
	failed := make(chan error, len(s.members))
	for _, m := range s.members {
		if s.isIn(s.config.Kill, m) {
			s.killDuring(m, failed)
		}
		if s.isIn(s.config.Late, m) {
			go func() { failed <- s.bringLate(faults, m, plan, s.chains[i+1].Path) }()
		}
	}
	told := map[*member]bool{}
	progress := newProgress()
	defer s.notKilled(plan)
	return localnet.Poll(ctx, func() (bool, error) {
		select {
		case err := <-failed:
			if err != nil {
				return false, err
			}
		default:
		}
		return s.through(plan, told, progress)
	})
}

// through says whether every node has gone through a plan, and tells of each that has, once. It is an error if none but nodes whose
// binaries are missing are left, or if the network stands still for want of them.
func (s *Simulation) through(plan solstice.Plan, told map[*member]bool, progress *progress) (bool, error) {
	var left []string // what those are doing that are not through
	onlyMissing := true
	for _, m := range s.members {
		u, waiting, found := m.watched.passage(plan.Name)
		view := m.watched.view()
		progress.note(m.Name, fmt.Sprint(view.Height, view.State, len(u.Steps)))
		missing := s.isIn(s.config.Missing, m) && waiting != ""
		switch {
		case found && u.State == "confirmed" && u.Standing.Total > 0: // and the first block after it was made
			if !told[m] {
				told[m] = true
				s.screen.Say("%-12s %s: stood still %s, of it Solstice %s, start and migration %s", m.Name, plan.Name,
					took(time.Duration(u.Standing.Total)), took(time.Duration(u.Standing.Ours)), took(time.Duration(u.Standing.Migration)))
			}
			continue
		case view.Ended:
			return false, fmt.Errorf("%s has ended in upgrade %s: %s", m.Name, plan.Name, s.lastWords(m))
		case missing:
			left = append(left, m.Name+" has no binary for "+plan.Name+" and waits")
		default:
			left = append(left, m.Name+": "+view.State)
		}
		onlyMissing = onlyMissing && missing
	}
	switch {
	case len(left) == 0:
		s.screen.Say("%s: every node has gone through it", plan)
		return true, nil
	case onlyMissing, len(s.config.Missing) > 0 && progress.since() > standingLimit:
		return false, errors.New(strings.Join(left, "; "))
	}
	return false, nil
}

// progress is when something was seen to change last.
type progress struct {
	seen map[string]string
	at   time.Time
}

func newProgress() *progress { return &progress{seen: map[string]string{}, at: time.Now()} }

func (p *progress) note(name, what string) {
	if p.seen[name] != what {
		p.seen[name], p.at = what, time.Now()
	}
}

func (p *progress) since() time.Duration { return time.Since(p.at) }

// killDuring kills a node's solstice in the middle of its next upgrade, and starts it again. That is done by who watches the node, so
// nobody sees it ended in between.
func (s *Simulation) killDuring(m *member, failed chan<- error) {
	m.watched.mu.Lock()
	defer m.watched.mu.Unlock()
	m.watched.doing = func(step string) {
		err := m.watched.current().Kill()
		if err == nil {
			s.screen.Say("%s: its solstice was killed at the step %s, and is started again", m.Name, step)
			s.result.note("%s: solstice was killed at the step %s, and started again", m.Name, step)
			err = s.start(m)
		}
		if err != nil {
			failed <- err
		}
	}
}

// notKilled notes which nodes were to be killed in an upgrade, and went through it before that could be seen.
func (s *Simulation) notKilled(plan solstice.Plan) {
	for _, m := range s.members {
		m.watched.mu.Lock()
		if m.watched.doing != nil {
			m.watched.doing = nil
			s.result.note("%s: solstice was to be killed in the middle of %s, and was through before that was seen", m.Name, plan.Name)
		}
		m.watched.mu.Unlock()
	}
}

// bringLate gives a node its binary some time after it has halted for want of it.
func (s *Simulation) bringLate(ctx context.Context, m *member, plan solstice.Plan, binary string) error {
	err := localnet.Poll(ctx, func() (bool, error) {
		_, waiting, _ := m.watched.passage(plan.Name)
		return waiting != "", nil
	})
	if err != nil {
		return nil // it never halted, which shows elsewhere
	}
	s.screen.Say("%s: halts for %s, and has no binary; it comes in %s", m.Name, plan.Name, took(lateBy))
	if !every(ctx, lateBy) {
		return nil
	}
	if err := m.Solstice(ctx, "add-upgrade", plan.Name, binary); err != nil {
		return fmt.Errorf("%s: bring the binary of %s: %w", m.Name, plan.Name, err)
	}
	s.screen.Say("%s: the binary of %s has come", m.Name, plan.Name)
	s.result.note("%s: the binary of %s came %s after its halt", m.Name, plan.Name, took(lateBy))
	return nil
}

// lastWords is why a node has ended, as its log says: what the node printed of it, and what solstice makes of that.
func (s *Simulation) lastWords(m *member) string {
	content, err := os.ReadFile(s.log(m))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	var said []string
	find := func(prefixes ...string) {
		for _, line := range slices.Backward(lines) {
			if line = plain(line); slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(line, prefix) }) {
				said = append(said, strings.TrimPrefix(line, "solstice: error: "))
				return
			}
		}
	}
	find("panic: ", "Error: ")
	find("solstice: error: ")
	if said == nil {
		said = []string{plain(lines[len(lines)-1])}
	}
	return strings.Join(said, "; ")
}
