package supervisor

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"solstice"
	"solstice/crash"
	"solstice/internal/child"
	"solstice/internal/outlet"
	"solstice/sidecar"
	"solstice/upgrade"
	"solstice/watch"
)

// handoverFormat is the format of what one version of Solstice hands over to the next in its process. A version reads its own format and
// those before it (olderFormats). What a version does not know is ignored and what is missing is zero, so a field that can be done
// without needs no new format.
const handoverFormat = 2

// olderFormats turn a format into the next, by its number.
var olderFormats = map[int]func(fields map[string]json.RawMessage) error{1: gatherLive}

// gatherLive puts together what decisions rest on, which format 1 had as fields of its own.
// What the data has applied was not among them.
func gatherLive(fields map[string]json.RawMessage) error {
	live := map[string]json.RawMessage{}
	for from, to := range map[string]string{"plan_at": "plan_at", "written": "written", "heard_at": "height_at"} {
		if value, ok := fields[from]; ok {
			live[to] = value
		}
	}
	var heard struct {
		Committed int64
		Known     bool
	}
	if value, ok := fields["heard"]; ok {
		if err := json.Unmarshal(value, &heard); err != nil {
			return err
		}
	}
	if heard.Known {
		height, err := json.Marshal(upgrade.AtLeast(heard.Committed, upgrade.SourceNode))
		if err != nil {
			return err
		}
		live["height"] = height
	}
	content, err := json.Marshal(live)
	if err != nil {
		return err
	}
	fields["live"] = content
	return nil
}

// Where a handover is found, and why the version before this one, if there is a reason, has given back what it was handed.
const (
	handoverEnv = "SOLSTICE_HANDOVER"       // the number of an open file
	faultEnv    = "SOLSTICE_HANDOVER_FAULT" // a sentence
)

// Handover is what Solstice hands over to the version of it that takes its place in its process: what only it knows. All else is
// read from the disk, as at any start.
type Handover struct {
	given given
	state *os.File // where it is written
	env   []string // of this program; its arguments and its environment are those of the one before
	fault string   // why it is given back; empty: it isn't

	mu    sync.Mutex
	taken bool // there is no way back
}

// given is a handover as it is written.
type given struct {
	Format  int    `json:"format"`
	Version string `json:"version"` // of Solstice
	Reloads int    `json:"reloads"`
	Home    string `json:"home"`
	Node    string `json:"node_home"`
	// NodeFrom is what named it.
	NodeFrom string    `json:"node_home_from,omitempty"`
	Since    time.Time `json:"since"`
	Files    files     `json:"files"`

	Process  solstice.Process `json:"process"`
	Live     upgrade.Live     `json:"live"`
	BinaryAt watch.Stamp      `json:"binary_at"`
	Failures int              `json:"failures"`
	Told     bool             `json:"told"` // the manager, that the node runs
	KeptFor  solstice.Plan    `json:"kept_for"`
	Sidecars []sidecar.Handed `json:"sidecars"`
	LeftOut  int64            `json:"left_out,omitempty"` // bytes of the log that were not written before the replacement
}

// files are open files, by their numbers.
type files struct {
	Supervised int `json:"supervised"` // the locks
	NodeLock   int `json:"node_lock"`
	Kin        int `json:"kin"`        // of the node
	Socket     int `json:"socket"`     // that listens; 0: none
	Stderr     int `json:"stderr"`     // of the node, to be read; 0: it isn't
	Executable int `json:"executable"` // of the version that hands over, to go back to
}

// open are all files that are handed over, by where their numbers stand. Where a number is 0 there is none.
func (g *given) open() (numbers []*int) {
	f := &g.Files
	numbers = []*int{&f.Supervised, &f.NodeLock, &f.Kin, &f.Executable, &f.Socket, &f.Stderr}
	for i := range g.Sidecars {
		numbers = append(numbers, &g.Sidecars[i].Kin)
	}
	return slices.DeleteFunc(numbers, func(n *int) bool { return *n == 0 })
}

