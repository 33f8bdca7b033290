package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"solstice"
	"solstice/node"
	"solstice/upgrade"
)

// preparation is what prepare-upgrade was asked for.
type preparation struct {
	info, name string
	proposal   uint64
	all        bool
	registry   string
}

func prepareUpgradeCommand(configPath *string) *cobra.Command {
	var p preparation
	cmd := &cobra.Command{
		Use:   "prepare-upgrade",
		Short: "Download the binary of an upgrade that is ahead, verify it and put it in place",
		Long: `Download the binary that a plan's info names for this machine, compare it with its checksum, unpack it and put it where the
upgrade finds it. Without a flag it is the plan that the chain has scheduled; --proposal takes one that is still voted on, --info
a file, and --all with --registry every version that a chain registry's versions.json lists, for a sync from the first block. A
binary that is there already is left alone. A download that breaks off is gone on with by the next call.

With DAEMON_ALLOW_DOWNLOAD_BINARIES=true the running supervisor does it by itself as soon as a plan is scheduled.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadChecked(*configPath)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			if p.all {
				return c.prepareAll(ctx, cmd, p.registry)
			}
			plan, err := p.plan(ctx, c)
			if err != nil {
				return err
			}
			if plan.Name == "" {
				fmt.Fprintln(cmd.OutOrStdout(), "No upgrade is scheduled: there is nothing to prepare.")
				return nil
			}
			return c.prepare(ctx, cmd, plan, p.info != "")
		},
	}
	cmd.Flags().StringVar(&p.info, "info", "", "a `file` with the plan, as in upgrade-info.json, or with its info alone, together with --name")
	cmd.Flags().StringVar(&p.name, "name", "", "the plan's name, for an --info that does not hold it")
	cmd.Flags().Uint64Var(&p.proposal, "proposal", 0, "the `number` of a proposal")
	cmd.Flags().BoolVar(&p.all, "all", false, "every version that the --registry lists")
	cmd.Flags().StringVar(&p.registry, "registry", "", "a chain registry's versions.json or chain.json: a `file`, or its address by https")
	cmd.MarkFlagsRequiredTogether("all", "registry")
	cmd.MarkFlagsMutuallyExclusive("info", "proposal", "all")
	cmd.MarkFlagsMutuallyExclusive("name", "proposal", "all")
	return cmd
}

// askLimit is how long a node may take to tell its plan or a proposal.
const askLimit = 10 * time.Second

// plan is the plan that is meant, or the zero plan if none is ahead.
func (p preparation) plan(ctx context.Context, c *Config) (solstice.Plan, error) {
	if p.info != "" {
		return p.planInFile()
	}
	if p.name != "" {
		return solstice.Plan{}, &solstice.RefusedError{Reason: "--name goes with --info"}
	}
	home := c.home(nil)
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	client := node.Find(home, lastArgs(home), os.Getenv, c.GRPC)
	if p.proposal > 0 {
		proposal, err := client.Proposal(ctx, p.proposal)
		if err != nil {
			return solstice.Plan{}, fmt.Errorf("the node can't be asked for proposal %d: %w", p.proposal, err)
		}
		if len(proposal.Plans) == 0 {
			return solstice.Plan{}, &solstice.RefusedError{Reason: fmt.Sprintf("proposal %d (%s) schedules no upgrade", p.proposal, proposal.Status)}
		}
		return proposal.Plans[len(proposal.Plans)-1], nil
	}
	plan, _, err := client.Plan(ctx)
	if err == nil {
		return plan, nil
	}
	written, fileErr := solstice.ReadPlan(home.PlanFile())
	if fileErr != nil {
		return solstice.Plan{}, &solstice.RefusedError{
			Reason: "the node can't be asked for its plan: " + err.Error(),
			Hint:   "start it, or name the plan: solstice prepare-upgrade --info FILE",
		}
	}
	return written, nil
}

func (p preparation) planInFile() (solstice.Plan, error) {
	file, err := os.Open(p.info)
	if err != nil {
		return solstice.Plan{}, &solstice.RefusedError{Reason: err.Error()}
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, solstice.MaxPlanSize+1))
	if err != nil || len(content) > solstice.MaxPlanSize {
		return solstice.Plan{}, &solstice.RefusedError{Reason: fmt.Sprintf("%s can't be read, or is larger than %d bytes", p.info, solstice.MaxPlanSize)}
	}
	if plan, err := solstice.ParsePlan(content); err == nil {
		return plan, nil
	}
	if p.name == "" {
		return solstice.Plan{}, &solstice.RefusedError{Reason: p.info + " holds no plan", Hint: "if it is the info alone, say which plan it is of: --name NAME"}
	}
	plan := solstice.Plan{Name: p.name, Height: 1, Info: string(content)} // the height has no say here
	if err := plan.Validate(); err != nil {
		return solstice.Plan{}, &solstice.RefusedError{Reason: err.Error()}
	}
	return plan, nil
}

// prepare gets the binary of a plan, with progress on a terminal. own says that the operator has said where it is.
func (c *Config) prepare(ctx context.Context, cmd *cobra.Command, plan solstice.Plan, own bool) error {
	home := c.home(nil)
	f := c.fetcher(commandLog(cmd))
	progress, done := bar(cmd, "downloading")
	f.Progress = progress
	get := upgrade.Prepare
	if own {
		get = upgrade.PrepareOwn
	}
	p, there, err := get(ctx, home, plan, f)
	done()
	path := home.Binary(p.Dir)
	switch {
	case there && err != nil:
		return &solstice.RefusedError{Reason: "there is a binary already, and it is of no use: " + err.Error(),
			Hint: solstice.HintOf(err, "delete it, or replace it: solstice add-upgrade --force "+plan.Name+" PATH")}
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; run this as the user that the node runs as", err)
	case err != nil:
		return fmt.Errorf("plan %s: %w", plan.Name, err)
	case there:
		fmt.Fprintf(cmd.OutOrStdout(), "There already, nothing was downloaded: %s\n", path)
		return nil
	}
	fmt.Fprintf(cmd.OutOrStdout(), "Ready: %s\n  %s, from %s\n", path, p.Digest, p.Source)
	if p.Checksum == "" {
		fmt.Fprintln(cmd.OutOrStdout(), "  there was no checksum to compare it with")
	} else {
		fmt.Fprintf(cmd.OutOrStdout(), "  compared with %s\n", p.Checksum)
	}
	if p.Signed {
		fmt.Fprintln(cmd.OutOrStdout(), "  signed by one of SOLSTICE_TRUSTED_KEYS")
	}
	return nil
}

// prepareAll gets every version that a registry lists, as far as it can, and says of each what became of it.
func (c *Config) prepareAll(ctx context.Context, cmd *cobra.Command, registry string) error {
	home, f := c.home(nil), c.fetcher(commandLog(cmd))
	if !strings.Contains(registry, "://") {
		path, err := filepath.Abs(registry)
		if err != nil {
			return err
		}
		registry = path
	}
	versions, err := f.Registry(ctx, registry)
	if err != nil {
		return err
	}
	failed := 0
	for _, v := range versions {
		say := func(format string, values ...any) {
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", v.Name, fmt.Sprintf(format, values...))
		}
		if v.Height == 0 {
			say("it has no height, so it is the first one: solstice init PATH")
			continue
		}
		progress, done := bar(cmd, "downloading "+v.Name)
		f.Progress = progress
		p, there, err := upgrade.PrepareVersion(ctx, home, v, f)
		done()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil && there:
			say("there already")
		case err == nil:
			say("ready, %s", p.Digest)
		default:
			failed++
			say("NOT READY: %v", err)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d versions are not ready", failed, len(versions))
	}
	return nil
}
