// Package sidecar runs the processes that live with a node and are upgraded with it, such as an oracle feeder.
//
// A Group has one goroutine that starts them in their order, each when the one before it is ready, starts again what dies, with
// back-off, and stops them in reverse order. Each holds a lock of its own, which all that it starts inherit: after a Solstice that was
// killed none runs twice. When the node starts and stops, and from which folder the binaries come, is for the caller.
package sidecar

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"solstice"
	"solstice/artifact"
)

// Sidecar is one entry of the list. docs/sidecars.md is the manual of its keys.
type Sidecar struct {
	Name    string
	Command []string // the first word is a file name in the version's own bin/, or an absolute path
	Env     []string // NAME=value, beyond the environment of the node
	Start   Start
	Ready   Ready
}

// Start says when a sidecar is started.
type Start string

// Values of Start. Each kind is started in the order of the list.
const (
	Before Start = "before" // the node, which waits until it is ready
	After  Start = "after"
)

// Ready is how a sidecar is asked whether it is ready: by one of the three. The zero value asks nothing: it is ready when it runs.
type Ready struct {
	Exec   []string // a command, as Sidecar.Command, that ends with 0
	TCP    string   // an address that takes a connection
	HTTP   string   // an address that answers 200 to 299
	Within time.Duration
}

func (r Ready) asks() bool { return r.Exec != nil || r.TCP != "" || r.HTTP != "" }

const (
	defaultWithin = 30 * time.Second
	maxList       = 1 << 20 // bytes
)

// Read reads a list. Each fault names the entry and the key.
func Read(path string) ([]Sidecar, error) {
	content, err := solstice.ReadFile(path, maxList)
	if err != nil {
		return nil, err
	}
	list, faults := parse(content)
	for i, fault := range faults {
		faults[i] = fmt.Errorf("%s: %w", path, fault)
	}
	return list, errors.Join(faults...)
}

// parse reads the content of a list.
func parse(content []byte) (list []Sidecar, faults []error) {
	var read map[string]any
	if err := toml.Unmarshal(content, &read); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			row, _ := at.Position()
			err = fmt.Errorf("line %d: %w", row, err)
		}
		return nil, []error{err}
	}
	for _, key := range slices.Sorted(maps.Keys(read)) {
		if key != "sidecar" {
			faults = append(faults, fmt.Errorf("no such key: %q; each sidecar is a table [[sidecar]]", key))
		}
	}
	entries, ok := read["sidecar"].([]any)
	if !ok && read["sidecar"] != nil {
		return nil, append(faults, errors.New("sidecar must be a list of tables: write [[sidecar]]"))
	}
	if len(entries) == 0 && faults == nil {
		return nil, []error{errors.New("it lists no sidecar; each is a table [[sidecar]]")}
	}
	for i, entry := range entries {
		t := &table{label: fmt.Sprintf("sidecar %d", i+1)}
		if t.values, ok = entry.(map[string]any); !ok {
			faults = append(faults, fmt.Errorf("%s must be a table: write [[sidecar]]", t.label))
			continue
		}
		s := t.sidecar()
		if slices.ContainsFunc(list, func(other Sidecar) bool { return s.Name != "" && other.Name == s.Name }) {
			t.fault("name", "is that of another sidecar too")
		}
		list, faults = append(list, s), append(faults, t.faults...)
	}
	if faults != nil {
		return nil, faults
	}
	return list, nil
}

// table is one table of the file, and what is wrong with it.
type table struct {
	label  string
	prefix string // of its keys
	values map[string]any
	faults []error
}

func (t *table) fault(key, format string, values ...any) {
	t.faults = append(t.faults, fmt.Errorf("%s: %s%s %s", t.label, t.prefix, key, fmt.Sprintf(format, values...)))
}

// take returns a value and takes it out of the table: what is left is no key.
func (t *table) take(key string) (value any, found bool) {
	value, found = t.values[key]
	delete(t.values, key)
	return value, found
}

// rest complains about the keys that nobody took.
func (t *table) rest(known string) {
	for _, key := range slices.Sorted(maps.Keys(t.values)) {
		t.faults = append(t.faults, fmt.Errorf("%s: no such key: %q; there are %s", t.label, t.prefix+key, known))
	}
}

func (t *table) text(key string) string {
	value, found := t.take(key)
	if !found {
		return ""
	}
	text, ok := value.(string)
	switch {
	case !ok:
		t.fault(key, "must be a text in quotes, not %v", value)
	case text == "":
		t.fault(key, "is empty")
	case strings.ContainsRune(text, 0):
		t.fault(key, "has a NUL byte in it")
	default:
		return text
	}
	return ""
}

