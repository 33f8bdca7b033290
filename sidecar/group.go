package sidecar

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"solstice"
	"solstice/internal/child"
)

// Group runs the sidecars of one node. Its methods can be called from any goroutine; those of a nil Group have nothing to do.
type Group struct {
	home  solstice.Home
	grace time.Duration
	log   *slog.Logger

	todo    chan todo
	changed chan struct{} // has room for one
	ended   chan struct{}
	shown   atomic.Pointer[[]solstice.Sidecar]

	// Owned by the loop.
	members []*member
	stops   []stop
	next    time.Time // when the loop looks again though nothing happens
	settled int       // how many of them are, as it was published
	closed  bool
}

// todo is something that is done by the loop. done is closed when what follows from it was done too.
type todo struct {
	do   func()
	done chan struct{} // may be nil
}

// stop is somebody who waits until all sidecars of a kind have ended.
type stop struct {
	start Start
	ended chan struct{}
}

const (
	backoffMin   = time.Second
	backoffMax   = time.Minute
	steadyAfter  = time.Minute           // one that ran so long starts a new row of failures
	patience     = 2 * time.Second       // how long one is waited for, at a stop, before the one ahead of it is told too
	killPatience = 10 * time.Second      // how long a killed one may take to be gone before nobody waits for it any more
	lookAgain    = 20 * time.Millisecond // how soon a lock is tried again
	forever      = 365 * 24 * time.Hour
)

