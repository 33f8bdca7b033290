package e2e

import (
	"os/exec"
	"syscall"
)

// endWithParent has the kernel kill the process when the thread ends that starts it.
func endWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}
