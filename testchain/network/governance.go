package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
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

// ProposeUpgrade submits a proposal with its whole deposit, signed by the first validator, and
// returns its id when it is in a block. The binary is that of the version that runs.
func (nw *Network) ProposeUpgrade(ctx context.Context, chain, name string, height int64, info string) (uint64, error) {
	events, err := nw.send(ctx, chain, nw.Nodes[0], "upgrade", "software-upgrade", name,
		"--title", "Upgrade to "+name, "--summary", "Halt at the height and go on with "+name,
		"--deposit", "1000stake", "--upgrade-height", strconv.FormatInt(height, 10), "--upgrade-info", info, "--no-validate")
	if err != nil {
		return 0, fmt.Errorf("propose upgrade %q: %w", name, err)
	}
	id, err := strconv.ParseUint(events["submit_proposal.proposal_id"], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read id of the proposal of upgrade %q: %w", name, err)
	}
	return id, nil
}

// Vote makes all validators vote yes and returns when their votes are in blocks.
func (nw *Network) Vote(ctx context.Context, chain string, proposal uint64) error {
	return each(nw.validators(), func(n *Node) error {
		_, err := nw.send(ctx, chain, n, "gov", "vote", strconv.FormatUint(proposal, 10), "yes")
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

// WaitPlan waits until the chain has decided on an upgrade: its proposal has passed.
func (nw *Network) WaitPlan(ctx context.Context, name string) (Plan, error) {
	var found Plan
	err := poll(ctx, func() (bool, error) {
		plan, err := nw.CurrentPlan(ctx)
		if err == nil && plan != nil && plan.Name == name {
			found = *plan
			return true, nil
		}
		return false, nil
	})
	if err != nil {
		return Plan{}, fmt.Errorf("wait for plan %q: %w", name, err)
	}
	return found, nil
}

// ScheduleUpgrade carries an upgrade through governance: it proposes it at the earliest safe height,
// votes, and returns when the chain has decided.
func (nw *Network) ScheduleUpgrade(ctx context.Context, chain, name, info string) (Plan, error) {
	height, err := nw.NextUpgradeHeight(ctx)
	if err != nil {
		return Plan{}, err
	}
	proposal, err := nw.ProposeUpgrade(ctx, chain, name, height, info)
	if err != nil {
		return Plan{}, err
	}
	if err := nw.Vote(ctx, chain, proposal); err != nil {
		return Plan{}, err
	}
	// A proposal whose height has passed by now is dropped without a word.
	ctx, cancel := context.WithTimeout(ctx, nw.config.VotingPeriod+20*time.Second)
	defer cancel()
	return nw.WaitPlan(ctx, name)
}

// NextUpgradeHeight is the lowest height for a proposal that is made now: the voting period and
// three seconds away, with no block sooner than the block time.
func (nw *Network) NextUpgradeHeight(ctx context.Context) (int64, error) {
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
