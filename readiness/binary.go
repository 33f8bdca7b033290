package readiness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"solstice/artifact"
	"solstice/internal/durable"
	"solstice/internal/shell"
	"solstice/upgrade"
)

var binaryChecks = []check{
	{"binary", binaryThere}, {"folder", oneFolder}, {"libraries", librariesResolve},
	{"runs", itRuns}, {"handler", namesPlan}, {"pre-upgrade", hasPreUpgrade}, {"default home", homeStays}, {"rehearsal", rehearsed},
}

func binaryThere(_ context.Context, s Subject) finding {
	path := s.Home.Binary(s.dir())
	add := "solstice add-upgrade " + shell.Quote(s.Plan.Name) + " PATH"
	switch err := artifact.Check(path); {
	case errors.Is(err, fs.ErrNotExist):
		return notReady("solstice prepare-upgrade, or "+add, "%s is not there", path)
	case err != nil:
		return notReady("replace it: "+add+" --force; or delete it, then solstice prepare-upgrade", "%v", err)
	}
	return ok("%s can run here", path)
}

// switchesItself: which binary a plan needs is the business of the one in use.
func switchesItself(_ context.Context, s Subject) finding {
	if err := artifact.Check(s.Home.Binary(s.Link)); s.Link != "" && err != nil {
		return notReady("place it: solstice init PATH, or solstice switch NAME", "the binary in use can't run: %v", err)
	}
	return ok("the node switches by itself, as SOLSTICE_SWITCH=never says")
}

// oneFolder: on two folders of one name the lower-cased one counts, and somebody may have filled the other.
func oneFolder(_ context.Context, s Subject) finding {
	wanted := s.Home.DirNames(s.Plan.Name)
	var there []string
	for _, name := range s.Home.Dirs() {
		if strings.EqualFold(name, wanted[0]) {
			there = append(there, name)
		}
	}
	if len(there) > 1 {
		return notReady("delete the one that is wrong; "+filepath.Base(s.dir())+" is what is used", "upgrades/ has two folders for the plan: %s", strings.Join(there, " and "))
	}
	return ok("upgrades/ has one folder for the plan at most")
}

// version is what a binary of the SDK prints for version --long --output json.
type version struct {
	Name    string `json:"name"`
	Server  string `json:"server_name"`
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Tags    string `json:"build_tags"`
	Go      string `json:"go"`
}

func (v version) String() string {
	text := v.Version
	if text == "" {
		text = "without a version"
	}
	if v.Commit != "" {
		text += fmt.Sprintf(", commit %.12s", v.Commit)
	}
	if v.Tags != "" {
		text += ", tags " + v.Tags
	}
	return text
}

// askLimit is how long a binary may take to tell its version: a real one takes 0.2 s.
const askLimit = 10 * time.Second

var errNoVersion = errors.New("it prints no version in JSON")

func versionOf(ctx context.Context, binary, temp string) (version, error) {
	output, end, err := upgrade.Ask(ctx, binary, temp, askLimit, "version", "--long", "--output", "json")
	if err != nil {
		return version{}, err
	}
	if end.ExitCode() != 0 {
		return version{}, fmt.Errorf("%v: %.200s", end, strings.TrimSpace(output))
	}
	return parseVersion(output)
}

// parseVersion finds the JSON among what else is printed.
func parseVersion(output string) (v version, err error) {
	start, stop := strings.Index(output, "{"), strings.LastIndex(output, "}")
	if start < 0 || stop < start || json.Unmarshal([]byte(output[start:stop+1]), &v) != nil {
		return version{}, errNoVersion
	}
	return v, nil
}

func itRuns(ctx context.Context, s Subject) finding {
	binary := s.Home.Binary(s.dir())
	if upgrade.CheckBinary(s.Home, s.dir(), s.Probes) != nil {
		return unknown("see the checks binary and verified", "it can't be tried")
	}
	binary, done, err := executable(binary, s.Temp)
	if err != nil {
		return unknown("chmod +x it, to have it tried now; it is made executable when it is started", "it has no x bit, and can't be copied to be tried: %v", err)
	}
	defer done()
	next, err := versionOf(ctx, binary, s.Temp)
	if errors.Is(err, errNoVersion) {
		return warning("see that it is the chain's own binary", "it runs, and prints no version")
	}
	if err != nil {
		return notReady("run it by hand: "+binary+" version", "it does not run: %v", err)
	}
	if s.Link == "" || upgrade.CheckBinary(s.Home, s.Link, s.Probes) != nil {
		return ok("it runs, and is %s", next)
	}
	now, err := versionOf(ctx, s.Home.Binary(s.Link), s.Temp)
	if err != nil {
		return ok("it runs, and is %s; the one in use does not tell its version", next)
	}
	return compare(now, next)
}

