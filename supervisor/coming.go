package supervisor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"solstice"
	"solstice/artifact"
	"solstice/node"
)

// Outlook is what the chain says of the upgrades to come. Nothing is decided by it: the plan file decides.
type Outlook struct {
	Asked     time.Time      // zero: not yet
	Plan      *solstice.Plan // that is scheduled; nil: none
	Proposals []node.Proposal
	Pace      node.Pace
	Fault     error // why the rest is not known, or not all of it
}

// chainLimit is how long a node may take for one answer.
const chainLimit = 5 * time.Second

// LookAhead asks the chain, through its node.
func LookAhead(ctx context.Context, n Node) Outlook {
	var o Outlook
	o.ask(ctx, n)
	o.askProposals(ctx, n)
	return o
}

// ask asks for the plan and the pace. A chain that does not answer leaves an outlook without them.
func (o *Outlook) ask(ctx context.Context, n Node) {
	ctx, cancel := context.WithTimeout(ctx, chainLimit)
	defer cancel()
	o.Asked, o.Plan = time.Now(), nil
	plan, scheduled, err := n.Plan(ctx)
	if err == nil && scheduled {
		o.Plan = &plan
	}
	var paceErr error
	o.Pace, paceErr = n.Pace(ctx)
	o.Fault = cmp.Or(err, paceErr)
}

// askProposals asks for the proposals; those of before stay where it can't be answered.
func (o *Outlook) askProposals(ctx context.Context, n Node) {
	ctx, cancel := context.WithTimeout(ctx, chainLimit)
	defer cancel()
	proposals, err := n.Proposals(ctx)
	if err == nil {
		o.Proposals = proposals
	}
	o.Fault = cmp.Or(o.Fault, err)
}

// WithInfo adds the info to a plan that is the scheduled one.
func (o Outlook) WithInfo(plan solstice.Plan) solstice.Plan {
	if o.Plan != nil && o.Plan.Is(plan) {
		plan.Info = o.Plan.Info
	}
	return plan
}

// AddTo enters the outlook into a status: what comes, by height, the proposals last. Without an outlook the plans are in it that
// the disk knows.
func (o Outlook) AddTo(status *solstice.Status, home solstice.Home) {
	status.Coming, status.Unseen = []solstice.Coming{}, ""
	switch {
	case o.Asked.IsZero():
		status.Unseen = "the node was not asked yet"
	case o.Fault != nil:
		status.Unseen = o.Fault.Error()
	}
	add := func(plan solstice.Plan, c solstice.Coming) {
		if slices.ContainsFunc(status.Coming, func(have solstice.Coming) bool { return plan.Is(solstice.Plan{Name: have.Name, Height: have.Height}) }) {
			return
		}
		c.Name, c.Height, c.Binary = plan.Name, plan.Height, binary(home, home.UpgradeDir(plan.Name))
		if home.SwitchesItself {
			c.Binary = status.Binary
		}
		c.Offered = offered(plan.Info)
		if h := status.Height; h != nil {
			c.Blocks = max(plan.Height-h.Committed, 0)
			if h.Committed >= plan.Height-1 {
				c.Stage = solstice.StageDue
			}
		}
		if at, uncertainty, ok := o.Pace.At(plan.Height); ok {
			c.Expected, c.Uncertainty = at, solstice.Seconds(uncertainty)
		}
		status.Coming = append(status.Coming, c)
	}
	if o.Plan != nil && !switchedTo(*status, *o.Plan) {
		add(*o.Plan, solstice.Coming{Stage: solstice.StageScheduled})
	}
	for _, p := range status.Pending {
		stage := solstice.StageFile
		if p.Origin == "operator" {
			stage = solstice.StageOperator
		}
		add(solstice.Plan{Name: p.Name, Height: p.Height}, solstice.Coming{Stage: stage})
	}
	slices.SortStableFunc(status.Coming, func(a, b solstice.Coming) int { return cmp.Compare(a.Height, b.Height) })
	for _, p := range o.Proposals {
		c := solstice.Coming{Stage: p.Status.String(), Proposal: p.ID, Title: p.Title, Ends: p.Ends}
		switch {
		case len(p.Plans) > 0:
			add(p.Plans[len(p.Plans)-1], c)
		case p.Cancel:
			c.Cancels = true
			if o.Plan != nil {
				c.Name, c.Height = o.Plan.Name, o.Plan.Height
			}
			status.Coming = append(status.Coming, c)
		}
	}
}

// switchedTo says whether a plan is carried out: at the halt the chain still has it, and does not know.
func switchedTo(status solstice.Status, plan solstice.Plan) bool {
	return slices.ContainsFunc(status.Upgrades, func(u solstice.Upgrade) bool {
		return plan.Is(solstice.Plan{Name: u.Name, Height: u.Height}) && (u.State == "switched" || u.State == "confirmed")
	})
}

// offered are the platforms that a plan's info has a binary for, or the document that it refers to.
func offered(info string) []string {
	var document struct {
		Binaries map[string]string `json:"binaries"`
	}
	info = strings.TrimSpace(info)
	if err := json.Unmarshal([]byte(info), &document); err == nil {
		return slices.Sorted(maps.Keys(document.Binaries))
	}
	if u, err := url.ParseRequestURI(info); err == nil && u.Scheme != "" {
		return []string{artifact.Redact(info)}
	}
	return nil
}

// noAddress says whether there is nobody to ask.
func noAddress(err error) bool { return errors.Is(err, node.ErrNoAddress) }
