package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"solstice"
	"solstice/api"
	"solstice/report"
)

func statusCommand(configPath *string) *cobra.Command {
	var asJSON func() (bool, error)
	var check string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what runs, how far it is, what is pending, and the last upgrades",
		Long: `Show what runs, how far it is, what is pending, and the last upgrades.

With --check it answers a container's or an orchestrator's question with a sentence: exit code 0 is yes, 1 is no.

  status --check          alive: a supervisor answers. It is alive while it upgrades, while the node migrates, and while
                          it waits for a binary: a restart would help none of these.
  status --check=ready    ready: also the node runs and tells its height, no upgrade is under way, and nothing waits for
                          you. Whether it has caught up with its chain is not asked.`,
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
			if check != "" {
				return checkStatus(cmd, c.home(nil), check)
			}
			status, err := homeStatus(cmd.Context(), c.home(nil))
			switch {
			case status.Home == "":
			case json:
				err = errors.Join(printJSON(cmd.OutOrStdout(), status), err)
			default:
				err = errors.Join(printStatus(cmd.OutOrStdout(), status), err)
			}
			return err
		},
	}
	asJSON = outputFlag(cmd)
	cmd.Flags().StringVar(&check, "check", "", "say in a sentence whether it is `alive` or ready: exit code 0 or 1")
	cmd.Flags().Lookup("check").NoOptDefVal = "alive"
	return cmd
}

// checkPatience is how long a supervisor may take to answer before it counts as dead. Orchestrators wait less than they say.
const checkPatience = 5 * time.Second

// checkStatus tells whether the home's supervisor is alive, or ready.
func checkStatus(cmd *cobra.Command, home solstice.Home, check string) error {
	fault := map[string]func(solstice.Status) string{"alive": func(solstice.Status) string { return "" }, "ready": notReady}[check]
	if fault == nil {
		return refuseUsage(cmd, fmt.Errorf("--check is alive or ready, not %q", check))
	}
	if cmd.Flags().Changed("output") {
		return refuseUsage(cmd, errors.New("--check answers with a sentence: --output is not for it"))
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), checkPatience)
	defer cancel()
	s, err := api.Status(ctx, home.Socket())
	switch {
	case err != nil:
		return fmt.Errorf("not alive: %w", err)
	}
	if fault := fault(s); fault != "" {
		return errors.New("not ready: " + fault)
	}
	text := check + ": " + s.Supervisor.State
	if s.Height != nil {
		text += fmt.Sprintf(", height %d", s.Height.Committed)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
	return err
}

// notReady is why a supervised node can't be used now, or empty.
func notReady(s solstice.Status) string {
	switch {
	case s.Doing != nil:
		return fmt.Sprintf("the upgrade to %s at height %d is under way: %s", s.Doing.Name, s.Doing.Height, s.Doing.Step)
	case s.Waiting != "":
		return s.Waiting
	case s.Node == nil:
		return "no node is running: solstice is " + s.Supervisor.State
	case s.Supervisor.State != "running":
		return "solstice is " + s.Supervisor.State
	case s.Height == nil || s.Height.Source != "node":
		return "the node does not tell its height: it starts, migrates or does not answer"
	case s.Standstill != nil && s.Standstill.Kind == solstice.StandstillNode:
		return "the node stands still: " + s.Standstill.Cause
	}
	return ""
}

// shownUpgrades is how many of the last upgrades people are shown. JSON has all.
const shownUpgrades = 5

