package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	"time"

	"solstice"
	"solstice/internal/shell"
	"solstice/node"
	"solstice/report"
	"solstice/supervisor"
	"solstice/upgrade"
)

// reach says how a plan's height lies.
type reach int

const (
	far     reach = iota
	near          // nobody changes now what runs the node
	passed        // the node has committed it
	unclear       // it may be near: not enough is known
)

// distance is how far a plan is ahead.
type distance struct {
	solstice.Plan
	text  string
	reach reach
}

const (
	nearTime   = 15 * time.Minute // before a plan nobody changes what runs the node
	nearBlocks = 100              // the same where the pace of the chain is not known
)

// distanceTo says how far a plan is ahead. A height or a pace that is not known makes it
// unclear, unless so few blocks are left that it is near at any pace.
func distanceTo(plan solstice.Plan, height *solstice.Height, pace node.Pace) distance {
	d := distance{Plan: plan}
	at, _, timed := pace.At(plan.Height)
	switch {
	case height != nil && plan.Height <= height.Committed:
		d.text, d.reach = count(int(height.Committed-plan.Height), "block")+" ago", passed
	case timed:
		d.text = "in " + span(max(time.Until(at), 0))
		if time.Until(at) < nearTime {
			d.reach = near
		}
	case height != nil:
		d.text, d.reach = count(int(plan.Height-height.Committed), "block")+" ahead, at a pace that is not known", unclear
		if plan.Height-height.Committed < nearBlocks {
			d.reach = near
		}
	default:
		d.text, d.reach = "at a distance that is not known", unclear
	}
	return d
}

// look finds out what there is.
func (a *adoption) look(ctx context.Context) error {
	status, outlook, unseen := a.config.lookAheadOf(ctx, a.home, a.args)
	if status.Home == "" {
		return unseen
	}
	if status.Supervisor != nil {
		return &solstice.RefusedError{
			Reason: fmt.Sprintf("solstice runs this node already, with pid %d", status.Supervisor.PID),
			Hint:   "look at it with: solstice status",
		}
	}
	a.lookAtUnit()
	a.lookAtHome(status, unseen)
	if err := a.lookAtPlans(ctx, status, outlook, unseen); err != nil {
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
	switch content, err := solstice.ReadFile(a.dropIn, solstice.MaxFile); {
	case err == nil && string(content) == a.content:
		there = "there"
	case err == nil:
		there = "there, and is another"
	case !errors.Is(err, fs.ErrNotExist):
		there = "cannot be read"
	}
	a.row("drop-in", a.dropIn+": "+there, "has the new command")
	then := "the same, with " + a.self
	if a.bare {
		then += " run"
	}
	a.row("command", a.service.Commands[0].Line, then)
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
			Reason: "the current link cannot be used: " + cmp.Or(link.Fault, "there is none: "+a.home.CurrentLink()),
			Hint:   "with the node stopped, say which binary is the right one: solstice switch NAME",
		}
	case filepath.IsAbs(link.Target):
		a.row("link", link.Dir+", by an absolute path", "is followed; relative after the next switch")
	default:
		a.row("link", link.Dir, "is followed")
	}
	if status.Binary.Fault != "" && a.fault == nil {
		a.fault = &solstice.RefusedError{
			Reason: "the binary in use cannot run: " + status.Binary.Fault,
			Hint:   "put one that runs at " + a.home.Binary(link.Dir) + ", then: " + a.again(),
		}
	}
	var dirs []string
	for _, dir := range a.home.BinaryDirs() {
		if _, err := os.Stat(a.home.Binary(dir)); err == nil {
			dirs = append(dirs, dir)
		}
	}
	a.row("binaries", strings.Join(dirs, ", "), "stay")
	switch {
	case unseen == nil && status.Height != nil:
		a.row("node", fmt.Sprintf("answers, at height %d", status.Height.Committed), "runs on until the service is restarted")
	case unseen == nil:
		a.row("node", "answers, and does not tell its height", "runs on until the service is restarted")
	case status.Height != nil:
		a.row("node", fmt.Sprintf("does not answer; its data is at height %d", status.Height.Committed), "is started by the service")
	default:
		a.row("node", "does not answer, and its data does not tell the height", "is started by the service")
	}
}

// lookAtPlans collects what is ahead: what the chain and the disk know, and Cosmovisor's
// batch list.
func (a *adoption) lookAtPlans(ctx context.Context, status solstice.Status, outlook supervisor.Outlook, unseen error) error {
	for _, c := range status.Coming {
		if c.Proposal != 0 || c.Height == 0 {
			continue
		}
		d := distanceTo(solstice.Plan{Name: c.Name, Height: c.Height}, status.Height, outlook.Pace)
		then := "is carried out then; binary in " + describeBinary(c.Binary)
		if d.reach == passed {
			then = "is history"
		}
		a.plan("plan", d, then)
	}
	batch, err := upgrade.ReadBatch(a.home)
	if err != nil {
		return &solstice.RefusedError{
			Reason: "Cosmovisor's batch list cannot be read: " + err.Error(),
			Hint: "put it aside: " + shell.Quote("mv", a.home.BatchFile(), a.home.BatchFile()+".broken") +
				"\nand add its upgrades once solstice runs: solstice add-batch-upgrade --upgrade-list NAME:PATH:HEIGHT",
		}
	}
	for _, plan := range batch {
		d := distanceTo(plan, status.Height, outlook.Pace)
		then := "is your own plan from the first start on"
		if d.reach == passed {
			then = "is dropped at the first start"
		}
		a.plan("batch list", d, then)
	}
	fault := "the node does not answer"
	if unseen == nil {
		fault = a.chainFault(ctx, outlook)
	}
	if fault != "" {
		a.row("plans", "the chain's own is not known: "+fault, "")
		a.plans = append(a.plans, distance{text: "whether the chain has scheduled one is not known: " + fault, reach: unclear})
	} else if len(a.plans) == 0 {
		a.row("plans", "none is ahead", "")
	}
	return nil
}

