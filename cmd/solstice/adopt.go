package main

import (
	"cmp"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"solstice"
	"solstice/internal/durable"
	"solstice/node"
	"solstice/report"
	"solstice/supervisor"
	"solstice/unit"
	"solstice/upgrade"
)

func adoptCommand() *cobra.Command {
	var dryRun, restart bool
	var name string
	var units []string
	cmd := &cobra.Command{
		Use:   "adopt",
		Short: "Take over a node from Cosmovisor: look at its service, and let it start solstice",
		Long: `Look at the systemd service that runs a node under Cosmovisor, say what is there and what changes, and write a drop-in file
beside the unit, by which the service starts solstice with the same arguments. Nothing else is changed: not the unit, not the
home, not the running node. A service without an ExecReload gets one: systemctl reload has a new version of solstice take over then,
while the node runs on. The two commands that follow are printed, or run with --restart.

It is refused while a plan is near. solstice eject takes it back.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := findAdoption(name, units)
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
			if err := a.check(restart); err != nil {
				return err
			}
			if dryRun {
				fmt.Fprintf(out, "\nNothing was changed. The drop-in would be:\n%s", a.content)
				return nil
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
	cmd.Flags().StringVar(&name, "unit", "", "`name or path` of the unit (default the only one that starts cosmovisor)")
	unitsFlag(cmd, &units)
	return cmd
}

// unitsFlag adds --units to a command.
func unitsFlag(cmd *cobra.Command, units *[]string) {
	cmd.Flags().StringSliceVar(units, "units", unit.SearchPath, "`folders` with unit files, the first one first")
}

// adoption is a service that starts Cosmovisor, and what becomes of it.
type adoption struct {
	service *unit.Service
	word    int      // of its command that is Cosmovisor
	program string   // Cosmovisor
	self    string   // Solstice
	args    []string // of the node
	config  *Config
	home    solstice.Home
	dropIn  string
	content string // of the drop-in

	rows  [][3]string // what, found, then
	plans []distance
	fault error // why it can't be done now
}

// distance is how far a plan is ahead.
type distance struct {
	solstice.Plan
	text string
	near bool
}

// findAdoption reads the unit, and takes its environment for this process's.
func findAdoption(name string, path []string) (*adoption, error) {
	if strings.Contains(name, "/") {
		file, err := filepath.Abs(name)
		if err != nil {
			return nil, err
		}
		if name = filepath.Base(file); !slices.Contains(path, filepath.Dir(file)) {
			path = []string{filepath.Dir(file)}
		}
	}
	a, err := loadAdoption(name, path)
	if err != nil {
		return nil, err
	}
	a.dropIn = filepath.Join(path[0], a.service.Name+".d", dropInName)
	words, err := a.service.Expand(a.service.Commands[0].Words())
	if err != nil {
		return nil, refuseUnit(a.service, err.Error())
	}
	a.program = words[a.word]
	for _, word := range words[:a.word] { // as in: env NAME=VALUE cosmovisor run start
		if name, value, ok := strings.Cut(word, "="); ok && !strings.HasPrefix(name, "-") {
			a.service.Env[name] = value
		}
	}
	file, args, err := cutConfigFlag("", words[a.word+1:])
	if err != nil {
		return nil, err
	}
	if len(args) > 1 && args[0] == "-c" {
		file, args = args[1], args[2:]
	}
	if len(args) == 0 || args[0] != "run" {
		return nil, refuseUnit(a.service, "it does not call: cosmovisor run")
	}
	a.args = args[1:]
	takeEnvironment(a.service.Env)
	if a.config, err = loadChecked(file); err != nil {
		return nil, err
	}
	if !a.config.supervises(a.args) {
		return nil, refuseUnit(a.service, fmt.Sprintf("%q is no command of the node that solstice supervises", strings.Join(a.args, " ")))
	}
	a.home = a.config.home(a.args)
	self, err := ownPath()
	if err != nil {
		return nil, err
	}
	a.self, a.content = self, dropInFor(a.home, a.service.Commands[0].Replace(a.word, self), a.reload(self, file))
	return a, a.checkUser()
}

// reload is the service's ExecReload, or empty if it has one already. file is the configuration that the service names.
func (a *adoption) reload(self, file string) string {
	if len(a.service.Reloads) > 0 {
		return ""
	}
	words := []string{self, "reload"}
	if file != "" {
		words = []string{self, "--cosmovisor-config", file, "reload"}
	}
	return a.service.Commands[0].Before(a.word) + quoteCommand(words...)
}

// loadAdoption finds the service, the only one that starts Cosmovisor if no name is given.
func loadAdoption(name string, path []string) (*adoption, error) {
	if name != "" {
		s, err := unit.Load(name, path, isDropIn)
		if err != nil {
			return nil, &solstice.RefusedError{Reason: err.Error(), Hint: "see that it is there, and that this user may read it; other folders: --units DIR"}
		}
		word, err := findProgram(s)
		return &adoption{service: s, word: word}, err
	}
	var found []*adoption
	var names []string
	for _, name := range unit.List(path) {
		s, err := unit.Load(name, path, isDropIn)
		if err != nil {
			continue // one of the many others
		}
		if word, err := findProgram(s); err == nil {
			found, names = append(found, &adoption{service: s, word: word}), append(names, s.Name)
		}
	}
	switch len(found) {
	case 0:
		return nil, &solstice.RefusedError{
			Reason: "no service starts cosmovisor, in " + strings.Join(path, ", "),
			Hint:   "name it: solstice adopt --unit NAME\nwithout systemd: put the path of solstice where that of cosmovisor stands",
		}
	case 1:
		return found[0], nil
	}
	return nil, &solstice.RefusedError{Reason: "several services start cosmovisor: " + strings.Join(names, ", "), Hint: "name one: solstice adopt --unit " + names[0]}
}

// findProgram finds the word of a service's command that is Cosmovisor.
func findProgram(s *unit.Service) (word int, err error) {
	if len(s.Commands) != 1 {
		return 0, refuseUnit(s, fmt.Sprintf("it has %s", count(len(s.Commands), "command")))
	}
	if strings.Contains(s.Commands[0].Prefixes(), "@") && strings.Contains(s.Commands[0].Line, "cosmovisor") {
		return 0, refuseUnit(s, "after the @ its program is called by another name: "+s.Commands[0].Line)
	}
	words := s.Commands[0].Words()
	for i, text := range words[:max(len(words)-1, 0)] {
		if next := words[i+1]; strings.HasPrefix(filepath.Base(text), "cosmovisor") && (next == "run" || strings.HasPrefix(next, "-")) {
			return i, nil
		}
	}
	switch line := s.Commands[0].Line; {
	case len(words) > 0 && strings.HasPrefix(filepath.Base(words[0]), "solstice"):
		return 0, &solstice.RefusedError{Reason: s.Name + " starts solstice already", Hint: "look at it with: solstice status"}
	case strings.Contains(line, "cosmovisor"):
		return 0, refuseUnit(s, "it starts cosmovisor through something else: "+line)
	}
	return 0, refuseUnit(s, "it does not start cosmovisor")
}

func refuseUnit(s *unit.Service, reason string) error {
	return &solstice.RefusedError{
		Reason: fmt.Sprintf("%s can't be taken over: %s", s.Name, reason),
		Hint:   "do it by hand: put the path of solstice where that of cosmovisor stands",
	}
}

// takeEnvironment sets this process's settings, and those of the node, as the service has them.
func takeEnvironment(env map[string]string) {
	var c Config
	for name := range c.settings() {
		os.Unsetenv(name)
		if value, ok := env[name]; ok {
			os.Setenv(name, value)
		}
	}
	prefix := strings.NewReplacer(".", "_", "-", "_").Replace(strings.ToUpper(env["DAEMON_NAME"])) + "_"
	for name, value := range env {
		if strings.HasPrefix(name, prefix) {
			os.Setenv(name, value)
		}
	}
}

// ownPath is this program, by the name that it was called by: what that is a symlink to may change.
func ownPath() (string, error) {
	path, err := exec.LookPath(os.Args[0])
	if err != nil {
		return os.Executable()
	}
	return filepath.Abs(path)
}

// checkUser checks what systemd and solstice would refuse at the start: the service's user can't execute solstice, or does not own
// the data.
func (a *adoption) checkUser() error {
	name := cmp.Or(a.service.User, "root")
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return nil // known on another machine, perhaps; systemd will say so
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil
	}
	groups, _ := u.GroupIds()
	for path := a.self; uid != 0; path = filepath.Dir(path) {
		if info, err := os.Stat(path); err == nil && !mayExecute(info, uint32(uid), groups) {
			return &solstice.RefusedError{
				Reason: fmt.Sprintf("the service's user %s can't execute %s: %s is closed to it", u.Username, a.self, path),
				Hint:   "put solstice where it can: install -m 755 " + a.self + " /usr/local/bin/solstice, and call that one",
			}
		}
		if path == filepath.Dir(path) {
			break
		}
	}
	info, err := os.Stat(a.home.Data())
	if err != nil {
		return &solstice.RefusedError{Reason: "the node has no data directory: " + err.Error(), Hint: "start it once under Cosmovisor"}
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && uint64(stat.Uid) != uid && !a.config.AllowOtherOwner {
		return &solstice.RefusedError{
			Reason: fmt.Sprintf("the service runs as %s, and %s belongs to user %d: solstice would refuse to start there", u.Username, a.home.Data(), stat.Uid),
			Hint:   "let one user have all of it: chown -R " + u.Username + " " + a.home.Dir + "; or set SOLSTICE_ALLOW_OTHER_OWNER=true in the unit",
		}
	}
	return nil
}

// mayExecute says whether a user may execute a file, or enter a folder, as its mode says.
func mayExecute(info fs.FileInfo, uid uint32, groups []string) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return true
	case stat.Uid == uid:
		return info.Mode()&0o100 != 0
	case slices.Contains(groups, strconv.FormatUint(uint64(stat.Gid), 10)):
		return info.Mode()&0o010 != 0
	}
	return info.Mode()&0o001 != 0
}

// look finds out what there is.
func (a *adoption) look(ctx context.Context) error {
	status, outlook, unseen := a.config.lookAheadOf(ctx, a.home, a.args)
	if status.Home == "" {
		return unseen
	}
	if status.Supervisor != nil {
		return &solstice.RefusedError{Reason: fmt.Sprintf("solstice runs this node already, with pid %d", status.Supervisor.PID), Hint: "look at it with: solstice status"}
	}
	a.lookAtUnit()
	a.lookAtHome(status, unseen)
	if err := a.lookAtPlans(status, outlook); err != nil {
		return err
	}
	a.lookAtBackups()
	return nil
}

func (a *adoption) row(what, found, then string) {
	a.rows = append(a.rows, [3]string{what, found, then})
}

func (a *adoption) lookAtUnit() {
	a.row("unit", a.service.Path, "stays as it is")
	for _, file := range a.service.DropIns {
		a.row("drop-in", file, "stays as it is")
	}
	there := "not there"
	if content, err := os.ReadFile(a.dropIn); err == nil {
		if there = "there, and is another"; string(content) == a.content {
			there = "there"
		}
	}
	a.row("drop-in", a.dropIn+": "+there, "has the new command")
	a.row("command", a.service.Commands[0].Line, "the same, with "+a.self)
	if own := a.service.Reloads; len(own) > 0 {
		a.row("reload", "ExecReload="+strings.Join(own, "; "), "stays as it is; a new version takes over by: solstice reload")
	} else {
		a.row("reload", "no ExecReload", "systemctl reload has a new version take over")
	}
	a.row("cosmovisor", a.program+", "+cosmovisorVersion(a.program), "is not touched: eject goes back to it")
	a.row("user", cmp.Or(a.service.User, "root"), "stays")
	if grace := a.config.origins["DAEMON_SHUTDOWN_GRACE"]; grace == "default" {
		a.row("grace", "DAEMON_SHUTDOWN_GRACE is not set: none", shortDuration(a.config.Grace)+" to stop before it is killed")
	} else if a.config.Grace == 0 {
		a.row("grace", "DAEMON_SHUTDOWN_GRACE is 0", "as before: killed at once. Set it, to 1m say")
	}
}

// cosmovisorVersion is the version that a binary has inside. It is not executed: it may be another user's.
func cosmovisorVersion(program string) string {
	path, err := exec.LookPath(program)
	if err != nil {
		return "which is not there"
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return "which does not tell its version"
	}
	const module = "cosmossdk.io/tools/cosmovisor"
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == module {
			return "version " + m.Version
		}
	}
	return "built from " + info.Main.Path
}

func (a *adoption) lookAtHome(status solstice.Status, unseen error) {
	a.row("home", a.home.Dir, "stays")
	if a.home.Node != a.home.Dir {
		a.row("node's home", a.home.Node+", by "+a.home.NodeFrom+"; Cosmovisor looks for plans in DAEMON_HOME only", "its plans are seen")
	}
	if link, _ := (node.CommandLine{Args: a.args}).Flag("home"); link != "" && !filepath.IsAbs(link) {
		a.row("--home", link+" is relative", "begins in "+a.home.Root()+", as with Cosmovisor 1.7")
	}
	link, _ := a.home.Current()
	switch {
	case link.Dir == "":
		a.fault = &solstice.RefusedError{
			Reason: "the current link can't be used: " + cmp.Or(link.Fault, "there is none: "+a.home.CurrentLink()),
			Hint:   "with the node stopped, say which binary is the right one: solstice switch NAME",
		}
	case filepath.IsAbs(link.Target):
		a.row("link", link.Dir+", by an absolute path", "is followed; relative after the next switch")
	default:
		a.row("link", link.Dir, "is followed")
	}
	if status.Binary.Fault != "" && a.fault == nil {
		a.fault = &solstice.RefusedError{Reason: "the binary in use can't run: " + status.Binary.Fault, Hint: "place it first"}
	}
	var dirs []string
	for _, dir := range a.home.BinaryDirs() {
		if _, err := os.Stat(a.home.Binary(dir)); err == nil {
			dirs = append(dirs, dir)
		}
	}
	a.row("binaries", strings.Join(dirs, ", "), "stay")
	switch {
	case unseen == nil:
		a.row("node", fmt.Sprintf("answers, at height %d", status.Height.Committed), "runs on until the service is restarted")
	case status.Height != nil:
		a.row("node", fmt.Sprintf("does not answer; its data is at height %d", status.Height.Committed), "is started by the service")
	default:
		a.row("node", "does not answer, and its data does not tell the height", "is started by the service")
	}
}

// lookAtPlans collects what is ahead: what the chain and the disk know, and Cosmovisor's batch list.
func (a *adoption) lookAtPlans(status solstice.Status, outlook supervisor.Outlook) error {
	for _, c := range status.Coming {
		if c.Proposal != 0 || c.Height == 0 {
			continue
		}
		p := a.ahead(solstice.Plan{Name: c.Name, Height: c.Height}, status.Height, outlook.Pace)
		if c.Stage == solstice.StageDue {
			a.plans[len(a.plans)-1].near = true
		}
		a.row("plan", fmt.Sprintf("%s, %s%s", p.Plan, describeStage(c), p.text), "is carried out then; binary in "+describeBinary(c.Binary))
	}
	batch, err := upgrade.ReadBatch(a.home)
	if err != nil {
		return &solstice.RefusedError{Reason: "Cosmovisor's batch list can't be read: " + err.Error(), Hint: "mend it, or remove it and add its upgrades again once solstice runs: solstice add-batch-upgrade"}
	}
	for _, plan := range batch {
		if h := status.Height; h != nil && h.Committed >= plan.Height {
			a.row("batch list", plan.String()+", which has passed", "is dropped at the first start")
			continue
		}
		p := a.ahead(plan, status.Height, outlook.Pace)
		a.row("batch list", plan.String()+p.text, "is your own plan from the first start on")
	}
	if len(a.plans) == 0 {
		a.row("plans", "none is ahead", "")
	}
	return nil
}

const (
	nearTime   = 15 * time.Minute // before a plan nobody changes what runs the node
	nearBlocks = 100              // the same where the pace of the chain is not known
)

// ahead says how far a plan is ahead, and remembers it.
func (a *adoption) ahead(plan solstice.Plan, height *solstice.Height, pace node.Pace) distance {
	p := distance{Plan: plan}
	at, _, timed := pace.At(plan.Height)
	switch {
	case timed:
		p.text, p.near = ", in "+span(max(time.Until(at), 0)), time.Until(at) < nearTime
	case height != nil:
		p.text, p.near = fmt.Sprintf(", %d blocks ahead", max(plan.Height-height.Committed, 0)), plan.Height-height.Committed < nearBlocks
	default:
		p.text = ", and how far it is ahead is not known"
	}
	a.plans = append(a.plans, p)
	return p
}

// datedBackup is a folder that Cosmovisor's backup has made.
var datedBackup = regexp.MustCompile(`^data-backup-\d{4}-\d{1,2}-\d{1,2}$`)

func (a *adoption) lookAtBackups() {
	dirs := []string{a.home.Dir}
	if dir := a.config.namedBackupDir(); dir != "" {
		dirs = append(dirs, dir)
	}
	for _, dir := range dirs {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if !datedBackup.MatchString(e.Name()) {
				continue
			}
			var bytes int64
			_ = filepath.WalkDir(filepath.Join(dir, e.Name()), func(_ string, e fs.DirEntry, err error) error {
				if err != nil {
					return nil // what this user may not see is not counted
				}
				if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
					bytes += info.Size()
				}
				return nil
			})
			a.row("old backup", fmt.Sprintf("%s, %s", filepath.Join(dir, e.Name()), report.Size(bytes)), "stays; yours to delete")
		}
	}
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
func (a *adoption) check(restart bool) error {
	if a.fault != nil {
		return a.fault
	}
	for _, p := range a.plans {
		if p.near {
			return &solstice.RefusedError{
				Reason: fmt.Sprintf("plan %s is near: nothing is changed so close to it", p.Plan),
				Hint:   "let Cosmovisor carry it out, and adopt after it\nhow far it is: solstice adopt --dry-run",
			}
		}
		if restart && strings.HasSuffix(p.text, "not known") {
			return &solstice.RefusedError{
				Reason: fmt.Sprintf("how far plan %s is ahead is not known: the node does not answer, and its data does not tell the height", p.Plan),
				Hint:   "start the node, or adopt without --restart and restart the service when you know that no plan is near",
			}
		}
	}
	for _, file := range a.service.DropIns {
		if filepath.Base(file) > dropInName && unit.SetsCommand(file) {
			return &solstice.RefusedError{
				Reason: fmt.Sprintf("%s sets ExecStart too, and is read after %s", file, dropInName),
				Hint:   "give it a name that comes before, such as 10-" + filepath.Base(file),
			}
		}
	}
	if restart {
		if _, err := exec.LookPath("systemctl"); err != nil {
			return &solstice.RefusedError{Reason: "there is no systemctl here to restart the service with", Hint: "leave --restart out"}
		}
	}
	return nil
}

// write writes the drop-in. A crash leaves none, or the whole one, which nobody reads before the next daemon-reload.
func (a *adoption) write() error {
	err := os.MkdirAll(filepath.Dir(a.dropIn), 0o755)
	if err == nil {
		err = durable.WriteFile(a.dropIn, []byte(a.content), 0o644)
	}
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return &solstice.RefusedError{Reason: err.Error(), Hint: "run it as root"}
	}
	return err
}

// dropInName is the file that a service is adopted by.
const dropInName = "solstice.conf"

func isDropIn(path string) bool { return filepath.Base(path) == dropInName }

// dropInFor is what stands in the drop-in for a home.
func dropInFor(home solstice.Home, command, reload string) string {
	content := dropInHead(home) + "[Service]\nExecStart=\nExecStart=" + command + "\n"
	if reload != "" {
		content += "ExecReload=" + reload + "\n"
	}
	return content
}

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
	for _, args := range commands {
		fmt.Fprintln(out, "Running: systemctl", strings.Join(args, " "))
		systemctl := exec.CommandContext(cmd.Context(), "systemctl", args...)
		systemctl.Stdout, systemctl.Stderr = out, cmd.ErrOrStderr()
		if err := systemctl.Run(); err != nil {
			return fmt.Errorf("systemctl %s: %w; the drop-in is in place, run the rest by hand", strings.Join(args, " "), err)
		}
	}
	return nil
}
