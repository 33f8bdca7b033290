package rehearse

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"solstice/localnet"
)

// seal is the vote of the rehearsal's validator on the block before the plan's.
//
// The time of a block is that of the votes on the block before, so a network that is made twice out of one state makes two different
// blocks. in-place-testnet votes with the time at which it runs, unless the sign state says that this vote was given already:
// then CometBFT gives it again, with its time (privval/file.go, signVote). With the sign state of the first run each run makes the very
// same block at the plan's height, and their states can be compared.
type seal struct {
	Height int64 `json:"height,string"`
	Round  int32 `json:"round"`
	Block  struct {
		Hash  string `json:"hash"`
		Parts struct {
			Total uint32 `json:"total"`
			Hash  string `json:"hash"`
		} `json:"parts"`
	} `json:"block_id"`
	Signatures []struct {
		Time      time.Time `json:"timestamp"`
		Signature []byte    `json:"signature"`
	} `json:"signatures"`
}

// commitAt asks for the votes on a block.
func commitAt(ctx context.Context, n *localnet.Node, height int64) (s seal, err error) {
	var answer struct {
		Signed struct {
			Commit seal `json:"commit"`
		} `json:"signed_header"`
	}
	err = n.Call(ctx, "/commit", url.Values{"height": {strconv.FormatInt(height, 10)}}, &answer)
	return answer.Signed.Commit, err
}

// signState is the file of a validator that has given this vote last.
func (s seal) signState(chainID string) ([]byte, error) {
	if len(s.Signatures) != 1 {
		return nil, fmt.Errorf("the block before the plan's has %d votes, not one", len(s.Signatures))
	}
	message, err := s.canonical(chainID)
	if err != nil {
		return nil, err
	}
	const precommit = 3 // the step
	return json.Marshal(map[string]any{
		"height": strconv.FormatInt(s.Height, 10), "round": s.Round, "step": precommit,
		"signature": s.Signatures[0].Signature, "signbytes": fmt.Sprintf("%X", message),
	})
}

// canonical is what a validator signs for the vote: CanonicalVote of CometBFT's types/canonical.proto, after its length.
func (s seal) canonical(chainID string) ([]byte, error) {
	hash, err := hex.DecodeString(s.Block.Hash)
	if err != nil {
		return nil, err
	}
	partsHash, err := hex.DecodeString(s.Block.Parts.Hash)
	if err != nil {
		return nil, err
	}
	var parts, block, at, vote []byte
	parts = varint(parts, 1, uint64(s.Block.Parts.Total))
	parts = content(parts, 2, partsHash)
	block = content(block, 1, hash)
	block = content(block, 2, parts)
	at = varint(at, 1, uint64(s.Signatures[0].Time.Unix()))
	at = varint(at, 2, uint64(s.Signatures[0].Time.Nanosecond()))
	const precommit = 2 // the type
	vote = varint(vote, 1, precommit)
	vote = fixed64(vote, 2, uint64(s.Height))
	vote = fixed64(vote, 3, uint64(s.Round))
	vote = content(vote, 4, block)
	vote = content(vote, 5, at)
	vote = content(vote, 6, []byte(chainID))
	return protowire.AppendBytes(nil, vote), nil
}

// Fields of protobuf; one that is zero is left out.
func varint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func fixed64(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), v)
}

func content(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}
