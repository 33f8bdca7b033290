package artifact

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"path"
	"slices"
	"strings"
)

// Checksum is what the content of a file must hash to, or the address of a sums file that says so.
type Checksum struct {
	Kind string // md5, sha1, sha256 or sha512
	Sum  string // in lower-case hex
	File string // the address of a sums file; then Kind and Sum are empty
}

// hashes are the kinds of checksums, the weakest first.
var hashes = []struct {
	kind string
	size int
	make func() hash.Hash
}{
	{"md5", md5.Size, md5.New}, {"sha1", sha1.Size, sha1.New}, {"sha256", sha256.Size, sha256.New}, {"sha512", sha512.Size, sha512.New},
}

// ParseChecksum reads kind:hex, a bare hex whose length tells the kind, or file: and the address of a sums file. An empty
// text is no checksum.
func ParseChecksum(text string) (Checksum, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return Checksum{}, nil
	}
	kind, sum, named := strings.Cut(text, ":")
	if !named {
		kind, sum = "", text
	}
	if named && kind == "file" {
		u, err := parseURL(sum)
		if err != nil {
			return Checksum{}, fmt.Errorf("the sums file: %w", err)
		}
		if u.Scheme == "http" {
			return Checksum{}, fmt.Errorf("the sums file %s vouches for nothing: it needs https", shown(*u))
		}
		return Checksum{File: u.String()}, nil
	}
	return hexChecksum(strings.ToLower(kind), sum)
}

// hexChecksum reads a sum. An empty kind is found by the length.
func hexChecksum(kind, sum string) (Checksum, error) {
	sum = strings.ToLower(sum)
	raw, err := hex.DecodeString(sum)
	if err != nil {
		return Checksum{}, fmt.Errorf("the checksum %.140q is not in hex", Redact(strings.TrimPrefix(kind+":"+sum, ":")))
	}
	known := kind == ""
	for _, h := range hashes {
		if (kind == "" || kind == h.kind) && len(raw) == h.size {
			return Checksum{Kind: h.kind, Sum: sum}, nil
		}
		known = known || kind == h.kind
	}
	if !known {
		return Checksum{}, fmt.Errorf("checksums of the kind %.20q are not known: md5, sha1, sha256 and sha512 are", kind)
	}
	return Checksum{}, fmt.Errorf("a checksum of %d bytes has the wrong length", len(raw))
}

// IsZero says that there is no checksum.
func (c Checksum) IsZero() bool { return c == Checksum{} }

// Weak says that somebody could make another file with the same checksum.
func (c Checksum) Weak() bool { return c.Kind == "md5" || c.Kind == "sha1" }

func (c Checksum) String() string {
	if c.File != "" {
		return "file:" + c.File
	}
	if c.IsZero() {
		return ""
	}
	return c.Kind + ":" + c.Sum
}

// hash returns a new hash of the checksum's kind, or SHA-256 where there is none.
func (c Checksum) hash() hash.Hash {
	for _, h := range hashes {
		if h.kind == c.Kind {
			return h.make()
		}
	}
	return sha256.New()
}

// FindSum finds a file's checksum in a sums file, as sha256sum and its like write them, also with --tag. A file with nothing
// but one sum is of the one file that it is for. Of several kinds the strongest counts; two of the same kind that differ are
// an error.
func FindSum(content []byte, name string) (Checksum, error) {
	var found []Checksum
	lines, bare := 0, Checksum{}
	scanner := bufio.NewScanner(bytes.NewReader(content))
	for scanner.Scan() {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		lines++
		file, sum, err := sumLine(line)
		switch {
		case err != nil:
			continue // another file's line may be of a kind that we don't know
		case file == "":
			bare = sum
		case path.Base(strings.ReplaceAll(file, `\`, "/")) == name:
			found = append(found, sum)
		}
	}
	if err := scanner.Err(); err != nil {
		return Checksum{}, fmt.Errorf("the sums file can't be read: %w", err)
	}
	if len(found) == 0 && lines == 1 && !bare.IsZero() {
		return bare, nil
	}
	return strongest(found, name)
}

func strongest(found []Checksum, name string) (Checksum, error) {
	for _, h := range slices.Backward(hashes) {
		var best Checksum
		for _, sum := range found {
			switch {
			case sum.Kind != h.kind:
			case !best.IsZero() && best != sum:
				return Checksum{}, fmt.Errorf("the sums file has two checksums of %.100q that differ", name)
			default:
				best = sum
			}
		}
		if !best.IsZero() {
			return best, nil
		}
	}
	return Checksum{}, fmt.Errorf("the sums file has no checksum of %.100q", name)
}

// sumLine reads "HEX  NAME", "HEX *NAME", "KIND (NAME) = HEX" or "HEX".
func sumLine(line string) (file string, sum Checksum, err error) {
	if kind, rest, ok := strings.Cut(line, " ("); ok {
		if at := strings.LastIndex(rest, ") = "); at >= 0 {
			sum, err = hexChecksum(strings.ToLower(kind), rest[at+len(") = "):])
			return rest[:at], sum, err
		}
	}
	text := line
	if at := strings.IndexAny(line, " \t"); at >= 0 { // by hand it may be a tab
		text, file = line[:at], line[at:]
	}
	sum, err = hexChecksum("", text)
	return strings.TrimPrefix(strings.TrimSpace(file), "*"), sum, err
}