// words is a command: its first word is a file name or an absolute path.
func (t *table) words(key string) (words []string) {
	value, found := t.take(key)
	if !found {
		return nil
	}
	list, ok := value.([]any)
	if !ok || len(list) == 0 {
		t.fault(key, `must be a list of words, such as ["feeder", "--config", "/srv/feeder.toml"]`)
		return nil
	}
	for _, value := range list {
		word, ok := value.(string)
		if !ok || strings.ContainsRune(word, 0) {
			t.fault(key, "must be a list of words in quotes without a NUL byte, and has %v in it", value)
			return nil
		}
		words = append(words, word)
	}
	first := words[0]
	if !filepath.IsAbs(first) && (first == "" || first == "." || first == ".." || strings.ContainsRune(first, '/')) {
		t.fault(key, "must begin with the name of a file in each version's bin/, or with an absolute path, not with %q", first)
		return nil
	}
	return words
}

var nameOf = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

const longestName = 64

func (t *table) sidecar() (s Sidecar) {
	before := len(t.faults)
	s.Name = t.text("name")
	switch {
	case s.Name != "" && (!nameOf.MatchString(s.Name) || len(s.Name) > longestName):
		t.fault("name", "must be made of letters, digits, dots and dashes, not %q", s.Name)
		s.Name = ""
	case s.Name == "" && len(t.faults) == before:
		t.fault("name", "is missing")
	case s.Name != "":
		t.label = fmt.Sprintf("sidecar %q", s.Name)
	}
	before = len(t.faults)
	if s.Command = t.words("command"); s.Command == nil && len(t.faults) == before {
		t.fault("command", "is missing")
	}
	if value, found := t.take("start"); found {
		text, _ := value.(string)
		if s.Start = Start(text); s.Start != Before && s.Start != After {
			t.fault("start", "must be %q or %q: before the node or after it", Before, After)
		}
	} else {
		s.Start = After
	}
	s.Env = t.env()
	if value, found := t.take("ready"); found {
		s.Ready = t.ready(value)
	}
	t.rest("name, command, env, start and ready")
	return s
}

func (t *table) env() (env []string) {
	value, found := t.take("env")
	if !found {
		return nil
	}
	values, ok := value.(map[string]any)
	if !ok {
		t.fault("env", `must be a table, such as { KEY = "value" }`)
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		text, ok := values[name].(string)
		if !ok || name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(text, 0) {
			t.fault("env", "has %q in it, which is no variable with a text in quotes", name)
			continue
		}
		env = append(env, name+"="+text)
	}
	return env
}

func (t *table) ready(value any) (r Ready) {
	values, ok := value.(map[string]any)
	if !ok {
		t.fault("ready", `must be a table, such as { http = "http://127.0.0.1:8080/health", within = "30s" }`)
		return r
	}
	sub := &table{label: t.label, prefix: "ready.", values: values}
	r.Within = defaultWithin
	if text := sub.text("within"); text != "" {
		within, err := time.ParseDuration(text)
		if err != nil || within <= 0 {
			sub.fault("within", "must be a duration such as 5s or 2m, not %q", text)
		}
		r.Within = within
	}
	ways := 0
	for _, key := range []string{"exec", "tcp", "http"} {
		if _, found := values[key]; found {
			ways++
		}
	}
	r.Exec = sub.words("exec")
	if r.TCP = sub.text("tcp"); r.TCP != "" && !isAddress(r.TCP) {
		sub.fault("tcp", "must be an address such as 127.0.0.1:8080, not %q", r.TCP)
	}
	if r.HTTP = sub.text("http"); r.HTTP != "" {
		u, err := url.Parse(r.HTTP)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Port() != "" && !isPort(u.Port()) {
			sub.fault("http", "must be an address such as http://127.0.0.1:8080/health, not %q", artifact.Redact(r.HTTP))
		}
	}
	if ways != 1 && len(sub.faults) == 0 {
		t.fault("ready", "must have exactly one of exec, tcp and http")
	}
	sub.rest("exec, tcp, http and within")
	t.faults = append(t.faults, sub.faults...)
	return r
}

func isAddress(text string) bool {
	host, port, err := net.SplitHostPort(text)
	return err == nil && host != "" && isPort(port)
}

func isPort(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port > 0
}

// Binaries are the file names that the sidecars need in each version's own folder, the node's own binary left out.
func Binaries(list []Sidecar, node string) (names []string) {
	for _, s := range list {
		for _, command := range [][]string{s.Command, s.Ready.Exec} {
			if len(command) == 0 || filepath.IsAbs(command[0]) || command[0] == node || slices.Contains(names, command[0]) {
				continue
			}
			names = append(names, command[0])
		}
	}
	return names
}

// Programs are the programs outside of the versions' folders that are executed for the sidecars.
func Programs(list []Sidecar) (paths []string) {
	for _, s := range list {
		for _, command := range [][]string{s.Command, s.Ready.Exec} {
			if len(command) > 0 && filepath.IsAbs(command[0]) && !slices.Contains(paths, command[0]) {
				paths = append(paths, command[0])
			}
		}
	}
	return paths
}

// program is the file that a command executes under the version of a directory.
func program(home solstice.Home, dir string, command []string) string {
	if filepath.IsAbs(command[0]) {
		return command[0]
	}
	return home.File(dir, command[0])
}
