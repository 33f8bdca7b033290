// Command chaind is the node and the command line of the test chain.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/cosmos/cosmos-sdk/server/cmd"

	"solstice/testchain/app"
)

func main() {
	userHome, err := os.UserHomeDir()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	home := filepath.Join(userHome, "."+app.Name)
	root, err := newRootCommand(home)
	if err == nil {
		err = cmd.Execute(root, "CHAIND", home)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}
