package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// turnTimes are what one decision costs while a node runs, in nanoseconds: with few folders in
// upgrades/, and with many.
type turnTimes struct{ few, many sample }

// measureTurns runs the benchmark of the package that decides, which prints a line for each
// number of folders.
func (b *bench) measureTurns(ctx context.Context, rounds int, r *results) error {
	progress("decisions, %d rounds", rounds)
	program := filepath.Join(b.dir, "upgrade.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", program, "./upgrade")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the benchmark of decisions: %w: %s", err, out)
	}
	cmd := exec.CommandContext(ctx, program, "-test.run", "^$", "-test.bench", "Turn", "-test.count", fmt.Sprint(rounds))
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("decisions: %w: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		var folders, cpus, turns int
		var each float64
		if n, _ := fmt.Sscanf(line, "BenchmarkTurn/folders=%d-%d %d %f ns/op", &folders, &cpus, &turns, &each); n < 4 {
			continue
		}
		if folders == fewFolders {
			r.turns.few = append(r.turns.few, each)
		} else {
			r.turns.many = append(r.turns.many, each)
		}
	}
	if len(r.turns.few) != rounds || len(r.turns.many) != rounds {
		return fmt.Errorf("decisions: not %d lines for each number of folders in:\n%s", rounds, out)
	}
	return nil
}

// The folders in upgrades/ of the two homes: as many as the benchmark of decisions has.
const (
	fewFolders  = 10
	manyFolders = 10_000
)

// turnRow is the line of the table, in Markdown.
func (r *results) turnRow() string {
	few, many, met := r.turns.few.median(), r.turns.many.median(), "yes"
	if many >= sameTurn*few {
		met = "**no**"
	}
	return fmt.Sprintf("| **one decision** | %s | %s | %s× | < %s× | %s |", cell(r.turns.few, milliseconds), cell(r.turns.many, milliseconds),
		significant(many/few), significant(sameTurn), met)
}
