package supervisor

import (
	"strings"
	"testing"

	"solstice"
	"solstice/node"
)

// TestStandstill: who has stopped, by what the node and its peers are at.
func TestStandstill(t *testing.T) {
	const committed = 99
	for _, tt := range []struct {
		name          string
		consensus     node.Consensus
		noEmptyBlocks bool
		want          solstice.StandstillKind // empty: none
		cause         string
	}{
		{"gone-on-meanwhile", node.Consensus{Height: 101, Peers: []int64{101}}, false, "", ""},
		{"no-peers", node.Consensus{Height: 100}, false, solstice.StandstillAlone, "no peers"},
		{"syncs-alone", node.Consensus{Height: 1, CatchingUp: true}, false, solstice.StandstillAlone, "no peers"},
		{"syncs", node.Consensus{Height: 1, Peers: []int64{500, 501}, CatchingUp: true}, false, solstice.StandstillCatchingUp, "gets no blocks from its peers (2)"},
		{"one-is-beyond", node.Consensus{Height: 100, Peers: []int64{100, 90, 101}}, false, solstice.StandstillNode, "1 of its 3 peers have gone on, up to height 100: it works on"},
		{"all-are-beyond", node.Consensus{Height: 100, Peers: []int64{140, 141}}, true, solstice.StandstillNode, "2 of its 2 peers have gone on, up to height 140"},
		{"none-is-beyond", node.Consensus{Height: 100, Peers: []int64{100, 90}, Round: 7, Voted: 601, Power: 1000}, false, solstice.StandstillNetwork, "none of its peers (2) has gone on: the network stands still; in round 7, 60.1 % of the voting power has voted"},
		{"power-not-known", node.Consensus{Height: 100, Peers: []int64{100}}, false, solstice.StandstillNetwork, "none of its peers (1) has gone on: the network stands still"},
		{"waits-for-transactions", node.Consensus{Height: 100, Peers: []int64{100}, Voted: 0, Power: 1000}, true, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := standstill(tt.consensus, committed, tt.noEmptyBlocks)
			switch {
			case tt.want == "" && got != nil:
				t.Errorf("%+v", got)
			case tt.want != "" && (got == nil || got.Kind != tt.want || got.Height != committed || got.Do == "" || !strings.Contains(got.Cause, tt.cause)):
				t.Errorf("%+v, want %s with %q", got, tt.want, tt.cause)
			}
		})
	}
}
