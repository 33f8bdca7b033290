package artifact

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// script is a binary, as large as somebody wants it.
func script(size int) []byte {
	return append([]byte("#!/bin/sh\n"), bytes.Repeat([]byte("# a line\n"), max(size/9, 1))...)
}

func sum(content []byte) string {
	s := sha256.Sum256(content)
	return hex.EncodeToString(s[:])
}

func fetcher() Fetcher { return Fetcher{Pause: func(int) time.Duration { return time.Millisecond }} }

// get gets what an address names, and returns its content.
func get(t *testing.T, f Fetcher, address, folder string) (string, error) {
	t.Helper()
	got, err := f.Get(t.Context(), Info{Binaries: map[string]string{runtime.GOOS + "/" + runtime.GOARCH: address}}, "noded", folder)
	if err != nil {
		return "", err
	}
	content, err := os.ReadFile(got.Path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content), nil
}

// flaky serves content, and does to the n-th request what fault says.
func flaky(t *testing.T, content []byte, fault func(n int, w http.ResponseWriter, r *http.Request) (done bool)) (url string, requests func() []string) {
	var mu sync.Mutex // a request that was given up may still be at work when the next one comes
	var ranges []string
	requests = func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(ranges)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		ranges = append(ranges, r.Header.Get("Range"))
		n := len(ranges)
		mu.Unlock()
		w.Header().Set("ETag", `"one"`)
		if fault != nil && fault(n, w, r) {
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}))
	t.Cleanup(server.Close)
	return server.URL + "/noded?checksum=sha256:" + sum(content), requests
}

// cut sends the first bytes of a whole answer, and breaks off.
func cut(w http.ResponseWriter, content []byte, at int) {
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	w.Write(content[:at])
	panic(http.ErrAbortHandler)
}

func TestGet(t *testing.T) {
	content, other := script(1<<20), script(2<<20)
	for _, tt := range []struct {
		name     string
		fault    func(n int, w http.ResponseWriter, r *http.Request) bool
		requests string // the ranges that are asked for
		wantErr  string
	}{
		{"at-once", nil, "[]", ""},
		{"breaks-off", func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				cut(w, content, 300_000)
			}
			return false
		}, "[ bytes=300000-]", ""},
		{"changes-meanwhile", func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				w.Header().Set("ETag", `"old"`)
				cut(w, other, 300_000)
			}
			return false
		}, "[ bytes=300000-]", ""},
		{"no-validator", func(n int, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Del("ETag")
			if n == 1 {
				cut(w, content, 300_000)
			}
			return false
		}, "[ ]", ""},
		{"busy", func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n < 4 {
				w.WriteHeader(503)
			}
			return n < 4
		}, "[   ]", ""},
		{"always-busy", func(_ int, w http.ResponseWriter, r *http.Request) bool { w.WriteHeader(503); return true }, "[     ]", "the server says 503 Service Unavailable; tried 6 times"},
		{"not-there", func(_ int, w http.ResponseWriter, r *http.Request) bool { http.NotFound(w, r); return true }, "[]", "the server says 404 Not Found"},
		{"another", func(_ int, w http.ResponseWriter, r *http.Request) bool { w.Write(other); return true }, "[]", "is not what it should be: its checksum is sha256:" + sum(other)},
		{"cut-and-whole", func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				w.Write(content[:1000]) // says nothing of its length: taken for the whole
			}
			return n == 1
		}, "[]", "is not what it should be"},
		{"huge", func(_ int, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Length", fmt.Sprint(int64(5)<<30))
			w.Write(content)
			return true
		}, "[]", "are the limit"},
		{"to-a-file", func(_ int, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
			return true
		}, "[]", "redirected to file:///etc/passwd"},
		{"round-and-round", func(_ int, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "/x", http.StatusFound)
			return true
		}, "[         ]", "redirected again and again"},
		{"changes-without-etag", func(n int, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Del("ETag")
			w.Header().Set("Last-Modified", fmt.Sprintf("Mon, 02 Jan 2006 15:04:%02d GMT", n))
			if n == 1 {
				cut(w, other, 300_000)
			}
			return false
		}, "[ bytes=300000-]", ""},
		{"same-without-etag", func(n int, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Del("ETag")
			w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
			switch n {
			case 1:
				cut(w, content, 300_000)
			case 2: // without Last-Modified, as an answer to If-Range may be
				w.Header().Del("Last-Modified")
				w.Header().Set("Content-Range", fmt.Sprintf("bytes 300000-%d/%d", len(content)-1, len(content)))
				w.Header().Set("Content-Length", fmt.Sprint(len(content)-300_000))
				w.WriteHeader(http.StatusPartialContent)
				w.Write(content[300_000:600_000])
				panic(http.ErrAbortHandler)
			}
			http.ServeContent(w, r, "", time.Date(2006, 1, 2, 15, 4, 5, 0, time.UTC), bytes.NewReader(content))
			return true
		}, "[ bytes=300000- bytes=600000-]", ""},
		{"goes-on-with-another", func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				w.Header().Set("ETag", `"old"`)
				cut(w, other, 300_000)
			}
			r.Header.Del("If-Range") // nobody looks at it
			return false
		}, "[ bytes=300000- ]", ""},
		{"says-too-much", func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				w.Header().Set("Content-Length", fmt.Sprint(len(content)+1))
				w.Write(content)
				panic(http.ErrAbortHandler)
			}
			return false
		}, fmt.Sprintf("[ bytes=%d-]", len(content)), ""},
		{"always-says-too-much", func(_ int, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Del("ETag")
			w.Header().Set("Content-Length", fmt.Sprint(len(content)+1))
			w.Write(content)
			panic(http.ErrAbortHandler)
		}, "[     ]", "unexpected EOF; tried 6 times"},
		{"says-too-little", func(_ int, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Length", "1000")
			w.Write(content[:1000])
			return true
		}, "[]", "is not what it should be"},
		{"too-many-requests", func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				w.WriteHeader(http.StatusTooManyRequests)
			}
			return n == 1
		}, "[ ]", ""},
		{"endless-headers", func(_ int, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("X", strings.Repeat("x", 2*maxHeader))
			return false
		}, "[     ]", "response headers exceeded 262144 bytes; aborted; tried 6 times"},
		{"wrong-range", func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 1 {
				cut(w, content, 300_000)
			}
			if n == 2 {
				w.Header().Set("Content-Range", "bytes 7-9/10")
				w.WriteHeader(206)
			}
			return n == 2
		}, "[ bytes=300000- ]", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address, requests := flaky(t, content, tt.fault)
			folder := t.TempDir()
			got, err := get(t, fetcher(), address, folder)
			checkErr(t, err, tt.wantErr)
			if err == nil && got != string(content) {
				t.Errorf("got %d bytes, want %d", len(got), len(content))
			}
			if asked := fmt.Sprint(requests()); asked != tt.requests {
				t.Errorf("asked for %q, want %q", asked, tt.requests)
			}
			if err != nil && strings.Contains(tt.wantErr, "should be") {
				if entries, _ := os.ReadDir(folder); len(entries) != 0 {
					t.Errorf("left behind: %v", entries)
				}
			}
		})
	}
}

