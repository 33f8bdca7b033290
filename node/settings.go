package node

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"solstice"
)

// Settings is what the node was told about itself, as far as we need it, under the names of config.toml of CometBFT v0.34 to
// v0.39 and v1.0. A path that is relative there begins at the node's home.
type Settings struct {
	RPC           string // rpc.laddr, as it is written; empty if there is none
	TLS           bool   // RPC has a certificate
	SignerAddress string // priv_validator_laddr, where a remote signer connects; empty if the node has the key
	KeyFile       string // priv_validator_key_file
	StateFile     string // priv_validator_state_file
	DBDir         string // db_dir, the folder of CometBFT's databases; application.db is always in Home.Data
	DBBackend     string // db_backend
	AppDBBackend  string // app-db-backend in app.toml, else DBBackend
	WALFile       string // consensus.wal_file, the head of the consensus WAL
	HaltHeight    string // halt-height in app.toml; empty or 0: none
	HaltTime      string // halt-time in app.toml; empty or 0: none
	StateSync     bool   // statesync.enable
	NoEmptyBlocks bool   // consensus.create_empty_blocks is false: without a transaction there is no block
}

// ReadSettings returns the settings of the node that runs with these arguments and environment. A value comes from
// --key, else NAME_KEY (the SDK reads its environment under the binary's name), else the file in config/, else it is CometBFT's
// default; only the address of the RPC has none. A file that can't be read counts as empty: the node itself complains.
func ReadSettings(home solstice.Home, args []string, getenv func(string) string) Settings {
	var config struct {
		SignerAddress string `toml:"priv_validator_laddr"`
		KeyFile       string `toml:"priv_validator_key_file"`
		StateFile     string `toml:"priv_validator_state_file"`
		DBDir         string `toml:"db_dir"`
		DBBackend     string `toml:"db_backend"`
		RPC           struct {
			Laddr   string `toml:"laddr"`
			TLSCert string `toml:"tls_cert_file"`
			TLSKey  string `toml:"tls_key_file"`
		} `toml:"rpc"`
		Consensus struct {
			WALFile     string `toml:"wal_file"`
			EmptyBlocks any    `toml:"create_empty_blocks"`
		} `toml:"consensus"`
		StateSync struct {
			Enable any `toml:"enable"`
		} `toml:"statesync"`
	}
	var app struct {
		DBBackend  string `toml:"app-db-backend"`
		HaltHeight any    `toml:"halt-height"`
		HaltTime   any    `toml:"halt-time"`
	}
	readTOML(filepath.Join(home.Node, "config", "config.toml"), &config)
	readTOML(filepath.Join(home.Node, "config", "app.toml"), &app)

	variable := strings.NewReplacer(".", "_", "-", "_")
	value := func(key, file string) string {
		if value, ok := Flag(args, key); ok {
			return value
		}
		return cmp.Or(getenv(variable.Replace(strings.ToUpper(home.Name+"_"+key))), file)
	}
	path := func(key, file, otherwise string) string {
		path := cmp.Or(value(key, file), otherwise)
		if filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(home.Node, path)
	}
	text := func(v any) string {
		if v == nil {
			return ""
		}
		return fmt.Sprint(v)
	}
	backend := cmp.Or(value("db_backend", config.DBBackend), goLevelDB)
	return Settings{
		RPC:           value("rpc.laddr", config.RPC.Laddr),
		TLS:           value("rpc.tls_cert_file", config.RPC.TLSCert) != "" && value("rpc.tls_key_file", config.RPC.TLSKey) != "",
		SignerAddress: value("priv_validator_laddr", config.SignerAddress),
		KeyFile:       path("priv_validator_key_file", config.KeyFile, "config/priv_validator_key.json"),
		StateFile:     path("priv_validator_state_file", config.StateFile, "data/priv_validator_state.json"),
		DBDir:         path("db_dir", config.DBDir, "data"),
		DBBackend:     backend,
		AppDBBackend:  cmp.Or(value("app-db-backend", app.DBBackend), backend),
		WALFile:       path("consensus.wal_file", config.Consensus.WALFile, "data/cs.wal/wal"),
		HaltHeight:    value("halt-height", text(app.HaltHeight)),
		HaltTime:      value("halt-time", text(app.HaltTime)),
		StateSync:     value("statesync.enable", text(config.StateSync.Enable)) == "true",
		NoEmptyBlocks: value("consensus.create_empty_blocks", text(config.Consensus.EmptyBlocks)) == "false",
	}
}

// readTOML decodes a file into a struct, which stays empty when the file is missing or broken.
func readTOML[T any](path string, into *T) {
	content, err := os.ReadFile(path)
	if err == nil {
		err = toml.Unmarshal(content, into)
	}
	if err != nil {
		*into = *new(T)
	}
}

// Flag returns the value of the last --name VALUE or --name=VALUE in args.
func Flag(args []string, name string) (value string, found bool) {
	for i, arg := range args {
		if rest, ok := strings.CutPrefix(arg, "--"+name); ok {
			switch {
			case strings.HasPrefix(rest, "="):
				value, found = rest[1:], true
			case rest == "" && i+1 < len(args):
				value, found = args[i+1], true
			}
		}
	}
	return value, found
}
