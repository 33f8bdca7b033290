package sidecar

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"solstice"
	"solstice/internal/durable"
)

// script is a sidecar: it notes what happens to it in the home's log, and is ready when its file is there.
const script = `#!/bin/sh
name=$(basename "$0")
version=$(basename "$(dirname "$(dirname "$(readlink -f "$0")")")")
log="$HOME_DIR/log"
end() {
	echo "$name of $version ends" >>"$log"
	exit 0
}
trap end TERM
echo "$name of $version starts" >>"$log"
touch "$HOME_DIR/$name.ready"
`

const stay = "while :; do sleep 60 & wait $!; done\n"

// testGroup is a group in a home of its own.
type testGroup struct {
	*testing.T
	*Group
	home solstice.Home
}

// begin begins a group of sidecars, which are scripts in genesis and in v2. Each that asks whether it is ready waits for its file.
func begin(t *testing.T, grace time.Duration, list ...Sidecar) *testGroup {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HOME_DIR", dir)
	g := &testGroup{T: t, home: solstice.Home{Dir: dir, Name: "noded", StateDir: filepath.Join(dir, "state")}}
	for i := range list {
		if list[i].Start == "" {
			list[i].Start = After
		}
		g.place(list[i].Name, script+stay)
		list[i].Command = []string{list[i].Name}
	}
	g.Group = Begin(g.home, list, grace, slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Cleanup(func() {
		g.Stop(After)()
		g.Stop(Before)()
		g.Close()
		for _, s := range list {
			if pids := durable.Holders(g.home.SidecarLock(s.Name)); pids != nil {
				t.Errorf("%s is left: %v", s.Name, pids)
			}
		}
	})
	return g
}

func (g *testGroup) check(err error) {
	g.Helper()
	if err != nil {
		g.Fatal(err)
	}
}

func (g *testGroup) place(name, content string) {
	g.Helper()
	for _, dir := range []string{"genesis", "upgrades/v2"} {
		path := g.home.File(dir, name)
		g.check(os.MkdirAll(filepath.Dir(path), 0o755))
		// Another test may fork while it is open for writing: then it could not be executed for a moment.
		g.check(durable.WriteFile(path, []byte(content), 0o755))
	}
}

func (g *testGroup) log() string {
	content, _ := os.ReadFile(filepath.Join(g.home.Dir, "log"))
	return string(content)
}

// await waits until a sidecar's state is this one.
func (g *testGroup) await(name, state string) solstice.Sidecar {
	g.Helper()
	return g.awaitWhat(name, state, func(s solstice.Sidecar) bool { return s.State == state })
}

func (g *testGroup) awaitWhat(name, what string, right func(solstice.Sidecar) bool) solstice.Sidecar {
	g.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		all := g.Status()
		if i := slices.IndexFunc(all, func(s solstice.Sidecar) bool { return s.Name == name }); right(all[i]) {
			return all[i]
		}
		if time.Now().After(deadline) {
			g.Fatalf("%s was never %s: %+v\n%s", name, what, all, g.log())
		}
	}
}

func (g *testGroup) awaitLog(text string, times int) {
	g.Helper()
	for deadline := time.Now().Add(20 * time.Second); strings.Count(g.log(), text) < times; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			g.Fatalf("not %d times %q:\n%s", times, text, g.log())
		}
	}
}

// whenThere is ready when the sidecar's own file is there.
func whenThere(name string) Ready {
	return Ready{Exec: []string{"/bin/sh", "-c", "test -e $HOME_DIR/" + name + ".ready"}, Within: time.Minute}
}

// TestOrder: each is started when the one before it is ready, and told to end when the one after it has ended; a new version is
// the same again.
func TestOrder(t *testing.T) {
	g := begin(t, time.Minute, Sidecar{Name: "a", Ready: whenThere("a")}, Sidecar{Name: "b", Ready: whenThere("b")}, Sidecar{Name: "c", Ready: whenThere("c")})
	for _, dir := range []string{"genesis", "upgrades/v2"} {
		for _, name := range []string{"a", "b", "c"} {
			_ = os.Remove(filepath.Join(g.home.Dir, name+".ready"))
		}
		g.Start(After, dir)
		g.await("c", "running")
		if !g.Start(After, dir) {
			t.Error("all are ready, and it is not settled")
		}
		g.Stop(After)()
	}
	var want strings.Builder
	for _, version := range []string{"genesis", "v2"} {
		for _, what := range []string{"a starts", "b starts", "c starts", "c ends", "b ends", "a ends"} {
			name, verb, _ := strings.Cut(what, " ")
			fmt.Fprintf(&want, "%s of %s %s\n", name, version, verb)
		}
	}
	if got := g.log(); got != want.String() {
		t.Errorf("got\n%s\nwant\n%s", got, want.String())
	}
	if state := g.Status()[0].State; state != "stopped" {
		t.Errorf("state %s after the stop", state)
	}
}

