// Command noded is the scriptable node of package testnode as a program of its own.
package main

import (
	"os"

	"solstice/internal/testnode"
)

func main() { os.Exit(testnode.Main()) }
