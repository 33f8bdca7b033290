package node

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"solstice"
)

func TestReadSettings(t *testing.T) {
	const config = `
priv_validator_laddr = "tcp://0.0.0.0:26659"
priv_validator_key_file = "keys/key.json"
priv_validator_state_file = "/var/state.json"
db_backend = "pebbledb"
db_dir = "db"
[rpc]
laddr = "tcp://127.0.0.1:1"
tls_cert_file = "cert"
tls_key_file = "key"
[consensus]
wal_file = "wal/wal"
create_empty_blocks = false
`
	env := func(key string) string {
		return map[string]string{
			"CHAIN_D_RPC_LADDR":            "tcp://127.0.0.1:2",
			"CHAIN_D_PRIV_VALIDATOR_LADDR": "unix://env.sock",
			"CHAIN_D_DB_DIR":               "/env/db",
			"CHAIN_D_DB_BACKEND":           "",
			"CHAIN_D_APP_DB_BACKEND":       "rocksdb",
			"CHAIN_D_CONSENSUS_WAL_FILE":   "env/wal",

			"CHAIN_D_CONSENSUS_CREATE_EMPTY_BLOCKS": "true",

			"CHAIN-D_PRIV_VALIDATOR_LADDR":   "not read",
			"chain_d_priv_validator_laddr":   "not read",
			"CHAIN_D_RPC_LADDR_AND_SO_FORTH": "not read",
		}[key]
	}
	// In what is wanted, a path beginning with @ begins at the home.
	const rpc = "tcp://127.0.0.1:26657"
	defaults := Settings{
		KeyFile: "@/config/priv_validator_key.json", StateFile: "@/data/priv_validator_state.json",
		DBDir: "@/data", DBBackend: "goleveldb", AppDBBackend: "goleveldb", WALFile: "@/data/cs.wal/wal",
	}
	file := Settings{
		RPC: "tcp://127.0.0.1:1", TLS: true, SignerAddress: "tcp://0.0.0.0:26659",
		KeyFile: "@/keys/key.json", StateFile: "/var/state.json",
		DBDir: "@/db", DBBackend: "pebbledb", AppDBBackend: "pebbledb", WALFile: "@/wal/wal",
		NoEmptyBlocks: true,
	}
	withApp, withEnv, withFlags := file, file, file
	withApp.AppDBBackend = "goleveldb"
	withEnv.RPC, withEnv.SignerAddress, withEnv.DBDir = "tcp://127.0.0.1:2", "unix://env.sock", "/env/db"
	withEnv.AppDBBackend, withEnv.WALFile, withEnv.NoEmptyBlocks = "rocksdb", "@/env/wal", false
	withFlags = withEnv
	withFlags.RPC, withFlags.SignerAddress, withFlags.DBDir, withFlags.DBBackend = "", "tcp://:3", "@/flag", "badgerdb"

	withRPC := defaults
	withRPC.RPC = rpc
	numbers, skip := withRPC, withRPC
	numbers.DBDir, numbers.HaltHeight = "@/5", "77"
	skip.Skip = []int64{10, 20}
	dashes := file
	dashes.StateSync = true

	for _, tt := range []struct {
		name, config, app, packed string
		args                      []string
		env                       func(string) string
		want                      Settings
	}{
		{name: "nothing", want: defaults},
		{name: "broken", config: "db_dir = \"db\"\n[rpc\n", app: "app-db-backend", want: defaults},
		{name: "not texts", config: "db_dir = 5\n", app: "halt-height = 77", want: numbers},
		{name: "a section for a text", config: "[db_dir]\n", app: "app-db-backend = {}", want: withRPC},
		{name: "empty", config: "db_dir = \"\"\ndb_backend = \"\"\n", app: "app-db-backend = \"\"\n", want: withRPC},
		{name: "address switched off", config: "[rpc]\nladdr = \"\"\n", want: defaults},
		{name: "file", config: config, want: file},
		{name: "keys in capitals", config: strings.NewReplacer("db_dir", "DB_Dir", "[rpc]", "[RPC]").Replace(config), want: file},
		{
			name: "as Tendermint 0.35 and Sei write it",
			config: `
db-backend = "pebbledb"
db-dir = "db"
[priv-validator]
key-file = "keys/key.json"
state-file = "/var/state.json"
laddr = "tcp://0.0.0.0:26659"
[rpc]
laddr = "tcp://127.0.0.1:1"
tls-cert-file = "cert"
tls-key-file = "key"
[consensus]
wal-file = "wal/wal"
create-empty-blocks = false
[statesync]
enable = true
`,
			want: dashes,
		},
		{
			name: "packed by Provenance, only what is not the default",
			packed: `{"consensus.create_empty_blocks": "false", "consensus.wal_file": "wal/wal", "db_backend": "pebbledb",
"db_dir": "db", "priv_validator_key_file": "keys/key.json", "priv_validator_laddr": "tcp://0.0.0.0:26659",
"priv_validator_state_file": "/var/state.json", "rpc.laddr": "tcp://127.0.0.1:1", "rpc.tls_cert_file": "cert", "rpc.tls_key_file": "key"}`,
			want: file,
		},
		{name: "packed, all of it defaults", packed: "{}", want: withRPC},
		{name: "packed, broken", packed: "{", want: defaults},
		{name: "app", config: config, app: "app-db-backend = \"goleveldb\"\n", want: withApp},
		{name: "app reads both files as one", config: "halt-height = 7\nunsafe-skip-upgrades = [10, 20]\n[halt-time]", app: "halt-height = 0", want: Settings{
			RPC: rpc, KeyFile: defaults.KeyFile, StateFile: defaults.StateFile, DBDir: defaults.DBDir, DBBackend: "goleveldb", AppDBBackend: "goleveldb",
			WALFile: defaults.WALFile, HaltHeight: "0", Skip: []int64{10, 20},
		}},
		{name: "skipped in the file", config: "moniker = 1", app: "unsafe-skip-upgrades = [10, 20]", want: skip},
		{name: "environment", config: config, app: "app-db-backend = \"goleveldb\"\n", env: env, want: withEnv},
		{
			name:   "flags",
			config: config,
			args:   []string{"start", "--rpc.laddr=", "--priv_validator_laddr", "tcp://:3", "--db_dir=flag", "--db_backend", "badgerdb"},
			env:    env,
			want:   withFlags,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			home := home(t, tt.config)
			for name, content := range map[string]string{"app.toml": tt.app, "packed-conf.json": tt.packed} {
				if content != "" {
					write(t, filepath.Join(home.Node, "config", name), []byte(content))
				}
			}
			if tt.env == nil {
				tt.env = noEnv
			}
			want := tt.want
			want.NodeKeyFile = home.Node + "/config/node_key.json"
			want.GenesisFile = home.Node + "/config/genesis.json"
			for _, path := range []*string{&want.KeyFile, &want.StateFile, &want.DBDir, &want.WALFile} {
				if (*path)[0] == '@' {
					*path = home.Node + (*path)[1:]
				}
			}
			got := ReadSettings(home, tt.args, tt.env)
			got.origins, got.missing = nil, nil
			if !reflect.DeepEqual(got, want) {
				t.Errorf("ReadSettings =\n%+v, want\n%+v", got, want)
			}
		})
	}
}

