// Package ledger is the test chain's own module: as many entries of state as its genesis says.
//
// Its format changes with the chain. In version 1 every entry starts with "v1:"; the migration to
// version 2 rewrites all entries and counts them in a store that version 1 doesn't have; the
// migration to version 3 rewrites the count alone. So the number of entries decides how long the
// upgrade to v2 takes. Both stores can be read over RPC with abci_query, at /store/ledger/key and
// /store/totals/key.
package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
)

const (
	// ModuleName is the module's name in the genesis and in the version map of x/upgrade.
	ModuleName = "ledger"

	// StoreName is the store that holds the entries.
	StoreName = "ledger"

	// TotalsName is the store that version 2 adds. It holds the number of entries under CountKey.
	TotalsName = "totals"

	// CountKey is the only key in the totals store.
	CountKey = "entries"

	// PanicVariable is an environment variable with a number: the migration to version 2 panics
	// when it has rewritten so many entries, as a broken migration of a real chain would.
	PanicVariable = "CHAIND_MIGRATION_PANIC"

	// SleepVariable is an environment variable with a duration: the migration to version 2 sleeps so
	// long, for tests that want a slow migration which costs nothing.
	SleepVariable = "CHAIND_MIGRATION_SLEEP"
)

// Keeper reads and writes the module's stores.
type Keeper struct {
	version uint64
	entries *storetypes.KVStoreKey
	totals  *storetypes.KVStoreKey // nil in version 1
}

// NewKeeper returns the keeper of a consensus version, 1 to 3.
func NewKeeper(version uint64) Keeper {
	k := Keeper{version: version, entries: storetypes.NewKVStoreKey(StoreName)}
	if version >= 2 {
		k.totals = storetypes.NewKVStoreKey(TotalsName)
	}
	return k
}

// StoreKeys are the stores that the app mounts for this version.
func (k Keeper) StoreKeys() []storetypes.StoreKey {
	if k.totals == nil {
		return []storetypes.StoreKey{k.entries}
	}
	return []storetypes.StoreKey{k.entries, k.totals}
}

// EntryKey is the key of entry i.
func EntryKey(i int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }

// entry returns the value of entry i: the format's prefix, and a text of this size that doesn't
// compress to nothing.
func entry(format string, i, size int) []byte {
	sum := sha256.Sum256(EntryKey(i))
	text := fmt.Sprintf("%x", sum)
	text = strings.Repeat(text, size/len(text)+1)
	return []byte(format + ":" + text[:size])
}

// init writes the entries of a new chain in this version's format.
func (k Keeper) init(ctx sdk.Context, genesis Genesis) {
	format := "v1"
	if k.version >= 2 {
		format = "v2"
	}
	store := ctx.KVStore(k.entries)
	for i := range genesis.Entries {
		store.Set(EntryKey(i), entry(format, i, genesis.Size))
	}
	if k.version >= 2 {
		k.setCount(ctx, genesis.Entries)
	}
}

// setCount writes the number of entries: as text in version 2, as eight bytes from version 3 on.
func (k Keeper) setCount(ctx sdk.Context, n int) {
	value := []byte(strconv.Itoa(n))
	if k.version >= 3 {
		value = binary.BigEndian.AppendUint64(nil, uint64(n))
	}
	ctx.KVStore(k.totals).Set([]byte(CountKey), value)
}

// export returns a genesis with the entries that there are.
func (k Keeper) export(ctx sdk.Context) Genesis {
	store, genesis := ctx.KVStore(k.entries), Genesis{}
	for {
		value := store.Get(EntryKey(genesis.Entries))
		if value == nil {
			return genesis
		}
		genesis.Entries++
		genesis.Size = len(value) - len("v1:")
	}
}

// migrate1to2 rewrites every entry in the format of version 2 and counts them.
func (k Keeper) migrate1to2(ctx sdk.Context) error {
	panicAt := -1
	if text := os.Getenv(PanicVariable); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("read %s: %w", PanicVariable, err)
		}
		panicAt = n
	}
	if text := os.Getenv(SleepVariable); text != "" {
		pause, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("read %s: %w", SleepVariable, err)
		}
		time.Sleep(pause)
	}

	store := ctx.KVStore(k.entries)
	for i := 0; ; i++ {
		if i == panicAt {
			panic(fmt.Sprintf("migration broken after %d entries, as %s asks", i, PanicVariable))
		}
		value := store.Get(EntryKey(i))
		if value == nil {
			k.setCount(ctx, i)
			ctx.Logger().Info("ledger entries rewritten", "entries", i)
			return nil
		}
		store.Set(EntryKey(i), append([]byte("v2:"), value[len("v1:"):]...))
	}
}

// migrate2to3 rewrites the count in the format of version 3.
func (k Keeper) migrate2to3(ctx sdk.Context) error {
	n, err := strconv.Atoi(string(ctx.KVStore(k.totals).Get([]byte(CountKey))))
	if err != nil {
		return fmt.Errorf("read number of entries: %w", err)
	}
	k.setCount(ctx, n)
	return nil
}
