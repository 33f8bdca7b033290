package solstice

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Status is everything that Solstice knows about a home. The command line, the control socket and every
// later interface show this one model. Times are RFC 3339, durations are seconds.
type Status struct {
	Version     string       `json:"version"` // of the solstice that answers
	Home        string       `json:"home"`
	NodeHome    string       `json:"node_home"`
	Name        string       `json:"name"`
	Supervisor  *Supervisor  `json:"supervisor,omitempty"` // absent when none runs, or answers
	Silent      string       `json:"silent,omitempty"`     // that one runs and does not answer: the rest is from the files
	Node        *Process     `json:"node,omitempty"`       // absent when none runs
	Binary      Binary       `json:"binary"`
	Height      *Height      `json:"height,omitempty"` // absent when it was never known
	Pending     []Pending    `json:"pending"`
	Coming      []Coming     `json:"coming,omitempty"`      // what is ahead, pending or not; only with the chain's own word
	Unseen      string       `json:"unseen,omitempty"`      // why the chain's word is missing, or a part of it
	Readiness   *Readiness   `json:"readiness,omitempty"`   // absent unless a supervisor has checked it
	Held        []Held       `json:"held,omitempty"`        // plans that are not carried out although their height may come
	Faults      []string     `json:"faults,omitempty"`      // what is unknown or can't be read, and what follows from it; each a sentence
	Waiting     string       `json:"waiting,omitempty"`     // why a due plan is not carried out, or what the plan file's fault is
	Next        string       `json:"next,omitempty"`        // what the next start will do besides starting the node
	Doing       *Doing       `json:"doing,omitempty"`       // absent unless an upgrade is under way
	Rehearsed   *Rehearsed   `json:"rehearsed,omitempty"`   // absent unless a rehearsed upgrade waits for its first block
	Copying     *Copying     `json:"copying,omitempty"`     // absent unless a snapshot is on its way to another disk
	Downloading *Downloading `json:"downloading,omitempty"` // absent unless a plan's binary is, or could not be
	Standstill  *Standstill  `json:"standstill,omitempty"`  // absent while blocks come, and when a supervisor does not know why none does
	Crash       *Crash       `json:"crash,omitempty"`       // the last one; absent when none is known
	Sidecars    []Sidecar    `json:"sidecars,omitempty"`    // in the order of the list; absent without any, and when no supervisor runs
	Upgrades    []Upgrade    `json:"upgrades"`              // oldest first

	NodeHomeFrom  string `json:"node_home_from,omitempty"`  // what names NodeHome: --home, a variable, the binary's default, DAEMON_HOME
	NodeHomeFault string `json:"node_home_fault,omitempty"` // what shows that the running node uses another one
}

// Supervisor is the solstice process that holds the home.
type Supervisor struct {
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
	State string    `json:"state"` // starting, running, upgrading, pausing (for a snapshot), waiting or stopping
	// Reloads is how often a new version has taken over in this process.
	Reloads int `json:"reloads,omitempty"`
	// ReloadFault is why the last one that should has not.
	ReloadFault string `json:"reload_fault,omitempty"`
}

// Reloading is a reload that has been tried and is about to happen.
type Reloading struct {
	PID     int    `json:"pid"`     // of the supervisor, before and after
	Version string `json:"version"` // that gives way
	Reloads int    `json:"reloads"` // before it
}

// Process is the node's process.
type Process struct {
	PID   int       `json:"pid"`
	Since time.Time `json:"since"`
	Args  []string  `json:"args"`
}

// Sidecar is a process that lives with the node.
type Sidecar struct {
	Name  string `json:"name"`
	Start string `json:"start"` // before or after the node
	// State is starting, running, not ready (in time), restarting, waiting (for its turn, or for an earlier run's end),
	// stopping or stopped.
	State    string    `json:"state"`
	PID      int       `json:"pid,omitempty"`
	Since    time.Time `json:"since,omitzero"` // when the process was started
	Restarts int       `json:"restarts"`       // after an end that nobody asked for
	Binary   string    `json:"binary,omitempty"`
	Fault    string    `json:"fault,omitempty"` // why it does not run, or is not ready
}

// Binary is a node's binary and whether it can run here.
type Binary struct {
	Dir   string `json:"dir"` // relative to the folder cosmovisor/, such as upgrades/v2
	Path  string `json:"path,omitempty"`
	Fault string `json:"fault,omitempty"` // why it can't run
	// SwitchesItself says that the node goes through its plans by itself, with this binary.
	SwitchesItself bool `json:"switches_itself,omitempty"`
}

