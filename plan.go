package solstice

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"time"
)

// MaxPlanSize is the largest plan file that is read, in bytes. The info of real plans is a few KiB;
// anything larger is not a plan.
const MaxPlanSize = 1 << 20

// Plan is what the chain or the operator decided: from Height on another binary, known as Name, runs.
type Plan struct {
	Name   string `json:"name"`   // as the chain spells it, upper case included
	Height int64  `json:"height"` // the first block that the new binary executes
	Info   string `json:"info,omitempty"`
}

// planFile is a plan as x/upgrade writes it into upgrade-info.json: the height is a number, the time is
// always the zero time (seen on SDK v0.50, v0.54 and v0.55).
type planFile struct {
	Name                string          `json:"name"`
	Time                time.Time       `json:"time"`
	Height              int64           `json:"height"`
	Info                string          `json:"info,omitempty"`
	UpgradedClientState json.RawMessage `json:"upgraded_client_state,omitempty"`
}

// ParsePlan reads the content of an upgrade-info.json. Content that was not written to its end is an error.
func ParsePlan(content []byte) (Plan, error) {
	if len(bytes.TrimSpace(content)) == 0 {
		return Plan{}, errors.New("it is empty")
	}
	var f planFile
	if err := json.Unmarshal(content, &f); err != nil {
		return Plan{}, plainly(err)
	}
	p := Plan{Name: f.Name, Height: f.Height, Info: f.Info}
	switch {
	case !f.Time.IsZero():
		return Plan{}, errors.New("it names a time; the SDK has no time-based upgrades any more")
	case len(f.UpgradedClientState) > 0 && string(f.UpgradedClientState) != "null":
		return Plan{}, errors.New("it holds an IBC client state; the IBC module has its own upgrades")
	}
	return p, p.Validate()
}

// plainly says in words what of a plan is of another kind than it has to be.
func plainly(err error) error {
	var other *json.UnmarshalTypeError
	if !errors.As(err, &other) {
		return err
	}
	is := cmp.Or(map[string]string{"string": "text", "array": "a list", "object": "an object", "bool": "true or false"}[other.Value], other.Value)
	switch {
	case other.Field == "":
		return fmt.Errorf("it is %s, and not an object with a name and a height", is)
	case other.Type.Kind() == reflect.Int64:
		return fmt.Errorf("its %s has to be a whole number below 2^63 without quotes, and is %s", other.Field, is)
	}
	return fmt.Errorf("its %s has to be text, and is %s", other.Field, is)
}

// ReadPlan reads a plan file. It never blocks on something that is not a regular file, and never reads
// more than MaxPlanSize. A file that does not exist gives an error that is fs.ErrNotExist.
func ReadPlan(path string) (Plan, error) {
	content, err := ReadFile(path, MaxPlanSize)
	if err != nil {
		return Plan{}, err
	}
	p, err := ParsePlan(content)
	if err != nil {
		return Plan{}, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// Validate says whether the plan can be carried out: it has a height, and its name makes a directory.
func (p Plan) Validate() error {
	escaped := url.PathEscape(p.Name)
	switch {
	case p.Name == "":
		return errors.New("a plan needs a name")
	case strings.HasPrefix(escaped, "."), len(escaped) > 255, strings.ContainsRune(p.Name, 0):
		return fmt.Errorf("plan name %.60q is not a directory name", p.Name)
	case p.Height <= 0:
		return fmt.Errorf("plan %q needs a height above 0, not %d", p.Name, p.Height)
	}
	return nil
}

// Is says whether both are the same upgrade. An upgrade is known by its name, in any case, and its
// height: the same name at another height is another upgrade (docs/cosmovisor.md A15).
func (p Plan) Is(other Plan) bool {
	return p.Height == other.Height && strings.EqualFold(p.Name, other.Name)
}

// File is the content of the plan's upgrade-info.json, byte for byte as x/upgrade writes it.
func (p Plan) File() []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(planFile{Name: p.Name, Height: p.Height, Info: p.Info}); err != nil {
		panic(err) // a struct of strings and numbers always encodes
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// String is the plan in words, in one line whatever its name is.
func (p Plan) String() string { return fmt.Sprintf("%s at height %d", Line(p.Name), p.Height) }
