package upgrade

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"solstice"
	"solstice/internal/durable"
	"solstice/node"
	"solstice/watch"
)

// askedHelp is what a binary's own help said, as the binary was then.
type askedHelp struct {
	Stamp     watch.Stamp `json:"stamp"`
	Variables []string    `json:"variables"` // of homes that were set then: a binary's default home may be in one of them
	Help      node.Help   `json:"help"`
}

// Help is what the binary's own help says of its flags and its default home. The binary is asked once while it stays the same; a real
// one takes a tenth of a second. It is not asked again if it answered with something else than a node's help.
func (p *Probes) Help(ctx context.Context, binary string) (node.Help, error) {
	if h, known := p.KnownHelp(binary); known {
		return h, nil
	}
	asked := askedHelp{Stamp: watch.StampOf(binary), Variables: homeVariables()}
	var folders map[string]string
	output, _, err := ask(ctx, binary, p.Dir, probeLimit, func(empty string) (args, env []string) {
		folders, env = homesBelow(empty, asked.Variables)
		return []string{"--help"}, env
	})
	if err != nil {
		return node.Help{}, err
	}
	asked.Help = node.ParseHelp(output)
	asked.Help.Home = asked.Help.Home.Below(folders)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.helps == nil {
		p.helps = map[string]askedHelp{}
	}
	p.helps[binary] = asked
	return asked.Help, nil
}

// KnownHelp is Help without asking the binary: for the height, where none is started to be asked.
func (p *Probes) KnownHelp(binary string) (h node.Help, known bool) {
	stamp, variables := watch.StampOf(binary), homeVariables()
	fits := func(one askedHelp) bool { return one.Stamp == stamp && slices.Equal(one.Variables, variables) }
	p.mu.Lock()
	defer p.mu.Unlock()
	if one, ok := p.helps[binary]; ok && fits(one) {
		return one.Help, true
	}
	if one, ok := readHelps(p.HelpFile)[binary]; ok && fits(one) {
		return one.Help, true
	}
	return node.Help{}, false
}

// KeepHelp writes what binaries answered into HelpFile, for the next start. Those that are no more as they were are left out.
func (p *Probes) KeepHelp() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.HelpFile == "" || len(p.helps) == 0 {
		return nil
	}
	before := readHelps(p.HelpFile)
	all := maps.Clone(before)
	if all == nil {
		all = map[string]askedHelp{}
	}
	maps.Copy(all, p.helps)
	maps.DeleteFunc(all, func(binary string, one askedHelp) bool { return watch.StampOf(binary) != one.Stamp })
	if reflect.DeepEqual(all, before) {
		return nil
	}
	content, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return durable.WriteFile(p.HelpFile, content, 0o600)
}

// readHelps reads a HelpFile. It may be lost: then binaries are asked again.
func readHelps(path string) (helps map[string]askedHelp) {
	content, err := solstice.ReadFile(path, solstice.MaxFile)
	if err != nil || json.Unmarshal(content, &helps) != nil {
		return nil
	}
	return helps
}

// homeVariables are the environment's variables that may hold a home: HOME, NODE_HOME, XDG_CONFIG_HOME and others of that kind.
func homeVariables() (names []string) {
	for _, pair := range os.Environ() {
		if name, value, _ := strings.Cut(pair, "="); value != "" && strings.HasSuffix(name, "_HOME") && name != "DAEMON_HOME" {
			names = append(names, name)
		}
	}
	names = append(names, "HOME", "DAEMON_HOME")
	slices.Sort(names)
	return names
}

// homesBelow gives each variable a folder of its own below an empty one, so that a default home that is printed tells from which it is,
// and a program that starts in place of printing its help finds nothing to harm.
func homesBelow(empty string, variables []string) (folders map[string]string, env []string) {
	folders = map[string]string{}
	for _, name := range variables {
		folders[name] = filepath.Join(empty, name)
		if name == "HOME" {
			folders[name] = empty
		}
		env = append(env, name+"="+folders[name])
	}
	return folders, env
}
