package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"solstice"
	"solstice/api"
	"solstice/report"
	"solstice/rollback"
	"solstice/snapshot"
	"solstice/upgrade"
)

func snapshotCommand(configPath *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Take, list, verify, delete and restore snapshots of the node's data",
		Long: `Each upgrade takes a snapshot of data/, wasm/ and config/ (without keys) before it changes anything. Files that a
database never writes again are linked, or everything is cloned where the filesystem can (XFS, btrfs), so that it takes a
moment and next to no space. It grows as the node replaces its files.

An ID can be shortened to where it is the only one. Snapshots lie in DAEMON_DATA_BACKUP_DIR, as data-backup-ID.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		snapshotCreateCommand(configPath), snapshotListCommand(configPath), snapshotVerifyCommand(configPath),
		snapshotPruneCommand(configPath), snapshotDeleteCommand(configPath), snapshotRestoreCommand(configPath),
	)
	return cmd
}

var snapshotName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func snapshotCreateCommand(configPath *string) *cobra.Command {
	var live bool
	cmd := &cobra.Command{
		Use:   "create [NAME]",
		Short: "Take a snapshot of a stopped node, or of one that runs under solstice",
		Long: `Take a snapshot of a stopped node. It is kept until you delete it. NAME, manual if it is not given, begins its ID.

With --live a node that runs under solstice is stopped for it, and started again: a moment where files are linked or cloned, else as long
as a copy takes; and its own end and start. A validator signs nothing meanwhile.`,
		Args: usage(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "manual"
			if len(args) == 1 {
				name = args[0]
			}
			if !snapshotName.MatchString(name) || len(name) > 64 {
				return &solstice.RefusedError{Reason: fmt.Sprintf("%q can't begin an ID: letters, digits, dots, dashes and underscores can, up to 64", name)}
			}
			if live {
				return takeLive(cmd, *configPath, name)
			}
			err := onStopped(configPath, func(cmd *cobra.Command, home rollback.Home, _ []string) error {
				return takeStopped(cmd, home, name)
			})(cmd, args)
			if c, loadErr := loadChecked(*configPath); loadErr == nil {
				err = orLive(cmd, c.home(nil), err)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&live, "live", false, "stop the node that runs under solstice for it, and start it again")
	return cmd
}

// orLive adds to a refusal, where a supervisor answers, that it can stop its node for a snapshot.
func orLive(cmd *cobra.Command, home solstice.Home, err error) error {
	var refused *solstice.RefusedError
	if !errors.As(err, &refused) {
		return err
	}
	if _, statusErr := api.Status(cmd.Context(), home.Socket()); statusErr != nil {
		return err
	}
	return &solstice.RefusedError{Reason: refused.Reason, Evidence: refused.Evidence, Hint: "have the node stopped for it and started again: solstice snapshot create --live\n" + refused.Hint}
}

// takeLive has the running supervisor take a snapshot.
func takeLive(cmd *cobra.Command, configPath, name string) error {
	c, err := loadChecked(configPath)
	if err != nil {
		return err
	}
	taken, err := pausedSnapshot(cmd, c.home(nil), name)
	if err == nil {
		fmt.Fprintf(cmd.OutOrStdout(), "Snapshot %s taken; the node was stopped for %s and is started again\n", taken.ID, time.Duration(taken.Stopped).Round(time.Millisecond))
	}
	return err
}

// pausedSnapshot asks the running supervisor for a snapshot.
func pausedSnapshot(cmd *cobra.Command, home solstice.Home, name string) (solstice.Paused, error) {
	taken, err := api.Snapshot(cmd.Context(), home.Socket(), name)
	if errors.Is(err, api.ErrNotRunning) {
		err = &solstice.RefusedError{Reason: "no supervisor is running", Hint: "of a stopped node, take it without --live: solstice snapshot create"}
	}
	return taken, err
}

func takeStopped(cmd *cobra.Command, home rollback.Home, name string) error {
	if _, err := os.Stat(home.Data()); err != nil {
		return &solstice.RefusedError{Reason: "there is nothing to take a snapshot of: " + err.Error()}
	}
	label, err := upgrade.LabelStopped(home.Home, home.Settings)
	if err != nil {
		return err
	}
	if err := home.Snapshots.Sweep(nil); err != nil {
		return err
	}
	progress, done := bar(cmd, "copying")
	taken, err := home.Snapshots.Take(cmd.Context(), snapshot.ID(name, label.Height, time.Now()), label, progress)
	done()
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "Snapshot %s taken in %s: %s, %s, of them %s copied\n", taken.ID,
		time.Duration(taken.Seconds*float64(time.Second)).Round(time.Millisecond), count(taken.Files, "file"), report.Size(taken.Bytes), report.Size(taken.NewBytes))
	for _, link := range taken.Elsewhere {
		fmt.Fprintf(w, "Not in it, so that it can't be restored: what lies behind %s\n", link)
	}
	if waiting, err := home.Snapshots.Waiting(); err == nil && len(waiting) > 0 {
		fmt.Fprintf(w, "It lies near the data, and goes to %s while the node runs under solstice run\n", home.Snapshots.Dir)
	}
	return nil
}

// listed is a snapshot as JSON shows it.
type listed struct {
	ID       string `json:"id"`
	Path     string `json:"path"`
	State    string `json:"state"`
	Alone    int64  `json:"alone"` // bytes that only it holds
	Manifest any    `json:"manifest"`
}

func snapshotListCommand(configPath *string) *cobra.Command {
	var asJSON func() (bool, error)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the snapshots, and how much space only each of them still holds",
		Args:  usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			json, err := asJSON()
			if err != nil {
				return err
			}
			c, err := loadChecked(*configPath)
			if err != nil {
				return err
			}
			home := c.look()
			ours, others, fault := home.Snapshots.List()
			entries, err := upgrade.OpenJournal(home.Home).Read()
			if err != nil {
				return err
			}
			all := []listed{}
			for _, one := range ours {
				alone, err := one.Alone()
				if err != nil && !errors.Is(err, os.ErrNotExist) { // it may be deleted just now
					return err
				}
				all = append(all, listed{one.ID, one.Path, stateOf(one, entries), alone, one.Manifest})
			}
			if json {
				return errors.Join(printJSON(cmd.OutOrStdout(), all), fault)
			}
			return errors.Join(printSnapshots(cmd, home, ours, all, others), fault)
		},
	}
	asJSON = outputFlag(cmd)
	return cmd
}

// stateOf says why a snapshot is kept.
func stateOf(one snapshot.Snapshot, entries upgrade.Entries) string {
	switch {
	case one.ByHand():
		return "by hand"
	case entries.Confirmed(one.Plan):
		return "upgrade confirmed"
	}
	return "upgrade not confirmed"
}

func printSnapshots(cmd *cobra.Command, home rollback.Home, ours []snapshot.Snapshot, all []listed, others []snapshot.Snapshot) error {
	out := cmd.OutOrStdout()
	if len(ours) == 0 {
		fmt.Fprintln(out, "No snapshots. Each upgrade takes one; by hand: solstice snapshot create")
	} else {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tTAKEN\tHEIGHT\tBINARY\tSIZE\tONLY HERE\tSTATE")
		for i, one := range ours {
			height := "not known"
			if one.Height > 0 {
				height = fmt.Sprint(one.Height)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", one.ID, clock(one.Taken), height, one.Dir, report.Size(one.Bytes), report.Size(all[i].Alone), all[i].State)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if len(others) > 0 {
		fmt.Fprintf(out, "%s of other homes in the same folder, such as that of %s\n", count(len(others), "snapshot"), others[0].Manifest.Home)
	}
	for _, path := range home.Snapshots.SetAside() {
		fmt.Fprintf(out, "Set aside by a restore, to be deleted by you: %s\n", path)
	}
	return nil
}

func snapshotVerifyCommand(configPath *string) *cobra.Command {
	var deep bool
	var asJSON func() (bool, error)
	cmd := &cobra.Command{
		Use:   "verify [ID]...",
		Short: "Prove that the files of snapshots are still what they were",
		Long: `Prove that the files of all snapshots, or of those that are named, are still what they were: none missing, none new, size
and time of change as then. A linked file that somebody wrote to is found so, because the node's file and the snapshot's
are one.

With --deep the content is hashed, and compared with the hashes that the first deep look took, or the copying to another disk.`,
		RunE: func(cmd *cobra.Command, ids []string) error {
			json, err := asJSON()
			if err != nil {
				return err
			}
			c, err := loadChecked(*configPath)
			if err != nil {
				return err
			}
			home := c.look()
			chosen, fault := choose(home.Snapshots, ids)
			if fault != nil && len(chosen) == 0 {
				return fault
			}
			results := map[string]snapshot.Verified{}
			var broken []string
			for _, one := range chosen {
				progress, done := bar(cmd, one.ID)
				found, err := one.Verify(cmd.Context(), deep, progress)
				done()
				if err != nil {
					return err
				}
				results[one.ID] = found
				if len(found.Faults) > 0 {
					broken = append(broken, one.ID)
				}
				if !json {
					printVerified(cmd, one, found, deep)
				}
			}
			if json {
				fault = errors.Join(printJSON(cmd.OutOrStdout(), results), fault)
			}
			if len(broken) > 0 {
				fault = errors.Join(fmt.Errorf("not what they were: %s", count(len(broken), "snapshot")), fault)
			}
			return fault
		},
	}
	cmd.Flags().BoolVar(&deep, "deep", false, "hash the content too")
	asJSON = outputFlag(cmd)
	return cmd
}

// choose returns the snapshots with these IDs, or all.
func choose(store snapshot.Store, ids []string) (chosen []snapshot.Snapshot, err error) {
	if len(ids) == 0 {
		chosen, _, err = store.List()
		return chosen, err
	}
	for _, id := range ids {
		one, err := store.Find(id)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, one)
	}
	return chosen, nil
}

// shownFaults is how many faults of a snapshot people are shown. JSON has all.
const shownFaults = 10

func printVerified(cmd *cobra.Command, one snapshot.Snapshot, found snapshot.Verified, deep bool) {
	w := cmd.OutOrStdout()
	switch n := len(found.Faults); {
	case n > 0:
		fmt.Fprintf(w, "%s: %s of %d not what they were\n", one.ID, count(n, "file"), found.Files)
	case !deep:
		fmt.Fprintf(w, "%s: %s as they were, by size and time\n", one.ID, count(found.Files, "file"))
	case found.Recorded > 0:
		fmt.Fprintf(w, "%s: %s as they were, by size and time; %d by content too, %d hashed for the first time, for the next deep look\n",
			one.ID, count(found.Files, "file"), found.Compared, found.Recorded)
	default:
		fmt.Fprintf(w, "%s: %s as they were, by content\n", one.ID, count(found.Files, "file"))
	}
	for i, f := range found.Faults {
		if i == shownFaults {
			fmt.Fprintf(w, "  and %d more\n", len(found.Faults)-i)
			break
		}
		fmt.Fprintf(w, "  %s: %s\n", f.Path, f.What)
	}
}

func snapshotPruneCommand(configPath *string) *cobra.Command {
	var keep int
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Delete the snapshots of old upgrades",
		Long: `Delete the snapshots of upgrades beyond the newest ones, as solstice run does after each upgrade. One whose upgrade
was not confirmed is kept, and so are those that you took by hand.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadChecked(*configPath)
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("keep") {
				keep = c.KeepSnapshots
			}
			if keep < 0 {
				return refuseUsage(cmd, fmt.Errorf("--keep must not be negative: %d", keep))
			}
			home := c.look()
			verb, prune := "deleted", upgrade.Prune
			if dryRun {
				verb, prune = "would be deleted", upgrade.Surplus
			}
			gone, err := prune(home.Home, home.Snapshots, keep)
			for _, one := range gone {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", verb, one.ID)
			}
			if len(gone) == 0 && err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), "nothing to delete")
			}
			return err
		},
	}
	cmd.Flags().IntVar(&keep, "keep", 3, "how `many` to keep, the newest ones (default SOLSTICE_KEEP_SNAPSHOTS)")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show")
	return cmd
}

func snapshotDeleteCommand(configPath *string) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "delete ID...",
		Short: "Delete snapshots",
		Args:  usage(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, ids []string) error {
			c, err := loadChecked(*configPath)
			if err != nil {
				return err
			}
			home := c.look()
			chosen, err := choose(home.Snapshots, ids)
			if err != nil {
				return err
			}
			entries, err := upgrade.OpenJournal(home.Home).Read()
			if err != nil {
				return err
			}
			for _, one := range chosen {
				if !force && !one.ByHand() && !entries.Confirmed(one.Plan) {
					return &solstice.RefusedError{
						Reason: fmt.Sprintf("snapshot %s is the way back from plan %s, which was not confirmed", one.ID, one.Plan),
						Hint:   "delete it all the same with --force",
					}
				}
			}
			for _, one := range chosen {
				if err := home.Snapshots.Delete(one); err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), "deleted:", one.ID)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also those whose upgrade was not confirmed")
	return cmd
}
