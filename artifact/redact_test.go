package artifact

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestRedact: secrets go, and what helps to find a fault stays.
func TestRedact(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"no-address", "a:b@c?token=1", "a:b@c?token=1"},
		{"plain", "get https://x/v2/noded: the server says 404", "get https://x/v2/noded: the server says 404"},
		{"listens", "tcp://0.0.0.0:26657", "tcp://0.0.0.0:26657"},
		{"password", "https://user:pass@x/noded", "https://xxxxx@x/noded"},
		{"token-as-user", "https://token@x/noded", "https://xxxxx@x/noded"},
		{"at-sign-in-password", "https://u:p@ss@x/noded", "https://xxxxx@x/noded"},
		{"signed", "https://x/noded?X-Amz-Credential=id&X-Amz-Signature=sig", "https://x/noded?X-Amz-Credential=xxxxx&X-Amz-Signature=xxxxx"},
		{"bare-query", "https://x/noded?token", "https://x/noded?xxxxx"},
		{"fragment", "https://x/noded#token", "https://x/noded#xxxxx"},
		{"ours", "https://x/n?archive=zip&checksum=sha256:00&token=t", "https://x/n?archive=zip&checksum=sha256:00&token=xxxxx"},
		{"sums-file", "https://x/n?checksum=file:https://u:p@y/sums?token=t", "https://x/n?checksum=file:https://xxxxx@y/sums?token=xxxxx"},
		{"sums-file-escaped", "https://x/n?checksum=file%3Ahttps%3A%2F%2Fu%3Ap%40y%2Fsums", "https://x/n?checksum=file:https://xxxxx@y/sums"},
		{"go-getter", "git::https://u:p@x/y", "git::https://xxxxx@x/y"},
		{"quoted", `parse "http://u:p@x/?t=1": no`, `parse "http://xxxxx@x/?t=xxxxx": no`},
		{"in-json", `{"any":"https://u:p@x/n?a=1\u0026t=2"}`, `{"any":"https://xxxxx@x/n?a=xxxxx"}`},
		{"two", "https://u:p@x and http://v:q@y.", "https://xxxxx@x and http://xxxxx@y."},
		{"sentence", "(see https://x/n?t=1).", "(see https://x/n?t=xxxxx)."},
		{"no-host-can-be-told", "http://u:p/w@x/n", "http://xxxxx"},
		{"bad-escape", "http://u:p@x/%zz?t=1", "http://xxxxx"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Redact(tt.text); got != tt.want {
				t.Errorf("Redact(%q) = %q, want %q", tt.text, got, tt.want)
			}
		})
	}
}

// TestErrorsHaveNoSecrets: whatever is wrong with an address, or on the way to it.
func TestErrorsHaveNoSecrets(t *testing.T) {
	const login, token = "us3r:p4ss@", "t0ken"
	away := func(*http.Request) (*url.URL, error) {
		return nil, fmt.Errorf("invalid proxy address %q", "http://"+login+"proxy:port")
	}
	sum := "&checksum=" + sum64
	for _, tt := range []struct {
		name, address, wantErr string
		f                      Fetcher
	}{
		{"scheme", "ftp://" + login + "x/n?token=" + token, "no address that is fetched", Fetcher{}},
		{"host", "https://" + login + "x:port/n?token=" + token, "is not an address", Fetcher{}},
		{"checksum", "https://" + login + "x/n?token=" + token + "&checksum=zz", "not in hex", Fetcher{}},
		{"checksum-is-an-address", "https://x/n?checksum=https://" + login + "x/", "not in hex", Fetcher{}},
		{"sums-by-http", "https://x/n?checksum=file:http://" + login + "x/s", "needs https", Fetcher{}},
		{"archive", "https://" + login + "x/n?archive=rar&token=" + token, "no kind of archive", Fetcher{}},
		{"no-checksum", "http://" + login + "x/n?token=" + token, "vouches for nothing", Fetcher{}},
		{"proxy", "http://" + login + "x/n?token=" + token + sum, "invalid proxy address", Fetcher{Transport: &http.Transport{Proxy: away}}},
		{"nobody-there", "http://" + login + "127.0.0.1:1/n?token=" + token + sum, "refused", Fetcher{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.f.Pause = fetcher().Pause
			_, err := get(t, tt.f, tt.address, t.TempDir())
			checkErr(t, err, tt.wantErr)
			for _, secret := range []string{"us3r", "p4ss", token} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%q is told: %v", secret, err)
				}
			}
		})
	}
	if _, err := ParseInfo("see ftp://" + login + "x"); err == nil || strings.Contains(err.Error(), "p4ss") {
		t.Errorf("ParseInfo: %v", err)
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("https://u:p@x/n?checksum=file:https://u:p@y/sums?token=t&archive=zip#f).")
	f.Fuzz(func(t *testing.T, text string) {
		once := Redact(text)
		if twice := Redact(once); twice != once {
			t.Errorf("%q, then %q, then %q", text, once, twice)
		}
	})
}
