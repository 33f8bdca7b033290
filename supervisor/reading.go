package supervisor

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"solstice/internal/child"
	"solstice/node"
	"solstice/readiness"
	"solstice/signstate"
)

// Reading is what the node's own configuration says at a launch. Whoever changes it between two launches, such as a pre-upgrade
// command, changes what holds from the next one on.
type Reading struct {
	Settings node.Settings
	Node     Node // who answers for it
	Signs    *signstate.Guard
}

// read reads the node's configuration anew, before a launch.
func (s *Supervisor) read() error {
	r, err := s.Read()
	if err != nil {
		return err
	}
	s.signs.Lock()
	defer s.signs.Unlock()
	if old := s.reading.Load(); old != nil && sameFiles(old.Signs.Validator, r.Signs.Validator) {
		r.Signs = old.Signs // which knows what it recorded
	} else if s.reread != nil {
		select {
		case s.reread <- struct{}{}:
		default: // keepSigns is told already
		}
	}
	s.live.Skip = r.Settings.Skip
	s.reading.Store(&r)
	return nil
}

func sameFiles(a, b signstate.Validator) bool {
	return a.KeyFile == b.KeyFile && a.StateFile == b.StateFile && a.Remote == b.Remote && (a.Unknown == nil) == (b.Unknown == nil)
}

// now is what was read at the last launch.
func (s *Supervisor) now() *Reading { return s.reading.Load() }

// How soon, how often and how long it is looked whether a node has its databases open: a long replay may come first.
const (
	compareEvery = 2 * time.Second
	compareFor   = 10 * time.Minute
)

// compareHome compares the home that a running node has open with the one that is guarded, as soon as it shows. It works beside the loop.
func (s *Supervisor) compareHome(process *child.Process) {
	s.otherHome.Store(nil)
	for deadline := time.Now().Add(compareFor); time.Now().Before(deadline); {
		select {
		case <-process.Done():
			return
		case <-time.After(compareEvery):
		}
		switch found := readiness.HomeOfProcess(s.Home, s.now().Settings, process.PID); {
		case found.Same:
			return
		case found.Unknown == nil:
			other := strings.Join(found.Others, ", ")
			s.otherHome.Store(&other)
			s.Log.Error("the node runs on another home than the one that is guarded", "data", other, "guarded", s.Home.Node,
				"hint", "name the home in the node's arguments and start it again: --home "+homeAround(found.Others[0]))
			return
		}
	}
}

// homeAround is the home of a folder with databases.
func homeAround(data string) string {
	if filepath.Base(data) == "data" {
		return filepath.Dir(data)
	}
	return data
}

// tellHome says which home the node uses, where that is another than DAEMON_HOME.
func (s *Supervisor) tellHome() {
	home, homeErr := os.Stat(s.Home.Node)
	dir, dirErr := os.Stat(s.Home.Dir)
	if homeErr == nil && dirErr == nil && os.SameFile(home, dir) {
		return
	}
	s.Log.Info("node home", "path", s.Home.Node, "from", s.Home.NodeFrom, "DAEMON_HOME", s.Home.Dir)
}
