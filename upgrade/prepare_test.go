package upgrade

import (
	"crypto/sha256"
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
	for _, tt := range []struct {
		content string
		want    bool
	}{{"#!/bin/sh\n", false}, {"#!/bin/ls\n", true}, {"#!/bin/sh -x\n", true}} {
		if err := os.WriteFile(home.Binary("upgrades/v2"), []byte(tt.content), 0o755); err != nil {
			t.Fatal(err)
		}
		later := time.Now().Add(time.Duration(len(tt.content)) * time.Minute)
		if err := os.Chtimes(home.Binary("upgrades/v2"), later, later); err != nil {
			t.Fatal(err)
		}
		if changed, err := p.Changed(home, &Probes{}); changed != tt.want || err != nil {
			t.Errorf("%q: changed %t, %v", tt.content, changed, err)
		}
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
