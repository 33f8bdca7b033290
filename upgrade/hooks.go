package upgrade

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"solstice"
	"solstice/artifact"
	"solstice/internal/child"
	"solstice/internal/durable"
	"solstice/watch"
)

// Exit codes of a pre-upgrade command, from the SDK's documentation of it.
const (
	preUpgradeAbsent = 1
	preUpgradeFailed = 30
	preUpgradeRetry  = 31
)

// script runs the operator's COSMOVISOR_CUSTOM_PREUPGRADE with the plan's name, as the chain spells it, and height.
func (u *Upgrade) script(ctx context.Context) error {
	if u.Options.Script == "" {
		return nil
	}
	path := filepath.Join(u.Home.Root(), u.Options.Script)
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("COSMOVISOR_CUSTOM_PREUPGRADE: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("COSMOVISOR_CUSTOM_PREUPGRADE: %s is not a regular file", path)
	}
	if info.Mode()&0o100 == 0 {
		if err := os.Chmod(path, info.Mode().Perm()|0o100); err != nil {
			return err
		}
	}
	cmd := exec.Command(path, u.Plan.Name, strconv.FormatInt(u.Plan.Height, 10))
	cmd.Dir = u.Home.Dir
	end, err := u.hook(ctx, cmd)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if end.ExitCode() != 0 {
		return fmt.Errorf("%s: %v; what it printed stands above", path, end)
	}
	return nil
}

// preUpgrade runs the new binary's own pre-upgrade command, if it has one.
func (u *Upgrade) preUpgrade(ctx context.Context) error {
	binary := u.Home.Binary(u.Dir)
	if err := artifact.MakeExecutable(binary); err != nil {
		return err
	}
	if err := u.checkBinary(); err != nil {
		return err
	}
	if u.Probes.PreUpgrade(ctx, binary) == Absent {
		u.Log.Info("the new binary has no pre-upgrade command", "plan", u.Plan.Name)
		return nil
	}
	for attempt := 0; ; attempt++ {
		cmd := exec.Command(binary, "pre-upgrade")
		cmd.Env = artifact.Environ(binary)
		cmd.Dir = u.Home.Root()
		end, err := u.hook(ctx, cmd)
		if err != nil {
			return fmt.Errorf("%s pre-upgrade: %w", binary, err)
		}
		switch code := end.ExitCode(); {
		case code == 0:
			return nil
		case code == preUpgradeAbsent:
			u.Log.Info("the new binary's pre-upgrade ended with 1, which means that it has none", "plan", u.Plan.Name)
			return nil
		case code == preUpgradeRetry && attempt < u.Options.MaxRetries:
			u.Log.Warn("pre-upgrade asks to be tried again", "plan", u.Plan.Name, "attempt", attempt+1, "of", u.Options.MaxRetries+1)
		case code == preUpgradeRetry:
			return fmt.Errorf("%s pre-upgrade: asked to be tried again %d times; DAEMON_PREUPGRADE_MAX_RETRIES is %d", binary, attempt+1, u.Options.MaxRetries)
		case code == preUpgradeFailed:
			return fmt.Errorf("%s pre-upgrade: failed, says its exit status 30; what it printed stands above", binary)
		default:
			return fmt.Errorf("%s pre-upgrade: %v; what it printed stands above", binary, end)
		}
	}
}

// hook runs a program of the operator or the chain under the time limit. What it prints goes to the log.
func (u *Upgrade) hook(ctx context.Context, cmd *exec.Cmd) (child.End, error) {
	u.hookRan = true
	cmd.ExtraFiles = u.Node.Locks()
	name := filepath.Base(cmd.Path)
	u.Log.Info("running "+name, "args", strings.Join(cmd.Args[1:], " "), "plan", u.Plan.Name)
	return child.Run(ctx, cmd, u.Options.HookTimeout, func(line string) {
		u.Log.Info(name+": "+line, "plan", u.Plan.Name)
	})
}

// Presence says whether a binary has a command.
type Presence int

const (
	Unknown Presence = iota
	Present
	Absent
)

// Probes finds out ahead of time whether binaries have a pre-upgrade command, so that at the height none is
// started only to say no, and what their digests are: hashing one takes a tenth of a second. It can be used from several
// goroutines.
type Probes struct {
	Dir      string // where a binary finds an empty home while it is asked; what a cut leaves there is swept
	HelpFile string // Home.HelpFile, where answers are looked for and kept; empty: in memory only

	turn   sync.Mutex // of Ahead
	mu     sync.Mutex
	probes map[probed]*probe
	helps  map[string]askedHelp // by the binary's path

	scanning sync.Mutex // of scan
	scan     scan
}

