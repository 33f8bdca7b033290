package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"time"

	"solstice"
	"solstice/internal/durable"
	"solstice/node"
)

// Source says where a height comes from.
type Source string

// Sources of heights, from the most to the least exact.
const (
	SourceNode        Source = "node"              // the running node told it
	SourceApplication Source = "application.db"    // the stopped application's own record
	SourceState       Source = "state.db"          // CometBFT's state, saved after the application commits
	SourceBlocks      Source = "blockstore.db"     // CometBFT's blocks, stored before the application commits
	SourceWAL         Source = "consensus WAL"     // the same, but it may lack blocks
	SourceRecord      Source = "last known height" // the node told it before it ended
	SourceGenesis     Source = "genesis.json"      // there is no database: no block was committed yet
)

// Unbounded is the upper end of a height that nothing bounds from above.
const Unbounded = math.MaxInt64

// Height is what is known of the last block that the application has committed: it is
// not below Low and not above High. The zero value says that nothing is known.
//
// It is a range because CometBFT stores a block before the application commits it: a
// block store that ends at H belongs to an application at H-1 or at H.
type Height struct {
	Low    int64  `json:"low"`
	High   int64  `json:"high"`
	Source Source `json:"source"` // of Low; empty: nothing is known
	// Tied says that this home's own node or its files say so. An answer over the network
	// that cannot be tied to the node may be another node's.
	Tied bool `json:"tied"`
}

// Known says whether anything is known.
func (h Height) Known() bool { return h.Source != "" }

// Reached says that a block is committed for certain.
func (h Height) Reached(height int64) bool { return h.Known() && h.Low >= height }

// Below says that a block is not committed for certain.
func (h Height) Below(height int64) bool { return h.Known() && h.High < height }

// bounded says that the height is known from above, too.
func (h Height) bounded() bool { return h.Known() && h.High < Unbounded }

// narrow says that it is one of two heights at most.
func (h Height) narrow() bool { return h.bounded() && h.High-h.Low <= 1 }

// atMost is the upper end, or where nothing bounds it the lower one.
func (h Height) atMost() int64 {
	if h.bounded() {
		return h.High
	}
	return h.Low
}

// may says that this may be the last committed block.
func (h Height) may(height int64) bool { return h.Known() && h.Low <= height && height <= h.High }

// exactly says that this is the last committed block for certain.
func (h Height) exactly(height int64) bool { return h.Known() && h.Low == height && h.High == height }

func (h Height) String() string {
	switch {
	case !h.Known():
		return "unknown"
	case h.Low == h.High:
		return fmt.Sprint(h.Low)
	case !h.bounded():
		return fmt.Sprintf("%d or more", h.Low)
	}
	return fmt.Sprintf("%d to %d", h.Low, h.High)
}

// AtLeast is a lower bound.
func AtLeast(height int64, source Source) Height {
	return Height{Low: height, High: Unbounded, Source: source, Tied: true}
}

// Exactly is a height that is known.
func Exactly(height int64, source Source) Height {
	return Height{Low: height, High: height, Source: source, Tied: true}
}

// bestHeight says how far a stopped node is, by its databases and by what it told last
// (H1 to H6 of docs/deciding.md). The first that can be read counts:
// the application's own record is exact; CometBFT's state is saved after the application
// commits, and its block before that, so together they enclose the height; the consensus
// WAL may lack blocks, and stays when data is replaced, so it counts only where it is
// newer than what the node told last.
func bestHeight(disk node.Heights, told Height, toldAt time.Time) Height {
	state, stored := disk.State, disk.Stored
	blocks := stored.Err == nil && disk.Base > 0 // from the block store, not from the WAL
	switch {
	case disk.Committed.Err == nil:
		return Exactly(disk.Committed.Height, SourceApplication)
	case state.Height > 0 && blocks && state.Height <= stored.Height:
		h := Height{Low: max(state.Height, stored.Height-1), High: stored.Height, Source: SourceState, Tied: true}
		return h.raisedBy(told)
	case blocks:
		h := Height{Low: stored.Height - 1, High: stored.Height, Source: SourceBlocks, Tied: true}
		return h.raisedBy(told)
	case state.Height > 0:
		// A block that was stored and not committed may follow.
		h := Height{Low: state.Height, High: state.Height + 1, Source: SourceState, Tied: true}
		return h.raisedBy(told)
	case stored.Err == nil && (!told.Known() || !told.bounded() && stored.At.After(toldAt) && stored.Height-1 > told.Low):
		return AtLeast(stored.Height-1, SourceWAL)
	case disk.AtLeast.Height > 0 && (!told.Known() || !told.bounded() && disk.AtLeast.Height > told.Low):
		return AtLeast(disk.AtLeast.Height, SourceApplication)
	case told.Known():
		return told
	case disk.Empty && disk.Initial > 0:
		return Exactly(disk.Initial-1, SourceGenesis)
	}
	return Height{}
}

// raisedBy narrows a range by what the node told before it ended. A height above the
// range was told of other data.
func (h Height) raisedBy(told Height) Height {
	if told.Known() && told.Low > h.Low && told.Low <= h.High {
		h.Low = told.Low
	}
	return h
}

// HeightRecord is the last committed height that the node told, kept for when it does
// not run.
type HeightRecord struct {
	Committed int64     `json:"committed"`
	At        time.Time `json:"at"`
	Databases bool      `json:"databases,omitempty"` // the node had databases where we look for them
	// Exact says that the data was put there by a rollback and that nothing ran on it since.
	Exact bool `json:"exact,omitempty"`
}

// ReadHeight reads the record; without one the error is fs.ErrNotExist.
func ReadHeight(home solstice.Home) (HeightRecord, error) {
	var r HeightRecord
	content, err := solstice.ReadFile(home.HeightFile(), solstice.MaxFile)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(content, &r); err != nil {
		return r, fmt.Errorf("%s: %w", home.HeightFile(), err)
	}
	if r.Committed < 0 {
		return HeightRecord{}, fmt.Errorf("%s: height %d is negative", home.HeightFile(), r.Committed)
	}
	return r, nil
}

// WriteHeight replaces the record.
func WriteHeight(home solstice.Home, r HeightRecord) error {
	content, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return durable.WriteFile(home.HeightFile(), append(content, '\n'), 0o600)
}

// toldHeight is the record as a height, unless there is none.
func toldHeight(home solstice.Home) (told Height, r HeightRecord, err error) {
	r, err = ReadHeight(home)
	if errors.Is(err, fs.ErrNotExist) {
		return Height{}, r, nil
	}
	if err != nil {
		return Height{}, r, err
	}
	if r.Exact {
		return Exactly(r.Committed, SourceRecord), r, nil
	}
	return AtLeast(r.Committed, SourceRecord), r, nil
}
