// Package shell quotes words for a POSIX shell, so that a command that is printed can be
// pasted, whatever names are in it.
package shell

import "strings"

// Quote returns words as they have to be typed, with blanks between them. A word of safe
// characters stays as it is.
func Quote(words ...string) string {
	var quoted []string
	for _, word := range words {
		if word == "" || strings.Trim(word, safe) != "" {
			word = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
		quoted = append(quoted, word)
	}
	return strings.Join(quoted, " ")
}

// safe are the characters that no shell takes for anything but themselves.
const safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%"
