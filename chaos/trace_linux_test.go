package chaos

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A trace stops every system call of solstice that changes the disk or processes before it happens, and decides what becomes of it:
// seccomp's user notification (seccomp_unotify(2)). It is exact, which strace's injection is not: that counts for each thread
// apart, and Go moves its work between threads.

// tracedProgram tells this test's own binary to be the launcher: to put itself under the filter, hand the listener to the test, and become
// the program that is named.
const tracedProgram = "SOLSTICE_CHAOS_TRACED"

func init() {
	if program := os.Getenv(tracedProgram); program != "" {
		fmt.Fprintln(os.Stderr, "can't trace:", launch(program))
		os.Exit(1)
	}
}

// launch returns only if it fails.
func launch(program string) error {
	runtime.LockOSThread()
	const socket = 3
	unix.CloseOnExec(socket)
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, tracedProgram+"=") })
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter, err := callFilter()
	if err != nil {
		return err
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// What was stopped here stays so until it is answered, whatever signals Go's runtime sends.
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	unix.CloseOnExec(int(listener))
	if err := unix.Sendmsg(socket, []byte{0}, unix.UnixRights(int(listener)), nil, 0); err != nil {
		return os.NewSyscallError("sendmsg", err)
	}
	return unix.Exec(program, os.Args, env)
}

// callFilter is the BPF program that stops the calls of stopped, and lets all others through. Go uses no older calls than these.
func callFilter() ([]unix.SockFilter, error) {
	arch, ok := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if !ok {
		return nil, fmt.Errorf("no calls are known of %s", runtime.GOARCH)
	}
	// Where struct seccomp_data has what.
	const number, architecture, argument = 0, 4, 16
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	jump := func(op uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | op | unix.BPF_K, Jt: yes, Jf: no, K: k}
	}
	answer := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	allow, stop := answer(unix.SECCOMP_RET_ALLOW), answer(unix.SECCOMP_RET_USER_NOTIF)
	filter := []unix.SockFilter{load(architecture), jump(unix.BPF_JEQ, arch, 1, 0), allow, load(number)}
	for nr, c := range kinds {
		switch test := c.only; {
		case test.op == 0:
			filter = append(filter, jump(unix.BPF_JEQ, uint32(nr), 0, 1), stop)
		default:
			filter = append(filter, jump(unix.BPF_JEQ, uint32(nr), 0, 4), load(argument+8*test.argument), jump(test.op, test.value, test.yes, 1-test.yes), allow, stop)
		}
	}
	return append(filter, allow), nil
}

// kind is a system call that is stopped.
type kind struct {
	name   string
	only   argTest // else each call of this kind
	path   int     // which argument is the path, with the directory before it; -1: the first argument is an open file; -2: no file
	second int     // which argument is a second path, or 0
	errors []syscall.Errno
}

// argTest compares one argument. yes is 1 if the call is stopped when the comparison holds.
type argTest struct {
	op       uint16
	argument uint32
	value    uint32
	yes      uint8
}

const (
	openFile  = -1
	noFile    = -2
	writeable = unix.O_WRONLY | unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC
)

var (
	full     = []syscall.Errno{unix.ENOSPC, unix.EIO}
	entries  = []syscall.Errno{unix.ENOSPC, unix.EIO, unix.EACCES, unix.EROFS}
	removals = []syscall.Errno{unix.EIO, unix.EACCES, unix.EROFS}
	attrs    = []syscall.Errno{unix.EIO, unix.EROFS}
	opening  = argTest{unix.BPF_JSET, 2, writeable, 1}
	aFile    = argTest{unix.BPF_JGT, 0, 2, 1} // not the standard streams
	process  = argTest{unix.BPF_JSET, 0, unix.CLONE_THREAD, 0}
)

