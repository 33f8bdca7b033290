package main

import (
	"cmp"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"solstice"
	"solstice/internal/shell"
	"solstice/unit"
)

// launch is how a service's command starts Cosmovisor.
type launch struct {
	word int // of the command: Cosmovisor, or the script of a shell that starts it

	script   bool
	from, to int      // in the script: where Cosmovisor stands
	args     []string // in the script: after it

	changes []change // that env makes
}

// change is what env does to one variable of the environment.
type change struct {
	name, value string // the value as the unit has it, with % and $
	word        int    // of the command that has the value; -1: it is written out in a script
	unset, all  bool
}

var (
	errNoCosmovisor = errors.New("it does not start cosmovisor")
	errSolstice     = errors.New("it starts solstice already")
)

// find finds the service, the only one that starts Cosmovisor if no name is given.
func (a *adoption) find(name string) error {
	if name != "" {
		s, err := a.units.Load(name)
		if err != nil {
			return a.refuseLoad(name, err)
		}
		a.service = s
		if strings.Contains(absolute(s.Path), "/systemd/user/") {
			return a.refuseByHand("it belongs to a user's own systemd, not to the machine's")
		}
		switch err := a.findLaunch(); {
		case errors.Is(err, errSolstice):
			return refuseAdopted(s.Name)
		case errors.Is(err, errNoCosmovisor):
			return &solstice.RefusedError{
				Reason: fmt.Sprintf("%s cannot be adopted: %v", s.Name, err),
				Hint:   "name the one that does: " + a.line("NAME"),
			}
		default:
			return err
		}
	}
	names, err := a.units.List()
	if err != nil {
		return a.refuseLoad(name, err)
	}
	var found []*adoption
	var started, unread, adopted []string
	var last error
	for _, name := range names {
		s, err := a.units.Load(name)
		switch {
		case errors.Is(err, unit.ErrMasked), errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			unread = append(unread, err.Error())
			continue
		}
		one := *a
		one.service = s
		switch err := one.findLaunch(); {
		case errors.Is(err, errSolstice):
			adopted = append(adopted, s.Name)
		case !errors.Is(err, errNoCosmovisor):
			found, started, last = append(found, &one), append(started, s.Name), err
		}
	}
	switch {
	case len(found) > 1:
		a.service = found[0].service
		return &solstice.RefusedError{
			Reason: "several services start cosmovisor: " + strings.Join(started, ", "),
			Hint:   "name one: " + a.again(),
		}
	case len(unread) > 0:
		hint := asRoot(a.again())
		if len(found) > 0 {
			a.service = found[0].service
			hint += "\nor name it: " + a.again()
		}
		return &solstice.RefusedError{
			Reason: "not every unit can be read, and one that cannot may start cosmovisor: " + strings.Join(unread, "; "),
			Hint:   hint,
		}
	case len(found) == 0 && len(adopted) > 0:
		return refuseAdopted(strings.Join(adopted, ", "))
	case len(found) == 0:
		return &solstice.RefusedError{
			Reason: "no service starts cosmovisor, in " + strings.Join(a.units.Folders, ", "),
			Hint:   "name it: " + a.line("NAME") + "\nwithout systemd: put the path of solstice where that of cosmovisor stands",
		}
	}
	*a = *found[0]
	return last
}

// refuseLoad says why a unit cannot be read, and what to do about it.
func (a *adoption) refuseLoad(name string, err error) error {
	hint := "see which there are: systemctl list-unit-files --type=service\nin other folders: --units DIR"
	prefix, _, instances := strings.Cut(strings.TrimSuffix(name, ".service"), "@")
	switch {
	case errors.Is(err, unit.ErrMasked):
		hint = "unmask it: systemctl unmask " + shell.Quote(name)
	case errors.Is(err, fs.ErrPermission):
		hint = asRoot(a.line(name))
	case errors.Is(err, fs.ErrNotExist):
	case instances:
		hint = "name one instance of it: " + a.line(prefix+"@INSTANCE")
	}
	return &solstice.RefusedError{Reason: err.Error(), Hint: hint}
}

