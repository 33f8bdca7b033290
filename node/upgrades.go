package node

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"solstice"
)

// Upgrades is what x/upgrade keeps in the application's state.
type Upgrades struct {
	// Done are the plans that a binary of theirs has carried out, by height: what the data has been through. They have no
	// info. What governance did not decide is not among them.
	Done []solstice.Plan

	// Scheduled is the plan to come; nil without one.
	Scheduled *solstice.Plan

	// Err is why this is not known.
	Err error
}

// Where the SDK and IAVL keep it: the store upgrade of the multistore has the prefix s/k:upgrade/; IAVL v0.19 to v1.2 has an
// index of the last values under f and the key, and the height that it is of under mstorage_version, unless the operator
// switches it off (iavl-disable-fastnode). In the store 0 is the scheduled plan; 1 is the mark of a done one, with its
// height and name, and before SDK v0.46 with its name alone.
const (
	upgradeStore  = "s/k:upgrade/"
	indexVersion  = upgradeStore + "mstorage_version"
	indexPrefix   = upgradeStore + "f"
	scheduledKey  = "\x00"
	donePrefix    = "\x01"
	indexOf       = "1.1.0-%d" // its own version, and the height
	maxDone       = 10_000
	heightKeySize = 8
)

// readUpgrades reads the upgrades in an application's database that has committed this height: from IAVL's index, or where
// there is none of this height from the tree itself.
func readUpgrades(db database, height int64) Upgrades {
	version, err := db.get([]byte(indexVersion))
	if err != nil && !errors.Is(err, errNotFound) {
		return Upgrades{Err: err}
	}
	var u Upgrades
	if err == nil && string(version) == fmt.Sprintf(indexOf, height) {
		see := func(key, entry []byte) error {
			value, err := parseIndexed(entry)
			if err != nil {
				return err
			}
			return u.see(key[len(indexPrefix):], value, height)
		}
		err = errors.Join(db.each([]byte(indexPrefix+scheduledKey), see), db.each([]byte(indexPrefix+donePrefix), see))
	} else {
		t := tree{db: db, prefix: upgradeStore}
		err = t.read(height, []byte(scheduledKey), []byte{donePrefix[0] + 1}, func(key, value []byte) error { return u.see(key, value, height) })
	}
	if err != nil {
		return Upgrades{Err: fmt.Errorf("read completed upgrades: %w", err)}
	}
	slices.SortStableFunc(u.Done, func(a, b solstice.Plan) int { return cmp.Compare(a.Height, b.Height) })
	return u
}

// see takes in an entry of the store upgrade. Other keys than the two kinds are not looked at.
func (u *Upgrades) see(key, value []byte, height int64) error {
	switch {
	case string(key) == scheduledKey:
		plan, err := parsePlan(value)
		if err != nil {
			return fmt.Errorf("the scheduled plan: %w", err)
		}
		u.Scheduled = &plan
	case strings.HasPrefix(string(key), donePrefix):
		plan, err := parseDone(key[len(donePrefix):], value)
		switch {
		case err != nil:
			return fmt.Errorf("a completed plan: %w", err)
		case plan.Height > height:
			return fmt.Errorf("plan %s is marked as completed, but the height is %d", plan, height)
		case len(u.Done) == maxDone:
			return fmt.Errorf("more than %d plans are marked as completed", maxDone)
		}
		u.Done = append(u.Done, plan)
	}
	return nil
}

// parseIndexed takes a value out of IAVL's index: a varint, the version that it is of, then its length and itself
// (fastnode/fast_node.go).
func parseIndexed(entry []byte) ([]byte, error) {
	_, n := binary.Varint(entry)
	size, m := binary.Uvarint(entry[max(n, 0):])
	if n <= 0 || m <= 0 || size != uint64(len(entry)-n-m) {
		return nil, fmt.Errorf("%.40q is no value of an index", entry)
	}
	return entry[n+m:], nil
}

// parseDone reads the mark of a completed plan, whose key is without its prefix.
func parseDone(key, value []byte) (plan solstice.Plan, err error) {
	switch {
	case len(value) == heightKeySize:
		plan = solstice.Plan{Name: string(key), Height: int64(binary.BigEndian.Uint64(value))}
	case len(key) > heightKeySize:
		plan = solstice.Plan{Name: string(key[heightKeySize:]), Height: int64(binary.BigEndian.Uint64(key))}
	default:
		return plan, fmt.Errorf("%.40q is too short", key)
	}
	return plan, plan.Validate()
}
