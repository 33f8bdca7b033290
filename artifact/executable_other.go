//go:build !linux

package artifact

// CheckExecutable knows only Linux; elsewhere the start will tell.
func CheckExecutable(string) error { return nil }
