package supervisor

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// Catch makes a channel that receives the signals which mean something. All but SIGUSR2, which asks for a reload, reach the node each time
// they reach Solstice.
func Catch() chan os.Signal {
	signals := make(chan os.Signal, 16)
	catch(signals)
	return signals
}

func catch(signals chan os.Signal) {
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	if !signal.Ignored(syscall.SIGHUP) { // else we are under nohup, which the node inherits
		signal.Notify(signals, syscall.SIGHUP)
	}
}

// endsUs says whether a signal asks for the end when it comes while no node runs.
func endsUs(sig os.Signal) bool { return sig != syscall.SIGUSR1 && sig != syscall.SIGUSR2 }

// fromTerminal says whether a signal was typed at the terminal: then the node, which is in the same process
// group, got it too. The kernel's word on who sent a signal does not reach a Go program, so a SIGINT that somebody
// sends with kill to a Solstice in a terminal's foreground is taken for a typed one.
func fromTerminal(sig os.Signal) bool {
	if sig != syscall.SIGINT && sig != syscall.SIGQUIT {
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false // no controlling terminal
	}
	defer tty.Close()
	foreground, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && foreground == unix.Getpgrp()
}

// stoppedError means that a signal asked Solstice to end while no node ran.
type stoppedError struct{ sig os.Signal }

func (e stoppedError) Error() string { return fmt.Sprintf("stopped by signal: %v", e.sig) }

// ExitCode is what a shell shows for a program that the signal ended.
func (e stoppedError) ExitCode() int {
	if sig, ok := e.sig.(syscall.Signal); ok {
		return 128 + int(sig)
	}
	return 1
}