// Height is the last block that the node is known to have committed.
type Height struct {
	Committed int64     `json:"committed"` // for certain; it may be further
	At        time.Time `json:"at"`
	Source    string    `json:"source"` // node: it says so; data: its databases do; record: it said so before it ended
}

// Pending is a plan that is known and not carried out yet.
type Pending struct {
	Name   string `json:"name"`
	Height int64  `json:"height"`
	Origin string `json:"origin"` // plan file or operator
	Binary Binary `json:"binary"`
}

// Held is a plan that is not carried out although its height may come.
type Held struct {
	Name   string `json:"name"`
	Height int64  `json:"height"`
	Reason string `json:"reason"`
	Hint   string `json:"hint"`
}

// Coming is an upgrade that is ahead, as the chain, the plan file or the operator says.
type Coming struct {
	Name        string    `json:"name,omitempty"`
	Height      int64     `json:"height,omitempty"`
	Stage       string    `json:"stage"`
	Proposal    uint64    `json:"proposal,omitempty"` // of governance
	Title       string    `json:"title,omitempty"`
	Cancels     bool      `json:"cancels,omitempty"` // the proposal is to cancel it
	Ends        time.Time `json:"ends,omitzero"`     // of the deposit or voting period
	Blocks      int64     `json:"blocks"`            // ahead; 0: due, or the height is not known
	Expected    time.Time `json:"expected,omitzero"` // zero: the pace of the chain is not known
	Uncertainty Seconds   `json:"uncertainty,omitempty"`
	Offered     []string  `json:"offered,omitempty"` // the platforms that its info has a binary for, or where its info is
	Binary      Binary    `json:"binary"`
}

// Stages of what is coming, besides deposit and voting.
const (
	StageScheduled = "scheduled" // by the chain
	StageDue       = "due"       // its height has come
	StageOperator  = "operator"  // the operator's plan
	StageFile      = "plan file" // it stands in the plan file, and the chain does not confirm it
)

// Verdict is what a check of readiness finds.
type Verdict string

// Verdicts, from good to bad.
const (
	OK       Verdict = "ok"
	Unknown  Verdict = "unknown" // it can't be found out
	Warning  Verdict = "warning"
	NotReady Verdict = "not ready" // the upgrade would fail
)

// Check is one thing that an upgrade needs.
type Check struct {
	Name     string  `json:"name"`
	Verdict  Verdict `json:"verdict"`
	Evidence string  `json:"evidence"`     // a sentence
	Do       string  `json:"do,omitempty"` // a sentence, unless it is ok
}

// Readiness is whether the next upgrade will go well, as far as that can be known before.
type Readiness struct {
	Plan    string    `json:"plan"`
	Height  int64     `json:"height"`
	At      time.Time `json:"at"`
	Verdict Verdict   `json:"verdict"` // the worst
	Checks  []Check   `json:"checks"`
}

// Doing is the step that an upgrade is at.
type Doing struct {
	Name   string    `json:"name"`
	Height int64     `json:"height"`
	Step   string    `json:"step"`
	Since  time.Time `json:"since"`
}

// Rehearsed is how long an upgrade took when it was rehearsed.
type Rehearsed struct {
	Name       string    `json:"name"`        // of the plan
	FirstBlock Seconds   `json:"first_block"` // from the new binary's start to the plan's block
	At         time.Time `json:"at"`
}

// Copying is a snapshot that is copied to another disk while the node runs.
type Copying struct {
	Snapshot string    `json:"snapshot"`
	To       string    `json:"to"` // folder
	Done     int64     `json:"done"`
	Total    int64     `json:"total"` // bytes
	Since    time.Time `json:"since"`
	Waiting  string    `json:"waiting,omitempty"` // why it does not go on
}

// Downloading is a plan's binary on its way here.
type Downloading struct {
	Name    string    `json:"name"` // of the plan
	Done    int64     `json:"done"`
	Total   int64     `json:"total,omitempty"` // bytes; 0: not known
	Since   time.Time `json:"since"`
	Waiting string    `json:"waiting,omitempty"` // why it failed; it is tried again
}

// StandstillKind is who has stopped.
type StandstillKind string