// TestSilentServer: one that sends nothing more has broken off; one that never sends anything is an error.
func TestSilentServer(t *testing.T) {
	content := script(1 << 20)
	f := fetcher()
	f.Patience = time.Second
	address, requests := flaky(t, content, func(n int, w http.ResponseWriter, r *http.Request) bool {
		if n == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			w.Write(content[:500_000])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
		return n == 1
	})
	got, err := get(t, f, address, t.TempDir())
	checkErr(t, err, "")
	if got != string(content) || fmt.Sprint(requests()) != "[ bytes=500000-]" {
		t.Errorf("got %d bytes, asked for %q", len(got), requests())
	}
	f.Patience = 10 * time.Millisecond
	address, _ = flaky(t, content, func(_ int, w http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return true
	})
	_, err = get(t, f, address, t.TempDir())
	checkErr(t, err, "the server sent nothing for 10ms; tried 6 times")
}

// TestSlowServer: one that sends a byte now and then could keep us waiting for ever.
func TestSlowServer(t *testing.T) {
	f := fetcher()
	f.SlowSpan = 20 * time.Millisecond
	address, requests := flaky(t, script(1<<20), func(_ int, w http.ResponseWriter, r *http.Request) bool {
		for r.Context().Err() == nil {
			w.Write([]byte("#"))
			w.(http.Flusher).Flush()
			time.Sleep(time.Millisecond)
		}
		return true
	})
	_, err := get(t, f, address, t.TempDir())
	checkErr(t, err, "the server sends less than 16 KiB/s; tried 6 times")
	if len(requests()) != tries {
		t.Errorf("asked %d times", len(requests()))
	}
}

