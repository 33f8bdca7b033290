//go:build !linux

package child

import (
	"errors"
	"os"
	"syscall"
)

func setParentDeath(*syscall.SysProcAttr, syscall.Signal) {} // only Linux has it

func confineThread(string) error { return nil } // only Linux has Landlock

func limitProcess(int) {}

// CanConfine is false: only Linux has Landlock.
func CanConfine() bool { return false }

func awaitEnd(int) {} // reaping waits

func unblockSignals() (restore func()) { return func() {} } // nothing blocks them

var errLinuxOnly = errors.New("only on Linux can a program be replaced while its children run on")

// Replace fails: only Linux can do it.
func Replace(string, []string, []string, []*os.File) error {
	return errLinuxOnly
}

// Adopt fails: only Linux can do it.
func Adopt(int, *os.File) (*Process, error) { return nil, errLinuxOnly }

// ReapOrphans does nothing: containers are Linux.
func ReapOrphans(bool) {}