// Kinds of standstills.
const (
	StandstillNode       StandstillKind = "the node" // its peers go on
	StandstillNetwork    StandstillKind = "the network"
	StandstillAlone      StandstillKind = "no peers"
	StandstillCatchingUp StandstillKind = "catching up"
	StandstillNoPlanFile StandstillKind = "no plan file" // at the height of a scheduled plan
)

// Standstill is why a node that runs has committed no block for long.
type Standstill struct {
	Kind    StandstillKind `json:"kind"`
	Since   time.Time      `json:"since"`             // when its height grew last
	Height  int64          `json:"height"`            // that it has committed
	Peers   int            `json:"peers"`             // that have said where they are
	Beyond  int            `json:"beyond"`            // of them have gone on
	Highest int64          `json:"highest,omitempty"` // that one of these has committed
	Voted   float64        `json:"voted,omitempty"`   // the share of the voting power that has voted for a next block, 0 to 1
	Cause   string         `json:"cause"`             // a sentence
	Do      string         `json:"do"`                // a sentence
}

// CrashKind is what a crash most likely was.
type CrashKind string

// Kinds of crashes.
const (
	CrashMemory      CrashKind = "out of memory"
	CrashAppHash     CrashKind = "app hash mismatch"
	CrashLocked      CrashKind = "database locked"
	CrashLibrary     CrashKind = "missing library"
	CrashWrongBinary CrashKind = "wrong binary"
	CrashOldRelease  CrashKind = "old release" // under the new version's name
	CrashDisk        CrashKind = "disk full"
	CrashPanic       CrashKind = "panic" // of another cause
	CrashKilled      CrashKind = "killed"
	CrashUnknown     CrashKind = "unknown"
)

// Crash is an end of the node with an error that nobody asked for.
type Crash struct {
	Kind     CrashKind `json:"kind"`
	At       time.Time `json:"at"`
	End      string    `json:"end"`             // such as exit status 2
	Cause    string    `json:"cause"`           // a sentence
	Do       string    `json:"do"`              // a sentence
	Lines    []string  `json:"lines,omitempty"` // what the node said of it on stderr; absent where that is not read
	Failures int       `json:"failures"`        // in a row, this one included
}

func (c Crash) String() string {
	if c.Kind == CrashUnknown {
		return c.End + ": " + c.Cause
	}
	if strings.HasPrefix(c.Cause, string(c.Kind)+": ") { // panic: and what it says
		return c.End + ", " + c.Cause
	}
	return fmt.Sprintf("%s, %s: %s", c.End, c.Kind, c.Cause)
}

// Paused is a snapshot that was taken while the node was stopped for it.
type Paused struct {
	ID      string  `json:"id"`
	Stopped Seconds `json:"stopped"` // from the node's being asked to end until it is started again
}

// Upgrade is the record of one plan that was carried out, or begun.
type Upgrade struct {
	Name      string    `json:"name"`
	Height    int64     `json:"height"`
	Binary    string    `json:"binary"` // directory, relative to the folder cosmovisor/
	State     string    `json:"state"`  // begun, switched, confirmed, abandoned, rolled back, or by itself: the node did it
	Begun     time.Time `json:"begun"`
	Halted    time.Time `json:"halted,omitzero"`    // when the node stood still, as far as that is known; else Begun
	Confirmed time.Time `json:"confirmed,omitzero"` // when the new binary was seen to have committed Height
	Standing  Standing  `json:"standing"`
	Steps     []Step    `json:"steps"`
}

// Standing is how long a node stood still for an upgrade. Zero means not known.
type Standing struct {
	// Total is from the halt to the first block beyond the plan's height, or to the block at
	// that height if the next upgrade began with it. 0 until it is there.
	Total     Seconds `json:"total"`
	Ours      Seconds `json:"ours"`      // of it, halt to the new binary executing
	Migration Seconds `json:"migration"` // of it, the new binary executing to the plan's block committed
}

// Step is one step that was done.
type Step struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// Seconds is a duration that JSON shows as seconds.
type Seconds time.Duration

// MarshalJSON writes seconds with microseconds.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, time.Duration(s).Round(time.Microsecond).Seconds(), 'f', -1, 64), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Seconds) UnmarshalJSON(text []byte) error {
	seconds, err := strconv.ParseFloat(string(text), 64)
	*s = Seconds(seconds * float64(time.Second))
	return err
}
