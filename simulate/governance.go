package simulate

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"solstice"
	"solstice/localnet"
	"solstice/node"
)

// inactive is in the answer to a vote on a proposal that is not open any more (x/gov, ErrInactiveProposal).
const inactive = "inactive proposal"

// schedule carries a plan through governance and returns it when the chain has decided, with its proposal. On a busy machine a vote may
// come too late, or the height may have passed when the votes are counted: then it is proposed anew, until the end of ctx.
func (s *Simulation) schedule(ctx context.Context, chain *localnet.Chain, name string, least int64) (solstice.Plan, uint64, error) {
	for {
		plan, id, err := s.propose(ctx, chain, name, least)
		if err != nil {
			return plan, 0, fmt.Errorf("propose %s: %w", name, err)
		}
		s.screen.Say("proposal %d: %s; %s to vote", id, plan, took(s.voting))
		err = s.each(s.validators(), func(m *member) error {
			_, err := s.send(ctx, chain, m, []string{"tx", "gov", "vote"}, strconv.FormatUint(id, 10), "yes")
			if err != nil && strings.Contains(err.Error(), inactive) {
				return nil // how it ends tells
			}
			return err
		})
		if err != nil {
			return plan, id, fmt.Errorf("vote on proposal %d: %w", id, err)
		}
		passed, err := s.passes(ctx, id)
		if passed || err != nil {
			return plan, id, err
		}
		s.screen.Say("proposal %d did not pass in time on this machine; it is proposed anew", id)
	}
}

// propose submits a proposal with its whole deposit. Its height is the earliest that is safe, and least or more.
func (s *Simulation) propose(ctx context.Context, chain *localnet.Chain, name string, least int64) (plan solstice.Plan, id uint64, err error) {
	command := firstOf(ctx, chain, propose...)
	help, err := chain.Help(ctx, command...)
	if err != nil {
		return plan, 0, err
	}
	to, err := s.answering(ctx)
	if err != nil {
		return plan, 0, err
	}
	state, err := to.State(ctx)
	if err != nil {
		return plan, 0, err
	}
	const slack = 3 * time.Second
	plan = solstice.Plan{Name: name, Height: max(state.Height+int64((s.voting+slack)/s.config.BlockTime)+3, least)}
	args := []string{name, "--upgrade-height=" + strconv.FormatInt(plan.Height, 10)}
	for _, flag := range [][2]string{
		{"upgrade-info", ""}, {"title", "Upgrade to " + name}, {"summary", "Go on with " + name}, {"description", "Go on with " + name},
		{"deposit", s.deposit() + s.config.Denom},
	} {
		if help.Has(flag[0]) {
			args = append(args, "--"+flag[0]+"="+flag[1])
		}
	}
	if help.Has("no-validate") {
		args = append(args, "--no-validate") // of the info, which is empty
	}
	events, err := s.send(ctx, chain, s.validators()[0], command, args...)
	if err != nil {
		return plan, 0, err
	}
	id, err = strconv.ParseUint(events["submit_proposal.proposal_id"], 10, 64)
	if err != nil {
		err = errors.New("its transaction tells no proposal_id in an event submit_proposal")
	}
	return plan, id, err
}

// passes waits until a proposal's votes have been counted, and says whether it was carried out: then its plan is the chain's.
func (s *Simulation) passes(ctx context.Context, id uint64) (passed bool, err error) {
	err = localnet.Poll(ctx, func() (bool, error) {
		m, err := s.answering(ctx)
		if err != nil {
			return false, nil // it is asked again
		}
		proposal, err := m.Client().Proposal(ctx, id)
		if err != nil {
			return false, nil
		}
		passed = proposal.Status == node.Passed
		return passed || proposal.Status == node.Rejected || proposal.Status == node.Failed, nil
	})
	if err != nil {
		err = fmt.Errorf("wait for the votes on proposal %d: %w", id, err)
	}
	return passed, err
}

// answering is the first member that answers.
func (s *Simulation) answering(ctx context.Context) (*member, error) {
	err := errors.New("no node has an address for questions")
	for _, m := range s.members {
		if m.RPC == "" {
			continue
		}
		if _, err = m.State(ctx); err == nil {
			return m, nil
		}
	}
	return nil, fmt.Errorf("no node answers: %w", err)
}

// send sends a transaction of a validator to the first node that answers and waits until it is in a block. It returns the attributes
// of its events, as type.key.
func (s *Simulation) send(ctx context.Context, chain *localnet.Chain, from *member, command []string, args ...string) (map[string]string, error) {
	to, err := s.answering(ctx)
	if err != nil {
		return nil, err
	}
	all := append(append(append([]string{}, command...), args...), "--from="+keyName, "--keyring-backend=test", "--chain-id="+s.chainID,
		"--gas=1000000", "--yes", "--broadcast-mode=sync", "--output=json", "--node=tcp://"+to.RPC)
	out, err := chain.Run(ctx, from.Home, append(all, s.config.Tx...)...)
	if err != nil {
		return nil, err
	}
	var sent struct {
		Code int    `json:"code"`
		Log  string `json:"raw_log"`
		Hash string `json:"txhash"`
	}
	if err := json.Unmarshal(out, &sent); err != nil {
		return nil, fmt.Errorf("read its answer: %w", err)
	}
	if sent.Code != 0 {
		return nil, fmt.Errorf("the node takes no such transaction: code %d: %.300s", sent.Code, sent.Log)
	}
	return s.included(ctx, to, sent.Hash)
}

// included waits until a transaction is in a block.
func (s *Simulation) included(ctx context.Context, m *member, hash string) (map[string]string, error) {
	var found struct {
		Result struct {
			Code   int    `json:"code"`
			Log    string `json:"log"`
			Events []struct {
				Type       string `json:"type"`
				Attributes []struct {
					Key   string `json:"key"`
					Value string `json:"value"`
				} `json:"attributes"`
			} `json:"events"`
		} `json:"tx_result"`
	}
	err := localnet.Poll(ctx, func() (bool, error) {
		return m.Call(ctx, "/tx", url.Values{"hash": {"0x" + hash}}, &found) == nil, nil
	})
	if err != nil {
		return nil, fmt.Errorf("wait for transaction %s to be in a block: %w", hash, err)
	}
	if found.Result.Code != 0 {
		return nil, fmt.Errorf("transaction %s failed: code %d: %.300s", hash, found.Result.Code, found.Result.Log)
	}
	events := map[string]string{}
	for _, event := range found.Result.Events {
		for _, attribute := range event.Attributes {
			events[event.Type+"."+attribute.Key] = attribute.Value
			// Before CometBFT v0.37 both were base64.
			key, keyErr := base64.StdEncoding.DecodeString(attribute.Key)
			value, valueErr := base64.StdEncoding.DecodeString(attribute.Value)
			if keyErr == nil && valueErr == nil {
				events[event.Type+"."+string(key)] = string(value)
			}
		}
	}
	return events, nil
}
