package rehearse

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"solstice/internal/child"
)

// inside is the environment variable by which a process knows that it was started in a network of its own.
const inside = "SOLSTICE_REHEARSAL_NETWORK"

// Alone runs this very command again in a network namespace of its own, where there is nothing but a loopback: whatever the chain's
// binaries do, nothing gets out. ran says that it did, with the exit code. Else this process is the one that has to do it, and network
// says what keeps its nodes to themselves.
func Alone() (ran bool, code int, network string) {
	const ports = "own ports on 127.0.0.1, no peers"
	if os.Getenv(inside) != "" {
		if err := loopback(); err != nil {
			return false, 0, fmt.Sprintf("%s; a network of its own, whose loopback can't be brought up: %v", ports, err)
		}
		return false, 0, "a network namespace of its own, with nothing but a loopback; no peers"
	}
	code, err := again()
	if err != nil {
		return false, 0, fmt.Sprintf("%s; no network of its own, which this system refuses: %v", ports, err)
	}
	return true, code, ""
}

// again starts this program again with its arguments, in a new network; one who is not root needs a new user namespace for that. It
// ends with this process, and signals are handed on.
func again() (code int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN}
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	p, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		return 0, err
	}
	for {
		select {
		case sig := <-signals:
			_ = p.Signal(sig) // it may have ended
		case <-p.Done():
			return p.End().ExitCode(), nil
		}
	}
}

// loopback brings up the only device that a new network has (netdevice(7)).
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, request); err != nil {
		return os.NewSyscallError("SIOCGIFFLAGS", err)
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	return os.NewSyscallError("SIOCSIFFLAGS", unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request))
}