// TestOtherVersion: who asks for another version gets it, and the first has ended then.
func TestOtherVersion(t *testing.T) {
	g := begin(t, time.Minute, Sidecar{Name: "a"})
	g.Start(After, "genesis")
	g.awaitLog("a of genesis starts", 1)
	g.Start(After, "upgrades/v2")
	g.awaitLog("a of v2 starts", 1)
	if got, want := g.log(), "a of genesis starts\na of genesis ends\na of v2 starts\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestLate: who waits for one that does not become ready waits no longer than it said; it is asked on.
func TestLate(t *testing.T) {
	never := Ready{Exec: []string{"/bin/sh", "-c", "echo not yet; test -e $HOME_DIR/ready"}, Within: 300 * time.Millisecond}
	g := begin(t, time.Minute, Sidecar{Name: "a", Start: Before, Ready: never}, Sidecar{Name: "b", Start: Before})
	if g.Start(Before, "genesis") {
		t.Fatal("settled at once")
	}
	for !g.Start(Before, "genesis") {
		<-g.Changed()
	}
	if s := g.await("a", "not ready"); !strings.Contains(s.Fault, "exit status 1: not yet") {
		t.Errorf("fault %q", s.Fault)
	}
	g.await("b", "running")
	g.check(os.WriteFile(filepath.Join(g.home.Dir, "ready"), nil, 0o644))
	if s := g.await("a", "running"); s.Fault != "" {
		t.Errorf("fault %q", s.Fault)
	}
}

// TestMissing: nobody waits for one that can't be started; it is tried again.
func TestMissing(t *testing.T) {
	g := begin(t, time.Minute, Sidecar{Name: "a", Start: Before, Ready: whenThere("a")}, Sidecar{Name: "b", Start: Before})
	g.check(os.Rename(g.home.File("genesis", "a"), g.home.File("genesis", "kept")))
	if !g.Start(Before, "genesis") {
		t.Error("it is waited for")
	}
	if s := g.await("a", "restarting"); !strings.Contains(s.Fault, "no such file") {
		t.Errorf("fault %q", s.Fault)
	}
	g.await("b", "running")
	g.check(os.Rename(g.home.File("genesis", "kept"), g.home.File("genesis", "a")))
	g.await("a", "running")
}

// TestRestart: one that has died is started again, ever later, and at once when what it needs has come up.
func TestRestart(t *testing.T) {
	g := begin(t, time.Minute, Sidecar{Name: "a"})
	g.place("a", script+"exit 7\n")
	g.Start(After, "genesis")
	if s := g.await("a", "restarting"); s.Fault != "it ended: exit status 7" {
		t.Errorf("fault %q", s.Fault)
	}
	g.call(func() { g.members[0].Failures = 10 })
	g.awaitLog("a of genesis starts", 2)
	g.place("a", script+stay)
	g.awaitWhat("a", "restarted once", func(s solstice.Sidecar) bool { return s.State == "restarting" && s.Restarts == 1 })
	g.Retry() // else it would be a minute
	if s := g.await("a", "running"); s.Restarts != 2 {
		t.Errorf("%d restarts, want 2", s.Restarts)
	}
}

func TestDelay(t *testing.T) {
	m := &member{g: &Group{}}
	var got []string
	for range 8 {
		got = append(got, m.delay(time.Now()).String())
	}
	if got, want := strings.Join(got, " "), "1s 2s 4s 8s 16s 32s 1m0s 1m0s"; got != want {
		t.Errorf("delays %s, want %s", got, want)
	}
}

// TestKilledAfterGrace: one that does not end, and holds up the one ahead of it no longer than patience.
func TestKilledAfterGrace(t *testing.T) {
	g := begin(t, 100*time.Millisecond, Sidecar{Name: "a"}, Sidecar{Name: "b"})
	g.place("b", strings.Replace(script, "trap end TERM", "trap '' TERM", 1)+stay)
	g.Start(After, "genesis")
	g.awaitLog("starts", 2)
	g.Stop(After)()
	if got := g.log(); !strings.HasSuffix(got, "a of genesis ends\n") || strings.Contains(got, "b of genesis ends") {
		t.Errorf("log\n%s", got)
	}
}

// TestLeftBehind: what a sidecar has left, in a process group of its own, keeps its end waiting, and is ended too.
func TestLeftBehind(t *testing.T) {
	g := begin(t, time.Minute, Sidecar{Name: "a"})
	g.place("a", script+"setsid sh -c 'trap \"echo child ends >>$HOME_DIR/log; exit\" TERM; echo child starts >>$HOME_DIR/log; "+strings.TrimSpace(stay)+"' &\n"+stay)
	g.Start(After, "genesis")
	g.awaitLog("child starts", 1)
	g.Stop(After)()
	if got := g.log(); !strings.Contains(got, "child ends") {
		t.Errorf("log\n%s", got)
	}
}

// TestEarlierRun: what a Solstice that was killed has left is told to end, killed after the grace, and never runs beside the new one.
func TestEarlierRun(t *testing.T) {
	g := begin(t, 300*time.Millisecond, Sidecar{Name: "a"})
	earlier, ended := g.earlier("a")
	g.Start(After, "genesis")
	if s := g.await("a", "waiting"); !strings.Contains(s.Fault, "an earlier run has left") {
		t.Errorf("fault %q", s.Fault)
	}
	g.await("a", "running")
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("the earlier one ended: %v", err)
		}
	case <-time.After(20 * time.Second):
		_ = earlier.Process.Kill()
		t.Error("both run")
	}
}

