package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// scenario is a way in which an upgrade is measured.
type scenario struct {
	name     string
	settings []string // of the supervisor
	rpc      bool     // the node has one, and Solstice has asked it before. Cosmovisor asks none and is left out.
	ends     bool     // the node ends by itself when it has written its plan
	rare     bool     // measured in every second round only
	full     bool     // data/ holds 2 GiB; else nothing but the plan file
	cold     bool     // and nothing of its tables is in memory; else all of it
}

// upgradeTimes are the samples of one tool in one scenario.
type upgradeTimes struct {
	stop  sample // plan file whole -> the node got the signal, or was killed
	start sample // node ended -> new binary executes
	whole sample // plan file whole -> new binary executes
	space sample // that the backup takes on the disk, in bytes, if the scenario is full
}

const (
	pollInterval = 300 * time.Millisecond  // of both tools, by default
	askedBefore  = 5200 * time.Millisecond // Solstice asks an idle node every 5 s
)

// upgrade carries one node of a tool through one upgrade.
func (b *bench) upgrade(ctx context.Context, t tool, sc scenario, times *upgradeTimes) error {
	h, err := newHome(b.dir, b.node)
	if err != nil {
		return err
	}
	defer h.remove()
	if sc.full {
		if err := b.fillWithBytes(h, sc.cold); err != nil {
			return err
		}
	}
	// The moment is spread evenly over the poll of a tool that polls.
	planAfter := pollInterval + rand.N(pollInterval)
	var args []string
	if sc.rpc {
		address, err := h.withRPC()
		if err != nil {
			return err
		}
		args = append(args, "--serve", address)
		planAfter += askedBefore
	}
	args = append(args, "--plan-after", planAfter.String(), fmt.Sprintf("--ends=%t", sc.ends))
	s, err := t.supervise(h, sc.settings, args)
	if err != nil {
		return err
	}
	defer s.kill()
	var ended <-chan time.Time // as the kernel tells
	seen := map[string]time.Time{}
	for seen["v2 start"].IsZero() || seen["genesis plan"].IsZero() {
		e, err := s.next(ctx, h)
		if err != nil {
			return err
		}
		seen[e.version+" "+e.name] = e.at
		if e.version == "genesis" && e.name == "start" {
			if ended, err = watchEnd(e.pid); err != nil {
				return err
			}
		}
	}
	end := seen["genesis end"]
	if end.IsZero() {
		end = <-ended // it was killed; v2 runs, so it can't last
	}
	stop := seen["genesis signal"]
	if stop.IsZero() {
		stop = end
	}
	times.stop.add(stop.Sub(seen["genesis plan"]))
	times.start.add(seen["v2 start"].Sub(end))
	times.whole.add(seen["v2 start"].Sub(seen["genesis plan"]))
	if !sc.full {
		return nil
	}
	backup, err := h.backup()
	if err != nil {
		return err
	}
	space, err := onlyIn(backup, h.path("data"))
	times.space = append(times.space, float64(space))
	return err
}

// The tables of a scenario that is full.
const (
	fullTables = 1024
	tableSize  = 2 << 20
)

// fillWithBytes fills data/ with tables that hold something on the disk. They are written once, and linked into each home.
func (b *bench) fillWithBytes(h *home, cold bool) error {
	if b.tables == "" {
		progress("writing %d tables of %d MiB", fullTables, tableSize>>20)
		b.tables = filepath.Join(b.dir, "tables")
		err := os.Mkdir(b.tables, 0o755)
		for i := 0; i < fullTables && err == nil; i++ {
			err = writeNoise(filepath.Join(b.tables, strconv.Itoa(i)), tableSize)
		}
		if err != nil {
			return err
		}
	}
	sizes := make([]int64, fullTables)
	for i := range sizes {
		sizes[i] = tableSize
	}
	_, err := h.fill(sizes, func(path string, i int) error {
		return os.Link(filepath.Join(b.tables, strconv.Itoa(i)), path)
	})
	if err = errors.Join(err, settle(h.dir)); err != nil {
		return err
	}
	for i := range sizes {
		if err := inMemory(filepath.Join(b.tables, strconv.Itoa(i)), !cold); err != nil {
			return err
		}
	}
	return nil
}

// inMemory has the system keep a file in memory, or on the disk only. It must have been synced.
func inMemory(path string, keep bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if !keep {
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	}
	_, err = io.Copy(io.Discard, f)
	return err
}

// freeAddress returns an address that nobody listened at a moment ago.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}
