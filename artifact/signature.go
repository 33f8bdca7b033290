package artifact

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"aead.dev/minisign"

	"solstice"
)

// ParseKeys reads minisign public keys, as minisign prints them or as the path of a file that holds one, separated by commas or
// spaces.
func ParseKeys(text string) ([]minisign.PublicKey, error) {
	var keys []minisign.PublicKey
	for _, one := range keysIn(text) {
		var key minisign.PublicKey
		var err error
		if filepath.IsAbs(one) {
			key, err = minisign.PublicKeyFromFile(one)
		} else {
			err = key.UnmarshalText([]byte(one))
		}
		if err != nil {
			return nil, fmt.Errorf("%.80q is no public key of minisign: %w", one, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// KeyFiles are the files that ParseKeys reads for a text.
func KeyFiles(text string) []string {
	return slices.DeleteFunc(keysIn(text), func(key string) bool { return !filepath.IsAbs(key) })
}

func keysIn(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' })
}

// checkSigned wants a signature of the artifact beside it, or of its sums file beside that, by one of the keys.
func (f Fetcher) checkSigned(ctx context.Context, s Source, file *os.File, sums []byte) error {
	if len(f.Keys) == 0 {
		return nil
	}
	address := s.URL
	signature, err := f.document(ctx, beside(address))
	content := io.Reader(file)
	if err != nil && s.Checksum.File != "" {
		u, parseErr := parseURL(s.Checksum.File)
		if parseErr != nil {
			return parseErr
		}
		address, content = *u, bytes.NewReader(sums)
		var sumsErr error
		signature, sumsErr = f.document(ctx, beside(address))
		err = errors.Join(err, sumsErr)
		if sumsErr == nil {
			err = nil
		}
	}
	if err != nil {
		return &solstice.RefusedError{
			Reason: fmt.Sprintf("%s has no signature, and SOLSTICE_TRUSTED_KEYS demands one; it was deleted: %v", shown(s.URL), err),
			Hint:   "ask the chain's developers for a .minisig beside it, or beside its sums file",
		}
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	reader := minisign.NewReader(content)
	if _, err := io.Copy(io.Discard, reader); err != nil {
		return err
	}
	for _, key := range f.Keys {
		if reader.Verify(key, signature) {
			return nil
		}
	}
	return &solstice.RefusedError{
		Reason: fmt.Sprintf("none of SOLSTICE_TRUSTED_KEYS has signed %s as it is; it was deleted", shown(address)),
		Hint:   "find out who has: the signature lies beside it, as .minisig",
	}
}

// beside is the address of a file's signature.
func beside(u url.URL) url.URL {
	u.Path += ".minisig"
	if u.RawPath != "" {
		u.RawPath += ".minisig"
	}
	return u
}
