package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"solstice"
	"solstice/artifact"
	"solstice/internal/outlet"
	"solstice/node"
	"solstice/rehearse"
	"solstice/rollback"
	"solstice/sidecar"
	"solstice/supervisor"
	"solstice/upgrade"
)

func runCommand(configPath *string) *cobra.Command {
	return &cobra.Command{
		Use:   "run COMMAND [ARGUMENTS]...",
		Short: "Run the node's binary; start and run are supervised, any other command is just executed",
		Long: `Run the node's binary with these arguments.

If the command is start or run, the node is supervised: upgrades are carried out, signals reach the node, and
solstice ends when the node ends, with the node's exit code. Any other command is executed with the binary in use.
The command is the first word that is neither a flag nor, by the binary's help, a flag's value.

  solstice run start --home "$DAEMON_HOME"
  solstice run query bank total

--cosmovisor-config FILE, anywhere among the arguments, is for solstice. Everything else is for the node.`,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			given, err := supervisor.TakeHandover()
			if err != nil {
				return err
			}
			if given != nil {
				return takeOver(cmd.Root(), given, *configPath, args)
			}
			c, args, err := settle(*configPath, args)
			if err != nil {
				return err
			}
			line := c.commandLine(args)
			if doubt := c.doubt(line); doubt != "" {
				newLog(c, os.Stderr).Warn(doubt, "args", strings.Join(args, " "), "hint", "put the command before its flags: solstice run start")
			}
			if !line.MayBe(c.longRunning()...) {
				return c.execute(line)
			}
			return supervise(cmd.Root(), c, args, nil)
		},
	}
}

// settle finds the settings for the words after run, and takes out of them what is not for the node.
func settle(path string, args []string) (*Config, []string, error) {
	path, args, err := cutConfigFlag(path, args)
	if err != nil {
		return nil, nil, err
	}
	c, err := loadChecked(path)
	return c, args, err
}

// cutConfigFlag takes the first --cosmovisor-config out of the node's arguments, in every form that Cosmovisor knows
// and with an equals sign.
func cutConfigFlag(path string, args []string) (string, []string, error) {
	for i, arg := range args {
		name, value, joined := strings.Cut(arg, "=")
		if flag := strings.ToLower(name); flag != "--cosmovisor-config" && flag != "-cosmovisor-config" {
			continue
		}
		end := i + 1
		if !joined {
			if end == len(args) {
				return "", nil, &solstice.RefusedError{Reason: "--cosmovisor-config needs the path of a file"}
			}
			value = args[end]
			end++
		}
		return value, slices.Concat(args[:i], args[end:]), nil
	}
	return path, args, nil
}

// takeManager is the service manager that started us, from the environment, and out of it: of the node and of the hooks it
// expects nothing, and what they said would be taken for our word.
func takeManager() supervisor.Manager {
	m := supervisor.Manager{Socket: os.Getenv("NOTIFY_SOCKET")}
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if pid := os.Getenv("WATCHDOG_PID"); err == nil && usec > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		m.Watchdog = time.Duration(usec) * time.Microsecond
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		os.Unsetenv(name)
	}
	return m
}

// supervise runs a node, from its start, or from where another version of this program has
// given it. All that it says, up to the error that it ends with, goes through one outlet.
func supervise(root *cobra.Command, c *Config, args []string, given *supervisor.Handover) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(25) // it mostly waits: that is 2.7 of 17 MiB less resident, and next to no work
	}
	manager := takeManager()
	out, err := outlet.Open(os.Stderr)
	if err != nil {
		return err
	}
	root.SetErr(&solstice.PlainWriter{To: out})
	defer func() {
		if fault := recover(); fault != nil {
			out.Flush(outlet.AtEnd) // what it said last
			panic(fault)
		}
	}()
	log := newLog(c, out)
	home, err := c.homeToRun(args, given)
	if err != nil {
		return err
	}
	if given == nil {
		signals = supervisor.Catch()
	}
	if c.Grace == 0 {
		log.Warn("DAEMON_SHUTDOWN_GRACE is 0: at an upgrade the node is killed at once and may have to replay its last blocks", "origin", c.origins["DAEMON_SHUTDOWN_GRACE"])
	}
	go sweepRehearsals(home, log)
	self, _ := ownPath() // empty: a reload says that it isn't known
	s := &supervisor.Supervisor{
		Home: home, Args: args, Version: ownVersion(), Log: log, Out: out, ReadStderr: c.Restart == restartOnFailure && !isTerminal(os.Stderr), Signals: signals, Self: self, Given: given,
		Read: c.reader(home, args), Asked: c.probes,
		Grace: c.Grace, HaltWait: c.HaltWait, Poll: c.Poll,
		RestartAfterUpgrade: c.RestartAfterUpgrade, RestartOnFailure: c.Restart == restartOnFailure, RestartLimit: c.RestartLimit,
		Keep:            c.KeepSnapshots,
		AllowOtherOwner: c.AllowOtherOwner, Trusted: c.trusted(home), Manager: manager, Sidecars: c.list,
		Download: c.AllowDownload && !home.SwitchesItself, Fetcher: c.fetcher(log),
		Upgrade: upgrade.Options{
			RestartDelay: c.RestartDelay, SkipBackup: c.SkipBackup, BackupDir: c.namedBackupDir(),
			Script: c.Script, MaxRetries: c.PreUpgradeRetries, HookTimeout: c.HookTimeout,
		},
	}
	code, err := s.Run()
	switch {
	case err != nil:
		return codedError{err, code}
	case code != 0:
		return exitError(code)
	}
	return nil
}

