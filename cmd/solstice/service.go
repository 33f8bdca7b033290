package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"solstice"
	"solstice/internal/durable"
	"solstice/internal/shell"
	"solstice/sidecar"
	"solstice/unit"
)

func serviceCommand(configPath *string) *cobra.Command {
	var install, dryRun bool
	var dir, login string
	cmd := &cobra.Command{
		Use:   "service [-- START ARGUMENTS...]",
		Short: "Print a systemd unit for this home; --install puts it in place",
		Long: `Print a systemd unit that runs this home's node under solstice: with the settings of the environment as it is now, as the user
whose the data is, and with no access to the rest of the machine but reading. After -- come the node's arguments, start
first; without them, those that it was started with last.

  solstice service                        # look at it
  sudo -E solstice service --install      # write it, reload systemd, say what to type next`,
		Args: func(cmd *cobra.Command, args []string) error {
			if at := cmd.ArgsLenAtDash(); len(args) > 0 && at != 0 {
				return refuseUsage(cmd, errors.New("the node's arguments come after --"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := loadChecked(*configPath)
			if err != nil {
				return err
			}
			s, err := c.service(args, login)
			if err != nil {
				return err
			}
			for _, note := range s.notes {
				fmt.Fprintln(cmd.ErrOrStderr(), "solstice: note:", note)
			}
			text, err := s.text()
			if err != nil {
				return err
			}
			if !install {
				_, err := fmt.Fprint(cmd.OutOrStdout(), text)
				return err
			}
			return s.install(cmd, text, dir, dryRun)
		},
	}
	cmd.Flags().BoolVar(&install, "install", false, "write the unit and reload systemd")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "with --install: only say what would be done")
	cmd.Flags().StringVar(&dir, "dir", unit.AdminFolder, "the `folder` that the unit is written to")
	cmd.Flags().StringVar(&login, "user", "", "the `name` of the user that runs the node (default the owner of its data)")
	return cmd
}

// service is what a unit is made of.
type service struct {
	home        solstice.Home
	program     []string // of solstice, with the arguments that are its own
	args        []string // of the node
	env         []string // NAME=value, sorted
	user, group string
	stop        time.Duration // how long a stop may take
	writable    []string
	inTemp      bool     // something that it needs is in /tmp or /var/tmp
	notes       []string // for who installs it
}

// service collects what the unit of this home needs. It changes nothing.
func (c *Config) service(args []string, login string) (*service, error) {
	program, err := ownPath()
	if err != nil {
		return nil, err
	}
	s := &service{program: []string{program}, args: args, stop: max(c.Grace, time.Minute) + 30*time.Second}
	if slices.ContainsFunc(c.list, func(one sidecar.Sidecar) bool { return one.Start == sidecar.Before }) {
		s.stop += max(c.Grace, time.Minute) // they end after the node
	}
	if c.file != "" && c.file != filepath.Join(c.Home, "cosmovisor", "solstice.toml") {
		file, err := filepath.Abs(c.file)
		if err != nil {
			return nil, err
		}
		s.program = append(s.program, "--cosmovisor-config", file)
	}
	if len(args) == 0 {
		home := c.home(nil)
		if s.args = lastArgs(home); s.args == nil {
			s.args = []string{"start", "--home", home.Node}
			s.notes = append(s.notes, "the node was not started by solstice yet, so its arguments are start --home "+home.Node+"; others come after --")
		}
		if text := strings.Join(s.args, " "); strings.Contains(text, "xxxxx") { // which artifact.Redact puts in its place
			return nil, &solstice.RefusedError{
				Reason: "the node's last arguments had a secret in them, which was not kept: " + text,
				Hint:   "put the secret into the node's own configuration: every user of this machine can read a unit\nthen give the other arguments: solstice service -- start",
			}
		}
	}
	if !c.supervises(s.args) {
		return nil, &solstice.RefusedError{
			Reason: fmt.Sprintf("this command of the node is not supervised: %s", strings.Join(s.args, " ")),
			Hint:   "its command is start, or one that SOLSTICE_SUPERVISE names: solstice service -- start",
		}
	}
	s.home = c.home(s.args)
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); hasPrefix(name, "DAEMON_", "SOLSTICE_", "COSMOVISOR_", "UNSAFE_") {
			s.env = append(s.env, pair)
		}
	}
	slices.Sort(s.env)
	if err := s.runAs(login, c.AllowOtherOwner); err != nil {
		return nil, err
	}
	s.mayWrite(c)
	for _, path := range slices.Concat(s.writable, []string{s.program[0], s.home.Node, c.Sidecars}, sidecar.Programs(c.list)) {
		s.inTemp = s.inTemp || within(path, "/tmp") || within(path, "/var/tmp")
	}
	if s.inTemp {
		s.notes = append(s.notes, "something that the node needs is in a folder for temporary files, so PrivateTmp is left out")
	}
	return s, nil
}