// probed is a binary as it was: every change makes it another.
type probed struct {
	path  string
	stamp watch.Stamp
}

// probe is what was found out of it.
type probe struct {
	ask      sync.Once
	presence Presence
	loads    bool // all that it needs to be started is here

	hashing sync.Mutex
	digest  string // empty: not yet
}

// of is the probe of a binary as it is now.
func (p *Probes) of(binary string) *probe {
	key := probed{binary, watch.StampOf(binary)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.probes[key] == nil {
		if p.probes == nil {
			p.probes = map[probed]*probe{}
		}
		p.probes[key] = &probe{}
	}
	return p.probes[key]
}

// Ahead finds out what the height will want to know of the binary in a directory, one binary at a time: there may be many. One that
// must not be started is not asked anything.
func (p *Probes) Ahead(ctx context.Context, home solstice.Home, dir string) {
	p.turn.Lock()
	defer p.turn.Unlock()
	if ctx.Err() == nil && CheckBinary(home, dir, p) == nil {
		p.PreUpgrade(ctx, home.Binary(dir))
		if _, err := p.Help(ctx, home.Binary(dir)); err == nil {
			_ = p.KeepHelp() // it is asked again if it is lost
		}
	}
}

// probeLimit is how long a binary may take to print its help.
const probeLimit = 20 * time.Second

// PreUpgrade says whether the binary has a pre-upgrade command, asking its help the first time. The binary sees an
// empty home while it is asked: one that takes any arguments for a start finds nothing to harm.
func (p *Probes) PreUpgrade(ctx context.Context, binary string) Presence {
	one := p.of(binary)
	one.ask.Do(func() { one.presence = askHelp(ctx, binary, p.Dir) })
	return one.presence
}

// Digest is artifact.Digest of a binary, taken once while it stays the same.
func (p *Probes) Digest(binary string) (string, error) {
	one := p.of(binary)
	one.hashing.Lock()
	defer one.hashing.Unlock()
	if one.digest != "" {
		return one.digest, nil
	}
	digest, err := artifact.Digest(binary)
	one.digest = digest
	return digest, err
}

func askHelp(ctx context.Context, binary, dir string) Presence {
	output, end, err := Ask(ctx, binary, dir, probeLimit, "pre-upgrade", "--help")
	switch {
	case err != nil:
		return Unknown
	case end.ExitCode() == 0 && strings.Contains(output, filepath.Base(binary)+" pre-upgrade"):
		return Present
	case end.ExitCode() == 1 && strings.Contains(output, "unknown command"):
		return Absent
	default:
		return Unknown
	}
}

// maxOutput is how much of what a binary prints when it is asked is kept, in bytes.
const maxOutput = 256 << 10

// Ask runs a binary with these arguments to learn something of it. It sees an empty home, made in dir and removed again, can
// change nothing else (see child.RunConfined), and is killed with all that it started when the limit is over.
func Ask(ctx context.Context, binary, dir string, limit time.Duration, args ...string) (output string, end child.End, err error) {
	return ask(ctx, binary, dir, limit, func(empty string) ([]string, []string) {
		return append(args, "--home", empty), []string{"HOME=" + empty, "DAEMON_HOME=" + empty}
	})
}

// ask runs a binary as Ask does, with the arguments and the environment that prepare makes for the empty home.
func ask(ctx context.Context, binary, dir string, limit time.Duration, prepare func(empty string) (args, env []string)) (output string, end child.End, err error) {
	empty, err := os.MkdirTemp(dir, durable.TempPrefix+"probe-")
	if err != nil {
		return "", child.End{}, err
	}
	defer os.RemoveAll(empty)
	args, env := prepare(empty)
	cmd := exec.Command(binary, args...)
	cmd.Dir = empty
	cmd.Env = slices.Concat(artifact.Environ(binary), env, []string{"TMPDIR=" + empty})
	var said strings.Builder
	end, err = child.RunConfined(ctx, cmd, empty, limit, func(line string) {
		if said.Len()+len(line) < maxOutput {
			said.WriteString(line + "\n")
		}
	})
	return said.String(), end, err
}
