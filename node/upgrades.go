package node

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/util"

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
	scheduledKey  = upgradeStore + "f\x00"
	donePrefix    = upgradeStore + "f\x01"
	indexOf       = "1.1.0-%d" // its own version, and the height
	maxDone       = 10_000
	heightKeySize = 8
)

// readUpgrades reads the upgrades in an application's database that has committed this height.
func readUpgrades(db *leveldb.DB, height int64) Upgrades {
	version, err := db.Get([]byte(indexVersion), nil)
	if err != nil || string(version) != fmt.Sprintf(indexOf, height) {
		return Upgrades{Err: errors.New("the application keeps no index of its last values (iavl-disable-fastnode)")}
	}
	var u Upgrades
	switch value, err := db.Get([]byte(scheduledKey), nil); {
	case errors.Is(err, leveldb.ErrNotFound):
	case err != nil:
		return Upgrades{Err: err}
	default:
		plan, err := parseScheduled(value)
		if err != nil {
			return Upgrades{Err: fmt.Errorf("the scheduled plan: %w", err)}
		}
		u.Scheduled = &plan
	}
	entries := db.NewIterator(util.BytesPrefix([]byte(donePrefix)), nil)
	defer entries.Release()
	for entries.Next() {
		plan, err := parseDone(entries.Key()[len(donePrefix):], entries.Value())
		switch {
		case err != nil:
			return Upgrades{Err: fmt.Errorf("an upgrade that is done: %w", err)}
		case plan.Height > height:
			return Upgrades{Err: fmt.Errorf("plan %s is said to be done, and the height is %d", plan, height)}
		case len(u.Done) == maxDone:
			return Upgrades{Err: fmt.Errorf("more than %d upgrades are said to be done", maxDone)}
		}
		u.Done = append(u.Done, plan)
	}
	if err := entries.Error(); err != nil {
		return Upgrades{Err: err}
	}
	slices.SortStableFunc(u.Done, func(a, b solstice.Plan) int { return cmp.Compare(a.Height, b.Height) })
	return u
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

func parseScheduled(entry []byte) (solstice.Plan, error) {
	value, err := parseIndexed(entry)
	if err != nil {
		return solstice.Plan{}, err
	}
	return parsePlan(value)
}

// parseDone reads a mark of a done upgrade, whose key is without its prefix.
func parseDone(key, entry []byte) (solstice.Plan, error) {
	value, err := parseIndexed(entry)
	if err != nil {
		return solstice.Plan{}, err
	}
	var plan solstice.Plan
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
