package testnode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/syndtr/goleveldb/leveldb"
	ldberrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/opt"
)

// databases are application.db and blockstore.db with what the SDK and CometBFT keep there of heights and upgrades: see package
// node, which reads it.
type databases struct {
	app, blocks *leveldb.DB
	height      int64
}

var synced = &opt.WriteOptions{Sync: true}

// openDatabases opens them, and makes them on a new home. Who was killed while they were made for the first time makes them anew,
// which a real node can't.
func openDatabases(home string) (*databases, error) {
	open := func(name string) (*leveldb.DB, error) {
		dir := filepath.Join(home, "data", name)
		db, err := leveldb.OpenFile(dir, nil)
		if _, statErr := os.Stat(filepath.Join(home, "data", "height")); ldberrors.IsCorrupted(err) && errors.Is(statErr, os.ErrNotExist) {
			if err := os.RemoveAll(dir); err != nil {
				return nil, err
			}
			db, err = leveldb.OpenFile(dir, nil)
		}
		return db, err
	}
	app, err := open("application.db")
	if err != nil {
		return nil, err
	}
	blocks, err := open("blockstore.db")
	if err != nil {
		return nil, err
	}
	d := &databases{app: app, blocks: blocks}
	latest, err := app.Get([]byte("s/latest"), nil)
	if errors.Is(err, leveldb.ErrNotFound) {
		return d, nil
	}
	if err != nil {
		return nil, err
	}
	height, n := binary.Uvarint(latest[1:]) // field 1 of an Int64Value
	if n <= 0 {
		return nil, fmt.Errorf("s/latest is %q", latest)
	}
	d.height = int64(height)
	return d, nil
}

// store is what CometBFT does with a block before the application gets it.
func (d *databases) store(height int64) error {
	return d.blocks.Put([]byte("blockStore"), append(intField(1, 1), intField(2, height)...), synced)
}

// commit is what the application does with a block, in which it may have carried out a plan.
func (d *databases) commit(height int64, done *Plan) error {
	batch := new(leveldb.Batch)
	if done != nil {
		key := binary.BigEndian.AppendUint64([]byte("s/k:upgrade/f\x01"), uint64(height))
		value := append(binary.AppendVarint(nil, height), 1, 1)
		batch.Put(append(key, done.Name...), value)
	}
	batch.Put([]byte("s/k:upgrade/mstorage_version"), fmt.Appendf(nil, "1.1.0-%d", height))
	batch.Put([]byte("s/latest"), intField(1, height))
	return d.app.Write(batch, synced)
}
