package upgrade

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"solstice"
	"solstice/artifact"
	"solstice/internal/durable"
)

func newHome(t *testing.T) solstice.Home {
	t.Helper()
	dir := t.TempDir()
	home := solstice.Home{Dir: dir, Node: dir, Name: "noded", StateDir: filepath.Join(dir, "cosmovisor", ".solstice")}
	if err := os.MkdirAll(home.Upgrades(), 0o755); err != nil {
		t.Fatal(err)
	}
	return home
}

// TestPrepareTwice: two at once are one download, and the debris sweep of a start leaves it alone.
func TestPrepareTwice(t *testing.T) {
	home := newHome(t)
	content := []byte("#!/bin/sh\n")
	asked, answer := make(chan bool), make(chan bool)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- true
		<-answer
		w.Write(content)
	}))
	defer server.Close()
	plan := solstice.Plan{Name: "V2", Height: 7, Info: fmt.Sprintf(`{"binaries":{"any":"%s/?checksum=sha256:%x"}}`, server.URL, sha256.Sum256(content))}
	done := make(chan error)
	go func() {
		_, _, err := Prepare(t.Context(), home, plan, artifact.Fetcher{})
		done <- err
	}()
	<-asked
	if _, _, err := Prepare(t.Context(), home, plan, artifact.Fetcher{}); err == nil || !strings.Contains(err.Error(), "is being downloaded already") {
		t.Errorf("the second: %v", err)
	}
	if err := Sweep(home); err != nil {
		t.Error(err)
	}
	answer <- true
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, there, err := Prepare(t.Context(), home, plan, artifact.Fetcher{}); !there || err != nil {
		t.Errorf("the third: %t, %v", there, err)
	}
	p, ok, err := ReadPrepared(home, "upgrades/v2")
	if !ok || err != nil || p.Digest != fmt.Sprintf("sha256:%x", sha256.Sum256(content)) || p.Plan != "V2" {
		t.Errorf("recorded: %+v, %t, %v", p, ok, err)
	}
	if err := CheckBinary(home, p.Dir, &Probes{}); err != nil {
		t.Error(err)
	}
}

// TestChangedBinary: another content than the verified one is never started, whatever it pretends; one by hand is taken as it is.
func TestChangedBinary(t *testing.T) {
	home := newHome(t)
	dir, content := "upgrades/v2", "#!/bin/sh\n"
	path := home.Binary(dir)
	write := func(content string, at time.Time) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path, []byte(content), 0o755), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(home.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-time.Hour)
	write(content, then)
	probes := &Probes{}
	expect := func(what, want string) {
		t.Helper()
		err := CheckBinary(home, dir, probes)
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	expect("nobody has downloaded it", "")
	prepared := Prepared{Dir: dir, Plan: "V2", Digest: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(content))), Source: "https://x", Time: then}
	if err := prepared.append(home); err != nil {
		t.Fatal(err)
	}
	expect("as it was", "")
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	write("#!/bin/ls\n", before.ModTime())
	expect("another of the same size and time", "another binary than the one that was downloaded and verified")
	if hint := solstice.HintOf(CheckBinary(home, dir, probes), ""); !strings.Contains(hint, "solstice add-upgrade V2 PATH --force") {
		t.Errorf("hint %q", hint)
	}
	write(content, time.Now())
	expect("the same again, at another time", "")
	write("", time.Now())
	expect("cut off", "is empty")

	write("#!/bin/sh -x\n", time.Now())
	if err := ForgetPrepared(home, dir); err != nil {
		t.Fatal(err)
	}
	expect("the operator's own", "")
	if err := prepared.append(home); err != nil {
		t.Fatal(err)
	}
	expect("downloaded once more", "another binary")
	if err := ForgetPrepared(home, "upgrades/v3"); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(home.PreparedFile()); err != nil || strings.Contains(string(content), "v3") {
		t.Errorf("what nobody has downloaded is recorded: %s%v", content, err)
	}
}

