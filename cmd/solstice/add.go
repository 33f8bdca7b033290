package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"solstice"
	"solstice/api"
	"solstice/internal/shell"
	"solstice/node"
	"solstice/supervisor"
	"solstice/upgrade"
)

func addUpgradeCommand(configPath *string) *cobra.Command {
	var force bool
	var height int64
	var sidecars []string
	cmd := &cobra.Command{
		Use:   "add-upgrade NAME [PATH]",
		Short: "Put a binary in place for an upgrade, and plan it at a height if you want",
		Long: `Copy the binary at PATH to cosmovisor/upgrades/NAME/bin, where run finds it when the chain's plan NAME is due.

With --upgrade-height the upgrade takes place at that height without a decision of the chain: the node is stopped when
the block before it is committed.

With --sidecar the binary of a sidecar is put beside it, under its file name; PATH can be left out then.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("sidecar") && len(args) == 1 {
				return nil
			}
			return usage(cobra.ExactArgs(2))(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := loadChecked(*configPath)
			if err != nil {
				return err
			}
			a := addition{name: args[0], height: max(height, 0), force: force}
			if len(args) > 1 {
				a.path = args[1]
			}
			if a.sidecars, err = c.named(sidecars); err != nil {
				return err
			}
			return addUpgrades(cmd, c, []addition{a}, false)
		},
	}
	cmd.Flags().StringArrayVar(&sidecars, "sidecar", nil, "`FILE=PATH` puts the binary at PATH beside the node's, as FILE; more than once for several")
	cmd.Flags().BoolVar(&force, "force", false, "replace a binary or a planned height that is there already")
	cmd.Flags().Int64Var(&height, "upgrade-height", 0, "`height` to upgrade at; without it the chain's plan decides")
	return cmd
}

func addBatchCommand(configPath *string) *cobra.Command {
	var file string
	var list []string
	cmd := &cobra.Command{
		Use:   "add-batch-upgrade",
		Short: "Put several binaries in place and plan each at its height",
		Long: `Put several binaries in place and plan each at its height, as add-upgrade --force --upgrade-height does for one.
A list replaces the one before it. A CSV file has one NAME,PATH,HEIGHT a line and no header.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadChecked(*configPath)
			if err != nil {
				return err
			}
			records, err := batchRecords(file, list)
			if err != nil {
				return &solstice.RefusedError{Reason: err.Error()}
			}
			var additions []addition
			for i, r := range records {
				height, err := strconv.ParseInt(r[2], 10, 64)
				if err != nil || height <= 0 {
					return &solstice.RefusedError{Reason: fmt.Sprintf("entry %d: %q is not a height above 0", i+1, r[2])}
				}
				additions = append(additions, addition{name: path.Base(r[0]), path: r[1], height: height, force: true})
			}
			return addUpgrades(cmd, c, additions, true)
		},
	}
	cmd.Flags().StringVar(&file, "upgrade-file", "", "CSV `file` with name,path,height")
	cmd.Flags().StringSliceVar(&list, "upgrade-list", nil, "`name:path:height`, several separated by commas")
	cmd.MarkFlagsMutuallyExclusive("upgrade-file", "upgrade-list")
	cmd.MarkFlagsOneRequired("upgrade-file", "upgrade-list")
	return cmd
}

// batchRecords returns name, path and height of each entry as they are written.
func batchRecords(file string, list []string) ([][]string, error) {
	var records [][]string
	for i, entry := range list {
		record := strings.Split(entry, ":")
		if len(record) != 3 {
			return nil, fmt.Errorf("entry %d: %q is not name:path:height", i+1, entry)
		}
		records = append(records, record)
	}
	if file == "" {
		return records, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	reader := csv.NewReader(f)
	reader.FieldsPerRecord, reader.TrimLeadingSpace = 3, true
	records, err = reader.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("%s: no upgrade in it", file)
	}
	return records, nil
}

// named are the binaries of sidecars that an operator gives as FILE=PATH.
func (c *Config) named(given []string) (binaries [][2]string, err error) {
	known := c.home(nil).Sidecars
	for _, text := range given {
		file, path, found := strings.Cut(text, "=")
		if !found || path == "" {
			return nil, &solstice.RefusedError{Reason: fmt.Sprintf("--sidecar %q is not FILE=PATH", text)}
		}
		if !slices.Contains(known, file) {
			there := "SOLSTICE_SIDECARS lists none that has a binary in each version's folder"
			if len(known) > 0 {
				there = "those that SOLSTICE_SIDECARS lists: " + strings.Join(known, ", ")
			}
			return nil, &solstice.RefusedError{Reason: fmt.Sprintf("%q is no file name of a sidecar's binary", file), Hint: there}
		}
		binaries = append(binaries, [2]string{file, path})
	}
	return binaries, nil
}

// addition is one upgrade to be added.
type addition struct {
	name, path string      // path may be empty: sidecars are added to what is there
	sidecars   [][2]string // file name and path of each
	height     int64       // 0: the chain decides
	force      bool
}

