package rehearse

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"solstice/crash"
)

// limiter keeps a process and all that it starts below an amount of memory: a control group where one can be made, else a watcher
// that kills what has grown too large.
type limiter struct {
	bytes int64
	by    string
	group string // folder of the control group; empty: watched
	kills string // its file that counts kills
}

// Who keeps a limit.
const (
	byGroup1  = "cgroup v1"
	byGroup2  = "cgroup v2"
	byWatcher = "watcher"
)

// newLimiter makes a limit. 0 is none.
func newLimiter(bytes int64) *limiter {
	l := &limiter{bytes: bytes}
	if bytes == 0 {
		return l
	}
	for _, try := range []func(int64) (*limiter, error){group2, group1} {
		if made, err := try(bytes); err == nil {
			return made
		}
	}
	l.by = byWatcher
	return l
}

const groupPrefix = "solstice-rehearsal-"

func group1(bytes int64) (*limiter, error) {
	own, ok := crash.OwnGroup("memory")
	if !ok {
		return nil, os.ErrNotExist
	}
	sweepGroups(filepath.Join("/sys/fs/cgroup/memory", own))
	dir, err := makeGroup(filepath.Join("/sys/fs/cgroup/memory", own), "memory.limit_in_bytes", bytes)
	if err != nil {
		return nil, err
	}
	// Where swap is accounted for it is limited too; a kernel without it has no such file.
	_ = os.WriteFile(filepath.Join(dir, "memory.memsw.limit_in_bytes"), []byte(strconv.FormatInt(bytes, 10)), 0)
	return &limiter{bytes: bytes, by: byGroup1, group: dir, kills: "memory.oom_control"}, nil
}

// group2 makes a group beside our own, as one with processes in it hands no controller down.
func group2(bytes int64) (*limiter, error) {
	own, ok := crash.OwnGroup("")
	if !ok {
		return nil, os.ErrNotExist
	}
	parent := filepath.Join("/sys/fs/cgroup", filepath.Dir(own))
	sweepGroups(parent)
	dir, err := makeGroup(parent, "memory.max", bytes)
	if err != nil {
		return nil, err
	}
	_ = os.WriteFile(filepath.Join(dir, "memory.swap.max"), []byte("0"), 0) // absent without swap
	return &limiter{bytes: bytes, by: byGroup2, group: dir, kills: "memory.events"}, nil
}

func makeGroup(parent, file string, bytes int64) (dir string, err error) {
	dir = filepath.Join(parent, fmt.Sprintf("%s%d", groupPrefix, os.Getpid()))
	if _, err := os.Stat(filepath.Join(parent, "cgroup.procs")); err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
		return "", err
	}
	// Opened without creating: a group without the controller has no such file.
	if err := writeExisting(filepath.Join(dir, file), strconv.FormatInt(bytes, 10)); err != nil {
		_ = os.Remove(dir)
		return "", err
	}
	return dir, nil
}

func writeExisting(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// sweepGroups removes the groups of rehearsals whose process has ended.
func sweepGroups(parent string) {
	left, _ := filepath.Glob(filepath.Join(parent, groupPrefix+"*"))
	for _, dir := range left {
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), groupPrefix))
		if err == nil && !exists(filepath.Join("/proc", strconv.Itoa(pid))) {
			_ = os.Remove(dir)
		}
	}
}

// add puts a process under the limit, before it has started others.
func (l *limiter) add(pid int) error {
	if l.group == "" {
		return nil
	}
	return writeExisting(filepath.Join(l.group, "cgroup.procs"), strconv.Itoa(pid))
}

// killed is how often the kernel has killed something for the limit.
func (l *limiter) killed() (n int64) {
	if l.group == "" {
		return 0
	}
	n, _ = crash.CountIn(filepath.Join(l.group, l.kills))
	return n
}

// exceeded says whether processes with so much memory have to be killed by us.
func (l *limiter) exceeded(resident int64) bool {
	return l.by == byWatcher && resident > l.bytes
}

// close removes the group. Its last process may be about to end.
func (l *limiter) close() error {
	if l.group == "" {
		return nil
	}
	var err error
	for range 50 {
		if err = os.Remove(l.group); err == nil || os.IsNotExist(err) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
