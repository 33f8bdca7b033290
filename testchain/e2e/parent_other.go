//go:build !linux

package e2e

import "syscall"

func endWithParent(attr *syscall.SysProcAttr) *syscall.SysProcAttr { return attr } // only Linux has it
