package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"solstice"
	"solstice/internal/shell"
	"solstice/node"
	"solstice/rollback"
	"solstice/sidecar"
	"solstice/supervisor"
	"solstice/upgrade"
)

// fromDaemonHome says that DAEMON_HOME is the node's home because nothing tells another.
const fromDaemonHome = "DAEMON_HOME"

// layout is the home without the node's own: where the binaries and Solstice's own files are.
func (c *Config) layout() solstice.Home {
	return solstice.Home{Dir: filepath.Clean(c.Home), Name: c.Name, StateDir: c.StateDir, KeepCase: c.DisableRecase, SwitchesItself: c.Switch == switchNever,
		Sidecars: sidecar.Binaries(c.list, c.Name)}
}

// home is the home for a command that looks after it. Without arguments of the node, the node's home is the one that it used when it was
// started last. With them it is the one that a start would use; where that would be refused, DAEMON_HOME serves.
func (c *Config) home(args []string) solstice.Home {
	if args != nil {
		h, err := c.startHome(args)
		if err != nil {
			h.Node, h.NodeFrom = h.Dir, fromDaemonHome
		}
		return h
	}
	h := c.layout()
	last, started := lastStart(h)
	h.Node, h.NodeFrom = node.FindHome(h, node.CommandLine{Args: last.Args}, h.Root(), os.Getenv)
	switch {
	case h.NodeFrom == node.FromFlag:
	case last.Node != "":
		h.Node, h.NodeFrom = last.Node, last.NodeFrom
	case h.Node != "": // by a variable
	case started || looksLikeHome(h.Dir):
		h.Node, h.NodeFrom = h.Dir, fromDaemonHome
	default:
		h.Node, h.NodeFrom = c.defaultHome(h)
	}
	return h
}

// defaultHome is the home of a node that was never started here and whose arguments are not known: the binary's default if there is a
// home, else DAEMON_HOME.
func (c *Config) defaultHome(h solstice.Home) (path, from string) {
	help, _ := c.help(h)
	path, from = node.FindHome(h, node.CommandLine{Help: help}, h.Root(), os.Getenv)
	if path == "" || !looksLikeHome(path) || sameFolder(path, h.Dir) {
		return h.Dir, fromDaemonHome
	}
	return path, from
}

// startHome is the home of a node that is to be started with these arguments. It is refused if nobody can tell which one it will use, and
// if that one is not there and DAEMON_HOME is.
func (c *Config) startHome(args []string) (solstice.Home, error) {
	h := c.layout()
	line := node.CommandLine{Args: args}
	h.Node, h.NodeFrom = node.FindHome(h, line, h.Root(), os.Getenv)
	if h.Node != "" {
		return h, nil
	}
	if path := rollback.NodeHome(h); path != "" && sameFolder(path, h.Dir) {
		h.Node, h.NodeFrom = h.Dir, fromDaemonHome
		return h, nil
	}
	var why error
	if line.Help, why = c.help(h); why == nil && node.IsScript(h.Binary(h.DirInUse())) {
		why = fmt.Errorf("%s is a script, which may name another home than the binary's default", h.Binary(h.DirInUse()))
	}
	h.Node, h.NodeFrom = node.FindHome(h, line, h.Root(), os.Getenv)
	used, last := h.Dir, solstice.Started{}
	if start, _ := lastStart(h); start.Node != "" && looksLikeHome(start.Node) {
		used, last = start.Node, start
	}
	hint := nameHome(args, used)
	switch {
	case h.Node == "" && last.NodeFrom == node.FromDefault: // the binary can't be asked just now
		h.Node, h.NodeFrom = last.Node, last.NodeFrom
	case h.Node == "" && looksLikeHome(h.Dir):
		h.Node, h.NodeFrom = h.Dir, fromDaemonHome
	case h.Node == "":
		switch variable := line.Help.Home.Variable; {
		case why != nil:
		case variable != "":
			why = fmt.Errorf("the binary's default is in $%s, which is not set", variable)
		default:
			why = fmt.Errorf("the help of %s names no default", h.Binary(h.DirInUse()))
		}
		return h, &solstice.RefusedError{Reason: fmt.Sprintf("cannot tell which home the node uses: %v", why), Hint: hint}
	case sameFolder(h.Node, h.Dir):
		h.Node = h.Dir // by the path that the operator knows
	case looksLikeHome(h.Node):
	case namesHome(h.Dir):
		h.Node, h.NodeFrom = h.Dir, fromDaemonHome
	case looksLikeHome(used):
		return h, &solstice.RefusedError{
			Reason: fmt.Sprintf("the node would use %s (%s), which is no node's home; %s is one", h.Node, h.NodeFrom, used),
			Hint:   hint,
		}
	default:
		return h, &solstice.RefusedError{
			Reason: fmt.Sprintf("the node would use %s (%s), which is no node's home, and neither is DAEMON_HOME", h.Node, h.NodeFrom),
			Hint:   "make it with the node's own init: solstice run init MONIKER\nor " + hint,
		}
	}
	return h, nil
}

