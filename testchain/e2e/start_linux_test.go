package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// TestStartOutlivesThread: a command lives on when the thread ends on which it was asked for.
func TestStartOutlivesThread(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("cat")
	to, err := cmd.StdinPipe()
	check(t, err)
	from, err := cmd.StdoutPipe()
	check(t, err)
	thread := onThreadThatEnds(func() { err = start(cmd) })
	check(t, err)
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", thread)); errors.Is(err, fs.ErrNotExist) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the thread has not ended after a minute")
		}
	}
	if _, err := to.Write([]byte("alive\n")); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(from).ReadString('\n'); line != "alive\n" {
		t.Errorf("the command says %q, %v, want that it is alive", line, err)
	}
}

// onThreadThatEnds calls do on a thread that ends after it.
func onThreadThatEnds(do func()) (thread int) {
	called := make(chan int)
	go func() {
		runtime.LockOSThread()
		if syscall.Gettid() == os.Getpid() { // the first thread never ends: another one, while this is taken
			thread := onThreadThatEnds(do)
			runtime.UnlockOSThread()
			called <- thread
			return
		}
		do()
		called <- syscall.Gettid() // the thread ends with its goroutine
	}()
	return <-called
}
