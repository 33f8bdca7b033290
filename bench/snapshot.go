package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// forest is one kind of data/ whose snapshots are timed, beside a command that does the like with less care.
type forest struct {
	tables int
	times  int64  // as large as usual
	beside string // the command; the paths follow
	on     string // the filesystem, in words; empty: the one of all homes
}

const (
	cpLinks  = "cp -al"
	cpClones = "cp -a --reflink=always"
)

var (
	middle  = forest{tables: 8_000, times: 1, beside: cpLinks}
	heavy   = forest{tables: 8_000, times: 8, beside: cpLinks}
	onClone = forest{tables: 8_000, times: 1, beside: cpClones, on: ", XFS, beside `" + cpClones + "`"}

	forests = []forest{
		{tables: 2_000, times: 1, beside: cpLinks}, middle, heavy, {tables: 32_000, times: 1, beside: cpLinks}, onClone,
	}
)

// snapshotTimes are the samples of one forest.
type snapshotTimes struct {
	size        int64  // of all files of data/
	bare, whole sample // the two commands, from fork to end
	taking      sample // the second one's taking alone, synced, as it prints it
	space       sample // that a snapshot takes on the disk, in bytes
}

// measureSnapshots goes through all forests, each while it is there.
func (b *bench) measureSnapshots(ctx context.Context, rounds int, r *results) error {
	for _, f := range forests {
		measure := func(dir string) (err error) {
			r.snapshots[f], err = b.snapshots(ctx, dir, f, rounds)
			return err
		}
		var err error
		if f == onClone {
			r.noClones, err = withXFS(ctx, b.dir, measure)
		} else {
			err = measure(b.dir)
		}
		if err != nil {
			return fmt.Errorf("snapshots of %d tables%s: %w", f.tables, f.on, err)
		}
	}
	return nil
}

// snapshots plants one forest in a folder and takes it again and again.
func (b *bench) snapshots(ctx context.Context, dir string, f forest, rounds int) (*snapshotTimes, error) {
	progress("snapshots of %d tables, %d rounds", f.tables, rounds)
	node := filepath.Join(dir, "node") // a link doesn't reach another filesystem
	content, err := os.ReadFile(b.node)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(node, content, 0o755); err != nil {
		return nil, err
	}
	defer os.Remove(node)
	h, err := newHome(dir, node)
	if err != nil {
		return nil, err
	}
	defer h.remove()
	times := &snapshotTimes{}
	sizes := sizes(f.tables, f.times)
	times.size, err = h.fill(sizes, func(path string, i int) error { return sparseTable(path, sizes[i]) })
	if err != nil {
		return nil, err
	}
	for range rounds {
		if err := times.takeBare(ctx, h, f.beside); err != nil {
			return nil, err
		}
		if err := times.takeSnapshot(ctx, h, b.solstice, f == onClone); err != nil {
			return nil, err
		}
	}
	return times, nil
}

func (s *snapshotTimes) takeBare(ctx context.Context, h *home, command string) error {
	to := h.path("beside")
	args := append(strings.Fields(command), h.path("data"), to)
	took, _, err := timed(h, exec.CommandContext(ctx, args[0], args[1:]...))
	if err != nil {
		return err
	}
	s.bare.add(took)
	return os.RemoveAll(to)
}

// takenIn is what the command prints, to the millisecond.
var takenIn = regexp.MustCompile(` taken in (\S+):`)

func (s *snapshotTimes) takeSnapshot(ctx context.Context, h *home, t tool, clones bool) error {
	if err := settle(h.dir); err != nil {
		return err
	}
	free, err := freeSpace(h.dir)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, t.path, "snapshot", "create")
	cmd.Env = t.environ(h.dir)
	took, output, err := timed(h, cmd)
	if err != nil {
		return err
	}
	printed := takenIn.FindStringSubmatch(output)
	if printed == nil {
		return fmt.Errorf("no time in: %s", output)
	}
	taking, err := time.ParseDuration(printed[1])
	if err != nil {
		return err
	}
	taken, err := h.backup()
	if err != nil {
		return err
	}
	var space int64
	if clones {
		space, err = lostSpace(h.dir, free)
	} else {
		space, err = onlyIn(taken, h.path("data"))
	}
	if err != nil {
		return err
	}
	s.whole.add(took)
	s.taking.add(taking)
	s.space = append(s.space, float64(space))
	return os.RemoveAll(taken)
}

// timed runs a command when the disk has nothing to do, and returns what it printed.
func timed(h *home, cmd *exec.Cmd) (took time.Duration, output string, err error) {
	if err := settle(h.dir); err != nil {
		return 0, "", err
	}
	var printed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &printed, &printed
	start := time.Now()
	err = cmd.Run()
	took = time.Since(start)
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, printed.String())
	}
	return took, printed.String(), err
}

// backup is the one that a tool has made of data/.
func (h *home) backup() (string, error) {
	found, err := filepath.Glob(h.path("data-backup-*"))
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("%d backups in %s", len(found), h.dir)
	}
	if err != nil {
		return "", err
	}
	return found[0], nil
}

// onlyIn is how much of the disk a backup takes that data does not hold anyway, in bytes.
func onlyIn(backup, data string) (size int64, err error) {
	seen := map[uint64]bool{}
	count := func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		if !seen[stat.Ino] {
			size += stat.Blocks * 512 // stat(2)
		}
		seen[stat.Ino] = true
		return nil
	}
	if err := filepath.WalkDir(data, count); err != nil {
		return 0, err
	}
	size = 0
	err = filepath.WalkDir(backup, count)
	return size, err
}

// lostSpace is how much less is free than it was. A file that shares its blocks counts them as if it did not, but nobody
// else writes on a filesystem of our own.
func lostSpace(dir string, before int64) (int64, error) {
	if err := settle(dir); err != nil {
		return 0, err
	}
	left, err := freeSpace(dir)
	return before - left, err
}

func freeSpace(dir string) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return int64(fs.Bfree) * fs.Bsize, nil
}
