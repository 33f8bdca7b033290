package node

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// holds says whether a process, or one that it has started, holds the other end of a
// connection to this machine. An error means that it can't be told.
func holds(pid int, conn net.Conn) (bool, error) {
	if pid <= 0 {
		return false, errNoProcess
	}
	switch conn := conn.(type) {
	case *net.UnixConn:
		return listens(pid, conn)
	case *net.TCPConn:
		inode, err := otherEnd(conn)
		if err != nil {
			return false, err
		}
		return hasSocket(pid, inode)
	}
	return false, errors.New("the process at the other end can't be found")
}

// listens says whether a process, or one that it has started, listens on the socket of a
// connection.
func listens(pid int, conn *net.UnixConn) (bool, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false, err
	}
	var listener *unix.Ucred
	if controlErr := raw.Control(func(fd uintptr) {
		listener, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); controlErr != nil || err != nil {
		return false, errors.Join(controlErr, err)
	}
	switch int(listener.Pid) {
	case pid:
		return true, nil
	case 0: // of another PID namespace
		return false, errors.New("the process that listens can't be seen")
	}
	tree, err := family(pid)
	return slices.Contains(tree, int(listener.Pid)), err
}

// otherEnd returns the inode of the socket at the other end of a connection within this
// machine. The server has accepted it: before that it has no inode.
func otherEnd(conn *net.TCPConn) (inode string, err error) {
	ours, theirs := addrPort(conn.LocalAddr()), addrPort(conn.RemoteAddr())
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		inode, err := findSocket(table, theirs, ours)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a machine without IPv6 has no table for it
			return "", err
		}
		if inode != "" {
			return inode, nil
		}
	}
	return "", errors.New("the socket at the other end can't be found")
}

// findSocket finds a connection in one of the kernel's tables.
func findSocket(table string, local, remote netip.AddrPort) (inode string, err error) {
	file, err := os.Open(table)
	if err != nil {
		return "", err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		// sl local_address rem_address st queues timer retrnsmt uid timeout inode
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[9] == "0" {
			continue
		}
		if kernelAddr(fields[1]) == local && kernelAddr(fields[2]) == remote {
			return fields[9], nil
		}
	}
	return "", nil
}

// kernelAddr reads an address of the kernel's tables: words of four bytes in the order of
// this machine, and the port.
func kernelAddr(text string) netip.AddrPort {
	host, port, _ := strings.Cut(text, ":")
	number, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}
	}
	var bytes []byte
	for ; len(host) >= 8; host = host[8:] {
		word, err := strconv.ParseUint(host[:8], 16, 32)
		if err != nil {
			return netip.AddrPort{}
		}
		bytes = binary.NativeEndian.AppendUint32(bytes, uint32(word))
	}
	address, ok := netip.AddrFromSlice(bytes)
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(address.Unmap(), uint16(number))
}

func addrPort(address net.Addr) netip.AddrPort {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	a := tcp.AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// hasSocket says whether a process, or one that it has started, has a socket open. If one
// of them can't be looked into and no other has it, that is an error.
func hasSocket(pid int, inode string) (bool, error) {
	found, fault := opens(pid, inode) // mostly, and the whole machine's processes need not be read
	if found {
		return true, nil
	}
	tree, err := family(pid)
	if err != nil {
		return false, err
	}
	for _, child := range tree[1:] {
		found, err := opens(child, inode)
		if found {
			return true, nil
		}
		if err != nil {
			fault = err
		}
	}
	return false, fault
}

// opens says whether a process has a socket open. One that has ended has none.
func opens(pid int, inode string) (bool, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for _, entry := range entries {
		if target, err := os.Readlink(filepath.Join(dir, entry.Name())); err == nil && target == "socket:["+inode+"]" {
			return true, nil
		}
	}
	return false, nil
}

// family are a process and those that it has started, and they, that still run under them.
func family(pid int) ([]int, error) {
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil {
		return nil, fmt.Errorf("the node's process %d: %w", pid, err)
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	for _, path := range stats {
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		content, _ := os.ReadFile(path) // it may have ended
		// The name, in brackets, can have brackets and spaces in it. After it come the
		// state and the parent.
		fields := strings.Fields(string(content[strings.LastIndexByte(string(content), ')')+1:]))
		if len(fields) < 2 {
			continue
		}
		if parent, err := strconv.Atoi(fields[1]); err == nil {
			children[parent] = append(children[parent], child)
		}
	}
	tree := []int{pid}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree, nil
}
