package node

import (
	"bytes"
	"encoding/json"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestFindOwner: the key and the genesis are where the node itself looks for them.
func TestFindOwner(t *testing.T) {
	env := func(key string) string { return map[string]string{"CHAIN_D_NODE_KEY_FILE": "env.json"}[key] }
	for _, tt := range []struct {
		name, config string
		args         []string
		env          func(string) string
		key, genesis string
	}{
		{"defaults", "", nil, noEnv, "@/config/node_key.json", "@/config/genesis.json"},
		{"file", "node_key_file = \"k\"\ngenesis_file = \"/g\"\n", nil, noEnv, "@/k", "/g"},
		{"dashed", "node-key-file = \"/k\"\ngenesis-file = \"g\"\n", nil, noEnv, "/k", "@/g"},
		{"broken", "node_key_file = \n", nil, noEnv, "@/config/node_key.json", "@/config/genesis.json"},
		{"environment", "node_key_file = \"k\"\n", nil, env, "@/env.json", "@/config/genesis.json"},
		{"flag", "node_key_file = \"k\"\n", []string{"start", "--node_key_file", "/f"}, env, "/f", "@/config/genesis.json"},
		{"dashed-flag", "node_key_file = \"k\"\n", []string{"start", "--node-key-file=f"}, env, "@/f", "@/config/genesis.json"},
	} {
		home := home(t, tt.config)
		got := newOwner(ReadSettings(home, tt.args, tt.env))
		key, genesis := strings.ReplaceAll(tt.key, "@", home.Node), strings.ReplaceAll(tt.genesis, "@", home.Node)
		if got.keyFile != key || got.genesisFile != genesis {
			t.Errorf("%s: %s and %s, want %s and %s", tt.name, got.keyFile, got.genesisFile, key, genesis)
		}
	}
}

// FuzzNodeKey: whatever lies in a key file, it gives an ID or an error, and the error
// gives nothing of the key away.
func FuzzNodeKey(f *testing.F) {
	f.Add([]byte(testKey))
	f.Add([]byte(`{"id":"x","priv_key":{"type":"tendermint/PrivKeySecp256k1","value":"AQID"}}`))
	f.Add([]byte(`{"priv_key":{"type":"tendermint/PrivKeyEd25519","value":"AQID"}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		id, err := parseNodeKey(content)
		if err == nil && !regexp.MustCompile("^[0-9a-f]{40}$").MatchString(id) {
			t.Errorf("ID %q", id)
		}
		var file struct {
			Key struct {
				Value string `json:"value"`
			} `json:"priv_key"`
		}
		if json.Unmarshal(content, &file); err != nil && len(file.Key.Value) >= 40 && strings.Contains(err.Error(), file.Key.Value) {
			t.Errorf("error %v", err)
		}
	})
}

// TestNodeKey: a key that is none has no ID.
func TestNodeKey(t *testing.T) {
	for _, tt := range []struct{ name, content, want string }{
		{"ours", testKey, ""},
		{"with-an-id-of-its-own", strings.Replace(testKey, "{", `{"id":"x",`, 1), ""}, // Tendermint v0.35
		{"empty", "", "not a node key"},
		{"no-json", "key", "not a node key"},
		{"no-key", "{}", "not a node key"},
		{"another-type", `{"priv_key":{"type":"tendermint/PrivKeySecp256k1","value":"AQID"}}`, `type "tendermint/PrivKeySecp256k1" is not known`},
		{"cut-off", strings.Replace(testKey, "tVYuj+ZU", "", 1), "not a whole key"},
		{"no-base64", strings.Replace(testKey, "AQID", "****", 1), "not a whole key"},
		{"nothing-in-it", strings.Replace(testKey, "HyB5tVYuj+ZU+UB4sRLoqYunkB+FOuaVvtfg45ELrQSWZA==", "HyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==", 1), "not a whole key"},
	} {
		path := filepath.Join(t.TempDir(), "node_key.json")
		write(t, path, []byte(tt.content))
		id, err := ReadNodeID(path)
		if tt.want == "" && (err != nil || id != testID) {
			t.Errorf("%s: %q, %v", tt.name, id, err)
		}
		if tt.want != "" && (err == nil || id != "" || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path)) {
			t.Errorf("%s: %q, %v, want %q", tt.name, id, err, tt.want)
		}
	}
}

// TestChainID: it is found among the outer fields, without reading what comes after it.
func TestChainID(t *testing.T) {
	large := strings.Repeat(`"balance",`, maxGenesis/8)
	for _, tt := range []struct{ name, genesis, want string }{
		{"sdk", `{"app_name":"chaind","genesis_time":"2026-11-29T00:30:00Z","chain_id":"test-1","initial_height":1,"app_hash":null,"app_state":{}}`, "test-1"},
		{"before-a-large-state", `{"chain_id":"test-1","app_state":{"balances":[` + large + `""]}}`, "test-1"},
		{"cut-off-after-it", `{"chain_id":"test-1","app_st`, "test-1"},
		{"after-nested-ones", `{"a":{"chain_id":"x"},"b":[{"chain_id":"y"},[]],"c":"chain_id","chain_id":"test-1"}`, "test-1"},
		{"behind-a-large-state", `{"app_state":{"balances":[` + large + `""]},"chain_id":"test-1"}`, ""},
		{"only-nested", `{"a":{"chain_id":"x"}}`, ""},
		{"only-a-value", `{"a":"chain_id","b":"x"}`, ""},
		{"array", `["chain_id","x"]`, ""},
		{"array-of-objects", `[{"chain_id":"x"}]`, ""},
		{"two-documents", `{}{"chain_id":"x"}`, ""},
		{"number", `{"chain_id":7}`, ""},
		{"empty", `{"chain_id":""}`, ""},
		{"nothing", ``, ""},
		{"no-json", `<html>`, ""},
	} {
		path := filepath.Join(t.TempDir(), "genesis.json")
		write(t, path, []byte(tt.genesis))
		if id, err := ReadChainID(path); id != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: %q, %v, want %q", tt.name, id, err, tt.want)
		}
	}
}

// FuzzChainID: a chain ID that is found is the one that a whole genesis has.
func FuzzChainID(f *testing.F) {
	f.Add([]byte(`{"app_name":"x","a":[{"chain_id":"y"}],"chain_id":"test-1","app_state":{}}`))
	f.Add([]byte(`{"a":{"b":[]},"chain_id":"test-1"`))
	f.Fuzz(func(t *testing.T, content []byte) {
		id, err := parseChainID(bytes.NewReader(content))
		if err == nil && id == "" {
			t.Error("an empty chain ID")
		}
		var whole map[string]any
		if err != nil && json.Unmarshal(content, &whole) == nil {
			if want, ok := whole["chain_id"].(string); ok && want != "" && bytes.Count(content, []byte("chain_id")) == 1 {
				t.Errorf("found none, and it is %q", want)
			}
		}
		if err == nil && json.Unmarshal(content, &whole) == nil && len(whole) > 0 {
			if _, ok := whole["chain_id"]; !ok {
				t.Errorf("found %q, and there is none", id)
			}
		}
	})
}

// FuzzStatus: whatever a node says of itself, it ties nothing but its own ID, and can do
// nothing to a terminal.
func FuzzStatus(f *testing.F) {
	f.Add([]byte(`{"result":{"node_info":{"id":"`+testID+`","network":"test-1"}}}`), []byte("\n\x08\x12\x01a\x22\x01b"))
	f.Add([]byte(`{"node_info":{"id":"\u001b[2J","network":"\u202e"}}`), []byte{0xff})
	home := f.TempDir()
	key := filepath.Join(home, "node_key.json")
	write(f, key, []byte(testKey))
	o := &owner{keyFile: key, genesisFile: filepath.Join(home, "genesis.json")}
	f.Fuzz(func(t *testing.T, status, info []byte) {
		r := reply{status: http.StatusOK, content: status}
		var answer statusAnswer
		if r.result(&answer) != nil || answer.Node == nil {
			return
		}
		for _, s := range []said{{answer.Node.ID, answer.Node.Network}, parseNodeInfo(info)} {
			who, err := o.judge(s, nil, &endpoint{kind: rpc, address: "127.0.0.1:1"})
			if who.tied != (s.id == testID) || !who.tied && err == nil && (who.doubt == "" || s.id != "") {
				t.Errorf("%+v: %+v, %v", s, who, err)
			}
			if err != nil && strings.ContainsFunc(err.Error(), func(r rune) bool { return !strconv.IsPrint(r) }) {
				t.Errorf("error %q", err)
			}
		}
	})
}
