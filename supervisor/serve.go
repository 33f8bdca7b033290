package supervisor

import (
	"context"
	"errors"
	"os"

	"solstice"
	"solstice/api"
	"solstice/internal/durable"
	"solstice/upgrade"
)

// prepareState makes the state folder, and tidies up what a cut left. Without the folder the node is supervised all the same. Nobody
// else is at work on the home then.
func (s *Supervisor) prepareState() {
	if err := durable.MkdirAll(s.Home.StateDir, 0o700); err != nil {
		s.Log.Warn("the state folder can't be made: no height is kept and nothing answers to status; SOLSTICE_STATE_DIR puts it elsewhere", "err", err)
		return
	}
	err := errors.Join(upgrade.Sweep(s.Home), s.sweepSnapshots())
	if !errors.Is(err, durable.ErrLocked) { // else the next start does it
		s.warn("debris of an earlier run can't be removed", err)
	}
}

// importBatch takes over Cosmovisor's list. Where another process changes the operator's
// list that is put off: until then its plans count where they are.
func (s *Supervisor) importBatch() {
	imported, err := upgrade.ImportBatch(s.Home)
	for _, p := range imported {
		s.Log.Info("plan taken over from Cosmovisor's batch list", "plan", p.Name, "height", p.Height)
	}
	if errors.Is(err, durable.ErrLocked) {
		s.tellLocked()
		return
	}
	s.warn("Cosmovisor's batch list can't be taken over", err)
}

// tellLocked says, once, that a change of the operator's list is put off because of another
// process.
func (s *Supervisor) tellLocked() {
	if s.said.anew(saidLocked, s.Home.StateDir) {
		s.Log.Info(saidLocked, "pid", list(holders(s.Home.StateDir)), "path", s.Home.StateDir)
	}
}

// serve begins to answer to status.
func (s *Supervisor) serve() {
	if _, err := os.Stat(s.Home.StateDir); err != nil {
		return // which was told
	}
	var err error
	if s.listening != nil {
		s.server, err = api.Resume(s.Home.Socket(), s.listening, s)
		s.listening = nil
	} else {
		s.server, err = api.Serve(s.Home.Socket(), s)
	}
	if err != nil {
		s.Log.Warn("nothing answers to status: the control socket can't be made", "err", err)
	}
}

// stopServing ends the answers to status. Those who ask while this program is replaced wait for the next one.
func (s *Supervisor) stopServing(replaced bool) {
	switch {
	case s.server == nil:
	case replaced:
		var err error
		s.listening, err = s.server.Hand()
		s.warn("the control socket can't be handed over", err)
	default:
		s.server.Close()
	}
	s.server = nil
}

// reply answers a request that came over the control socket.
type reply[T any] struct {
	value T
	err   error
}

// request hands the loop a request that came over the control socket, and waits for its reply.
func request[R, T any](ctx context.Context, s *Supervisor, to chan<- R, r R, replies <-chan reply[T]) (none T, err error) {
	select {
	case to <- r:
	case <-s.leaving:
		return none, noTime("the supervisor ends, or a new version takes over just now")
	case <-ctx.Done():
		return none, ctx.Err()
	}
	select {
	case r := <-replies:
		return r.value, r.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// noTime refuses a request that can be made again later.
func noTime(reason string) error {
	return &solstice.RefusedError{Reason: "this is no time for it: " + reason, Hint: "see what it does: solstice status"}
}
