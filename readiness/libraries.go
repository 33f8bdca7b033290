package readiness

import (
	"context"
	"io"
	"os"
	"strings"

	"solstice/artifact"
)

// librariesResolve looks for everything that the system's loader will look for (ld.so(8)).
func librariesResolve(_ context.Context, s Subject) finding {
	binary := s.Home.Binary(s.dir())
	if err := artifact.Check(binary); err != nil {
		return unknown("see the check binary", "it can't be read")
	}
	if head := make([]byte, 2); readHead(binary, head) && string(head) == "#!" {
		return ok("it is a script")
	}
	found, missing, err := artifact.FindLibraries(binary)
	switch {
	case err != nil:
		return unknown("start it by hand", "%v", err)
	case len(missing) > 0:
		return notReady("install them, or put them into "+artifact.Libraries(binary), "%s", strings.Join(missing, "; "))
	case found == 0:
		return ok("it is static: it needs no libraries")
	}
	return ok("its %d libraries are here", found)
}

func readHead(path string, head []byte) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	_, err = io.ReadFull(file, head)
	return err == nil
}
