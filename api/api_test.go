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
		stop, err := Serve(socket, func(context.Context) (solstice.Status, error) { return solstice.Status{Name: "noded"}, fault })
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		if _, err := Status(t.Context(), socket); err == nil || !strings.Contains(err.Error(), "no home") {
			t.Errorf("a fault of the supervisor: %v", err)
		}
		stop()
		if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after the end: %v", err)
		}
		stop, err = Serve(socket, func(context.Context) (solstice.Status, error) { return solstice.Status{Name: "noded"}, nil })
		if err != nil {
			t.Fatal(err)
		}
		if s, err := Status(t.Context(), socket); err != nil || s.Name != "noded" {
			t.Errorf("Status = %+v, %v", s, err)
		}
		stop()
	}
}
