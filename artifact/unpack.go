package artifact

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Bounds of what is unpacked.
const (
	maxEntries = 10_000
	maxWindow  = 64 << 20 // bytes of memory that a decompressor may look back on
	maxRatio   = 200      // how many times larger it may become, beyond freeBytes
	freeBytes  = 64 << 20
)

// unpacker writes what is in an archive below a root that it can't leave.
type unpacker struct {
	root    *os.Root
	limit   int64 // bytes to come, of all files
	entries int
	files   []string
}

// unpack writes the files of an archive into a folder, and returns their paths in it. Links, devices and paths that lead out
// are errors: a release of a node has none.
func unpack(kind, archive string, into string, limit int64) ([]string, error) {
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
	u := &unpacker{root: root, limit: min(limit, freeBytes+maxRatio*info.Size())}
	switch {
	case kind == "zip":
		err = u.zip(file, info.Size())
	case strings.HasPrefix(kind, "tar"):
		err = u.decompressed(strings.TrimPrefix(strings.TrimPrefix(kind, "tar"), "."), file, u.tar)
	default:
		err = u.decompressed(kind, file, func(r io.Reader) error { return u.write("file", r) })
	}
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	return u.files, nil
}

// decompressed hands on what comes out of a compressed stream.
func (u *unpacker) decompressed(kind string, from io.Reader, to func(io.Reader) error) error {
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
		from, err := checkDictionary(from)
		if err != nil {
			return err
		}
		r, err := xz.ReaderConfig{DictCap: 1 << 16}.NewReader(from)
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

// checkDictionary refuses an xz stream whose first block wants more memory than maxWindow (xz-file-format 1.2.1, 3.1 and 5.3.1). The
// library takes as much as a block asks for.
func checkDictionary(from io.Reader) (io.Reader, error) {
	const streamHeader = 12
	head := make([]byte, streamHeader+1024)
	n, err := io.ReadFull(from, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	head = head[:n]
	whole := io.MultiReader(bytes.NewReader(head), from)
	if n <= streamHeader+2 || head[streamHeader] == 0 {
		return whole, nil // empty, or for the library to complain about
	}
	block := head[streamHeader:min(n, streamHeader+4*(int(head[streamHeader])+1))]
	flags, fields := block[1], block[2:]
	for _, present := range []byte{0x40, 0x80} { // two sizes that may stand there
		if flags&present != 0 {
			for len(fields) > 0 && fields[0]&0x80 != 0 {
				fields = fields[1:]
			}
			fields = fields[min(1, len(fields)):]
		}
	}
	const lzma2 = 0x21
	if flags&3 != 0 || len(fields) < 3 || fields[0] != lzma2 || fields[1] != 1 {
		return nil, errors.New("it is packed with a filter that is not read: only LZMA2 is")
	}
	bits := int64(fields[2])
	if size := (2 | bits&1) << (bits/2 + 11); bits > 40 || size > maxWindow {
		return nil, fmt.Errorf("it needs more than %d MiB of memory: pack it with xz -9 or less", maxWindow>>20)
	}
	return whole, nil
}

func (u *unpacker) tar(from io.Reader) error {
	archive := tar.NewReader(from)
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

func (u *unpacker) zip(from io.ReaderAt, size int64) error {
	archive, err := zip.NewReader(from, size)
	if err != nil {
		return err
	}
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
		return errors.New("it becomes too large: a plan's own limit is SOLSTICE_MAX_UNPACKED, and no archive may become 200 times what it is")
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
