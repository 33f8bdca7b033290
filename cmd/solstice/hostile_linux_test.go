package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ulikunitz/xz/lzma"
)

// How much memory hostile input may take beyond what harmless input takes, in KiB, so that docs/downloads.md is true.
const (
	mostMemory = 50 << 10
	wideMemory = 72 << 10 // with a window of 64 MiB
)

// TestHostileDownloads: whatever a plan leads to, prepare-upgrade refuses it in a sentence, in little memory, and leaves nothing
// behind.
func TestHostileDownloads(t *testing.T) {
	t.Parallel()
	p := buildPlain(t)
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			w.Write(make([]byte, 1<<20)) // without an end, whatever is asked for
		}
	}))
	defer secure.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/to-a-file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		case "/in-circles":
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		case "/huge":
			w.Header().Set("Content-Length", "5000000000")
			w.WriteHeader(http.StatusOK)
		case "/endless.gz":
			for gz := gzipped(make([]byte, 1<<20)); r.Context().Err() == nil; {
				w.Write(gz)
			}
		}
	}))
	defer server.Close()
	certificate := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}))

	harmless, err := p.prepare(t, "", planFor(t, "noded", []byte("#!/bin/sh\n"))...)
	if err != "" {
		t.Fatal(err)
	}
	t.Logf("harmless: %d MiB", harmless>>10)
	none := strings.Repeat("0", 64)
	for _, tt := range []struct {
		name    string
		args    []string
		most    int64
		wantErr string
	}{
		{"zip-bomb", planFor(t, "a.zip", zipBomb(t)), mostMemory, "becomes too large"},
		{"gz-bomb", planFor(t, "a.gz", bytes.Repeat(gzipped(make([]byte, 1<<20)), 100)), mostMemory, "becomes too large"},
		{"tar.gz-bomb", planFor(t, "a.tar.gz", append(gzipped(tarHeader("noded", tar.TypeReg, 1<<30)), bytes.Repeat(gzipped(make([]byte, 1<<20)), 100)...)), mostMemory, "becomes too large"},
		{"bz2-bomb", planFor(t, "a.bz2", bytes.Repeat(bzip2MiB, 100)), mostMemory, "becomes too large"},
		{"zst-bomb", planFor(t, "a.zst", zstdZeros(0, 100)), mostMemory, "becomes too large"},
		{"zst-with-a-wide-window", planFor(t, "a.zst", zstdZeros(16<<3, 100)), wideMemory, "becomes too large"}, // 64 MiB
		{"zst-with-a-wider-window", planFor(t, "a.zst", zstdZeros(17<<3, 100)), mostMemory, "more than 64 MiB of memory"},
		{"xz-with-a-wide-window", planFor(t, "a.xz", xzZeros(t, 28, 100)), wideMemory, "becomes too large"}, // 64 MiB
		{"xz-with-a-wider-window", planFor(t, "a.xz", xzZeros(t, 29, 100)), mostMemory, "more than 64 MiB of memory"},
		{"many-entries", planFor(t, "a.tar.gz", bytes.Repeat(gzipped(bytes.Repeat(tarHeader("x/", tar.TypeDir, 0), 1000)), 1000)), mostMemory, "more than 10000 entries"},
		{"huge-directory-of-a-zip", planFor(t, "a.zip", zipDirectory(1_000_000)), mostMemory, "what it lists is too large"},
		{"sections-without-end", planFor(t, "noded", elfSections(t)), mostMemory, "what it lists is too large"},
		{"huge-plan", planAt(t, strings.Repeat("x", 2<<20)), mostMemory, "larger than 1048576 bytes"},
		{"many-binaries", planOf(t, `{"binaries":{`+listOf(`"%d":""`, ",", 50_000)+`}}`), mostMemory, `no binary for linux/.*: there are "0", .*more`},
		{"many-versions", []string{"--all", "--registry", writeFile(t, filepath.Join(t.TempDir(), "versions.json"), []byte(`{"versions":[`+strings.Repeat("{},", 340_000)+`{}]}`))}, mostMemory, "a plan needs a name"},
		{"endless-registry", []string{"--all", "--registry", secure.URL + "/versions.json"}, mostMemory, "it has more than 1048576 bytes"},
		{"endless-document", planOf(t, secure.URL+"/info.json"), mostMemory, "it has more than 1048576 bytes"},
		{"endless-sums", planAt(t, server.URL+"/noded?checksum=file:"+secure.URL+"/sums"), mostMemory, "the sums file: .* more than 1048576 bytes"},
		{"huge-sums", planAt(t, server.URL+"/noded?checksum=file:"+writeFile(t, filepath.Join(t.TempDir(), "sums"), []byte(listOf(none+"  %d", "\n", 12_000)))), mostMemory, `the sums file has no checksum of "noded"`},
		{"longer-than-allowed", planAt(t, server.URL+"/huge?checksum="+none), mostMemory, "it has 5000000000 bytes, and 4294967296 are the limit"},
		{"to-a-file", planAt(t, server.URL+"/to-a-file?checksum="+none), mostMemory, "redirected to file:///etc/passwd"},
		{"in-circles", planAt(t, server.URL+"/in-circles?checksum="+none), mostMemory, "redirected again and again"},
		{"fills-the-disk", planAt(t, server.URL+"/endless.gz?checksum="+none), mostMemory, "artifact: file too large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			peak, said := p.prepare(t, certificate, tt.args...)
			if !regexp.MustCompile("^solstice: error: .*" + tt.wantErr).MatchString(said) {
				t.Errorf("says %q, want %q", said, tt.wantErr)
			}
			t.Logf("%d MiB more than harmless input", (peak-harmless)>>10)
			if peak-harmless > tt.most {
				t.Errorf("%d KiB more than harmless input takes, want %d at most", peak-harmless, tt.most)
			}
		})
	}
}