// TestOrigin: each value says where it is from, and one whose file can't be read is not known, unless something above the file says it.
func TestOrigin(t *testing.T) {
	const key = "priv_validator_key_file"
	fifo := func(t *testing.T, home solstice.Home, name string) {
		if err := unix.Mkfifo(filepath.Join(home.Node, "config", name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		config string
		make   func(t *testing.T, home solstice.Home)
		args   []string
		env    string
		where  string
		fault  string // empty: it is known
	}{
		{name: "no file", where: "default"},
		{name: "not in the file", config: "moniker = \"x\"\n", where: "default"},
		{name: "in the file", config: key + " = \"x\"\n", where: "config/config.toml"},
		{name: "with dashes", config: "[priv-validator]\nkey-file = \"x\"\n", where: "config/config.toml"},
		{name: "both ways alike", config: key + " = \"x\"\n[priv-validator]\nkey-file = \"x\"\n", where: "config/config.toml"},
		{
			name:   "both ways and not alike",
			config: key + " = \"x\"\n[priv-validator]\nkey-file = \"y\"\n",
			where:  "config/config.toml",
			fault:  "config/config.toml sets both priv_validator_key_file and priv-validator.key-file",
		},
		{name: "no text", config: "[" + key + "]\n", where: "config/config.toml", fault: "priv_validator_key_file: it is a section"},
		{name: "broken", config: "[rpc\n", where: "config/config.toml", fault: "config/config.toml: toml: "},
		{name: "a FIFO", make: func(t *testing.T, home solstice.Home) {
			write(t, filepath.Join(home.Node, "config", "x"), nil)
			fifo(t, home, "config.toml")
		}, where: "config/config.toml", fault: "not a regular file"},
		{name: "too large", config: strings.Repeat("# a line of a comment\n", solstice.MaxFile/20), where: "config/config.toml", fault: "larger than 4 MiB"},
		{name: "a folder", make: func(t *testing.T, home solstice.Home) {
			write(t, filepath.Join(home.Node, "config", "config.toml", "x"), nil)
		}, where: "config/config.toml", fault: "not a regular file"},
		{name: "packed and broken", config: key + " = \"x\"\n", make: func(t *testing.T, home solstice.Home) {
			write(t, filepath.Join(home.Node, "config", "packed-conf.json"), []byte("[]"))
		}, where: "config/packed-conf.json", fault: "packed-conf.json: json: "},
		{name: "broken, and a flag", config: "[rpc\n", args: []string{"--" + key, "x"}, where: "--" + key},
		{name: "broken, and the environment", config: "[rpc\n", env: "x", where: "CHAIN_D_PRIV_VALIDATOR_KEY_FILE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			home := home(t, tt.config)
			if tt.make != nil {
				tt.make(t, home)
			}
			s := ReadSettings(home, tt.args, func(name string) string {
				return map[string]string{"CHAIN_D_PRIV_VALIDATOR_KEY_FILE": tt.env}[name]
			})
			origin := s.Origin(key)
			fault := fmt.Sprint(origin.Err)
			if origin.Where != tt.where || (tt.fault == "") != (origin.Err == nil) || !strings.Contains(fault, tt.fault) && tt.fault != "" {
				t.Errorf("Origin = %s, %v, want %s, %s", origin.Where, origin.Err, tt.where, tt.fault)
			}
			if known := s.SignsUnknown() == nil; known && tt.fault != "" {
				t.Errorf("SignsUnknown says that it is known")
			}
		})
	}
}

// write writes a file, and the folders above it.
func write(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// FuzzReadSettings: whatever lies in the node's configuration, each path in it is a whole one.
func FuzzReadSettings(f *testing.F) {
	f.Add([]byte("db_dir = \"data\"\n[rpc]\nladdr = \"tcp://0.0.0.0:26657\"\n[statesync]\nenable = true\n"), []byte("halt-height = 7\n"))
	home := solstice.Home{Node: f.TempDir(), Name: "noded"}
	f.Fuzz(func(t *testing.T, config, app []byte) {
		write(t, filepath.Join(home.Node, "config", "config.toml"), config)
		write(t, filepath.Join(home.Node, "config", "app.toml"), app)
		s := ReadSettings(home, nil, noEnv)
		for _, path := range []string{s.KeyFile, s.StateFile, s.DBDir, s.WALFile} {
			if !filepath.IsAbs(path) {
				t.Errorf("path %q", path)
			}
		}
		if s.RPC != "" {
			newEndpoint(rpc, s.RPC, s.TLS)
		}
	})
}
