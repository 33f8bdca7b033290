package upgrade

import (
	"errors"

	"solstice"
	"solstice/snapshot"
)

// Surplus returns the snapshots of a home that are not kept: those of upgrades beyond the newest keep, but none whose
// upgrade was not confirmed.
func Surplus(home solstice.Home, store snapshot.Store, keep int) ([]snapshot.Snapshot, error) {
	ours, _, fault := store.List()
	entries, err := OpenJournal(home).Read()
	if err != nil {
		return nil, err
	}
	needed := func(one snapshot.Snapshot) bool { return !entries.Confirmed(one.Plan) }
	return snapshot.Surplus(ours, keep, needed), fault
}

// Prune deletes the Surplus, and returns what it has deleted.
func Prune(home solstice.Home, store snapshot.Store, keep int) (deleted []snapshot.Snapshot, err error) {
	surplus, err := Surplus(home, store, keep)
	for _, one := range surplus {
		if deleteErr := store.Delete(one); deleteErr != nil {
			err = errors.Join(err, deleteErr)
			continue
		}
		deleted = append(deleted, one)
	}
	return deleted, err
}
