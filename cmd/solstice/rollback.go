package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"solstice/rollback"
)

func rollbackCommand(configPath *string) *cobra.Command {
	var wish rollback.Wish
	var consent consent
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Take an upgrade back: look, show, ask, and do it",
		Long: `Take back the upgrade that the binary in use came with. It looks at the heights in the databases, the link, the plan, the
journal, the snapshots and the sign state, says which case this is, shows what it would do, and does it after a yes.

  solstice rollback                  go back, and wait for a corrected binary for the plan
  solstice rollback --binary PATH    go back, and put a corrected binary in place for the same plan
  solstice rollback --skip           go back, because the network skips the plan

The data is restored from the snapshot that was taken before the upgrade, if it has changed since. Where there is none,
or with --chain, committed blocks are undone with the chain's own rollback command. What is replaced is moved aside. The sign
state is never lowered.`,
		Args: usage(cobra.NoArgs),
		RunE: onStopped(configPath, func(cmd *cobra.Command, home rollback.Home, _ []string) error {
			sight, err := home.Look(cmd.Context())
			if err != nil {
				return err
			}
			way, err := rollback.Choose(sight, wish)
			if err != nil {
				if printErr := printSight(cmd, sight); printErr != nil {
					return printErr
				}
				return err
			}
			return consent.walk(cmd, home, sight, way)
		}),
	}
	cmd.Flags().StringVar(&wish.Binary, "binary", "", "the corrected binary for the plan, a `file`")
	cmd.Flags().BoolVar(&wish.Skip, "skip", false, "the network decided not to carry the plan out")
	cmd.Flags().BoolVar(&wish.Chain, "chain", false, "undo committed blocks with the chain's own rollback command, not with the snapshot")
	consent.flags(cmd)
	return cmd
}

func snapshotRestoreCommand(configPath *string) *cobra.Command {
	var consent consent
	cmd := &cobra.Command{
		Use:   "restore ID",
		Short: "Put a snapshot in the place of the stopped node's data",
		Long: `Put a snapshot in the place of the stopped node's data. What is there now is moved aside, never deleted, the current link
goes to the binary that the snapshot was taken under, and the sign state stays where it is: a validator never goes below what
it has signed. The snapshot stays too. To take an upgrade back, see solstice rollback.`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: onStopped(configPath, func(cmd *cobra.Command, home rollback.Home, args []string) error {
			one, err := home.Snapshots.Find(args[0])
			if err != nil {
				return err
			}
			sight, err := home.Look(cmd.Context())
			if err != nil {
				return err
			}
			return consent.walk(cmd, home, sight, rollback.ToSnapshot(sight, one))
		}),
	}
	consent.flags(cmd)
	return cmd
}

// consent is whether the operator wants what is shown.
type consent struct{ yes, dryRun bool }

func (c *consent) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.yes, "yes", false, "do it without asking, for scripts")
	cmd.Flags().BoolVar(&c.dryRun, "dry-run", false, "only show what was found and would be done")
	cmd.MarkFlagsMutuallyExclusive("yes", "dry-run")
}

// walk shows what was seen and what leads back, asks, and does it.
func (c *consent) walk(cmd *cobra.Command, home rollback.Home, sight rollback.Sight, way rollback.Way) error {
	out := cmd.OutOrStdout()
	if err := printSight(cmd, sight); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nThis case: %s.\n\nTo be done:\n", way.Case)
	for i, line := range way.Lines(home) {
		fmt.Fprintf(out, "  %d. %s\n", i+1, line)
	}
	fmt.Fprintln(out)
	if c.dryRun {
		fmt.Fprintln(out, "Nothing was changed: this was a dry run.")
		return nil
	}
	if err := confirm(cmd, c.yes); err != nil {
		return err
	}
	progress, done := bar(cmd, "copying")
	aside, err := home.Go(cmd.Context(), sight, way, commandLog(cmd), progress)
	done()
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "Done.")
	for _, path := range aside {
		fmt.Fprintf(out, "What was there before: %s\n", relative(home.Home, path))
	}
	for line := range strings.Lines(way.Next) {
		fmt.Fprintf(out, "Next: %s\n", strings.TrimSuffix(line, "\n"))
	}
	return nil
}

func printSight(cmd *cobra.Command, sight rollback.Sight) error {
	return sight.Lines().Print(cmd.OutOrStdout(), "")
}
