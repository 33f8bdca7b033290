package localnet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// EditTOML sets values in a configuration file. A key is its table's name, a dot and its own name, or its name alone above the
// first table; a value is as TOML writes it. What is missing is added; everything else stays as it is.
func EditTOML(path string, values map[string]string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(editTOML(string(content), values)), 0o644)
}

func editTOML(text string, values map[string]string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	begins := map[string]int{"": 0} // where the lines of a table begin
	found := map[string]bool{}
	table := ""
	for i, line := range lines {
		trimmed := strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(trimmed, "["); ok && !strings.HasPrefix(name, "[") {
			name, _, _ = strings.Cut(name, "]")
			table = strings.TrimSpace(name)
			begins[table] = i + 1
			continue
		}
		name, _, isValue := strings.Cut(trimmed, "=")
		key := strings.TrimPrefix(table+"."+strings.TrimSpace(name), ".")
		if value, wanted := values[key]; wanted && isValue && !strings.HasPrefix(trimmed, "#") {
			lines[i] = strings.TrimSpace(name) + " = " + value
			found[key] = true
		}
	}
	var missing []string
	for key := range values {
		if !found[key] {
			missing = append(missing, key)
		}
	}
	slices.Sort(missing)
	// From the end of the file to its beginning, so that the places of the tables stay right.
	slices.SortStableFunc(missing, func(a, b string) int { return place(begins, len(lines), b) - place(begins, len(lines), a) })
	for i := 0; i < len(missing); {
		table := tableOf(missing[i])
		var added []string
		if _, exists := begins[table]; !exists {
			added = append(added, "", "["+table+"]")
		}
		at := place(begins, len(lines), missing[i])
		for ; i < len(missing) && tableOf(missing[i]) == table; i++ {
			added = append(added, missing[i][strings.LastIndexByte(missing[i], '.')+1:]+" = "+values[missing[i]])
		}
		lines = slices.Insert(lines, at, added...)
	}
	return strings.Join(lines, "\n") + "\n"
}

// place is the line before which a missing key is added.
func place(begins map[string]int, end int, key string) int {
	if at, exists := begins[tableOf(key)]; exists {
		return at
	}
	return end
}

func tableOf(key string) string {
	if dot := strings.LastIndexByte(key, '.'); dot >= 0 {
		return key[:dot]
	}
	return ""
}

// Quote writes a TOML string.
func Quote(text string) string { return fmt.Sprintf("%q", text) }

// FreePorts finds ports that nobody listens on, on all addresses of this machine. They lie below the range from which the kernel
// takes the ports of connections: a node must get its port again after a restart.
func FreePorts(n int) ([]int, error) {
	var ports []int
	for range 100 * n {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", 20000+rand.IntN(12000)))
		if err != nil {
			continue
		}
		defer l.Close() // only now, so that no port is found twice
		if ports = append(ports, l.Addr().(*net.TCPAddr).Port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, errors.New("find free ports: all that were tried, from 20000 to 31999, are taken")
}

// Listen says where a node listens, and that it keeps to itself beyond that.
type Listen struct {
	RPC, P2P string            // host:port
	Peers    []string          // id@host:port of those that it dials and keeps
	Config   map[string]string // more of config.toml
	App      map[string]string // more of app.toml
}

// Configure writes the settings of a node that talks to its peers alone: it asks nobody for more, and has no REST, gRPC or profiling
// open to disturb other nodes of this machine.
func (n *Node) Configure(l Listen) error {
	config := map[string]string{
		"rpc.laddr": Quote("tcp://" + l.RPC), "rpc.pprof_laddr": `""`, "rpc.grpc_laddr": `""`,
		"p2p.laddr": Quote("tcp://" + l.P2P), "p2p.external_address": `""`, "p2p.seeds": `""`,
		"p2p.persistent_peers": Quote(strings.Join(l.Peers, ",")), "p2p.pex": "false", "p2p.seed_mode": "false", "p2p.upnp": "false",
		"p2p.addr_book_strict": "false", "p2p.allow_duplicate_ip": "true", "p2p.persistent_peers_max_dial_period": `"1s"`,
		"statesync.enable": "false", "priv_validator_laddr": `""`, "instrumentation.prometheus": "false",
	}
	app := map[string]string{
		"api.enable": "false", "grpc.enable": "false", "grpc-web.enable": "false", "rosetta.enable": "false", "json-rpc.enable": "false",
		"halt-height": "0", "halt-time": "0",
	}
	for key, value := range l.Config {
		config[key] = value
	}
	for key, value := range l.App {
		app[key] = value
	}
	for name, values := range map[string]map[string]string{"config.toml": config, "app.toml": app} {
		if err := EditTOML(filepath.Join(n.Home, "config", name), values); err != nil {
			return fmt.Errorf("configure %s: %w", n.Name, err)
		}
	}
	return nil
}
