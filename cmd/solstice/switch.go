package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"solstice/node"
	"solstice/rollback"
	"solstice/upgrade"
)

func switchCommand(configPath *string) *cobra.Command {
	return &cobra.Command{
		Use:   "switch NAME",
		Short: "Say which binary is the right one for the stopped node's data, and point the link at it",
		Long: `Point the current link at the binary of an upgrade, or at genesis, because it is the right one for the data as it is now.
Use it where a start was refused because what is on disk contradicts itself.

It does just that, and writes it down: the plans up to the height of the data count as carried out by that binary, those
beyond it as not carried out, and an upgrade that was cut off is given up. The data stays as it is; to bring data back, see
solstice rollback and solstice snapshot restore.`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: onStopped(configPath, func(cmd *cobra.Command, home rollback.Home, args []string) error {
			dir, err := upgrade.FindDir(home.Home, args[0])
			if err != nil {
				return err
			}
			facts, err := upgrade.Gather(home.Home, upgrade.Stopped(node.ReadHeights(home.Home, home.Settings)), nil)
			if err != nil {
				return err
			}
			behind, back, err := facts.SwitchTo(home.Home, dir)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "Switched: %s points to %s\n", filepath.Join("cosmovisor", "current"), dir)
			for _, p := range behind {
				fmt.Fprintf(out, "Counts as carried out: plan %s\n", p)
			}
			for _, p := range back {
				fmt.Fprintf(out, "Counts as not carried out: plan %s\n", p)
			}
			return nil
		}),
	}
}
