package rehearse

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"solstice"
)

// meter sums up what a process's descendants use, the process itself left out: it is our own solstice. It reads /proc, so what a
// process did between the last look and its end is not counted.
type meter struct {
	root int
	seen map[string]used // by number and start, as numbers are used again
	peak int64

	below   []int     // the descendants
	scanned time.Time // when they were looked for
}

// scanEvery is how often descendants are looked for among all processes: that takes more than reading what a few of them use.
const scanEvery = 500 * time.Millisecond

// used is what one process has used so far.
type used struct {
	ticks         uint64 // of the processor
	peak          int64  // resident, by its own record
	read, written int64
}

func newMeter(root int) *meter { return &meter{root: root, seen: map[string]used{}} }

// look reads what runs now, and returns its resident memory and its processes.
func (m *meter) look() (resident int64, pids []int) {
	if time.Since(m.scanned) > scanEvery {
		m.below, m.scanned = descendants(m.root), time.Now()
	}
	for _, pid := range m.below {
		p, running := readStat(pid)
		if !running {
			continue
		}
		u := used{ticks: p.ticks}
		status := fields(fmt.Sprintf("/proc/%d/status", p.pid))
		u.peak = status["VmHWM"] << 10
		io := fields(fmt.Sprintf("/proc/%d/io", p.pid))
		u.read, u.written = io["read_bytes"], io["write_bytes"]
		key := fmt.Sprintf("%d-%s", p.pid, p.start)
		last := m.seen[key]
		m.seen[key] = used{max(u.ticks, last.ticks), max(u.peak, last.peak), max(u.read, last.read), max(u.written, last.written)}
		m.peak = max(m.peak, u.peak)
		resident += status["VmRSS"] << 10
		pids = append(pids, p.pid)
	}
	m.peak = max(m.peak, resident)
	return resident, pids
}

// usage is the sum up to the last look.
func (m *meter) usage() solstice.Usage {
	u := solstice.Usage{Memory: m.peak}
	for _, one := range m.seen {
		u.CPU += solstice.Seconds(time.Duration(one.ticks) * time.Second / ticksPerSecond)
		u.Read += one.read
		u.Written += one.written
	}
	return u
}

// ticksPerSecond is USER_HZ, which is 100 on every architecture that Go runs on under Linux.
const ticksPerSecond = 100

// stat is a line of /proc/PID/stat (proc_pid_stat(5)), as far as it matters here.
type stat struct {
	pid, parent int
	ticks       uint64
	start       string
}

// descendants are the processes below one, those that have ended and are not reaped left out.
func descendants(root int) (below []int) {
	children := map[int][]stat{}
	for _, pid := range processes() {
		if s, ok := readStat(pid); ok {
			children[s.parent] = append(children[s.parent], s)
		}
	}
	for next := []int{root}; len(next) > 0; next = next[1:] {
		for _, s := range children[next[0]] {
			below = append(below, s.pid)
			next = append(next, s.pid)
		}
	}
	return below
}

// processes are the numbers of all processes.
func processes() (pids []int) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func readStat(pid int) (s stat, ok bool) {
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return s, false
	}
	rest := bytes.Fields(content[bytes.LastIndexByte(content, ')')+1:]) // from the state on, the third field
	if len(rest) < 20 || string(rest[0]) == "Z" {
		return s, false
	}
	s.pid = pid
	s.parent, _ = strconv.Atoi(string(rest[1]))
	user, _ := strconv.ParseUint(string(rest[11]), 10, 64)
	system, _ := strconv.ParseUint(string(rest[12]), 10, 64)
	s.ticks, s.start = user+system, string(rest[19])
	return s, true
}

// fields reads lines of the form NAME: NUMBER, with or without a unit.
func fields(path string) map[string]int64 {
	found := map[string]int64{}
	content, err := os.ReadFile(path)
	if err != nil {
		return found // the process has ended
	}
	for line := range strings.Lines(string(content)) {
		name, rest, _ := strings.Cut(line, ":")
		if words := strings.Fields(rest); len(words) > 0 {
			if n, err := strconv.ParseInt(words[0], 10, 64); err == nil {
				found[name] = n
			}
		}
	}
	return found
}
