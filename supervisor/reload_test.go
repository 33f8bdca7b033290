package supervisor

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"solstice"
)

// TestReloadTriedTooLate: a trial that failed because an upgrade stopped the node meanwhile is put down to the upgrade.
func TestReloadTriedTooLate(t *testing.T) {
	replies := make(chan reply[solstice.Reloading], 1)
	s := &Supervisor{Log: slog.New(slog.DiscardHandler), work: make(chan error), reload: &reload{reply: replies}}
	s.reloadTried(errors.New("the node's process can't be seen"))
	if err := (<-replies).err; !strings.HasPrefix(err.Error(), "this is no time for it: ") {
		t.Errorf("error %q", err)
	}
	if s.reload != nil {
		t.Error("the reload is still under way")
	}
}
