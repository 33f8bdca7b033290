package rollback

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"solstice"
	"solstice/internal/durable"
	"solstice/snapshot"
	"solstice/upgrade"
)

// record is what is left to do once everything that can fail is ready beside what is there. It is on disk from before
// the first change until after the last one. Each part of it can be done again.
type record struct {
	Home     string             `json:"home"` // of the node: the paths below are in it, and a copy of it is another
	Begun    time.Time          `json:"begun"`
	What     string             `json:"what"`               // as a sentence
	Replace  []replacement      `json:"replace,omitempty"`  // what is restored
	SetAside []move             `json:"setAside,omitempty"` // what has no counterpart that is restored
	Place    []move             `json:"place,omitempty"`
	Link     string             `json:"link,omitempty"` // directory of the binary, relative to the folder cosmovisor/
	Undone   []upgrade.Switched `json:"undone,omitempty"`
	Redone   *upgrade.Switched  `json:"redone,omitempty"`
	Skip     *upgrade.Skipped   `json:"skip,omitempty"`
	Unskip   *solstice.Plan     `json:"unskip,omitempty"`
	Height   *int64             `json:"height,omitempty"` // the last committed one from now on; 0: not known
}

// replacement puts what lies ready in the place of a file or folder, which is moved aside.
type replacement struct {
	Ready string `json:"ready"`
	Place string `json:"place"`
	Aside string `json:"aside,omitempty"` // empty: nothing was in the place
}

func replacementFor(place, ready, aside string) replacement {
	if !exists(place) {
		aside = ""
	}
	return replacement{ready, place, aside}
}

type move struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// write makes the record durable: from then on there is no way but forward.
func (r record) write(home solstice.Home) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(home.StateDir, 0o700); err != nil {
		return err
	}
	return durable.WriteFile(home.RollbackFile(), append(content, '\n'), 0o600)
}

// Pending says what a cut-off restore or rollback has left to do, or nothing.
func Pending(home solstice.Home) (what string, err error) {
	r, err := readRecord(home)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return r.What, err
}

// NodeHome is the node's home that a cut-off restore or rollback works on; empty: there is
// none. Until that is finished the binary that would be asked may be missing.
func NodeHome(home solstice.Home) string {
	var r record
	content, err := solstice.ReadFile(home.RollbackFile(), solstice.MaxFile)
	if err != nil || json.Unmarshal(content, &r) != nil {
		return ""
	}
	return r.Home
}

// Whole is a refusal if a cut-off restore or rollback has something left to do.
func Whole(home solstice.Home) error {
	what, err := Pending(home)
	if err != nil || what == "" {
		return err
	}
	return refuse("a restore was cut off, and the home is half-way: "+what, "the next start finishes it, and so does the command that was cut off")
}

// Finish does what a cut-off restore or rollback has left to do, and says what that was. It comes before anything
// else that is done with a home. The caller holds the home.
func Finish(home solstice.Home) (what string, err error) {
	r, err := readRecord(home)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err == nil {
		err = snapshot.Store{Home: home}.InUse()
	}
	if err == nil {
		err = r.finish(home)
	}
	if err != nil {
		return r.What, fmt.Errorf("finish what was begun and cut off (%s): %w; what is left to do stands in %s", r.What, err, home.RollbackFile())
	}
	return r.What, nil
}

func readRecord(home solstice.Home) (r record, err error) {
	content, err := solstice.ReadFile(home.RollbackFile(), solstice.MaxFile)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(content, &r); err != nil {
		return r, fmt.Errorf("%s: %w", home.RollbackFile(), err)
	}
	if r.Home != home.Node && !sameFile(r.Home, home.Node) {
		return r, &solstice.RefusedError{
			Reason: fmt.Sprintf("%s is of another home, %s: this one was copied or moved in the middle of a restore", home.RollbackFile(), r.Home),
			Hint:   "move it back there, or copy it again once a start has finished the restore there",
		}
	}
	return r, nil
}

func (r record) finish(home solstice.Home) error {
	for _, do := range r.actions(home) {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// actions are what is left to do, in this order. A cut may come before, after or in any of them: they are done again from
// the first on, and what is done already is seen and left alone.
func (r record) actions(home solstice.Home) []func() error {
	var actions []func() error
	add := func(do func() error) { actions = append(actions, do) }
	for _, m := range r.SetAside {
		add(m.aside)
	}
	for _, p := range r.Replace {
		add(p.clear)
		add(move{p.Ready, p.Place}.do)
	}
	for _, m := range r.Place {
		add(m.do)
	}
	if r.Link != "" {
		add(func() error { return durable.Symlink(r.Link, home.CurrentLink()) })
	}
	for _, s := range r.Undone {
		add(func() error { return durable.Remove(home.AppliedFile(s.Dir)) })
	}
	if r.Redone != nil {
		add(func() error { return durable.WriteFile(home.AppliedFile(r.Redone.Dir), r.Redone.File(), 0o644) })
	}
	add(func() error { return r.note(home) })
	add(func() error { return durable.Remove(home.RollbackFile()) })
	return actions
}

// note brings what we keep ourselves in line.
func (r record) note(home solstice.Home) error {
	journal := upgrade.OpenJournal(home)
	var errs []error
	for _, m := range r.Place {
		if dir, err := filepath.Rel(home.Root(), filepath.Dir(filepath.Dir(m.To))); err == nil {
			errs = append(errs, upgrade.ForgetPrepared(home, dir))
		}
	}
	for _, s := range r.Undone {
		errs = append(errs, journal.RollBack(r.Begun, s))
	}
	if r.Redone != nil {
		errs = append(errs, journal.Switch(r.Begun, *r.Redone))
	}
	if r.Skip != nil {
		errs = append(errs, journal.Skip(r.Begun, *r.Skip))
	}
	if r.Unskip != nil {
		errs = append(errs, journal.Unskip(r.Begun, *r.Unskip))
	}
	switch {
	case r.Height == nil:
	case *r.Height == 0:
		errs = append(errs, durable.Remove(home.HeightFile()))
	default:
		errs = append(errs, upgrade.WriteHeight(home, upgrade.HeightRecord{Committed: *r.Height, At: r.Begun, Exact: true}))
	}
	return errors.Join(errs...)
}

// clear moves aside what is in the place, unless it is what was restored there.
func (p replacement) clear() error {
	if exists(p.Ready) {
		return move{p.Place, p.Aside}.aside()
	}
	if exists(p.Place) && (p.Aside == "" || exists(p.Aside)) {
		return nil // done
	}
	return fmt.Errorf("%s is gone, which was made ready to take the place of %s", p.Ready, p.Place)
}

// do moves what is still there to be moved.
func (m move) do() error {
	if !exists(m.From) {
		return nil
	}
	return durable.Rename(m.From, m.To)
}

// aside moves what is there, once.
func (m move) aside() error {
	if !exists(m.From) || m.To == "" || exists(m.To) {
		return nil
	}
	if err := durable.MkdirAll(filepath.Dir(m.To), 0o700); err != nil {
		return err
	}
	return durable.Rename(m.From, m.To)
}

func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
