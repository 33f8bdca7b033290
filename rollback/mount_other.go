//go:build !linux

package rollback

// isMountPoint is for Linux.
func isMountPoint(string) bool { return false }