// IsGiven says whether something was handed over to this program.
func IsGiven() bool { return os.Getenv(handoverEnv) != "" }

// TakeHandover reads what was handed over to this program, and takes it out of the environment. Without a handover it returns nil.
func TakeHandover() (*Handover, error) {
	text, ok := os.LookupEnv(handoverEnv)
	if !ok {
		return nil, nil
	}
	fault := os.Getenv(faultEnv)
	os.Unsetenv(handoverEnv)
	os.Unsetenv(faultEnv)
	env := os.Environ()
	number, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("%s is no number of a file: %q", handoverEnv, text)
	}
	unix.CloseOnExec(number)
	h := &Handover{state: os.NewFile(uintptr(number), "handover"), env: env, fault: fault}
	content, err := io.ReadAll(io.NewSectionReader(h.state, 0, 1<<20))
	if err == nil {
		err = h.given.decode(content)
	}
	if err != nil {
		return nil, fmt.Errorf("what was handed over can't be read: %w", err)
	}
	for _, number := range h.given.open() {
		unix.CloseOnExec(*number)
	}
	return h, nil
}

// decode reads a handover of this format or an older one.
func (g *given) decode(content []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(content, &fields); err != nil {
		return err
	}
	var format int
	if err := json.Unmarshal(fields["format"], &format); err != nil {
		return fmt.Errorf("its format: %w", err)
	}
	if format < 1 || format > handoverFormat {
		return fmt.Errorf("it has format %d, and this version knows those up to %d: it is older than the one that runs", format, handoverFormat)
	}
	for ; format < handoverFormat; format++ {
		if err := olderFormats[format](fields); err != nil {
			return fmt.Errorf("from format %d to %d: %w", format, format+1, err)
		}
	}
	content, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	return json.Unmarshal(content, g)
}

// NodeHome is the home that the node uses which is handed over, and what named it.
func (h *Handover) NodeHome() (path, from string) { return h.given.Node, h.given.NodeFrom }

// Check says what keeps a home from being taken over with these settings.
func (h *Handover) Check(home solstice.Home, list []sidecar.Sidecar) error {
	if h.given.Home != home.Dir || h.given.Node != home.Node {
		return fmt.Errorf("the settings name another home now: %s with the node's home %s, not %s with %s", home.Dir, home.Node, h.given.Home, h.given.Node)
	}
	for _, number := range h.given.open() {
		var stat unix.Stat_t
		if err := unix.Fstat(*number, &stat); err != nil {
			return fmt.Errorf("file %d, which was to be handed over, is not there: %w", *number, err)
		}
	}
	if err := unix.Kill(h.given.Process.PID, 0); err != nil {
		return fmt.Errorf("the node's process %d can't be seen: %w", h.given.Process.PID, err)
	}
	return sidecar.Known(h.given.Sidecars, list)
}

// Back gives what was handed over back to the version that it came from, which goes on: nothing was changed. signals are those that
// were caught meanwhile. It returns if this version has taken over already, if it is itself the one that it was given back to, or if
// that can't be executed, which it says.
func (h *Handover) Back(fault error, signals chan os.Signal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.taken || h.fault != "" {
		return
	}
	env := append(h.env, fmt.Sprintf("%s=%d", handoverEnv, fd(h.state)), faultEnv+"="+fault.Error())
	keep := []*os.File{h.state}
	for _, number := range h.given.open() {
		keep = append(keep, os.NewFile(uintptr(*number), ""))
	}
	old := fmt.Sprintf("/proc/self/fd/%d", h.given.Files.Executable)
	signal.Stop(signals)
	for _, sig := range drain(signals) { // it would have come to the other version, or ended this one
		_ = unix.Kill(os.Getpid(), sig.(unix.Signal))
	}
	err := child.Replace(old, os.Args, env, keep)
	if out, openErr := outlet.Open(os.Stderr); openErr == nil {
		fmt.Fprintln(out, "solstice: error: the version before can't be gone back to:", err)
		out.Flush(flushAtReload)
	}
}

