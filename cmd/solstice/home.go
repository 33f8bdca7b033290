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
	"solstice/report"
	"solstice/rollback"
	"solstice/snapshot"
	"solstice/supervisor"
)

// onStopped is a command on a home whose node is stopped: no supervisor and no node is on it until the command ends. What a
// cut-off restore or rollback has left to do is done first, unless the command is a dry run, which is refused then.
func onStopped(configPath *string, command func(cmd *cobra.Command, home rollback.Home, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := loadChecked(*configPath)
		if err != nil {
			return err
		}
		home := c.look()
		release, err := hold(home.Home)
		if err != nil {
			return err
		}
		defer release()
		before := finishRestore
		if dryRun, err := cmd.Flags().GetBool("dry-run"); err == nil && dryRun {
			before = refuseHalfRestored
		}
		if err := before(cmd, home.Home); err != nil {
			return err
		}
		return command(cmd, home, args)
	}
}

// hold keeps supervisors and nodes away. It is refused while one is there, under solstice or not.
func hold(home solstice.Home) (release func(), err error) {
	release, err = supervisor.Hold(home)
	if err != nil {
		return nil, err
	}
	if err := (snapshot.Store{Home: home}).InUse(); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

func refuseHalfRestored(_ *cobra.Command, home solstice.Home) error { return rollback.Whole(home) }

func finishRestore(cmd *cobra.Command, home solstice.Home) error {
	what, err := rollback.Finish(home)
	if what != "" && err == nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "finished what was begun and cut off:", what)
	}
	return err
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

// terminalOf is the terminal that a command writes to, for what moves the cursor; nil if it
// is none.
func terminalOf(w io.Writer) *os.File {
	if plain, ok := w.(*solstice.PlainWriter); ok {
		if file := plain.File(); file != nil && isTerminal(file) {
			return file
		}
	}
	return nil
}

// bar shows how far something is, on a terminal. Call done at its end.
func bar(cmd *cobra.Command, what string) (progress snapshot.Progress, done func()) {
	out := terminalOf(cmd.ErrOrStderr())
	if out == nil {
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
		fmt.Fprintf(out, "\r\033[K%s [%s%s] %s of %s%s", what, strings.Repeat("=", filled), strings.Repeat(" ", width-filled), report.Size(done), report.Size(total), left)
	}
	return progress, func() { fmt.Fprint(out, "\r\033[K") }
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
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{ReplaceAttr: leaveOut(slog.TimeKey, slog.LevelKey)}))
}

// relative is a path as it is seen from the home, if it is in it.
func relative(home solstice.Home, path string) string {
	if rel, err := filepath.Rel(home.Dir, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return path
}
