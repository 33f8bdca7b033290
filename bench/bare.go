package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"time"
)

// bare measures what both tools pay to the system: the start of the node's binary, and one line that is appended to
// a file and synced.
func (b *bench) bare(ctx context.Context, start, sync *sample) error {
	h, err := newHome(b.dir, b.node)
	if err != nil {
		return err
	}
	defer h.remove()
	cmd := exec.CommandContext(ctx, b.node, "start", "--events", h.path("events"))
	forked := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	select {
	case e := <-h.events:
		start.add(e.at.Sub(forked))
	case <-time.After(15 * time.Second):
		return errors.New("the node does not start")
	}
	f, err := os.OpenFile(h.path("journal"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for range 5 {
		before := time.Now()
		_, err := f.WriteString("a line of some length, as a journal has it: about as long as this one is, or a bit longer\n")
		if err = errors.Join(err, f.Sync()); err != nil {
			return err
		}
		sync.add(time.Since(before))
	}
	return nil
}