// findLaunch finds what of the service's command is Cosmovisor.
func (a *adoption) findLaunch() error {
	s := a.service
	if len(s.Commands) != 1 {
		named := func(c unit.Command) bool { return strings.Contains(c.Line, "cosmovisor") }
		if !slices.ContainsFunc(s.Commands, named) {
			return errNoCosmovisor
		}
		return a.refuse(fmt.Sprintf("it has %s", count(len(s.Commands), "command")))
	}
	c := s.Commands[0]
	words := c.Words()
	if base := filepath.Base(words[0]); isSolstice(words[0]) {
		return errSolstice
	} else if strings.ContainsAny(c.Flags, "@|") && (strings.Contains(c.Line, "cosmovisor") || isCosmovisor(words[0])) {
		return a.refuse(fmt.Sprintf("the %s before %s has the program started by another name, or by a shell", c.Flags, base))
	}
	for i := 0; i < len(words); {
		base := filepath.Base(words[i])
		switch {
		case isCosmovisor(words[i]):
			a.launch.word = i
			return nil
		case base == "env":
			next, ok := a.launch.readEnv(words, i+1)
			if !ok {
				return a.refuseOther(words[0])
			}
			i = next
		case slices.Contains(transparent, base):
			for i++; i < len(words) && filepath.Base(words[i]) != "env" && !isCosmovisor(words[i]); i++ {
			}
		case slices.Contains(shells, base) && len(words) == i+3 && words[i+1] == "-c":
			if a.launch.readScript(words[i+2]) {
				a.launch.word = i + 2
				return nil
			}
			return a.refuseOther(words[0])
		default:
			return a.refuseOther(words[0])
		}
	}
	return a.refuseOther(words[0])
}

// transparent are programs that start another one with the same environment and as the same
// user.
var transparent = []string{"nice", "ionice", "chrt", "taskset", "numactl", "stdbuf", "nohup", "prlimit", "systemd-cat"}

// shells are programs whose -c is followed by a script.
var shells = []string{"sh", "bash", "dash", "ash", "zsh", "ksh"}

// readEnv reads the words of env up to the program. It is not ok for an option that changes
// more than the environment.
func (l *launch) readEnv(words []string, i int) (next int, ok bool) {
	for ; i < len(words); i++ {
		name, value, assigned := strings.Cut(words[i], "=")
		switch {
		case words[i] == "-", words[i] == "-i", words[i] == "--ignore-environment":
			l.changes = append(l.changes, change{all: true})
		case words[i] == "-u" && i+1 < len(words):
			i++
			l.changes = append(l.changes, change{name: words[i], unset: true})
		case name == "--unset" && assigned:
			l.changes = append(l.changes, change{name: value, unset: true})
		case strings.HasPrefix(words[i], "-"):
			return i, false
		case assigned:
			l.changes = append(l.changes, change{name: name, value: value, word: i})
		default:
			return i, true
		}
	}
	return i, true
}

// simple are the characters that a shell takes as they are, a blank between words included.
var simple = regexp.MustCompile(`^[A-Za-z0-9 ./_:,=@+-]+$`)

// assignment is a variable that a command of a shell begins with.
var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// readScript reads a script that does nothing but start Cosmovisor. It is not ok for one
// that a shell changes in any way.
func (l *launch) readScript(text string) (ok bool) {
	if !simple.MatchString(text) {
		return false
	}
	at := 0
	words := strings.Fields(text)
	for i, word := range words {
		at += strings.Index(text[at:], word)
		switch name, value, _ := strings.Cut(word, "="); {
		case i == 0 && word == "exec":
		case assignment.MatchString(word):
			l.changes = append(l.changes, change{name: name, value: value, word: -1})
		case isCosmovisor(word):
			l.script, l.from, l.to, l.args = true, at, at+len(word), words[i+1:]
			return true
		default:
			return false
		}
		at += len(word)
	}
	return false
}

