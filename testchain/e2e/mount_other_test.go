//go:build !linux

package e2e

import "testing"

func mountDisk(t *testing.T, _ string) (dir string, resize func(size string)) {
	t.Skip("only Linux has filesystems in memory of any size")
	return "", nil
}
