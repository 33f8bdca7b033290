package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"solstice"
	"solstice/node"
	"solstice/rollback"
	"solstice/snapshot"
	"solstice/supervisor"
)

// stopped is a home that a command holds: no supervisor and no node is on it until release is called.
type stopped struct {
	rollback.Home
	release func()
}

// hold takes the home for a command. It is refused while a supervisor or a node is there. What a cut-off restore or
// rollback has left to do is done first.
func (c *Config) hold(cmd *cobra.Command) (*stopped, error) {
	h := c.look()
	release, err := supervisor.Hold(h.Home)
	if err != nil {
		return nil, err
	}
	what, err := rollback.Finish(h.Home)
	if what != "" && err == nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "finished what was begun and cut off:", what)
	}
	if err != nil {
		release()
		return nil, err
	}
	return &stopped{h, release}, nil
}

// look is the home for a command that only reads.
func (c *Config) look() rollback.Home {
	home := c.home(nil)
	settings := node.ReadSettings(home, lastArgs(home), os.Getenv)
	return rollback.Home{Home: home, Settings: settings, Snapshots: c.store(home), Signs: guard(home, settings)}
}

// confirm asks for a yes, unless it was given on the command line.
func confirm(cmd *cobra.Command, given bool) error {
	if given {
		return nil
	}
	if in, ok := cmd.InOrStdin().(*os.File); !ok || !isTerminal(in) {
		return &solstice.RefusedError{Reason: "nobody is there to say yes: standard input is no terminal", Hint: "say it with --yes; --dry-run only shows"}
	}
	fmt.Fprint(cmd.OutOrStdout(), "Do this? Type yes: ")
	answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(answer) != "yes" {
		return &solstice.RefusedError{Reason: "not a yes: nothing was changed"}
	}
	return nil
}

// bar shows how far something is, on a terminal. Call done at its end.
func bar(cmd *cobra.Command, what string) (progress snapshot.Progress, done func()) {
	out, ok := cmd.ErrOrStderr().(*os.File)
	if !ok || !isTerminal(out) {
		return nil, func() {}
	}
	const width = 30
	start := time.Now()
	var shown time.Time
	progress = func(done, total int64) {
		if time.Since(shown) < 100*time.Millisecond || total == 0 {
			return
		}
		shown = time.Now()
		filled := int(done * width / total)
		left := ""
		if done > 0 {
			left = ", " + (time.Duration(float64(time.Since(start)) * float64(total-done) / float64(done))).Round(time.Second).String() + " left"
		}
		fmt.Fprintf(out, "\r\033[K%s [%s%s] %s of %s%s", what, strings.Repeat("=", filled), strings.Repeat(" ", width-filled), size(done), size(total), left)
	}
	return progress, func() { fmt.Fprint(out, "\r\033[K") }
}

// size is a number of bytes for people.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1024 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// commandLog is the log of a command that ends: plain lines on stderr.
func commandLog(cmd *cobra.Command) *slog.Logger {
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{}
		}
		return a
	}}))
}

// relative is a path as it is seen from the home, if it is in it.
func relative(home solstice.Home, path string) string {
	if rel, err := filepath.Rel(home.Dir, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}
