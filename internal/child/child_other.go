//go:build !linux

package child

import "syscall"

func setParentDeath(*syscall.SysProcAttr, syscall.Signal) {} // only Linux has it

func confineThread(string) error { return nil } // only Linux has Landlock

func limitProcess(int) {}

// CanConfine is false: only Linux has Landlock.
func CanConfine() bool { return false }

// ReapOrphans does nothing: containers are Linux.
func ReapOrphans() {}
