package node

import (
	"cmp"
	"context"
	"errors"
	"math"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Pace is how fast a chain makes blocks, by the times in their headers.
type Pace struct {
	Height int64         // the last block
	Time   time.Time     // of that block
	Block  time.Duration // the mean time between two blocks; 0 if the chain has made only one
	Spread time.Duration // the standard deviation of the last ones
	Usual  time.Duration // the median of the last ones, which a halt among them does not change; 0: not known
	Blocks int64         // how many were counted for the mean
}

// longPace is how many blocks the mean is taken over, where the node still has them: the last ones alone are a matter of luck.
const longPace = 1000

// maxHeaders bounds the answer with block headers, in bytes: CometBFT gives no more than 20.
const maxHeaders = 256 << 10

// Pace asks for the headers of the last blocks, and for one of long before (CometBFT's /blockchain). A node without an RPC
// has no headers: ErrNoAddress.
func (c *Client) Pace(ctx context.Context) (Pace, error) {
	if c.rpc == nil {
		return Pace{}, ErrNoAddress
	}
	headers, err := c.rpc.headers(ctx, nil)
	if err != nil {
		return Pace{}, err
	}
	if first := headers[0].height; first > 2 {
		before := strconv.FormatInt(max(first-longPace, 2), 10)
		// Block 1 has the time of the genesis, and a node that prunes its blocks may not have the one of long before.
		if old, err := c.rpc.headers(ctx, url.Values{"minHeight": {before}, "maxHeight": {before}}); err == nil {
			headers = append(old[:1:1], headers...)
		}
	}
	return paceOf(headers), nil
}

// header is what counts of a block.
type header struct {
	height int64
	time   time.Time
}

// headers returns one header or more, by height.
func (e *endpoint) headers(ctx context.Context, which url.Values) ([]header, error) {
	var answer blockchainAnswer
	if _, err := e.get(ctx, "/blockchain", which, maxHeaders, &answer); err != nil {
		return nil, about("blockchain", err)
	}
	return answer.headers()
}

type blockchainAnswer struct {
	Metas []struct {
		Header struct {
			Height height    `json:"height"`
			Time   time.Time `json:"time"`
		} `json:"header"`
	} `json:"block_metas"`
}

func (a blockchainAnswer) headers() ([]header, error) {
	var headers []header
	for _, meta := range a.Metas {
		if meta.Header.Height <= 0 {
			return nil, errors.New("blockchain: a header has no height")
		}
		headers = append(headers, header{int64(meta.Header.Height), meta.Header.Time})
	}
	if headers == nil {
		return nil, errors.New("blockchain: the answer has no headers")
	}
	slices.SortFunc(headers, func(a, b header) int { return cmp.Compare(a.height, b.height) })
	return headers, nil
}

// paceOf computes the pace from headers by height, of which all but the first may follow one upon the other.
func paceOf(headers []header) Pace {
	first, last := headers[0], headers[len(headers)-1]
	p := Pace{Height: last.height, Time: last.time}
	if last.height <= first.height || !last.time.After(first.time) {
		return p
	}
	p.Blocks = last.height - first.height
	p.Block = last.time.Sub(first.time) / time.Duration(p.Blocks)
	var sum float64
	var took []time.Duration
	for i := 1; i < len(headers); i++ {
		if headers[i].height == headers[i-1].height+1 {
			block := headers[i].time.Sub(headers[i-1].time)
			took = append(took, block)
			sum += float64(block-p.Block) * float64(block-p.Block)
		}
	}
	if n := len(took); n > 0 {
		p.Spread = time.Duration(math.Sqrt(sum / float64(n)))
		slices.Sort(took)
		p.Usual = took[n/2]
	}
	return p
}

// At is when a block is expected, and by how much that may be wrong on either side: in 19 of 20 cases it is not, as long as
// the chain keeps its pace. ok is false for a block that is there, and without a pace.
func (p Pace) At(height int64) (at time.Time, uncertainty time.Duration, ok bool) {
	ahead := float64(height - p.Height)
	if p.Block <= 0 || ahead <= 0 || ahead*float64(p.Block) > math.MaxInt64/2 {
		return time.Time{}, 0, false
	}
	// The blocks ahead differ as the last ones did, and so did those that the mean was taken of.
	deviation := float64(p.Spread) * math.Sqrt(ahead+ahead*ahead/float64(max(p.Blocks, 1)))
	return p.Time.Add(time.Duration(ahead * float64(p.Block))), time.Duration(min(2*deviation, math.MaxInt64/2)), true
}
