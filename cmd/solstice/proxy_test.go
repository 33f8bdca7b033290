package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// forwardProxy is a proxy that knows one host more than the rest of the world, and what it was asked for.
type forwardProxy struct {
	plain, secure string // where that host is by http and by https

	mu    sync.Mutex
	asked []string
}

func (p *forwardProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.asked = append(p.asked, fmt.Sprintf("%s %s %s", r.Method, r.RequestURI, r.Header.Get("Proxy-Authorization")))
	p.mu.Unlock()
	if r.Method == http.MethodConnect {
		p.tunnel(w)
		return
	}
	onward := r.Clone(r.Context())
	onward.RequestURI, onward.URL.Host = "", p.plain
	resp, err := http.DefaultTransport.RoundTrip(onward)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	w.WriteHeader(resp.StatusCode)
	io.Copy(w, resp.Body)
}

func (p *forwardProxy) tunnel(w http.ResponseWriter) {
	there, err := net.Dial("tcp", p.secure)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer there.Close()
	here, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
	go io.Copy(there, here)
	io.Copy(here, there)
}

// TestProxies: downloads go over the proxies that the environment names, by http and by https, and not where NO_PROXY says so. Each is a
// process of its own, since the environment is read once.
func TestProxies(t *testing.T) {
	content := []byte("#!/bin/sh\n")
	host := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(content) })
	plain, secure := httptest.NewServer(host), httptest.NewTLSServer(host)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	certificate := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	// No lookup asks anybody for a name in .onion (RFC 7686), so nobody but the proxy finds it.
	byHTTP := fmt.Sprintf("http://releases.onion/noded?checksum=sha256:%x", sha256.Sum256(content))
	for _, tt := range []struct {
		name, address string
		env           []string // %s is the proxy
		asked, says   string
	}{
		{"http", byHTTP, []string{"HTTP_PROXY=http://%s"}, "GET http://releases.onion/noded ", "Ready: "},
		{"http-with-a-password", byHTTP, []string{"http_proxy=http://me:secret@%s"}, "GET http://releases.onion/noded Basic bWU6c2VjcmV0", "Ready: "},
		{"https", "https://example.com/noded", []string{"HTTPS_PROXY=http://%s"}, "CONNECT example.com:443 ", "Ready: "},
		{"of-another-kind", byHTTP, []string{"HTTPS_PROXY=http://%s"}, "", "dial tcp: "},
		{"but-not-there", byHTTP, []string{"HTTP_PROXY=http://%s", "NO_PROXY=.onion"}, "", "dial tcp: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := &forwardProxy{plain: plain.Listener.Addr().String(), secure: secure.Listener.Addr().String()}
			proxy := httptest.NewServer(p)
			defer proxy.Close()
			env := []string{"SSL_CERT_FILE=" + certificate}
			for _, setting := range tt.env {
				env = append(env, strings.ReplaceAll(setting, "%s", proxy.Listener.Addr().String()))
			}
			if said := prepareUntil(t, tt.address, env, tt.says); strings.Contains(said, "secret") {
				t.Errorf("it tells the password: %s", said)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if got := strings.Join(p.asked, "; "); got != tt.asked {
				t.Errorf("the proxy was asked for %q, want %q", got, tt.asked)
			}
		})
	}
}

// prepareUntil runs prepare-upgrade for a plan whose binary is at this address, until it says that, and returns what it has said.
func prepareUntil(t *testing.T, address string, env []string, says string) string {
	t.Helper()
	home := t.TempDir()
	info, err := json.Marshal(map[string]any{"binaries": map[string]string{"any": address}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(home, "info")
	genesis := filepath.Join(home, "cosmovisor", "genesis", "bin")
	if err := os.MkdirAll(genesis, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, content := range map[string]string{path: string(info), filepath.Join(genesis, "noded"): "#!/bin/sh\n"} {
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Args = []string{"solstice", "prepare-upgrade", "--info", path, "--name", "v2"}
	cmd.Env = append(env, "PATH="+os.Getenv("PATH"), "HOME="+home, "TMPDIR="+home, "DAEMON_HOME="+home, "DAEMON_NAME=noded", raceOption)
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	said := ""
	for lines := bufio.NewScanner(output); lines.Scan(); {
		if said += lines.Text() + "\n"; strings.Contains(lines.Text(), says) {
			return said
		}
	}
	t.Errorf("it never says %q: %s", says, said)
	return said
}
