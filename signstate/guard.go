package signstate

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"solstice"
	"solstice/internal/durable"
)

// Guard keeps a validator's state file and its mark together. Where the node signs nothing with a file of its own, all its
// methods do nothing. One goroutine uses it at a time; another Guard of the same home may be at work elsewhere.
type Guard struct {
	Validator
	Marks Marks

	address  string // whose mark was recorded last
	recorded State
}

// Check refuses if the node's state file is below the mark, or can't be told to be above it. It is asked before each start,
// and there is no way past it but RaiseFile.
func (g *Guard) Check() error {
	address, mark, err := g.mark()
	if err != nil && g.Marks.none() {
		return nil // a key that says nothing of its address, and nothing that it could be below
	}
	if err != nil || mark == (State{}) {
		return err // and what the node makes of a damaged file is its own affair
	}
	state, err := ReadFile(g.StateFile)
	if err != nil || state.Compare(mark) < 0 {
		return g.refuse(address, mark, g.StateFile, state, err)
	}
	return nil
}

// Record raises the mark to the node's state file, and returns what the file says. It is for every second while the node
// runs, and for once after its end: it only reads if nothing was signed since. A missing file is no error; the node makes it.
func (g *Guard) Record() (State, error) {
	address, err := g.Address()
	if err != nil || address == "" {
		return State{}, err
	}
	state, err := ReadFile(g.StateFile)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return State{}, err
	}
	if address != g.address || state.Compare(g.recorded) > 0 {
		if err := g.Marks.Raise(address, state); err != nil {
			return state, err
		}
		g.address, g.recorded = address, state
	}
	return state, nil
}

// RaiseFile brings the state file up to the mark if it is below, missing or damaged, and returns where it stood and stands;
// from is zero if it said nothing. It never lowers it, and so leaves a file alone that is there and can't be read. The node
// must be stopped.
//
// A symlink is replaced by a file, as by the node itself, which renames its new state over it with each signature.
func (g *Guard) RaiseFile() (from, to State, err error) {
	address, mark, err := g.mark()
	if err != nil || address == "" {
		return State{}, State{}, err
	}
	from, err = ReadFile(g.StateFile)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case err != nil && !missing && !damaged(err):
		return from, from, err
	case mark == State{} && missing:
		return from, from, nil
	case mark == State{} && err != nil:
		return from, from, fmt.Errorf("%w; and no mark says how far to raise it", err)
	case err == nil && from.Compare(mark) >= 0:
		return from, from, nil
	}
	if err := durable.MkdirAll(filepath.Dir(g.StateFile), 0o700); err != nil {
		return from, from, err
	}
	if err := durable.WriteFile(g.StateFile, mark.file(), 0o600); err != nil {
		return from, from, err
	}
	return from, mark, nil
}

// Kept is the sign state that a restored data directory has to get.
type Kept struct {
	State   State
	From    string // the file that it is from
	Content []byte // the whole file, with the signature that the node may have to repeat; nil: leave the snapshot's as it is
}

// Keep says which state file a restored data directory gets: the live one, or the snapshot's if that is above it. It refuses
// if that is below the mark. A file that is missing, or damaged in the snapshot, counts as none; a live one that is
// damaged has to be raised first, because nobody can tell what it held.
func (g *Guard) Keep(snapshotFile string) (Kept, error) {
	address, mark, err := g.mark()
	if err != nil || address == "" {
		return Kept{}, err
	}
	kept, err := keep(g.StateFile)
	if err != nil {
		if mark == (State{}) {
			return Kept{}, err
		}
		return Kept{}, g.refuse(address, mark, g.StateFile, State{}, err)
	}
	old, err := keep(snapshotFile)
	if err != nil && !damaged(err) {
		return Kept{}, err
	}
	if err == nil && (kept.Content == nil || old.State.Compare(kept.State) > 0) {
		kept = old
	}
	if kept.State.Compare(mark) < 0 {
		if kept.Content == nil {
			return Kept{}, g.refuse(address, mark, g.StateFile, State{}, fs.ErrNotExist)
		}
		return Kept{}, g.refuse(address, mark, kept.From, kept.State, nil)
	}
	return kept, nil
}

func keep(path string) (Kept, error) {
	state, content, err := readState(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Kept{}, nil
	}
	return Kept{state, path, content}, err
}

// mark returns the validator and its mark. Both are zero if the node signs nothing with a file.
func (g *Guard) mark() (address string, mark State, err error) {
	if address, err = g.Address(); err == nil && address != "" {
		mark, err = g.Marks.Of(address)
	}
	return address, mark, err
}

// refuse says that a file with this state, or with the error of reading it, does not come up to the mark.
func (g *Guard) refuse(address string, mark State, file string, state State, err error) error {
	fault := fmt.Sprintf("%s is at %s", file, state)
	hint := "bring the file up to what was signed: solstice sign-state raise"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fault = file + " is missing"
	case err != nil:
		fault = err.Error()
		if !damaged(err) {
			hint = "let the user that runs this read and write it: " + file
		}
	}
	return &solstice.RefusedError{
		Reason: fmt.Sprintf("validator %s has signed up to %s, says %s, but %s: "+
			"a node that starts behind what it has signed can sign a height twice, which can never be undone",
			address, mark, g.Marks.path, fault),
		Hint: hint,
	}
}
