// Package shell quotes words for a POSIX shell, so that a command that is printed can be
// pasted, whatever names are in it.
package shell

import "strings"

// Quote returns a word as it has to be typed. A word of safe characters stays as it is.
func Quote(word string) string {
	if word != "" && strings.Trim(word, safe) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// safe are the characters that no shell takes for anything but themselves.
const safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%"
