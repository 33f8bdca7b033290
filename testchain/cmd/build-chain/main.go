// Command build-chain builds the test chain's binaries and prints where they are, one path a line.
package main

import (
	"context"
	"fmt"
	"os"

	"solstice/testchain/binaries"
)

func main() {
	set, err := binaries.Build(context.Background(), os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "build-chain: error:", err)
		os.Exit(1)
	}
	fmt.Printf("%s\n%s\n%s\n", set.V1, set.V2, set.V3)
}
