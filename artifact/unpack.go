package artifact

import (
	"archive/tar"
	"archive/zip"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Bounds of what is unpacked.
const (
	maxEntries = 10_000
	maxWindow  = 64 << 20 // bytes of memory that a decompressor may look back on
	maxRatio   = 200      // how many times larger it may become, beyond freeBytes
	freeBytes  = 64 << 20
	maxList    = 4 << 20 // bytes of the list of files at the end of a zip, which is read whole
)

// unpacking lets one archive be unpacked at a time: the memory that each takes is bounded.
var unpacking sync.Mutex

// gcPercent is how much garbage is left lying while an archive is unpacked, in percent of what is in use. By default it grows as large as
// the window.
const gcPercent = 5

// errTooLarge is of an archive that becomes more than it may.
var errTooLarge = errors.New("it becomes too large: a plan's own limit is SOLSTICE_MAX_UNPACKED, and no archive may become 200 times what it is")

// unpacker writes what is in an archive below a root that it can't leave.
type unpacker struct {
	root    *os.Root
	limit   int64 // bytes to come, of all files
	entries int
	files   []string
}

// unpack writes the files of an archive into a folder, and returns their paths in it. Links, devices and paths that lead out
// are errors: a release of a node has none.
func unpack(ctx context.Context, kind, archive string, into string, limit int64) ([]string, error) {
	file, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(into)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	unpacking.Lock()
	defer unpacking.Unlock()
	defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
	from := io.NewSectionReader(stoppable{ctx, file}, 0, info.Size())
	u := &unpacker{root: root, limit: min(limit, freeBytes+maxRatio*info.Size())}
	switch {
	case kind == "zip":
		err = u.zip(from)
	case strings.HasPrefix(kind, "tar"):
		err = u.decompressed(strings.TrimPrefix(strings.TrimPrefix(kind, "tar"), "."), from, u.tar)
	default:
		err = u.decompressed(kind, from, func(r io.Reader) error { return u.write("file", r) })
	}
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	return u.files, nil
}

// stoppable is a file that gives nothing more once its context is done: an archive may keep us busy for minutes.
type stoppable struct {
	ctx  context.Context
	file io.ReaderAt
}

func (s stoppable) ReadAt(p []byte, at int64) (int, error) {
	if s.ctx.Err() != nil {
		return 0, context.Cause(s.ctx)
	}
	return s.file.ReadAt(p, at)
}

// decompressed hands on what comes out of a compressed stream.
func (u *unpacker) decompressed(kind string, from *io.SectionReader, to func(io.Reader) error) error {
	switch kind {
	case "":
		return to(from)
	case "gz":
		r, err := gzip.NewReader(from)
		if err != nil {
			return err
		}
		return to(r)
	case "bz2":
		return to(bzip2.NewReader(from))
	case "xz":
		r, err := newXZReader(from, from.Size())
		if err != nil {
			return err
		}
		return to(r)
	case "zst":
		r, err := zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return err
		}
		defer r.Close()
		err = to(r)
		if errors.Is(err, zstd.ErrWindowSizeExceeded) {
			return fmt.Errorf("it needs more than %d MiB of memory: pack it with zstd --long=26 or less", maxWindow>>20)
		}
		return err
	}
	return fmt.Errorf("%q is not unpacked", kind)
}

func (u *unpacker) tar(from io.Reader) error {
	archive := tar.NewReader(&stream{from, u.limit + freeBytes})
	for {
		header, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := u.count(); err != nil {
			return err
		}
		switch header.Typeflag {
		case tar.TypeReg, '\x00':
			if err := u.write(header.Name, archive); err != nil {
				return err
			}
		case tar.TypeDir, tar.TypeXGlobalHeader:
		default:
			return fmt.Errorf("%.100q is no regular file: links and devices are not unpacked", header.Name)
		}
	}
}

// stream is what comes out of a decompressor, of which a tar may be no more than this: its headers are no files, and one may
// follow upon the other for ever.
type stream struct {
	from io.Reader
	left int64
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.from.Read(p)
	if s.left -= int64(n); s.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

func (u *unpacker) zip(from *io.SectionReader) error {
	file := &atMost{from, maxList}
	archive, err := zip.NewReader(file, from.Size())
	if err != nil {
		return err
	}
	file.left = math.MaxInt64 // the files themselves are bounded where they are written
	for _, entry := range archive.File {
		if err := u.count(); err != nil {
			return err
		}
		switch mode := entry.Mode(); {
		case mode.IsDir():
			continue
		case !mode.IsRegular():
			return fmt.Errorf("%.100q is no regular file: links and devices are not unpacked", entry.Name)
		}
		content, err := entry.Open()
		if err == nil {
			err = errors.Join(u.write(entry.Name, content), content.Close())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) count() error {
	if u.entries++; u.entries > maxEntries {
		return fmt.Errorf("it has more than %d entries", maxEntries)
	}
	return nil
}

// write makes one file, with mode bits of its own choice.
func (u *unpacker) write(name string, from io.Reader) error {
	clean := path.Clean(strings.TrimPrefix(name, "./"))
	if name == "" || path.IsAbs(name) || strings.Contains(name, `\`) || !fs.ValidPath(clean) || clean == "." || slices.Contains(strings.Split(name, "/"), "..") {
		return fmt.Errorf("%.100q leads out of the archive", name)
	}
	if dir := path.Dir(clean); dir != "." {
		if err := u.root.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	file, err := u.root.OpenFile(clean, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(file, io.LimitReader(from, u.limit+1))
	u.limit -= n
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if u.limit < 0 {
		return errTooLarge
	}
	u.files = append(u.files, clean)
	return nil
}

var libraryName = regexp.MustCompile(`\.so(\.[0-9]+)*$`)

// choose finds the daemon's binary among files: the only file; the one of its name in bin/, at the top, or the only one of its
// name at all. What is named like a library goes with it.
func choose(files []string, name string) (binary string, libraries []string, err error) {
	for _, file := range files {
		if libraryName.MatchString(file) {
			libraries = append(libraries, file)
		}
	}
	named := slices.DeleteFunc(slices.Clone(files), func(file string) bool { return path.Base(file) != name })
	switch {
	case len(files) == 1:
		return files[0], nil, nil
	case slices.Contains(named, "bin/"+name):
		return "bin/" + name, libraries, nil
	case slices.Contains(named, name):
		return name, libraries, nil
	case len(named) == 1:
		return named[0], libraries, nil
	case len(named) > 1:
		return "", nil, fmt.Errorf("the archive has %d files called %s, and none of them at its top or in bin/", len(named), name)
	}
	return "", nil, fmt.Errorf("the archive has %d files, and none of them is called %s", len(files), name)
}
