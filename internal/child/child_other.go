//go:build !linux

package child

import "syscall"

func setParentDeath(*syscall.SysProcAttr, syscall.Signal) {} // only Linux has it

// ReapOrphans does nothing: containers are Linux.
func ReapOrphans() {}
