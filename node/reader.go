package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"solstice"
)

// The databases are read by a child process, the reader: this same program, started again under
// another name. A damaged database can make a library run out of memory, hang or panic. In a
// child that is just an error, and the memory that the libraries need is given back. The reader
// answers with JSON on a pipe, one value per source.
//
// It is entered in an init function rather than in main. A program that links this package and
// forgot to call the reader would start itself again and again; a test would run all its tests.

const (
	readTime    = 10 * time.Second // for all sources, also if a reader dies and another one follows
	readGoal    = 44 << 20         // bytes of memory that the garbage collector aims at
	readMemory  = 256 << 20        // bytes of memory at which a reader exits
	maxReadings = 16 << 20         // bytes that are read of an answer
	maxLastWord = 300              // bytes of its stderr that an error shows
)

// request is what a reader is to read.
type request struct {
	Task   string
	Files  files
	From   int     // the first source, of the task heights
	Known  Heights // what sources before it have told
	Height int64   // of the task stores
}

// tasks are what a reader can be asked for. Each gives its values to emit.
var tasks = map[string]func(r request, emit func(any) error) error{
	"heights": func(r request, emit func(any) error) error {
		for _, s := range sources[r.From:] {
			part := Heights{Initial: r.Known.Initial, ChainID: r.Known.ChainID}
			s.read(r.Files, &part)
			r.Known = part
			if err := emit(part); err != nil {
				return err
			}
		}
		return nil
	},
	"stores": func(r request, emit func(any) error) error {
		hashes, err := readStores(r.Files, r.Height)
		return emit(storesAnswer{hashes, tell(err)})
	},
}

type storesAnswer struct {
	Hashes map[string]string
	Err    *told
}

// errReader means that a reader did not answer. The databases may be fine, so it wraps no cause:
// a missing program must not look like a missing database.
type errReader struct {
	text string
	last bool // another one would do no better
}

func (e *errReader) Error() string { return e.text }

// readApart reads all sources. A reader that dies of one costs that one: another reads the rest.
func readApart(home solstice.Home, settings Settings) Heights {
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	r := request{Task: "heights", Files: filesOf(home, settings)}
	var h Heights
	for r.From < len(sources) {
		err := ask(ctx, r, len(sources)-r.From, func(value json.RawMessage) error {
			if err := json.Unmarshal(value, &h); err != nil {
				return err
			}
			r.From++
			return nil
		})
		if err == nil {
			break
		}
		sources[r.From].fail(&h, fmt.Errorf("%s: %w", sources[r.From].name, err))
		r.From++
		var failed *errReader
		for errors.As(err, &failed) && failed.last && r.From < len(sources) {
			sources[r.From].fail(&h, fmt.Errorf("%s: %w", sources[r.From].name, err))
			r.From++
		}
		r.Known = Heights{Initial: h.Initial, ChainID: h.ChainID}
	}
	return h
}

// readStoresApart is readStores by a reader.
func readStoresApart(f files, height int64) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	var answer storesAnswer
	err := ask(ctx, request{Task: "stores", Files: f, Height: height}, 1, func(value json.RawMessage) error {
		return json.Unmarshal(value, &answer)
	})
	if err != nil {
		return nil, err
	}
	if answer.Err != nil {
		return nil, answer.Err
	}
	return answer.Hashes, nil
}

// told is an error that a reader has told: its text, and which of the errors it is that
// somebody asks for.
type told struct {
	Text string
	Kind string `json:",omitempty"`
}

var toldKinds = map[string]error{
	"in use":        ErrInUse,
	"not exist":     fs.ErrNotExist,
	"no permission": fs.ErrPermission,
}

func tell(err error) *told {
	if err == nil {
		return nil
	}
	t := &told{Text: err.Error()}
	for kind, is := range toldKinds {
		if errors.Is(err, is) {
			t.Kind = kind
		}
	}
	return t
}

func (t *told) Error() string { return t.Text }
func (t *told) Unwrap() error { return toldKinds[t.Kind] }

// asError keeps a nil from becoming an error that is not nil.
func (t *told) asError() error {
	if t == nil {
		return nil
	}
	return t
}

type toldReading struct {
	Height  int64
	File    string
	At      time.Time
	Differs string
	Err     *told
}

// MarshalJSON keeps the text of the error.
func (r Reading) MarshalJSON() ([]byte, error) {
	return json.Marshal(toldReading{r.Height, r.File, r.At, r.Differs, tell(r.Err)})
}

// UnmarshalJSON undoes MarshalJSON. The error is still ErrInUse, fs.ErrNotExist or
// fs.ErrPermission, if it was.
func (r *Reading) UnmarshalJSON(content []byte) error {
	var t toldReading
	err := json.Unmarshal(content, &t)
	*r = Reading{t.Height, t.File, t.At, t.Differs, t.Err.asError()}
	return err
}

type toldUpgrades struct {
	Done      []solstice.Plan
	Scheduled *solstice.Plan
	Err       *told
}

// MarshalJSON keeps the text of the error.
func (u Upgrades) MarshalJSON() ([]byte, error) {
	return json.Marshal(toldUpgrades{u.Done, u.Scheduled, tell(u.Err)})
}

// UnmarshalJSON undoes MarshalJSON, as that of Reading does.
func (u *Upgrades) UnmarshalJSON(content []byte) error {
	var t toldUpgrades
	err := json.Unmarshal(content, &t)
	*u = Upgrades{t.Done, t.Scheduled, t.Err.asError()}
	return err
}
