package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"solstice/testchain/binaries"
	"solstice/testchain/e2e"
	"solstice/testchain/network"
)

const (
	// keys is how much state the migration to v2 rewrites: a second or two of work.
	keys = 30000

	// votingPeriod and blockTime put an upgrade some twenty blocks ahead.
	votingPeriod = 8 * time.Second
	blockTime    = 800 * time.Millisecond

	// patience is how long the demo waits for one thing, such as an upgrade, before it gives up.
	patience = 2 * time.Minute
)

// demo is what its chapters share.
type demo struct {
	*screen
	dir      string // has the home, the log, and the chain's binaries as chaind-v1 and so on
	solstice string // the program that is shown
	nw       *network.Network
	home     e2e.Home
	process  *e2e.Process // nil while none runs
}

// run tells the story.
func (d *demo) run(ctx context.Context) error {
	d.line("%s", d.paint(bold, "Solstice carries a genuine Cosmos SDK chain through two upgrades, on this machine."))
	for _, chapter := range []func(context.Context) error{d.build, d.layOut, d.start} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	running, cancel := d.process.While(ctx)
	defer cancel()
	upgrades, err := d.upgrades(running)
	if cause := context.Cause(running); cause != nil {
		return cause // whatever failed, failed of it
	}
	if err != nil {
		return err
	}
	return d.end(ctx, upgrades)
}

// build builds what isn't built yet.
func (d *demo) build(ctx context.Context) error {
	d.title("The programs")
	if d.solstice == "" {
		d.now("  building solstice")
		d.solstice = filepath.Join(d.dir, "solstice")
		if err := e2e.Build(ctx, d.solstice); err != nil {
			return err
		}
	}
	if _, err := os.Stat(d.solstice); err != nil {
		return fmt.Errorf("find the solstice to show: %w", err)
	}
	chain, err := binaries.Build(ctx, d)
	if err != nil {
		return err
	}
	for name, path := range map[string]string{"chaind-v1": chain.V1, "chaind-v2": chain.V2, "chaind-v3": chain.V3} {
		if err := os.Symlink(path, filepath.Join(d.dir, name)); err != nil {
			return err
		}
	}
	d.done("solstice, and a chain's binary in three versions: chaind-v1, chaind-v2, chaind-v3")
	return nil
}

// layOut makes the chain's home.
func (d *demo) layOut(ctx context.Context) error {
	d.now("  laying out the chain")
	var err error
	d.nw, err = network.New(ctx, network.Config{
		Dir: d.dir, Chain: d.chaind("v1"), VotingPeriod: votingPeriod, BlockTime: blockTime, LedgerKeys: keys,
	})
	if err != nil {
		return err
	}
	d.home = e2e.Home{Node: d.nw.Nodes[0], Solstice: d.solstice, Dir: d.dir, Environ: []string{"TMPDIR=" + d.dir}}
	d.done("a chain of one validator, with %s entries in its state", thousands(keys))
	return nil
}

// start puts the node under solstice.
func (d *demo) start(ctx context.Context) error {
	d.title("A node under Solstice")
	d.command("cd " + d.dir)
	d.command("export DAEMON_HOME=$PWD/" + filepath.Base(d.home.Node.Home) + " DAEMON_NAME=chaind")
	if err := d.solsticeCommand(ctx, "init", "./chaind-v1"); err != nil {
		return err
	}
	if err := d.solsticeCommand(ctx, "add-upgrade", "v2", "./chaind-v2"); err != nil {
		return err
	}
	d.command(`solstice run start --home "$DAEMON_HOME" --log_no_color >solstice.log 2>&1 &`)
	began := time.Now()
	var err error
	if d.process, err = d.home.Start(filepath.Join(d.dir, "solstice.log")); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	running, stop := d.process.While(ctx)
	defer stop()
	d.now("  chaind v1 starts")
	if err := d.home.Node.WaitHeight(running, 1); err != nil {
		return fmt.Errorf("%w (%w)", err, context.Cause(running))
	}
	d.done("chaind v1 runs: its first block came after %s", took(time.Since(began).Seconds()))
	return nil
}

// upgrades takes the chain to v2 and v3.
func (d *demo) upgrades(ctx context.Context) ([]e2e.Upgrade, error) {
	d.title("First upgrade: its binary is in place before the chain decides")
	v2, err := d.upgrade(ctx, "v1", "v2", version{
		preUpgrade: "chaind v2 ran it and had nothing to prepare",
		migration:  fmt.Sprintf("chaind v2 starts and rewrites %s entries", thousands(keys)),
	})
	if err != nil {
		return nil, err
	}
	d.title("Second upgrade: its binary is added while the chain runs")
	if err := d.solsticeCommand(ctx, "add-upgrade", "v3", "./chaind-v3"); err != nil {
		return nil, err
	}
	v3, err := d.upgrade(ctx, "v2", "v3", version{
		preUpgrade: "chaind v3 has no such command",
		migration:  "chaind v3 starts and rewrites one entry",
	})
	return []e2e.Upgrade{v2, v3}, err
}

// end shows the result and ends the chain.
func (d *demo) end(ctx context.Context, upgrades []e2e.Upgrade) error {
	d.title("Afterwards")
	d.command("solstice status")
	text, err := d.home.Run(ctx, "status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(text) {
		d.line("    %s", strings.TrimRight(line, "\n"))
	}
	d.command("kill %1")
	asked := time.Now()
	code, err := d.process.Stop(patience)
	if err == nil && code != 0 {
		err = fmt.Errorf("solstice ended with exit code %d, want 0", code)
	}
	if err != nil {
		return err
	}
	d.process = nil
	d.done("solstice and its node have ended after %s, with exit code 0", took(time.Since(asked).Seconds()))

	d.title("How long the chain stood still")
	d.line("  %s", d.paint(faint, fmt.Sprintf("%-10s %8s %10s   %16s %12s %12s", "upgrade", "height", "total", "of it: Solstice", "migration", "next block")))
	old := "v1"
	for _, u := range upgrades {
		s := u.Standing
		d.line("  %-10s %8d %s   %16s %12s %12s", old+" -> "+u.Name, u.Height, d.paint(bold, fmt.Sprintf("%10s", took(s.Total))),
			d.paint(green, fmt.Sprintf("%16s", took(s.Ours))), took(s.Migration), took(s.Total-s.Ours-s.Migration))
		old = u.Name
	}
	d.line("  %s", d.paint(faint, "Solstice: from the halt until the new binary executes, with a snapshot of the data. Migration: until"))
	d.line("  %s", d.paint(faint, "the new binary has started and committed the upgrade's block. Next block: the chain's own pace."))
	return nil
}

// solsticeCommand runs a command of solstice as its user would type it, and shows it.
func (d *demo) solsticeCommand(ctx context.Context, args ...string) error {
	d.command("solstice " + strings.Join(args, " "))
	_, err := d.home.Run(ctx, args...)
	return err
}

// chaind is the path of a version of the chain's binary.
func (d *demo) chaind(version string) string { return filepath.Join(d.dir, "chaind-"+version) }

// took writes a duration as people read it.
func took(seconds float64) string {
	if seconds < 1 {
		return fmt.Sprintf("%.0f ms", seconds*1000)
	}
	return fmt.Sprintf("%.2f s", seconds)
}

// thousands writes a number of thousands as people read it.
func thousands(n int) string { return fmt.Sprintf("%d,%03d", n/1000, n%1000) }