// TestHashedAhead: what the height asks for is known before, each once; and a binary that is not the verified one is not asked.
func TestHashedAhead(t *testing.T) {
	home := newHome(t)
	dir, content := "upgrades/v2", "#!/bin/sh\necho noded pre-upgrade\n"
	for _, made := range []string{filepath.Dir(home.Binary(dir)), home.StateDir} {
		if err := os.MkdirAll(made, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(home.Binary(dir), []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	prepared := Prepared{Dir: dir, Plan: "v2", Digest: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(content)))}
	if err := prepared.append(home); err != nil {
		t.Fatal(err)
	}
	probes := &Probes{Dir: t.TempDir()}
	probes.Ahead(t.Context(), home, dir)
	if one := probes.of(home.Binary(dir)); one.presence != Present || one.digest != prepared.Digest {
		t.Errorf("found out: %d, %s", one.presence, one.digest)
	}
	probes.of(home.Binary(dir)).digest = "sha256:remembered"
	gathered, err := Gather(home, Live{Launched: solstice.Genesis}, probes)
	if err != nil || len(gathered.Faults) != 0 {
		t.Errorf("no plan asks for it: %v, %v", gathered.Faults, err)
	}
	if err := ChangeManual(home, func([]ManualPlan) ([]ManualPlan, error) {
		return []ManualPlan{{Plan: solstice.Plan{Name: "v2", Height: 7}}}, nil
	}); err != nil {
		t.Fatal(err)
	}
	gathered, err = Gather(home, Live{Launched: solstice.Genesis}, probes)
	if err != nil || !strings.Contains(gathered.Faults[dir], "it is sha256:remembered, and") || gathered.Hints[dir] == "" {
		t.Errorf("not what was hashed before: %v, %v", gathered.Faults, err)
	}

	if err := os.WriteFile(home.Binary(dir), []byte(content+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	probes.Ahead(t.Context(), home, dir)
	if one := probes.of(home.Binary(dir)); one.presence != Unknown || one.digest == "" {
		t.Errorf("one that was changed: %d, %s", one.presence, one.digest)
	}
}

// TestOtherInfo: a binary that was downloaded for one info is not for a plan with another one, whoever has told of the first. What is
// done is done, and what the operator has planned is his.
func TestOtherInfo(t *testing.T) {
	home := newHome(t)
	dir, content := "upgrades/v2", "#!/bin/sh\n"
	told := solstice.Plan{Name: "v2", Height: 7, Info: "{}\n"}
	for _, made := range []string{filepath.Dir(home.Binary(dir)), home.StateDir, home.Data()} {
		if err := os.MkdirAll(made, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	bound := Prepared{Dir: dir, Plan: "v2", Digest: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(content))), Info: hashInfo(told)}
	own := bound
	own.Info = ""
	if err := os.WriteFile(home.Binary(dir), []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		prepared Prepared
		plan     solstice.Plan // that the node writes
		manual   bool
		applied  bool
		refused  bool
	}{
		{"as-told", bound, told, false, false, false},
		{"as-told-but-for-blanks", bound, solstice.Plan{Name: "v2", Height: 7, Info: " {}"}, false, false, false},
		{"another", bound, solstice.Plan{Name: "v2", Height: 7, Info: "[]"}, false, false, true},
		{"none", bound, solstice.Plan{Name: "v2", Height: 7}, false, false, true},
		{"another-height", bound, solstice.Plan{Name: "v2", Height: 8, Info: "{}"}, false, false, false},
		{"where-the-operator-said", own, solstice.Plan{Name: "v2", Height: 7, Info: "[]"}, false, false, false},
		{"the-operator's-plan", bound, solstice.Plan{Name: "v2", Height: 7, Info: "[]"}, true, false, false},
		{"carried-out", bound, solstice.Plan{Name: "v2", Height: 7, Info: "[]"}, false, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := errors.Join(tt.prepared.append(home), os.WriteFile(home.PlanFile(), tt.plan.File(), 0o600)); err != nil {
				t.Fatal(err)
			}
			if err := ChangeManual(home, func([]ManualPlan) ([]ManualPlan, error) {
				if tt.manual {
					return []ManualPlan{{Plan: tt.plan}}, nil
				}
				return nil, nil
			}); err != nil {
				t.Fatal(err)
			}
			if tt.applied {
				if err := errors.Join(durable.Symlink(dir, home.CurrentLink()), writeApplied(home, dir, tt.plan)); err != nil {
					t.Fatal(err)
				}
			}
			g, err := Gather(home, Live{}, nil)
			if refused := strings.Contains(g.Faults[dir], "for another info than plan v2"); err != nil || refused != tt.refused || refused != strings.Contains(g.Hints[dir], "--force") {
				t.Errorf("fault %q, hint %q, %v", g.Faults[dir], g.Hints[dir], err)
			}
			u := Upgrade{Home: home, Plan: tt.plan, Dir: dir, Manual: tt.manual, Probes: &Probes{}}
			if err := u.checkBinary(); !tt.applied && (err != nil) != tt.refused {
				t.Errorf("in the middle of the upgrade: %v", err)
			}
		})
	}
}

// TestAbandonedDownloads: what nobody goes on with is removed after a week, unless somebody is at it.
func TestAbandonedDownloads(t *testing.T) {
	home := newHome(t)
	old := time.Now().Add(-abandonedAfter - time.Hour)
	for _, name := range []string{"old", "held", "new"} {
		path := filepath.Join(home.DownloadDir(), name)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if name != "new" {
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	held, err := durable.Lock(filepath.Join(home.DownloadDir(), "held"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	_, _, err = Prepare(t.Context(), home, solstice.Plan{Name: "v2", Height: 7, Info: `{"binaries":{"any":"/no/such?checksum=` + strings.Repeat("00", 32) + `"}}`}, artifact.Fetcher{})
	if err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("error %v", err)
	}
	if entries, err := os.ReadDir(home.DownloadDir()); err != nil || len(entries) != 3-1 {
		t.Errorf("left: %v, %v", entries, err)
	}
	for name, want := range map[string]bool{"old": false, "held": true, "new": true} {
		if _, err := os.Lstat(filepath.Join(home.DownloadDir(), name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzReadState: whatever lies in the files beside the journal, it is an error or what was once written there.
func FuzzReadState(f *testing.F) {
	f.Add([]byte(`[{"name":"v2","height":100,"below":true}]`))
	f.Add([]byte(`{"committed":99,"at":"2026-11-23T05:01:22Z"}`))
	f.Add([]byte(`{"dir":"upgrades/v2","plan":"v2","digest":"sha256:00"}` + "\n{"))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		home := solstice.Home{Dir: dir, Node: dir, Name: "noded", StateDir: filepath.Join(dir, "state")}
		for _, path := range []string{home.ManualFile(), home.BatchFile(), home.HeightFile(), home.PreparedFile()} {
			must(t, os.MkdirAll(filepath.Dir(path), 0o700))
			must(t, os.WriteFile(path, content, 0o600))
		}
		_, _ = ReadHeight(home)
		if p, ok, err := ReadPrepared(home, "upgrades/v2"); err == nil && ok && p.Dir != "upgrades/v2" {
			t.Errorf("prepared %+v", p)
		}
		before, err := ReadManual(home)
		if err != nil {
			return
		}
		batch, err := ImportBatch(home)
		must(t, err) // it is the same list
		after, err := ReadManual(home)
		must(t, err)
		if len(batch) != len(before) || len(after) < len(before) {
			t.Errorf("%d plans, %d imported, %d then", len(before), len(batch), len(after))
		}
		for _, p := range after {
			must(t, p.Validate())
		}
	})
}

// TestPrepareSidecars: what an archive has of the sidecars is put in place with the node's binary, unless the operator was faster.
func TestPrepareSidecars(t *testing.T) {
	home := newHome(t)
	home.Sidecars = []string{"feeder", "companion", "elsewhere"}
	var archive bytes.Buffer
	files := tar.NewWriter(&archive)
	for _, name := range []string{"bin/noded", "bin/feeder", "bin/companion"} {
		content := "#!/bin/sh\n# " + name + "\n"
		err := files.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644, Typeflag: tar.TypeReg})
		if err == nil {
			_, err = files.Write([]byte(content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(archive.Bytes()) }))
	defer server.Close()
	plan := solstice.Plan{Name: "v2", Height: 7, Info: fmt.Sprintf(`{"binaries":{"any":"%s/a.tar?checksum=sha256:%x"}}`, server.URL, sha256.Sum256(archive.Bytes()))}
	own := home.File("upgrades/v2", "companion")
	if err := errors.Join(os.MkdirAll(filepath.Dir(own), 0o755), os.WriteFile(own, []byte("#!/bin/sh\n# own\n"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if _, there, err := Prepare(t.Context(), home, plan, artifact.Fetcher{}); there || err != nil {
		t.Fatalf("Prepare: %t, %v", there, err)
	}
	for name, want := range map[string]string{"noded": "bin/noded", "feeder": "bin/feeder", "companion": "own"} {
		content, err := os.ReadFile(home.File("upgrades/v2", name))
		if err != nil || !strings.Contains(string(content), "# "+want+"\n") {
			t.Errorf("%s: %q, %v", name, content, err)
		}
	}
	if lack := CheckSidecars(home, "upgrades/v2"); lack.File != "elsewhere" {
		t.Errorf("lacks %+v, want what was not in the archive", lack)
	}
}
