// Package localnet runs nodes of any Cosmos SDK chain on this machine, for practice: each under a real solstice run.
//
// A chain is known by what its binary says about itself, so that chains of any SDK version are spoken to in their own words. Nothing
// that an operator has set for his own node reaches a node here: neither the settings of Solstice nor those of the chain's binary.
package localnet

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"solstice"
	"solstice/artifact"
	"solstice/crash"
)

// Chain is a chain's binary. Its methods are for any goroutine.
type Chain struct {
	Path string // absolute
	Name string // as it calls itself, such as gaiad: DAEMON_NAME

	mu    sync.Mutex
	helps map[string]Help
}

// Help is what a command says about itself.
type Help struct {
	Commands []string // below it
	Flags    []string // without dashes
}

// Has says whether the command has a flag.
func (h Help) Has(flag string) bool { return slices.Contains(h.Flags, flag) }

// helpLimit is how long a binary may take to print its help. One of 100 MB takes a quarter of a second, and a hundred times that on a
// machine that is busy or reads it from a slow disk.
const helpLimit = time.Minute

// Open looks at a binary. It is refused if it can't run here, or if it is no chain's binary.
func Open(ctx context.Context, path string) (*Chain, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := artifact.Check(path); err != nil {
		return nil, &solstice.RefusedError{Reason: err.Error(), Hint: "name the chain's binary for this machine"}
	}
	if err := unix.Access(path, unix.X_OK); err != nil {
		return nil, &solstice.RefusedError{Reason: fmt.Sprintf("%s can't be executed: %v", path, err), Hint: "make it executable: chmod +x " + path}
	}
	c := &Chain{Path: path, helps: map[string]Help{}}
	text, err := c.help(ctx)
	if err != nil {
		return nil, &solstice.RefusedError{Reason: err.Error(), Hint: "try it by hand: " + path + " --help"}
	}
	if match := usageLine.FindStringSubmatch(text); match != nil {
		c.Name = filepath.Base(match[1]) // it becomes the name of files
	}
	for _, command := range []string{"init", "start", "keys", "tx"} {
		if !slices.Contains(c.helps[""].Commands, command) {
			return nil, &solstice.RefusedError{
				Reason: fmt.Sprintf("%s is no Cosmos SDK chain's binary: its help names no command %q", path, command),
				Hint:   "see what it says: " + path + " --help",
			}
		}
	}
	if c.Name == "" || c.Name == "." || c.Name == ".." || c.Name == "/" {
		c.Name = filepath.Base(path)
	}
	return c, nil
}

var (
	usageLine   = regexp.MustCompile(`(?m)^Usage:\s*\n\s+(\S+)`)
	commandLine = regexp.MustCompile(`^  (\S+)`)
	flagLine    = regexp.MustCompile(`^\s+(?:-\w, )?--([\w.-]+)`)
)

// Help returns what a command's help says, such as Help(ctx, "tx", "gov"). A command that there is not has an empty help.
func (c *Chain) Help(ctx context.Context, words ...string) (Help, error) {
	for i, word := range words {
		above, err := c.Help(ctx, words[:i]...)
		if err != nil || !slices.Contains(above.Commands, word) {
			return Help{}, err
		}
	}
	if found, ok := c.known(words); ok {
		return found, nil
	}
	_, err := c.help(ctx, words...)
	found, _ := c.known(words)
	return found, err
}

func (c *Chain) known(words []string) (Help, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, ok := c.helps[strings.Join(words, " ")]
	return h, ok
}

// Has says whether the binary has a command.
func (c *Chain) Has(ctx context.Context, words ...string) bool {
	h, err := c.Help(ctx, words[:len(words)-1]...)
	return err == nil && slices.Contains(h.Commands, words[len(words)-1])
}

// help asks for a command's help, remembers it and returns its text.
func (c *Chain) help(ctx context.Context, words ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, helpLimit, fmt.Errorf("not done after %v", helpLimit))
	defer cancel()
	out, err := c.Command(ctx, append(slices.Clone(words), "--help")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", filepath.Base(c.Path), strings.Join(append(words, "--help"), " "), failure(ctx, err, out))
	}
	h, section := Help{}, ""
	for line := range strings.Lines(string(out)) {
		switch {
		case !strings.HasPrefix(line, " ") && strings.HasSuffix(strings.TrimSpace(line), ":"):
			section = strings.TrimSpace(line)
		case strings.HasSuffix(section, "Flags:"):
			if match := flagLine.FindStringSubmatch(line); match != nil {
				h.Flags = append(h.Flags, match[1])
			}
		case strings.HasSuffix(section, "Commands:"):
			if match := commandLine.FindStringSubmatch(line); match != nil {
				h.Commands = append(h.Commands, match[1])
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.helps[strings.Join(words, " ")] = h
	return string(out), nil
}

// Command is a command of the binary. The end of ctx kills it: see failure.
func (c *Chain) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Path, args...)
	cmd.Env = clean(artifact.Environ(c.Path), c.Name)
	cmd.WaitDelay = time.Second
	return cmd
}

// Run runs a command of the binary on a home and returns what it prints on standard output, or on standard error if that is all:
// keys add of old SDKs does. An error has its last words.
func (c *Chain) Run(ctx context.Context, home string, args ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := c.Command(ctx, append(slices.Clone(args), "--home", home)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		said := stderr.Bytes()
		if len(bytes.TrimSpace(said)) == 0 {
			said = stdout.Bytes()
		}
		return nil, fmt.Errorf("%s %s: %w", filepath.Base(c.Path), firstWords(args), failure(ctx, err, said))
	}
	if len(bytes.TrimSpace(stdout.Bytes())) == 0 {
		return stderr.Bytes(), nil
	}
	return stdout.Bytes(), nil
}

// failure says why a command failed, with its last words. One that the end of ctx has killed has no more to say for itself than "signal:
// killed": then the reason is why ctx has ended.
func failure(ctx context.Context, err error, said []byte) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %s", err, lastLines(said))
}

// firstWords are the words of a command before its first flag: the rest is long.
func firstWords(args []string) string {
	end := slices.IndexFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "-") })
	if end < 0 {
		end = len(args)
	}
	return strings.Join(args[:min(end, 4)], " ")
}

// lastLines is the end of what a program has said, on one line. A usage text that follows the error is left out, and so is the trace
// that follows a panic.
func lastLines(out []byte) string {
	text := strings.TrimSpace(string(out))
	if panicked, ok := crash.PanicIn(text); ok {
		text = panicked
	}
	if before, _, found := strings.Cut(text, "\nUsage:"); found {
		text = strings.TrimSpace(before)
	}
	const most = 300
	if len(text) > most {
		text = "… " + strings.ToValidUTF8(text[len(text)-most:], "")
	}
	return strings.Join(strings.Fields(text), " ")
}

// ours are the names of settings that are meant for an operator's own node.
var ours = []string{"DAEMON_", "SOLSTICE_", "COSMOVISOR_", "UNSAFE_SKIP_BACKUP="}

// clean leaves the settings of Solstice, of Cosmovisor, and of the chain's binary, which the SDK reads under the binary's name, out
// of an environment.
func clean(environ []string, name string) []string {
	prefix := strings.NewReplacer(".", "_", "-", "_").Replace(strings.ToUpper(name)) + "_"
	return slices.DeleteFunc(environ, func(variable string) bool {
		return strings.HasPrefix(variable, prefix) && name != "" ||
			slices.ContainsFunc(ours, func(our string) bool { return strings.HasPrefix(variable, our) })
	})
}
