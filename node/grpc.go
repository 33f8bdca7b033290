package node

import (
	"context"
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
)

// latestBlock returns the height of
// cosmos.base.tendermint.v1beta1.Service/GetLatestBlock, which every SDK since v0.40 has.
// A block can be many megabytes; its height stands at the front, and no more is read.
func (e *endpoint) latestBlock(ctx context.Context) (int64, peer, error) {
	content, who, err := e.unary(ctx, "/cosmos.base.tendermint.v1beta1.Service/GetLatestBlock", nil, 16<<10, false)
	if err != nil {
		return 0, peer{}, err
	}
	stored, err := parseLatestBlock(content)
	return stored, who, err
}

// parseLatestBlock finds the height in the front of a GetLatestBlockResponse: field 2
// (block) or 3 (sdk_block), in it field 1 (header), in it field 3 (height).
func parseLatestBlock(message []byte) (int64, error) {
	for _, block := range []protowire.Number{2, 3} {
		if height := integer(field(field(message, block), 1), 3); height > 0 {
			return height, nil
		}
	}
	return 0, errors.New("GetLatestBlock: the answer has no height")
}

// field returns the first bytes field with this number, as much of it as is there.
func field(message []byte, want protowire.Number) []byte {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil
		}
		message = message[n:]
		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
				return nil
			}
			message = message[n:]
			continue
		}
		size, n := protowire.ConsumeVarint(message)
		if n < 0 {
			return nil
		}
		message = message[n:]
		length := len(message)
		if size < uint64(length) {
			length = int(size)
		}
		if number == want {
			return message[:length]
		}
		message = message[length:]
	}
	return nil
}

// integer returns the first varint field with this number, or 0, which proto3 leaves out.
func integer(message []byte, want protowire.Number) int64 {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return 0
		}
		message = message[n:]
		if number == want && kind == protowire.VarintType {
			value, _ := protowire.ConsumeVarint(message) // 0 if it is cut off
			return int64(value)
		}
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return 0
		}
		message = message[n:]
	}
	return 0
}