func printStatus(out io.Writer, s solstice.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(label, format string, values ...any) {
		fmt.Fprintf(w, "%s\t%s\n", label, solstice.Line(fmt.Sprintf(format, values...)))
	}
	switch {
	case s.Silent != "":
		row("solstice", "%s", s.Silent)
	case s.Supervisor == nil:
		row("solstice", "not running")
	default:
		row("solstice", "%s since %s, pid %d, version %s", s.Supervisor.State, clock(s.Supervisor.Since), s.Supervisor.PID, s.Version)
		if s.Supervisor.ReloadFault != "" {
			row("reload", "failed: %s", s.Supervisor.ReloadFault)
		}
	}
	if s.Node != nil {
		row("node", "running since %s, pid %d: %s %s", clock(s.Node.Since), s.Node.PID, s.Name, strings.Join(s.Node.Args, " "))
	} else {
		row("node", "not running")
	}
	if s.NodeHomeFault != "" {
		row("home", "%s: NOT THE NODE'S: %s; see: solstice doctor", describeHome(s), s.NodeHomeFault)
	} else {
		row("home", "%s", describeHome(s))
	}
	for i, one := range s.Sidecars {
		row(once("sidecars", i), "%s", describeSidecar(one))
	}
	row("binary", "%s", describeBinary(s.Binary))
	switch {
	case s.Height == nil:
		row("height", "not known")
	case s.Height.Source != "record":
		row("height", "%d", s.Height.Committed)
	default:
		row("height", "%d or more, seen at %s", s.Height.Committed, clock(s.Height.At))
	}
	if still := s.Standstill; still != nil {
		row("standing still", "since %s, for %s: %s", clock(still.Since), time.Since(still.Since).Round(time.Second), still.Cause)
		row("", "  to do: %s", still.Do)
	}
	if s.Doing != nil {
		row("upgrading", "to %s at height %d: %s for %s", s.Doing.Name, s.Doing.Height, s.Doing.Step, time.Since(s.Doing.Since).Round(time.Millisecond))
	}
	if r := s.Rehearsed; r != nil && s.Node != nil {
		row("migrating", "to %s: %s of about %s, as rehearsed at %s", r.Name, time.Since(s.Node.Since).Round(time.Second/10), time.Duration(r.FirstBlock).Round(time.Second/10), clock(r.At))
	}
	for i, p := range s.Pending {
		row(once("pending", i), "%s at height %d%s, from the %s; binary in %s", p.Name, p.Height, ahead(s.Height, p.Height), p.Origin, describeBinary(p.Binary))
	}
	if len(s.Pending) == 0 {
		row("pending", "nothing")
	}
	for i, c := range notPending(s) {
		expected := describeExpected(c)
		if expected != "" {
			expected = "expected " + expected
		}
		row(once("coming", i), "%s: %s; binary in %s", nameOf(c), strings.Join(nonEmpty(describeStage(c), expected), ", "), describeBinary(c.Binary))
	}
	if r := s.Readiness; r != nil {
		row("readiness", "of %s: %s, checked at %s; all of it: solstice doctor", r.Plan, r.Verdict, clock(r.At))
		for _, c := range r.Checks {
			if c.Verdict == solstice.NotReady || c.Verdict == solstice.Warning {
				row("", "  %s: %s: %s", c.Verdict, c.Name, c.Evidence)
			}
		}
	}
	for i, h := range s.Held {
		row(once("held", i), "%s at height %d: %s", h.Name, h.Height, h.Reason)
		row("", "  to do: %s", h.Hint)
	}
	if s.Waiting != "" {
		row("waiting", "%s", s.Waiting)
	}
	for i, fault := range s.Faults {
		row(once("fault", i), "%s", strings.ReplaceAll(fault, "\n", "; "))
	}
	if s.Next != "" {
		row("next start", "%s", s.Next)
	}
	if c := s.Crash; c != nil {
		row("last crash", "at %s: %v", clock(c.At), c)
		for _, line := range c.Lines {
			row("", "  %s", line)
		}
		row("", "  to do: %s", c.Do)
	}
	if c := s.Copying; c != nil {
		row("copying", "snapshot %s to %s: %s of %s", c.Snapshot, c.To, report.Size(c.Done), report.Size(c.Total))
		if c.Waiting != "" {
			row("", "  waits: %s", c.Waiting)
		}
	}
	if d := s.Downloading; d != nil {
		row("downloading", "the binary of %s: %s of %s", d.Name, report.Size(d.Done), report.Size(d.Total))
		if d.Waiting != "" {
			row("", "  failed, and is tried again: %s", d.Waiting)
		}
	}
	last := s.Upgrades[max(len(s.Upgrades)-shownUpgrades, 0):]
	for i, u := range last {
		row(once("upgrades", i), "%s", describeUpgrade(u))
	}
	if len(last) > 0 {
		row("", "  its steps: %s", describeSteps(last[len(last)-1].Steps))
	}
	return w.Flush()
}

// describeHome is the node's home, and what names it.
func describeHome(s solstice.Status) string {
	if s.NodeHomeFrom == "" {
		return s.NodeHome
	}
	return s.NodeHome + " (" + s.NodeHomeFrom + ")"
}

// notPending is what is ahead and not pending yet.
func notPending(s solstice.Status) []solstice.Coming {
	return slices.DeleteFunc(slices.Clone(s.Coming), func(c solstice.Coming) bool {
		return slices.ContainsFunc(s.Pending, func(p solstice.Pending) bool { return p.Name == c.Name && p.Height == c.Height })
	})
}

func nonEmpty(texts ...string) []string {
	return slices.DeleteFunc(texts, func(text string) bool { return text == "" })
}

func once(label string, i int) string {
	if i > 0 {
		return ""
	}
	return label
}

func describeSidecar(s solstice.Sidecar) string {
	text := s.Name + ": " + s.State
	if s.PID != 0 {
		text += fmt.Sprintf(" since %s, pid %d", clock(s.Since), s.PID)
	}
	if s.Restarts > 0 {
		text += fmt.Sprintf(", restarts: %d", s.Restarts)
	}
	if s.Binary != "" {
		text += ", " + s.Binary
	}
	if s.Fault != "" {
		text += ": " + s.Fault
	}
	return text
}

func describeBinary(b solstice.Binary) string {
	switch {
	case b.Dir == "" && b.Fault == "":
		return "none yet: there is no current link"
	case b.Dir == "":
		return b.Fault
	case b.Fault != "":
		return b.Dir + ": NOT READY: " + b.Fault
	case b.SwitchesItself:
		return b.Dir + ", which switches by itself"
	}
	return b.Dir
}

func ahead(h *solstice.Height, height int64) string {
	switch {
	case h == nil:
		return ""
	case h.Committed >= height-1:
		return " (due)"
	}
	return fmt.Sprintf(" (%d blocks ahead)", height-h.Committed)
}

func describeUpgrade(u solstice.Upgrade) string {
	text := fmt.Sprintf("%s at height %d to %s: %s", u.Name, u.Height, u.Binary, u.State)
	if !u.Confirmed.IsZero() {
		text += fmt.Sprintf(" at %s, stood still %s (ours %s, migration %s)", clock(u.Confirmed),
			rounded(u.Standing.Total), rounded(u.Standing.Ours), rounded(u.Standing.Migration))
	}
	return text
}

func describeSteps(steps []solstice.Step) string {
	var texts []string
	for _, s := range steps {
		if d := time.Duration(s.Seconds * float64(time.Second)).Round(time.Millisecond); d > 0 {
			texts = append(texts, s.Name+" "+d.String())
		}
	}
	if texts == nil {
		return "none took a millisecond yet"
	}
	return strings.Join(texts, ", ")
}

func rounded(s solstice.Seconds) time.Duration { return time.Duration(s).Round(time.Millisecond) }

// clock shows the date only where it is not today's.
func clock(t time.Time) string {
	t = t.Local()
	if t.Format(time.DateOnly) == time.Now().Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateTime)
}
