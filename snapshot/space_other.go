//go:build !linux

package snapshot

import (
	"errors"
	"os"
)

// extentsFrom is for Linux.
func extentsFrom(*os.File, uint64) ([]extent, error) { return nil, errors.ErrUnsupported }
