package readiness

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"solstice"
	"solstice/node"
	"solstice/unit"
)

func TestCompare(t *testing.T) {
	now := version{Name: "gaia", Version: "v1", Commit: "aa", Tags: "netgo,ledger,pebbledb"}
	for _, tt := range []struct {
		name string
		next version
		want solstice.Verdict
		says string
	}{
		{"next", version{Name: "gaia", Version: "v2", Commit: "bb", Tags: "netgo,ledger,pebbledb"}, solstice.OK, "it runs: v2, commit bb, tags netgo,ledger,pebbledb; in use is v1"},
		{"more-tags", version{Name: "gaia", Version: "v2", Tags: "netgo,ledger,pebbledb,x"}, solstice.OK, "v2"},
		{"another-chain", version{Name: "osmosis", Version: "v2"}, solstice.NotReady, `it is "osmosis", and the one in use is "gaia"`},
		{"without-its-database", version{Name: "gaia", Version: "v2", Tags: "netgo,ledger"}, solstice.Warning, "was built without pebbledb"},
		{"the-old-one", now, solstice.Warning, "the same version"},
		{"no-name", version{Version: "v2", Tags: now.Tags}, solstice.OK, "v2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if f := compare(now, tt.next); f.verdict != tt.want || !strings.Contains(f.evidence, tt.says) || (f.do == "") != (tt.want == solstice.OK) {
				t.Errorf("%+v, want %s, %q", f, tt.want, tt.says)
			}
		})
	}
}

func TestParseVersion(t *testing.T) {
	for _, tt := range []struct {
		name, output, want string
	}{
		{"sdk", `{"name":"gaia","server_name":"gaiad","version":"v1","commit":"aa","build_tags":"netgo","go":"go1"}`, "v1, commit aa, tags netgo"},
		{"after-a-warning", "WARN something\n{\"name\":\"gaia\",\"version\":\"v1\"}\n", "v1"},
		{"text", "v1\n", ""},
		{"cut-off", `{"name":"ga`, ""},
		{"list", `[1]`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, err := parseVersion(tt.output)
			if (tt.want == "") != (err != nil) || err == nil && v.String() != tt.want {
				t.Errorf("%v, %v, want %q", v, err, tt.want)
			}
		})
	}
}

func TestContains(t *testing.T) {
	long := append(bytes.Repeat([]byte("x"), 1<<20-2), []byte("v2-Rho and more")...) // over the edge of a piece
	for _, tt := range []struct {
		content []byte
		want    bool
	}{{long, true}, {long[:1<<20], false}, {nil, false}, {[]byte("v2-Rho"), true}, {append(bytes.Repeat([]byte("y"), 5<<20), long...), true}} {
		for name, got := range map[string]func() (bool, error){
			"whole": func() (bool, error) { return contains(bytes.NewReader(tt.content), []byte("v2-Rho")) },
			"halves": func() (bool, error) {
				return contains(iotest.HalfReader(bytes.NewReader(tt.content)), []byte("v2-Rho"))
			},
		} {
			if found, err := got(); found != tt.want || err != nil {
				t.Errorf("%s, %d bytes: %t, %v", name, len(tt.content), found, err)
			}
		}
	}
}

func TestJudgeUnit(t *testing.T) {
	for _, tt := range []struct {
		name, unit string
		want       solstice.Verdict
		says       string
	}{
		{"right", "[Service]\nRestart=always\nTimeoutStopSec=5min\n", solstice.OK, "gives the node time"},
		{"by-default", "[Service]\nRestart = on-failure\n", solstice.OK, "gives the node time"},
		{"impatient", "[Service]\nRestart=always\nTimeoutStopSec=10\n", solstice.Warning, "kills the node 10s after it was told to stop, and the grace is 1m0s"},
		{"impatient-in-all", "[Service]\nRestart=always\nTimeoutSec=20s\n", solstice.Warning, "20s"},
		{"for-ever", "[Service]\nRestart=always\nTimeoutStopSec=infinity\n", solstice.OK, ""},
		{"no-restart", "[Service]\nExecStart=/bin/solstice\n", solstice.Warning, "Restart= is not set"},
		{"commented", "[Service]\n#Restart=always\n", solstice.Warning, "Restart= is not set"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "node.service"), []byte(tt.unit), 0o644); err != nil {
				t.Fatal(err)
			}
			service, err := unit.Units{Folders: []string{dir}, Root: dir}.Load("node")
			if err != nil {
				t.Fatal(err)
			}
			if f := judgeUnit(service, time.Minute); f.verdict != tt.want || !strings.Contains(f.evidence, tt.says) {
				t.Errorf("%+v, want %s, %q", f, tt.want, tt.says)
			}
		})
	}
}

