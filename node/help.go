package node

import (
	"path/filepath"
	"strconv"
	"strings"

	"solstice"
)

// Help is what a binary's own help says of the flags that may stand before its command.
type Help struct {
	Home DefaultHome `json:"home"`
	// Switches has the flags that are known, as in trace and -t: true if the flag takes no value. Hidden flags are not in it.
	Switches map[string]bool `json:"switches"`
}

// Known says whether the binary was asked and gave a node's help.
func (h Help) Known() bool { return h.Switches != nil }

// takes says whether a flag takes a value, and whether that is certain. Cobra gives one to a flag that it does not know.
func (h Help) takes(flag string) (value, certain bool) {
	if flag == "home" {
		return true, true // of every node
	}
	off, known := h.Switches[flag]
	return !off, known
}

// ParseHelp reads what a binary prints for --help. Where no flag --home stands it is not a node's, and the Help is not Known.
func ParseHelp(text string) Help {
	h := Help{Switches: map[string]bool{}}
	for line := range strings.Lines(text) {
		names, usage := flagLine(strings.TrimRight(line, "\r\n"))
		// One space leads to the type of a flag's value, more to its description (pflag's FlagUsages).
		kind := ""
		if strings.HasPrefix(usage, " ") {
			kind, _, _ = strings.Cut(usage[1:], "  ")
		}
		for _, name := range names {
			switch {
			case kind == "count" || strings.HasSuffix(kind, "count]"):
				// A counter takes none and looks as if it did. So may a value that was given this name.
			default:
				h.Switches[name] = kind == "" || strings.Contains(kind, "[=")
			}
			if name == "home" {
				h.Home.Path = quotedDefault(usage)
			}
		}
	}
	if _, ok := h.Switches["home"]; !ok {
		return Help{}
	}
	return h
}

// flagLine reads a line such as "  -o, --output string   text or json": -o and output, and what follows them.
func flagLine(line string) (names []string, usage string) {
	text := strings.TrimLeft(line, " ")
	if text == line {
		return nil, "" // flags are indented
	}
	if short, rest, found := strings.Cut(text, ", "); found && len(short) == 2 && short[0] == '-' {
		names, text = append(names, short), rest
	}
	long, isLong := strings.CutPrefix(text, "--")
	end := strings.IndexAny(long+" ", " [")
	if !isLong || end == 0 {
		return nil, ""
	}
	return append(names, long[:end]), long[end:]
}

// quotedDefault is the value in: (default "value").
func quotedDefault(usage string) string {
	_, quoted, found := strings.Cut(usage, "(default \"")
	if !found {
		return ""
	}
	prefix, err := strconv.QuotedPrefix(`"` + quoted)
	if err != nil {
		return ""
	}
	value, _ := strconv.Unquote(prefix)
	return value
}

// DefaultHome is the home that a binary uses if nothing names one. It mostly begins at a variable of the environment: $HOME/.gaia.
type DefaultHome struct {
	Variable string `json:"variable,omitempty"` // empty: it begins at none
	Path     string `json:"path"`               // below the variable's value; empty without a variable: the binary has no default
}

func (d DefaultHome) String() string {
	if d.Variable == "" {
		return d.Path
	}
	return filepath.Join("$"+d.Variable, d.Path)
}

// Below turns a home that was printed into one that begins at a variable, by the folders that the variables had then.
func (d DefaultHome) Below(folders map[string]string) DefaultHome {
	best := 0
	below := d
	for variable, folder := range folders {
		rel, err := filepath.Rel(folder, d.Path)
		if err == nil && filepath.IsLocal(rel) && len(folder) > best {
			best, below = len(folder), DefaultHome{Variable: variable, Path: rel}
		}
	}
	return below
}

// In is the home in an environment, empty if there is none. A relative path begins at dir, in which the node is started.
func (d DefaultHome) In(dir string, getenv func(string) string) string {
	switch value := getenv(d.Variable); {
	case d.Variable == "" && d.Path == "":
		return ""
	case d.Variable == "":
		return pathIn(dir, d.Path)
	case value == "":
		return ""
	default:
		return pathIn(dir, filepath.Join(value, d.Path))
	}
}

// EnvPrefix begins the names of the variables that the node of a home reads: GAIAD_ for gaiad. The SDK takes it from the binary's
// own path, in which symlinks are resolved (server.InterceptConfigsPreRunHandler, with os.Executable).
func EnvPrefix(home solstice.Home) string {
	name := home.Name
	if path, err := filepath.EvalSymlinks(home.Binary(home.DirInUse())); err == nil && !IsScript(path) {
		name = filepath.Base(path)
	}
	return strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(name)) + "_"
}

// IsScript says whether a file is a script. What it starts in the end, and with which arguments, is not known.
func IsScript(path string) bool {
	f, err := solstice.OpenFile(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var first [2]byte
	n, _ := f.Read(first[:])
	return string(first[:n]) == "#!"
}

// Where a node's home is from, besides a variable's name.
const (
	FromFlag    = "--home"
	FromDefault = "default of the binary"
)

// FindHome finds the home that the node uses: by its arguments, else its environment, else its binary's default. It is started in
// dir. An empty path means that none of them tells it.
func FindHome(home solstice.Home, line CommandLine, dir string, getenv func(string) string) (path, from string) {
	if path, found := line.Home(dir); found {
		return path, FromFlag
	}
	variable := EnvPrefix(home) + "HOME"
	if path := getenv(variable); path != "" {
		return pathIn(dir, path), variable
	}
	if IsScript(home.Binary(home.DirInUse())) {
		return "", "" // it may name another than the default of what it starts
	}
	if path := line.Help.Home.In(dir, getenv); path != "" {
		return path, FromDefault
	}
	return "", ""
}
