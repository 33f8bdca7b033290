package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"solstice/testchain/e2e"
)

const (
	// margin is how many blocks later than needed an upgrade is, for machines that are slow with the transactions.
	margin = 5

	// encore is how many blocks are seen after an upgrade.
	encore = 3

	// plainEvery is how many blocks go by between two lines about the height where none can be rewritten.
	plainEvery = 5
)

// version says what a version of the chain's binary does at its upgrade.
type version struct{ preUpgrade, migration string }

// upgrade lets the chain decide on an upgrade and shows how solstice carries it out.
func (d *demo) upgrade(ctx context.Context, old, name string, v version) (e2e.Upgrade, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("upgrade %q is not done after %v", name, patience))
	defer cancel()
	height, err := d.propose(ctx, old, name)
	if err != nil {
		return e2e.Upgrade{}, err
	}
	if err := d.countUp(ctx, name, height); err != nil {
		return e2e.Upgrade{}, err
	}
	d.line("  %s height %d: chaind %s halts, as the chain decided. Solstice goes to work:", d.paint(yellow, "■"), height, old)
	return d.watch(ctx, old, name, v)
}

// propose submits a proposal and votes for it. It returns the upgrade's height.
func (d *demo) propose(ctx context.Context, chain, name string) (int64, error) {
	height, err := d.nw.NextUpgradeHeight(ctx)
	if err != nil {
		return 0, err
	}
	height += margin
	d.command(fmt.Sprintf("./chaind-%s tx upgrade software-upgrade %s --upgrade-height %d --from validator …", chain, name, height))
	d.now("  waiting for the block with the proposal")
	proposal, err := d.nw.ProposeUpgrade(ctx, d.chaind(chain), name, height, "")
	if err != nil {
		return 0, err
	}
	d.command(fmt.Sprintf("./chaind-%s tx gov vote %d yes --from validator …", chain, proposal))
	d.now("  waiting for the block with the vote")
	return height, d.nw.Vote(ctx, d.chaind(chain), proposal)
}

// countUp shows the height until the node halts.
func (d *demo) countUp(ctx context.Context, name string, height int64) error {
	var first, last int64
	decided := false
	return e2e.Wait(ctx, func() (bool, error) {
		if content, err := os.ReadFile(d.home.Node.UpgradeInfo()); err == nil && strings.Contains(string(content), `"`+name+`"`) {
			return true, nil
		}
		at, err := d.home.Node.Height(ctx)
		if err != nil {
			return false, nil // at the halt, for a moment, the file says more
		}
		if at > height {
			return false, fmt.Errorf("the chain has passed height %d and not decided on the upgrade", height)
		}
		if !decided {
			plan, err := d.nw.CurrentPlan(ctx)
			if decided = err == nil && plan != nil && plan.Name == name; decided {
				d.done("the vote has passed: upgrade %s at height %d", name, height)
			}
		}
		if first == 0 {
			first = at
		}
		doing := "the vote is open"
		if decided {
			doing = "the chain goes on to it"
		}
		d.now("    height %d of %d  %s  %s", at, height, d.bar(at-first, height-first), d.paint(faint, doing))
		if !d.terminal && at != last && at%plainEvery == 0 {
			d.line("    height %d of %d: %s", at, height, doing)
		}
		last = at
		return false, nil
	})
}

// watch shows the steps of an upgrade until it is confirmed.
func (d *demo) watch(ctx context.Context, old, name string, v version) (e2e.Upgrade, error) {
	notes := map[string]string{
		"stop":        "chaind " + old + " has ended, after SIGTERM",
		"plan":        "data/upgrade-info.json is as the chain wrote it",
		"snapshot":    "the way back: data and settings, in " + d.home.Node.Moniker + "/data-backup-" + name + "-…",
		"script":      "none is set",
		"pre-upgrade": v.preUpgrade,
		"switch":      "current -> upgrades/" + name,
		"start":       "chaind " + name + " executes",
	}
	halted, shown, migrated := time.Now(), 0, false
	var u e2e.Upgrade
	err := e2e.Wait(ctx, func() (bool, error) {
		status, err := d.home.Status(ctx)
		if err != nil {
			return false, err
		}
		if found := status.Upgrade(name); found != nil {
			u = *found
		}
		for ; shown < len(u.Steps); shown++ {
			step := u.Steps[shown]
			duration, note := took(step.Seconds), notes[step.Name]
			if step.Name == "start" {
				duration, note = "", note+fmt.Sprintf(", %s after the halt", took(u.Standing.Ours))
			}
			d.step(step.Name, duration, note)
		}
		if u.Standing.Migration > 0 && !migrated {
			migrated = true
			d.step("migration", took(u.Standing.Migration), fmt.Sprintf("%s; block %d is committed", v.migration, u.Height))
		}
		if u.State == "confirmed" {
			return true, nil
		}
		doing := "waiting for the next block"
		switch {
		case status.Doing != nil:
			doing = status.Doing.Step
		case !migrated:
			doing = v.migration
		}
		d.now("      %s  %s", d.paint(yellow, fmt.Sprintf("standing still for %.1f s", time.Since(halted).Seconds())), d.paint(faint, doing))
		return false, nil
	})
	if err != nil {
		return u, err
	}
	d.done("height %d: the chain goes on with chaind %s. It stood still for %s", u.Height+1, name, d.paint(bold, took(u.Standing.Total)))
	for height := u.Height + 1; height <= u.Height+encore; height++ {
		d.now("    height %d", height)
		if err := d.home.Node.WaitHeight(ctx, height+1); err != nil {
			return u, err
		}
	}
	return u, nil
}
