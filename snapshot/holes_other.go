//go:build !linux

package snapshot

import "os"

// dataFrom is for Linux; here nothing is known of holes.
func dataFrom(_ *os.File, from, size int64) (data, hole int64, err error) { return from, size, nil }
