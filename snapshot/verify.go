package snapshot

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"solstice"
	"solstice/internal/durable"
)

// hashFile lists the hashes that the first deep look has taken, in lines like those of the list.
const hashFile = "hashes.jsonl"

// Fault is a file that is not what it was when the snapshot was taken.
type Fault struct {
	Path string `json:"path"`
	What string `json:"what"`
}

// Verified is what a look at a snapshot found.
type Verified struct {
	Files    int     `json:"files"`
	Faults   []Fault `json:"faults"`
	Compared int     `json:"compared"` // hashes that are as they were
	Recorded int     `json:"recorded"` // hashes taken for the first time: there was nothing to compare them with
}

// Verify looks whether the files are still what they were: none missing, none new, size and time of change as then. A
// linked file that somebody wrote to is found so, as both names are one file. A deep look also compares their hashes. Those
// are taken by the first deep look, or when the snapshot is copied to another disk.
func (s Snapshot) Verify(ctx context.Context, deep bool, progress Progress) (Verified, error) {
	found := Verified{Faults: []Fault{}}
	listed := map[string]bool{}
	var whole []File
	err := s.list(func(f File) error {
		found.Files++
		listed[f.Path] = true
		what, err := s.fault(f)
		switch {
		case err != nil:
			return err
		case what == "":
			whole = append(whole, f)
		case !f.Derived:
			found.Faults = append(found.Faults, Fault{f.Path, what})
		}
		return context.Cause(ctx)
	})
	if err != nil {
		return found, err
	}
	if err := s.unlisted(listed, &found); err != nil || !deep {
		return found, err
	}
	return found, s.compare(ctx, whole, &found, progress)
}

// fault says what is wrong with a file, or nothing.
func (s Snapshot) fault(f File) (what string, err error) {
	info, err := os.Lstat(s.file(f))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "it is missing", nil
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "it is no regular file any more", nil
	case info.Size() != f.Size:
		return fmt.Sprintf("it has %d bytes and had %d", info.Size(), f.Size), nil
	case info.ModTime().UnixNano() == f.MTime:
		return "", nil
	}
	// Contract code may be written once more, with the same bytes; its name is its hash.
	if name := path.Base(f.Path); f.How == Link && codeName.MatchString(name) {
		if sum, err := hashOf(context.Background(), s.file(f)); err != nil || sum == name {
			return "", err
		}
	}
	return "it was changed at " + info.ModTime().UTC().Format(time.RFC3339Nano), nil
}

// unlisted finds files that were not there when the snapshot was taken.
func (s Snapshot) unlisted(listed map[string]bool, found *Verified) error {
	for _, part := range []string{Data, Wasm, Config} {
		root := filepath.Join(s.Path, part)
		err := eachFile(root, func(p string, e fs.DirEntry) error {
			rel, err := filepath.Rel(s.Path, p)
			if err == nil && !listed[filepath.ToSlash(rel)] {
				found.Faults = append(found.Faults, Fault{filepath.ToSlash(rel), "it was not there when the snapshot was taken"})
			}
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// compare hashes the files side by side, and records what was never hashed.
func (s Snapshot) compare(ctx context.Context, files []File, found *Verified, progress Progress) error {
	known, err := s.hashes()
	if err != nil {
		return err
	}
	var done, total int64
	for _, f := range files {
		total += f.Size
	}
	var lock sync.Mutex
	var first []File // hashed for the first time
	work := make(chan File)
	errs := make([]error, runtime.GOMAXPROCS(0))
	var wait sync.WaitGroup
	for i := range errs {
		wait.Go(func() {
			for f := range work {
				sum, err := hashOf(ctx, s.file(f))
				lock.Lock()
				errs[i] = errors.Join(errs[i], err)
				want := f.SHA256
				if want == "" {
					want = known[f.Path]
				}
				switch {
				case err != nil:
				case want == "":
					f.SHA256 = sum
					first = append(first, f)
					found.Recorded++
				case want != sum:
					found.Faults = append(found.Faults, Fault{f.Path, "its content has another hash than before"})
				default:
					found.Compared++
				}
				done += f.Size
				if progress != nil {
					progress(done, total)
				}
				lock.Unlock()
			}
		})
	}
feed:
	for _, f := range files {
		select {
		case work <- f:
		case <-ctx.Done():
			break feed
		}
	}
	close(work)
	wait.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := errors.Join(errs...); err != nil || len(first) == 0 {
		return err
	}
	return s.record(known, first)
}

// hashes are those that an earlier deep look recorded, by path. They may be lost.
func (s Snapshot) hashes() (map[string]string, error) {
	known := map[string]string{}
	f, err := solstice.OpenFile(filepath.Join(s.Path, hashFile))
	if errors.Is(err, fs.ErrNotExist) {
		return known, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var file File
		if err := json.Unmarshal(lines.Bytes(), &file); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		known[file.Path] = file.SHA256
	}
	return known, lines.Err()
}

func (s Snapshot) record(known map[string]string, first []File) error {
	var content []byte
	for path, sum := range known {
		first = append(first, File{Path: path, SHA256: sum})
	}
	for _, f := range first {
		line, err := json.Marshal(struct {
			Path   string `json:"path"`
			SHA256 string `json:"sha256"`
		}{f.Path, f.SHA256})
		if err != nil {
			return err
		}
		content = append(append(content, line...), '\n')
	}
	return durable.WriteFile(filepath.Join(s.Path, hashFile), content, 0o600)
}

func hashOf(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	for err == nil {
		if _, err = io.CopyN(sum, f, copyChunk); err == nil {
			err = context.Cause(ctx)
		}
	}
	if err != io.EOF {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
