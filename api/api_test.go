package api

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"solstice"
)

// TestStatus: at a short path and at one that is longer than a socket's may be; only for our user; and gone in the end.
func TestStatus(t *testing.T) {
	for _, name := range []string{"s", strings.Repeat("long", 40) + "/s"} {
		socket := filepath.Join(t.TempDir(), name)
		if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := Status(t.Context(), socket); !errors.Is(err, ErrNotRunning) {
			t.Errorf("nobody there: %v", err)
		}
		// What a supervisor that was killed leaves behind is no obstacle.
		if err := os.WriteFile(socket, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		fault := errors.New("no home")
		server, err := Serve(socket, fake{fault})
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		if _, err := Status(t.Context(), socket); err == nil || !strings.Contains(err.Error(), "no home") {
			t.Errorf("a fault of the supervisor: %v", err)
		}
		server.Close()
		if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after the end: %v", err)
		}
		server, err = Serve(socket, fake{nil})
		if err != nil {
			t.Fatal(err)
		}
		if s, err := Status(t.Context(), socket); err != nil || s.Name != "noded" {
			t.Errorf("Status = %+v, %v", s, err)
		}
		server.Close()
	}
}

// fake is a supervisor that answers with a fault, if it has one.
type fake struct{ fault error }

func (f fake) Status(context.Context) (solstice.Status, error) {
	return solstice.Status{Name: "noded"}, f.fault
}

func (f fake) Reload(context.Context) (solstice.Reloading, error) {
	return solstice.Reloading{PID: 1}, f.fault
}

func (f fake) Snapshot(_ context.Context, name string) (solstice.Paused, error) {
	return solstice.Paused{ID: name}, f.fault
}

// TestSnapshot: a name reaches the supervisor as it is, and a refusal comes back with its hint.
func TestSnapshot(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "control.sock")
	if _, err := Snapshot(t.Context(), socket, "x"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without a supervisor: %v, want ErrNotRunning", err)
	}
	for _, tt := range []struct {
		name  string
		fault error
		want  string
	}{
		{"before v2", nil, ""},
		{"refused", &solstice.RefusedError{Reason: "plan v2 is due", Hint: "wait"}, "plan v2 is due"},
		{"broken", errors.New("disk full"), "the supervisor says: disk full"},
	} {
		server, err := Serve(socket, fake{tt.fault})
		if err != nil {
			t.Fatal(err)
		}
		taken, err := Snapshot(t.Context(), socket, tt.name)
		server.Close()
		var refused *solstice.RefusedError
		switch {
		case tt.want == "" && (err != nil || taken.ID != tt.name):
			t.Errorf("%s: %+v, %v", tt.name, taken, err)
		case tt.want != "" && (err == nil || strings.TrimSpace(err.Error()) != tt.want):
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		case tt.name == "refused" && (!errors.As(err, &refused) || refused.Hint != "wait"):
			t.Errorf("%s: %v, want a refusal with a hint", tt.name, err)
		}
	}
}
