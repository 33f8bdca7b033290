package simulate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"solstice"
	"solstice/api"
	"solstice/localnet"
	"solstice/report"
)

// View is what a node is doing.
type View struct {
	Name    string
	Height  int64  // the last block that its application has committed
	Version string // genesis, or the name of an upgrade's folder
	State   string // in words
	Ended   bool   // its solstice has ended by itself
}

// watched is what is seen of one member. Its methods are for any goroutine.
type watched struct {
	mu      sync.Mutex
	process *localnet.Process
	now     View
	status  solstice.Status
	hashes  map[int64]string // the application's own hash after a block, by height
	spans   []report.Span
	doing   func(step string) // called once when an upgrade's step is seen; nil without a fault to be done
}

func (w *watched) began(p *localnet.Process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.process = p
}

func (w *watched) current() *localnet.Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.process
}

func (w *watched) view() View {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// passage is the record of an upgrade, if the node has begun it.
func (w *watched) passage(plan string) (u solstice.Upgrade, waiting string, found bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range slices.Backward(w.status.Upgrades) {
		if one.Name == plan {
			return one, w.status.Waiting, true
		}
	}
	return u, w.status.Waiting, false
}

const (
	// watchEvery is how often every node is looked at.
	watchEvery = 100 * time.Millisecond
	// killEvery is the same for one that is to be killed in the middle of an upgrade, which may take a tenth of a second.
	killEvery = 10 * time.Millisecond
	// showEvery is how often that is shown.
	showEvery = 250 * time.Millisecond
)

// watch looks at all members until ctx is done, and shows them.
func (s *Simulation) watch(ctx context.Context) (done <-chan struct{}) {
	ended := make(chan struct{})
	var looking sync.WaitGroup
	for _, m := range s.members {
		m.watched.now = View{Name: m.Name, Version: solstice.Genesis, State: "starting"}
		m.watched.hashes = map[int64]string{}
		looking.Go(func() {
			for every(ctx, m.watched.pause()) {
				m.look(ctx)
			}
		})
	}
	looking.Go(func() {
		for every(ctx, showEvery) {
			s.screen.Show(s.views())
		}
	})
	go func() {
		looking.Wait()
		close(ended)
	}()
	return ended
}

// pause is how soon to look again.
func (w *watched) pause() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.doing != nil {
		return killEvery
	}
	return watchEvery
}

// every pauses, and says whether to go on.
func every(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}

func (s *Simulation) views() (views []View) {
	for _, m := range s.members {
		views = append(views, m.watched.view())
	}
	return views
}

// look asks a member's solstice and the node itself, and remembers what is new.
func (m *member) look(ctx context.Context) {
	status, statusErr := m.Status(ctx)
	state, stateErr := m.State(ctx)
	if ctx.Err() != nil {
		return
	}
	w := &m.watched
	w.mu.Lock()
	kind, label := w.see(status, statusErr, state, stateErr)
	w.note(kind, label, time.Now())
	var doing func(string)
	if statusErr == nil && status.Doing != nil {
		doing, w.doing = w.doing, nil
	}
	w.mu.Unlock()
	if doing != nil {
		doing(status.Doing.Step)
	}
}

// see takes over what was answered, and says what is going on.
func (w *watched) see(status solstice.Status, statusErr error, state localnet.State, stateErr error) (report.Kind, string) {
	if stateErr == nil && state.Height > 0 {
		w.now.Height = state.Height
		w.hashes[state.Height] = state.AppHash
	}
	if statusErr != nil {
		w.now.State = "starting"
		if p := w.process; p != nil && !p.Running() {
			w.now.State, w.now.Ended = "ended, "+p.End().String(), true
			return report.Down, w.now.State
		}
		if errors.Is(statusErr, api.ErrNotRunning) {
			return report.Down, w.now.State
		}
		return report.Running, w.now.Version
	}
	w.status, w.now.Ended = status, false
	w.now.Version = versionOf(status.Binary.Dir)
	if stateErr != nil && status.Height != nil {
		w.now.Height = max(w.now.Height, status.Height.Committed)
	}
	last := solstice.Upgrade{}
	if n := len(status.Upgrades); n > 0 {
		last = status.Upgrades[n-1]
	}
	switch {
	case status.Doing != nil:
		w.now.State = status.Doing.Name + ": " + status.Doing.Step
		return report.Solstice, status.Doing.Name
	case status.Waiting != "":
		w.now.State = "waits: " + status.Waiting
		return report.Halted, w.now.Version
	case last.State == "switched" && last.Standing.Migration == 0:
		w.now.State = last.Name + ": starts and migrates"
		return report.Migration, last.Name
	case last.State == "switched":
		w.now.State = last.Name + ": waits for the next block"
		return report.Waiting, last.Name
	case status.Node == nil:
		w.now.State = cmp.Or(status.Supervisor.State, "starting")
		return report.Down, w.now.Version
	}
	w.now.State = "running"
	return report.Running, w.now.Version
}

// note prolongs the last span, or begins another.
func (w *watched) note(kind report.Kind, label string, at time.Time) {
	if n := len(w.spans); n > 0 {
		last := &w.spans[n-1]
		last.To = at
		if last.Kind == kind && last.Label == label {
			return
		}
	}
	w.spans = append(w.spans, report.Span{From: at, To: at, Kind: kind, Label: label})
}

// exact are the spans with what solstice itself has measured in place of what was seen ten times a second.
func exact(spans []report.Span, upgrades []solstice.Upgrade) []report.Span {
	for _, u := range upgrades {
		if u.Confirmed.IsZero() || u.Standing.Total == 0 {
			continue
		}
		halted := u.Confirmed.Add(-time.Duration(u.Standing.Total))
		executes := halted.Add(time.Duration(u.Standing.Ours))
		migrated := executes.Add(time.Duration(u.Standing.Migration))
		var around []report.Span
		for _, span := range spans {
			if before := span; before.From.Before(halted) {
				before.To = earlier(before.To, halted)
				around = append(around, before)
			}
			if after := span; after.To.After(u.Confirmed) {
				after.From = later(after.From, u.Confirmed)
				around = append(around, after)
			}
		}
		spans = append(around,
			report.Span{From: halted, To: executes, Kind: report.Solstice, Label: u.Name},
			report.Span{From: executes, To: migrated, Kind: report.Migration, Label: u.Name},
			report.Span{From: migrated, To: u.Confirmed, Kind: report.Waiting, Label: u.Name})
		slices.SortStableFunc(spans, func(a, b report.Span) int { return a.From.Compare(b.From) })
	}
	return spans
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// versionOf is a binary's version by its folder.
func versionOf(dir string) string {
	if name, ok := strings.CutPrefix(dir, "upgrades/"); ok {
		return name
	}
	return solstice.Genesis
}

func (v View) String() string {
	return fmt.Sprintf("%-14s height %-8d %-10s %s", v.Name, v.Height, v.Version, v.State)
}