func TestUnitName(t *testing.T) {
	for _, tt := range []struct {
		cgroup, want string
		ofUser       bool
	}{
		{"0::/system.slice/gaiad.service\n", "gaiad.service", false},
		{"0::/system.slice/system-node.slice/node@a.service/x\n", "node@a.service", false},
		{"0::/user.slice/user-0.slice/user@0.service/app.slice/gaiad.service\n", "gaiad.service", true},
		{"0::/user.slice/user-0.slice/session-1.scope\n", "", false},
		{"0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope\n", "", true},
		{"12:pids:/system.slice/a.service\n1:name=systemd:/system.slice/b.slice", "a.service", false},
	} {
		if got, ofUser := unitName(tt.cgroup); got != tt.want || ofUser != tt.ofUser {
			t.Errorf("%q: %q, %v, want %q, %v", tt.cgroup, got, ofUser, tt.want, tt.ofUser)
		}
	}
}

// TestUnitOfNoNode: where no node runs, the unit that will start it is not known, and nothing is called right.
func TestUnitOfNoNode(t *testing.T) {
	if f := unitRight(t.Context(), Subject{}); f.verdict != solstice.Unknown || f.do == "" {
		t.Errorf("%+v, want unknown", f)
	}
}

func TestClock(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name string
		pace node.Pace
		want solstice.Verdict
	}{
		{"right", node.Pace{Height: 5, Time: now.Add(-4 * time.Second), Block: 6 * time.Second}, solstice.OK},
		{"a-moment-ahead", node.Pace{Height: 5, Time: now.Add(time.Second), Block: 6 * time.Second}, solstice.OK},
		{"behind", node.Pace{Height: 5, Time: now.Add(time.Minute), Block: 6 * time.Second}, solstice.Warning},
		{"old", node.Pace{Height: 5, Time: now.Add(-time.Hour), Block: 6 * time.Second}, solstice.Unknown},
		{"slow-chain", node.Pace{Height: 5, Time: now.Add(-2 * time.Minute), Block: time.Minute}, solstice.OK},
		{"not-told", node.Pace{}, solstice.Unknown},
	} {
		if f := clockRight(t.Context(), Subject{Pace: tt.pace}); f.verdict != tt.want {
			t.Errorf("%s: %+v, want %s", tt.name, f, tt.want)
		}
	}
}

// TestSigner looks at this process's own connections.
func TestSigner(t *testing.T) {
	if _, err := os.Stat("/proc/self/net/tcp"); err != nil {
		t.Skip("there is no /proc/net/tcp")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	s := Subject{PID: os.Getpid()}
	expect := func(want solstice.Verdict) {
		t.Helper()
		if f := signerThere(t.Context(), s); f.verdict != want {
			t.Errorf("%s: %+v, want %s", s.Settings.SignerAddress, f, want)
		}
	}
	expect(solstice.OK) // none is set up
	s.Settings.SignerAddress = "tcp://" + listener.Addr().String()
	expect(solstice.NotReady)
	signer, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer signer.Close()
	expect(solstice.OK)
	s.Settings.SignerAddress = "unix:///run/signer"
	expect(solstice.Unknown)
	s.PID = 0
	expect(solstice.Unknown)
}

func TestLook(t *testing.T) {
	broken := look(t.Context(), check{"x", func(context.Context, Subject) finding { panic("no such thing") }}, Subject{})
	if broken.verdict != solstice.Unknown || !strings.Contains(broken.evidence, "no such thing") {
		t.Errorf("%+v", broken)
	}
	for want, verdicts := range map[solstice.Verdict][]solstice.Verdict{
		solstice.OK: {}, solstice.Unknown: {solstice.OK, solstice.Unknown}, solstice.Warning: {solstice.Unknown, solstice.Warning, solstice.OK},
		solstice.NotReady: {solstice.NotReady, solstice.Warning},
	} {
		var checks []solstice.Check
		for _, v := range verdicts {
			checks = append(checks, solstice.Check{Verdict: v})
		}
		if got := Worst(checks); got != want {
			t.Errorf("worst of %v: %s, want %s", verdicts, got, want)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add(`{"name":"gaia","version":"v1"}`)
	f.Fuzz(func(t *testing.T, output string) {
		v, err := parseVersion(output)
		_ = fmt.Sprint(v, err)
	})
}
