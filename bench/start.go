package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// The databases that a start reads: 100 GiB.
const (
	startTables    = 50_000
	startTableSize = 2 << 20
)

// startTimes are the samples of one kind of database.
type startTimes struct {
	kind        string
	bare, whole sample // listing its directory; from the fork of solstice run to main of the node
}

// measureStarts starts nodes with large databases, and lists their directories beside that.
func (b *bench) measureStarts(ctx context.Context, rounds int, r *results) error {
	for _, s := range []*startTimes{{kind: "pebbledb"}, {kind: "goleveldb"}} {
		progress("starts with %d tables of %s, %d rounds", startTables, s.kind, rounds)
		if err := b.starts(ctx, s, rounds); err != nil {
			return fmt.Errorf("start with %s: %w", s.kind, err)
		}
		r.starts = append(r.starts, s)
	}
	return nil
}

func (b *bench) starts(ctx context.Context, s *startTimes, rounds int) error {
	h, err := newHome(b.dir, b.node)
	if err != nil {
		return err
	}
	defer h.remove()
	app := h.path("data", "application.db")
	if err := makeLarge(app, s.kind); err != nil {
		return err
	}
	config := fmt.Sprintf("db_backend = %q\n", s.kind)
	if err := os.WriteFile(h.path("config", "config.toml"), []byte(config), 0o644); err != nil {
		return err
	}
	for range rounds {
		took, _, err := timed(h, exec.CommandContext(ctx, "ls", "-lU", app))
		if err != nil {
			return err
		}
		s.bare.add(took)
		began := time.Now()
		supervisor, err := b.solstice.supervise(h, nil, nil)
		if err != nil {
			return err
		}
		e, err := supervisor.next(ctx, h)
		read := err == nil && heightRead(h)
		supervisor.kill()
		if err != nil {
			return err
		}
		if !read {
			return errors.New("the height was not read")
		}
		s.whole.add(e.at.Sub(began))
	}
	return nil
}

// heightRead says whether the databases were read: what they say is recorded before the node
// starts.
func heightRead(h *home) bool {
	_, err := os.Stat(h.path("cosmovisor", ".solstice", "height.json"))
	return err == nil
}

// makeLarge makes the database of an application with many tables, which share one file of
// holes. Pebble reads what LevelDB has written; how its files are called and a file OPTIONS
// tell the two from each other.
func makeLarge(dir, kind string) error {
	sizes := make([]int64, startTables)
	for i := range sizes {
		sizes[i] = startTableSize
	}
	extension := ".ldb"
	err := errors.Join(makeDatabase(dir, "s/latest", []byte{1 << 3, committed}, journalSize), listTables(dir, sizes))
	if kind == "pebbledb" {
		extension = ".sst"
		options := []byte("[Version]\n  pebble_version=0.1\n")
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, "OPTIONS-000003"), options, 0o644))
	}
	name := func(i int) string { return filepath.Join(dir, fmt.Sprintf("%06d%s", firstTable+i, extension)) }
	if err == nil {
		err = sparseTable(name(0), startTableSize)
	}
	for i := 1; i < startTables && err == nil; i++ {
		err = os.Link(name(0), name(i))
	}
	return err
}