func hasPrefix(text string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(text, p) })
}

// within says whether a path is a folder or lies in it.
func within(path, folder string) bool {
	rel, err := filepath.Rel(folder, path)
	return err == nil && filepath.IsLocal(rel)
}

// runAs decides on the user: the one that was asked for, else the owner of the data. Solstice would not start the node as
// another one.
func (s *service) runAs(login string, other bool) error {
	owner, path := -1, s.home.Data()
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		path = s.home.Dir
		info, err = os.Stat(path)
	}
	if err != nil {
		return err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		owner = int(stat.Uid)
	}
	var u *user.User
	if login == "" {
		if u, err = lookUpUser(strconv.Itoa(owner)); err != nil {
			return &solstice.RefusedError{Reason: fmt.Sprintf("%s belongs to a user without a name: %d", path, owner), Hint: "name the one that runs the node: solstice service --user NAME"}
		}
	} else if u, err = lookUpUser(login); err != nil {
		return &solstice.RefusedError{Reason: fmt.Sprintf("there is no user %q", login), Hint: "make one: " + shell.Quote("useradd", "--system", "--home-dir", s.home.Node, login)}
	}
	if u.Uid != strconv.Itoa(owner) && !other {
		return &solstice.RefusedError{
			Reason: fmt.Sprintf("%s does not belong to %s: solstice would refuse to start the node", path, u.Username),
			Hint:   "give it to that user: " + shell.Quote("chown", "-R", u.Username+":", s.home.Node),
		}
	}
	s.user, s.group = u.Username, u.Gid
	if g, err := user.LookupGroupId(u.Gid); err == nil {
		s.group = g.Name
	}
	if u.Uid == "0" {
		s.notes = append(s.notes, "the node runs as root, because the data is root's; a user of its own is safer: --user NAME")
	}
	return nil
}

// mayWrite collects the folders that stay writable: the home, the data wherever it is, the backups, the state.
//
// systemd makes each of them a mount of its own, and no hard link leads from one mount to another. So those that lie on the
// filesystem of the data become one, if there is a folder around them that is not the whole machine's.
func (s *service) mayWrite(c *Config) {
	data, err := filepath.EvalSymlinks(s.home.Data())
	if err != nil {
		data = s.home.Node
	}
	linked := []string{s.home.Dir, s.home.Node, data, c.namedBackupDir()}
	paths := append(slices.Clip(linked), s.home.Root(), s.home.StateDir)
	for _, folder := range []string{s.home.Node, data} {
		entries, _ := os.ReadDir(folder) // what can't be read, the node will say
		for _, e := range entries {
			if e.Type()&fs.ModeSymlink != 0 {
				paths = append(paths, filepath.Join(folder, e.Name()))
			}
		}
	}
	var near, far []string
	for i, path := range paths {
		if path == "" {
			continue
		}
		real, err := filepath.EvalSymlinks(path)
		switch info, statErr := os.Stat(path); {
		case err != nil || statErr != nil:
			if path == s.home.StateDir { // it is made at the first start
				far = append(far, path)
			}
		case !info.IsDir():
		case i < len(linked) && sameDevice(real, data):
			near = append(near, real)
		default:
			far = append(far, real)
		}
	}
	near = outermost(near)
	if around := common(near); len(near) > 1 && isOwn(around) {
		near = []string{around}
	} else if len(near) > 1 && !within(c.namedBackupDir(), s.home.Dir) && c.namedBackupDir() != "" {
		s.notes = append(s.notes, "no folder of its own is around "+strings.Join(near, " and ")+": under this unit snapshots are copied from one to the other, not linked")
	}
	s.writable = outermost(append(near, far...))
}

