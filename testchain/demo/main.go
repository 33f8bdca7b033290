// Command demo shows Solstice at work: a genuine Cosmos SDK chain on this machine, and two upgrades of it.
//
// Everything happens in a temporary folder. Nothing is left when it ends, however it ends, but the chain's binaries in
// the build cache.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// exitInterrupted is what a shell reports for a program that Ctrl-C ended.
	exitInterrupted = 130

	// grace is how long solstice and its node may take to end when the demo is interrupted.
	grace = 5 * time.Second

	// tailLines is how much of the log is shown when something fails.
	tailLines = 20
)

func main() {
	solstice := flag.String("solstice", "", "the `program` to show (default: it is built)")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "demo: error: there are arguments, and it takes none")
		os.Exit(2)
	}
	// SIGPIPE comes when nobody reads any more: then nothing may be left either.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	os.Exit(run(ctx, newScreen(os.Stdout, os.Getenv), *solstice))
}

// run runs the demo in a folder that is removed, and returns the exit code.
func run(ctx context.Context, s *screen, solstice string) int {
	dir, err := os.MkdirTemp("", "solstice-demo-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo: error:", err)
		return 1
	}
	d := &demo{screen: s, dir: dir}
	if solstice != "" {
		d.solstice, err = filepath.Abs(solstice)
	}
	if err == nil {
		err = d.run(ctx)
	}
	interrupted := ctx.Err() != nil
	if interrupted {
		err = nil // it failed of the interruption
		s.line("")
		s.now("Stopping …")
	}
	tail, cleanErr := d.cleanUp()
	s.clear()
	if err != nil && tail != "" {
		fmt.Fprintf(os.Stderr, "\nThe last lines of solstice and its node:\n\n%s\n\n", tail)
	}
	err = errors.Join(err, cleanErr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo: error:", err)
	}
	switch {
	case interrupted && err == nil:
		s.line("Interrupted. No process and no folder is left.")
		return exitInterrupted
	case interrupted:
		return exitInterrupted
	case err != nil:
		return 1
	}
	return 0
}

// cleanUp ends the processes and removes the folder. It returns what the processes said last.
func (d *demo) cleanUp() (tail string, err error) {
	if d.process != nil {
		_, _ = d.process.Stop(grace) // what doesn't end by itself is killed
		err = d.process.KillAll()
		tail = strings.TrimSuffix(d.process.Tail(tailLines), "\n")
	}
	return tail, errors.Join(err, os.RemoveAll(d.dir))
}
