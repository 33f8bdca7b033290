package node

import (
	"path/filepath"
	"slices"
	"strings"
)

// CommandLine is what a node's binary is started with, read as cobra and pflag read it.
//
// Which word is the command depends on which flags take a value, and only the binary knows its flags. A flag that its help does
// not name may or may not have taken the word behind it, so more than one word may be the command: callers ask MayBe.
type CommandLine struct {
	Args []string
	Help Help // the zero Help: the binary's flags are not known
}

// endOfFlags ends the flags. What follows are words, and never the command.
const endOfFlags = "--"

func isFlag(arg string) bool { return len(arg) > 1 && arg[0] == '-' }

// isWord says whether an argument can be a command. Cobra passes over an empty one and a lone dash.
func isWord(arg string) bool { return arg != "" && arg[0] != '-' }

// longFlag splits --name or --name=value. joined says that it has its value with it.
func longFlag(arg string) (name, value string, joined bool) {
	if !strings.HasPrefix(arg, "--") {
		return "", "", false
	}
	return strings.Cut(arg[2:], "=")
}

// takesNext says whether a flag takes the next argument as its value, where cobra looks for the command, and whether that is
// certain. Cobra takes several letters behind one dash for a flag with its value.
func (c CommandLine) takesNext(arg string) (takes, certain bool) {
	switch {
	case strings.Contains(arg, "="):
		return false, true
	case strings.HasPrefix(arg, "--"):
		return c.Help.takes(arg[2:])
	case len(arg) == 2:
		return c.Help.takes(arg)
	}
	return false, true
}

// find returns the index of the command in Args, -1 without one, and the indices of words that would be the command if the flag
// before them, which nobody knows, takes no value.
func (c CommandLine) find() (command int, others []int) {
	for i := 0; i < len(c.Args) && c.Args[i] != endOfFlags; i++ {
		arg := c.Args[i]
		if isWord(arg) {
			return i, others
		}
		if !isFlag(arg) || i+1 == len(c.Args) {
			continue
		}
		takes, certain := c.takesNext(arg)
		if !certain && isWord(c.Args[i+1]) {
			others = append(others, i+1)
		}
		if takes {
			i++
		}
	}
	return -1, others
}

// Command is the command, or empty without one. certain is false if a flag that nobody knows stands before it.
func (c CommandLine) Command() (command string, certain bool) {
	i, others := c.find()
	if i >= 0 {
		command = c.Args[i]
	}
	return command, others == nil
}

// MayBe says whether one of these is the command, or would be if a flag that nobody knows takes no value.
func (c CommandLine) MayBe(commands ...string) bool {
	i, others := c.find()
	return i >= 0 && slices.Contains(commands, c.Args[i]) ||
		slices.ContainsFunc(others, func(i int) bool { return slices.Contains(commands, c.Args[i]) })
}

// resets are the commands of CometBFT that delete data or the sign state. Chains keep them below one of the engines' names.
var (
	resets = []string{
		"unsafe-reset-all", "unsafe_reset_all", "unsafe-reset-priv-validator", "unsafe_reset_priv_validator", "reset-state", "reset_state",
	}
	engines = []string{"tendermint", "comet", "cometbft"}
)

// Resets says whether the command deletes the node's data or its sign state, or may do so.
func (c CommandLine) Resets() bool {
	if c.MayBe(resets...) {
		return true
	}
	i, others := c.find()
	return slices.ContainsFunc(append(others, i), func(i int) bool {
		return i >= 0 && slices.Contains(engines, c.Args[i]) && CommandLine{Args: c.Args[i+1:], Help: c.Help}.MayBe(resets...)
	})
}

// Flag returns the value of a flag that takes one. The last one counts.
func (c CommandLine) Flag(name string) (value string, found bool) {
	for _, at := range c.given(name) {
		switch _, text, joined := longFlag(c.Args[at]); {
		case joined:
			value, found = text, true
		case at+1 < len(c.Args):
			value, found = c.Args[at+1], true // whatever it looks like
		}
	}
	return value, found
}

// Switch returns the value of a flag that needs none: "true" if it stands alone. The last one counts.
func (c CommandLine) Switch(name string) (value string, found bool) {
	for _, at := range c.given(name) {
		value, found = "true", true
		if _, text, joined := longFlag(c.Args[at]); joined {
			value = text
		}
	}
	return value, found
}

// given are the indices at which a flag stands. What looks like it and is the value of a flag before it is left out.
func (c CommandLine) given(name string) (at []int) {
	for i := 0; i < len(c.Args) && c.Args[i] != endOfFlags; i++ {
		arg := c.Args[i]
		if long, _, _ := longFlag(arg); long == name {
			at = append(at, i)
		}
		if isFlag(arg) && c.hasValueBehind(arg) {
			i++
		}
	}
	return at
}

// hasValueBehind says whether a flag is known to take the next argument, as pflag reads it: in -xyz each letter may be a flag.
func (c CommandLine) hasValueBehind(arg string) bool {
	if name, _, joined := longFlag(arg); name != "" {
		takes, certain := c.Help.takes(name)
		return takes && certain && !joined
	}
	for i := 1; i < len(arg); i++ {
		if takes, certain := c.Help.takes("-" + arg[i:i+1]); takes || !certain {
			return takes && certain && i == len(arg)-1 // what follows the letter is its value
		}
		if i+1 < len(arg) && arg[i+1] == '=' {
			return false
		}
	}
	return false
}

// Home is the node's home if the command line names it. A relative path begins at dir, in which the node is started.
func (c CommandLine) Home(dir string) (home string, found bool) {
	home, found = c.Flag("home")
	return pathIn(dir, home), found
}

func pathIn(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

// SkippedHeights are the heights after --unsafe-skip-upgrades: 10,20 or =10, and as Cosmovisor reads it also 10 20.
func (c CommandLine) SkippedHeights() (skipped []int64) {
	for _, at := range c.given("unsafe-skip-upgrades") {
		var values []string
		if _, text, joined := longFlag(c.Args[at]); joined {
			values = append(values, text)
		}
		for _, arg := range c.Args[at+1:] {
			if isFlag(arg) {
				break
			}
			values = append(values, arg)
		}
		skipped = append(skipped, heights(strings.Join(values, ","))...)
	}
	return skipped
}
