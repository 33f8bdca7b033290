// Command bench measures Solstice beside Cosmovisor, in one run, with a scripted node. Run it in its own folder:
//
//	go run .
//
// Everything happens in a temporary directory, which is removed together with all processes when it ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	runs := flag.Int("runs", 20, "how often each upgrade is timed")
	dir := flag.String("dir", "", "`folder` for the homes of the nodes, on the disk to measure on (default the system's for temporary files)")
	write := flag.Bool("write", false, "write the result to ../docs/benchmarks.md")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, *runs, *dir, *write); err != nil {
		if ctx.Err() != nil {
			err = errors.New("stopped by a signal")
		}
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, runs int, parent string, write bool) error {
	if runs < 1 {
		return errors.New("-runs must be 1 or more")
	}
	if err := adoptOrphans(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(parent, "solstice-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir}
	if b.cosmovisor, b.solstice, b.node, err = build(ctx, dir); err != nil {
		return err
	}
	r, err := b.measure(ctx, runs)
	if err != nil {
		return err
	}
	report, err := r.report()
	if err != nil {
		return err
	}
	if write {
		return os.WriteFile("../docs/benchmarks.md", report, 0o644)
	}
	_, err = os.Stdout.Write(report)
	return err
}

// bench is what all measurements share.
type bench struct {
	dir                  string
	cosmovisor, solstice tool
	node                 string // its binary
	tables               string // with bytes in them, once they are made: see fillWithBytes
}

// progress tells those who wait.
func progress(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", values...)
}
