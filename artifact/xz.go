package artifact

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"slices"

	"github.com/ulikunitz/xz/lzma"
)

// maxBlocks is how many blocks and streams an xz file may have: xz begins a new block each 24 MiB, other packers each MiB.
const maxBlocks = 10_000

// errNotWhole is of a file that ends too early, or is none of xz.
var errNotWhole = errors.New("it is no whole xz file")

// xzBlock is one of the pieces that an xz file consists of. Each begins with an empty dictionary.
type xzBlock struct {
	from, to int64 // where its LZMA2 data lies, without the marker at its end
	content  int64 // bytes that it becomes
	check    byte  // the kind of the checksum of its content
	sumAt    int64 // where that lies
}

// xzReader reads what is packed in an xz file (xz-file-format 1.2.1).
//
// An index at the end of the file lists the blocks, so it is known before anything is unpacked how much memory they need. The data of
// all of them is one stream for one decoder: a decoder each would be a dictionary each, and many small blocks would fill the memory
// with those, or the day with making them.
type xzReader struct {
	file    io.ReaderAt
	blocks  []xzBlock // that are not read to their end
	content io.Reader // of all of them
	left    int64     // bytes of the first one's
	sum     hash.Hash // of what was read of it; nil: it has no checksum
}

func newXZReader(file io.ReaderAt, size int64) (*xzReader, error) {
	blocks, dictionary, err := xzBlocks(file, size)
	if err != nil {
		return nil, err
	}
	x := &xzReader{file: file, blocks: blocks}
	if len(blocks) == 0 {
		return x, nil
	}
	x.begin()
	var data []io.Reader
	for _, b := range blocks {
		data = append(data, io.NewSectionReader(file, b.from, b.to-b.from))
	}
	data = append(data, bytes.NewReader([]byte{0})) // the marker
	// Buffered, since the decoder takes byte by byte.
	x.content, err = lzma.Reader2Config{DictCap: int(dictionary)}.NewReader2(bufio.NewReaderSize(io.MultiReader(data...), 64<<10))
	return x, err
}

// xzBlocks finds all blocks, and the size of a dictionary that is enough for each of them.
func xzBlocks(file io.ReaderAt, size int64) (blocks []xzBlock, dictionary int64, err error) {
	dictionary = lzma.MinDictCap
	for streams, end := 0, size; end > 0 || streams == 0; streams++ {
		var more []xzBlock
		if more, end, err = xzStream(file, end); err != nil {
			return nil, 0, err
		}
		if streams+len(blocks)+len(more) > maxBlocks {
			return nil, 0, errManyBlocks
		}
		slices.Reverse(more)
		blocks = append(blocks, more...)
	}
	slices.Reverse(blocks)
	for i := range blocks {
		need, err := blocks[i].readHeader(file)
		if err != nil {
			return nil, 0, err
		}
		if need > maxWindow {
			return nil, 0, fmt.Errorf("it needs more than %d MiB of memory: pack it with xz -9 or less", maxWindow>>20)
		}
		dictionary = max(dictionary, need)
	}
	return blocks, dictionary, nil
}

var errManyBlocks = fmt.Errorf("it has more than %d blocks", maxBlocks)

// xzStream finds the stream that ends there: where it begins and where its blocks lie as wholes, from header to checksum. Zeros behind
// a stream, which the format allows, are an error: no release has them.
func xzStream(file io.ReaderAt, end int64) (blocks []xzBlock, begin int64, err error) {
	const headerSize, footerSize = 12, 12
	footer, err := readXZ(file, end-footerSize, footerSize)
	if err != nil {
		return nil, 0, err
	}
	flags, indexSize := footer[8:10], (int64(binary.LittleEndian.Uint32(footer[4:]))+1)*4
	switch {
	case string(footer[10:]) != "YZ" || flags[0] != 0 || !hasCRC(footer[4:10], footer):
		return nil, 0, errNotWhole
	case indexSize > 20*maxBlocks: // two numbers each
		return nil, 0, errManyBlocks
	}
	indexAt := end - footerSize - indexSize
	index, err := readXZ(file, indexAt, indexSize)
	if err != nil {
		return nil, 0, err
	}
	if index[0] != 0 || !hasCRC(index[:indexSize-4], index[indexSize-4:]) {
		return nil, 0, errNotWhole
	}
	count, index := xzNumber(index[1 : indexSize-4])
	if count < 0 {
		return nil, 0, errNotWhole
	}
	length := int64(0)
	for range count {
		var size, content int64
		size, index = xzNumber(index)
		content, index = xzNumber(index)
		if size <= 0 || size > indexAt-length || content < 0 {
			return nil, 0, errNotWhole
		}
		blocks = append(blocks, xzBlock{from: length, to: length + size, content: content, check: flags[1]})
		length += roundUp(size)
	}
	begin = indexAt - length - headerSize
	header, err := readXZ(file, begin, headerSize)
	if err != nil {
		return nil, 0, err
	}
	if string(header[:6]) != "\xfd7zXZ\x00" || !bytes.Equal(header[6:8], flags) || !hasCRC(flags, header[8:]) {
		return nil, 0, errNotWhole
	}
	for i := range blocks {
		blocks[i].from += begin + headerSize
		blocks[i].to += begin + headerSize
	}
	return blocks, begin, nil
}