var kinds = map[uintptr]kind{
	unix.SYS_OPENAT:            {"openat", opening, 1, 0, entries},
	unix.SYS_OPENAT2:           {"openat2", argTest{}, 1, 0, entries},
	unix.SYS_WRITE:             {"write", aFile, openFile, 0, full},
	unix.SYS_PWRITE64:          {"pwrite64", aFile, openFile, 0, full},
	unix.SYS_COPY_FILE_RANGE:   {"copy_file_range", argTest{}, openFile, 0, full},
	unix.SYS_FTRUNCATE:         {"ftruncate", argTest{}, openFile, 0, full},
	unix.SYS_FSYNC:             {"fsync", argTest{}, openFile, 0, full},
	unix.SYS_FDATASYNC:         {"fdatasync", argTest{}, openFile, 0, full},
	unix.SYS_SYNC_FILE_RANGE:   {"sync_file_range", argTest{}, openFile, 0, full},
	unix.SYS_SYNCFS:            {"syncfs", argTest{}, openFile, 0, full},
	unix.SYS_RENAMEAT:          {"renameat", argTest{}, 1, 3, entries},
	unix.SYS_RENAMEAT2:         {"renameat2", argTest{}, 1, 3, entries},
	unix.SYS_LINKAT:            {"linkat", argTest{}, 3, 1, entries},
	unix.SYS_SYMLINKAT:         {"symlinkat", argTest{}, 2, 0, entries},
	unix.SYS_UNLINKAT:          {"unlinkat", argTest{}, 1, 0, removals},
	unix.SYS_MKDIRAT:           {"mkdirat", argTest{}, 1, 0, entries},
	unix.SYS_FCHMOD:            {"fchmod", argTest{}, openFile, 0, attrs},
	unix.SYS_FCHMODAT:          {"fchmodat", argTest{}, 1, 0, attrs},
	unix.SYS_FCHMODAT2:         {"fchmodat2", argTest{}, 1, 0, attrs},
	unix.SYS_FCHOWN:            {"fchown", argTest{}, openFile, 0, attrs},
	unix.SYS_FCHOWNAT:          {"fchownat", argTest{}, 1, 0, attrs},
	unix.SYS_UTIMENSAT:         {"utimensat", argTest{}, 1, 0, attrs},
	unix.SYS_CLONE:             {"clone", process, noFile, 0, []syscall.Errno{unix.EAGAIN}},
	unix.SYS_CLONE3:            {"clone3", argTest{}, noFile, 0, []syscall.Errno{unix.EAGAIN}},
	unix.SYS_EXECVE:            {"execve", argTest{}, 0, 0, []syscall.Errno{unix.EIO, unix.EACCES}},
	unix.SYS_KILL:              {"kill", argTest{}, noFile, 0, nil},
	unix.SYS_PIDFD_SEND_SIGNAL: {"pidfd_send_signal", argTest{}, noFile, 0, nil},
}

// call is one that solstice was about to make.
type call struct {
	kind
	what string // the file, or files
}

func (c call) String() string { return strings.TrimSpace(c.name + " " + c.what) }

// harm is what is done to the calls of one trace.
type harm struct {
	n       int           // to the n-th call, from 1 on; 0: to none
	errno   syscall.Errno // that it gives; 0: solstice is killed before the call
	lasting bool          // and all that come after it give the same, as far as they can, until the cause is gone
}

func (x harm) String() string {
	switch {
	case x.errno == 0:
		return fmt.Sprintf("kill-%d", x.n)
	case x.lasting:
		return fmt.Sprintf("%s-from-%d", unix.ErrnoName(x.errno), x.n)
	}
	return fmt.Sprintf("%s-%d", unix.ErrnoName(x.errno), x.n)
}

// trace is one command under a harm.
type trace struct {
	*running
	home     *home
	listener int
	struck   chan struct{} // closed when the harm was done for the first time
	served   chan struct{} // closed when all processes have ended that were under the filter

	mu      sync.Mutex
	harm    harm
	calls   []call
	victims int // calls that were harmed
	victim  call
}

// trace starts solstice with these arguments. Only calls on files in the folder of the home count, and those that make processes or
// signal them; and only those of solstice itself, and of what it has forked until that executes another program.
func (h *home) trace(harm harm, args ...string) *trace {
	h.Helper()
	tr, err := h.tryTrace(harm, args...)
	h.must(err)
	return tr
}

func (h *home) tryTrace(harm harm, args ...string) (*trace, error) {
	h.Helper()
	self, err := os.Executable()
	h.must(err)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	h.must(err)
	theirs := os.NewFile(uintptr(pair[1]), "launcher")
	defer unix.Close(pair[0])
	cmd := h.command(args...)
	cmd.Path = self
	cmd.Env = append(cmd.Env, tracedProgram+"="+solsticeBinary)
	cmd.ExtraFiles = []*os.File{theirs}
	r := h.begin(cmd)
	theirs.Close()
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(pair[0], make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
	h.must(err)
	if n == 0 {
		<-r.done
		return nil, errors.New("the launcher ended: " + r.ProcessState.String())
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	h.must(err)
	fds, err := unix.ParseUnixRights(&messages[0])
	h.must(err)
	tr := &trace{running: r, home: h, listener: fds[0], harm: harm, struck: make(chan struct{}), served: make(chan struct{})}
	go tr.serve()
	h.Cleanup(func() {
		r.kill()
		h.clear()
		<-tr.served
	})
	return tr, nil
}

// notification and response are struct seccomp_notif and seccomp_notif_resp.
type notification struct {
	id       uint64
	tid      uint32
	flags    uint32
	number   int32
	arch     uint32
	position uint64
	args     [6]uint64
}

type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// serve answers until nobody is under the filter any more: the node too, which may outlive solstice, waits at its calls.
func (tr *trace) serve() {
	defer close(tr.served)
	defer unix.Close(tr.listener)
	for {
		events := []unix.PollFd{{Fd: int32(tr.listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(events, -1); err != nil {
			continue // interrupted
		}
		if events[0].Revents&unix.POLLIN == 0 {
			return // all have ended
		}
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(tr.listener), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&n))); errno != 0 {
			continue // it was killed meanwhile
		}
		resp := response{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		if c, counts := tr.describe(n); counts {
			if errno := tr.meet(c); errno != 0 {
				resp.errno, resp.flags = -int32(errno), 0
			}
		}
		// An error says that it was killed meanwhile.
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(tr.listener), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&resp)))
	}
}

