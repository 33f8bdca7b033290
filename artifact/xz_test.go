package artifact

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// handmade is a block as no packer makes it.
type handmade struct {
	dictionary byte  // its size, as a header says it: 28 is 64 MiB, 30 is 128 MiB, 40 is 4 GiB
	content    int64 // what the index says that it becomes; 0: what it does
	packed     string
	data       []byte // in the place of packed, if it is there
}

// xzFile is an xz file of such blocks, without checksums.
func xzFile(t testing.TB, blocks ...handmade) []byte {
	sealed := func(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b)) }
	filled := func(b []byte) []byte { return append(b, make([]byte, roundUp(int64(len(b)))-int64(len(b)))...) }
	flags := []byte{0, 0}
	file := append([]byte("\xfd7zXZ\x00"), flags...)
	file = binary.LittleEndian.AppendUint32(file, crc32.ChecksumIEEE(flags))
	index := binary.AppendUvarint([]byte{0}, uint64(len(blocks)))
	for _, b := range blocks {
		header := sealed([]byte{2, 0, 0x21, 1, b.dictionary, 0, 0, 0})
		data := b.data
		if data == nil {
			data = []byte{0}
		}
		if b.packed != "" {
			data = packed(t, []byte(b.packed), func(w io.Writer) (io.WriteCloser, error) { return lzma.NewWriter2(w) })
		}
		file = filled(append(append(file, header...), data...))
		content := b.content
		if content == 0 {
			content = int64(len(b.packed))
		}
		index = binary.AppendUvarint(binary.AppendUvarint(index, uint64(len(header)+len(data))), uint64(content))
	}
	index = sealed(filled(index))
	footer := append(binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1)), flags...)
	file = binary.LittleEndian.AppendUint32(append(file, index...), crc32.ChecksumIEEE(footer))
	return append(append(file, footer...), "YZ"...)
}

func readAllXZ(file []byte) ([]byte, error) {
	r, err := newXZReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestXZ(t *testing.T) {
	content := script(100_000)
	made := func(config xz.WriterConfig) []byte {
		return packed(t, content, func(w io.Writer) (io.WriteCloser, error) { return config.NewWriter(w) })
	}
	whole := made(xz.WriterConfig{})
	empty := packed(t, nil, func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) })
	damaged := bytes.Clone(whole)
	damaged[len(damaged)/2] ^= 1
	many := make([]handmade, maxBlocks+1)
	for _, tt := range []struct {
		name    string
		file    []byte
		want    string
		wantErr string
	}{
		{"one-block", whole, string(content), ""},
		{"several-blocks", made(xz.WriterConfig{BlockSize: 20_000}), string(content), ""},
		{"several-streams", bytes.Join([][]byte{whole, empty, whole, empty}, nil), string(content) + string(content), ""},
		{"without-content", empty, "", ""},
		{"crc32", made(xz.WriterConfig{BlockSize: 50_000, CheckSum: xz.CRC32}), string(content), ""},
		{"sha256", made(xz.WriterConfig{BlockSize: 50_000, CheckSum: xz.SHA256}), string(content), ""},
		{"without-checksums", made(xz.WriterConfig{BlockSize: 50_000, NoCheckSum: true}), string(content), ""},
		{"empty-block", xzFile(t, handmade{packed: "a"}, handmade{}, handmade{packed: "b"}), "ab", ""},
		{"large-dictionary-of-little", xzFile(t, handmade{dictionary: 40, packed: "a"}, handmade{packed: "b"}), "ab", ""},
		{"hungry", xzFile(t, handmade{dictionary: 30, content: 1 << 40}), "", "more than 64 MiB of memory"},
		{"hungry-later", xzFile(t, handmade{packed: "a"}, handmade{dictionary: 30, content: 65 << 20}), "", "more than 64 MiB of memory"},
		{"hungry-stream-later", append(bytes.Clone(whole), xzFile(t, handmade{dictionary: 40, content: 65 << 20})...), "", "more than 64 MiB of memory"},
		{"more-than-it-says", xzFile(t, handmade{content: 1, packed: "ab"}, handmade{packed: "c"}), "", "no whole xz file"},
		{"less-than-it-says", xzFile(t, handmade{content: 3, packed: "ab"}), "", "no whole xz file"},
		{"no-dictionary", xzFile(t, handmade{dictionary: 41, packed: "a"}), "", "a filter that is not read"},
		{"many-blocks", xzFile(t, many...), "", "more than 10000 blocks"},
		{"many-streams", bytes.Repeat(empty, maxBlocks+2), "", "more than 10000 blocks"},
		{"endless-index", append(binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte("\xff\xff\xff\xff\x00\x00"))), "\xff\xff\xff\xff\x00\x00YZ"...), "", "more than 10000 blocks"},
		{"damaged", damaged, "", "it is damaged"},
		{"nothing", nil, "", "no whole xz file"},
		{"something-else", content, "", "no whole xz file"},
		{"something-behind", append(bytes.Clone(whole), 0, 0, 0, 0), "", "no whole xz file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readAllXZ(tt.file)
			checkErr(t, err, tt.wantErr)
			if err == nil && string(got) != tt.want {
				t.Errorf("%d bytes, want %d", len(got), len(tt.want))
			}
		})
	}
}

// TestXZDamaged: wherever a bit is another or the file ends, the answer is an error.
func TestXZDamaged(t *testing.T) {
	file := packed(t, script(300), func(w io.Writer) (io.WriteCloser, error) { return xz.WriterConfig{BlockSize: 200}.NewWriter(w) })
	for i := range file {
		for bit := range 8 {
			damaged := bytes.Clone(file)
			damaged[i] ^= 1 << bit
			if got, err := readAllXZ(damaged); err == nil && !bytes.Equal(got, script(300)) {
				t.Errorf("bit %d of byte %d: %q", bit, i, got)
			}
		}
		if _, err := readAllXZ(file[:i]); err == nil {
			t.Errorf("cut at %d, and it is no error", i)
		}
	}
}

// TestXZItself: what the packer of that name makes, with several threads too, which write sizes into the blocks.
func TestXZItself(t *testing.T) {
	if _, err := exec.LookPath("xz"); err != nil {
		t.Skip(err)
	}
	content := script(3 << 20)
	path := filepath.Join(t.TempDir(), "noded")
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, options := range [][]string{{"-0"}, {"-9", "-T1"}, {"-1", "-T2", "--block-size=1MiB"}, {"-6", "-C", "sha256"}} {
		t.Run(fmt.Sprint(options), func(t *testing.T) {
			file, err := exec.Command("xz", append(options, "-k", "-c", path)...).Output()
			if err != nil {
				t.Skip("this xz has no such options:", err)
			}
			got, err := readAllXZ(file)
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

// FuzzXZ: blocks whose headers and index are right, whatever they say and whatever is in them.
func FuzzXZ(f *testing.F) {
	f.Add(byte(0), int64(0), []byte("\x01\x00\x00a\x00"), []byte("\x01\x00\x00b\x00"))
	f.Add(byte(40), int64(1<<40), []byte("\xe0\x00\x00\x00\x05\x5d"), []byte{0})
	f.Fuzz(func(t *testing.T, dictionary byte, content int64, one, two []byte) {
		file := xzFile(t, handmade{dictionary: dictionary, content: content, data: one}, handmade{content: 1, data: two})
		x, err := newXZReader(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			return
		}
		n, err := io.Copy(io.Discard, io.LimitReader(x, 1<<22))
		if err == nil && n < 1<<22 && n != content+1 {
			t.Errorf("%d bytes, and its index says %d", n, content+1)
		}
	})
}
