package main

import (
	"io"
	"log/slog"
	"os"

	"github.com/lmittmann/tint"
	"golang.org/x/sys/unix"
)

// newLog returns the log of the long-running commands, on stderr.
func newLog(c *Config) *slog.Logger {
	var w io.Writer = os.Stderr
	if c.DisableLogs {
		w = io.Discard
	}
	options := &tint.Options{TimeFormat: string(c.TimeFormat), NoColor: !c.ColorLogs || os.Getenv("NO_COLOR") != "" || !isTerminal(os.Stderr)}
	if c.TimeFormat == "" {
		options.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
	}
	log := slog.New(tint.NewTextHandler(w, options))
	for _, key := range c.unknown {
		log.Warn("no such setting in the configuration file", "key", key, "path", c.file)
	}
	return log
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return err == nil
}