func sameDevice(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	if errA != nil || errB != nil {
		return false
	}
	statA, okA := infoA.Sys().(*syscall.Stat_t)
	statB, okB := infoB.Sys().(*syscall.Stat_t)
	return okA && okB && statA.Dev == statB.Dev
}

// outermost leaves out what lies in another one of the folders.
func outermost(folders []string) []string {
	slices.Sort(folders)
	var outer []string
	for _, f := range folders {
		if !slices.ContainsFunc(outer, func(o string) bool { return within(f, o) }) {
			outer = append(outer, f)
		}
	}
	return outer
}

// common is the folder around all of them.
func common(folders []string) string {
	if len(folders) == 0 {
		return "/"
	}
	around := folders[0]
	for _, f := range folders {
		for !within(f, around) {
			around = filepath.Dir(around)
		}
	}
	return around
}

// isOwn says whether a folder may be writable as a whole: one at the top of the machine only if it is for such data.
func isOwn(folder string) bool {
	switch folder {
	case "/", "/home", "/var", "/var/lib", "/usr", "/etc", "/opt", "/tmp", "/var/tmp":
		return false
	}
	return !within(folder, "/usr") && !within(folder, "/etc") && !within(folder, "/boot")
}

// name is what the unit is called.
func (s *service) name() string { return "solstice-" + unitName(s.home.Name) + ".service" }

// unitName is a name with what systemd does not take in a unit's name left out.
func unitName(name string) string {
	return strings.Map(func(r rune) rune {
		if r < 128 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(":-_.", r)) {
			return r
		}
		return '_'
	}, name)
}

// text is the text of the unit file.
func (s *service) text() (string, error) {
	start, err := unit.QuoteCommand(slices.Concat(s.program, []string{"run"}, s.args)...)
	if err != nil {
		return "", &solstice.RefusedError{
			Reason: err.Error(),
			Hint:   "put solstice elsewhere, and call that one: " + shell.Quote("install", "-m", "755", s.program[0], "/usr/local/bin/solstice"),
		}
	}
	reload, err := unit.QuoteCommand(append(slices.Clone(s.program), "reload")...)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	line := func(format string, values ...any) { fmt.Fprintf(&b, format+"\n", values...) }
	line("# Made by: solstice service. What you want otherwise goes into a file of its own: systemctl edit %s", strings.TrimSuffix(s.name(), ".service"))
	line("[Unit]")
	line("Description=%s, supervised by Solstice", unit.QuoteSpecifiers(s.home.Name))
	line("Wants=network-online.target")
	line("After=network-online.target")
	line("RequiresMountsFor=%s", unit.QuoteValues(s.writable...))
	line("# It is tried again for as long as it takes.")
	line("StartLimitIntervalSec=0")
	line("")
	line("[Service]")
	line("Type=notify")
	line("NotifyAccess=main")
	line("User=%s", unit.QuoteSpecifiers(s.user))
	line("Group=%s", unit.QuoteSpecifiers(s.group))
	for _, pair := range s.env {
		line("Environment=%s", unit.QuoteValues(pair))
	}
	line("ExecStart=%s", start)
	line("# A new version takes over in the same process, and the node runs on: systemctl reload.")
	line("ExecReload=%s", reload)
	line("Restart=always")
	line("RestartSec=3")
	line("# SIGTERM to solstice alone, which sees to the node; and later than the node's grace is over, SIGKILL to all that is left.")
	line("KillMode=mixed")
	line("TimeoutStartSec=%d", int(s.stop.Seconds()))
	line("TimeoutStopSec=%d", int(s.stop.Seconds()))
	line("# Solstice hangs if its decisions stand still for so long. An upgrade or a migration that takes long is no hang.")
	line("WatchdogSec=120")
	line("OOMPolicy=continue")
	line("LimitNOFILE=1048576")
	line("")
	line("# The node can change its own folders and nothing else. No MemoryDenyWriteExecute: CosmWasm compiles at run time.")
	line("ProtectSystem=strict")
	line("ProtectHome=read-only")
	for _, path := range s.writable {
		line("ReadWritePaths=%s", unit.QuoteValues("-"+path))
	}
	if !s.inTemp {
		line("PrivateTmp=yes")
	}
	b.WriteString(hardening)
	if s.user != "root" {
		line("CapabilityBoundingSet=")
		line("RemoveIPC=yes")
	}
	line("")
	line("[Install]")
	line("WantedBy=multi-user.target")
	return b.String(), nil
}

