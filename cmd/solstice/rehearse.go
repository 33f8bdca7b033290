package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"solstice"
	"solstice/api"
	"solstice/artifact"
	"solstice/node"
	"solstice/rehearse"
	"solstice/rollback"
	"solstice/snapshot"
)

func rehearseCommand(configPath *string) *cobra.Command {
	var o rehearse.Options
	var from, memory, maxDisk, page string
	var yes bool
	var asJSON func() (bool, error)
	cmd := &cobra.Command{
		Use:   "rehearse --plan NAME --binary PATH",
		Short: "Carry an upgrade out on a copy of this node's state, and see what it does and needs",
		Long: `Carry an upgrade out on a copy of this node's state, on this machine, and measure it. The copy shares what databases write once with
the original, so it takes a moment and next to no space; the original is never opened for writing. The copy has keys of its own,
no peers, and where the system allows it a network of its own. It is removed at the end, whatever happens.

The chain's own in-place-testnet (SDK v0.50 and later) makes a network of one validator out of the copy. solstice run takes it
through the upgrade, and --blocks follow. With --repeat 2 it is done twice from the same state and the same block: a migration that
is not deterministic is found so.

The state is that of the newest snapshot. --from live takes that of the node itself, which has to be stopped; --from also takes the ID
of a snapshot, or the folder of a stopped home. What the rehearsal has shown is kept for solstice doctor and solstice status.

The exit code is 0 if all went well, 1 if not, 3 if nothing was tried.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			json, err := asJSON()
			if err != nil {
				return err
			}
			if o.Plan == "" || o.Binary == "" {
				return refuseUsage(cmd, errors.New("--plan and --binary say what is rehearsed"))
			}
			if o.Blocks < 1 || o.Repeat < 1 {
				return refuseUsage(cmd, errors.New("--blocks and --repeat are 1 or more"))
			}
			if o.Memory, err = parseSize(memory); err != nil {
				return refuseUsage(cmd, fmt.Errorf("--memory: %w", err))
			}
			if o.MaxDisk, err = parseSize(maxDisk); err != nil {
				return refuseUsage(cmd, fmt.Errorf("--max-disk: %w", err))
			}
			c, err := loadChecked(*configPath)
			if err != nil {
				return err
			}
			home := c.look()
			if page, err = reportPath(page); err != nil {
				return err
			}
			ran, code, network := rehearse.Alone()
			if ran {
				return exitWith(code)
			}
			o.Home, o.Version, o.Log, o.Network = home.Home, ownVersion(), commandLog(cmd), network
			if o.Source, err = source(cmd, home, from, yes); err != nil {
				return err
			}
			if o.Source.Forget != nil {
				defer o.Source.Forget() // also where it was refused before the state was copied
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			result, err := rehearse.Run(ctx, o)
			if err != nil {
				return interruption(ctx, err)
			}
			if err := publish(cmd.OutOrStdout(), result, rehearse.Document(result), page, json); err != nil {
				return err
			}
			if !result.Passed() {
				return exitError(solstice.ExitFailed)
			}
			return nil
		},
	}
	asJSON = outputFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&o.Plan, "plan", "", "the `name` of the plan, as the chain has it")
	f.StringVar(&o.Binary, "binary", "", "the new binary's `path`")
	f.StringVar(&from, "from", "", "the `state`: live, the ID of a snapshot, or the folder of a stopped home (default the newest snapshot)")
	f.Int64Var(&o.Blocks, "blocks", 5, "how `many` blocks are made beyond the plan's height")
	f.IntVar(&o.Repeat, "repeat", 1, "how `often` it is done, each time from the same state")
	f.StringVar(&memory, "memory", "", "how `much` memory the node may have, such as 16G")
	f.StringVar(&maxDisk, "max-disk", "", "how `much` the rehearsal may take on the disk, such as 200G; files that it shares don't count")
	f.StringVar(&page, "report", "", "write the report to a `file` too, as a page that needs nothing beside it")
	f.BoolVar(&o.Keep, "keep", false, "leave the copy, with its logs")
	f.BoolVar(&yes, "yes", false, "with --from live: also on a validator")
	return cmd
}

// exitWith ends solstice with the code of the process that did its work.
func exitWith(code int) error {
	if code == 0 {
		return nil
	}
	return exitError(code)
}

// source finds the state that is copied.
func source(cmd *cobra.Command, home rollback.Home, from string, yes bool) (rehearse.Source, error) {
	link, err := home.Current()
	if err != nil {
		return rehearse.Source{}, err
	}
	switch {
	case from == "live":
		return liveSource(cmd, home, link, yes)
	case from != "" && isHome(from):
		return stoppedSource(home, link, from)
	case from == "":
		ours, _, fault := home.Snapshots.List()
		if len(ours) == 0 {
			return rehearse.Source{}, errors.Join(&solstice.RefusedError{
				Reason: "there is no snapshot to rehearse on",
				Hint: "take one: solstice snapshot create, with --live if it runs under solstice\n" +
					"or rehearse on the node's own state: --from live\nor on another stopped home: --from DIR",
			}, fault)
		}
		return snapshotSource(home, ours[len(ours)-1])
	}
	if filepath.Base(from) != from {
		if abs, err := filepath.Abs(from); err == nil {
			from = abs
		}
	}
	one, err := home.Snapshots.Find(from)
	if err != nil {
		return rehearse.Source{}, err
	}
	return snapshotSource(home, one)
}

// isHome says whether a folder is a node's home, and no snapshot.
func isHome(path string) bool {
	for _, name := range []string{"data", "config"} {
		if info, err := os.Stat(filepath.Join(path, name)); err != nil || !info.IsDir() {
			return false
		}
	}
	_, err := os.Stat(filepath.Join(path, "manifest.json"))
	return err != nil
}

func snapshotSource(home rollback.Home, one snapshot.Snapshot) (rehearse.Source, error) {
	s := rehearse.Source{Label: "snapshot " + one.ID, Home: one.Path, Node: home.Node, Settings: home.Settings, Dir: one.Dir}
	if err := one.RefuseElsewhere(); err != nil {
		return s, err
	}
	if one.Dir == "" {
		return s, &solstice.RefusedError{Reason: fmt.Sprintf("snapshot %s does not say which binary it belongs to", one.ID), Hint: "choose another: solstice snapshot list"}
	}
	s.Binary = home.Binary(one.Dir)
	if digest, err := artifact.Digest(s.Binary); err != nil || one.Digest != "" && digest != one.Digest {
		return s, &solstice.RefusedError{
			Reason: fmt.Sprintf("the binary that snapshot %s belongs to is not in %s any more", one.ID, s.Binary),
			Hint:   "choose another snapshot: solstice snapshot list\nor take a new one: solstice snapshot create, with --live if it runs under solstice",
		}
	}
	return s, nil
}

// liveSource is the state of the node itself, as it is now. One that runs under solstice is stopped for a snapshot, and started again.
func liveSource(cmd *cobra.Command, home rollback.Home, link solstice.Link, yes bool) (rehearse.Source, error) {
	s := rehearse.Source{Label: "the state of " + home.Node, Home: home.Node, Node: home.Node, Settings: home.Settings, Dir: link.Dir, Binary: home.Binary(link.Dir)}
	if link.Dir == "" {
		return s, &solstice.RefusedError{Reason: "there is no current link, so which binary the state belongs to is not known", Hint: "point it at one: solstice switch NAME"}
	}
	status, err := api.Status(cmd.Context(), home.Socket())
	runs := err == nil && status.Node != nil
	if _, err := os.Stat(home.Settings.KeyFile); (err == nil || home.Settings.SignerAddress != "") && !yes {
		cost := "while its state is copied it can't be started"
		if runs {
			cost = "it is stopped while its state is copied, and signs nothing"
		}
		return s, &solstice.RefusedError{
			Reason: "this node can sign blocks, and " + cost + ": a moment where files are linked or cloned, else as long as a copy takes",
			Hint:   "if that is fine: --yes\nor rehearse on a snapshot: solstice snapshot list",
		}
	}
	if runs {
		return pausedSource(cmd, home)
	}
	s.Hold = func() (func(), error) {
		release, err := hold(home.Home)
		if err == nil {
			fmt.Fprintln(cmd.ErrOrStderr(), "while the state is copied the node can't be started: a moment where files are linked or cloned")
		}
		return release, err
	}
	return s, nil
}

// forRehearsal begins the IDs of snapshots that are taken for one rehearsal and deleted once they are copied.
const forRehearsal = "rehearsal"

// pausedSource is the state of a node that runs under solstice.
func pausedSource(cmd *cobra.Command, home rollback.Home) (s rehearse.Source, err error) {
	left, _, _ := home.Snapshots.List() // one that can't be read is said where it matters
	for _, one := range left {
		if one.ByHand() && strings.HasPrefix(one.ID, forRehearsal+"-") && time.Since(one.Taken) > time.Hour {
			if err := home.Snapshots.Delete(one); err != nil { // of a rehearsal that was killed
				return s, err
			}
		}
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "the node is stopped while its state is linked or cloned, and started again")
	taken, err := pausedSnapshot(cmd, home.Home, forRehearsal)
	if err != nil {
		return s, err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "it was stopped for %s\n", time.Duration(taken.Stopped).Round(time.Millisecond))
	one, err := home.Snapshots.Find(taken.ID)
	if err != nil {
		return s, err
	}
	if s, err = snapshotSource(home, one); err != nil {
		return s, errors.Join(err, home.Snapshots.Delete(one))
	}
	s.Label = "the state of " + home.Node
	s.Forget = sync.OnceFunc(func() {
		if err := home.Snapshots.Delete(one); err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "the snapshot that was taken for it can't be deleted: %v\n", err)
		}
	})
	return s, nil
}

// stoppedSource is the state of another home. Its binary is that of its own link, or else of ours.
func stoppedSource(home rollback.Home, link solstice.Link, dir string) (rehearse.Source, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return rehearse.Source{}, err
	}
	other := solstice.Home{Dir: dir, Node: dir, Name: home.Name, KeepCase: home.KeepCase}
	s := rehearse.Source{Label: "the state of " + dir, Home: dir, Node: dir, Dir: link.Dir, Binary: home.Binary(link.Dir)}
	s.Settings = node.ReadSettings(other, nil, func(string) string { return "" })
	if own, err := other.Current(); err == nil && own.Dir != "" {
		s.Dir, s.Binary = own.Dir, other.Binary(own.Dir)
	}
	if s.Dir == "" {
		return s, &solstice.RefusedError{Reason: "neither " + dir + " nor this home has a current link, so which binary the state belongs to is not known", Hint: "point it at one: solstice switch NAME"}
	}
	s.Hold = func() (func(), error) { return func() {}, (snapshot.Store{Home: other}).InUse() }
	return s, nil
}

var sizeText = regexp.MustCompile(`^(\d+)([KMGT]?)(?:i?B)?$`)

// parseSize reads a number of bytes such as 16G, in powers of 1024. Nothing is 0.
func parseSize(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	match := sizeText.FindStringSubmatch(strings.ToUpper(text))
	if match == nil {
		match = sizeText.FindStringSubmatch(text)
	}
	if match == nil {
		return 0, fmt.Errorf("%q is no size such as 500M or 16G", text)
	}
	n, err := strconv.ParseInt(match[1], 10, 64)
	if err != nil {
		return 0, err
	}
	shift := 10 * (slices.Index([]string{"", "K", "M", "G", "T"}, match[2]))
	if n < 1 || n<<shift>>shift != n {
		return 0, fmt.Errorf("%q is no size such as 500M or 16G", text)
	}
	return n << shift, nil
}
