package readiness

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"solstice"
)

// rehearsed compares what is there with what a rehearsal of the plan has needed, with the binary that is in place.
func rehearsed(_ context.Context, s Subject) finding {
	last, found, err := solstice.LastRehearsal(s.Home, s.Plan.Name)
	if err != nil {
		return unknown("look at "+s.Home.RehearsalsFile(), "whether it was rehearsed is not known: %v", err)
	}
	again := "solstice rehearse --plan " + s.Plan.Name + " --binary " + s.Home.Binary(s.dir())
	if !found {
		return ok("it was not rehearsed; %s shows what it does to this node's state", again)
	}
	at := last.At.Local().Format(time.DateTime)
	digest, err := s.Probes.Digest(s.Home.Binary(s.dir()))
	other := err == nil && digest != last.New.Digest
	switch {
	case !last.Passed() && other:
		return warning(again, "another binary was rehearsed at %s and %s: %s", at, last.Outcome, last.Reason)
	case !last.Passed():
		return notReady("get a corrected binary; then "+again, "rehearsed at %s: %s: %s", at, last.Outcome, last.Reason)
	case other:
		return warning(again, "another binary was rehearsed at %s than the one in place", at)
	}
	needs := fmt.Sprintf("rehearsed at %s: %s to its first block, with %s of memory and %s of the disk", at,
		last.Migration().Round(time.Second/10), gibi(last.Memory()), gibi(last.Disk()))
	var st unix.Statfs_t
	if err := unix.Statfs(s.Home.Data(), &st); err == nil {
		if free := int64(st.Bavail) * int64(st.Bsize); free < last.Disk() {
			return notReady("make room on the disk of data/", "%s; %s are free", needs, gibi(free))
		}
	}
	machine, err := fields("/proc/meminfo")
	if err != nil {
		return ok("%s", needs)
	}
	there := machine["MemAvailable"] + machine["SwapFree"]
	if s.PID != 0 {
		if node, err := fields(fmt.Sprintf("/proc/%d/status", s.PID)); err == nil {
			there += node["VmRSS"] // it is free once the old one has ended
		}
	}
	if there < last.Memory() {
		return notReady("give the machine memory or swap", "%s; %s are available", needs, gibi(there))
	}
	return ok("%s", needs)
}
