// Package artifact knows what a node's binary is, whether this machine can run one, and how to get one: fetched, compared, unpacked.
//
// What it reads comes from anybody: size, time and memory are bounded, and what is not what it should be is deleted. It writes only
// into the folder that its caller names. Placing binaries is for its callers.
package artifact

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"syscall"
)

// machines names the ELF machine of each platform that Solstice runs on.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// Check says why a file can't be the node's binary on this machine, or nil. It is a regular file that nobody is writing
// to, and either a whole ELF executable for this machine or a script that begins with "#!". Missing x bits are
// not a fault: MakeExecutable adds them, as Cosmovisor does.
func Check(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if runtime.GOOS != "linux" {
		return nil // elsewhere the kernel's own answer has to do
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if beingWritten(f) {
		return fmt.Errorf("%s is still being written", path)
	}
	head := make([]byte, 4)
	n, _ := f.ReadAt(head, 0)
	switch {
	case n == 0:
		return fmt.Errorf("%s is empty", path)
	case n >= 2 && string(head[:2]) == "#!":
		return nil
	case string(head[:n]) != elf.ELFMAG:
		return fmt.Errorf("%s is neither a program for linux/%s nor a script", path, runtime.GOARCH)
	}
	return checkELF(path, f, info.Size())
}

// Digest is the SHA-256 of a file, as sha256:…
func Digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// maxTables is how much of a program is read into memory, in bytes: tables, of which each entry becomes several times as large there.
const maxTables = 1 << 20

// atMost is a file of which no more than left bytes are read, for readers that keep in memory
// whatever a file tells them to.
type atMost struct {
	io.ReaderAt
	left int64
}

func (a *atMost) ReadAt(p []byte, at int64) (int, error) {
	if int64(len(p)) > a.left {
		return 0, errors.New("what it lists is too large to be kept in memory")
	}
	a.left -= int64(len(p))
	return a.ReaderAt.ReadAt(p, at)
}

func checkELF(path string, f *os.File, size int64) error {
	program, err := elf.NewFile(&atMost{f, maxTables})
	if err != nil {
		return fmt.Errorf("%s is not a whole program: %w", path, err)
	}
	if want, known := machines[runtime.GOARCH]; known && program.Machine != want {
		return fmt.Errorf("%s is a program for %s, this machine is linux/%s", path, machineName(program.Machine), runtime.GOARCH)
	}
	for _, segment := range program.Progs {
		// Compared by subtraction: a hostile header could make the sum overflow.
		if segment.Filesz > uint64(size) || segment.Off > uint64(size)-segment.Filesz {
			return fmt.Errorf("%s is cut off: it has %d bytes and its header promises more", path, size)
		}
	}
	return nil
}

// machineName is a machine as its binaries' plans name it, or else as the ELF header does.
func machineName(machine elf.Machine) string {
	for name, m := range machines {
		if m == machine {
			return "linux/" + name
		}
	}
	return machine.String()
}

// MakeExecutable adds the x bits that a file lacks, for user, group and others.
func MakeExecutable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o111 == 0o111 {
		return nil
	}
	err = os.Chmod(path, info.Mode().Perm()|0o111)
	if err != nil && info.Mode().Perm()&0o111 != 0 && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS)) {
		return nil // not ours to change, and somebody may run it already: the start will tell
	}
	return err
}
