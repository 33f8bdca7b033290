package main

import (
	"errors"
	"fmt"
	"io/fs"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"solstice"
	"solstice/rollback"
	"solstice/signstate"
)

func signStateCommand(configPath *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sign-state",
		Short: "Show what the validator has signed, and the mark below which it never starts",
		Long: `Show the last height, round and step in the node's priv_validator_state.json, and the mark: the highest that solstice ever
saw there, kept outside data/. A start below the mark is refused, because the validator could sign a height twice, which can
never be undone. solstice sign-state raise brings the file up to the mark; nothing brings the mark down.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadChecked(*configPath)
			if err != nil {
				return err
			}
			return printSigned(cmd, c.look())
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "raise",
		Short: "Bring the stopped node's sign state up to the mark",
		Args:  usage(cobra.NoArgs),
		RunE: onStopped(configPath, func(cmd *cobra.Command, home rollback.Home, _ []string) error {
			from, to, err := home.Signs.RaiseFile()
			if err != nil {
				return err
			}
			if from == to {
				fmt.Fprintf(cmd.OutOrStdout(), "Nothing to raise: the sign state is at %s\n", to)
				return nil
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Raised from %s to %s: %s\n", from, to, home.Signs.StateFile)
			return nil
		}),
	})
	return cmd
}

func printSigned(cmd *cobra.Command, home rollback.Home) error {
	out := cmd.OutOrStdout()
	address, err := home.Signs.Address()
	if err != nil {
		return err
	}
	if missing := home.Settings.SignsUnknown(); address == "" && !home.Signs.Remote && missing != nil {
		_, err := fmt.Fprintf(out, "It is not known whether this node signs: no key at %s, and %v\n", home.Signs.KeyFile, missing)
		return err
	}
	if address == "" {
		why := "it has no key at " + home.Signs.KeyFile
		if home.Signs.Remote {
			why = "a remote signer does"
		}
		fmt.Fprintf(out, "This node signs nothing by itself: %s\n", why)
		return nil
	}
	mark, err := home.Signs.Marks.Of(address)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "validator\t%s\n", address)
	switch state, err := signstate.ReadFile(home.Signs.StateFile); {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(w, "sign state\tmissing: %s\n", home.Signs.StateFile)
	case err != nil:
		fmt.Fprintf(w, "sign state\t%v\n", err)
	default:
		fmt.Fprintf(w, "sign state\t%s\n", state)
	}
	if mark == (signstate.State{}) {
		fmt.Fprintln(w, "mark\tnone yet: it is set when the node runs under solstice")
	} else {
		fmt.Fprintf(w, "mark\t%s\n", mark)
	}
	return errors.Join(w.Flush(), home.Signs.Check())
}

// keepMark raises the mark before the sign state is thrown away, and says what follows. It is refused while a node runs.
func keepMark(home solstice.Home, guard *signstate.Guard, say func(string)) error {
	release, err := hold(home)
	if err != nil {
		return err
	}
	defer release()
	if _, err := guard.Record(); err != nil {
		return &solstice.RefusedError{Reason: "what the validator has signed can't be recorded before it is reset: " + err.Error()}
	}
	address, err := guard.Address()
	if err != nil || address == "" {
		return err
	}
	mark, err := guard.Marks.Of(address)
	if err == nil && mark != (signstate.State{}) {
		say(fmt.Sprintf("the mark of validator %s stays at %s: before the next start, solstice sign-state raise", address, mark))
	}
	return err
}
