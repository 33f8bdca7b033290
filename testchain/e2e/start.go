package e2e

import (
	"context"
	"os/exec"
	"runtime"
	"sync"
)

// starter starts the commands on one thread, which lives as long as this process.
//
// The kernel kills a command when the thread that started it ends, not when the process does (PR_SET_PDEATHSIG in prctl(2)). A goroutine
// that ends while it is locked to a thread ends that thread, which may be any: also one that has started a command for somebody else.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for do := range work {
			do()
		}
	}()
	return work
})

// start starts a command that ends with this process, in whatever way that one ends.
func start(cmd *exec.Cmd) error {
	endWithParent(cmd)
	started := make(chan error)
	starter() <- func() { started <- cmd.Start() }
	return <-started
}

// run starts a command and waits for its end. If the end of ctx has killed it, the error says why ctx ended.
func run(ctx context.Context, cmd *exec.Cmd) error {
	err := start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
