package node

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestScanGenesis(t *testing.T) {
	nest := strings.Repeat(`{"a":[`, 1000) + strings.Repeat(`]}`, 1000)
	long := strings.Repeat(`\\`, 200_000) + `\"` + strings.Repeat("x", 300_000) + `\\`
	for _, tt := range []struct {
		name, content string
		initial       int64
		chainID       string
		err           string
	}{
		{"as-the-sdk-writes-it", `{"app_name":"x","chain_id":"cosmoshub-4","initial_height":"5200791","app_state":{`, 5200791, "cosmoshub-4", ""},
		{"number", `{ "chain_id" : "a" , "initial_height" : 7 }`, 7, "a", ""},
		{"sorted", `{"app_state":{"x":["}","{",{"y":"\"]"}]},"chain_id":"a","initial_height":"7"}`, 7, "a", ""},
		{"same-names-below", `{"app_state":{"initial_height":"9","chain_id":"b"},"chain_id":"a","initial_height":"7"}`, 7, "a", ""},
		{"not-named", `{"chain_id":"a","app_state":{},"x":null,"y":-1.5e3}`, 1, "a", ""},
		{"zero", `{"chain_id":"a","initial_height":"0"}`, 1, "a", ""},
		{"null", `{"chain_id":"a","initial_height":null}`, 1, "a", ""},
		{"empty-text", `{"chain_id":"a","initial_height":""}`, 1, "a", ""},
		{"no-chain", `{"initial_height":"3"}`, 3, "", ""},
		{"escaped", `{"chain\u005fid":"a\u00e9\"b","initial_height":"3"}`, 3, `aé"b`, ""},
		{"deep", `{"app_state":` + nest + `,"chain_id":"a","initial_height":"3"}`, 3, "a", ""},
		{"long-string", `{"x":"` + long + `","chain_id":"a","initial_height":"3"}`, 3, "a", ""},
		{"long-string-below", `{"x":["` + long + `"],"chain_id":"a","initial_height":"3"}`, 3, "a", ""},
		{"empty-object", `{}`, 1, "", ""},
		{"negative", `{"chain_id":"a","initial_height":"-1"}`, 0, "", `initial_height is "-1"`},
		{"too-large", `{"chain_id":"a","initial_height":"9223372036854775808"}`, 0, "", "initial_height is"},
		{"text", `{"chain_id":"a","initial_height":"first"}`, 0, "", "initial_height is"},
		{"object", `{"chain_id":"a","initial_height":{"x":1}}`, 0, "", "initial_height is"},
		{"endless-key", `{"` + strings.Repeat("x", 2000), 0, "", "is too long"},
		{"cut-off", `{"chain_id":"a","app_state":{"x":"`, 0, "", "unexpected EOF"},
		{"cut-off-before-the-value", `{"chain_id":`, 0, "", "unexpected EOF"},
		{"empty", ``, 0, "", "unexpected EOF"},
		{"not-json", `<html>`, 0, "", "not JSON"},
		{"array", `[1]`, 0, "", "not JSON"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []struct {
				name string
				read func() (int64, string, error)
			}{
				{"at once", func() (int64, string, error) { return scanGenesis(strings.NewReader(tt.content)) }},
				{"in halves", func() (int64, string, error) {
					return scanGenesis(iotest.HalfReader(strings.NewReader(tt.content)))
				}},
			} {
				initial, chainID, err := r.read()
				checkErr(t, err, tt.err)
				if initial != tt.initial || chainID != tt.chainID {
					t.Errorf("%s: scanGenesis = %d, %q, want %d, %q", r.name, initial, chainID, tt.initial, tt.chainID)
				}
			}
		})
	}
}