// readHeader finds the data in a block that is known as a whole, and says what dictionary it needs: none larger than its content.
func (b *xzBlock) readHeader(file io.ReaderAt) (dictionary int64, err error) {
	size, err := readXZ(file, b.from, 1)
	if err != nil {
		return 0, err
	}
	header, err := readXZ(file, b.from, (int64(size[0])+1)*4)
	if err != nil {
		return 0, err
	}
	fields := header[:len(header)-4]
	if len(fields) < 2 || !hasCRC(fields, header[len(fields):]) {
		return 0, errNotWhole
	}
	flags, fields := fields[1], fields[2:]
	for _, present := range []byte{0x40, 0x80} { // two sizes that may stand here too
		if flags&present != 0 {
			_, fields = xzNumber(fields)
		}
	}
	const lzma2 = 0x21
	if flags&0x3f != 0 || len(fields) < 3 || fields[0] != lzma2 || fields[1] != 1 || fields[2] > 40 {
		return 0, errors.New("it is packed with a filter that is not read: only LZMA2 is")
	}
	sum, err := b.newSum()
	if err != nil {
		return 0, err
	}
	b.from += int64(len(header))
	if sum != nil {
		b.to -= int64(sum.Size())
	}
	b.sumAt = b.from + roundUp(b.to-b.from)
	b.to--
	if b.to < b.from {
		return 0, errNotWhole
	}
	marker, err := readXZ(file, b.to, 1)
	if err != nil {
		return 0, err
	}
	if marker[0] != 0 {
		return 0, errNotWhole
	}
	bits := int64(fields[2])
	return min((2|bits&1)<<(bits/2+11), b.content), nil
}

const xzSHA256 = 10 // the kind of checksum that is no CRC

// newSum returns a new hash of the kind of the block's checksum, or nil if it has none.
func (b *xzBlock) newSum() (hash.Hash, error) {
	switch b.check {
	case 0:
		return nil, nil
	case 1:
		return crc32.NewIEEE(), nil
	case 4:
		return crc64.New(crc64.MakeTable(crc64.ECMA)), nil
	case xzSHA256:
		return sha256.New(), nil
	}
	return nil, fmt.Errorf("its checksums are of kind %d, which is not known", b.check)
}

func (x *xzReader) begin() {
	x.left = x.blocks[0].content
	x.sum, _ = x.blocks[0].newSum() // readHeader knows it
}

func (x *xzReader) Read(p []byte) (int, error) {
	for len(x.blocks) > 0 && x.left == 0 {
		if err := x.compare(); err != nil {
			return 0, err
		}
		if x.blocks = x.blocks[1:]; len(x.blocks) > 0 {
			x.begin()
		}
	}
	if len(x.blocks) == 0 {
		return 0, x.end()
	}
	n, err := x.content.Read(p[:min(int64(len(p)), x.left)])
	x.left -= int64(n)
	if x.sum != nil {
		x.sum.Write(p[:n])
	}
	switch {
	case err == io.EOF && x.left > 0:
		return n, errNotWhole
	case err == io.EOF:
		return n, nil // there may be blocks without content to come
	case err != nil:
		return n, fmt.Errorf("it is damaged: %w", err)
	}
	return n, nil
}

// end is io.EOF, unless there is more than the index says.
func (x *xzReader) end() error {
	if x.content == nil {
		return io.EOF
	}
	if n, _ := x.content.Read(make([]byte, 1)); n > 0 {
		return errNotWhole
	}
	return io.EOF
}

// compare compares the content of the first block, which was read to its end, with its checksum.
func (x *xzReader) compare() error {
	if x.sum == nil {
		return nil
	}
	got := x.sum.Sum(nil)
	if x.blocks[0].check != xzSHA256 {
		slices.Reverse(got) // xz writes the lowest byte first
	}
	want, err := readXZ(x.file, x.blocks[0].sumAt, int64(len(got)))
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("it is damaged: a checksum in it is of something else")
	}
	return nil
}

// readXZ reads a part of a file.
func readXZ(file io.ReaderAt, at, size int64) ([]byte, error) {
	if at < 0 {
		return nil, errNotWhole
	}
	part := make([]byte, size)
	n, err := file.ReadAt(part, at)
	switch {
	case n == len(part):
		return part, nil
	case err == io.EOF:
		return nil, errNotWhole
	}
	return nil, err
}

// hasCRC says whether this is the CRC-32 of something.
func hasCRC(of, crc []byte) bool { return crc32.ChecksumIEEE(of) == binary.LittleEndian.Uint32(crc) }

// xzNumber reads a number, and returns what is behind it; one that is cut off or too large is -1, and has nothing behind it.
func xzNumber(from []byte) (int64, []byte) {
	value, n := binary.Uvarint(from)
	if n <= 0 || value > 1<<62 {
		return -1, nil
	}
	return int64(value), from[n:]
}

// roundUp is to the multiple of four that everything in an xz file is filled up to.
func roundUp(size int64) int64 { return (size + 3) / 4 * 4 }