// hardening is what neither a node nor Solstice needs. Solstice needs flock, inotify, Landlock and to lower its children's priority. Lists of
// what is allowed are left out: those of older versions of systemd lack Landlock.
const hardening = `NoNewPrivileges=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
LockPersonality=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM
`

// install writes the unit and says what comes next. A unit of the same name that is for another home is left alone.
func (s *service) install(cmd *cobra.Command, text, dir string, dryRun bool) error {
	path := filepath.Join(dir, s.name())
	have, err := solstice.ReadFile(path, solstice.MaxFile)
	if err == nil && string(have) != text {
		err = s.checkHome(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &solstice.RefusedError{
			Reason: err.Error(),
			Hint:   "write it under a name of your choice: " + s.line() + " | sudo tee " + shell.Quote(filepath.Join(dir, "NAME.service")),
		}
	}
	out, name := cmd.OutOrStdout(), strings.TrimSuffix(s.name(), ".service")
	if dryRun {
		fmt.Fprintf(out, "Would write %s:\n\n%s", path, text)
		return nil
	}
	if string(have) == text {
		fmt.Fprintf(out, "Already there as it should be: %s\n", path)
	} else {
		if err := durable.WriteFile(path, []byte(text), 0o644); err != nil {
			hint := "as root, with this environment: sudo -E " + s.line("--install", "--dir", dir) +
				"\nor, if sudo does not keep the environment: " + s.line() + " | sudo tee " + shell.Quote(path)
			if errors.Is(err, fs.ErrNotExist) {
				hint = "make the folder: " + shell.Quote("mkdir", "-p", dir)
			}
			return &solstice.RefusedError{Reason: "the unit cannot be written: " + err.Error(), Hint: hint}
		}
		fmt.Fprintf(out, "Written: %s\n", path)
	}
	reloaded, err := reload(dir)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "Now type:")
	if !reloaded {
		fmt.Fprintln(out, "  systemctl daemon-reload")
	}
	if have != nil {
		fmt.Fprintf(out, "  systemctl restart %s\n", name)
	} else {
		fmt.Fprintf(out, "  systemctl enable --now %s\n", name)
	}
	fmt.Fprintf(out, "  systemctl status %s\n", name)
	return nil
}

// checkHome checks that a unit that is there is for the same home.
func (s *service) checkHome(path string) error {
	have, err := unit.Units{Folders: []string{filepath.Dir(path)}}.Load(s.name())
	if err != nil {
		return fmt.Errorf("%s is there, and cannot be read: %w", path, err)
	}
	env, err := have.Environment()
	if err != nil {
		return fmt.Errorf("%s is there, and whose home it is for is not known: %w", path, err)
	}
	switch home, _, err := env.Get("DAEMON_HOME"); {
	case err != nil:
		return fmt.Errorf("%s is there, and whose home it is for is not known: %w", path, err)
	case filepath.Clean(home) != s.home.Dir:
		return fmt.Errorf("%s is there, and for another home than %s", path, s.home.Dir)
	}
	return nil
}

// line is the command line of service for this home, with flags.
func (s *service) line(flags ...string) string {
	return shell.Quote(slices.Concat(s.program, []string{"service"}, flags, []string{"--user", s.user, "--"}, s.args)...)
}

// reload makes systemd read its units again, if it runs this machine and the folder is one of its own.
func reload(dir string) (bool, error) {
	if info, err := os.Lstat("/run/systemd/system"); err != nil || !info.IsDir() || filepath.Clean(dir) != unit.AdminFolder {
		return false, nil // sd_booted(3)
	}
	systemctl, err := exec.LookPath("systemctl")
	if err != nil {
		return false, nil
	}
	out, err := exec.Command(systemctl, "daemon-reload").CombinedOutput()
	if err != nil {
		return false, fmt.Errorf("systemctl daemon-reload: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return true, nil
}
