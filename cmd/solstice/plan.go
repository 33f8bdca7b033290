package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"solstice"
	"solstice/node"
	"solstice/supervisor"
)

func planCommand(configPath *string) *cobra.Command {
	var asJSON func() (bool, error)
	var watch bool
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show the upgrades that are ahead, when they are expected, and whether their binaries are ready",
		Long: `Show the upgrades that are ahead: the plan that the chain has scheduled, the proposals in their deposit or voting period, and
your own plans. For each: its height, the blocks left, when it is expected and by how much that may be wrong, where it stands, the
platforms that its info has binaries for, and whether yours is ready.

The node is asked. If neither it nor a running supervisor answers, what is on disk is shown, with exit code 3.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			json, err := asJSON()
			if err != nil {
				return err
			}
			if json && watch {
				return refuseUsage(cmd, errors.New("--watch is for people: it goes with --output text"))
			}
			c, err := loadChecked(*configPath)
			if err != nil {
				return err
			}
			if watch {
				return c.watchPlan(cmd)
			}
			status, _, unseen := c.lookAhead(cmd.Context())
			if status.Home == "" {
				return unseen
			}
			if json {
				err = printJSON(cmd.OutOrStdout(), aheadOf(status))
			} else {
				err = printAhead(cmd.OutOrStdout(), status)
			}
			return errors.Join(err, unseen)
		},
	}
	asJSON = outputFlag(cmd)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "keep one line about the next upgrade alive until Ctrl-C")
	return cmd
}

// comingOnly is what of a status is about the time to come.
type comingOnly struct {
	NodeHome     string            `json:"node_home"`
	NodeHomeFrom string            `json:"node_home_from,omitempty"`
	Height       *solstice.Height  `json:"height,omitempty"`
	Coming       []solstice.Coming `json:"coming"`
	Unseen       string            `json:"unseen,omitempty"`
}

func aheadOf(s solstice.Status) comingOnly {
	a := comingOnly{s.NodeHome, s.NodeHomeFrom, s.Height, s.Coming, s.Unseen}
	if a.Coming == nil {
		a.Coming = []solstice.Coming{}
	}
	return a
}

// lookAhead asks the supervisor, and the node itself, whose word is fresher. If neither answers, the status is that of the disk,
// and the error a refusal that says so.
func (c *Config) lookAhead(ctx context.Context) (solstice.Status, supervisor.Outlook, error) {
	home := c.home(nil)
	return c.lookAheadOf(ctx, home, lastArgs(home))
}

// lookAheadOf is lookAhead for a node with these arguments.
func (c *Config) lookAheadOf(ctx context.Context, home solstice.Home, args []string) (solstice.Status, supervisor.Outlook, error) {
	status, err := homeStatus(ctx, home)
	if status.Home == "" {
		return status, supervisor.Outlook{}, err
	}
	outlook := supervisor.LookAhead(ctx, node.Find(home, args, os.Getenv, c.GRPC))
	answers := outlook.Fault == nil || outlook.Pace.Height > 0
	switch {
	case answers && status.Supervisor == nil && outlook.Pace.Height > 0:
		// Of a running node the last block is stored, and the one before it committed for certain.
		status.Height = &solstice.Height{Committed: outlook.Pace.Height - 1, At: outlook.Asked, Source: "node"}
		fallthrough
	case answers, status.Supervisor == nil:
		outlook.AddTo(&status, home)
	}
	if !answers && status.Supervisor == nil && err == nil {
		err = &solstice.RefusedError{
			Reason: "neither a supervisor nor the node answers, so only what is on disk is known: " + outlook.Fault.Error(),
			Hint:   "start it: solstice run start",
		}
	}
	return status, outlook, err
}

func printAhead(out io.Writer, s solstice.Status) error {
	if len(s.Coming) == 0 {
		fmt.Fprintln(out, "No upgrade is ahead.")
	}
	for i, c := range s.Coming {
		if i > 0 {
			fmt.Fprintln(out)
		}
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		row := func(label, text string) {
			if text != "" {
				fmt.Fprintf(w, "  %s\t%s\n", label, solstice.Line(text))
			}
		}
		fmt.Fprintln(w, solstice.Line(nameOf(c)))
		row("stands", describeStage(c))
		if c.Blocks > 0 {
			row("blocks ahead", fmt.Sprint(c.Blocks))
		}
		row("expected", describeExpected(c))
		row("info names", strings.Join(c.Offered, ", "))
		if !c.Cancels {
			row("binary", describeBinary(c.Binary))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if s.NodeHome != "" {
		fmt.Fprintln(out, "The node's home is", describeHome(s))
	}
	if s.Unseen != "" {
		fmt.Fprintln(out, "The chain's own word is missing, or a part of it:", solstice.Line(s.Unseen))
	}
	return nil
}

func nameOf(c solstice.Coming) string {
	switch {
	case c.Name == "":
		return "no plan"
	case c.Height == 0:
		return c.Name
	}
	return solstice.Plan{Name: c.Name, Height: c.Height}.String()
}

func describeStage(c solstice.Coming) string {
	text := map[string]string{
		solstice.StageScheduled: "scheduled by the chain",
		solstice.StageDue:       "due",
		solstice.StageOperator:  "your own plan; the chain does not know it",
		solstice.StageFile:      "in the plan file; the chain does not confirm it",
	}[c.Stage]
	if c.Proposal == 0 {
		return text
	}
	text = fmt.Sprintf("proposal %d in %s", c.Proposal, c.Stage)
	if c.Title != "" {
		text = fmt.Sprintf("proposal %d %q in %s", c.Proposal, c.Title, c.Stage)
	}
	if c.Cancels {
		text += ", to cancel it"
	}
	if left := time.Until(c.Ends); !c.Ends.IsZero() && left > 0 {
		text += fmt.Sprintf(", ends in %s, at %s", span(left), clock(c.Ends))
	}
	return text
}

// describeExpected is when it is expected, in words, or nothing.
func describeExpected(c solstice.Coming) string {
	if c.Expected.IsZero() || c.Stage == solstice.StageDue {
		return ""
	}
	left := time.Until(c.Expected)
	if left <= 0 {
		return "any moment"
	}
	return fmt.Sprintf("in %s, at %s, give or take %s", span(left), clock(c.Expected), span(time.Duration(c.Uncertainty)))
}

// span is a duration as exactly as people want it.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return d.Round(time.Second).String()
}

const watchEvery = 2 * time.Second

// watchPlan keeps a line about the next upgrade alive on a terminal, and prints a line for each change elsewhere.
func (c *Config) watchPlan(cmd *cobra.Command) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	out := terminalOf(cmd.OutOrStdout())
	live := out != nil
	last := ""
	for {
		status, _, err := c.lookAhead(ctx)
		if ctx.Err() == nil {
			line, state := watchLine(status, err)
			switch {
			case live:
				fmt.Fprint(out, "\r\033[K", fitting(out, solstice.Line(line))) // one that wraps can't be written over
			case state != last:
				fmt.Fprintln(cmd.OutOrStdout(), line)
				last = state
			}
		}
		select {
		case <-ctx.Done():
			if live {
				fmt.Fprintln(out)
			}
			return exitError(128 + int(syscall.SIGINT))
		case <-time.After(watchEvery):
		}
	}
}

// fitting is what of a line fits into a terminal.
func fitting(terminal *os.File, line string) string {
	size, err := unix.IoctlGetWinsize(int(terminal.Fd()), unix.TIOCGWINSZ)
	if runes := []rune(line); err == nil && size.Col > 1 && len(runes) >= int(size.Col) {
		return string(runes[:size.Col-2]) + "…"
	}
	return line
}

// watchLine is the line, and what of it is news.
func watchLine(s solstice.Status, err error) (line, state string) {
	switch {
	case err != nil:
		return err.Error(), "fault"
	case s.Doing != nil:
		line = fmt.Sprintf("upgrading to %s at height %d: %s", s.Doing.Name, s.Doing.Height, s.Doing.Step)
		return line, line
	case len(s.Coming) == 0 && s.Unseen != "":
		return "no upgrade is known of; " + s.Unseen, "unseen"
	case len(s.Coming) == 0:
		return "no upgrade is ahead", "none"
	}
	next := s.Coming[0]
	parts := []string{nameOf(next) + ": " + describeStage(next)}
	if next.Blocks > 0 {
		parts = append(parts, fmt.Sprintf("%d blocks ahead", next.Blocks))
	}
	if text := describeExpected(next); text != "" {
		parts = append(parts, text)
	}
	ready := "binary ready"
	if next.Binary.Fault != "" {
		ready = "binary NOT READY, see solstice doctor"
	}
	return strings.Join(append(parts, ready), ", "), fmt.Sprint(nameOf(next), next.Stage, next.Proposal, ready)
}
