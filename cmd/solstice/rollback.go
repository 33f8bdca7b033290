package main

import (
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
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadChecked(*configPath)
			if err != nil {
				return err
			}
			home, err := c.hold(cmd)
			if err != nil {
				return err
			}
			defer home.release()
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
			return consent.walk(cmd, home.Home, sight, way)
		},
	}
	cmd.Flags().StringVar(&wish.Binary, "binary", "", "the corrected binary for the plan, a `file`")
	cmd.Flags().BoolVar(&wish.Skip, "skip", false, "the network decided not to carry the plan out")
	cmd.Flags().BoolVar(&wish.Chain, "chain", false, "undo committed blocks with the chain's own rollback command, not with the snapshot")
	consent.flags(cmd)
	return cmd
}
