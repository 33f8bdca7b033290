package artifact

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
)

// TestSignature: with trusted keys nothing is taken that none of them has signed, whatever its checksum says.
func TestSignature(t *testing.T) {
	trusted, key, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	other, otherKey, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	content := script(10)
	sums := []byte(sum(content) + "  noded\n")
	sign := func(key minisign.PrivateKey, content []byte) []byte {
		r := minisign.NewReader(bytes.NewReader(content))
		if _, err := new(bytes.Buffer).ReadFrom(r); err != nil {
			t.Fatal(err)
		}
		return r.Sign(key)
	}
	for _, tt := range []struct {
		name    string
		keys    []minisign.PublicKey
		files   map[string][]byte
		wantErr string
	}{
		{"no-keys", nil, nil, ""},
		{"signed", []minisign.PublicKey{other, trusted}, map[string][]byte{"/noded.minisig": sign(key, content)}, ""},
		{"sums-signed", []minisign.PublicKey{trusted}, map[string][]byte{"/sums.minisig": sign(key, sums)}, ""},
		{"not-signed", []minisign.PublicKey{trusted}, nil, "has no signature, and SOLSTICE_TRUSTED_KEYS demands one"},
		{"by-another", []minisign.PublicKey{trusted}, map[string][]byte{"/noded.minisig": sign(otherKey, content)}, "none of SOLSTICE_TRUSTED_KEYS has signed"},
		{"of-something-else", []minisign.PublicKey{trusted}, map[string][]byte{"/noded.minisig": sign(key, sums)}, "none of SOLSTICE_TRUSTED_KEYS has signed"},
		{"other-sums", []minisign.PublicKey{trusted}, map[string][]byte{"/sums.minisig": sign(key, content)}, "none of SOLSTICE_TRUSTED_KEYS has signed"},
		{"garbage", []minisign.PublicKey{trusted}, map[string][]byte{"/noded.minisig": []byte("x")}, "none of SOLSTICE_TRUSTED_KEYS has signed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				file, ok := map[string][]byte{"/noded": content, "/sums": sums}[r.URL.Path]
				if !ok {
					file, ok = tt.files[r.URL.Path]
				}
				if !ok {
					http.NotFound(w, r)
					return
				}
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file))
			}))
			defer server.Close()
			f := fetcher()
			f.Transport, f.Keys = server.Client().Transport, tt.keys
			folder := t.TempDir()
			_, err := get(t, f, server.URL+"/noded?checksum=file:"+server.URL+"/sums", folder)
			checkErr(t, err, tt.wantErr)
			if entries, _ := os.ReadDir(folder); err != nil && len(entries) != 0 {
				t.Errorf("left behind: %v", entries)
			}
		})
	}
}

func TestParseKeys(t *testing.T) {
	public, _, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(path, []byte("untrusted comment: x\n"+public.String()+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	keys, err := ParseKeys(public.String() + ", " + path)
	if err != nil || len(keys) != 2 || !keys[0].Equal(public) || !keys[1].Equal(public) {
		t.Errorf("%v, %v", keys, err)
	}
	if keys, err := ParseKeys(""); keys != nil || err != nil {
		t.Errorf("none: %v, %v", keys, err)
	}
	_, err = ParseKeys("RWQ")
	checkErr(t, err, "is no public key of minisign")
}

// FuzzSignature: whatever is said to be a key or a signature, nothing is signed that was not.
func FuzzSignature(f *testing.F) {
	trusted, key, err := minisign.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(trusted.String(), minisign.Sign(key, []byte("another")))
	f.Fuzz(func(t *testing.T, keys string, signature []byte) {
		for _, one := range strings.Fields(keys) {
			if filepath.IsAbs(one) {
				t.Skip("the path of a file")
			}
		}
		_, _ = ParseKeys(keys)
		reader := minisign.NewReader(strings.NewReader("this"))
		if _, err := io.Copy(io.Discard, reader); err != nil {
			t.Fatal(err)
		}
		if reader.Verify(trusted, signature) {
			t.Errorf("signed by %q", signature)
		}
	})
}
