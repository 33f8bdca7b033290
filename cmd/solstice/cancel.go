package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"solstice"
	"solstice/api"
	"solstice/internal/shell"
	"solstice/supervisor"
	"solstice/upgrade"
)

func cancelUpgradeCommand(configPath *string) *cobra.Command {
	var height int64
	cmd := &cobra.Command{
		Use:   "cancel-upgrade NAME",
		Short: "Take a plan that you added with a height off the list",
		Long: `Take a plan that you added with add-upgrade --upgrade-height or add-batch-upgrade off the list. Your other plans stay, and so does the
binary. A running solstice lets go of the plan at once, also while it waits for its binary.

A plan of the chain can't be cancelled here. The chain does that, by a proposal; and a node that is started with
--unsafe-skip-upgrades HEIGHT runs through it.`,
		Args: usage(cobra.ExactArgs(1)),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
			if c, err := loadChecked(*configPath); err == nil && len(args) == 0 {
				plans, _ := upgrade.ReadManual(c.home(nil)) // the command says what is wrong with it
				for _, p := range plans {
					names = append(names, cobra.CompletionWithDesc(p.Name, fmt.Sprintf("at height %d", p.Height)))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := loadChecked(*configPath)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("upgrade-height") && height <= 0 {
				return refuseUsage(cmd, errors.New("--upgrade-height is above 0"))
			}
			err = c.cancel(cmd, args[0], height)
			if errors.Is(err, fs.ErrPermission) {
				return &solstice.RefusedError{Reason: "the list of plans that you added can't be changed: " + err.Error(), Hint: "run this as the user that the node runs as"}
			}
			return err
		},
	}
	cmd.Flags().Int64Var(&height, "upgrade-height", 0, "the plan's `height`, where you have planned the same name at several")
	return cmd
}

// cancel takes the plan of a name off the operator's list, and says what stays. With height 0 the name alone says which.
func (c *Config) cancel(cmd *cobra.Command, name string, height int64) error {
	home := c.home(nil)
	plans, err := upgrade.ReadManual(home) // without the lock first: where there is no list, none is made
	if err != nil {
		return err
	}
	plan, err := findPlan(plans, name, height)
	if err == nil {
		plans, err = upgrade.CancelManual(home, plan)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return c.notListed(cmd.Context(), home, name)
	}
	if err != nil {
		return err
	}
	lines := []string{"Cancelled: " + plan.String()}
	if binary := home.Binary(home.UpgradeDir(plan.Name)); exists(binary) {
		lines = append(lines, "The binary stays: "+binary)
	} else {
		lines = append(lines, "There is no binary for it: "+binary)
	}
	for _, p := range plans {
		lines = append(lines, "Still planned: "+p.String())
	}
	for _, p := range chainsPlans(letGo(cmd.Context(), home, plan), plan.Name) {
		lines = append(lines, fmt.Sprintf("Not yours, so it stays: %s (%s); its binary has the same place", nameOf(p), describeStage(p)))
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.Join(lines, "\n"))
	return err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// findPlan finds the plan of a name among the operator's; without one the error is fs.ErrNotExist.
func findPlan(plans []upgrade.ManualPlan, name string, height int64) (solstice.Plan, error) {
	var heights []string
	var found []solstice.Plan
	for _, p := range plans {
		if strings.EqualFold(p.Name, name) {
			heights = append(heights, fmt.Sprint(p.Height))
			if height == 0 || p.Height == height {
				found = append(found, p.Plan)
			}
		}
	}
	switch {
	case len(heights) == 0:
		return solstice.Plan{}, fs.ErrNotExist
	case len(found) == 0:
		return solstice.Plan{}, &solstice.RefusedError{
			Reason: fmt.Sprintf("%q is not planned at height %d", name, height),
			Hint:   "it is planned at: " + strings.Join(heights, ", "),
		}
	case len(found) > 1:
		return solstice.Plan{}, &solstice.RefusedError{
			Reason: fmt.Sprintf("%q is planned at several heights: %s", name, strings.Join(heights, ", ")),
			Hint:   fmt.Sprintf("say which: solstice cancel-upgrade %s --upgrade-height %s", shell.Quote(name), heights[0]),
		}
	}
	return found[0], nil
}

// letGo waits until a running supervisor does not wait any more for what the plan needs, and returns what is known then. The supervisor
// could not begin the plan's upgrade from the moment on at which the list was without it.
func letGo(ctx context.Context, home solstice.Home, plan solstice.Plan) solstice.Status {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for {
		status, err := api.Status(ctx, home.Socket())
		if err != nil {
			status, _ = supervisor.Describe(home, ownVersion(), upgrade.Live{}, "record") // as far as it goes: the plan is off the list
			supervisor.Outlook{}.AddTo(&status, home)
			return status
		}
		if !strings.Contains(status.Waiting, plan.String()) && !strings.Contains(status.Waiting, fmt.Sprintf("upgrade %q", plan.Name)) {
			return status
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// chainsPlans is what of the plans ahead has a name and is not the operator's.
func chainsPlans(status solstice.Status, name string) (plans []solstice.Coming) {
	for _, p := range status.Coming {
		own := func(other solstice.Pending) bool {
			return other.Height == p.Height && other.Name == p.Name && other.Origin == "operator"
		}
		if strings.EqualFold(p.Name, name) && !p.Cancels && p.Stage != solstice.StageOperator && !slices.ContainsFunc(status.Pending, own) {
			plans = append(plans, p)
		}
	}
	return plans
}

// lookAtChain is the status with all that the chain says, or that the databases of its stopped node do.
func (c *Config) lookAtChain(ctx context.Context, home solstice.Home) solstice.Status {
	status, _, _ := c.lookAhead(ctx) // as far as it answers
	if status.Supervisor != nil {
		return status
	}
	if disk := lookAtStopped(home).Disk; disk != nil && disk.Upgrades.Err == nil && disk.Upgrades.Scheduled != nil {
		p := disk.Upgrades.Scheduled
		status.Coming = append([]solstice.Coming{{Name: p.Name, Height: p.Height, Stage: solstice.StageScheduled}}, status.Coming...)
	}
	return status
}

// notListed refuses a name that is not on the operator's list, and says what it is, if it is anything.
func (c *Config) notListed(ctx context.Context, home solstice.Home, name string) error {
	facts, err := upgrade.Gather(home, upgrade.Live{}, nil)
	if err != nil {
		return err
	}
	is := func(p solstice.Plan) bool { return strings.EqualFold(p.Name, name) }
	if begun, ok := facts.Journal.Begun(); ok && is(begun.Plan) {
		return upgrade.BegunError(begun.Plan)
	}
	if coming := chainsPlans(c.lookAtChain(ctx, home), name); len(coming) > 0 {
		return chainsError(home, coming[0])
	}
	if batch, err := upgrade.ReadBatch(home); err == nil {
		if i := slices.IndexFunc(batch, is); i >= 0 {
			return &solstice.RefusedError{
				Reason: fmt.Sprintf("plan %s stands in Cosmovisor's batch list, which solstice takes over when it is started", batch[i]),
				Hint:   "cancel it after that, or take it out of " + home.BatchFile(),
			}
		}
	}
	for _, s := range slices.Backward(facts.Skipped) {
		if is(s.Plan) {
			hint := "to carry it out after all, with solstice stopped: solstice rollback --binary PATH"
			if s.Manual {
				hint = "to carry it out after all, plan it at another height: solstice add-upgrade " + shell.Quote(s.Name) + " PATH --force --upgrade-height HEIGHT"
			}
			return &solstice.RefusedError{Reason: fmt.Sprintf("plan %s is skipped: it is not carried out anyway", s.Plan), Hint: hint}
		}
	}
	for _, s := range slices.Backward(facts.History) {
		if is(s.Plan) {
			return upgrade.DoneError(s.Plan)
		}
	}
	refused := &solstice.RefusedError{Reason: fmt.Sprintf("you have planned no upgrade %q", name), Hint: "you have planned none with a height; what is ahead: solstice plan"}
	var planned []string
	for _, p := range facts.Manual {
		planned = append(planned, p.String())
	}
	if planned != nil {
		refused.Hint = "these are planned: " + strings.Join(planned, ", ")
	}
	if dir := home.UpgradeDir(name); exists(home.Binary(dir)) {
		refused.Hint += fmt.Sprintf("\nthe binary in %s has no plan: nobody switches to it before one of that name is due", dir)
	}
	return refused
}

// chainsError refuses to cancel what is not the operator's, and says who can.
func chainsError(home solstice.Home, p solstice.Coming) error {
	switch {
	case p.Proposal != 0:
		return &solstice.RefusedError{
			Reason: fmt.Sprintf("%s is not decided yet, and the chain decides: %s", nameOf(p), describeStage(p)),
			Hint:   "who has a say votes on it; follow it with: solstice plan",
		}
	case p.Stage == solstice.StageFile && p.Blocks > 0: // else the height is not known, and it may well be the node that has written it
		return &solstice.RefusedError{
			Reason: fmt.Sprintf("plan %s stands in the plan file, where the node puts one only at its height, and is none that you added", nameOf(p)),
			Hint:   "if somebody put it there, Cosmovisor's add-upgrade say, take it away: rm " + home.PlanFile(),
		}
	case p.Stage == solstice.StageDue:
		return &solstice.RefusedError{
			Reason: fmt.Sprintf("plan %s is due, and the chain's, which solstice can't cancel", nameOf(p)),
			Hint:   "if the network skips it, with solstice stopped: solstice rollback --skip",
		}
	}
	return &solstice.RefusedError{
		Reason: fmt.Sprintf("plan %s is the chain's, which solstice can't cancel", nameOf(p)),
		Hint: "the chain can, by a proposal to cancel it, which solstice plan shows then\n" +
			fmt.Sprintf("if the network skips it: solstice run start --unsafe-skip-upgrades %d", p.Height),
	}
}
