package readiness

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"solstice"
	"solstice/node"
	"solstice/upgrade"
)

// RunsOn is which home a running node has open.
type RunsOn struct {
	Same    bool     // the one that is asked about
	Others  []string // folders with databases or a WAL that it has open instead
	Unknown error    // why it can't be told; then the rest is empty
}

var errNothingOpen = errors.New("it has no database open that is known by its name, and neither its arguments nor its environment name a home")

// HomeOfProcess compares a home with what the process that runs its node, or one that this has started, has open: databases, whose
// folders end with .db, and the consensus WAL. Where nothing of this is open, its arguments and its environment count.
func HomeOfProcess(home solstice.Home, settings node.Settings, pid int) RunsOn {
	var folders []string
	var fault error
	for _, one := range withChildren(pid) {
		open, err := dataOf(one)
		if fault == nil {
			fault = err
		}
		folders = append(folders, open...)
	}
	if named := namedHome(pid); len(folders) == 0 && named != "" {
		folders = []string{real(filepath.Join(named, "data"))}
	}
	if len(folders) == 0 {
		return RunsOn{Unknown: cmp.Or(fault, errNothingOpen)}
	}
	own := []string{real(home.Data()), real(settings.DBDir), real(filepath.Dir(filepath.Dir(settings.WALFile)))}
	var found RunsOn
	for _, folder := range folders {
		if slices.Contains(own, folder) {
			return RunsOn{Same: true}
		}
		if !slices.Contains(found.Others, folder) {
			found.Others = append(found.Others, folder)
		}
	}
	return found
}

// real is a path without symlinks, as /proc shows it.
func real(path string) string {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		return resolved
	}
	return filepath.Clean(path)
}

// maxOpen is how many open files of a process are looked at, and maxProcesses how many processes.
const (
	maxOpen      = 100_000
	maxProcesses = 16
)

// dataOf are the folders in which a process has databases or a WAL open.
func dataOf(pid int) (folders []string, err error) {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxOpen)
	if err != nil && len(names) == 0 {
		return nil, err
	}
	for _, name := range names {
		path, err := os.Readlink(filepath.Join(dir.Name(), name))
		if err != nil || !filepath.IsAbs(path) {
			continue // closed meanwhile, or a socket
		}
		folder := filepath.Dir(strings.TrimSuffix(path, " (deleted)"))
		if base := filepath.Base(folder); strings.HasSuffix(base, ".db") || base == "cs.wal" {
			if above := filepath.Dir(folder); !slices.Contains(folders, above) {
				folders = append(folders, above)
			}
		}
	}
	return folders, nil
}

// withChildren are a process and those below it, a few at most.
func withChildren(pid int) []int {
	below := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		content, err := os.ReadFile(path)
		at := strings.LastIndexByte(string(content), ')') // behind the name, which may hold anything (proc_pid_stat(5))
		if err != nil || at < 0 {
			continue
		}
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if words := strings.Fields(string(content[at+1:])); len(words) > 1 {
			if parent, err := strconv.Atoi(words[1]); err == nil {
				below[parent] = append(below[parent], child)
			}
		}
	}
	pids := []int{pid}
	for i := 0; i < len(pids) && len(pids) < maxProcesses; i++ {
		pids = append(pids, below[pids[i]]...)
	}
	return pids
}

// namedHome is the home that a process was given by its arguments or its environment; empty: by neither.
func namedHome(pid int) string {
	read := func(name string) []string {
		content, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		return strings.Split(strings.TrimSuffix(string(content), "\x00"), "\x00")
	}
	link := func(name string) string {
		path, _ := os.Readlink(fmt.Sprintf("/proc/%d/%s", pid, name))
		return path
	}
	env := map[string]string{}
	for _, pair := range read("environ") {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	program := solstice.Home{Name: filepath.Base(link("exe"))}
	path, _ := node.FindHome(program, node.CommandLine{Args: read("cmdline")[1:]}, link("cwd"), func(name string) string { return env[name] })
	return path
}

// homesAgree: the home that is guarded is the one that the node uses.
func homesAgree(_ context.Context, s Subject) finding {
	from := ""
	if s.Home.NodeFrom != "" {
		from = " (" + s.Home.NodeFrom + ")"
	}
	if s.PID == 0 {
		if sameFolder(s.Home.Node, s.Home.Dir) {
			return ok("the node's home is %s%s", s.Home.Node, from)
		}
		return ok("the node's home is %s%s; DAEMON_HOME is %s", s.Home.Node, from, s.Home.Dir)
	}
	switch found := HomeOfProcess(s.Home, s.Settings, s.PID); {
	case found.Unknown != nil:
		return unknown("run this as the user that the node runs as, and while it makes blocks",
			"the node's home should be %s%s; cannot tell which one process %d has open: %v", s.Home.Node, from, s.PID, found.Unknown)
	case !found.Same:
		return notReady("name the home that it is meant to use in its arguments, with --home, and restart it",
			"the node has %s open, and solstice guards %s%s", strings.Join(found.Others, ", "), s.Home.Node, from)
	}
	return ok("the node runs on %s%s", s.Home.Node, from)
}

// homeStays: a new binary with another default home would start on an empty one.
func homeStays(ctx context.Context, s Subject) finding {
	if s.Home.NodeFrom != node.FromDefault {
		return ok("the node's home is not the binary's default, so another default changes nothing")
	}
	if upgrade.CheckBinary(s.Home, s.dir(), s.Probes) != nil || upgrade.CheckBinary(s.Home, s.Link, s.Probes) != nil {
		return unknown("see the checks binary and verified", "one of the binaries can't be asked for its default home")
	}
	before, err := s.Probes.Help(ctx, s.Home.Binary(s.Link))
	if err != nil || !before.Known() {
		return unknown("name the home in the node's arguments: --home "+s.Home.Node, "the default home of the binary in use is not known: %v", err)
	}
	after, err := s.Probes.Help(ctx, s.Home.Binary(s.dir()))
	switch {
	case err != nil || !after.Known():
		return unknown("name the home in the node's arguments: --home "+s.Home.Node, "the default home of the plan's binary is not known: %v", err)
	case before.Home != after.Home:
		return notReady("name the home in the node's arguments: --home "+s.Home.Node, "the plan's binary has another default home: %s, not %s", after.Home, before.Home)
	}
	return ok("the plan's binary has the same default home: %s", after.Home)
}

func sameFolder(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}
