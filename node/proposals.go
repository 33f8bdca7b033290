package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"solstice"
)

// Plan returns the plan that the chain has scheduled and not yet carried out, and false without one
// (cosmos.upgrade.v1beta1.Query/CurrentPlan). At the halt it is still there.
func (c *Client) Plan(ctx context.Context) (solstice.Plan, bool, error) {
	answer, err := c.query(ctx, "/cosmos.upgrade.v1beta1.Query/CurrentPlan", nil, solstice.MaxPlanSize)
	if err != nil {
		return solstice.Plan{}, false, err
	}
	message, err := only(answer, 1)
	if err != nil || message == nil {
		return solstice.Plan{}, false, err
	}
	plan, err := parsePlan(message)
	if err != nil {
		return solstice.Plan{}, false, fmt.Errorf("the chain's plan: %w", err)
	}
	return plan, true, nil
}

// ProposalStatus is where a proposal stands (cosmos.gov.v1.ProposalStatus, the same in v1beta1).
type ProposalStatus int

// Those that x/gov knows.
const (
	Deposit  ProposalStatus = 1
	Voting   ProposalStatus = 2
	Passed   ProposalStatus = 3
	Rejected ProposalStatus = 4
	Failed   ProposalStatus = 5
)

func (s ProposalStatus) String() string {
	switch s {
	case Deposit:
		return "deposit"
	case Voting:
		return "voting"
	case Passed:
		return "passed"
	case Rejected:
		return "rejected"
	case Failed:
		return "failed"
	}
	return "unknown"
}

// Proposal is a governance proposal that has to do with upgrades.
type Proposal struct {
	ID     uint64
	Title  string // empty if it has none
	Status ProposalStatus
	Ends   time.Time       // of the deposit or the voting period; zero once both are over
	Plans  []solstice.Plan // that it schedules; the last one counts
	Cancel bool            // it cancels the plan that is scheduled
}

const (
	maxProposals     = 4 << 20 // bytes of one answer: a proposal may carry the code of a contract
	proposalsAtOnce  = 10
	proposalsAtAll   = 50 // of one status
	govV1, govV1beta = "/cosmos.gov.v1.Query/", "/cosmos.gov.v1beta1.Query/"
)

// Proposals returns the proposals in their deposit or voting period that schedule or cancel an upgrade, newest first. It
// looks at the 50 newest of each; what they do beside it is nobody's concern here. Chains before SDK v0.46 know gov v1beta1 only.
func (c *Client) Proposals(ctx context.Context) ([]Proposal, error) {
	var proposals []Proposal
	for _, status := range []ProposalStatus{Voting, Deposit} {
		found, err := c.proposals(ctx, govV1, status)
		if isUnknownPath(err) {
			found, err = c.proposals(ctx, govV1beta, status)
		}
		if err != nil {
			return nil, err
		}
		proposals = append(proposals, found...)
	}
	return proposals, nil
}

// Proposal returns one proposal, whatever it is about and however it ended.
func (c *Client) Proposal(ctx context.Context, id uint64) (Proposal, error) {
	request := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), id)
	answer, err := c.query(ctx, govV1+"Proposal", request, maxProposals)
	if isUnknownPath(err) {
		answer, err = c.query(ctx, govV1beta+"Proposal", request, maxProposals)
	}
	if err != nil {
		return Proposal{}, err
	}
	message, err := only(answer, 1)
	if err == nil && message == nil {
		err = errors.New("the answer has no proposal")
	}
	if err != nil {
		return Proposal{}, fmt.Errorf("proposal %d: %w", id, err)
	}
	return parseProposal(message)
}

// proposals asks in pages. Where a page is too large, it asks for one at a time and passes over those that are. As many as
// make a page, one after the other, are no proposals.
func (c *Client) proposals(ctx context.Context, service string, status ProposalStatus) ([]Proposal, error) {
	var proposals []Proposal
	tooLarge := 0
	for offset, limit := 0, proposalsAtOnce; offset < proposalsAtAll; offset += limit {
		answer, err := c.query(ctx, service+"Proposals", proposalsRequest(status, offset, limit), maxProposals)
		switch {
		case errors.Is(err, errTooLarge) && limit > 1:
			offset, limit = offset-1, 1 // once more, one at a time
			continue
		case errors.Is(err, errTooLarge):
			if tooLarge++; tooLarge == proposalsAtOnce {
				return nil, err
			}
			continue
		case err != nil:
			return nil, err
		}
		tooLarge = 0
		messages, err := all(answer, 1)
		if err != nil {
			return nil, fmt.Errorf("%sProposals: %w", service, err)
		}
		for _, message := range messages {
			if p, err := parseProposal(message); err == nil && (p.Cancel || p.Plans != nil) {
				proposals = append(proposals, p)
			}
		}
		if len(messages) < limit {
			break
		}
	}
	return proposals, nil
}

