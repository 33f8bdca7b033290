//go:build !linux

package api

import (
	"errors"

	"golang.org/x/sys/unix"
)

func peerOf(fd int) (uid int, err error) {
	peer, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, err
	}
	return int(peer.Uid), nil
}

func listenerPID(int) (pid int, err error) { return 0, errors.ErrUnsupported }
