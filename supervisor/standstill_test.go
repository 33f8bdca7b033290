package supervisor

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"solstice"
	"solstice/node"
	"solstice/upgrade"
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

// answers is a node that says one thing of its consensus.
type answers struct {
	silent
	consensus node.Consensus
	err       error
}

func (a answers) Consensus(context.Context) (node.Consensus, error) { return a.consensus, a.err }

// TestTellStandstill: it is told once, an answer that is missing ends nothing, and its end is told when a block has come.
func TestTellStandstill(t *testing.T) {
	var log bytes.Buffer
	s := &Supervisor{Log: slog.New(slog.NewTextHandler(&log, nil))}
	pace := node.Pace{Usual: time.Second}
	see := func(committed int64, heard time.Time, node answers, want string) {
		t.Helper()
		log.Reset()
		s.reading.Store(&Reading{Node: node})
		s.view.Store(&view{State: "running", HeardAt: heard, Live: upgrade.Live{Launched: solstice.Genesis, Height: upgrade.Exactly(committed, upgrade.SourceNode)}})
		s.seeStandstill(t.Context(), pace)
		if got := log.String(); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("at %d: log %q, want %q", committed, got, want)
		}
	}
	ago := time.Now().Add(-time.Hour)
	stands := answers{consensus: node.Consensus{Height: 100, Peers: []int64{140}}}
	see(99, time.Now(), stands, "")
	see(99, ago, stands, "level=WARN msg=\"the node stands still\" height=99")
	see(99, ago, stands, "")
	see(99, ago, answers{err: errors.New("no answer")}, "")
	see(99, ago, answers{consensus: node.Consensus{Height: 101}}, "") // a block has come since the height was asked for
	if s.still.Load() == nil {
		t.Error("it is forgotten")
	}
	see(100, time.Now(), stands, "level=INFO msg=\"the node stands still no more\" height=100")
}