// describe says what the call is, and whether it counts.
func (tr *trace) describe(n notification) (call, bool) {
	proc := fmt.Sprintf("/proc/%d", n.tid)
	if exe, err := os.Readlink(proc + "/exe"); err != nil || exe != solsticeBinary {
		return call{}, false
	}
	c := call{kind: kinds[uintptr(n.number)]}
	root := filepath.Dir(tr.home.dir) + "/"
	name := func(argument int) string {
		path := readString(int(n.tid), uintptr(n.args[argument]))
		if argument > 0 && !filepath.IsAbs(path) {
			dir := proc + "/cwd"
			if fd := int32(n.args[argument-1]); fd != unix.AT_FDCWD {
				dir = fmt.Sprintf("%s/fd/%d", proc, fd)
			}
			base, _ := os.Readlink(dir) // what can't be read is not below root
			path = filepath.Join(base, path)
		}
		return path
	}
	var path string
	switch c.path {
	case noFile:
		return c, true
	case openFile:
		fd := n.args[0]
		if n.number == unix.SYS_COPY_FILE_RANGE {
			fd = n.args[2] // where it goes
		}
		path, _ = os.Readlink(fmt.Sprintf("%s/fd/%d", proc, fd)) // pipes and sockets have names without a slash
	default:
		path = name(c.path)
	}
	if n.number == unix.SYS_EXECVE {
		c.what = strings.TrimPrefix(path, root)
		return c, true
	}
	if n.number == unix.SYS_OPENAT2 {
		var how unix.OpenHow
		content := unsafe.Slice((*byte)(unsafe.Pointer(&how)), unsafe.Sizeof(how))
		if readMemory(int(n.tid), uintptr(n.args[2]), content) < 8 || how.Flags&writeable == 0 {
			return c, false
		}
	}
	if !strings.HasPrefix(path, root) || path == tr.home.log { // by the log it is judged
		return c, false
	}
	c.what = strings.TrimPrefix(path, root)
	if c.second > 0 {
		c.what = strings.TrimPrefix(name(c.second), root) + " " + c.what
	}
	if n.number == unix.SYS_RENAMEAT || n.number == unix.SYS_RENAMEAT2 {
		c.what = strings.TrimPrefix(path, root) + " -> " + strings.TrimPrefix(name(3), root)
	}
	return c, true
}

// readString reads a path from another process.
func readString(tid int, address uintptr) string {
	buffer := make([]byte, unix.PathMax)
	// Not beyond the end of the page, and then the next one: what lies behind it may not be mapped.
	page := os.Getpagesize()
	first := page - int(address)%page
	n := readMemory(tid, address, buffer[:min(first, len(buffer))])
	if !slices.Contains(buffer[:n], 0) && n == first {
		n += readMemory(tid, address+uintptr(n), buffer[n:])
	}
	text, _, _ := strings.Cut(string(buffer[:n]), "\x00")
	return text
}

func readMemory(tid int, address uintptr, into []byte) int {
	if len(into) == 0 {
		return 0
	}
	local := []unix.Iovec{{Base: &into[0], Len: uint64(len(into))}}
	n, err := unix.ProcessVMReadv(tid, local, []unix.RemoteIovec{{Base: address, Len: len(into)}}, 0)
	if err != nil {
		return 0
	}
	return n
}

// meet counts a call and decides what becomes of it: 0 lets it happen.
func (tr *trace) meet(c call) syscall.Errno {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.calls = append(tr.calls, c)
	n, harm := len(tr.calls), tr.harm
	switch {
	case harm.n == 0 || n < harm.n || tr.victims > 0 && !harm.lasting:
		return 0
	case harm.errno != 0 && !slices.Contains(c.errors, harm.errno):
		return 0
	}
	tr.victims++
	if tr.victims == 1 {
		tr.victim = c
		defer close(tr.struck)
	}
	if harm.errno == 0 {
		tr.kill()
	}
	return harm.errno
}

// heal takes the cause of a lasting harm away.
func (tr *trace) heal() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.harm.n = 0
}

// met returns the calls so far, the one that was harmed first, and how many were.
func (tr *trace) met() (calls []call, victim call, victims int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return slices.Clone(tr.calls), tr.victim, tr.victims
}

// needTrace skips the test where calls can't be traced.
func needTrace(t *testing.T) {
	t.Helper()
	h := &home{TB: t, dir: filepath.Join(t.TempDir(), "home"), log: filepath.Join(t.TempDir(), "log")}
	tr, err := h.tryTrace(harm{}, "version")
	if err != nil {
		content, _ := os.ReadFile(h.log)
		t.Skipf("system calls can't be traced here: %v: %s", err, content)
	}
	h.end(tr.running)
}
