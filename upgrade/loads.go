package upgrade

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"solstice"
	"solstice/artifact"
	"solstice/internal/child"
)

// loaderLimit is how long the system's loader may take to list a program's libraries.
const loaderLimit = 5 * time.Second

// CheckLoads says why the binary in a directory could not be started here, or nil: it is
// not executable, or a library that it needs is missing. A plan waits for that as for a
// missing binary: a halted node is better than one that cannot start.
func CheckLoads(home solstice.Home, dir string, probes *Probes) error {
	binary := home.Binary(dir)
	if err := artifact.CheckExecutable(binary); err != nil {
		return &solstice.RefusedError{Reason: err.Error(), Hint: "make it executable for the node's user: chmod 0755 " + binary}
	}
	if probes.loads(binary) {
		return nil
	}
	missing := artifact.MissingLibraries(binary)
	if len(missing) == 0 || loaderFinds(binary) {
		probes.setLoads(binary)
		return nil
	}
	return &solstice.RefusedError{
		Reason: fmt.Sprintf("%s cannot be loaded: %s", binary, strings.Join(missing, "; ")),
		Hint:   "install what is missing, or put it into " + artifact.Libraries(binary),
	}
}

// loaderFinds asks the loader that the binary names, which has the last word, for what it
// finds. The binary itself is not started.
func loaderFinds(binary string) bool {
	interpreter := artifact.Interpreter(binary)
	if interpreter == "" {
		return false
	}
	cmd := exec.Command(interpreter, "--list", binary)
	cmd.Env = artifact.Environ(binary)
	found := true
	end, err := child.Run(context.Background(), cmd, loaderLimit, func(line string) {
		found = found && !strings.Contains(line, "not found")
	})
	return err == nil && end.ExitCode() == 0 && found
}

// loads says whether a binary was seen to have all that it needs; one that had not is
// looked at again, because what it needs may come.
func (p *Probes) loads(binary string) bool {
	one := p.of(binary)
	p.mu.Lock()
	defer p.mu.Unlock()
	return one.loads
}

func (p *Probes) setLoads(binary string) {
	one := p.of(binary)
	p.mu.Lock()
	defer p.mu.Unlock()
	one.loads = true
}