// changed is the environment that Cosmovisor gets: the service's, with what env does to it.
func (l launch) changed(s *unit.Service, e *unit.Environment) (*unit.Environment, error) {
	after := e.Clone()
	for _, c := range l.changes {
		switch {
		case c.all:
			after.Clear()
		case c.unset:
			after.Unset(c.name)
		case c.word < 0:
			after.Set(c.name, c.value)
		default:
			words, err := s.ExpandWord(s.Commands[0], c.word, e)
			if err != nil {
				return nil, err
			}
			if name, value, ok := strings.Cut(strings.Join(words, " "), "="); ok {
				after.Set(name, value)
			}
		}
	}
	return after, nil
}

// words are Cosmovisor and its arguments, as it gets them.
func (l launch) words(s *unit.Service, e *unit.Environment) (words []string, err error) {
	c := s.Commands[0]
	if l.script {
		text := c.Words()[l.word]
		return append([]string{text[l.from:l.to]}, l.args...), nil
	}
	for i := l.word; i < len(c.Words()); i++ {
		more, err := s.ExpandWord(c, i, e)
		if err != nil {
			return nil, err
		}
		words = append(words, more...)
	}
	return words, nil
}

// replace is the command with solstice in the place of Cosmovisor. Where old versions of
// that were started without run, it gets run.
func (l launch) replace(c unit.Command, self string, bare bool) (string, error) {
	words := []string{self}
	if bare {
		words = append(words, "run")
	}
	if l.script {
		if !simple.MatchString(self) || strings.Contains(self, " ") {
			return "", fmt.Errorf("the path of solstice would need quotes in the script of the unit: %q", self)
		}
		text := c.Words()[l.word]
		return c.Rewrite(l.word, text[:l.from]+strings.Join(words, " ")+text[l.to:]), nil
	}
	if _, err := unit.QuoteCommand(self); err != nil {
		return "", err
	}
	return c.Replace(l.word, words...), nil
}

// before is what a reload of solstice is started through.
func (l launch) before(c unit.Command) string {
	if l.script {
		return c.Before(0)
	}
	return c.Before(l.word)
}

// lookPath finds a program by its name, as systemd does, or as env does where that starts
// it. A path stays as it is.
func lookPath(name string, s *unit.Service, e *unit.Environment, throughEnv bool) string {
	if strings.Contains(name, "/") {
		return name
	}
	path := s.ProgramPath()
	if value, ok, err := e.Get("PATH"); throughEnv && err == nil && ok {
		path = filepath.SplitList(value)
	}
	for _, dir := range path {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file
		}
	}
	return name
}

// isCosmovisor says whether a program is Cosmovisor, by its name, by what it is a symlink
// to, or by what it was built from.
func isCosmovisor(program string) bool {
	if isSolstice(program) {
		return false
	}
	return strings.HasPrefix(filepath.Base(program), "cosmovisor") || strings.HasPrefix(realBase(program), "cosmovisor") ||
		strings.Contains(builtFrom(program), "cosmovisor")
}

// isSolstice says the same of solstice, which may have the name cosmovisor.
func isSolstice(program string) bool {
	return strings.HasPrefix(filepath.Base(program), "solstice") || strings.HasPrefix(realBase(program), "solstice") ||
		strings.HasPrefix(builtFrom(program), "solstice/")
}

// realBase is the name of what a program is a symlink to.
func realBase(program string) string {
	if !filepath.IsAbs(program) {
		return ""
	}
	path, err := filepath.EvalSymlinks(program)
	if err != nil {
		return ""
	}
	return filepath.Base(path)
}

// builtFrom is the package that a Go program was built from. It is not executed: it may be
// another user's.
func builtFrom(program string) string {
	info, err := readBuildInfo(program)
	if err != nil {
		return ""
	}
	return info.Path
}

func readBuildInfo(program string) (*buildinfo.BuildInfo, error) {
	if !filepath.IsAbs(program) {
		return nil, fs.ErrInvalid
	}
	if info, err := os.Stat(program); err != nil || !info.Mode().IsRegular() {
		return nil, cmp.Or(err, fs.ErrInvalid)
	}
	return buildinfo.ReadFile(program)
}