// addUpgrades adds all of them or none.
func addUpgrades(cmd *cobra.Command, c *Config, additions []addition, batch bool) error {
	home := c.home(nil)
	committed, known, below := committedHeight(cmd.Context(), home)
	for _, a := range additions {
		if a.height > 0 && home.SwitchesItself {
			return &solstice.RefusedError{
				Reason: "the node switches by itself, as SOLSTICE_SWITCH=never says: no binary is switched to at a height",
				Hint:   "put its next release in place with: solstice add-upgrade " + shell.Quote(a.name) + " PATH, and point the link at it with: solstice switch " + shell.Quote(a.name),
			}
		}
		plan := solstice.Plan{Name: a.name, Height: max(a.height, 1)}
		if err := plan.Validate(); err != nil {
			return &solstice.RefusedError{Reason: err.Error()}
		}
		if a.height > 0 && known && committed >= a.height {
			return &solstice.RefusedError{
				Reason: fmt.Sprintf("height %d has passed: block %d is committed", a.height, committed),
				Hint:   "without --upgrade-height the binary is put in place for the chain's own plan",
			}
		}
	}
	var undos, keeps []func() error
	var lines []string
	err := upgrade.ChangeManual(home, func(plans []upgrade.ManualPlan) ([]upgrade.ManualPlan, error) {
		if batch {
			plans = slices.DeleteFunc(plans, func(p upgrade.ManualPlan) bool { return p.Batch })
		}
		var err error
		for _, a := range additions {
			if a.height > 0 {
				if plans, err = addPlan(plans, a, batch, below); err != nil {
					return nil, err
				}
			}
		}
		for _, a := range additions {
			for _, one := range a.sidecars { // before the node's: from then on nothing is missing
				placed, undo, keep, err := upgrade.StageAs(home, a.name, one[0], one[1], a.force)
				if err != nil {
					return nil, err
				}
				undos, keeps = append(undos, undo), append(keeps, keep)
				lines = append(lines, fmt.Sprintf("Sidecar binary located at %s\n", placed))
			}
			if a.path == "" {
				if a.height > 0 {
					lines = append(lines, describeHeight(a))
				}
				continue
			}
			placed, undo, keep, err := upgrade.Stage(home, a.name, a.path, a.force)
			if err != nil {
				return nil, err
			}
			undos, keeps = append(undos, undo), append(keeps, keep)
			lines = append(lines, describe(a, placed))
		}
		return plans, nil
	})
	if err != nil {
		for _, undo := range slices.Backward(undos) {
			err = errors.Join(err, undo())
		}
		return err
	}
	for _, keep := range keeps {
		err = errors.Join(err, keep())
	}
	for _, a := range additions {
		if a.path != "" {
			err = errors.Join(err, upgrade.ForgetPrepared(home, home.UpgradeDir(a.name)))
		}
	}
	if planned := slices.ContainsFunc(additions, func(a addition) bool { return a.height > 0 }); planned && !known && err == nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "solstice: warning: the node's height is unknown: the plan waits until the node tells it, and is not carried out before")
	}
	_, writeErr := io.WriteString(cmd.OutOrStdout(), strings.Join(lines, ""))
	return errors.Join(err, writeErr)
}

// addPlan adds a manual plan to the others.
func addPlan(plans []upgrade.ManualPlan, a addition, batch, below bool) ([]upgrade.ManualPlan, error) {
	added := upgrade.ManualPlan{Plan: solstice.Plan{Name: a.name, Height: a.height}, Below: below, Batch: batch}
	plans = slices.Clone(plans)
	for i := 0; i < len(plans); i++ {
		p := plans[i]
		switch {
		case p.Is(added.Plan):
			plans = slices.Delete(plans, i, i+1) // the same again changes nothing but how it came
			i--
		case strings.EqualFold(p.Name, a.name) && a.force && !batch:
			plans = slices.Delete(plans, i, i+1)
			i--
		case strings.EqualFold(p.Name, a.name) && !batch:
			return nil, &solstice.RefusedError{
				Reason: fmt.Sprintf("%q is planned already, at height %d", p.Name, p.Height),
				Hint:   "replace it with --force, or take it off the list: solstice cancel-upgrade " + shell.Quote(p.Name),
			}
		case p.Height == a.height:
			return nil, &solstice.RefusedError{Reason: fmt.Sprintf("another plan has height %d already: %q", p.Height, p.Name)}
		}
	}
	return append(plans, added), nil
}

func describe(a addition, placed string) string {
	text := fmt.Sprintf("Using %s for %s upgrade\nUpgrade binary located at %s\n", a.path, a.name, placed)
	if a.height > 0 {
		text += describeHeight(a)
	}
	return text
}

func describeHeight(a addition) string {
	return fmt.Sprintf("%s upgrade binary will switch at height %d\n", a.name, a.height)
}

// committedHeight is a height that the chain has reached for certain. below says that it
// is not beyond it: what was only recorded when the node ran says nothing of that.
func committedHeight(ctx context.Context, home solstice.Home) (height int64, known, below bool) {
	status, err := homeStatus(ctx, home)
	if err != nil || status.Height == nil {
		return 0, false, false
	}
	return status.Height.Committed, true, status.Height.Source != "record"
}

// homeStatus asks the running supervisor, or looks itself where none runs. With one that
// does not answer it is what the files say, and a *api.SilentError.
func homeStatus(ctx context.Context, home solstice.Home) (solstice.Status, error) {
	status, err := api.Status(ctx, home.Socket())
	var silent *api.SilentError
	switch {
	case errors.Is(err, api.ErrNotRunning):
		return supervisor.Describe(home, ownVersion(), lookAtStopped(home), "record")
	case errors.As(err, &silent):
		status, describeErr := supervisor.Describe(home, ownVersion(), upgrade.Live{}, "record")
		status.Silent = silent.Error()
		return status, errors.Join(silent, describeErr)
	}
	return status, err
}

// lookAtStopped is what the databases of a home say on which nothing runs. A moment of it keeps a start waiting; where something runs,
// or where this user may not look, it is nothing.
func lookAtStopped(home solstice.Home) upgrade.Live {
	release, err := hold(home)
	if err != nil {
		return upgrade.Live{}
	}
	defer release()
	return upgrade.Stopped(node.ReadHeights(home, node.ReadSettings(home, lastArgs(home), os.Getenv)))
}
