package child

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

func setParentDeath(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }

// ReapOrphans waits for the ended children that nobody here waits for, so that they don't stay as zombies: those that the kernel hands to
// us as PID 1 of a container, and with inherited those that a program has left whose place this one has taken. Else there are none,
// and it does nothing.
func ReapOrphans(inherited bool) {
	if os.Getpid() != 1 && !inherited {
		return
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	go func() {
		for {
			own.reapOthers()
			<-ended
		}
	}()
}

// reapOthers waits for every ended child that nobody else waits for. Holding the lock keeps a child that is being
// started from being taken for an orphan.
func (c *children) reapOthers() {
	c.Lock()
	defer c.Unlock()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return // no /proc in this container: then zombies stay, which harms nothing but the process table
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && !c.pids[pid] && isOurZombie(pid) {
			_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		}
	}
}

// isOurZombie reads "PID (COMM) STATE PPID ..." of proc(5); the name may hold anything, parentheses too.
func isOurZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	rest := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	return len(rest) > 1 && string(rest[0]) == "Z" && string(rest[1]) == strconv.Itoa(os.Getpid())
}
