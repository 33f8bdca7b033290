package node

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"solstice"
)

// Settings is what the node was told about itself, as far as we need it. A path that is relative there begins at the node's home.
//
// Where a file of the node's configuration can't be read, what it would say is not known: the value is the default then, and its
// Origin says so.
type Settings struct {
	RPC           string  // rpc.laddr, as it is written; empty if there is none
	TLS           bool    // RPC has a certificate
	SignerAddress string  // priv_validator_laddr, where a remote signer connects; empty if the node has the key
	KeyFile       string  // priv_validator_key_file
	StateFile     string  // priv_validator_state_file
	NodeKeyFile   string  // node_key_file, which the node's ID is of
	GenesisFile   string  // genesis_file
	DBDir         string  // db_dir, the folder of CometBFT's databases; application.db is always in Home.Data
	DBBackend     string  // db_backend
	AppDBBackend  string  // app-db-backend in app.toml, else DBBackend
	WALFile       string  // consensus.wal_file, the head of the consensus WAL
	HaltHeight    string  // halt-height in app.toml; empty or 0: none
	HaltTime      string  // halt-time in app.toml; empty or 0: none
	StateSync     bool    // statesync.enable
	NoEmptyBlocks bool    // consensus.create_empty_blocks is false: without a transaction there is no block
	Skip          []int64 // unsafe-skip-upgrades, the heights of plans that are skipped

	origins map[string]Origin // by the names above
	missing error             // why there is no configuration file; nil: there is one
}

// Origin says where a value is from.
type Origin struct {
	Where string // such as --db_dir, GAIAD_DB_DIR, config/config.toml or default
	Err   error  // why the value is not known; nil: it is
}

const fromDefault = "default"

// Origin says where the value of a key is from, such as priv_validator_key_file.
func (s Settings) Origin(key string) Origin { return s.origins[key] }

// SignsUnknown is why it is not known whether the node signs with a file of its own, or with which. Nil: it is known. It is
// fs.ErrNotExist if there is no configuration: the defaults hold then, if this is the node's home at all.
func (s Settings) SignsUnknown() error {
	for _, key := range []string{"priv_validator_laddr", "priv_validator_key_file", "priv_validator_state_file"} {
		if err := s.Origin(key).Err; err != nil {
			return err
		}
	}
	if s.Origin("priv_validator_key_file").Where == fromDefault {
		return s.missing
	}
	return nil
}

// defaultRPC is CometBFT's, for a configuration that doesn't name the address.
const defaultRPC = "tcp://127.0.0.1:26657"

// ReadSettings returns the settings of the node that runs with these arguments and environment, as the SDK's viper finds them: a
// value comes from --key, else NAME_KEY (EnvPrefix), else the file in config/, else it is CometBFT's default. A node without a
// configuration file has no address of the RPC.
//
// Keys are those of CometBFT v0.34 to v0.39 and v1.0 and, with dashes and some in other sections, of Tendermint v0.35, which Sei uses.
func ReadSettings(home solstice.Home, args []string, getenv func(string) string) Settings {
	r := reader{
		line: CommandLine{Args: args}, prefix: EnvPrefix(home), getenv: getenv, origins: map[string]Origin{},
		config: readConfig(home), app: readTOML(home, "app.toml"),
	}
	var s Settings
	path := func(otherwise string, keys ...string) string {
		return pathIn(home.Node, cmp.Or(r.value(otherwise, keys...), otherwise))
	}
	rpc, missing := "", error(nil)
	switch {
	case r.config.err != nil:
	case r.config.values != nil:
		rpc = defaultRPC
	default:
		missing = &fs.PathError{Op: "open", Path: filepath.Join(home.Node, r.config.name), Err: fs.ErrNotExist}
	}
	s.RPC = r.value(rpc, "rpc.laddr")
	s.TLS = r.value("", "rpc.tls_cert_file", "rpc.tls-cert-file") != "" && r.value("", "rpc.tls_key_file", "rpc.tls-key-file") != ""
	s.SignerAddress = r.value("", "priv_validator_laddr", "priv-validator-laddr", "priv-validator.laddr")
	s.KeyFile = path("config/priv_validator_key.json", "priv_validator_key_file", "priv-validator-key-file", "priv-validator.key-file")
	s.StateFile = path("data/priv_validator_state.json", "priv_validator_state_file", "priv-validator-state-file", "priv-validator.state-file")
	s.NodeKeyFile = path("config/node_key.json", "node_key_file", "node-key-file")
	s.GenesisFile = path("config/genesis.json", "genesis_file", "genesis-file")
	s.DBDir = path("data", "db_dir", "db-dir")
	s.DBBackend = cmp.Or(r.value(goLevelDB, "db_backend", "db-backend"), goLevelDB)
	s.WALFile = path("data/cs.wal/wal", "consensus.wal_file", "consensus.wal-file")
	s.StateSync = r.isOn("statesync.enable") == "true"
	s.NoEmptyBlocks = r.isOn("consensus.create_empty_blocks", "consensus.create-empty-blocks") == "false"

	r.config = r.app.over(r.config) // the application sees both files as one
	s.AppDBBackend = cmp.Or(r.value(s.DBBackend, "app-db-backend"), s.DBBackend)
	s.HaltHeight = r.value("", "halt-height")
	s.HaltTime = r.value("", "halt-time")
	if s.Skip = r.line.SkippedHeights(); s.Skip == nil {
		s.Skip = heights(r.value("", "unsafe-skip-upgrades"))
	}
	s.origins, s.missing = r.origins, missing
	return s
}

