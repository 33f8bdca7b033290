package node

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"solstice"
)

// maxFrame is the largest message in the WAL, in bytes (consensus/wal.go, maxMsgSizeBytes).
const maxFrame = 1<<20 + 24

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// lastEndHeight returns the height of the last EndHeightMessage in the consensus WAL with this head, and the file that
// holds it.
//
// CometBFT, v0.34 to v0.39 and v1.0, writes and syncs the message when it has stored the block of that height and before the
// application executes it (finalizeCommit in consensus/state.go). Every 10 MiB it moves the head to head.000, head.001 and
// so on. The next message begins a new head, and so does a start, with an EndHeightMessage of height 0 at any height.
func lastEndHeight(head string) (height int64, file string, err error) {
	files, err := walFiles(head)
	if err != nil {
		return 0, "", err
	}
	for _, file := range files {
		height, err := lastEndHeightIn(file)
		if file == head && errors.Is(err, fs.ErrNotExist) {
			continue // just moved
		}
		if err != nil {
			return 0, "", err
		}
		if height > 0 {
			return height, file, nil
		}
	}
	return 0, "", fmt.Errorf("%s and the files before it have no EndHeightMessage", head)
}

// walFiles returns the files of a WAL, newest first.
func walFiles(head string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(head))
	if err != nil {
		return nil, err
	}
	var numbers []int
	names := map[int]string{}
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), filepath.Base(head)+".")
		if number, err := strconv.Atoi(digits); ok && err == nil && len(digits) >= 3 && number >= 0 {
			numbers = append(numbers, number)
			names[number] = e.Name()
		}
	}
	slices.Sort(numbers)
	files := []string{head}
	for _, number := range slices.Backward(numbers) {
		files = append(files, filepath.Join(filepath.Dir(head), names[number]))
	}
	return files, nil
}

// lastEndHeightIn returns the last height above 0 in one file, or 0.
func lastEndHeightIn(path string) (int64, error) {
	file, err := solstice.OpenFile(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return scanWAL(file)
}

// scanWAL returns the last height above 0, or 0. A frame is the CRC-32C of a message and its length, both in four bytes,
// big-endian, and the message.
//
// It ends at the first frame that is not whole: where a cut has torn the tail, or where a node that was killed went on
// behind its torn tail. What comes after that is not searched, since a transaction can contain what looks like a frame.
func scanWAL(r io.Reader) (int64, error) {
	var last int64
	in := bufio.NewReaderSize(r, 64<<10)
	header := make([]byte, 8)
	var message []byte
	for {
		_, err := io.ReadFull(in, header)
		size := binary.BigEndian.Uint32(header[4:])
		if err == nil && size > maxFrame {
			return last, nil
		}
		if err == nil {
			message = slices.Grow(message[:0], int(size))[:size]
			_, err = io.ReadFull(in, message)
		}
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return last, nil
		case err != nil:
			return 0, err
		case crc32.Checksum(message, castagnoli) != binary.BigEndian.Uint32(header):
			return last, nil
		}
		if height := parseEndHeight(message); height > 0 {
			last = height
		}
	}
}

// parseEndHeight returns the height if this TimedWALMessage is an EndHeightMessage, else 0: field 2 (msg), in it field 4
// (end_height), in it field 1 (height).
func parseEndHeight(message []byte) int64 {
	return integer(field(field(message, 2), 4), 1)
}
