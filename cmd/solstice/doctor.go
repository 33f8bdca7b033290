package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"solstice"
	"solstice/api"
	"solstice/readiness"
	"solstice/upgrade"
)

func doctorCommand(configPath *string) *cobra.Command {
	var asJSON func() (bool, error)
	var name string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check, before the height, whether the next upgrade will go well on this machine",
		Long: `Check whether the next upgrade will go well on this machine: the binary, the disk, the node's settings, the machine. Each check
has a verdict, what was found, and what to do. It looks at the plan that comes next, or at --plan NAME; without one, at the
machine alone. It changes nothing. The exit code is 3 if something is not ready, else 0.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			json, err := asJSON()
			if err != nil {
				return err
			}
			c, err := loadChecked(*configPath)
			if err != nil {
				return err
			}
			plan, checks, err := c.examine(cmd.Context(), name)
			var silent *api.SilentError
			if err != nil && !errors.As(err, &silent) {
				return err
			}
			if json {
				err = errors.Join(printJSON(cmd.OutOrStdout(), examined{plan.Name, plan.Height, readiness.Worst(checks), checks}), err)
			} else {
				err = errors.Join(printChecks(cmd.OutOrStdout(), plan, checks), err)
			}
			if err == nil && readiness.Worst(checks) == solstice.NotReady {
				return exitError(solstice.ExitRefused)
			}
			return err
		},
	}
	asJSON = outputFlag(cmd)
	cmd.Flags().StringVar(&name, "plan", "", "the `name` of a plan, also of one that nobody has scheduled yet")
	return cmd
}

// examined is what doctor prints as JSON.
type examined struct {
	Plan    string           `json:"plan,omitempty"`
	Height  int64            `json:"height,omitempty"`
	Verdict solstice.Verdict `json:"verdict"`
	Checks  []solstice.Check `json:"checks"`
}

// examine makes the checks for a plan, the next one if none is named. They are made also
// where the supervisor does not answer, which is the error then.
func (c *Config) examine(ctx context.Context, name string) (solstice.Plan, []solstice.Check, error) {
	status, outlook, err := c.lookAhead(ctx)
	var silent *api.SilentError
	var refused *solstice.RefusedError
	if status.Home == "" || err != nil && !errors.As(err, &silent) && !errors.As(err, &refused) {
		return solstice.Plan{}, nil, err
	}
	plan := solstice.Plan{Name: name}
	for _, one := range status.Coming {
		if one.Name != "" && !one.Cancels && (name == "" || one.Name == name) {
			plan = outlook.WithInfo(solstice.Plan{Name: one.Name, Height: one.Height})
			break
		}
	}
	if name != "" {
		if err := (solstice.Plan{Name: name, Height: 1}).Validate(); err != nil {
			return plan, nil, &solstice.RefusedError{Reason: err.Error()}
		}
	}
	temp, err := os.MkdirTemp("", "solstice-doctor-")
	if err != nil {
		return plan, nil, err
	}
	defer os.RemoveAll(temp)
	h := c.look()
	oldRelease, _ := upgrade.OldRelease(h.UpgradeDir(plan.Name), plan)
	subject := readiness.Subject{
		Home: h.Home, Settings: h.Settings, Snapshots: h.Snapshots, Signs: h.Signs, Link: status.Binary.Dir, Plan: plan, Grace: c.Grace,
		Pace: outlook.Pace, NoBackup: c.SkipBackup, Temp: temp, Probes: &upgrade.Probes{Dir: temp, HelpFile: h.HelpFile()}, Trusted: c.trusted(h.Home), Sidecars: c.list,
	}
	subject.OldRelease = plan.Name != "" && strings.Contains(status.Waiting, oldRelease)
	if status.Node != nil {
		subject.PID = status.Node.PID
	}
	checks := readiness.Look(ctx, subject)
	if silent != nil {
		return plan, checks, silent
	}
	return plan, checks, nil // what is not known of the chain, a check says
}

func printChecks(out io.Writer, plan solstice.Plan, checks []solstice.Check) error {
	switch {
	case plan.Name == "":
		fmt.Fprintln(out, "No upgrade is ahead; the machine:")
	case plan.Height == 0:
		fmt.Fprintf(out, "For plan %s, which is not scheduled yet:\n", solstice.Line(plan.Name))
	default:
		fmt.Fprintf(out, "For plan %s:\n", plan)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, c := range checks {
		fmt.Fprintf(w, "%s\t%s\t%s\n", c.Verdict, c.Name, solstice.Line(c.Evidence))
		if c.Do != "" {
			fmt.Fprintf(w, "\t\t-> %s\n", solstice.Line(c.Do))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "All in all: %s\n", readiness.Worst(checks))
	return err
}