// TestFirstHeight: state.db is asked before genesis.json, and what neither tells is not known.
func TestFirstHeight(t *testing.T) {
	genesis := []byte(`{"chain_id":"of-genesis","initial_height":"9"}`)
	for _, tt := range []struct {
		name           string
		state, genesis []byte // nil: there is none
		want           string // initial height, chain
		wantState      string // in the error of state.db
	}{
		{"both", stateOf(36, 3, "of-state"), genesis, "3 of-state", ""},
		{"state-without-initial-height", stateOf(36, 0, "of-state"), genesis, "9 of-state", ""},
		{"before-the-first-block", stateOf(0, 3, "of-state"), genesis, "3 of-state", "no block is committed yet"},
		{"never-started", nil, genesis, "9 of-genesis", "no such file"},
		{"damaged-state", []byte("\x12\x7f"), genesis, "9 of-genesis", "is not a state"},
		{"state-of-nothing", []byte{}, genesis, "9 of-genesis", "is not a state"},
		{"negative-height", stateOf(-5, 3, "of-state"), genesis, "9 of-genesis", "is not a state"},
		{"nothing", nil, nil, "0 ", "no such file"},
		{"damaged-genesis", nil, []byte("{"), "0 ", "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			home, settings := stoppedNode(t, goLevelDB, 37)
			dir := filepath.Join(home.Data(), "state.db")
			remove(t, dir)
			if tt.state != nil {
				put(t, goLevelDB, dir, "stateKey", string(tt.state))
			}
			if tt.genesis != nil {
				write(t, filepath.Join(home.Node, "config", "genesis.json"), tt.genesis)
			}
			h := ReadHeights(home, settings)
			if got := fmt.Sprint(h.Initial, " ", h.ChainID); got != tt.want {
				t.Errorf("first height and chain: %s, want %s", got, tt.want)
			}
			checkErr(t, h.State.Err, tt.wantState)
		})
	}
}

// TestGenesisIsNoFile: a pipe is not waited for.
func TestGenesisIsNoFile(t *testing.T) {
	_, _, err := readGenesis(t.TempDir())
	checkErr(t, err, "not a regular file")
	_, _, err = readGenesis(filepath.Join(t.TempDir(), "genesis.json"))
	checkErr(t, err, "no such file")
}

// TestGenesisTakesTooLong: when there is no time left, nothing is known.
func TestGenesisTakesTooLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "genesis.json")
	check(t, os.WriteFile(path, []byte(`{"app_state":{`+strings.Repeat(" ", 1<<20)), 0o600))
	file, err := os.Open(path)
	check(t, err)
	defer file.Close()
	_, _, err = scanGenesis(&untilDeadline{file, time.Now().Add(-time.Second)})
	checkErr(t, err, "timed out before initial_height")
}

// FuzzScanGenesis: of what is JSON, the same is read as by Go's own reader.
func FuzzScanGenesis(f *testing.F) {
	f.Add(`{"app_state":{"x":["}","{",{"y":"\"]"}]},"chain_id":"a","initial_height":"7"}`)
	f.Add(`{"chain_id":"a","initial_height":7}`)
	f.Add(`{"chain_id":null,"x":"\\"}`)
	f.Add(`{"a":[[],{}],"chain_id":"\u00e9"}`)
	f.Fuzz(func(t *testing.T, content string) {
		initial, chainID, err := scanGenesis(strings.NewReader(content))
		if err == nil && initial < 1 {
			t.Errorf("initial height %d", initial)
		}
		var all map[string]json.RawMessage
		if json.Unmarshal([]byte(content), &all) != nil || all == nil {
			return
		}
		var chain, first string
		if json.Unmarshal(all["chain_id"], &chain) != nil || json.Unmarshal(all["initial_height"], &first) != nil {
			return
		}
		height, parseErr := strconv.ParseInt(first, 10, 64)
		if parseErr != nil || height < 1 || len(content) > maxScalar || strings.Count(content, "chain") != 1 || strings.Count(content, "initial") != 1 || strings.Contains(content, `\u`) {
			return
		}
		if err != nil || initial != height || chainID != chain {
			t.Errorf("scanGenesis(%q) = %d, %q, %v, want %d, %q", content, initial, chainID, err, height, chain)
		}
	})
}

func FuzzParseState(f *testing.F) {
	f.Add(stateOf(36, 1, "cosmoshub-4"))
	f.Add(stateOf(0, 5, "a"))
	f.Fuzz(func(t *testing.T, value []byte) {
		height, initial, chainID, err := parseState(value)
		if err == nil && (height <= 0 || initial < 0 || chainID == "") {
			t.Errorf("parseState = %d, %d, %q", height, initial, chainID)
		}
	})
}