// cosmovisorVersion is the version that a binary has inside. It is not executed: it may be
// another user's.
func cosmovisorVersion(program string) string {
	info, err := readBuildInfo(program)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "which is not there"
	case errors.Is(err, fs.ErrPermission):
		return "which this user may not read"
	case err != nil:
		return "which does not tell its version"
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == "cosmossdk.io/tools/cosmovisor" || m.Path == "github.com/cosmos/cosmos-sdk/cosmovisor" {
			return "version " + m.Version
		}
	}
	return "built from " + info.Main.Path
}

func refuseAdopted(name string) error {
	return &solstice.RefusedError{Reason: name + " starts solstice already", Hint: "look at it with: solstice status"}
}

// refuse says why a service cannot be adopted, and what it has to look like.
func (a *adoption) refuse(reason string) error {
	return &solstice.RefusedError{Reason: a.service.Name + " cannot be adopted: " + reason, Hint: a.startItself()}
}

// refuseByHand says why a service cannot be adopted, where a person has to decide.
func (a *adoption) refuseByHand(reason string) error {
	self, err := ownPath()
	if err != nil {
		return err
	}
	manager := "systemctl"
	if strings.Contains(absolute(a.service.Path), "/systemd/user/") {
		manager = "systemctl --user"
	}
	return &solstice.RefusedError{
		Reason: a.service.Name + " cannot be adopted: " + reason,
		Hint:   fmt.Sprintf("by hand: in its ExecStart write %s in the place of cosmovisor: %s edit --full %s", self, manager, a.service.Name),
	}
}

// refuseOther refuses a service that starts Cosmovisor through something that is not
// understood, or not at all.
func (a *adoption) refuseOther(program string) error {
	c := a.service.Commands[0]
	if strings.Contains(c.Line, "cosmovisor") {
		return a.refuse("it starts cosmovisor through something else: " + c.Line)
	}
	if !startsCosmovisor(program) {
		return errNoCosmovisor
	}
	self, err := ownPath()
	if err != nil {
		return err
	}
	return &solstice.RefusedError{
		Reason: fmt.Sprintf("%s cannot be adopted: it starts cosmovisor through the script %s", a.service.Name, program),
		Hint:   fmt.Sprintf("in that script write %s in the place of cosmovisor, then: systemctl restart %s", self, a.service.Name),
	}
}

// startsCosmovisor says whether a program is a script that has the word in it.
func startsCosmovisor(program string) bool {
	if info, err := os.Stat(program); err != nil || !info.Mode().IsRegular() || !filepath.IsAbs(program) {
		return false
	}
	f, err := os.Open(program)
	if err != nil {
		return false
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 64<<10))
	return err == nil && strings.HasPrefix(string(text), "#!") && strings.Contains(string(text), "cosmovisor")
}

// startItself is a hint with the drop-in by which a service starts Cosmovisor itself.
func (a *adoption) startItself() string {
	line, whole := a.ownCommand()
	file := filepath.Join(a.own, a.service.Name+".d", "00-start.conf")
	hint := "let it start cosmovisor itself, by a file " + file + " with these lines:" +
		"\n  [Service]\n  ExecStart=\n  ExecStart=" + line
	if !whole {
		hint += "\nand with User= and Environment= lines for what something else has set"
	}
	return hint + "\nthen: " + a.again()
}

// separators are what a shell ends a command by.
var separators = regexp.MustCompile(`&&|\|\||[;&|\n]`)

// ownCommand is the command by which the service would start Cosmovisor itself. It is not
// whole if something before it may matter.
func (a *adoption) ownCommand() (line string, whole bool) {
	const general = "/usr/local/bin/cosmovisor run start"
	for _, c := range a.service.Commands {
		words := c.Words()
		if strings.Contains(c.Flags, "@") && len(words) > 2 {
			return words[0] + " " + c.From(2), true // without the name that it is started by
		}
		for i, word := range words {
			if isCosmovisor(word) && i+1 < len(words) {
				return c.From(i), i == 0
			}
		}
		pieces := separators.Split(words[len(words)-1], -1)
		for _, piece := range pieces {
			fields := strings.Fields(piece)
			for i, word := range fields {
				if isCosmovisor(word) && simple.MatchString(strings.TrimSpace(piece)) {
					return strings.Join(fields[i:], " "), len(pieces) == 1
				}
			}
		}
	}
	return general, false
}