// earlier starts what an earlier run of a sidecar has left, which ignores that it is told to end.
func (g *testGroup) earlier(name string) (*exec.Cmd, <-chan error) {
	g.Helper()
	folder := g.home.SidecarLock(name)
	g.check(os.MkdirAll(folder, 0o700))
	lock, err := durable.Lock(folder)
	g.check(err)
	defer lock.Close()
	cmd := exec.Command("/bin/sh", "-c", "trap '' TERM; exec sleep 1000")
	cmd.ExtraFiles = []*os.File{lock}
	g.check(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	g.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
	return cmd, ended
}

// TestEarlierRunHoldsUpNoNode: what is left of an earlier run keeps its sidecar from starting, and the node no longer than the sidecar's
// time to become ready.
func TestEarlierRunHoldsUpNoNode(t *testing.T) {
	ready := whenThere("a")
	ready.Within = 300 * time.Millisecond
	g := begin(t, time.Minute, Sidecar{Name: "a", Start: Before, Ready: ready})
	earlier, ended := g.earlier("a")
	for !g.Start(Before, "genesis") {
		<-g.Changed()
	}
	if s := g.Status()[0]; s.State != "waiting" || !strings.Contains(s.Fault, "an earlier run has left") {
		t.Errorf("%+v", s)
	}
	g.check(earlier.Process.Kill())
	<-ended
	g.await("a", "running")
}

// TestNil: without sidecars there is nothing to ask for.
func TestNil(t *testing.T) {
	g := Begin(solstice.Home{}, nil, 0, nil)
	if !g.Start(Before, "genesis") || g.Status() != nil || g.Changed() != nil {
		t.Error("a group of none has something to do")
	}
	g.Stop(After)()
	g.Retry()
	g.Close()
}

func TestAsk(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			w.WriteHeader(http.StatusNoContent)
		case "/moved":
			http.Redirect(w, r, "/ok", http.StatusFound)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, tt := range []struct {
		name  string
		ready Ready
		want  string // empty: it is ready
	}{
		{"tcp", Ready{TCP: l.Addr().String()}, ""},
		{"tcp-closed", Ready{TCP: closed.Listener.Addr().String()}, "connection refused"},
		{"http", Ready{HTTP: server.URL + "/ok"}, ""},
		{"http-busy", Ready{HTTP: server.URL + "/busy?token=s3cret"}, "answers 503 Service Unavailable"},
		{"http-elsewhere", Ready{HTTP: server.URL + "/moved"}, "answers 302 Found"},
		{"http-closed", Ready{HTTP: closed.URL + "/?token=s3cret"}, "connection refused"},
		{"exec", Ready{Exec: []string{"/bin/sh", "-c", "exit 0"}}, ""},
		{"exec-fails", Ready{Exec: []string{"/bin/sh", "-c", "echo one; echo two; exit 3"}}, "/bin/sh: exit status 3: two"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var cmd *exec.Cmd
			if tt.ready.Exec != nil {
				cmd = exec.Command(tt.ready.Exec[0], tt.ready.Exec[1:]...)
			}
			err := tt.ready.ask(context.Background(), cmd)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ask = %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("a secret is told: %v", err)
			}
		})
	}
}
