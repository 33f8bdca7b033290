// Command build-chain builds the test chain's binaries and prints where they are, one path a line. With -link it makes links to
// them in a folder, as chaind-v1, chaind-v2 and chaind-v3.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"solstice/testchain/binaries"
)

func main() {
	link := flag.String("link", "", "make links to the binaries in this `folder`")
	flag.Parse()
	set, err := binaries.Build(context.Background(), os.Stderr)
	if err == nil && *link != "" {
		set, err = linked(set, *link)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build-chain: error:", err)
		os.Exit(1)
	}
	fmt.Printf("%s\n%s\n%s\n", set.V1, set.V2, set.V3)
}

// linked makes the links. Those of earlier binaries are replaced.
func linked(set binaries.Set, folder string) (links binaries.Set, err error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return links, err
	}
	links = binaries.Set{V1: filepath.Join(folder, "chaind-v1"), V2: filepath.Join(folder, "chaind-v2"), V3: filepath.Join(folder, "chaind-v3")}
	for link, path := range map[string]string{links.V1: set.V1, links.V2: set.V2, links.V3: set.V3} {
		if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
			return links, err
		}
		if err := os.Symlink(path, link); err != nil {
			return links, err
		}
	}
	return links, nil
}