// proposalsRequest is a QueryProposalsRequest: proposal_status 1, pagination 4 with offset 2, limit 3, reverse 5.
func proposalsRequest(status ProposalStatus, offset, limit int) []byte {
	add := func(b []byte, field protowire.Number, n int) []byte {
		return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(n))
	}
	page := add(add(add(nil, 2, offset), 3, limit), 5, 1)
	return protowire.AppendBytes(protowire.AppendTag(add(nil, 1, int(status)), 4, protowire.BytesType), page)
}

// parseProposal reads a gov Proposal: id 1, messages 2 (v1beta1: content 2), status 3, deposit_end_time 6, voting_end_time 9,
// title 11. What a message is, its type says; those of other modules are passed over, also where they can't be read.
func parseProposal(message []byte) (Proposal, error) {
	id, err := number(message, 1)
	if err != nil {
		return Proposal{}, err
	}
	status, _ := number(message, 3)
	p := Proposal{ID: uint64(id), Status: ProposalStatus(status), Title: oneLine(part(message, 11))}
	switch p.Status {
	case Deposit:
		p.Ends = parseTime(part(message, 6))
	case Voting:
		p.Ends = parseTime(part(message, 9))
	}
	messages, err := all(message, 2)
	if err != nil {
		return Proposal{}, err
	}
	for _, m := range messages {
		p.look(m, 0)
	}
	return p, nil
}

// maxNesting is how deep messages may lie in each other.
const maxNesting = 4

// look finds what a google.protobuf.Any, type_url 1 and value 2, has to do with upgrades.
func (p *Proposal) look(message []byte, depth int) {
	kind, value := string(part(message, 1)), part(message, 2)
	switch kind[strings.LastIndexByte(kind, '/')+1:] {
	case "cosmos.upgrade.v1beta1.MsgSoftwareUpgrade": // plan 2
		p.schedule(part(value, 2))
	case "cosmos.upgrade.v1beta1.SoftwareUpgradeProposal": // title 1, plan 3
		if p.Title == "" {
			p.Title = oneLine(part(value, 1))
		}
		p.schedule(part(value, 3))
	case "cosmos.upgrade.v1beta1.MsgCancelUpgrade", "cosmos.upgrade.v1beta1.CancelSoftwareUpgradeProposal":
		p.Cancel = true
	case "cosmos.gov.v1.MsgExecLegacyContent": // content 1
		p.lookInside(value, 1, depth)
	case "cosmos.authz.v1beta1.MsgExec": // msgs 2
		p.lookInside(value, 2, depth)
	}
}

func (p *Proposal) lookInside(message []byte, number protowire.Number, depth int) {
	messages, err := all(message, number)
	if err != nil || depth >= maxNesting {
		return
	}
	for _, m := range messages {
		p.look(m, depth+1)
	}
}

func (p *Proposal) schedule(message []byte) {
	if plan, err := parsePlan(message); err == nil {
		p.Plans = append(p.Plans, plan)
	}
}

// parsePlan reads a cosmos.upgrade.v1beta1.Plan: name 1, height 3, info 4.
func parsePlan(message []byte) (solstice.Plan, error) {
	height, err := number(message, 3)
	if err != nil {
		return solstice.Plan{}, err
	}
	plan := solstice.Plan{Name: string(part(message, 1)), Height: height, Info: string(part(message, 4))}
	return plan, plan.Validate()
}

// parseTime reads a google.protobuf.Timestamp: seconds 1, nanos 2. Nothing is the zero time.
func parseTime(message []byte) time.Time {
	seconds, err := number(message, 1)
	nanos, nanosErr := number(message, 2)
	if err != nil || nanosErr != nil || seconds <= 0 || seconds > 1<<40 {
		return time.Time{}
	}
	return time.Unix(seconds, nanos%1e9)
}

// maxTitle is how much of a title is kept, in bytes.
const maxTitle = 200

// oneLine is what of a text fits into a line of a terminal, and does nothing to it.
func oneLine(text []byte) string {
	if len(text) > maxTitle {
		text = text[:maxTitle]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\uFFFD' {
			return -1
		}
		return r
	}, string(text))
}
