package child

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	politeness  = 10       // the nice value of what is confined
	largestFile = 64 << 20 // that it may write, in bytes
)

// What Landlock can keep a process from, by the version of its interface in which the kernel learned it
// (https://docs.kernel.org/userspace-api/landlock.html).
const (
	changes1 = unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM
	changes2 = unix.LANDLOCK_ACCESS_FS_REFER
	changes3 = unix.LANDLOCK_ACCESS_FS_TRUNCATE
	network4 = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	scopes6  = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
)

// confineThread takes from this thread, and from what it starts, the right to change any file but those in dir and the
// devices, to use TCP and to signal others; and makes it polite. A thread can't get that back: it has to end. On a kernel
// without Landlock (before 5.13, or switched off) it does only the last.
func confineThread(dir string) error {
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, politeness)
	version := landlock()
	if version < 1 {
		return nil
	}
	rules := unix.LandlockRulesetAttr{Handled_access_fs: changes1}
	if version >= 2 {
		rules.Handled_access_fs |= changes2
	}
	if version >= 3 {
		rules.Handled_access_fs |= changes3
	}
	if version >= 4 {
		rules.Handled_access_net = network4
	}
	if version >= 6 {
		rules.Scoped = scopes6
	}
	set, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), unsafe.Sizeof(rules), 0)
	if errno != 0 {
		return os.NewSyscallError("landlock_create_ruleset", errno)
	}
	defer unix.Close(int(set))
	if err := allowBeneath(int(set), dir, rules.Handled_access_fs); err != nil {
		return err
	}
	if err := allowBeneath(int(set), "/dev", rules.Handled_access_fs&(unix.LANDLOCK_ACCESS_FS_WRITE_FILE|changes3)); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0, 0); errno != 0 {
		return os.NewSyscallError("landlock_restrict_self", errno)
	}
	return nil
}

func allowBeneath(set int, dir string, access uint64) error {
	file, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(file)
	rule := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(file)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(set), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return os.NewSyscallError("landlock_add_rule", errno)
	}
	return nil
}

// landlock is the version of the kernel's Landlock interface, below 1 without it.
func landlock() int {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(version)
}

// CanConfine says whether RunConfined keeps a command from changing files.
func CanConfine() bool { return landlock() >= 1 }

// limitProcess bounds what a process can write into one file, and makes it the first to end when memory gets scarce.
func limitProcess(pid int) {
	_ = unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: largestFile, Max: largestFile}, nil)
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte("1000"), 0)
}