// TestGetGoesOn: what another process has left is gone on with.
func TestGetGoesOn(t *testing.T) {
	content := script(1 << 20)
	ctx, stop := context.WithCancel(t.Context())
	address, requests := flaky(t, content, func(n int, w http.ResponseWriter, r *http.Request) bool {
		if n == 1 {
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			w.Write(content[:500_000])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
		return n == 1
	})
	folder := t.TempDir()
	f := fetcher()
	f.Progress = func(done, _ int64) {
		if done == 500_000 {
			stop()
		}
	}
	if _, err := f.Get(ctx, Info{Binaries: map[string]string{"any": address}}, "noded", folder); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	got, err := get(t, f, address, folder)
	checkErr(t, err, "")
	if got != string(content) || fmt.Sprint(requests()) != "[ bytes=500000-]" {
		t.Errorf("got %d bytes, asked for %q", len(got), requests())
	}
}

func TestChecksums(t *testing.T) {
	dir := t.TempDir()
	content := script(10)
	path := filepath.Join(dir, "noded")
	for name, text := range map[string]string{"noded": string(content), "sums": sum(content) + "  noded\n", "wrong": sum(nil) + "  noded\n", "others": sum(nil) + "  x\n" + sum(nil) + "  y\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ name, address, wantErr string }{
		{"sha256", path + "?checksum=sha256:" + sum(content), ""},
		{"bare", "file://" + path + "?checksum=" + sum(content), ""},
		{"sums-file", path + "?checksum=file:" + dir + "/sums", ""},
		{"none", path, "has no checksum, and file vouches for nothing"},
		{"none-by-http", "http://127.0.0.1:1/noded", "has no checksum, and http vouches for nothing"},
		{"another", path + "?checksum=" + sum(nil), "is not what it should be"},
		{"another-in-sums-file", path + "?checksum=file:" + dir + "/wrong", "is not what it should be"},
		{"not-in-sums-file", path + "?checksum=file:" + dir + "/others", "has no checksum of"},
		{"no-sums-file", path + "?checksum=file:" + dir + "/no", "no such file"},
		{"no-regular-file", dir + "?checksum=" + sum(nil), "is not a regular file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := get(t, fetcher(), tt.address, t.TempDir())
			checkErr(t, err, tt.wantErr)
			if err == nil && got != string(content) {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestHTTPS: a certificate vouches, unless a checksum is demanded; and nothing leads from there to where none does.
func TestHTTPS(t *testing.T) {
	content := script(10)
	up := ""
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/up" {
			http.Redirect(w, r, up, http.StatusFound)
			return
		}
		w.Write(content)
	}))
	defer plain.Close()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/down" {
			http.Redirect(w, r, plain.URL, http.StatusFound)
			return
		}
		w.Write(content)
	}))
	defer server.Close()
	f := fetcher()
	f.Transport = server.Client().Transport
	_, err := get(t, f, server.URL+"/noded", t.TempDir())
	checkErr(t, err, "")
	_, err = get(t, f, server.URL+"/down", t.TempDir())
	checkErr(t, err, "redirected from https to http://")
	up = server.URL + "/down"
	_, err = get(t, f, plain.URL+"/up?checksum="+sum(content), t.TempDir())
	checkErr(t, err, "redirected from https to http://")
	up = server.URL + "/noded"
	_, err = get(t, f, plain.URL+"/up?checksum="+sum(content), t.TempDir())
	checkErr(t, err, "")
	f.MustHaveChecksum = true
	_, err = get(t, f, server.URL+"/noded", t.TempDir())
	checkErr(t, err, "DAEMON_DOWNLOAD_MUST_HAVE_CHECKSUM is true")
}