// reader finds values, and notes where each is from.
type reader struct {
	line    CommandLine
	prefix  string
	getenv  func(string) string
	config  file
	app     file
	origins map[string]Origin
}

// value looks for a key under all its names. The first is the one under which its origin is noted.
func (r *reader) value(otherwise string, keys ...string) string {
	value, origin := r.look(r.line.Flag, keys)
	if origin == (Origin{}) {
		value, origin = r.config.value(keys)
	}
	if origin.Where == fromDefault || origin.Err != nil {
		value = otherwise
	}
	r.origins[keys[0]] = origin
	return value
}

// isOn is value for a key that is on or off.
func (r *reader) isOn(keys ...string) string {
	value, origin := r.look(r.line.Switch, keys)
	if origin == (Origin{}) {
		value, origin = r.config.value(keys)
	}
	r.origins[keys[0]] = origin
	return value
}

// look looks for a key in the arguments and in the environment.
func (r *reader) look(flag func(string) (string, bool), keys []string) (value string, origin Origin) {
	for _, key := range keys {
		if value, ok := flag(key); ok {
			return value, Origin{Where: "--" + keys[0]}
		}
	}
	for _, key := range keys {
		variable := r.prefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
		if value := r.getenv(variable); value != "" {
			return value, Origin{Where: variable}
		}
	}
	return "", Origin{}
}

// file is a configuration file of the node, by its keys in lower case: section.key.
type file struct {
	name   string
	values map[string]any // nil: the file is missing
	err    error          // why it can't be read
}

// value is the value of a key under one of its names. Two that say different things leave it unknown.
func (f file) value(keys []string) (value string, origin Origin) {
	if f.err != nil {
		return "", Origin{Where: f.name, Err: f.err}
	}
	found := ""
	for _, key := range keys {
		raw, ok := f.values[key]
		if !ok {
			continue
		}
		text, err := scalar(raw)
		switch {
		case err != nil:
			return "", Origin{Where: f.name, Err: fmt.Errorf("%s: %s: %w", f.name, key, err)}
		case found != "" && text != value:
			return "", Origin{Where: f.name, Err: fmt.Errorf("%s sets both %s and %s", f.name, found, key)}
		}
		found, value = key, text
	}
	if found == "" {
		return "", Origin{Where: fromDefault}
	}
	return value, Origin{Where: f.name}
}

// over is this file and below it another one, as when viper merges them.
func (f file) over(below file) file {
	if f.err == nil && below.err == nil {
		merged := maps.Clone(below.values)
		if merged == nil {
			merged = map[string]any{}
		}
		maps.Copy(merged, f.values)
		return file{name: f.name, values: merged}
	}
	return file{name: f.name, err: errors.Join(f.err, below.err)}
}

// scalar is a value as text, as viper casts it. A list is its elements with commas between them.
func scalar(raw any) (string, error) {
	switch v := raw.(type) {
	case nil:
		return "", nil
	case map[string]any:
		return "", errors.New("it is a section")
	case []any:
		var texts []string
		for _, one := range v {
			text, err := scalar(one)
			if err != nil {
				return "", err
			}
			texts = append(texts, text)
		}
		return strings.Join(texts, ","), nil
	}
	return fmt.Sprint(raw), nil
}

// readConfig reads config.toml, or what stands in its place: Provenance packs all its settings into packed-conf.json, keys and values
// flat and as text, and reads nothing else where that file is.
func readConfig(home solstice.Home) file {
	const packed = "packed-conf.json"
	name := filepath.Join("config", packed)
	content, err := solstice.ReadFile(filepath.Join(home.Node, name), solstice.MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return readTOML(home, "config.toml")
	}
	values := map[string]any{}
	if err == nil {
		if err = json.Unmarshal(content, &values); err != nil {
			err = fmt.Errorf("read %s: %w", filepath.Join(home.Node, name), err)
		}
	}
	return file{name: name, values: flat(values), err: err}
}

// readTOML reads a TOML file in the node's config folder.
func readTOML(home solstice.Home, base string) file {
	name := filepath.Join("config", base)
	content, err := solstice.ReadFile(filepath.Join(home.Node, name), solstice.MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return file{name: name}
	}
	values := map[string]any{}
	if err == nil {
		if err = toml.Unmarshal(content, &values); err != nil {
			err = fmt.Errorf("read %s: %w", filepath.Join(home.Node, name), err)
		}
	}
	return file{name: name, values: flat(values), err: err}
}

// flat are the values of all sections, with their sections' names before theirs.
func flat(values map[string]any) map[string]any {
	all := map[string]any{}
	for key, value := range values {
		key = strings.ToLower(key)
		all[key] = value
		if section, ok := value.(map[string]any); ok {
			for below, value := range flat(section) {
				all[key+"."+below] = value
			}
		}
	}
	return all
}

// heights reads a list of heights. What is none is passed over, as the node says so itself.
func heights(list string) (heights []int64) {
	for text := range strings.SplitSeq(list, ",") {
		if height, err := strconv.ParseInt(strings.Trim(text, ` "[]`), 10, 64); err == nil {
			heights = append(heights, height)
		}
	}
	return heights
}
