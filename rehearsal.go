package solstice

import (
	"bufio"
	"encoding/json"
	"errors"
	"io/fs"
	"time"
)

// Rehearsal is what an upgrade did to a copy of a node's state.
type Rehearsal struct {
	Plan    string           `json:"plan"`
	Height  int64            `json:"height"` // at which it was rehearsed
	At      time.Time        `json:"at"`     // when it began
	Outcome RehearsalOutcome `json:"outcome"`
	Reason  string           `json:"reason"` // a sentence
	Said    []string         `json:"said,omitempty"`
	Version string           `json:"version"` // of solstice
	Old     RehearsedBinary  `json:"old"`
	New     RehearsedBinary  `json:"new"`
	From    string           `json:"from"` // what the state was copied from
	Way     string           `json:"way"`  // how the plan's height was come to: halted, in-place-testnet or replay
	Copied  Borrowed         `json:"copied"`
	Network string           `json:"network"`         // what kept the nodes to themselves
	Limit   MemoryLimit      `json:"limit,omitzero"`  // that was asked for
	Runs    []RehearsalRun   `json:"runs"`            // each from the same state
	Notes   []string         `json:"notes,omitempty"` // what is to be looked at
	Kept    string           `json:"kept,omitempty"`  // the folder, if it was to be kept
	Took    Seconds          `json:"took"`            // in all
}

// RehearsalOutcome is how a rehearsal ended.
type RehearsalOutcome string

// Outcomes of a rehearsal.
const (
	RehearsalPassed      RehearsalOutcome = "passed"
	RehearsalFailed      RehearsalOutcome = "failed"            // the new binary ended, or made no block
	RehearsalPanicked    RehearsalOutcome = "panicked"          // the new binary did, at or after the plan's height
	RehearsalMemory      RehearsalOutcome = "memory limit"      // the new binary needed more than the limit
	RehearsalDisk        RehearsalOutcome = "disk limit"        // it needed more than the limit, or than there is
	RehearsalUneven      RehearsalOutcome = "not deterministic" // the same block led to different states
	RehearsalInterrupted RehearsalOutcome = "interrupted"
)

// RehearsedBinary is a binary of a rehearsal.
type RehearsedBinary struct {
	Path    string `json:"path"`
	Digest  string `json:"digest"` // as sha256:…
	Version string `json:"version,omitempty"`
}

// Borrowed is what a copy of the state was made of, and what it cost.
type Borrowed struct {
	Files   int     `json:"files"`
	Bytes   int64   `json:"bytes"`
	Linked  int     `json:"linked"`
	Cloned  int     `json:"cloned"`
	Copied  int     `json:"copied"`
	New     int64   `json:"new_bytes"` // of the copied files
	Seconds float64 `json:"seconds"`
}

// MemoryLimit is how much memory a node was allowed, and who saw to that.
type MemoryLimit struct {
	Bytes int64  `json:"bytes"`
	By    string `json:"by"` // cgroup v1, cgroup v2 or watcher
}

// RehearsalRun is one time that the upgrade was carried out. What was not come to is zero.
type RehearsalRun struct {
	Outcome    RehearsalOutcome `json:"outcome"`
	Reason     string           `json:"reason,omitempty"`
	Began      time.Time        `json:"began"`
	Standing   Standing         `json:"standing"`    // as in the status
	FirstBlock Seconds          `json:"first_block"` // from the new binary's start to the plan's block
	Took       Seconds          `json:"took"`
	Blocks     int64            `json:"blocks"`                // beyond the plan's height
	BlockHash  string           `json:"block_hash,omitempty"`  // of the plan's height: runs with the same can be compared
	AppHash    string           `json:"app_hash,omitempty"`    // of the state after it
	Migration  Usage            `json:"migration"`             // up to the plan's block
	Whole      Usage            `json:"whole"`                 // up to the end
	Before     int64            `json:"state_before"`          // bytes in data/
	After      int64            `json:"state_after"`           // after the plan's block
	Grown      int64            `json:"grown"`                 // bytes that the migration took on the disk, at their most
	Errors     int              `json:"errors"`                // log lines of that level
	ErrorLines []string         `json:"error_lines,omitempty"` // the first of them
}

// Usage is what processes have used.
type Usage struct {
	CPU     Seconds `json:"cpu"`
	Memory  int64   `json:"memory"` // resident at the peak, in bytes
	Read    int64   `json:"read"`   // bytes from the disk
	Written int64   `json:"written"`
}

// Passed says whether everything went well.
func (r Rehearsal) Passed() bool { return r.Outcome == RehearsalPassed }

// Migration is how long the new binary took to its first block, the longest of the runs; 0 if it never came there.
func (r Rehearsal) Migration() (longest time.Duration) {
	for _, run := range r.Runs {
		longest = max(longest, time.Duration(run.FirstBlock))
	}
	return longest
}

// Memory is the most that a run had, and Disk the most that a migration took.
func (r Rehearsal) Memory() (most int64) {
	for _, run := range r.Runs {
		most = max(most, run.Whole.Memory, run.Migration.Memory)
	}
	return most
}

// Disk is the most that a run's migration took on the disk.
func (r Rehearsal) Disk() (most int64) {
	for _, run := range r.Runs {
		most = max(most, run.Grown)
	}
	return most
}

// LastRehearsal is the last rehearsal of a plan that is on record. A line that can't be read is passed over.
func LastRehearsal(home Home, plan string) (last Rehearsal, found bool, err error) {
	f, err := OpenFile(home.RehearsalsFile())
	if errors.Is(err, fs.ErrNotExist) {
		return last, false, nil
	}
	if err != nil {
		return last, false, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var one Rehearsal
		if json.Unmarshal(lines.Bytes(), &one) == nil && one.Plan == plan && one.Outcome != RehearsalInterrupted {
			last, found = one, true
		}
	}
	return last, found, lines.Err()
}
