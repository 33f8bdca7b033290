package supervisor

import (
	"context"
	"slices"
	"sync"
	"time"

	"solstice"
	"solstice/node"
)

const (
	scoutEvery     = 30 * time.Second // how often the chain is asked for its plan
	scoutFirst     = time.Second      // the same until it answers for the first time after a start
	scoutProposals = 5 * time.Minute  // how often it is asked for its proposals
	scoutQuiet     = time.Minute      // how close to a plan's height no proposals are asked for
)

// startScout asks the chain, beside the loop, what comes. It asks while the node runs and no upgrade is under way, one
// question after the other, and has no part in what is decided.
func (s *Supervisor) startScout() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() {
		var proposalsAt time.Time
		var ready examined
		pause := scoutFirst
		for {
			if !s.pauseScout(ctx, pause, ready) {
				return
			}
			if s.view.Load().State != "running" {
				s.still.Store(nil)
				pause = scoutFirst
				continue
			}
			var before Outlook
			if last := s.ahead.Load(); last != nil {
				before = *last
			}
			now := before
			now.ask(ctx, s.now().Node)
			if now.Fault == nil && time.Since(proposalsAt) >= scoutProposals && !now.near() {
				now.askProposals(ctx, s.now().Node)
				proposalsAt = time.Now()
			}
			if ctx.Err() != nil || s.view.Load().State != "running" {
				continue // it was stopped in the middle of the question
			}
			s.ahead.Store(&now)
			s.tellAhead(before, now)
			if now.Plan != nil {
				s.wish(*now.Plan)
			}
			s.examine(ctx, &ready, now)
			pause = min(now.pause(), s.seeStandstill(ctx, now.Pace))
			if now.Fault != nil && !noAddress(now.Fault) && time.Since(s.view.Load().Node.Since) < scoutEvery {
				pause = scoutFirst // its RPC is not up yet
			}
		}
	})
	return func() {
		cancel()
		wait.Wait()
	}
}

// pauseScout waits until the chain is to be asked again, or until the binary that was examined has changed and stays as it is:
// whoever has brought another wants to see what it is worth. It says whether the scout is to go on.
func (s *Supervisor) pauseScout(ctx context.Context, pause time.Duration, last examined) bool {
	const look = time.Second
	before := last.binary
	for deadline := time.Now().Add(pause); ; {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(min(look, time.Until(deadline))):
		}
		if !time.Now().Before(deadline) {
			return true
		}
		if last.plan.Name == "" {
			continue
		}
		now := s.stamp(last.plan)
		if now != last.binary && now == before {
			return true
		}
		before = now
	}
}

// pause is how soon the chain is asked again: a plan can be cancelled until the last block before it.
func (o Outlook) pause() time.Duration {
	if o.Plan == nil {
		return scoutEvery
	}
	at, _, ok := o.Pace.At(o.Plan.Height)
	if !ok {
		return scoutEvery
	}
	return min(max(time.Until(at)/10, scoutFirst), scoutEvery)
}

// near says whether the scheduled plan is so close that nobody else should keep the node busy.
func (o Outlook) near() bool {
	if o.Plan == nil {
		return false
	}
	at, _, ok := o.Pace.At(o.Plan.Height)
	return !ok || time.Until(at) < scoutQuiet
}

// tellAhead says what has changed.
func (s *Supervisor) tellAhead(before, now Outlook) {
	switch {
	case noAddress(now.Fault):
		return
	case now.Fault != nil:
		if before.Asked.IsZero() || before.Fault == nil {
			s.Log.Info("the chain does not say what comes; it is asked again", "err", now.Fault)
		}
		return
	case before.Fault != nil:
		s.Log.Info("the chain says again what comes")
	}
	was, is := before.Plan, now.Plan
	switch {
	case is != nil && (was == nil || !was.Is(*is)):
		values := []any{"plan", is.Name, "height", is.Height, "blocks ahead", is.Height - now.Pace.Height}
		if at, uncertainty, ok := now.Pace.At(is.Height); ok {
			values = append(values, "expected", at.Round(time.Second), "give or take", uncertainty.Round(time.Second))
		}
		if was != nil {
			values = append(values, "in place of", was.String())
		}
		s.Log.Info("upgrade scheduled", values...)
	case is == nil && was != nil && now.Pace.Height < was.Height-1:
		s.Log.Warn("the scheduled upgrade was cancelled", "plan", was.Name, "height", was.Height)
	}
	for _, p := range now.Proposals {
		if !slices.ContainsFunc(before.Proposals, func(old node.Proposal) bool { return old.ID == p.ID && old.Status == p.Status }) {
			s.Log.Info("proposal about an upgrade", "proposal", p.ID, "title", p.Title, "plan", planOf(p), "status", p.Status, "ends", p.Ends.Round(time.Second))
		}
	}
	for _, p := range before.Proposals {
		if !slices.ContainsFunc(now.Proposals, func(still node.Proposal) bool { return still.ID == p.ID }) && !now.shows(p) {
			s.Log.Info("proposal about an upgrade has ended without effect", "proposal", p.ID, "title", p.Title, "plan", planOf(p))
		}
	}
}

// shows says whether a proposal that has ended was carried out, as far as it can be seen: its plan is scheduled, or nothing is that it
// could cancel. Behind its height nothing of it can be seen any more; then an upgrade has told it, or nobody waits for it.
func (o Outlook) shows(ended node.Proposal) bool {
	if n := len(ended.Plans); n > 0 {
		plan := ended.Plans[n-1]
		return o.Plan != nil && o.Plan.Is(plan) || plan.Height <= o.Pace.Height+1
	}
	return o.Plan == nil
}

func planOf(p node.Proposal) string {
	if n := len(p.Plans); n > 0 {
		return p.Plans[n-1].String()
	}
	return "cancels the scheduled one"
}

// addAhead enters what the scout has seen into a status.
func (s *Supervisor) addAhead(status *solstice.Status) {
	var o Outlook
	if last := s.ahead.Load(); last != nil {
		o = *last
	}
	o.AddTo(status, s.Home)
	r := status.Readiness
	if r != nil && !slices.ContainsFunc(status.Coming, func(c solstice.Coming) bool { return c.Name == r.Plan && c.Height == r.Height }) {
		status.Readiness = nil // the plan is cancelled, or behind us, and the scout has not looked since
	}
}
