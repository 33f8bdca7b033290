package node

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
)

// Consensus is what a node and its peers are at.
type Consensus struct {
	Height     int64   // that the node works at: one beyond the last block that it has
	Round      int64   // of it
	Peers      []int64 // the heights that its peers work at, as far as they have said
	Voted      int64   // the voting power that has voted as it is to vote now, as far as the node knows; in a round that has just begun, in the one before
	Power      int64   // all of it; 0: not known
	CatchingUp bool    // it fetches blocks that its chain has made already
}

// maxConsensus bounds the answer, in bytes. With 200 validators and as many peers it is some hundred thousand in the first round, and
// each further round of the same height adds the votes of all.
const maxConsensus = 16 << 20

// Consensus asks for what the node and its peers are at: CometBFT's /dump_consensus_state and /status. A node without an RPC doesn't say:
// ErrNoAddress. One whose consensus has failed still answers (seen on CometBFT v0.39).
func (c *Client) Consensus(ctx context.Context) (Consensus, error) {
	var dump consensusAnswer
	if err := c.Call(ctx, "/dump_consensus_state", nil, maxConsensus, &dump); err != nil {
		return Consensus{}, about("dump_consensus_state", err)
	}
	consensus, err := dump.consensus()
	if err != nil {
		return Consensus{}, about("dump_consensus_state", err)
	}
	var status statusAnswer
	err = c.Call(ctx, "/status", nil, maxAnswer, &status)
	if err == nil && status.Sync == nil {
		err = errNoResult
	}
	if err != nil {
		return Consensus{}, about("status", err)
	}
	consensus.CatchingUp = status.Sync.CatchingUp
	return consensus, nil
}

// consensusAnswer has the numbers as text or as numbers: json.Number takes both.
type consensusAnswer struct {
	Round struct {
		Height json.Number `json:"height"`
		Round  json.Number `json:"round"`
		Step   json.Number `json:"step"`
		Votes  []struct {
			Round      json.Number `json:"round"`
			Prevotes   string      `json:"prevotes_bit_array"`
			Precommits string      `json:"precommits_bit_array"`
		} `json:"votes"`
	} `json:"round_state"`
	Peers []struct {
		State struct {
			Round struct {
				Height json.Number `json:"height"`
			} `json:"round_state"`
		} `json:"peer_state"`
	} `json:"peers"`
}

// stepPrecommit is CometBFT's RoundStepPrecommit (its consensus/types): all prevotes are there that are waited for.
const stepPrecommit = 6

// bitArray finds the voting power in what CometBFT calls a bit array of votes: BA{4:_x_x} 2000/4000 = 0.50.
var bitArray = regexp.MustCompile(`^BA\{.*\} (\d+)/(\d+) = `)

func (a consensusAnswer) consensus() (Consensus, error) {
	var c Consensus
	var err error
	if c.Height, err = a.Round.Height.Int64(); err != nil || c.Height <= 0 {
		return c, fmt.Errorf("%.40q is not a height", a.Round.Height)
	}
	if c.Round, err = a.Round.Round.Int64(); err != nil || c.Round < 0 {
		return c, fmt.Errorf("%.40q is not a round", a.Round.Round)
	}
	step, _ := a.Round.Step.Int64()
	for _, votes := range a.Round.Votes { // by their rounds
		array := votes.Prevotes
		switch round, err := votes.Round.Int64(); {
		case err != nil || round < c.Round-1 || round > c.Round:
			continue
		case round < c.Round || step >= stepPrecommit:
			array = votes.Precommits
		}
		if voted, power := powerOf(array); voted > 0 || c.Power == 0 {
			c.Voted, c.Power = voted, power
		}
	}
	for _, peer := range a.Peers {
		if height, err := peer.State.Round.Height.Int64(); err == nil && height > 0 { // 0: it has not said yet
			c.Peers = append(c.Peers, height)
		}
	}
	return c, nil
}

// powerOf is the voting power that has voted and all of it, 0 where that can't be read.
func powerOf(array string) (voted, power int64) {
	match := bitArray.FindStringSubmatch(array)
	if match == nil {
		return 0, 0
	}
	voted, err := strconv.ParseInt(match[1], 10, 64)
	power, err2 := strconv.ParseInt(match[2], 10, 64)
	if err != nil || err2 != nil || voted > power {
		return 0, 0
	}
	return voted, power
}
