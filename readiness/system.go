package readiness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
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
	pid := s.PID
	if pid == 0 {
		pid = os.Getpid()
	}
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return unknown("look at the unit by hand", "what it is started by is not known: %v", err)
	}
	name := unitName(string(content))
	if name == "" || s.PID == 0 {
		return ok("the node does not run under a systemd service now")
	}
	unit, err := readUnit(name, []string{"/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"})
	if err != nil {
		return unknown("look at the unit by hand", "%s: %v", name, err)
	}
	return judgeUnit(name, unit, s.Grace)
}

var serviceName = regexp.MustCompile(`/([^/\s]+\.service)`)

// unitName is the service in a /proc/PID/cgroup, or empty. That of the user's own manager is none.
func unitName(cgroup string) string {
	found := serviceName.FindAllStringSubmatch(cgroup, -1)
	for _, one := range slices.Backward(found) {
		if !strings.HasPrefix(one[1], "user@") {
			return one[1]
		}
	}
	return ""
}

// readUnit reads the settings of a service from its file and its drop-ins: the last one of a name counts (systemd.unit(5)).
func readUnit(name string, folders []string) (map[string]string, error) {
	names := []string{name}
	if at := strings.IndexByte(name, '@'); at > 0 {
		names = append(names, name[:at+1]+".service")
	}
	unit := map[string]string{}
	found := false
	for _, one := range names {
		for _, folder := range folders {
			if !found && readUnitFile(filepath.Join(folder, one), unit) == nil {
				found = true
			}
		}
	}
	if !found {
		return nil, errors.New("its file is not found")
	}
	for _, one := range names {
		for _, folder := range slices.Backward(folders) {
			dropIns, _ := filepath.Glob(filepath.Join(folder, one+".d", "*.conf"))
			for _, path := range dropIns {
				_ = readUnitFile(path, unit)
			}
		}
	}
	return unit, nil
}

func readUnitFile(path string, unit map[string]string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	for lines := 0; scanner.Scan() && lines < 10_000; lines++ {
		if key, value, ok := strings.Cut(strings.TrimSpace(scanner.Text()), "="); ok && !strings.HasPrefix(key, "#") && !strings.HasPrefix(key, ";") {
			unit[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return scanner.Err()
}

// systemdStop is how long systemd waits by default for a service to stop (systemd-system.conf(5)).
const systemdStop = 90 * time.Second

func judgeUnit(name string, unit map[string]string, grace time.Duration) finding {
	stop := systemdStop
	for _, key := range []string{"TimeoutSec", "TimeoutStopSec"} {
		if value, ok := unit[key]; ok {
			stop = span(value)
		}
	}
	switch restart := unit["Restart"]; {
	case stop > 0 && stop < grace:
		return warning("set TimeoutStopSec to more than DAEMON_SHUTDOWN_GRACE, or lower that", "%s kills the node %v after it was told to stop, and the grace is %v", name, stop, grace)
	case restart == "" || restart == "no":
		return warning("set Restart=on-failure or always", "%s does not start the node again: Restart= is not set", name)
	}
	return ok("%s gives the node time to stop, and starts it again", name)
}

// span reads a time span of systemd (systemd.time(7)), as far as units use it. 0 and infinity are no limit, which is 0 here.
func span(text string) time.Duration {
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		return time.Duration(seconds * float64(time.Second))
	}
	units := strings.NewReplacer("minutes", "m", "minute", "m", "min", "m", "hours", "h", "hour", "h", "hr", "h", "seconds", "s", "second", "s", "sec", "s", " ", "")
	d, err := time.ParseDuration(units.Replace(text))
	if err != nil {
		return 0
	}
	return d
}
