package e2e

import "syscall"

// endWithParent has the kernel kill the process when this one dies.
func endWithParent(attr *syscall.SysProcAttr) *syscall.SysProcAttr {
	attr.Pdeathsig = syscall.SIGKILL
	return attr
}
