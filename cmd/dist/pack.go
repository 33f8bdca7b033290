package main

import (
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// pack lays out what the packages hold, as packaging/nfpm.yaml lists it, and makes them.
func (r *release) pack(binary, pages, goarch string) error {
	dir, err := os.MkdirTemp("", "solstice-pack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := r.layOut(dir, binary, pages); err != nil {
		return err
	}
	for _, packager := range []string{"deb", "rpm"} {
		cmd := exec.Command(r.Nfpm, "package", "-f", "nfpm.yaml", "-p", packager, "-t", r.Out)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "ARCH="+goarch, "VERSION="+packageVersion(r.Version, r.Date), "SOURCE_DATE_EPOCH="+strconv.FormatInt(r.Date.Unix(), 10))
		if _, err := output(cmd); err != nil {
			return err
		}
	}
	return nil
}

func (r *release) layOut(dir, binary, pages string) error {
	if err := os.CopyFS(dir, os.DirFS("packaging")); err != nil {
		return err
	}
	if err := os.CopyFS(dir, os.DirFS(pages)); err != nil {
		return err
	}
	texts, err := notices(binary)
	if err != nil {
		return err
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "copyright"), []byte(texts), 0o644),
		copyFile(filepath.Join(dir, "solstice"), binary),
		copyFile(filepath.Join(dir, "solstice.cdx.json"), binary+".cdx.json"),
	); err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, ".1") {
			if err := compress(path); err != nil {
				return err
			}
			path += ".gz"
		}
		// Neither the clock nor the umask gets into a package.
		mode := fs.FileMode(0o644)
		if e.IsDir() {
			mode = 0o755
		}
		return errors.Join(os.Chmod(path, mode), os.Chtimes(path, r.Date, r.Date))
	})
}

func copyFile(to, from string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o644)
}

// compress puts path.gz in the place of path. Neither a name nor a time stands in it.
func compress(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f, err := os.Create(path + ".gz")
	if err != nil {
		return err
	}
	w, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	_, err = w.Write(content)
	return errors.Join(err, w.Close(), f.Close(), os.Remove(path))
}
