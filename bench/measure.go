package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// graceful is what an operator sets for Cosmovisor to send a signal at all; without it the node is killed at once.
// Solstice sends one by default.
var graceful = scenario{name: "graceful", settings: []string{"DAEMON_SHUTDOWN_GRACE=30s"}}

var (
	byDefault = scenario{name: "default"}
	withRPC   = scenario{name: "with RPC", settings: graceful.settings, rpc: true, rare: true}
	noBackup  = scenario{name: "no backup", settings: append([]string{"UNSAFE_SKIP_BACKUP=true"}, graceful.settings...)}
	byItself  = scenario{name: "by itself", settings: graceful.settings, ends: true}
	slowCalls = scenario{name: "slow calls", settings: append([]string{"BENCHNODE_CALL=80ms"}, graceful.settings...), rare: true}
	warmData  = scenario{name: "2 GiB in memory", settings: graceful.settings, full: true}
	coldData  = scenario{name: "2 GiB on the disk", settings: graceful.settings, full: true, cold: true}
)

// pair holds what was measured of both tools.
type pair[T any] struct{ cosmovisor, solstice T }

// results are all that was measured, and where.
type results struct {
	peer    string // the version of Cosmovisor
	machine string

	upgrades  map[string]*pair[upgradeTimes] // by the name of the scenario
	snapshots map[forest]*snapshotTimes
	starts    []*startTimes
	turns     turnTimes
	noClones  string // why there are none on XFS; empty: there are
	version   pair[versionTimes]
	idle      pair[idleUse]
	size      pair[sample]
	bareStart sample // of the node's binary
	bareSync  sample // of one appended line
}

// measure takes turns between the tools, so that a busy machine is busy for both.
func (b *bench) measure(ctx context.Context, runs int) (*results, error) {
	r := &results{upgrades: map[string]*pair[upgradeTimes]{}, snapshots: map[forest]*snapshotTimes{}}
	var err error
	if r.peer, err = cosmovisorVersion(ctx); err != nil {
		return nil, err
	}
	r.machine = machine(b.dir)
	for _, file := range []struct {
		tool
		size *sample
	}{{b.cosmovisor, &r.size.cosmovisor}, {b.solstice, &r.size.solstice}} {
		info, err := os.Stat(file.path)
		if err != nil {
			return nil, err
		}
		*file.size = sample{float64(info.Size())}
	}
	progress("version")
	for range 2 * runs {
		if err := b.version(ctx, b.cosmovisor, &r.version.cosmovisor); err != nil {
			return nil, err
		}
		if err := b.version(ctx, b.solstice, &r.version.solstice); err != nil {
			return nil, err
		}
	}
	if err := b.measureUpgrades(ctx, runs, r); err != nil {
		return nil, err
	}
	if err := b.measureSnapshots(ctx, (runs+1)/2, r); err != nil {
		return nil, err
	}
	if err := b.measureStarts(ctx, (runs+1)/2, r); err != nil {
		return nil, err
	}
	if err := b.measureTurns(ctx, (runs+1)/2, r); err != nil {
		return nil, err
	}
	progress("%d idle supervisors of each, for %v", idlePairs, idleSettle+idleSpan)
	return r, b.idle(ctx, &r.idle)
}

// measureUpgrades goes through all scenarios again and again.
func (b *bench) measureUpgrades(ctx context.Context, runs int, r *results) error {
	for run := range runs {
		if run%5 == 0 {
			progress("upgrades, round %d of %d", run+1, runs)
		}
		for _, sc := range []scenario{graceful, byDefault, withRPC, noBackup, byItself, slowCalls} {
			if sc.rare && run%2 == 1 {
				continue
			}
			if err := b.measureUpgrade(ctx, sc, r); err != nil {
				return err
			}
		}
		if err := b.bare(ctx, &r.bareStart, &r.bareSync); err != nil {
			return err
		}
	}
	// Gigabytes on the way to the disk would disturb the others.
	full := (runs + 3) / 4
	progress("upgrades with 2 GiB of data, %d rounds", full)
	for range full {
		for _, sc := range []scenario{warmData, coldData} {
			if err := b.measureUpgrade(ctx, sc, r); err != nil {
				return err
			}
		}
	}
	return errors.Join(os.RemoveAll(b.tables), settle(b.dir))
}

// measureUpgrade measures one upgrade with each tool.
func (b *bench) measureUpgrade(ctx context.Context, sc scenario, r *results) error {
	times := r.upgrades[sc.name]
	if times == nil {
		times = &pair[upgradeTimes]{}
		r.upgrades[sc.name] = times
	}
	if sc.rpc {
		times.cosmovisor = r.upgrades[graceful.name].cosmovisor
	} else if err := b.upgrade(ctx, b.cosmovisor, sc, &times.cosmovisor); err != nil {
		return fmt.Errorf("upgrade, %s: %w", sc.name, err)
	}
	if err := b.upgrade(ctx, b.solstice, sc, &times.solstice); err != nil {
		return fmt.Errorf("upgrade, %s: %w", sc.name, err)
	}
	return nil
}