// take says that this version has taken over, so that there is no way back.
func (h *Handover) take() {
	h.mu.Lock() // while it is given back, this waits for ever
	defer h.mu.Unlock()
	h.taken = true
	h.state.Close()
	unix.Close(h.given.Files.Executable)
}

// takeOver makes this supervisor the one that the handover comes from. Until it has, nothing is changed.
func (s *Supervisor) takeOver(h *Handover) error {
	if err := h.Check(s.Home, s.Sidecars); err != nil {
		return err
	}
	g := &h.given
	facts, err := upgrade.Gather(s.Home, g.Live, nil)
	if err != nil {
		return err
	}
	process, err := child.Adopt(g.Process.PID, os.NewFile(uintptr(g.Files.Kin), "kin"))
	if err != nil {
		return err
	}
	s.sidecars = sidecar.Begin(s.Home, s.Sidecars, s.Grace, s.Log)
	if err := s.sidecars.Adopt(g.Sidecars); err != nil {
		return err
	}
	h.take()
	s.Out.LeaveOut(g.LeftOut)
	s.readyBefore(facts.InUse()) // those that are new in the list; the node runs already
	s.sidecarsAfter(facts.InUse())
	s.supervised, s.nodeLock = os.NewFile(uintptr(g.Files.Supervised), "supervised"), os.NewFile(uintptr(g.Files.NodeLock), "node lock")
	if g.Files.Socket > 0 {
		s.listening = os.NewFile(uintptr(g.Files.Socket), "socket")
	}
	s.process, s.ended = process, process.Done()
	s.now().Node.SetProcess(process.PID)
	s.dir = cmp.Or(facts.InUse(), solstice.Genesis) // format 1 did not say, and the link may be gone since
	s.binary, s.binaryAt, s.kills = s.Home.Binary(s.dir), g.BinaryAt, crash.CountKills()
	if g.Files.Stderr > 0 {
		err := s.readOn(os.NewFile(uintptr(g.Files.Stderr), "stderr of the node"))
		s.warn("what the node says on stderr gets lost", err)
	}
	s.live, s.failures, s.keptFor = g.Live, g.Failures, g.KeptFor
	s.live.Launched, s.live.Skip = s.dir, s.now().Settings.Skip
	s.notifier.ready = g.Told
	s.watched, err = upgrade.WatchLast(s.Home, facts.Journal, s.dir)
	s.warn("the journal can't be written", err)
	s.reloads, s.reloadFault = g.Reloads, h.fault
	s.view.Store(&view{Since: g.Since, State: "running", Node: &g.Process})
	go s.probes.Digest(s.binary)
	go s.compareHome(process)
	if h.fault != "" {
		s.Log.Error("the new version has not taken over; this one goes on", "version", s.Version, "err", h.fault)
		return nil
	}
	s.reloads++
	s.Log.Info("taken over from the version before; the node runs on", "version", s.Version, "from", g.Version, "node", g.Process.PID)
	return nil
}

// handover is what this supervisor hands over.
func (s *Supervisor) handover() given {
	v := s.view.Load()
	return given{
		Format: handoverFormat, Version: s.Version, Reloads: s.reloads, Home: s.Home.Dir, Node: s.Home.Node, NodeFrom: s.Home.NodeFrom, Since: v.Since,
		Process: *v.Node, Live: s.live, BinaryAt: s.binaryAt, Failures: s.failures, Told: s.notifier.ready, KeptFor: s.keptFor,
	}
}

// write writes a handover into a file that is nowhere on a disk.
func (g given) write() (*os.File, error) {
	content, err := json.Marshal(g)
	if err != nil {
		return nil, err
	}
	f, err := memoryFile("solstice-handover")
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteAt(content, 0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
