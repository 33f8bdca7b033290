package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"solstice"
	"solstice/internal/durable"
	"solstice/report"
	"solstice/simulate"
)

func simulateCommand() *cobra.Command {
	var asJSON func() (bool, error)
	var config simulate.Config
	var upgrades, genesis []string
	var dir, page, attach string
	var project simulate.Project
	var keep bool
	cmd := &cobra.Command{
		Use:   "simulate --binary PATH [--upgrade NAME=PATH]...",
		Short: "Make a local network of a chain's binaries and take it through its upgrades",
		Long: `Make a network of a chain's own binaries on this machine, each node under solstice run, and take it through its upgrades, one
after the other, by its own governance. Nothing outside is asked, and nothing of your own node is touched.

  solstice simulate --binary ./chaind-v1 --upgrade v2=./chaind-v2 --upgrade v3=./chaind-v3

It works with the binary of any Cosmos SDK chain that upgrades by x/gov: what its commands are called is found out from its own
help. The exit code is 0 only if every node went through every upgrade and all have the same state.

Sentries: with --sentries N each validator is reachable through N nodes of its own alone. Faults: --late and --missing are nodes
whose binaries come late, or never; --kill are nodes whose solstice is killed in the middle of each upgrade. A node is named as it
is shown, such as validator1, or by a validator's number. --docker DIR writes the same network as a Compose project instead.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			json, err := asJSON()
			if err != nil {
				return err
			}
			if attach != "" {
				return runSimulation(cmd, page, json, func(ctx context.Context, shown simulate.Screen) (*simulate.Result, error) {
					return simulate.Attach(ctx, attach, upgrades, config.Patience, shown)
				})
			}
			if config.Binary == "" {
				return refuseUsage(cmd, errors.New("--binary is missing: the chain's first binary"))
			}
			for _, text := range upgrades {
				name, path, ok := strings.Cut(text, "=")
				if !ok || name == "" || path == "" {
					return refuseUsage(cmd, fmt.Errorf("--upgrade is NAME=PATH, not %q", text))
				}
				config.Upgrades = append(config.Upgrades, simulate.Upgrade{Name: name, Binary: path})
			}
			config.Genesis = map[string]string{}
			for _, text := range genesis {
				path, value, ok := strings.Cut(text, "=")
				if !ok {
					return refuseUsage(cmd, fmt.Errorf("--genesis is PATH=JSON, not %q", text))
				}
				config.Genesis[path] = value
			}
			if project.Dir != "" {
				return writeProject(cmd, config, project)
			}
			return simulateHere(cmd, config, dir, page, keep, json)
		},
	}
	asJSON = outputFlag(cmd)
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&config.Binary, "binary", "", "the chain's binary that the network begins with, a `path`")
	f.StringArrayVar(&upgrades, "upgrade", nil, "an upgrade and its binary, `NAME=PATH`; several are done in their order")
	f.IntVar(&config.Validators, "validators", 3, "how many validators; of three all are needed for a block, of four three")
	f.IntVar(&config.Sentries, "sentries", 0, "how many sentry nodes before each validator")
	f.Int64Var(&config.BlocksBetween, "blocks-between", 10, "blocks from one plan's height to the next, at least")
	f.DurationVar(&config.BlockTime, "block-time", time.Second, "the pause after each block")
	f.DurationVar(&config.VotingPeriod, "voting-period", 0, "how long a vote lasts (default: as long as this machine needs)")
	f.DurationVar(&config.Patience, "patience", 3*time.Minute, "how long one upgrade may take before it has failed")
	f.StringSliceVar(&config.Late, "late", nil, "`nodes` whose binaries come late")
	f.StringSliceVar(&config.Missing, "missing", nil, "`nodes` whose binaries never come")
	f.StringSliceVar(&config.Kill, "kill", nil, "`nodes` whose solstice is killed in the middle of each upgrade")
	f.BoolVar(&keep, "keep", false, "leave the network's folder, with a script that starts it again")
	f.StringVar(&dir, "dir", "", "the network's `folder`, which is kept (default: a temporary one)")
	f.StringVar(&page, "report", "", "write the report as a web page, too, to this `file`")
	f.StringVar(&config.Denom, "denom", "", "the `name` of what is staked (default: the one in the genesis that the binary writes)")
	f.StringVar(&config.Stake, "stake", "1000000000", "each validator's stake, in --denom; a chain with 18 decimals needs 1000000000000000000000")
	f.StringArrayVar(&genesis, "genesis", nil, "set more in the genesis, `PATH=JSON` such as app_state.mint.params.blocks_per_year=\"100\"")
	f.StringArrayVar(&config.Start, "start-arg", nil, "a further `argument` of the chain's start command")
	f.StringArrayVar(&config.Tx, "tx-arg", nil, "a further `argument` of the chain's tx commands, such as --fees=5000uatom")
	f.StringArrayVar(&config.Environ, "env", nil, "a `VARIABLE=VALUE` for the nodes")
	f.StringVar(&project.Dir, "docker", "", "write the network as a Docker Compose project into this `folder`, and start nothing")
	f.StringVar(&project.Base, "docker-base", "scratch", "the `image` that the project's is made from")
	f.StringVar(&attach, "attach", "", "within a project: take its running network through the upgrades named with --upgrade NAME; a `file`")
	_ = f.MarkHidden("attach") // the project calls it
	return cmd
}

const temporary = "solstice-simulate-"

// simulateHere simulates in a folder that is removed again, unless it is to be kept.
func simulateHere(cmd *cobra.Command, config simulate.Config, dir, page string, keep, asJSON bool) (err error) {
	sweepTemporary(temporary)
	config.Dir, keep = dir, keep || dir != ""
	if dir == "" {
		config.Dir, err = os.MkdirTemp("", temporary)
	} else {
		config.Dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return err
	}
	err = runSimulation(cmd, page, asJSON, func(ctx context.Context, shown simulate.Screen) (*simulate.Result, error) {
		result, err := simulate.Run(ctx, config, shown)
		switch {
		case result != nil && keep:
			shown.Say("the network is in %s; start it again with: %s", config.Dir, filepath.Join(config.Dir, simulate.StartScript))
		case dir == "":
			err = errors.Join(err, os.RemoveAll(config.Dir))
		}
		return result, err
	})
	return err
}

// runSimulation shows a simulation and publishes its result.
func runSimulation(cmd *cobra.Command, page string, asJSON bool, run func(context.Context, simulate.Screen) (*simulate.Result, error)) error {
	page, err := reportPath(page)
	if err != nil {
		return err
	}
	out := os.Stdout
	if asJSON {
		out = os.Stderr
	}
	shown := newScreen(out)
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	result, err := run(ctx, shown)
	shown.End()
	if err != nil {
		return interruption(ctx, err)
	}
	if err := publish(cmd.OutOrStdout(), result, result.Document(), page, asJSON); err != nil {
		return err
	}
	if !result.Passed {
		return exitError(solstice.ExitFailed)
	}
	return nil
}

// publish writes a result as text or JSON, and as a page where one is wanted.
func publish(out io.Writer, result any, document report.Document, page string, asJSON bool) error {
	var err error
	if asJSON {
		err = printJSON(out, result)
	} else {
		fmt.Fprintln(out)
		err = document.Text(out)
	}
	if page == "" {
		return err
	}
	var html strings.Builder
	if pageErr := document.HTML(&html); pageErr != nil {
		return errors.Join(err, pageErr)
	}
	return errors.Join(err, durable.WriteFile(page, []byte(html.String()), 0o644))
}

// reportPath looks whether a report can be written there, before the work that it is about: a file is made, and removed again.
func reportPath(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	try, err := os.CreateTemp(filepath.Dir(path), durable.TempPrefix)
	if err == nil {
		err = errors.Join(try.Close(), os.Remove(try.Name()))
	}
	if err != nil {
		return "", &solstice.RefusedError{Reason: "the report can't be written: " + err.Error(), Hint: "name a file in a folder that is there and can be written to"}
	}
	return path, nil
}

// errInterrupted is why a command ended that somebody has told to.
var errInterrupted = errors.New("interrupted; no process is left")

// exitInterrupted is what a shell reports for a program that Ctrl-C ended.
const exitInterrupted = 128 + int(syscall.SIGINT)

// interruptible is a context that ends when somebody tells us to. SIGPIPE comes when nobody reads any more.
func interruptible(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	go func() {
		select {
		case <-signals:
			cancel(errInterrupted)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}

// interruption gives an error the exit code of an interruption, if it is one.
func interruption(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), errInterrupted) {
		return codedError{errInterrupted, exitInterrupted}
	}
	return err
}

// sweepTemporary removes the temporary folders of commands that were killed. A living command has a lock on its folder; one that has
// just been made has none yet.
func sweepTemporary(prefix string) {
	folders, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, folder := range folders {
		info, err := os.Stat(folder)
		if err != nil || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		if lock, err := durable.Lock(folder); err == nil {
			os.RemoveAll(folder) // what can't be removed is somebody else's
			lock.Close()
		}
	}
}

// writeProject writes a Compose project and says what to do with it.
func writeProject(cmd *cobra.Command, config simulate.Config, project simulate.Project) (err error) {
	if project.Dir, err = filepath.Abs(project.Dir); err != nil {
		return err
	}
	if !cmd.Flags().Changed("sentries") {
		config.Sentries = 1
	}
	ctx, stop := interruptible(cmd.Context())
	defer stop()
	shown := newScreen(os.Stdout)
	if err := project.Write(ctx, config, shown); err != nil {
		return interruption(ctx, err)
	}
	shown.Say("the project is in %s; its README.md says the commands, the first is:\n  cd %s && docker-compose up --detach --build", project.Dir, project.Dir)
	return nil
}
