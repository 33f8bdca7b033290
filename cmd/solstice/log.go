package main

import (
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/lmittmann/tint"
	"golang.org/x/sys/unix"

	"solstice"
	"solstice/artifact"
)

// newLog returns the log of a long-running command, which stderr writes.
func newLog(c *Config, stderr io.Writer) *slog.Logger {
	w := stderr
	if c.DisableLogs {
		w = io.Discard
	}
	options := &tint.Options{TimeFormat: string(c.TimeFormat), NoColor: !c.ColorLogs || os.Getenv("NO_COLOR") != "" || !isTerminal(os.Stderr)}
	options.ReplaceAttr = leaveOut()
	if c.TimeFormat == "" {
		options.ReplaceAttr = leaveOut(slog.TimeKey)
	}
	log := slog.New(tint.NewTextHandler(w, options))
	for _, key := range c.unknown {
		log.Warn("no such setting in the configuration file", "key", key, "path", c.file)
	}
	return log
}

// leaveOut leaves these keys out of a log, the secrets out of all values, and what a
// terminal would obey out of everything. Else the message is left alone: what hooks and the
// chain's commands print is theirs.
func leaveOut(keys ...string) func(groups []string, a slog.Attr) slog.Attr {
	return func(groups []string, a slog.Attr) slog.Attr {
		switch text := a.Value.String(); {
		case len(groups) == 0 && slices.Contains(keys, a.Key):
			return slog.Attr{}
		case a.Key == slog.MessageKey && solstice.Line(text) != text: // tabs are what a hook may use
			a.Value = slog.StringValue(strings.ReplaceAll(solstice.Text(text), "\n", `\u000a`))
		case a.Key != slog.MessageKey && (artifact.Redact(text) != text || solstice.Text(text) != text):
			a.Value = slog.StringValue(solstice.Text(artifact.Redact(text)))
		}
		return a
	}
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return err == nil
}
