package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"solstice"
	"solstice/api"
	"solstice/supervisor"
)

func reloadCommand(configPath *string) *cobra.Command {
	var trial bool
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have a new version of solstice take over from the one that runs, while the node runs on",
		Long: `Have the running solstice give way to the program that lies where it was started from, in the same process: its node stays its
child and notices nothing. Put the new version there first. The settings are read anew.

The new version is tried before: it has to show that it can go on from there with these settings. If it can't, or does not get as far as
taking over within 10s, the one that runs goes on. SIGUSR2 does the same.

An upgrade that is under way comes first. A new configuration file alone is reason enough for a reload.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if trial {
				return nil // they are those of the one that runs
			}
			return usage(cobra.NoArgs)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if trial {
				return tryHandover(cmd, args)
			}
			c, err := loadChecked(*configPath)
			if err != nil {
				return err
			}
			return reloadRunning(cmd, c.home(nil))
		},
	}
	cmd.Flags().BoolVar(&trial, "trial", false, "say whether this version could take over; asked by the one that runs")
	_ = cmd.Flags().MarkHidden("trial") // it is there
	return cmd
}

// reloadRunning asks for it and waits for how it ends.
func reloadRunning(cmd *cobra.Command, home solstice.Home) error {
	begun, err := api.Reload(cmd.Context(), home.Socket())
	if errors.Is(err, api.ErrNotRunning) {
		return &solstice.RefusedError{Reason: "no supervisor is running that could be reloaded", Hint: "start it: solstice run start"}
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*supervisor.ReloadTimeout)
	defer cancel()
	for {
		status, err := api.Status(ctx, home.Socket())
		switch s := status.Supervisor; {
		case errors.Is(err, api.ErrNotRunning):
			return errors.New("the supervisor has ended; its log says why")
		case err != nil || s == nil: // it is just being replaced
		case s.ReloadFault != "":
			return fmt.Errorf("the new version has not taken over, and the one before, %s, goes on: %s", begun.Version, s.ReloadFault)
		case s.Reloads > begun.Reloads:
			fmt.Fprintf(cmd.OutOrStdout(), "%s has taken over from %s in process %d; the node runs on", status.Version, begun.Version, s.PID)
			if status.Node != nil {
				fmt.Fprintf(cmd.OutOrStdout(), " as process %d", status.Node.PID)
			}
			fmt.Fprintln(cmd.OutOrStdout())
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it is not known how the reload has ended: %w; see: solstice status", ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// takeOver goes on where the version before this one has stopped, with the node that runs. It gives everything back if it does not get that
// far.
func takeOver(root *cobra.Command, given *supervisor.Handover, configPath string, args []string) (err error) {
	defer time.AfterFunc(supervisor.ReloadTimeout, func() {
		given.Back(fmt.Errorf("it was not ready after %v", supervisor.ReloadTimeout), signals)
	}).Stop()
	defer func() {
		if fault := recover(); fault != nil {
			given.Back(fmt.Errorf("it panicked: %v", fault), signals)
			panic(fault)
		}
		if err != nil {
			given.Back(err, signals)
		}
	}()
	c, args, err := settle(configPath, args)
	if err != nil {
		return err
	}
	return supervise(root, c, args, given)
}

// tryHandover says whether this version could take over what the one that runs has. args are that one's.
func tryHandover(cmd *cobra.Command, args []string) error {
	given, err := supervisor.TakeHandover()
	if err != nil {
		return err
	}
	if given == nil {
		return &solstice.RefusedError{Reason: "nothing was handed over to be tried", Hint: "a reload is asked for by: solstice reload"}
	}
	root := newRoot()
	_, words, err := root.Traverse(args)
	if err != nil {
		return err
	}
	path, err := root.PersistentFlags().GetString("cosmovisor-config")
	if err != nil {
		return err
	}
	c, words, err := settle(path, words)
	if err != nil {
		return err
	}
	home, err := c.homeToRun(words, given)
	if err != nil {
		return err
	}
	if err := given.Check(home, c.list); err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), supervisor.TrialPassed)
	return nil
}
