package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/syndtr/goleveldb/leveldb"

	"solstice/api"
)

var update = flag.Bool("update", false, "write what the commands print into the scripts")

func TestMain(m *testing.M) {
	testscript.Main(withNode{m}, map[string]func(){
		"solstice": main,
		"typed":    typed,
	})
}

// nodeBinary is the test node, package testnode. It is small and not under the race detector, as it is started, read and hashed
// thousands of times.
var nodeBinary string

// withNode runs the tests with the test node built.
type withNode struct{ *testing.M }

func (m withNode) Run() int {
	dir, err := os.MkdirTemp("", "noded-")
	if err == nil {
		defer os.RemoveAll(dir)
		nodeBinary = filepath.Join(dir, "noded")
		build := exec.Command("go", "build", "-ldflags=-s -w", "-o", nodeBinary, "solstice/internal/testnode/noded")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		err = build.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "the test node can't be built:", err)
		return 1
	}
	// Most of these tests wait for other processes most of the time. -parallel comes after this.
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.M.Run()
}

// raceOption keeps a process under the race detector from sleeping for a second at its end.
const raceOption = "GORACE=atexit_sleep_ms=0"

// TestScript runs the scripts of testdata/script: what a user types, and sees. Each begins with an empty home in
// $HOME_DIR, with DAEMON_HOME and DAEMON_NAME set. The program typed runs a command of README.md or docs/ (TestDocumentedCommands).
// There are these commands besides testscript's own:
//
//	node PATH...        puts the test node (package testnode) at these paths below cosmovisor/
//	await FILE REGEXP   waits until the file has a line that matches
//	status-says REGEXP  waits until the running solstice's status has a line that matches
//	freeport NAME       sets NAME to a port that is free
//	serve NAME FILE     serves a file to who logs in as us3r with p4ssw0rd and has the token t0k3n; sets NAME to its address, with these
//	application HEIGHT  makes the application.db of a node that has committed a height
func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			env.Setenv("HOME_DIR", home)
			env.Setenv("DAEMON_HOME", home)
			env.Setenv("DAEMON_NAME", "noded")
			env.Setenv("COSMOVISOR_TIMEFORMAT_LOGS", "")
			name, value, _ := strings.Cut(raceOption, "=")
			env.Setenv(name, value)
			env.Setenv("TMPDIR", filepath.Join(env.WorkDir, ".tmp"))
			return os.MkdirAll(filepath.Join(home, "data"), 0o755)
		},
		Condition: func(name string) (bool, error) {
			if name != "mount" {
				return false, fmt.Errorf("no condition %q", name)
			}
			return os.Geteuid() == 0 && exec.Command("unshare", "-m", "true").Run() == nil, nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"node":        placeNode,
			"await":       waitFor,
			"freeport":    freePort,
			"serve":       serveFile,
			"application": applicationAt,
			"status-says": statusSays,
		},
	})
}

func placeNode(ts *testscript.TestScript, _ bool, args []string) {
	for _, dir := range args {
		path := filepath.Join(ts.Getenv("HOME_DIR"), "cosmovisor", dir, "bin", "noded")
		ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
		ts.Check(os.Link(nodeBinary, path))
	}
}

func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE REGEXP")
	}
	want := regexp.MustCompile("(?m)" + args[1])
	var content []byte
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		content, _ = os.ReadFile(ts.MkAbs(args[0]))
		if want.Match(content) {
			return
		}
	}
	ts.Fatalf("%s never matched %s:\n%s", args[0], args[1], content)
}

func statusSays(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: status-says REGEXP")
	}
	want := regexp.MustCompile("(?m)" + args[0])
	socket := filepath.Join(ts.Getenv("HOME_DIR"), "cosmovisor", ".solstice", "control.sock")
	var text strings.Builder
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		text.Reset()
		status, err := api.Status(context.Background(), socket)
		if err == nil {
			ts.Check(printStatus(&text, status))
		}
		if want.MatchString(text.String()) {
			return
		}
	}
	ts.Fatalf("the status never said %s:\n%s", args[0], text.String())
}

// applicationAt makes the home's application.db, one of goleveldb, that has committed a height.
func applicationAt(ts *testscript.TestScript, _ bool, args []string) {
	height, err := strconv.ParseUint(args[0], 10, 63)
	ts.Check(err)
	db, err := leveldb.OpenFile(ts.MkAbs("home/data/application.db"), nil)
	ts.Check(err)
	latest := binary.AppendUvarint([]byte{1 << 3}, height) // a protobuf Int64Value, as the SDK's rootmulti store writes it
	ts.Check(errors.Join(db.Put([]byte("s/latest"), latest, nil), db.Close()))
}

func freePort(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer l.Close()
	_, port, _ := strings.Cut(l.Addr().String(), ":")
	ts.Setenv(args[0], port)
}

// serveFile serves a file to who knows the secrets.
func serveFile(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[1])
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != "us3r" || password != "p4ssw0rd" || r.FormValue("token") != "t0k3n" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		http.ServeFile(w, r, path)
	}))
	ts.Defer(server.Close)
	ts.Setenv(args[0], strings.Replace(server.URL, "://", "://us3r:p4ssw0rd@", 1)+"/file?token=t0k3n")
}

// TestReport: each fault is one error line, each way on is one hint line.
func TestReport(t *testing.T) {
	var out strings.Builder
	err := joinRefusals([]error{fmt.Errorf("one"), fmt.Errorf("two")})
	if code := tell(&out, err); code != 3 {
		t.Errorf("code %d, want 3", code)
	}
	want := "solstice: error: one\nsolstice: error: two\nsolstice: hint: see all settings and where they come from: solstice config\n"
	if out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
}

// TestMeantCommandsExist: what is said to people who mistype can be typed, and what they typed is no command.
func TestMeantCommandsExist(t *testing.T) {
	root := newRoot()
	commands := regexp.MustCompile(`(?:: |in )solstice ([a-z-]+(?: [a-z-]+)?)`)
	for _, m := range meant {
		for _, word := range m.words {
			if cmd, _, err := root.Find([]string{word}); err == nil && cmd != root {
				t.Errorf("%s is a command", word)
			}
		}
		for _, found := range commands.FindAllStringSubmatch(m.hint, -1) {
			if cmd, _, err := root.Find(strings.Fields(found[1])); err != nil || cmd == root {
				t.Errorf("hint %q: %v", m.hint, err)
			}
		}
	}
}

// FuzzBatchRecords: whatever lies in a CSV file, its records have a name, a path and a height.
func FuzzBatchRecords(f *testing.F) {
	f.Add([]byte("v2,/srv/v2,100\n\"v,3\", /srv/v3 ,200\n"))
	path := filepath.Join(f.TempDir(), "upgrades.csv")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		records, err := batchRecords(path, nil)
		if (err == nil) != (len(records) > 0) {
			t.Errorf("%d records, %v", len(records), err)
		}
		for _, r := range records {
			if len(r) != 3 {
				t.Errorf("record %q", r)
			}
		}
	})
}
