package node

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// frame is a message in the WAL.
func frame(message []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, crc32.Checksum(message, castagnoli))
	b = binary.BigEndian.AppendUint32(b, uint32(len(message)))
	return append(b, message...)
}

// timed is a TimedWALMessage with a WALMessage that has one field.
func timed(kind protowire.Number, content []byte) []byte {
	message := protowire.AppendTag(nil, 1, protowire.BytesType)
	message = protowire.AppendBytes(message, []byte{8, 1, 16, 2})
	message = protowire.AppendTag(message, 2, protowire.BytesType)
	walMessage := protowire.AppendBytes(protowire.AppendTag(nil, kind, protowire.BytesType), content)
	return protowire.AppendBytes(message, walMessage)
}

// ended is the frame of an EndHeightMessage.
func ended(height int64) []byte { return frame(timed(4, varint(1, height))) }

// varint is a varint field, which proto3 leaves out at 0.
func varint(number protowire.Number, value int64) []byte {
	if value == 0 {
		return nil
	}
	return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), uint64(value))
}

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

func TestLastEndHeight(t *testing.T) {
	timeout := frame(timed(3, varint(2, 99))) // another message with a height
	part := frame(timed(2, join([]byte("transaction "), ended(1000), []byte(" in a block"))))
	big := frame(timed(2, make([]byte, 1<<20-64)))
	recorded, err := os.ReadFile("testdata/wal-at-halt-37") // CometBFT v0.39.4, halted for an upgrade at 37
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		files    map[string][]byte
		want     int64
		wantFile string
		wantErr  string
	}{
		{"recorded", map[string][]byte{"wal": recorded}, 37, "wal", ""},
		{"recorded-torn", map[string][]byte{"wal": recorded[:len(recorded)-1]}, 36, "wal", ""},
		{"in-the-head", map[string][]byte{"wal": join(ended(5), timeout, ended(6), part, timeout)}, 6, "wal", ""},
		{"large-messages", map[string][]byte{"wal": join(big, ended(5), big, ended(6), big)}, 6, "wal", ""},
		{"after-a-rollback", map[string][]byte{"wal": join(ended(5), ended(6), ended(5))}, 5, "wal", ""},
		{"torn-header", map[string][]byte{"wal": join(ended(5), []byte{1, 2, 3})}, 5, "wal", ""},
		{"torn-message", map[string][]byte{"wal": join(ended(5), ended(6)[:19])}, 5, "wal", ""},
		{"zeros-at-the-end", map[string][]byte{"wal": join(ended(5), timeout, make([]byte, 4096))}, 5, "wal", ""},
		{"garbage-inside", map[string][]byte{"wal": join(ended(5), []byte("garbage"), ended(6))}, 5, "wal", ""},
		{"frame-in-a-transaction", map[string][]byte{"wal": join(ended(5), part)}, 5, "wal", ""},
		{"length-too-large", map[string][]byte{"wal": join(ended(5), []byte{0, 0, 0, 0, 255, 255, 255, 255}, ended(6))}, 5, "wal", ""},
		{"just-rotated", map[string][]byte{"wal.000": ended(4), "wal.001": join(ended(5), timeout)}, 5, "wal.001", ""},
		{"started-after-rotating", map[string][]byte{"wal": join(ended(0), timeout), "wal.001": ended(5), "wal.000": ended(4)}, 5, "wal.001", ""},
		{"several-chunks-without", map[string][]byte{"wal": timeout, "wal.011": timeout, "wal.010": nil, "wal.009": ended(8)}, 8, "wal.009", ""},
		{"four-digits", map[string][]byte{"wal": timeout, "wal.1000": ended(8), "wal.999": ended(7)}, 8, "wal.1000", ""},
		{"other-files", map[string][]byte{"wal": timeout, "wal.CORRUPTED": ended(8), "wal.12": ended(8), "wal2.000": ended(8), "wal.000": ended(7)}, 7, "wal.000", ""},
		{"before-the-first-block", map[string][]byte{"wal": join(ended(0), timeout)}, 0, "", "no EndHeightMessage"},
		{"negative", map[string][]byte{"wal": ended(-5)}, 0, "", "no EndHeightMessage"},
		{"empty-folder", map[string][]byte{"other": nil}, 0, "", "no EndHeightMessage"},
		{"no-folder", nil, 0, "", "no such file"},
		{"head-is-a-folder", map[string][]byte{"wal/x": nil}, 0, "", "not a regular file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cs.wal")
			for name, content := range tt.files {
				write(t, filepath.Join(dir, name), content)
			}
			got, file, err := lastEndHeight(filepath.Join(dir, "wal"))
			checkErr(t, err, tt.wantErr)
			if tt.wantFile != "" {
				tt.wantFile = filepath.Join(dir, tt.wantFile)
			}
			if got != tt.want || file != tt.wantFile {
				t.Errorf("lastEndHeight = %d in %q, want %d in %q", got, file, tt.want, tt.wantFile)
			}
		})
	}
}

// TestWALCutAnywhere: a cut leaves the last height whose message is whole, wherever it comes.
func TestWALCutAnywhere(t *testing.T) {
	recorded, err := os.ReadFile("testdata/wal-at-halt-37")
	if err != nil {
		t.Fatal(err)
	}
	var last int64
	for n := range len(recorded) + 1 {
		height, err := scanWAL(bytes.NewReader(recorded[:n]))
		if err != nil || height < last {
			t.Fatalf("cut at %d: %d, %v after %d", n, height, err, last)
		}
		last = height
	}
	if last != 37 {
		t.Errorf("height %d, want 37", last)
	}
}

func FuzzScanWAL(f *testing.F) {
	recorded, _ := os.ReadFile("testdata/wal-at-halt-37")
	f.Add(recorded)
	f.Add(join(ended(5), ended(0), []byte{0, 0, 0, 0, 0, 16, 0, 24}))
	f.Fuzz(func(t *testing.T, content []byte) {
		if height, err := scanWAL(bytes.NewReader(content)); err != nil || height < 0 {
			t.Errorf("height %d, %v", height, err)
		}
		if height, _ := scanWAL(bytes.NewReader(join(ended(7), frame(content)))); height != 7 && height != parseEndHeight(content) {
			t.Errorf("height %d of a message", height)
		}
	})
}

func checkErr(t *testing.T, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
}