func TestResolve(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	document := `{"binaries":{"any":"https://x/noded"}}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/endless" {
			io.Copy(w, endless{})
		}
		io.WriteString(w, document)
	}))
	defer server.Close()
	path := filepath.Join(t.TempDir(), "info.json")
	if err := os.WriteFile(path, []byte(document), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, info, wantErr string }{
		{"itself", document, ""},
		{"path", path, ""},
		{"with-checksum", server.URL + "?checksum=" + sum([]byte(document)), ""},
		{"another", server.URL + "?checksum=" + sum(nil), "is not what it should be"},
		{"without-checksum", server.URL, "has no checksum"},
		{"endless", server.URL + "/endless?checksum=" + sum(nil), "more than 1048576 bytes"},
		{"no-document", "/no/such", "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			info, err := fetcher().Resolve(t.Context(), tt.info)
			checkErr(t, err, tt.wantErr)
			if err == nil && info.Binaries["any"] != "https://x/noded" {
				t.Errorf("%+v", info)
			}
		})
	}
	if entries, err := os.ReadDir(temp); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// entry is a file of an archive.
type entry struct {
	name, content string
	kind          byte
}

func tarOf(t testing.TB, entries ...entry) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: 0o4777, Linkname: "/etc/passwd"}
		if e.kind == 0 {
			header.Typeflag, header.Size = tar.TypeReg, int64(len(e.content))
		}
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, e.content)
	}
	w.Close()
	return out.Bytes()
}

func zipOf(t testing.TB, entries ...entry) []byte {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, e := range entries {
		header := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		if e.content == "" {
			header.Method = zip.Store
		}
		f, err := w.CreateHeader(header)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(f, e.content)
	}
	w.Close()
	return out.Bytes()
}

func packed(t testing.TB, content []byte, open func(io.Writer) (io.WriteCloser, error)) []byte {
	var out bytes.Buffer
	w, err := open(&out)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(content)
	w.Close()
	return out.Bytes()
}

func gz(t testing.TB, content []byte) []byte {
	return packed(t, content, func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
}

func xzOf(t testing.TB, content []byte, dictionary int) []byte {
	return packed(t, content, func(w io.Writer) (io.WriteCloser, error) { return xz.WriterConfig{DictCap: dictionary}.NewWriter(w) })
}

func zstOf(t testing.TB, content []byte) []byte {
	return packed(t, content, func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })
}

func TestUnpack(t *testing.T) {
	binary := string(script(10))
	plain := tarOf(t, entry{name: "README"}, entry{name: "release/", kind: tar.TypeDir}, entry{name: "release/bin/noded", content: binary}, entry{name: "release/bin/libwasmvm.x86_64.so", content: "library"})
	many := make([]entry, maxEntries+1)
	for i := range many {
		many[i] = entry{name: fmt.Sprint(i, "/"), kind: tar.TypeDir}
	}
	var listed []entry
	for i := range maxEntries - 1 {
		listed = append(listed, entry{name: fmt.Sprintf("%0500d", i)})
	}
	endlessHeaders := bytes.Repeat(paxHeader(t), (freeBytes+2<<20)/512)
	wide := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x90}, make([]byte, 10)...) // zstd, with a window of 256 MiB
	for _, tt := range []struct {
		name, kind string
		archive    []byte
		libraries  int
		wantErr    string
	}{
		{"tar", "tar", plain, 1, ""},
		{"tar.gz", "tar.gz", gz(t, plain), 1, ""},
		{"tar.xz", "tar.xz", xzOf(t, plain, 8<<20), 1, ""},
		{"tar.zst", "tar.zst", zstOf(t, plain), 1, ""},
		{"zip", "zip", zipOf(t, entry{name: "noded", content: binary}, entry{name: "x/noded", content: "other"}), 0, ""},
		{"gz", "gz", gz(t, []byte(binary)), 0, ""},
		{"xz", "xz", xzOf(t, []byte(binary), 1<<20), 0, ""},
		{"zst", "zst", zstOf(t, []byte(binary)), 0, ""},
		{"only-file", "tar", tarOf(t, entry{name: "noded-v2-linux-amd64", content: binary}), 0, ""},
		{"none-of-the-name", "tar", tarOf(t, entry{name: "a", content: binary}, entry{name: "b", content: binary}), 0, "the archive has 2 files, and none of them is called noded"},
		{"two-of-the-name", "tar", tarOf(t, entry{name: "a/noded", content: binary}, entry{name: "b/noded", content: binary}), 0, "2 files called noded"},
		{"no-program", "tar", tarOf(t, entry{name: "noded", content: "text"}), 0, "neither a program"},
		{"nothing", "tar", tarOf(t), 0, "0 files"},
		{"climbs", "tar", tarOf(t, entry{name: "../noded", content: binary}), 0, `"../noded" leads out`},
		{"climbs-later", "tar", tarOf(t, entry{name: "a/../../noded", content: binary}), 0, "leads out"},
		{"climbs-in-zip", "zip", zipOf(t, entry{name: "../noded", content: binary}), 0, "leads out"},
		{"absolute", "tar", tarOf(t, entry{name: "/etc/noded", content: binary}), 0, "leads out"},
		{"backslash", "tar", tarOf(t, entry{name: `..\noded`, content: binary}), 0, "leads out"},
		{"symlink", "tar", tarOf(t, entry{name: "noded", kind: tar.TypeSymlink}), 0, "links and devices"},
		{"hard-link", "tar", tarOf(t, entry{name: "noded", kind: tar.TypeLink}), 0, "links and devices"},
		{"device", "tar", tarOf(t, entry{name: "noded", kind: tar.TypeChar}), 0, "links and devices"},
		{"twice", "tar", tarOf(t, entry{name: "noded", content: binary}, entry{name: "noded", content: binary}), 0, "file exists"},
		{"many", "tar.gz", gz(t, tarOf(t, many...)), 0, "more than 10000 entries"},
		{"endless-headers", "tar", endlessHeaders, 0, "it becomes too large"},
		{"endless-list", "zip", zipOf(t, listed...), 0, "what it lists is too large"},
		{"bomb", "zst", bytes.Repeat(zstOf(t, make([]byte, 1<<20)), 80), 0, "it becomes too large"},
		{"cut-off", "tar.gz", gz(t, plain)[:100], 0, "unexpected EOF"},
		{"no-gz", "gz", []byte(binary), 0, "invalid header"},
		{"xz-with-much-memory", "xz", xzFile(t, handmade{dictionary: 30, content: 65 << 20}), 0, "more than 64 MiB of memory"},
		{"zst-with-much-memory", "zst", wide, 0, "more than 64 MiB of memory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, folder := t.TempDir(), t.TempDir()
			path := filepath.Join(dir, "a")
			if err := os.WriteFile(path, tt.archive, 0o644); err != nil {
				t.Fatal(err)
			}
			f := fetcher()
			f.MaxUnpacked = 1 << 20
			got, err := f.Get(t.Context(), Info{Binaries: map[string]string{"any": path + "?archive=" + tt.kind + "&checksum=" + sum(tt.archive)}}, "noded", folder)
			checkErr(t, err, tt.wantErr)
			if err != nil {
				if entries, _ := os.ReadDir(folder); len(entries) != 0 {
					t.Errorf("left behind: %v", entries)
				}
				if entries, _ := os.ReadDir(filepath.Dir(folder)); len(entries) > 2 {
					t.Errorf("got out: %v", entries)
				}
				return
			}
			if content, err := os.ReadFile(got.Path); err != nil || string(content) != binary || len(got.Libraries) != tt.libraries {
				t.Errorf("%+v: %q, %v", got, content, err)
			}
		})
	}
}

// paxHeader is a header of a tar for the one that follows.
func paxHeader(t testing.TB) []byte {
	block := tarOf(t, entry{name: "pax", kind: tar.TypeDir})[:512]
	block[156] = tar.TypeXHeader
	copy(block[148:156], "        ") // its checksum is of itself with these
	sum := 0
	for _, b := range block {
		sum += int(b)
	}
	copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return block
}

// begun is done as soon as this path is there.
type begun struct {
	context.Context
	path string
}

func (c begun) Err() error {
	if _, err := os.Lstat(c.path); err == nil {
		return context.Canceled
	}
	return nil
}

// TestStopUnpacking: who is told to stop in the middle stops, and what was fetched is good for the next time.
func TestStopUnpacking(t *testing.T) {
	content := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(content) // no packer makes it smaller
	archive := gz(t, tarOf(t, entry{name: "noded", content: "#!/bin/sh\n" + string(content)}))
	path, folder := filepath.Join(t.TempDir(), "a.tar.gz"), t.TempDir()
	if err := os.WriteFile(path, archive, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx := begun{context.Background(), filepath.Join(folder, unpackedDir, "noded")}
	if _, err := fetcher().Get(ctx, Info{Binaries: map[string]string{"any": path + "?checksum=" + sum(archive)}}, "noded", folder); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	entries, err := os.ReadDir(folder)
	if err != nil || len(entries) != 1 || entries[0].Name() != fetchedFile {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func FuzzUnpack(f *testing.F) {
	for _, archive := range [][]byte{tarOf(f, entry{name: "noded", content: "x"}), zipOf(f, entry{name: "noded", content: "x"}), xzOf(f, []byte("x"), 1<<16), zstOf(f, []byte("x")), gz(f, []byte("x"))} {
		for kind := range kinds {
			f.Add(uint8(kind), archive)
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, archive []byte) {
		dir := t.TempDir()
		into := filepath.Join(dir, "into")
		path := filepath.Join(dir, "archive")
		if os.Mkdir(into, 0o700) != nil || os.WriteFile(path, archive, 0o600) != nil {
			t.Skip()
		}
		files, err := unpack(t.Context(), kinds[int(kind)%len(kinds)].kind, path, into, 1<<20)
		if err != nil {
			return
		}
		for _, file := range files {
			if info, err := os.Lstat(filepath.Join(into, file)); err != nil || !info.Mode().IsRegular() {
				t.Errorf("%q: %v", file, err)
			}
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 2 {
			t.Errorf("got out: %v", entries)
		}
	})
}
