package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// versionTimes are the samples of one tool's version command.
type versionTimes struct{ firstByte, exit sample }

// version runs `version --cosmovisor-only` once. Cosmovisor prints to stderr, Solstice to stdout; both go to one pipe.
func (b *bench) version(ctx context.Context, t tool, times *versionTimes) error {
	reader, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reader.Close()
	cmd := exec.CommandContext(ctx, t.path, "version", "--cosmovisor-only")
	cmd.Env = t.environ(b.dir)
	cmd.Stdout, cmd.Stderr = writer, writer
	start := time.Now()
	err = cmd.Start()
	writer.Close()
	if err != nil {
		return err
	}
	_, readErr := reader.Read(make([]byte, 1))
	first := time.Since(start)
	err = cmd.Wait()
	exit := time.Since(start)
	if err = errors.Join(err, readErr); err != nil {
		return fmt.Errorf("%s version: %w", t.name, err)
	}
	times.firstByte.add(first)
	times.exit.add(exit)
	return nil
}
