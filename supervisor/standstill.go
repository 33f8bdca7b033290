package supervisor

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"solstice"
	"solstice/internal/shell"
	"solstice/node"
	"solstice/upgrade"
)

const (
	standstillAfter  = 30 * time.Second // without a block; a chain whose blocks take longer is given more
	standstillBlocks = 10               // times as long as one of its blocks takes
	standstillEvery  = 10 * time.Second // how often it is looked at again
)

// seeStandstill finds out why a running node gets no further: a consensus that has failed does not end the process, and stderr may be
// silent about it. It says how soon it is to be asked again.
func (s *Supervisor) seeStandstill(ctx context.Context, pace node.Pace) (again time.Duration) {
	v := s.view.Load()
	height := v.Live.Height
	switch {
	case !height.Known(),
		height.Low == 0 && s.now().Settings.StateSync, // it fetches a state, which takes its time
		v.Waiting != "": // the halt for a plan that waits is told already
		s.tellStandstill(nil)
		return scoutEvery
	}
	if left := max(standstillAfter, standstillBlocks*pace.Usual) - time.Since(v.HeardAt); left > 0 {
		s.tellStandstill(nil)
		return max(left, scoutFirst)
	}
	ctx, cancel := context.WithTimeout(ctx, chainLimit)
	defer cancel()
	consensus, err := s.now().Node.Consensus(ctx)
	if err != nil || consensus.Height > height.Low+1 {
		return standstillEvery // nothing new is known, or it has gone on just now
	}
	still := standstill(consensus, height.Low, s.now().Settings.NoEmptyBlocks)
	if o := s.ahead.Load(); o != nil && o.Plan != nil && o.Plan.Height == height.Low+1 {
		still = noPlanFile(still, s.Home, *o.Plan, height.Low, len(consensus.Peers))
	}
	if still != nil {
		still.Since = v.HeardAt
	}
	s.tellStandstill(still)
	if still != nil {
		s.seePassed(ctx, height.Low)
	}
	return standstillEvery
}

// noPlanFile is a node that halted for its scheduled plan, as far as its height says, and
// whose plan file did not come where it is expected.
func noPlanFile(still *solstice.Standstill, home solstice.Home, plan solstice.Plan, committed int64, peers int) *solstice.Standstill {
	if now, err := solstice.ReadPlan(home.PlanFile()); err == nil && now.Is(plan) {
		return still
	}
	found := &solstice.Standstill{
		Kind: solstice.StandstillNoPlanFile, Height: committed, Peers: peers,
		Cause: fmt.Sprintf("the chain has plan %s scheduled for the next block, and no plan file came: looked for %s", plan, home.PlanFile()),
		Do:    "see where the node writes upgrade-info.json, and start it with --home " + shell.Quote(home.Dir),
	}
	for _, dir := range []string{home.Root(), filepath.Join(home.Root(), "data"), filepath.Join(home.Dir, "data"), home.Node} {
		elsewhere := filepath.Join(dir, filepath.Base(home.PlanFile()))
		if now, err := solstice.ReadPlan(elsewhere); err == nil && now.Is(plan) && elsewhere != home.PlanFile() {
			found.Cause += "; found " + elsewhere
			found.Do = fmt.Sprintf("move it to where solstice looks: mv %s %s", shell.Quote(elsewhere), shell.Quote(home.PlanFile()))
		}
	}
	return found
}

// seePassed finds out whether the state of a node that makes no blocks went through a plan
// that its binary did not: state that was fetched from elsewhere, by state sync or from a
// snapshot, may be of a later version. The chain's own word for a plan counts, and only
// where the plan's binary is here.
func (s *Supervisor) seePassed(ctx context.Context, committed int64) {
	facts, err := upgrade.Gather(s.Home, s.view.Load().Live, &s.probes)
	if err != nil {
		return
	}
	for _, dir := range facts.Staged {
		name, err := url.PathUnescape(filepath.Base(dir))
		if err != nil {
			continue
		}
		height, err := s.now().Node.Applied(ctx, name)
		if err != nil || height <= 0 || height > committed {
			continue
		}
		select {
		case s.passed <- solstice.Plan{Name: name, Height: height}:
		default: // the loop has not seen to the last one yet
		}
		return
	}
}

// statePassed stops a node whose state went through a plan that its binary did not, to
// read its databases: what they say decides (L2). It is done once per plan.
func (s *Supervisor) statePassed(p solstice.Plan) {
	if s.process == nil || s.work != nil || s.statePassedFor.Is(p) {
		return
	}
	s.statePassedFor = p
	s.stopToExamine(p, "the node's state has applied it, and the binary that runs is older")
}

// standstill is why a node gets no further that has committed a height. Nil: it does not, or it is as it should be.
func standstill(c node.Consensus, committed int64, noEmptyBlocks bool) *solstice.Standstill {
	still := &solstice.Standstill{Height: committed, Peers: len(c.Peers)}
	for _, height := range c.Peers {
		if height > c.Height {
			still.Beyond++
			still.Highest = max(still.Highest, height-1)
		}
	}
	switch {
	case len(c.Peers) == 0:
		still.Kind = solstice.StandstillAlone
		still.Cause = "it has no peers"
		still.Do = "look at this machine's network, and at persistent_peers and seeds in config.toml"
	case c.CatchingUp:
		still.Kind = solstice.StandstillCatchingUp
		still.Cause = fmt.Sprintf("it catches up with its chain, and gets no blocks from its peers (%d)", len(c.Peers))
		still.Do = "look whether they still have the blocks that it needs; else it wants other peers, or a later snapshot of the chain"
	case still.Beyond > 0:
		still.Kind = solstice.StandstillNode
		still.Cause = fmt.Sprintf("%d of its %d peers have gone on, up to height %d: it works on a block that takes long, or its consensus has failed, mostly because its state or its binary is another than theirs (AppHash)",
			still.Beyond, len(c.Peers), still.Highest)
		still.Do = "look for CONSENSUS FAILURE in its log, and compare its binary with what the others run: solstice run version. A restart seldom helps"
	case noEmptyBlocks:
		return nil // it waits for a transaction
	default:
		still.Kind = solstice.StandstillNetwork
		still.Cause = fmt.Sprintf("none of its peers (%d) has gone on: the network stands still", len(c.Peers))
		if c.Power > 0 {
			still.Voted = float64(c.Voted) / float64(c.Power)
			still.Cause += fmt.Sprintf("; in round %d, %.1f %% of the voting power has voted, and a block needs more than 66.7 %%", c.Round, 100*still.Voted)
		}
		still.Do = "wait for the other validators; don't restart, roll back or skip on your own"
	}
	return still
}

// tellStandstill says what is new.
func (s *Supervisor) tellStandstill(now *solstice.Standstill) {
	before := s.still.Swap(now)
	height := s.view.Load().Live.Height.Low
	switch {
	case now == nil && before != nil && height > before.Height:
		s.Log.Info("the node stands still no more", "height", height)
	case now == nil || before != nil && before.Kind == now.Kind:
	case now.Kind == solstice.StandstillNetwork:
		s.Log.Info("the network stands still", standstillValues(now)...)
	default:
		s.Log.Warn("the node stands still", standstillValues(now)...)
	}
}

func standstillValues(still *solstice.Standstill) []any {
	return []any{"height", still.Height, "for", time.Since(still.Since).Round(time.Second), "cause", still.Cause, "hint", still.Do}
}