// plan adds a plan to what is told and checked.
func (a *adoption) plan(what string, d distance, then string) {
	a.row(what, d.Plan.String()+", "+d.text, then)
	d.text = d.Plan.String() + " is " + d.text
	a.plans = append(a.plans, d)
}

// chainFault is why it is not known whether the chain has scheduled a plan, or empty. The
// outlook has one fault for all that it asks, and proposals don't matter here.
func (a *adoption) chainFault(ctx context.Context, outlook supervisor.Outlook) string {
	if outlook.Plan != nil || outlook.Fault == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, _, err := node.Find(a.home, a.args, os.Getenv, a.config.GRPC).Plan(ctx); err != nil {
		return err.Error()
	}
	return ""
}

// datedBackup is a folder that Cosmovisor's backup has made.
var datedBackup = regexp.MustCompile(`^data-backup-\d{4}-\d{1,2}-\d{1,2}$`)

func (a *adoption) lookAtBackups() {
	dirs := []string{a.home.Dir}
	if dir := a.config.namedBackupDir(); dir != "" {
		dirs = append(dirs, dir)
	}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			a.row("old backup", "not known: "+err.Error(), "")
		}
		for _, e := range entries {
			if !datedBackup.MatchString(e.Name()) {
				continue
			}
			var bytes int64
			least := "" // before the size, where not all of it can be seen
			_ = filepath.WalkDir(filepath.Join(dir, e.Name()), func(_ string, e fs.DirEntry, err error) error {
				if err != nil {
					least = "at least "
					return nil
				}
				if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
					bytes += info.Size()
				}
				return nil
			})
			a.row("old backup", fmt.Sprintf("%s, %s%s", filepath.Join(dir, e.Name()), least, report.Size(bytes)), "stays; yours to delete")
		}
	}
}

// ownPath is this program, by the name that it was called by: what that is a symlink to may
// change.
func ownPath() (string, error) {
	path, err := exec.LookPath(os.Args[0])
	if err != nil {
		return os.Executable()
	}
	return filepath.Abs(path)
}

// lookUpUser finds a user by name or number, also one that only the system's own tools know
// of.
func lookUpUser(name string) (*user.User, error) {
	if u, err := user.Lookup(name); err == nil {
		return u, nil
	}
	if u, err := user.LookupId(name); err == nil {
		return u, nil
	}
	out, err := exec.Command("getent", "passwd", name).Output()
	fields := strings.Split(strings.TrimSpace(string(out)), ":")
	if err != nil || len(fields) < 7 {
		return nil, fmt.Errorf("there is no user %q on this machine", name)
	}
	return &user.User{Username: fields[0], Uid: fields[2], Gid: fields[3], HomeDir: fields[5]}, nil
}

// checkUser checks what systemd and solstice would refuse at the start: the service's user
// is not there, cannot execute solstice, or does not own the data.
func (a *adoption) checkUser() error {
	if a.service.DynamicUser {
		return a.refuseByHand("its user is made anew at each start (DynamicUser=), so what it may do is not known")
	}
	u, err := lookUpUser(cmp.Or(a.service.User, "root"))
	if err != nil {
		return &solstice.RefusedError{
			Reason: fmt.Sprintf("%s cannot be adopted: %v, and systemd would not start it", a.service.Name, err),
			Hint:   "correct User= in the unit: systemctl edit --full " + a.service.Name,
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	groups, _ := u.GroupIds()
	if g, err := user.LookupGroup(a.service.Group); err == nil {
		groups = append(groups, g.Gid)
	}
	for path := a.self; uid != 0; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		if err != nil || !mayExecute(info, uint32(uid), groups) {
			return &solstice.RefusedError{
				Reason: fmt.Sprintf("the service's user %s cannot execute %s: %s is closed to it", u.Username, a.self, path),
				Hint:   a.installHint(),
			}
		}
		if path == filepath.Dir(path) {
			break
		}
	}
	info, err := os.Stat(a.home.Data())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &solstice.RefusedError{
			Reason: "the node has no data directory: " + err.Error(),
			Hint:   "start it once under Cosmovisor: systemctl start " + a.service.Name,
		}
	case err != nil:
		return &solstice.RefusedError{
			Reason: "whose the data is cannot be told: " + err.Error(),
			Hint:   asRoot(a.again()),
		}
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && uint64(stat.Uid) != uid && !a.config.AllowOtherOwner {
		return &solstice.RefusedError{
			Reason: fmt.Sprintf("the service runs as %s, and %s belongs to user %d: solstice would refuse to start there",
				u.Username, a.home.Data(), stat.Uid),
			Hint: "give all of it to one user: " + shell.Quote("chown", "-R", u.Username+":", a.home.Dir) +
				"\nor set SOLSTICE_ALLOW_OTHER_OWNER=true in the unit",
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
