package crash

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Kills are how many processes the kernel has killed for want of memory.
type Kills struct {
	Group   int64 // in our control group, which the node shares, whoever lacked the memory
	Machine int64 // on the whole machine
	Known   bool  // a kernel before 4.13 counts neither
}

// CountKills counts up to now. oom_kill counts the processes of a group that any kind of OOM killer has killed
// (Documentation/admin-guide/cgroup-v2.rst), in memory.oom_control of version 1 too, and in /proc/vmstat those of all groups.
func CountKills() Kills {
	var k Kills
	group, inGroup := CountIn(groupFile())
	machine, onMachine := CountIn("/proc/vmstat")
	k.Group, k.Machine, k.Known = group, machine, inGroup || onMachine
	return k
}

// Since is how many there were since an earlier count.
func (k Kills) Since(before Kills) Kills {
	return Kills{k.Group - before.Group, k.Machine - before.Machine, k.Known && before.Known}
}

// groupFile is where the kernel counts the kills of our group; empty if there is no such file. In a container the path in
// /proc/self/cgroup may be the host's, and what is mounted is our own group.
func groupFile() string {
	for _, version := range []struct{ controller, mount, file string }{
		{"memory", "/sys/fs/cgroup/memory", "memory.oom_control"}, {"", "/sys/fs/cgroup", "memory.events"},
	} {
		own, ok := OwnGroup(version.controller)
		if !ok {
			continue
		}
		for _, group := range []string{own, ""} {
			path := filepath.Join(version.mount, group, version.file)
			if _, err := os.Stat(path); err == nil {
				return path
			}
		}
	}
	return ""
}

// OwnGroup is this process's group in the hierarchy with a controller; "" is that of version 2 (cgroups(7)).
func OwnGroup(controller string) (string, bool) {
	content, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(strings.TrimSpace(string(content))) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) == 3 && (parts[1] == controller || controller != "" && strings.Contains(","+parts[1]+",", ","+controller+",")) {
			return parts[2], true
		}
	}
	return "", false
}

// CountIn is the kernel's count oom_kill in one of its files.
func CountIn(path string) (n int64, ok bool) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(content)) {
		if words := strings.Fields(line); len(words) == 2 && words[0] == "oom_kill" {
			n, err = strconv.ParseInt(words[1], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