// plainProgram is solstice without what the race detector adds to its memory, and the program that measures it.
type plainProgram struct{ solstice, peak string }

func buildPlain(t *testing.T) plainProgram {
	t.Helper()
	peak := filepath.Join(t.TempDir(), "peak")
	if output, err := exec.Command("go", "build", "-o", peak, "./testdata/peak").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return plainProgram{firstVersion(t), peak}
}

// prepare runs prepare-upgrade in a home of its own, and returns the most memory that it took, in KiB, and the errors that it printed.
// It wants nothing left behind by one that failed.
func (p plainProgram) prepare(t *testing.T, certificate string, args ...string) (peak int64, said string) {
	t.Helper()
	home, temp := t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(home, "cosmovisor/genesis/bin/noded"), []byte("#!/bin/sh\n"))
	before := filesIn(t, home)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	// The limit, of 100 MB, stands for a full disk.
	cmd := exec.Command("sh", append([]string{"-c", `ulimit -f 200000; exec "$@"`, "sh", p.peak, p.solstice, "prepare-upgrade"}, args...)...)
	cmd.Env = append(os.Environ(), "DAEMON_HOME="+home, "DAEMON_NAME=noded", "TMPDIR="+temp, "SSL_CERT_FILE="+certificate)
	cmd.ExtraFiles = []*os.File{write}
	output, err := cmd.CombinedOutput()
	write.Close()
	text, _ := io.ReadAll(read) // what is not there is no number
	var parseErr error
	if peak, parseErr = strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); parseErr != nil {
		t.Fatalf("%v: %s", err, output)
	}
	for line := range strings.Lines(string(output)) {
		if strings.HasPrefix(line, "solstice: error:") {
			said += line
		}
	}
	if (err == nil) != (said == "") {
		t.Errorf("%v, and it says %q", err, output)
	}
	if err != nil {
		if code := cmd.ProcessState.ExitCode(); code != 1 && code != 3 {
			t.Errorf("exit code %d: %s", code, output)
		}
		left := slices.DeleteFunc(filesIn(t, home), func(path string) bool {
			return slices.Contains(before, path) || path == "cosmovisor/.solstice" || path == "cosmovisor/.solstice/downloads"
		})
		if left = append(left, filesIn(t, temp)...); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
	return peak, said
}