// nameHome is the hint that a home is to be named.
func nameHome(args []string, home string) string {
	words := append(append([]string{"run"}, args...), "--home", home)
	return "name the home in the node's arguments: solstice " + shell.Quote(words...)
}

// looksLikeHome says whether a node's home is there: its data, or its configuration.
func looksLikeHome(dir string) bool {
	for _, name := range []string{"data", "config/config.toml", "config/packed-conf.json", "config/genesis.json"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// namesHome says whether a variable of the environment, besides DAEMON_HOME, names a home: a binary may read it under a prefix that is not
// its file's name.
func namesHome(dir string) bool {
	return slices.ContainsFunc(os.Environ(), func(pair string) bool {
		name, value, _ := strings.Cut(pair, "=")
		return strings.HasSuffix(name, "_HOME") && name != "DAEMON_HOME" && value != "" && sameFolder(value, dir)
	})
}

func sameFolder(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// help is what the help of the binary in use says. It is asked once; a start keeps the answer for the next one.
func (c *Config) help(h solstice.Home) (node.Help, error) {
	if c.probes == nil {
		dir := h.StateDir
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			dir = "" // it is made by the first start
		}
		c.probes = &upgrade.Probes{Dir: dir, HelpFile: h.HelpFile()}
	}
	dir := h.DirInUse()
	if err := upgrade.CheckBinary(h, dir, c.probes); err != nil {
		return node.Help{}, err
	}
	help, err := c.probes.Help(context.Background(), h.Binary(dir))
	if err == nil && !help.Known() {
		err = fmt.Errorf("the help of %s names no --home", h.Binary(dir))
	}
	return help, err
}

// commandLine is the node's command line. The binary is asked for its flags where the command depends on them.
func (c *Config) commandLine(args []string) node.CommandLine {
	line := node.CommandLine{Args: args}
	if _, certain := line.Command(); !certain {
		line.Help, _ = c.help(c.layout()) // without it, it may be several commands
	}
	return line
}

// supervises says whether the node's command is a long-running one, or may be one.
func (c *Config) supervises(args []string) bool {
	return c.commandLine(args).MayBe(c.longRunning()...)
}

// longRunning are the commands of the node that are supervised.
func (c *Config) longRunning() []string {
	names := []string{"start", "run"}
	for name := range strings.SplitSeq(c.Supervise, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// doubt says what is not certain of the node's command, or nothing: a flag that the binary's help does not name may have a value.
func (c *Config) doubt(line node.CommandLine) string {
	command, certain := line.Command()
	long := c.longRunning()
	switch {
	case certain:
		return ""
	case line.MayBe(long...) && !(slices.Contains(long, command) && line.Help.Known()):
		return "cannot tell the node's command for certain; supervising it"
	case !line.MayBe(long...) && line.Resets():
		return "cannot tell the node's command for certain; treating it as a reset"
	}
	return ""
}

// reader reads the node's configuration before each launch. A binary that is known to use another home than the first one did is refused.
func (c *Config) reader(home solstice.Home, args []string) func() (supervisor.Reading, error) {
	find := func() string {
		var help node.Help
		if c.probes != nil {
			help, _ = c.probes.KnownHelp(home.Binary(home.DirInUse()))
		}
		path, _ := node.FindHome(home, node.CommandLine{Args: args, Help: help}, home.Root(), os.Getenv)
		return path
	}
	first := find()
	return func() (supervisor.Reading, error) {
		if path := find(); path != first && path != "" && first != "" {
			return supervisor.Reading{}, &solstice.RefusedError{
				Reason: fmt.Sprintf("the binary in %s uses another home, %s; the node's is %s", home.DirInUse(), path, home.Node),
				Hint:   nameHome(args, home.Node),
			}
		}
		settings := node.ReadSettings(home, args, os.Getenv)
		return supervisor.Reading{Settings: settings, Node: node.Find(home, args, os.Getenv, c.GRPC), Signs: guard(home, settings)}, nil
	}
}

// lastStart is what the node was started with last on this home. It may be lost.
func lastStart(h solstice.Home) (last solstice.Started, found bool) {
	content, err := solstice.ReadFile(h.ArgsFile(), solstice.MaxFile)
	if err != nil || json.Unmarshal(content, &last) != nil || last.Dir != h.Dir {
		return solstice.Started{}, false
	}
	return last, true
}

// lastArgs are the arguments that the node was started with last on this home. They may be lost.
func lastArgs(h solstice.Home) []string {
	last, _ := lastStart(h)
	return last.Args
}
