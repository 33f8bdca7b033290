// Package signstate keeps what a validator has signed last outside its data directory, so that neither a start nor a
// restore puts it below that: who signs a height twice is out of the validator set for good.
//
// The node keeps its last height, round and step in priv_validator_state.json and signs nothing that is not above
// them. That file lies in data/, where an old copy brings an old state back. Marks are a second record that only
// rises; a Guard compares the two. The mark is as recent as the last Guard.Record. The caller makes sure that the node is
// stopped while its file is written.
package signstate

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"solstice"
)

// State is where a validator stands: all up to it may be signed. The zero State is a validator that has signed nothing.
type State struct {
	Height int64 `json:"height"`
	Round  int32 `json:"round"`
	Step   int8  `json:"step"` // 1 proposal, 2 prevote, 3 precommit
}

// Compare returns -1, 0 or 1 as s is below, equal to or above other.
func (s State) Compare(other State) int {
	return cmp.Or(cmp.Compare(s.Height, other.Height), cmp.Compare(s.Round, other.Round), cmp.Compare(s.Step, other.Step))
}

func (s State) String() string {
	return fmt.Sprintf("height %d, round %d, step %d", s.Height, s.Round, s.Step)
}

func (s State) valid() bool { return s.Height >= 0 && s.Round >= 0 && s.Step >= 0 }

// file is the state as CometBFT writes it. There is no signature to repeat in it: asked for this very step again, the node
// says "no SignBytes found" and leaves that one vote out (privval/file.go, CheckHRS).
func (s State) file() []byte {
	return fmt.Appendf(nil, "{\n  \"height\": \"%d\",\n  \"round\": %d,\n  \"step\": %d\n}", s.Height, s.Round, s.Step)
}

// sizeLimit is far above what any file here needs. What is larger is something else.
const sizeLimit = 1 << 20

var errNotState = errors.New("not the sign state of a validator")

// damaged says that what stands in the place of a state file could be read, and is none.
func damaged(err error) bool {
	return errors.Is(err, solstice.ErrNotFile) || errors.Is(err, errNotState)
}

// ReadFile reads a priv_validator_state.json. A missing one is fs.ErrNotExist.
func ReadFile(path string) (State, error) {
	state, _, err := readState(path)
	return state, err
}

func readState(path string) (State, []byte, error) {
	content, err := solstice.ReadFile(path, sizeLimit)
	if err != nil {
		return State{}, nil, err
	}
	state, err := parse(content)
	if err != nil {
		return State{}, nil, fmt.Errorf("read %s: %w: %w", path, errNotState, err)
	}
	return state, content, nil
}

// parse reads what CometBFT writes. It goes by the exact names of the fields, as CometBFT does: encoding/json alone would
// take "Height" as well, and see a state that the node doesn't. A number may stand in quotes or not.
func parse(content []byte) (State, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(content, &fields); err != nil {
		return State{}, err
	}
	number := func(name string, bits int) (int64, error) {
		var digits json.Number
		if err := json.Unmarshal(fields[name], &digits); err != nil || digits == "" {
			return 0, fmt.Errorf("it has no %s", name)
		}
		n, err := strconv.ParseInt(digits.String(), 10, bits)
		if err != nil || n < 0 {
			return 0, fmt.Errorf("its %s is no %s", name, name)
		}
		return n, nil
	}
	height, heightErr := number("height", 64)
	round, roundErr := number("round", 32)
	step, stepErr := number("step", 8)
	if err := cmp.Or(heightErr, roundErr, stepErr); err != nil {
		return State{}, err
	}
	return State{height, int32(round), int8(step)}, nil
}

// Validator says where a node has its key and its sign state: the node's settings, with full paths.
type Validator struct {
	KeyFile   string // priv_validator_key_file
	StateFile string // priv_validator_state_file
	Remote    bool   // priv_validator_laddr is set: a signer elsewhere has the key and keeps its own state
	Unknown   error  // why the node may use other files than these, or another signer; nil: it does not
}

// Address returns the consensus address in upper-case hex. It is empty if the node signs nothing with a file: its signer is
// remote, or it has no key where it is known to look for one.
func (v Validator) Address() (string, error) {
	if v.Remote {
		return "", nil
	}
	if v.Unknown != nil {
		return "", fmt.Errorf("cannot tell which key this node signs with: %w", v.Unknown)
	}
	content, err := solstice.ReadFile(v.KeyFile, sizeLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var key struct{ Address string } // the private key beside it is passed over
	if json.Unmarshal(content, &key) != nil || !isAddress(key.Address) {
		return "", fmt.Errorf("read %s: not a validator's key: it has no address of 40 hex digits", v.KeyFile)
	}
	return strings.ToUpper(key.Address), nil
}

func isAddress(s string) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == 20
}
