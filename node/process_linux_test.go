package node

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// answeringVariable makes this test binary a node: it holds what it answers.
const answeringVariable = "SOLSTICE_TEST_ANSWERING"

func TestMain(m *testing.M) {
	if text, ok := os.LookupEnv(answeringVariable); ok {
		if err := answer(text); err != io.EOF {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// answer is the node as a process, which ends when its standard input does. It prints its
// addresses.
func answer(text string) error {
	var n answering
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		return err
	}
	if n.Parent {
		n.Parent = false
		text, err := json.Marshal(&n)
		if err != nil {
			return err
		}
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), answeringVariable+"="+string(text))
		child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
		return child.Run()
	}
	tcp, err := net.Listen("tcp", "[::]:0") // IPv4 too, under addresses of IPv6
	if err != nil {
		tcp, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return err
	}
	socket, err := net.Listen("unix", filepath.Join(os.Getenv("TMPDIR"), "rpc.sock"))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: &n, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go server.Serve(tcp)
	go server.Serve(socket)
	_, port, _ := net.SplitHostPort(tcp.Addr().String())
	fmt.Printf("127.0.0.1:%s\nunix://%s\n", port, socket.Addr())
	_, err = os.Stdin.Read(make([]byte, 1)) // until the test closes it
	return err
}

// launch starts a node as a process, and returns its address over TCP and its socket.
func launch(t *testing.T, n *answering) (pid int, address, socket string) {
	t.Helper()
	text, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "node")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), answeringVariable+"="+string(text), "TMPDIR="+dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait() // it says why it ends
	})
	lines := bufio.NewScanner(stdout)
	for _, line := range []*string{&address, &socket} {
		if !lines.Scan() {
			t.Fatal("the node did not start")
		}
		*line = lines.Text()
	}
	return cmd.Process.Pid, address, socket
}

// TestProcessTies: without a key that can be read, an answer is the node's if its process
// gives it, or one that it has started, over TCP, a socket, and gRPC.
func TestProcessTies(t *testing.T) {
	self := os.Getpid()
	pid, address, socket := launch(t, &answering{ID: otherID, Chain: chain1})
	parent, childAddress, childSocket := launch(t, &answering{ID: otherID, Chain: chain1, Parent: true})
	anotherPID, _, _ := launch(t, &answering{ID: otherID, Chain: chain1})
	_, alienAddress, alienSocket := launch(t, &answering{ID: otherID, Chain: chain2})
	for _, tt := range []struct {
		name            string
		pid             int
		address, socket string
		want            string // part of the doubt; "": tied, "foreign": another node
	}{
		{"the-process", pid, address, socket, ""},
		{"one-that-it-started", parent, childAddress, childSocket, ""},
		{"this-test-started-it", self, address, socket, ""},
		{"another-process", anotherPID, address, socket, "another process than the node's answers"},
		{"its-child-is-no-parent", anotherPID, childAddress, childSocket, "another process than the node's answers"},
		{"another-process-of-another-chain", pid, alienAddress, alienSocket, "foreign"},
		{"not-known", 0, address, socket, "the node's process is not known"},
		{"has-ended", 1 << 30, address, socket, "the node's process 1073741824"},
	} {
		home := ours(t, map[string]string{"config/node_key.json": ""})
		for way, c := range map[string]*Client{
			"TCP":  client(home, tt.address, ""),
			"unix": Find(home, []string{"--rpc.laddr", tt.socket}, noEnv, ""),
			gRPC:   Find(home, nil, noEnv, tt.address),
		} {
			t.Run(tt.name+"/"+way, func(t *testing.T) {
				c.SetProcess(tt.pid)
				a, err := c.Committed(t.Context())
				if tt.want == "foreign" {
					if !errors.Is(err, ErrForeign) {
						t.Errorf("Committed = %+v, %v, want a foreign node", a, err)
					}
					return
				}
				if err != nil || a.Height != 8 || a.Tied != (tt.want == "") || !strings.Contains(a.Doubt, tt.want) {
					t.Errorf("Committed = %+v, %v, want %q", a, err, tt.want)
				}
			})
		}
	}
}

// TestKeyAndProcess: what our process says is no foreign answer, and a key that it does
// not have leaves a doubt.
func TestKeyAndProcess(t *testing.T) {
	pid, address, _ := launch(t, &answering{ID: otherID, Chain: chain2})
	c := client(ours(t, nil), address, "")
	if a, err := c.Committed(t.Context()); !errors.Is(err, ErrForeign) {
		t.Errorf("Committed = %+v, %v, want a foreign node", a, err)
	}
	c.SetProcess(pid)
	a, err := c.Committed(t.Context())
	if err != nil || a.Tied || !strings.Contains(a.Doubt, otherID) || !strings.Contains(a.Doubt, testID) {
		t.Errorf("Committed = %+v, %v", a, err)
	}
	silent, address, _ := launch(t, &answering{})
	c = client(ours(t, nil), address, "")
	c.SetProcess(silent)
	if a, err := c.Committed(t.Context()); err != nil || !a.Tied {
		t.Errorf("our process, which doesn't say its ID: %+v, %v", a, err)
	}
}

// TestUnreadableKey: a key that this user may not read is unknown.
func TestUnreadableKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node_key.json")
	write(t, path, []byte(testKey))
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if os.Getuid() == 0 {
			unix.Setfsuid(65534)
		}
		_, err := ReadNodeID(path)
		done <- err
	}()
	if err := <-done; !errors.Is(err, fs.ErrPermission) {
		t.Errorf("error %v", err)
	}
}

func TestKernelAddr(t *testing.T) {
	for _, tt := range []struct{ text, want string }{ // as a little-endian machine writes them
		{"0100007F:6989", "127.0.0.1:27017"},
		{"0000000000000000FFFF00000100007F:6989", "127.0.0.1:27017"},
		{"00000000000000000000000001000000:0050", "[::1]:80"},
		{"B80D0120000000000000000001000000:FFFF", "[2001:db8::1]:65535"},
		{"0100007F", "invalid AddrPort"},
		{"0100007F:10000", "invalid AddrPort"},
		{"0100007:6989", "invalid AddrPort"},
		{"0100007G:6989", "invalid AddrPort"},
		{":6989", "invalid AddrPort"},
		{"", "invalid AddrPort"},
	} {
		if got := kernelAddr(tt.text).String(); got != tt.want {
			t.Errorf("%q is %s, want %s", tt.text, got, tt.want)
		}
	}
}
