package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// typed is a program for the scripts: it runs a command line of README.md or docs/ in a shell, as an operator would. Each further
// argument OLD=NEW says what an operator would type in the place of something in it, such as a path.
func typed() {
	line := os.Args[1]
	for _, change := range os.Args[2:] {
		old, new, _ := strings.Cut(change, "=")
		if !strings.Contains(line, old) {
			fmt.Fprintf(os.Stderr, "typed: %q has no %q in it\n", line, old)
			os.Exit(2)
		}
		line = strings.ReplaceAll(line, old, new)
	}
	if strings.HasPrefix(line, "solstice ") && !strings.ContainsAny(line, "|&;") {
		line = "exec " + line // so that a signal reaches it
	}
	err := syscall.Exec("/bin/sh", []string{"sh", "-c", line}, os.Environ())
	fmt.Fprintln(os.Stderr, "typed:", err)
	os.Exit(2)
}
