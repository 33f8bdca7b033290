package readiness

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"solstice/unit"
)

var systemChecks = []check{{"memory", memoryThere}, {"open files", filesAllowed}, {"service", unitRight}}

// memoryThere: the new binary will want what the old one has wanted at its peak, and a migration more.
func memoryThere(_ context.Context, s Subject) finding {
	machine, err := fields("/proc/meminfo")
	if err != nil {
		return unknown("look by hand", "the machine's memory is not known: %v", err)
	}
	there := machine["MemAvailable"] + machine["SwapFree"]
	if s.PID == 0 {
		return ok("%s available, swap included; no node runs to compare with", gibi(there))
	}
	node, err := fields(fmt.Sprintf("/proc/%d/status", s.PID))
	if err != nil {
		return unknown("run this as the user that the node runs as", "the node's memory is not known: %v", err)
	}
	there += node["VmRSS"] // it is free once the old one has ended
	if peak := node["VmHWM"]; there < peak {
		return warning("give the machine memory or swap: a migration needs more than the node does in a day", "%s available once the node has ended, swap included, and it had %s at its peak", gibi(there), gibi(peak))
	}
	return ok("%s available once the node has ended, swap included; it had %s at its peak", gibi(there), gibi(node["VmHWM"]))
}

// fields reads the lines NAME: N kB of a file in /proc, in bytes.
func fields(path string) (map[string]int64, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	found := map[string]int64{}
	for line := range strings.Lines(string(content)) {
		name, rest, _ := strings.Cut(line, ":")
		if words := strings.Fields(rest); len(words) == 2 && words[1] == "kB" {
			if n, err := strconv.ParseInt(words[0], 10, 64); err == nil {
				found[name] = n << 10
			}
		}
	}
	return found, nil
}

// leastFiles is what a node with goleveldb needs to be at ease.
const leastFiles = 4096

// filesAllowed compares the limit that the node runs with to what a start from here would give it.
func filesAllowed(_ context.Context, s Subject) finding {
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		return unknown("look by hand: ulimit -n", "%v", err)
	}
	if s.PID == 0 {
		if own.Cur < leastFiles {
			return warning("raise it where the node is started: LimitNOFILE= or ulimit -n", "a start from here may open %d files, and a node wants %d at least", own.Cur, leastFiles)
		}
		return ok("a start from here may open %d files", own.Cur)
	}
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", s.PID))
	if err != nil {
		return unknown("run this as the user that the node runs as", "the node's limit is not known: %v", err)
	}
	limit := uint64(0)
	for line := range strings.Lines(string(content)) {
		if rest, found := strings.CutPrefix(line, "Max open files"); found {
			if words := strings.Fields(rest); len(words) > 0 {
				limit, _ = strconv.ParseUint(words[0], 10, 64)
			}
		}
	}
	if limit < leastFiles {
		return warning("raise it where solstice is started: LimitNOFILE= or ulimit -n", "the node may open %d files, and it wants %d at least", limit, leastFiles)
	}
	return ok("the node may open %d files; the next one is started with the same limit", limit)
}

// unitRight looks at the systemd unit that the node runs under: its files, no manager is asked.
func unitRight(_ context.Context, s Subject) finding {
	if s.PID == 0 {
		return unknown("run this while the node runs", "no node runs, so the unit that starts it is not known")
	}
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", s.PID))
	if err != nil {
		return unknown("run this as the user that the node runs as", "the unit that the node runs under is not known: %v", err)
	}
	name, ofUser := unitName(string(content))
	switch {
	case name == "":
		return ok("the node does not run under a systemd service")
	case ofUser:
		return unknown("look at it by hand: systemctl --user cat "+name, "%s belongs to a user's own systemd, whose units are not read", name)
	}
	service, err := unit.Units{Folders: unit.SearchPath}.Load(name)
	if err != nil {
		return unknown("look at it by hand: systemctl cat "+name, "%s cannot be read: %v", name, err)
	}
	return judgeUnit(service, s.Grace)
}

var serviceName = regexp.MustCompile(`/([^/\s]+\.service)`)

// unitName is the service in a /proc/PID/cgroup, or empty, and whether it is one of a user's own systemd. That systemd itself, a
// service user@UID of the machine's, is none.
func unitName(cgroup string) (name string, ofUser bool) {
	found := serviceName.FindAllStringSubmatch(cgroup, -1)
	for _, one := range slices.Backward(found) {
		switch {
		case strings.HasPrefix(one[1], "user@"):
			ofUser = true
		case name == "":
			name = one[1]
		}
	}
	return name, ofUser
}

func judgeUnit(s *unit.Service, grace time.Duration) finding {
	switch stop, err := s.StopTimeout(); {
	case err != nil:
		return unknown("look at the unit by hand: systemctl show "+s.Name, "how long %s may take to stop is not known: %v", s.Name, err)
	case stop > 0 && stop < grace:
		return warning("set TimeoutStopSec to more than DAEMON_SHUTDOWN_GRACE, or lower that",
			"%s kills the node %v after it was told to stop, and the grace is %v", s.Name, stop, grace)
	case s.Restart == "" || s.Restart == "no":
		return warning("set Restart=on-failure or always", "%s does not start the node again: Restart= is not set", s.Name)
	}
	return ok("%s gives the node time to stop, and starts it again", s.Name)
}
