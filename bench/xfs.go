package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// withXFS calls fn with a folder on an XFS that clones, made for it in a file. Where there can't be one it says why, and
// that is no error.
func withXFS(ctx context.Context, dir string, fn func(folder string) error) (missing string, err error) {
	if os.Geteuid() != 0 {
		return "only root can mount one", nil
	}
	if _, err := exec.LookPath("mkfs.xfs"); err != nil {
		return "mkfs.xfs is not installed", nil
	}
	image, mount := filepath.Join(dir, "xfs.image"), filepath.Join(dir, "xfs")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 2<<30), os.Mkdir(mount, 0o755)); err != nil {
		return "", err
	}
	defer os.Remove(image)
	if output, err := exec.CommandContext(ctx, "mkfs.xfs", "-q", "-m", "reflink=1", image).CombinedOutput(); err != nil {
		return fmt.Sprintf("mkfs.xfs: %v: %s", err, output), ctx.Err()
	}
	if output, err := exec.CommandContext(ctx, "mount", "-o", "loop", image, mount).CombinedOutput(); err != nil {
		return fmt.Sprintf("mount: %v: %s", err, output), ctx.Err()
	}
	err = fn(mount)
	return "", errors.Join(err, unix.Unmount(mount, unix.MNT_DETACH))
}