// Begin makes the group of a list; of an empty one it is nil. None is started yet. Call Close at the end.
func Begin(home solstice.Home, list []Sidecar, grace time.Duration, log *slog.Logger) *Group {
	if len(list) == 0 {
		return nil
	}
	g := &Group{
		home: home, grace: grace, log: log,
		todo: make(chan todo), changed: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	for _, s := range list {
		g.members = append(g.members, &member{Sidecar: s, g: g, log: log.With("sidecar", s.Name)})
	}
	g.show()
	go g.loop()
	return g
}

// Start says that the sidecars of a kind are to run, with the binaries of a version's directory, and whether each is ready, could
// not be started, or has had its time to become ready. It waits for nothing.
func (g *Group) Start(start Start, dir string) (settled bool) {
	if g == nil {
		return true
	}
	settled = true
	g.call(func() {
		for _, m := range g.members {
			if m.Start == start {
				m.wantFrom(dir)
			}
		}
		g.step()
		settled = !slices.ContainsFunc(g.members, func(m *member) bool { return m.Start == start && !m.settled })
	})
	return settled
}

// Stop tells the sidecars of a kind to end, in reverse order. wait returns when they and what they left behind have ended; one that
// takes longer than the grace is killed.
func (g *Group) Stop(start Start) (wait func()) {
	if g == nil {
		return func() {}
	}
	s := stop{start, make(chan struct{})}
	g.call(func() {
		for _, m := range g.members {
			if m.Start == start {
				m.wantFrom("")
			}
		}
		g.stops = append(g.stops, s)
	})
	return func() {
		select {
		case <-s.ended:
		case <-g.ended:
		}
	}
}

// Retry starts those at once that have died and wait for their time: what they need has come up.
func (g *Group) Retry() {
	if g == nil {
		return
	}
	g.call(func() {
		for _, m := range g.members {
			m.startAt, m.Failures = time.Time{}, 0
		}
	})
}

// Handed is a sidecar that runs, on its way to a program that takes this one's place in the process.
type Handed struct {
	Name    string  `json:"name"`
	Running Running `json:"running"`
	Ready   bool    `json:"ready"`
	Kin     int     `json:"kin"` // the number of the file by which what it leaves behind is seen
}

// Hand stands the group still, so that another program can go on with those that run. Nothing of what happens meanwhile is forgotten,
// if resume is called because nothing has come of it.
func (g *Group) Hand() (handed []Handed, kin []*os.File, resume func()) {
	if g == nil {
		return nil, nil, func() {}
	}
	still, resumed := make(chan struct{}), make(chan struct{})
	var held []*child.Process
	go g.call(func() {
		for _, m := range g.members {
			if m.process != nil && m.process.Hand() {
				held = append(held, m.process)
				kin = append(kin, m.process.Kin())
				handed = append(handed, Handed{m.Name, m.Running, m.ready, int(m.process.Kin().Fd())})
			}
		}
		close(still)
		<-resumed
	})
	<-still
	return handed, kin, func() {
		for _, process := range held {
			process.Keep()
		}
		close(resumed)
	}
}

// Known says whether the sidecars that run stand in the list, too.
func Known(handed []Handed, list []Sidecar) error {
	for _, h := range handed {
		if !slices.ContainsFunc(list, func(s Sidecar) bool { return s.Name == h.Name }) {
			return fmt.Errorf("the sidecar %q runs and stands in the list of sidecars no more", h.Name)
		}
	}
	return nil
}

// Adopt goes on with those that were handed over by the program whose place this one has taken. They run as they were started, also if
// the list says another command now.
func (g *Group) Adopt(handed []Handed) (err error) {
	if g == nil {
		return nil
	}
	g.call(func() {
		for _, m := range g.members {
			i := slices.IndexFunc(handed, func(h Handed) bool { return h.Name == m.Name })
			if i < 0 || err != nil {
				continue
			}
			h := handed[i]
			var process *child.Process
			if process, err = child.Adopt(h.Running.PID, os.NewFile(uintptr(h.Kin), "kin of "+h.Name)); err != nil {
				continue
			}
			m.Running, m.want, m.ready, m.settled = h.Running, h.Running.Dir, h.Ready, h.Ready
			m.follow(process)
		}
	})
	return err
}

// Changed says that Status has something new, or that Start may answer another thing.
func (g *Group) Changed() <-chan struct{} {
	if g == nil {
		return nil
	}
	return g.changed
}

// Status is how each of them is.
func (g *Group) Status() []solstice.Sidecar {
	if g == nil {
		return nil
	}
	return *g.shown.Load()
}

// Close ends the group. Stop both kinds before.
func (g *Group) Close() {
	if g == nil {
		return
	}
	g.call(func() { g.closed = true })
	<-g.ended
}

// call has something done by the loop, with all that follows from it at once.
func (g *Group) call(do func()) {
	one := todo{do, make(chan struct{})}
	select {
	case g.todo <- one:
		<-one.done
	case <-g.ended:
	}
}

// tell is call for a goroutine that does not wait.
func (g *Group) tell(do func()) {
	select {
	case g.todo <- todo{do: do}:
	case <-g.ended:
	}
}

func (g *Group) loop() {
	defer close(g.ended)
	timer := time.NewTimer(forever)
	defer timer.Stop()
	for !g.closed {
		var one todo
		select {
		case one = <-g.todo:
			one.do()
		case <-timer.C:
		}
		g.step()
		g.show()
		g.release()
		if one.done != nil {
			close(one.done)
		}
		timer.Reset(max(time.Until(g.next), time.Millisecond))
	}
}

// step does all that is due, and finds out when it has to look again.
func (g *Group) step() {
	now := time.Now()
	g.next = now.Add(forever)
	for i, m := range slices.Backward(g.members) {
		if m.ends() && !g.held(g.members[i+1:], m.Start, now) {
			m.end(now)
		}
		if m.process == nil && !m.clear {
			m.lookBehind(now)
		}
	}
	turn := map[Start]bool{Before: true, After: true}
	for _, m := range g.members {
		if m.want == "" {
			continue
		}
		if turn[m.Start] {
			m.begin(now)
			m.ask(now)
		}
		turn[m.Start] = turn[m.Start] && m.settled
	}
}

// release lets those go on who waited for what has ended. It comes after show, so that they
// do not read an older state.
func (g *Group) release() {
	now := time.Now()
	g.stops = slices.DeleteFunc(g.stops, func(s stop) bool {
		if slices.ContainsFunc(g.members, func(m *member) bool { return m.Start == s.start && !m.gone(now) }) {
			return false
		}
		close(s.ended)
		return true
	})
}

// held says whether one that was started later, of the same kind, has to end first.
func (g *Group) held(later []*member, start Start, now time.Time) bool {
	for _, m := range later {
		if m.Start != start || !m.ends() {
			continue
		}
		if m.told.IsZero() {
			return true
		}
		if until := m.told.Add(patience); now.Before(until) {
			g.wake(until)
			return true
		}
	}
	return false
}

// wake makes the loop look again at a time.
func (g *Group) wake(at time.Time) {
	if at.Before(g.next) {
		g.next = at
	}
}

// show publishes how they are.
func (g *Group) show() {
	var now []solstice.Sidecar
	settled := 0
	for _, m := range g.members {
		now = append(now, m.show())
		if m.settled {
			settled++
		}
	}
	if before := g.shown.Load(); before != nil && slices.Equal(*before, now) && settled == g.settled {
		return
	}
	g.shown.Store(&now)
	g.settled = settled
	select {
	case g.changed <- struct{}{}:
	default:
	}
}
