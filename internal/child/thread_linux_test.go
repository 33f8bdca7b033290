package child

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

// TestStartOutlivesThread: a child lives on when the thread ends on which it was asked for, although the kernel tells it of the end of the
// thread that started it. One that is confined has a thread of its own, which stays as long as it does.
func TestStartOutlivesThread(t *testing.T) {
	for _, tt := range []struct{ name, confined string }{{"free", ""}, {"confined", t.TempDir()}} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.Command("cat")
			to, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer to.Close()
			from, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer from.Close()
			var p *Process
			thread := onThreadThatEnds(func() { p, err = start(cmd, syscall.SIGKILL, tt.confined) })
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = p.Signal(syscall.SIGKILL); <-p.Done() }()
			for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
				if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", thread)); errors.Is(err, fs.ErrNotExist) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("the thread has not ended after a minute")
				}
			}
			lines := bufio.NewReader(from)
			for range 20 { // a thread of its own that is about to end has the time to
				if _, err := to.Write([]byte("alive\n")); err != nil {
					t.Fatalf("the child was killed: %v", err)
				}
				if line, err := lines.ReadString('\n'); line != "alive\n" {
					t.Fatalf("the child says %q, %v, want that it is alive", line, err)
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
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
