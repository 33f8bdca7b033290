package network

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protowire"
)

// Vote is a prevote or a precommit that a node has seen, its own ones included.
type Vote struct {
	Validator string // its address, in upper-case hex
	Height    int64
	Round     int32
	Type      int32 // 1 prevote, 2 precommit
	Signature string
}

// ReadVotes reads all votes in a folder with a consensus WAL, such as data/cs.wal. A torn end is passed over.
func ReadVotes(dir string) ([]Vote, error) {
	files, err := filepath.Glob(filepath.Join(dir, "wal*"))
	if err != nil {
		return nil, err
	}
	var votes []Vote
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		// A frame is a checksum and a length, in four bytes each, and a message.
		for len(data) >= 8 {
			length := int(binary.BigEndian.Uint32(data[4:]))
			if length > len(data)-8 {
				break
			}
			vote, err := readVote(data[8 : 8+length])
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", file, err)
			}
			if vote.Validator != "" {
				votes = append(votes, vote)
			}
			data = data[8+length:]
		}
	}
	return votes, nil
}

// readVote reads a message of the WAL. It is the zero Vote if the message is something else.
func readVote(message []byte) (vote Vote, err error) {
	// TimedWALMessage.msg, WALMessage.msg_info, MsgInfo.msg, Message.vote, Vote.vote.
	for _, number := range []protowire.Number{2, 2, 1, 6, 1} {
		var inner []byte
		err := fields(message, func(n protowire.Number, value []byte, _ uint64) error {
			if n == number {
				inner = value
			}
			return nil
		})
		if err != nil || inner == nil {
			return Vote{}, err
		}
		message = inner
	}
	err = fields(message, func(number protowire.Number, value []byte, integer uint64) error {
		switch number {
		case 1:
			vote.Type = int32(integer)
		case 2:
			vote.Height = int64(integer)
		case 3:
			vote.Round = int32(integer)
		case 6:
			vote.Validator = fmt.Sprintf("%X", value)
		case 8:
			vote.Signature = fmt.Sprintf("%X", value)
		}
		return nil
	})
	return vote, err
}
