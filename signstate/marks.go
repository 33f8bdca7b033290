package signstate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"solstice"
	"solstice/internal/durable"
)

// compactAt is the size from which the file is written anew, with one line an address.
const compactAt = 64 << 10

// Marks are the greatest states that were seen of each validator of a home, by address, in a file that grows by a line each
// time one is raised. The greatest line of an address counts, so nothing lowers a mark but a change of the file by
// hand. Goroutines and processes may use it at once.
type Marks struct{ path string }

// OpenMarks names the marks of a home. The file need not exist.
func OpenMarks(home solstice.Home) Marks { return Marks{home.SignStateFile()} }

// entry is one line of the file.
type entry struct {
	Address string `json:"address"`
	State
	Time string `json:"time"` // for people
}

func (e entry) line() []byte {
	line, _ := json.Marshal(e) // strings and numbers: it can't fail
	return line
}

// Of returns the mark of an address, zero if it has none. A file that can't be read is an error: it may hold one.
func (m Marks) Of(address string) (State, error) {
	marks, _, err := m.read()
	return marks[strings.ToUpper(address)].State, err
}

// Raise brings the mark of an address up to a state, durably. A mark that is there or above already stays.
func (m Marks) Raise(address string, to State) error {
	if !isAddress(address) || !to.valid() {
		return fmt.Errorf("raise the mark of %q to %s: not a validator's", address, to)
	}
	if to == (State{}) {
		return nil // which needs no file
	}
	address = strings.ToUpper(address)
	dir := filepath.Dir(m.path)
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return durable.Locked(dir, func() error {
		marks, size, err := m.read()
		if err != nil || to.Compare(marks[address].State) <= 0 {
			return err
		}
		raised := entry{address, to, time.Now().UTC().Format(time.RFC3339)}
		if 0 < size && size < compactAt {
			return durable.AppendLine(m.path, raised.line())
		}
		marks[address] = raised
		var content []byte
		for _, address := range slices.Sorted(maps.Keys(marks)) {
			content = append(append(content, marks[address].line()...), '\n')
		}
		return durable.WriteFile(m.path, content, 0o600)
	})
}

// none says that there is certainly no mark of any validator.
func (m Marks) none() bool {
	marks, _, err := m.read()
	return err == nil && len(marks) == 0
}

func (m Marks) read() (marks map[string]entry, size int, err error) {
	content, err := solstice.ReadFile(m.path, sizeLimit)
	if errors.Is(err, fs.ErrNotExist) {
		if _, linkErr := os.Readlink(m.path); linkErr != nil { // a symlink to nowhere had marks behind it
			err = nil
		}
	}
	return parseMarks(content), len(content), err
}

// parseMarks returns the greatest mark of each address. What is no mark, such as a line that a power cut tore, is passed over.
func parseMarks(content []byte) map[string]entry {
	marks := map[string]entry{}
	for line := range bytes.Lines(content) {
		var e entry
		if json.Unmarshal(line, &e) != nil || !isAddress(e.Address) || !e.valid() {
			continue
		}
		e.Address = strings.ToUpper(e.Address)
		if e.Compare(marks[e.Address].State) > 0 {
			marks[e.Address] = e
		}
	}
	return marks
}
