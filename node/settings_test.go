package node

import (
	"os"
	"path/filepath"
	"testing"

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

	for _, tt := range []struct {
		name, config, app string
		args              []string
		env               func(string) string
		want              Settings
	}{
		{"nothing", "", "", nil, noEnv, defaults},
		{"broken", "db_dir = \"db\"\n[rpc\n", "app-db-backend", nil, noEnv, defaults},
		{"no-strings", "db_dir = 5\n", "app-db-backend = []", nil, noEnv, defaults},
		{"empty", "db_dir = \"\"\ndb_backend = \"\"\n", "app-db-backend = \"\"\n", nil, noEnv, defaults},
		{"file", config, "", nil, noEnv, file},
		{"app", config, "app-db-backend = \"goleveldb\"\n", nil, noEnv, withApp},
		{"environment", config, "app-db-backend = \"goleveldb\"\n", nil, env, withEnv},
		{"flags", config, "", []string{"start", "--rpc.laddr=", "--priv_validator_laddr", "tcp://:3", "--db_dir=flag", "--db_backend", "badgerdb"}, env, withFlags},
	} {
		t.Run(tt.name, func(t *testing.T) {
			home := home(t, tt.config)
			if tt.app != "" {
				write(t, filepath.Join(home.Node, "config", "app.toml"), []byte(tt.app))
			}
			want := tt.want
			for _, path := range []*string{&want.KeyFile, &want.StateFile, &want.DBDir, &want.WALFile} {
				if (*path)[0] == '@' {
					*path = home.Node + (*path)[1:]
				}
			}
			if got := ReadSettings(home, tt.args, tt.env); got != want {
				t.Errorf("ReadSettings =\n%+v, want\n%+v", got, want)
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
