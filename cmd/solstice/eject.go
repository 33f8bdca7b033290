package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"solstice"
	"solstice/internal/durable"
	"solstice/internal/shell"
	"solstice/rollback"
	"solstice/upgrade"
)

func ejectCommand(configPath *string) *cobra.Command {
	var dryRun, restart bool
	var units []string
	cmd := &cobra.Command{
		Use:   "eject",
		Short: "Leave the home to Cosmovisor: its service, your own plans, the link",
		Long: `Make ready for going back to Cosmovisor, with the node stopped. The plans that you added with a height are written where
Cosmovisor keeps them, the current link is made absolute, which every version of it can follow, and the drop-in that adopt wrote is
removed. Everything else is as it needs it anyway.`,
		Args: usage(cobra.NoArgs),
		RunE: onStopped(configPath, func(cmd *cobra.Command, home rollback.Home, _ []string) error {
			dropIns, err := ownDropIns(home.Home, units)
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			would := ""
			var plans []solstice.Plan
			if dryRun {
				would = "would be "
				manual, readErr := upgrade.ReadManual(home.Home)
				for _, m := range manual {
					plans = append(plans, m.Plan)
				}
				err = readErr
			} else {
				err = asOwner(home.Home, func() error {
					var err error
					plans, err = upgrade.Eject(home.Home)
					return err
				})
			}
			if err != nil {
				return err
			}
			for _, p := range plans {
				fmt.Fprintf(w, "%shanded over: %s, binary in %s\n", would, p, path.Join("cosmovisor/upgrades", url.PathEscape(strings.ToLower(p.Name))))
			}
			if c, err := loadConfig(*configPath); err == nil && len(c.list) > 0 {
				fmt.Fprintf(w, "not handed over: the sidecars that %s lists; Cosmovisor runs none\n", c.Sidecars)
			}
			var commands [][]string
			for _, file := range dropIns {
				if !dryRun {
					if err := durable.Remove(file); err != nil {
						return err
					}
					_ = os.Remove(filepath.Dir(file)) // unless others are in it
				}
				fmt.Fprintf(w, "%sremoved: %s\n", would, file)
				commands = append(commands, []string{"start", strings.TrimSuffix(filepath.Base(filepath.Dir(file)), ".d")})
			}
			fmt.Fprintf(w, "%sready for Cosmovisor: %s\n", would, home.Root())
			if dryRun || len(commands) == 0 {
				return nil
			}
			return finishUnit(cmd, restart, append([][]string{{"daemon-reload"}}, commands...)...)
		}),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be done")
	cmd.Flags().BoolVar(&restart, "restart", false, "run the commands that follow: the node is started under Cosmovisor")
	unitsFlag(cmd, &units)
	return cmd
}

// onlyCommand is a drop-in without its first line as adopt wrote it. A service with an ExecReload of its own gets none, and older versions
// wrote none.
var onlyCommand = regexp.MustCompile(`^\[Service\]\nExecStart=\nExecStart=[^\n]+\n(ExecReload=[^\n]+ reload\n)?$`)

// ownDropIns are the drop-ins that adopt wrote for a home. One that somebody has added to is not ours to delete, and in a folder
// that cannot be read there may be one.
func ownDropIns(home solstice.Home, given []string) (files []string, err error) {
	folders, _, err := unitFolders(given)
	if err != nil {
		return nil, err
	}
	for _, folder := range folders {
		entries, err := os.ReadDir(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, &solstice.RefusedError{Reason: "what adopt wrote cannot be looked for: " + err.Error(), Hint: asRoot(ejectLine(given))}
		}
		for _, e := range entries {
			if !strings.HasSuffix(e.Name(), ".service.d") {
				continue
			}
			file := filepath.Join(folder, e.Name(), dropInName)
			ours, err := isOwnDropIn(home, file, given)
			if err != nil {
				return nil, err
			}
			if ours && !slices.ContainsFunc(files, func(have string) bool { return sameFile(have, file) }) { // /lib is mostly /usr/lib
				files = append(files, file)
			}
		}
	}
	return files, nil
}

func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// isOwnDropIn says whether adopt wrote a file for a home. It refuses one that cannot be removed as it is.
func isOwnDropIn(home solstice.Home, file string, given []string) (bool, error) {
	content, err := solstice.ReadFile(file, solstice.MaxFile)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return false, nil
	case err != nil:
		return false, &solstice.RefusedError{Reason: "what adopt wrote cannot be looked for: " + err.Error(), Hint: asRoot(ejectLine(given))}
	}
	rest, ours := strings.CutPrefix(string(content), dropInHead(home))
	switch {
	case !ours:
		return false, nil
	case !onlyCommand.MatchString(rest):
		return false, &solstice.RefusedError{
			Reason: file + " has more in it than adopt wrote",
			Hint: "take out what adopt wrote: " + shell.Quote("sed", "-i", "-e", "1d", "-e", "/^ExecStart=/d", "-e", "/^ExecReload=.* reload$/d", file) +
				"\nand have systemd read it: systemctl daemon-reload\nthen: " + ejectLine(given),
		}
	}
	if err := unix.Access(filepath.Dir(file), unix.W_OK); err != nil {
		return false, &solstice.RefusedError{Reason: fmt.Sprintf("%s cannot be removed: %v", file, err), Hint: asRoot(ejectLine(given))}
	}
	return true, nil
}

// ejectLine is the command line of eject. sudo drops the environment in which its home stands.
func ejectLine(given []string) string {
	words := []string{"env"}
	for _, name := range []string{"DAEMON_HOME", "DAEMON_NAME"} {
		if value := os.Getenv(name); value != "" {
			words = append(words, name+"="+value)
		}
	}
	if words = append(words, "solstice", "eject"); len(given) > 0 {
		words = append(words, "--units", strings.Join(given, ","))
	}
	return shell.Quote(words...)
}

// asOwner does something in the home as the user whose data it is, if this is root: what root makes there, that user can't change.
func asOwner(home solstice.Home, do func() error) (err error) {
	info, err := os.Stat(home.Data())
	if errors.Is(err, fs.ErrNotExist) {
		return do()
	}
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if os.Geteuid() != 0 || !ok || stat.Uid == 0 {
		return do()
	}
	if err := errors.Join(syscall.Setegid(int(stat.Gid)), syscall.Seteuid(int(stat.Uid))); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, syscall.Seteuid(0), syscall.Setegid(0)) }()
	return do()
}