// sweepRehearsals removes what rehearsals have left that were cut off. The node does not wait for that.
func sweepRehearsals(home solstice.Home, log *slog.Logger) {
	removed, err := rehearse.SweepNear(home)
	for _, path := range removed {
		log.Info("removed what a rehearsal that was cut off had left", "path", path)
	}
	if err != nil {
		log.Warn("what a rehearsal has left can't be removed", "err", err)
	}
}

// trusted are the paths outside of the home's layout that decide what is executed: the configuration, the script, the list of
// sidecars and their programs, the keys that downloads must be signed with, and the folder that a restore takes snapshots from.
func (c *Config) trusted(home solstice.Home) []string {
	paths := append(artifact.KeyFiles(c.TrustedKeys), c.namedBackupDir())
	if path, err := filepath.Abs(c.file); err == nil && c.file != "" {
		paths = append(paths, path)
	}
	if c.Sidecars != "" {
		paths = slices.Concat(paths, []string{c.Sidecars}, sidecar.Programs(c.list))
	}
	if c.Script != "" {
		paths = append(paths, filepath.Join(home.Root(), c.Script))
	}
	return paths
}

// homeToRun is the home of a node that is started, or that the version before this one has given.
func (c *Config) homeToRun(args []string, given *supervisor.Handover) (solstice.Home, error) {
	if given == nil {
		return c.startHome(args)
	}
	h := c.layout()
	if h.Node, h.NodeFrom = node.FindHome(h, node.CommandLine{Args: args}, h.Root(), os.Getenv); h.Node == "" {
		h.Node, h.NodeFrom = given.NodeHome()
	}
	return h, nil
}

// execute runs a command of the node in place of solstice, with the binary in use. It returns only an error.
func (c *Config) execute(line node.CommandLine) error {
	home := c.home(nil)
	binary, err := binaryInUse(home)
	if err != nil {
		return err
	}
	if err := artifact.MakeExecutable(binary); err != nil {
		return err
	}
	if err := rollback.Whole(home); err != nil {
		return err
	}
	if line.Resets() {
		home := c.homeOfOneOff(home, line)
		settings := node.ReadSettings(home, line.Args, os.Getenv)
		say := func(text string) { fmt.Fprintln(os.Stderr, "solstice:", text) }
		if err := keepMark(home, guard(home, settings), say); err != nil {
			return err
		}
	}
	err = syscall.Exec(binary, append([]string{binary}, line.Args...), artifact.Environ(binary))
	return fmt.Errorf("execute %s: %w", binary, err)
}

// homeOfOneOff is the home with the node's home that a command will use that is executed here, in the caller's folder.
func (c *Config) homeOfOneOff(h solstice.Home, line node.CommandLine) solstice.Home {
	dir, err := os.Getwd()
	if err != nil {
		return h
	}
	path, from := node.FindHome(h, line, dir, os.Getenv)
	if path == "" {
		line.Help, _ = c.help(h)
		path, from = node.FindHome(h, line, dir, os.Getenv)
	}
	if path != "" {
		h.Node, h.NodeFrom = path, from
	}
	return h
}

// binaryInUse is the binary that the link names, or would name once it is made. Nothing is changed.
func binaryInUse(home solstice.Home) (string, error) {
	facts, err := upgrade.Gather(home, upgrade.Live{}, nil)
	if err != nil {
		return "", &solstice.RefusedError{Reason: err.Error()}
	}
	d := upgrade.Decide(facts.Facts)
	if d.Action == upgrade.Refuse {
		return "", &solstice.RefusedError{Reason: d.Reason, Hint: d.Hint}
	}
	dir := facts.Link.Dir
	if dir == "" {
		dir = d.Dir
	}
	if fault := facts.Faults[dir]; fault != "" {
		return "", &solstice.RefusedError{Reason: "the binary in use can't run: " + fault}
	}
	return home.Binary(dir), nil
}