// executable is the binary, or where it has no x bit yet a copy that has one, with the same libraries beside it: looking changes
// nothing. Call done when it was tried.
func executable(binary, temp string) (path string, done func(), err error) {
	info, err := os.Stat(binary)
	if err != nil || info.Mode().Perm()&0o111 != 0 {
		return binary, func() {}, err
	}
	dir, err := os.MkdirTemp(temp, durable.TempPrefix+"try-")
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(dir, "bin", filepath.Base(binary))
	if err = os.Mkdir(filepath.Dir(path), 0o700); err == nil {
		err = durable.CopyFile(binary, path, 0o700)
	}
	if err == nil {
		err = os.Symlink(artifact.Libraries(binary), artifact.Libraries(path))
	}
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return path, func() { os.RemoveAll(dir) }, nil
}

// compare compares the binary in use with the next.
func compare(now, next version) finding {
	lost := slices.DeleteFunc(strings.Split(now.Tags, ","), func(tag string) bool {
		return tag == "" || slices.Contains(strings.Split(next.Tags, ","), tag)
	})
	switch {
	case now.Name != "" && next.Name != "" && now.Name != next.Name:
		return notReady("get the binary of this chain", "it is %q, and the one in use is %q", next.Name, now.Name)
	case len(lost) > 0:
		return warning("see that the node needs no "+strings.Join(lost, ", ")+"; a database that it was not built for it can't open",
			"it is %s, and was built without %s, which the one in use has", next, strings.Join(lost, ", "))
	case now.Version == next.Version && now.Commit == next.Commit:
		return warning("see that it is not the old binary once more", "it is %s, the same version as the one in use", next)
	}
	return ok("it runs: %s; in use is %s", next, now)
}

// namesPlan: the name of an upgrade whose handler is in the binary stands there as a string.
//
// That the binary halted for the plan itself says more than the name: the old release may name the plan, too.
func namesPlan(_ context.Context, s Subject) finding {
	if s.OldRelease {
		reason, hint := upgrade.OldRelease(s.dir(), s.Plan)
		return notReady(hint, "%s", reason)
	}
	file, err := os.Open(s.Home.Binary(s.dir()))
	if err != nil {
		return unknown("see the check binary", "it can't be read")
	}
	defer file.Close()
	there, err := contains(file, []byte(s.Plan.Name))
	switch {
	case err != nil:
		return unknown("see that it can be read", "%v", err)
	case !there:
		return warning("ask whether it is the right release: without a handler for the plan it stops at the height", "the name %q occurs nowhere in the binary", s.Plan.Name)
	}
	if len(s.Plan.Name) < provingName {
		return unknown("ask whether it is the right release", "the name %q is so short that it occurs in any binary", s.Plan.Name)
	}
	return ok("the name %q occurs in the binary", s.Plan.Name)
}

// provingName is how long a name is that does not occur in a large binary by chance, in
// bytes: such as v2 and v11 are in each.
const provingName = 5

// contains searches a stream, in a piece of it at a time.
func contains(from io.Reader, want []byte) (bool, error) {
	buffer := make([]byte, 1<<20+len(want))
	kept := 0
	for {
		n, err := io.ReadFull(from, buffer[kept:])
		if bytes.Contains(buffer[:kept+n], want) {
			return true, nil
		}
		switch {
		case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF):
			return false, nil
		case err != nil:
			return false, err
		}
		kept = copy(buffer, buffer[len(buffer)-len(want)+1:])
	}
}

func hasPreUpgrade(ctx context.Context, s Subject) finding {
	if upgrade.CheckBinary(s.Home, s.dir(), s.Probes) != nil {
		return unknown("see the checks binary and verified", "it can't be asked")
	}
	switch s.Probes.PreUpgrade(ctx, s.Home.Binary(s.dir())) {
	case upgrade.Present:
		return ok("it has a pre-upgrade command, which is run at the height")
	case upgrade.Absent:
		return ok("it has no pre-upgrade command")
	}
	return unknown("it is tried at the height, and an unknown command is taken for none", "it does not tell whether it has a pre-upgrade command")
}
