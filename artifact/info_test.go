package artifact

import (
	"fmt"
	"strings"
	"testing"
)

// checkErr wants an error that says this, or none.
func checkErr(t *testing.T, err error, want string) {
	t.Helper()
	if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
		t.Fatalf("error %v, want %q", err, want)
	}
}

var (
	sum32  = strings.Repeat("0a", 16)
	sum40  = strings.Repeat("0b", 20)
	sum64  = strings.Repeat("0c", 32)
	sum128 = strings.Repeat("0d", 64)
)

func TestParseInfo(t *testing.T) {
	for _, tt := range []struct{ name, text, want, wantErr string }{
		{"binaries", ` {"binaries":{"linux/amd64":"https://x/a"}} `, "map[linux/amd64:https://x/a] ", ""},
		{"more-than-binaries", `{"binaries":{"any":"https://x"},"docs":{}}`, "map[any:https://x] ", ""},
		{"reference", "https://x/info.json?checksum=sha256:" + sum64, "map[] https://x/info.json?checksum=sha256:" + sum64, ""},
		{"path", "/srv/info.json", "map[] /srv/info.json", ""},
		{"empty", " \n", "", "names no binary"},
		{"words", "upgrade to v2", "", "neither JSON with binaries nor an address"},
		{"cut-off", `{"binaries":{"lin`, "", "no JSON with binaries"},
		{"no-binaries", `{}`, "", "names no binaries"},
		{"numbers", `{"binaries":{"any":1}}`, "", "no JSON with binaries"},
		{"endless", "/" + strings.Repeat("x", maxDocument), "", "larger than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			info, err := ParseInfo(tt.text)
			checkErr(t, err, tt.wantErr)
			if got := fmt.Sprintf("%v %s", info.Binaries, info.Reference); err == nil && got != tt.want {
				t.Errorf("ParseInfo = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestInfoFor(t *testing.T) {
	info := Info{Binaries: map[string]string{"linux/amd64": "https://x/amd64", "any": "https://x/any"}}
	for _, tt := range []struct {
		name, goos, goarch string
		info               Info
		want, wantErr      string
	}{
		{"own", "linux", "amd64", info, "https://x/amd64", ""},
		{"any", "linux", "arm64", info, "https://x/any", ""},
		{"only-others", "linux", "arm64", Info{Binaries: map[string]string{"linux/amd64": "https://x"}}, "", `no binary for linux/arm64: there are "linux/amd64"`},
		{"nothing", "linux", "arm64", Info{}, "", "there are none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			source, err := tt.info.For(tt.goos, tt.goarch)
			checkErr(t, err, tt.wantErr)
			if got := source.URL.String(); got != tt.want {
				t.Errorf("For = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestParseSource(t *testing.T) {
	for _, tt := range []struct{ name, address, want, wantErr string }{
		{"plain", "https://x/gaiad", "https://x/gaiad  ", ""},
		{"checksum", "https://x/gaiad?checksum=sha256:" + sum64, "https://x/gaiad sha256:" + sum64 + " ", ""},
		{"others-stay", "https://x/g?token=1&checksum=" + sum32, "https://x/g?token=1 md5:" + sum32 + " ", ""},
		{"by-name", "https://x/gaiad.TAR.gz", "https://x/gaiad.TAR.gz  tar.gz", ""},
		{"short-name", "https://x/gaiad.tzst", "https://x/gaiad.tzst  tar.zst", ""},
		{"said", "https://x/latest?archive=zip", "https://x/latest  zip", ""},
		{"said-no", "https://x/gaiad.gz?archive=false", "https://x/gaiad.gz  ", ""},
		{"path", "/srv/gaiad", "file:///srv/gaiad  ", ""},
		{"file", "file:///srv/gaiad.xz", "file:///srv/gaiad.xz  xz", ""},
		{"unknown-archive", "https://x/latest?archive=rar", "", "no kind of archive"},
		{"git", "git::https://x/gaia", "", "no address that is fetched"},
		{"s3", "s3::https://s3/gaiad", "", "no address that is fetched"},
		{"relative", "gaiad", "", "no address that is fetched"},
		{"file-elsewhere", "file://host/gaiad", "", "no address that is fetched"},
		{"relative-file", "file:gaiad", "", "no address that is fetched"},
		{"no-host", "https:///gaiad", "", "no address that is fetched"},
		{"not-an-address", "https://x/%zz", "", "not an address"},
		{"bad-checksum", "https://u:secret@x/g?checksum=sha256:00", "", "wrong length"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := ParseSource(tt.address)
			checkErr(t, err, tt.wantErr)
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("a password is told: %v", err)
			}
			if got := fmt.Sprintf("%s %s %s", s.URL.String(), s.Checksum, s.Kind); err == nil && got != tt.want {
				t.Errorf("ParseSource = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestParseChecksum(t *testing.T) {
	for _, tt := range []struct{ name, text, want, wantErr string }{
		{"none", "", "", ""},
		{"md5", sum32, "md5:" + sum32, ""},
		{"sha1", sum40, "sha1:" + sum40, ""},
		{"sha256", strings.ToUpper(sum64), "sha256:" + sum64, ""},
		{"sha512", "sha512:" + sum128, "sha512:" + sum128, ""},
		{"file", "file:https://x/SHA256SUMS", "file:https://x/SHA256SUMS", ""},
		{"file-path", "file:/srv/SHA256SUMS", "file:file:///srv/SHA256SUMS", ""},
		{"file-by-http", "file:http://x/SHA256SUMS", "", "needs https"},
		{"kind-of-another-length", "sha256:" + sum40, "", "wrong length"},
		{"unknown", "crc32:00000000", "", "not known"},
		{"odd", "abc", "", "not in hex"},
		{"short", "ab", "", "wrong length"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sum, err := ParseChecksum(tt.text)
			checkErr(t, err, tt.wantErr)
			if got := sum.String(); got != tt.want {
				t.Errorf("ParseChecksum = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFindSum(t *testing.T) {
	other := strings.Repeat("ee", 32)
	for _, tt := range []struct{ name, content, want, wantErr string }{
		{"text", other + "  other\n" + sum64 + "  gaiad\n", "sha256:" + sum64, ""},
		{"binary", sum64 + " *gaiad", "sha256:" + sum64, ""},
		{"tab", other + "\tother\n" + sum64 + "\tgaiad\n", "sha256:" + sum64, ""},
		{"folder", sum64 + "  ./build/gaiad", "sha256:" + sum64, ""},
		{"tag", "SHA256 (gaiad) = " + sum64, "sha256:" + sum64, ""},
		{"strongest", sum32 + "  gaiad\n" + sum128 + "  gaiad\n" + sum64 + "  gaiad\n", "sha512:" + sum128, ""},
		{"alone", "\n" + sum64 + "\n", "sha256:" + sum64, ""},
		{"other-files", other + "  gaiad-arm64\n", "", "no checksum of"},
		{"two-that-differ", sum64 + "  gaiad\n" + other + "  gaiad\n", "", "that differ"},
		{"many-alone", sum64 + "\n" + other + "\n", "", "no checksum of"},
		{"page", "<html>", "", "no checksum of"},
		{"endless-line", strings.Repeat("a", 1<<17), "", "can't be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			sum, err := FindSum([]byte(tt.content), "gaiad")
			checkErr(t, err, tt.wantErr)
			if got := sum.String(); got != tt.want {
				t.Errorf("FindSum = %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzParseInfo(f *testing.F) {
	f.Add(`{"binaries":{"linux/amd64":"https://x/a?checksum=sha256:00&archive=zip"}}`)
	f.Add("https://x/info.json")
	f.Fuzz(func(t *testing.T, text string) {
		info, err := ParseInfo(text)
		if err != nil {
			return
		}
		_, _ = ParseSource(info.Reference)
		if source, err := info.For("linux", "amd64"); err == nil {
			if scheme := source.URL.Scheme; scheme != "https" && scheme != "http" && scheme != "file" {
				t.Errorf("a source by %q", scheme)
			}
		}
	})
}

func FuzzFindSum(f *testing.F) {
	f.Add([]byte("SHA256 (gaiad) = "+sum64+"\n"+sum64+" *gaiad\n"), "gaiad")
	f.Fuzz(func(t *testing.T, content []byte, name string) {
		if sum, err := FindSum(content, name); err == nil && (sum.Kind == "" || sum.File != "") {
			t.Errorf("a checksum that is none: %+v", sum)
		}
	})
}
