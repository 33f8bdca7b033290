package node

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// standingNetwork is what CometBFT v0.39 says when some of four validators have gone, without what is not read of it. standingNode is
// the same with peers that have gone on, and numbers that are no text.
const (
	standingNetwork = `{"jsonrpc":"2.0","id":-1,"result":{"round_state":{"height":"23","round":1,"step":4,"validators":{"validators":[],"proposer":null},"votes":[` +
		`{"round":0,"prevotes":["nil-Vote"],"prevotes_bit_array":"BA{4:_x_x} 2000/4000 = 0.50","precommits":["nil-Vote"],"precommits_bit_array":"BA{4:____} 0/4000 = 0.00"},` +
		`{"round":1,"prevotes":["nil-Vote"],"prevotes_bit_array":"BA{4:_x__} 1000/4000 = 0.25","precommits":["nil-Vote"],"precommits_bit_array":"BA{4:xxx_} 3000/4000 = 0.75"},` +
		`{"round":2,"prevotes":["nil-Vote"],"prevotes_bit_array":"BA{4:xxxx} 4000/4000 = 1.00","precommits":["nil-Vote"],"precommits_bit_array":"BA{4:xx__} 2000/4000 = 0.50"},` +
		`{"round":3,"prevotes":["nil-Vote"],"prevotes_bit_array":"BA{4:____} 0/4000 = 0.00","precommits":["nil-Vote"],"precommits_bit_array":"BA{4:____} 0/4000 = 0.00"}]},` +
		`"peers":[{"node_address":"6815@127.0.0.1:28127","peer_state":{"round_state":{"height":"23","round":0}}},{"node_address":"9@127.0.0.1:9","peer_state":{"round_state":{"height":"0","round":-1}}}]}}`
	standingNode = `{"result":{"round_state":{"height":23,"round":"0","votes":[{"round":"0","prevotes_bit_array":"nil-BitArray","precommits_bit_array":""}]},` +
		`"peers":[{"peer_state":{"round_state":{"height":40}}},{"peer_state":{"round_state":{"height":"41"}}},{"peer_state":{}}]}}`
)

func TestConsensus(t *testing.T) {
	for _, tt := range []struct {
		name, dump, status string
		want               Consensus
		wantErr            string
	}{
		{"the-network-stands-still", standingNetwork, `{"result":{"sync_info":{"catching_up":false}}}`, Consensus{Height: 23, Round: 1, Peers: []int64{23}, Voted: 1000, Power: 4000}, ""},
		{"precommits", strings.Replace(standingNetwork, `"step":4`, `"step":6`, 1), `{"result":{"sync_info":{}}}`, Consensus{Height: 23, Round: 1, Peers: []int64{23}, Voted: 3000, Power: 4000}, ""},
		{"a-new-round", strings.Replace(standingNetwork, `"round":1,"step":4`, `"round":3,"step":1`, 1), `{"result":{"sync_info":{}}}`, Consensus{Height: 23, Round: 3, Peers: []int64{23}, Voted: 2000, Power: 4000}, ""},
		{"the-node-stands-still", standingNode, `{"result":{"sync_info":{"catching_up":false}}}`, Consensus{Height: 23, Peers: []int64{40, 41}}, ""},
		{"catching-up", standingNode, `{"result":{"sync_info":{"catching_up":true}}}`, Consensus{Height: 23, Peers: []int64{40, 41}, CatchingUp: true}, ""},
		{"no-such-method", `{"error":{"code":-32601,"message":"Method not found"}}`, `{}`, Consensus{}, "Method not found"},
		{"no-height", `{"result":{"round_state":{"round":0}}}`, `{}`, Consensus{}, "not a height"},
		{"negative", `{"result":{"round_state":{"height":"-3","round":0}}}`, `{}`, Consensus{}, "not a height"},
		{"no-round", `{"result":{"round_state":{"height":"3"}}}`, `{}`, Consensus{}, "not a round"},
		{"garbage", `{"result":{"round_state":{"height":"x"}}}`, `{}`, Consensus{}, "invalid number"},
		{"no-status", standingNode, `{}`, Consensus{}, "status: the answer has no result"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, map[string]string{"/dump_consensus_state": tt.dump, "/status": tt.status}[r.URL.Path])
			}))
			defer server.Close()
			got, err := At(strings.TrimPrefix(server.URL, "http://")).Consensus(t.Context())
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Errorf("error %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil || !slices.Equal(got.Peers, tt.want.Peers) || fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("%+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}
