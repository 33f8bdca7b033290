package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"solstice"
	"solstice/internal/durable"
	"solstice/internal/shell"
	"solstice/unit"
)

func adoptCommand() *cobra.Command {
	var dryRun, restart, notNear bool
	var name string
	var folders []string
	cmd := &cobra.Command{
		Use:   "adopt",
		Short: "Take over a node from Cosmovisor: look at its service, and let it start solstice",
		Long: `Look at the systemd service that runs a node under Cosmovisor, say what is there and what changes, and write a drop-in file
beside the unit, by which the service starts solstice with the same arguments. Nothing else is changed: not the unit, not the
home, not the running node. A service without an ExecReload gets one: systemctl reload has a new version of solstice take over then,
while the node runs on. The two commands that follow are printed, or run with --restart.

It is refused while a plan is near, or may be near. solstice eject takes it back.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := findAdoption(name, folders)
			if err != nil {
				return err
			}
			if err := a.look(cmd.Context()); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if err := a.print(out); err != nil {
				return err
			}
			fault := a.check(restart, notNear)
			if dryRun {
				fmt.Fprintf(out, "\nNothing was changed. The drop-in would be:\n%s", a.content)
			}
			if dryRun || fault != nil {
				return fault
			}
			if err := a.write(); err != nil {
				return err
			}
			fmt.Fprintf(out, "\nWritten: %s\n", a.dropIn)
			return finishUnit(cmd, restart, []string{"daemon-reload"}, []string{"restart", a.service.Name})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what is there and what would change")
	cmd.Flags().BoolVar(&restart, "restart", false, "run the commands that follow: the node is restarted under solstice")
	cmd.Flags().BoolVar(&notNear, "plan-not-near", false, "you know that no plan is near, where solstice cannot tell")
	cmd.Flags().StringVar(&name, "unit", "", "`name or path` of the unit (default the only one that starts cosmovisor)")
	unitsFlag(cmd, &folders)
	return cmd
}

// unitsFlag adds --units to a command.
func unitsFlag(cmd *cobra.Command, folders *[]string) {
	cmd.Flags().StringSliceVar(folders, "units", nil, "`folders` with unit files, the one that wins first (default those of systemd)")
}

// unitFolders are the folders to look in, and the one to write to. Those that somebody has
// named have to be there.
func unitFolders(given []string) (folders []string, own string, err error) {
	if len(given) == 0 {
		return unit.SearchPath, unit.AdminFolder, nil
	}
	for _, folder := range given {
		if _, err := os.ReadDir(folder); err != nil {
			return nil, "", &solstice.RefusedError{
				Reason: "--units: " + err.Error(),
				Hint:   "name folders that are there, or leave --units out",
			}
		}
	}
	return given, given[0], nil
}

// adoption is a service that starts Cosmovisor, and what becomes of it.
type adoption struct {
	units   unit.Units
	given   []string // --units
	own     string   // the folder that drop-ins are written to
	service *unit.Service
	launch  launch
	program string   // Cosmovisor
	self    string   // Solstice
	bare    bool     // Cosmovisor is started without run, as before its version 1.5
	args    []string // of the node
	config  *Config
	home    solstice.Home
	dropIn  string
	command string // of the service under Solstice
	content string // of the drop-in

	rows  [][3]string // what, found, then
	plans []distance
	fault error // why it cannot be done now
}

// findAdoption reads the unit, and takes its environment for this process's.
func findAdoption(name string, given []string) (*adoption, error) {
	folders, own, err := unitFolders(given)
	if err != nil {
		return nil, err
	}
	if strings.Contains(name, "/") {
		file, err := filepath.Abs(name)
		if err != nil {
			return nil, err
		}
		if name = filepath.Base(file); !contains(folders, filepath.Dir(file)) {
			folders, own = []string{filepath.Dir(file)}, filepath.Dir(file)
			given = folders
		}
	}
	a := &adoption{units: unit.Units{Folders: folders, Leave: isDropIn}, given: given, own: own}
	if err := a.find(name); err != nil {
		return nil, err
	}
	a.dropIn = filepath.Join(own, a.service.Name+".d", dropInName)
	base, err := a.environment()
	if err != nil {
		return nil, err
	}
	words, err := a.launch.words(a.service, base)
	if err != nil {
		return nil, a.refuseByHand(err.Error())
	}
	env, err := a.launch.changed(a.service, base)
	if err != nil {
		return nil, a.refuseByHand(err.Error())
	}
	a.program = lookPath(words[0], a.service, env, a.launch.word > 0)
	file, args, err := cutConfigFlag("", words[1:])
	if err != nil {
		return nil, err
	}
	if len(args) > 1 && args[0] == "-c" {
		file, args = args[1], args[2:]
	}
	if a.bare = len(args) == 0 || args[0] != "run"; !a.bare {
		args = args[1:]
	}
	a.args = args
	if err := a.takeSettings(env, file); err != nil {
		return nil, err
	}
	if !a.config.supervises(a.args) {
		const reason = "it calls %q, which is not a command of the node that solstice supervises"
		return nil, a.refuseByHand(fmt.Sprintf(reason, strings.Join(words, " ")))
	}
	a.home = a.config.home(a.args)
	if a.self, err = ownPath(); err != nil {
		return nil, err
	}
	if err := a.compose(file); err != nil {
		return nil, err
	}
	return a, a.checkUser()
}

func contains(folders []string, dir string) bool {
	for _, folder := range folders {
		if abs, err := filepath.Abs(folder); err == nil && abs == dir {
			return true
		}
	}
	return false
}

// again is the command line of adopt for this service, with more flags.
func (a *adoption) again(flags ...string) string {
	name := ""
	if a.service != nil {
		name = a.service.Name
	}
	return a.line(name, flags...)
}

// line is the command line of adopt for a service.
func (a *adoption) line(name string, flags ...string) string {
	words := []string{"solstice", "adopt"}
	if len(a.given) > 0 {
		words = append(words, "--units", strings.Join(a.given, ","))
	}
	if name != "" {
		words = append(words, "--unit", name)
	}
	return shell.Quote(append(words, flags...)...)
}

// asRoot is a command line for whoever may not do it.
func asRoot(line string) string { return "run it as root: sudo " + line }

// environment is what systemd gives to the command.
func (a *adoption) environment() (*unit.Environment, error) {
	if a.service.RootDirectory != "" {
		return nil, a.refuseByHand("its paths begin in another root, " + a.service.RootDirectory)
	}
	if len(a.service.Faults) > 0 {
		return nil, a.refuseByHand(a.service.Faults[0].Error())
	}
	env, err := a.service.Environment()
	if err != nil {
		return nil, &solstice.RefusedError{
			Reason: err.Error(),
			Hint:   "see what the unit sets: systemctl cat " + a.service.Name,
		}
	}
	if hidden := env.Hidden(); hidden != nil {
		hint := asRoot(a.again())
		if os.Geteuid() == 0 {
			hint = "correct that file, then: " + a.again()
		}
		return nil, &solstice.RefusedError{
			Reason: "the settings of " + a.service.Name + " are not known: " + hidden.Error(),
			Hint:   hint,
		}
	}
	return env, nil
}

// takeSettings sets this process's environment to what the service has of settings, and
// reads them. The node's own settings are in the environment under its binary's name, which
// may stand in the configuration file.
func (a *adoption) takeSettings(env *unit.Environment, file string) error {
	var c Config
	var names []string
	for name := range c.settings() {
		names = append(names, name)
	}
	if err := a.takeVariables(env, names); err != nil {
		return err
	}
	home, _, err := env.Get("HOME")
	if err == nil && home != "" {
		os.Setenv("HOME", home) // what a path without --home begins at
	}
	if file != "" && !filepath.IsAbs(file) {
		dir := a.service.WorkingDirectory
		if dir == "~" {
			if err != nil || home == "" {
				return a.refuseByHand("its working directory is the home of its user, which is not known")
			}
			dir = home
		}
		file = filepath.Join("/", dir, file)
	}
	if a.config, err = loadChecked(file); err != nil {
		return err
	}
	prefix := strings.NewReplacer(".", "_", "-", "_").Replace(strings.ToUpper(a.config.Name)) + "_"
	names = slices.DeleteFunc(env.Names(), func(name string) bool { return !strings.HasPrefix(name, prefix) })
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return a.takeVariables(env, names)
}

// takeVariables sets variables of this process to what the service has of them.
func (a *adoption) takeVariables(env *unit.Environment, names []string) error {
	for _, name := range names {
		value, ok, err := env.Get(name)
		switch {
		case err != nil:
			return a.refuseByHand(err.Error())
		case ok:
			os.Setenv(name, value)
		default:
			os.Unsetenv(name)
		}
	}
	return nil
}

// compose writes the drop-in's text, and reads the service as it would be with it.
func (a *adoption) compose(file string) error {
	var err error
	if a.command, err = a.launch.replace(a.service.Commands[0], a.self, a.bare); err != nil {
		return a.refuseSelf(err)
	}
	a.content = dropInHead(a.home) + "[Service]\nExecStart=\nExecStart=" + a.command + "\n"
	if len(a.service.Reloads) == 0 {
		words := []string{a.self, "reload"}
		if file != "" {
			words = []string{a.self, "--cosmovisor-config", file, "reload"}
		}
		line, err := unit.QuoteCommand(words...)
		if err != nil {
			return a.refuseSelf(err)
		}
		a.content += "ExecReload=" + a.launch.before(a.service.Commands[0]) + line + "\n"
	}
	return nil
}

func (a *adoption) refuseSelf(err error) error {
	return &solstice.RefusedError{Reason: err.Error(), Hint: a.installHint()}
}

func (a *adoption) installHint() string {
	return "put solstice where it can be started: " + shell.Quote("install", "-m", "755", a.self, "/usr/local/bin/solstice") +
		"\nthen: /usr/local/bin/" + a.again()
}

func (a *adoption) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tFOUND\tWITH SOLSTICE")
	for _, row := range a.rows {
		fmt.Fprintln(w, strings.TrimRight(strings.Join(row[:], "\t"), "\t"))
	}
	return w.Flush()
}

// check says whether it can be done now.
func (a *adoption) check(restart, notNear bool) error {
	if a.fault != nil {
		return a.fault
	}
	for _, p := range a.plans {
		switch {
		case p.reach == near:
			return &solstice.RefusedError{
				Reason: fmt.Sprintf("plan %s is near: nothing is changed so close to it", p.Plan),
				Hint:   "let Cosmovisor carry it out, and adopt after it\nhow far it is: " + a.again("--dry-run"),
			}
		case p.reach == unclear && !notNear:
			return &solstice.RefusedError{
				Reason: "a plan may be near: " + p.text,
				Hint: "start the node, and adopt when it answers: systemctl start " + a.service.Name +
					"\nif you know that no plan is near: " + a.again("--plan-not-near"),
			}
		}
	}
	if err := a.checkOrder(); err != nil {
		return err
	}
	if restart {
		if _, err := exec.LookPath("systemctl"); err != nil {
			return &solstice.RefusedError{
				Reason: "there is no systemctl here to restart the service with",
				Hint:   "without --restart: " + a.again(),
			}
		}
	}
	return nil
}

// checkOrder checks that the drop-in would count: it reads the service as systemd will.
func (a *adoption) checkOrder() error {
	after := a.units
	after.Leave, after.Add = nil, map[string]string{a.dropIn: a.content}
	s, err := after.Load(a.service.Name)
	if err != nil {
		return err
	}
	if len(s.Commands) == 1 && s.Commands[0].Line == a.command && s.Commands[0].File == a.dropIn {
		return nil
	}
	if at := slices.IndexFunc(s.DropIns, isDropIn); at >= 0 && s.DropIns[at] != a.dropIn {
		return &solstice.RefusedError{
			Reason: fmt.Sprintf("%s hides %s: its folder wins", s.DropIns[at], a.dropIn),
			Hint:   "remove it: " + shell.Quote("rm", s.DropIns[at]),
		}
	}
	if len(s.Commands) == 0 {
		return fmt.Errorf("%s would have no command with %s", s.Name, a.dropIn)
	}
	file := s.Commands[len(s.Commands)-1].File
	return &solstice.RefusedError{
		Reason: fmt.Sprintf("%s sets ExecStart too, and is read after %s", file, dropInName),
		Hint:   "let it come before: " + shell.Quote("mv", file, filepath.Join(filepath.Dir(file), "10-"+filepath.Base(file))),
	}
}

func absolute(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	return abs
}

// write writes the drop-in. A crash leaves none, or the whole one, which nobody reads
// before the next daemon-reload.
func (a *adoption) write() error {
	err := os.MkdirAll(filepath.Dir(a.dropIn), 0o755)
	if err == nil {
		err = durable.WriteFile(a.dropIn, []byte(a.content), 0o644)
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return &solstice.RefusedError{Reason: err.Error(), Hint: asRoot(a.again())}
	}
	return err
}

// dropInName is the file that a service is adopted by.
const dropInName = "solstice.conf"

func isDropIn(path string) bool { return filepath.Base(path) == dropInName }

func dropInHead(home solstice.Home) string {
	return fmt.Sprintf("# Written by solstice adopt for DAEMON_HOME %q. solstice eject removes it.\n", home.Dir)
}

// finishUnit runs the commands of systemctl that follow, or prints them.
func finishUnit(cmd *cobra.Command, run bool, commands ...[]string) error {
	out := cmd.OutOrStdout()
	if !run {
		fmt.Fprintln(out, "What follows:")
		for _, args := range commands {
			fmt.Fprintln(out, "  systemctl", strings.Join(args, " "))
		}
		return nil
	}
	for i, args := range commands {
		fmt.Fprintln(out, "Running: systemctl", strings.Join(args, " "))
		systemctl := exec.CommandContext(cmd.Context(), "systemctl", args...)
		systemctl.Stdout, systemctl.Stderr = out, cmd.ErrOrStderr()
		if err := systemctl.Run(); err != nil {
			var rest []string
			for _, args := range commands[i:] {
				rest = append(rest, "systemctl "+strings.Join(args, " "))
			}
			return fmt.Errorf("%s: %w; run the rest by hand: %s", rest[0], err, strings.Join(rest, " && "))
		}
	}
	return nil
}
