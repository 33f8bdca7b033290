package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Plan is an upgrade that the chain has decided on.
type Plan struct {
	// Name is the upgrade's name: v2 or v3.
	Name string

	// Height is the height at which the chain halts for it.
	Height int64

	// Info is what the proposal says to operators.
	Info string
}

// ProposeUpgrade submits a proposal with its whole deposit, signed by the first validator, and returns its id when it is in a
// block. The binary is that of the version that runs; the height is the earliest safe one and later blocks above that.
func (nw *Network) ProposeUpgrade(ctx context.Context, chain, name, info string, later int64) (proposal uint64, plan Plan, err error) {
	height, err := nw.nextUpgradeHeight(ctx)
	if err != nil {
		return 0, plan, err
	}
	plan = Plan{name, height + later, info}
	events, err := nw.send(ctx, chain, nw.Nodes[0], "upgrade", "software-upgrade", name,
		"--title", "Upgrade to "+name, "--summary", "Halt at the height and go on with "+name,
		"--deposit", "1000stake", "--upgrade-height", strconv.FormatInt(plan.Height, 10), "--upgrade-info", info, "--no-validate")
	if err == nil {
		proposal, err = strconv.ParseUint(events["submit_proposal.proposal_id"], 10, 64)
	}
	if err != nil {
		return 0, plan, fmt.Errorf("propose upgrade %q: %w", name, err)
	}
	return proposal, plan, nil
}

// Vote makes all validators vote yes and returns when their votes are in blocks. A vote that came too late is no error: Passes
// tells what became of the proposal.
func (nw *Network) Vote(ctx context.Context, chain string, proposal uint64) error {
	return each(nw.validators(), func(n *Node) error {
		_, err := nw.send(ctx, chain, n, "gov", "vote", strconv.FormatUint(proposal, 10), "yes")
		if err != nil && strings.Contains(err.Error(), inactive) {
			return nil
		}
		return err
	})
}

