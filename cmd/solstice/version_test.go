package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAppVersionTakesTooLong: the binary is killed, and the error names the time that it had rather than a signal that nobody sent.
func TestAppVersionTakesTooLong(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "cosmovisor", "genesis", "bin", "noded")
	for _, err := range []error{
		os.MkdirAll(filepath.Dir(binary), 0o755),
		os.Mkdir(filepath.Join(dir, "data"), 0o755),
		os.WriteFile(binary, []byte("#!/bin/sh\nexec sleep 1000\n"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("DAEMON_HOME", dir)
	t.Setenv("DAEMON_NAME", "noded")
	c, err := loadChecked("")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("not done after 50ms"))
	defer cancel()
	_, err = appVersion(ctx, c)
	if want := "noded version --long --output json: not done after 50ms"; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("error = %v, want %s", err, want)
	}
}
