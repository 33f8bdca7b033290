package supervisor

import (
	"os"

	"golang.org/x/sys/unix"
)

// memoryFile makes a file without a place on a disk (memfd_create(2)).
func memoryFile(name string) (*os.File, error) {
	number, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(number), name), nil
}