// CurrentPlan returns the plan that the chain waits for, also at the halt. Without a plan it returns nil.
func (nw *Network) CurrentPlan(ctx context.Context) (*Plan, error) {
	n, err := nw.answering(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := n.query(ctx, "/cosmos.upgrade.v1beta1.Query/CurrentPlan", nil)
	if err != nil {
		return nil, err
	}
	return readPlan(answer)
}

// answering returns the first node that answers.
func (nw *Network) answering(ctx context.Context) (*Node, error) {
	var errs []error
	for _, n := range nw.Nodes {
		_, err := n.Status(ctx)
		if err == nil {
			return n, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// ScheduleUpgrade carries an upgrade through governance: it proposes it at the earliest safe height or later blocks above that,
// votes, and returns when the chain has decided. On a busy machine a vote may come too late, or the proposal's height may have
// passed when it is counted: then it is proposed anew, until the end of ctx.
func (nw *Network) ScheduleUpgrade(ctx context.Context, chain, name, info string, later int64) (Plan, error) {
	for {
		proposal, plan, err := nw.ProposeUpgrade(ctx, chain, name, info, later)
		if err != nil {
			return Plan{}, err
		}
		if err := nw.Vote(ctx, chain, proposal); err != nil {
			return Plan{}, err
		}
		if passed, err := nw.Passes(ctx, proposal); passed || err != nil {
			return plan, err
		}
	}
}

// CancelUpgrade has the chain give up the plan that it has scheduled: it proposes that, votes, and returns when it is decided.
func (nw *Network) CancelUpgrade(ctx context.Context, chain string) error {
	events, err := nw.send(ctx, chain, nw.Nodes[0], "upgrade", "cancel-upgrade-proposal",
		"--title", "Cancel the upgrade", "--summary", "Go on without it", "--deposit", "1000stake")
	if err != nil {
		return fmt.Errorf("propose to cancel the upgrade: %w", err)
	}
	proposal, err := strconv.ParseUint(events["submit_proposal.proposal_id"], 10, 64)
	if err != nil {
		return fmt.Errorf("propose to cancel the upgrade: %w", err)
	}
	if err := nw.Vote(ctx, chain, proposal); err != nil {
		return err
	}
	passed, err := nw.Passes(ctx, proposal)
	if err == nil && !passed {
		err = fmt.Errorf("proposal %d, to cancel the upgrade, did not pass", proposal)
	}
	return err
}

// inactive is in the answer to a vote on a proposal that is not open any more (x/gov, ErrInactiveProposal).
const inactive = "inactive proposal"

// Statuses of a proposal whose vote has been counted (cosmos.gov.v1.ProposalStatus).
const (
	proposalPassed   = 3
	proposalRejected = 4
	proposalFailed   = 5 // it passed, and could not be carried out
)

// Passes waits until a proposal's votes have been counted, and tells whether it was carried out: then its plan is the chain's.
func (nw *Network) Passes(ctx context.Context, proposal uint64) (passed bool, err error) {
	request := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), proposal)
	err = poll(ctx, func() (bool, error) {
		n, err := nw.answering(ctx)
		if err != nil {
			return false, ctx.Err() // it is asked again
		}
		answer, err := n.query(ctx, "/cosmos.gov.v1.Query/Proposal", request)
		if err != nil {
			return false, ctx.Err()
		}
		status, err := readProposalStatus(answer)
		passed = status == proposalPassed
		return passed || status == proposalRejected || status == proposalFailed, err
	})
	if err != nil {
		err = fmt.Errorf("wait for the votes on proposal %d: %w", proposal, err)
	}
	return passed, err
}

// readProposalStatus reads the answer to gov's Proposal: a message whose field 1 is the proposal, whose field 3 is the status.
func readProposalStatus(answer []byte) (status uint64, err error) {
	err = fields(answer, func(number protowire.Number, value []byte, _ uint64) error {
		if number != 1 {
			return nil
		}
		return fields(value, func(number protowire.Number, _ []byte, integer uint64) error {
			if number == 3 {
				status = integer
			}
			return nil
		})
	})
	return status, err
}

// nextUpgradeHeight is the lowest height for a proposal that is made now: the voting period and
// three seconds away, with no block sooner than the block time.
func (nw *Network) nextUpgradeHeight(ctx context.Context) (int64, error) {
	n, err := nw.answering(ctx)
	if err != nil {
		return 0, err
	}
	height, err := n.Height(ctx)
	return height + int64((nw.config.VotingPeriod+3*time.Second)/nw.config.BlockTime) + 2, err
}

// send sends a transaction of a validator to the first node that answers and waits until it is in a
// block. It returns the attributes of its events, as type.key.
func (nw *Network) send(ctx context.Context, chain string, from *Node, args ...string) (map[string]string, error) {
	to, err := nw.answering(ctx)
	if err != nil {
		return nil, err
	}
	args = append([]string{"tx"}, append(args, "--from", keyName, "--gas", "500000", "--yes",
		"--broadcast-mode", "sync", "--output", "json", "--node", to.rpcTCP())...)
	out, err := from.run(ctx, chain, args...)
	if err != nil {
		return nil, err
	}
	var sent struct {
		Code int    `json:"code"`
		Log  string `json:"raw_log"`
		Hash string `json:"txhash"`
	}
	if err := json.Unmarshal(out, &sent); err != nil {
		return nil, fmt.Errorf("read answer of tx %s: %w", args[1], err)
	}
	if sent.Code != 0 {
		return nil, fmt.Errorf("send tx %s: code %d: %s", args[1], sent.Code, sent.Log)
	}

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
	err = poll(ctx, func() (bool, error) {
		err := to.get(ctx, "tx", url.Values{"hash": {"0x" + sent.Hash}}, &found)
		var missing *rpcError // until it is in a block
		if errors.As(err, &missing) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("wait for tx %s %s: %w", args[1], sent.Hash, err)
	}
	if found.Result.Code != 0 {
		return nil, fmt.Errorf("tx %s %s: code %d: %s", args[1], sent.Hash, found.Result.Code, found.Result.Log)
	}
	events := map[string]string{}
	for _, event := range found.Result.Events {
		for _, attribute := range event.Attributes {
			events[event.Type+"."+attribute.Key] = attribute.Value
		}
	}
	return events, nil
}

// readPlan reads the answer to CurrentPlan: a message whose field 1 is the plan. In the plan, 1 is
// the name, 3 the height and 4 the info.
func readPlan(answer []byte) (*Plan, error) {
	var plan *Plan
	err := fields(answer, func(number protowire.Number, value []byte, _ uint64) error {
		if number != 1 {
			return nil
		}
		plan = &Plan{}
		return fields(value, func(number protowire.Number, value []byte, integer uint64) error {
			switch number {
			case 1:
				plan.Name = string(value)
			case 3:
				plan.Height = int64(integer)
			case 4:
				plan.Info = string(value)
			}
			return nil
		})
	})
	return plan, err
}

// fields calls f for each field of a protobuf message that holds bytes or an integer.
func fields(message []byte, f func(number protowire.Number, value []byte, integer uint64) error) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		var value []byte
		var integer uint64
		switch kind {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			integer, n = protowire.ConsumeVarint(message)
		default:
			n = protowire.ConsumeFieldValue(number, kind, message)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		if err := f(number, value, integer); err != nil {
			return err
		}
	}
	return nil
}