// filesIn are the paths of everything in a folder.
func filesIn(t *testing.T, dir string) (paths []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, _ fs.DirEntry, err error) error {
		if path != "." {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func writeFile(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// planOf are the arguments for a plan with this info.
func planOf(t *testing.T, info string) []string {
	t.Helper()
	plan, err := json.Marshal(map[string]any{"name": "v2", "height": 5, "info": info})
	if err != nil {
		t.Fatal(err)
	}
	return []string{"--info", writeFile(t, filepath.Join(t.TempDir(), "plan"), plan)}
}

// planAt is one whose binary is at this address.
func planAt(t *testing.T, address string) []string {
	t.Helper()
	info, err := json.Marshal(map[string]any{"binaries": map[string]string{"any": address}})
	if err != nil {
		t.Fatal(err)
	}
	return planOf(t, string(info))
}

// planFor is one whose binary is a file with this name and content.
func planFor(t *testing.T, name string, content []byte) []string {
	t.Helper()
	return planAt(t, fmt.Sprintf("%s?checksum=%x", writeFile(t, filepath.Join(t.TempDir(), name), content), sha256.Sum256(content)))
}

// listOf is a text with many numbers in it.
func listOf(format, separator string, n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(parts, separator)
}

// gzipped is a member of a gzip file, of which any number may follow upon each other.
func gzipped(content []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(content)
	w.Close()
	return out.Bytes()
}

// bzip2MiB is a MiB of zeros. Any number may follow upon each other.
var bzip2MiB, _ = hex.DecodeString("425a683931415926535938571ce50008084000c0040008200030cc0529a60806c4201e2ee48a70a12070ae39ca")

func zipBomb(t *testing.T) []byte {
	var packed, out bytes.Buffer
	f, err := flate.NewWriter(&packed, flate.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	f.Write(make([]byte, 1<<20))
	f.Flush()
	w := zip.NewWriter(&out)
	entry, err := w.CreateRaw(&zip.FileHeader{Name: "noded", Method: zip.Deflate, CompressedSize64: uint64(100 * packed.Len()), UncompressedSize64: 100 << 20})
	if err != nil {
		t.Fatal(err)
	}
	entry.Write(bytes.Repeat(packed.Bytes(), 100))
	w.Close()
	return out.Bytes()
}

// zipDirectory is a zip that has nothing but a list of so many files.
func zipDirectory(files int) []byte {
	entry := append([]byte("PK\x01\x02"), make([]byte, 43)...)
	entry[28] = 1 // the length of its name
	list := bytes.Repeat(entry, files)
	end := append([]byte("PK\x05\x06"), make([]byte, 18)...)
	binary.LittleEndian.PutUint16(end[8:], uint16(files))
	binary.LittleEndian.PutUint16(end[10:], uint16(files))
	binary.LittleEndian.PutUint32(end[12:], uint32(len(list)))
	return append(list, end...)
}

// tarHeader is a header by itself, also of kinds that package tar does not write.
func tarHeader(name string, kind byte, size int64) []byte {
	block := make([]byte, 512)
	copy(block, name)
	copy(block[100:], "0000755\x000000000\x000000000\x00")
	copy(block[124:], fmt.Sprintf("%011o\x0000000000000\x00", size))
	copy(block[148:], "        ") // its checksum is of itself with these
	block[156] = kind
	copy(block[257:], "ustar\x0000")
	sum := 0
	for _, b := range block {
		sum += int(b)
	}
	copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
	return block
}

// zstdZeros are so many MiB, four bytes for each 128 KiB of them (RFC 8878). The window is in the form of the frame's header.
func zstdZeros(window byte, mib int) []byte {
	block := []byte{0x02, 0x00, 0x10, 0} // 128 KiB times the same byte
	frame := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, max(window, 7<<3)}, bytes.Repeat(block, mib*8)...)
	return append(frame, 0x01, 0x00, 0x00)
}

// xzZeros are so many MiB in one block, with a dictionary of a size in the form of the block's header.
func xzZeros(t *testing.T, dictionary byte, mib int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := lzma.NewWriter2(&out)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(make([]byte, 2<<20))
	w.Close()
	chunks := out.Bytes()[:out.Len()-1]
	next := bytes.Clone(chunks)
	next[0] &^= 0x20 // the same once more, but the dictionary is not emptied
	data := append(append(chunks, bytes.Repeat(next, mib/2-1)...), 0)

	sealed := func(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b)) }
	filled := func(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }
	flags := []byte{0, 0}
	header := sealed([]byte{2, 0, 0x21, 1, dictionary, 0, 0, 0})
	index := binary.AppendUvarint([]byte{0, 1}, uint64(len(header)+len(data)))
	index = sealed(filled(binary.AppendUvarint(index, uint64(mib<<20))))
	footer := append(binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4-1)), flags...)
	file := append([]byte("\xfd7zXZ\x00"), sealed(flags)...)
	file = append(append(append(file, header...), filled(data)...), index...)
	file = binary.LittleEndian.AppendUint32(file, crc32.ChecksumIEEE(footer))
	return append(append(file, footer...), "YZ"...)
}

// elfSections is a program with more sections than memory.
func elfSections(t *testing.T) []byte {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	const sections = 1_000_000
	file := make([]byte, 64+sections*64)
	if _, err := io.ReadFull(program, file[:64]); err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint16(file[56:], 0)           // program headers
	binary.LittleEndian.PutUint64(file[40:], 64)          // where the sections are
	binary.LittleEndian.PutUint32(file[60:], 0)           // as many as the first one says
	binary.LittleEndian.PutUint64(file[64+32:], sections) // its size
	return file
}
