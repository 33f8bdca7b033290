package artifact

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Got is a binary that was fetched, compared and unpacked, and is none of the node's yet.
type Got struct {
	Path      string   // of the binary
	Libraries []string // that came with it, to be found beside it
	Source    Source
	Checksum  Checksum // that it was compared with; zero: there was none
	Signed    bool     // by a key that is trusted
	unpacked  string   // the folder of all that was in the archive; empty: it was none
	files     []string // in it
}

// File is another file that came with the binary, if there is one of that name: found as the binary itself is.
func (g Got) File(name string) (path string, found bool) {
	if len(g.files) < 2 {
		return "", false
	}
	file, _, err := choose(g.files, name)
	return filepath.Join(g.unpacked, file), err == nil
}

// names of what lies in the folder of a fetch.
const (
	fetchedFile = "artifact"
	unpackedDir = "unpacked"
)

// Get gets the binary that a plan's info names for this machine into a folder of the caller's, which holds one fetch at a
// time: what an earlier one has left there is gone on with. What can't run here is an error.
func (f Fetcher) Get(ctx context.Context, info Info, name, folder string) (Got, error) {
	source, err := info.For(runtime.GOOS, runtime.GOARCH)
	if err != nil {
		return Got{}, err
	}
	f.log().Info("getting the binary", "url", shown(source.URL))
	fetched, unpacked := filepath.Join(folder, fetchedFile), filepath.Join(folder, unpackedDir)
	sum, err := f.Fetch(ctx, source, fetched)
	if err != nil {
		return Got{}, err
	}
	got := Got{Path: fetched, Source: source, Checksum: sum, Signed: len(f.Keys) > 0}
	if source.Kind != "" {
		if err = f.unpack(ctx, source.Kind, fetched, unpacked, name, &got); err != nil {
			err = fmt.Errorf("%s: %w", shown(source.URL), err)
		}
	}
	if err == nil {
		err = Check(got.Path)
	}
	if ctx.Err() != nil {
		return Got{}, errors.Join(context.Cause(ctx), os.RemoveAll(unpacked)) // what was fetched is good for the next time
	}
	if err != nil {
		return Got{}, errors.Join(fmt.Errorf("what was fetched is of no use, and was deleted: %w", err), os.RemoveAll(fetched), forget(fetched), os.RemoveAll(unpacked))
	}
	return got, nil
}

func (f Fetcher) unpack(ctx context.Context, kind, fetched, into, name string, got *Got) error {
	if err := errors.Join(os.RemoveAll(into), os.Mkdir(into, 0o700)); err != nil {
		return err
	}
	limit := f.MaxUnpacked
	if limit <= 0 {
		limit = MaxUnpacked
	}
	files, err := unpack(ctx, kind, fetched, into, limit)
	if err != nil {
		return err
	}
	binary, libraries, err := choose(files, name)
	if err != nil {
		return err
	}
	got.Path, got.unpacked, got.files = filepath.Join(into, binary), into, files
	for _, library := range libraries {
		got.Libraries = append(got.Libraries, filepath.Join(into, library))
	}
	return nil
}

// Libraries is the folder of a binary's own libraries: lib beside the bin that it lies in.
func Libraries(binary string) string {
	return filepath.Join(filepath.Dir(filepath.Dir(binary)), "lib")
}

// Environ is the present environment, with the binary's own libraries first if it has any.
func Environ(binary string) []string {
	own := Libraries(binary)
	if info, err := os.Stat(own); err != nil || !info.IsDir() {
		return os.Environ()
	}
	if others := os.Getenv("LD_LIBRARY_PATH"); others != "" {
		own += ":" + others
	}
	return append(os.Environ(), "LD_LIBRARY_PATH="+own)
}
