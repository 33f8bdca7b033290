package node

import (
	"fmt"

	"solstice"
)

// ReadStores returns what the application of a stopped node has committed at a height: the
// hash of each of its stores, by name. They are in the CommitInfo that the SDK's rootmulti
// store keeps for each height (store/types/commit_info.proto, v0.38 and later).
func ReadStores(home solstice.Home, height int64) (hashes map[string]string, err error) {
	return readStoresApart(filesOf(home, Settings{}), height)
}

// readStores is ReadStores in this process.
func readStores(f files, height int64) (hashes map[string]string, err error) {
	hashes = map[string]string{}
	_, err = readDatabase(f.Application, f.AppBackend, func(db database) error {
		key := fmt.Sprintf("s/%d", height)
		value, err := db.get([]byte(key))
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		stores, err := all(value, 2) // store_infos
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		for _, store := range stores {
			id := part(store, 2) // commit_id
			hashes[string(part(store, 1))] = fmt.Sprintf("%x", part(id, 2))
		}
		return nil
	})
	return hashes, err
}
