package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"solstice"
	"solstice/snapshot"
	"solstice/upgrade"
)

// keeper looks after the snapshots while the node runs: it brings them to the disk that the operator named, and deletes
// those that nobody needs any more. It works beside the loop.
type keeper struct {
	home    solstice.Home
	store   snapshot.Store
	keep    int
	log     *slog.Logger
	copying *atomic.Pointer[solstice.Copying]
	looks   chan struct{}
	stop    func()

	mu      sync.Mutex
	stopNow context.CancelCauseFunc // what is under way
}

const (
	copyAgain  = 10 * time.Minute // how long after a copy that failed it is tried again
	tellCopied = 10 * time.Second // how often the log says how far a copy is
)

var errUpgradeFirst = errors.New("an upgrade comes first")

func (s *Supervisor) store() snapshot.Store {
	return snapshot.Store{Home: s.Home, Dir: s.Upgrade.BackupDir}
}

// sweepSnapshots removes what a cut left, but for a copy that is gone on with.
func (s *Supervisor) sweepSnapshots() error {
	store := s.store()
	waiting, err := store.Waiting()
	if err != nil {
		return err
	}
	return store.Sweep(func(path string) bool { return store.Transferring(path, waiting) })
}

func (s *Supervisor) startKeeper() *keeper {
	k := &keeper{home: s.Home, store: s.store(), keep: s.Keep, log: s.Log, copying: &s.copying, looks: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		k.run(ctx)
		close(done)
	}()
	k.stop = func() {
		cancel()
		<-done
	}
	return k
}

// look makes it look for what there is to do, soon.
func (k *keeper) look() {
	select {
	case k.looks <- struct{}{}:
	default:
	}
}

// pause breaks off what is under way, until look is called again. The copy goes on where it stood.
func (k *keeper) pause() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopNow != nil {
		k.stopNow(errUpgradeFirst)
	}
}

func (k *keeper) run(ctx context.Context) {
	for {
		var again <-chan time.Time
		if k.copying.Load() != nil {
			again = time.After(copyAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-k.looks:
		case <-again:
		}
		now, stop := context.WithCancelCause(ctx)
		k.mu.Lock()
		k.stopNow = stop
		k.mu.Unlock()
		k.copyWaiting(now)
		k.prune()
		stop(nil)
	}
}

// copyWaiting copies what belongs on another disk. A copy that fails is told, and shown in the status until it succeeds.
func (k *keeper) copyWaiting(ctx context.Context) {
	waiting, err := k.store.Waiting()
	if err != nil {
		k.log.Warn("the snapshots can't be looked through", "err", err)
	}
	for _, one := range waiting {
		start := time.Now()
		state := solstice.Copying{Snapshot: one.ID, To: k.store.Dir, Total: one.Bytes, Since: start}
		show := func(state solstice.Copying) { k.copying.Store(&state) }
		show(state)
		k.log.Info("copying the snapshot to its disk; the node runs meanwhile", "id", one.ID, "to", k.store.Dir, "bytes", one.Bytes)
		told := start
		_, err := k.store.Transfer(ctx, one, func(done, total int64) {
			state.Done = done
			show(state)
			if time.Since(told) >= tellCopied {
				told = time.Now()
				k.log.Info("copying the snapshot", "id", one.ID, "done", done, "of", total)
			}
		})
		switch {
		case ctx.Err() != nil:
			k.copying.Store(nil)
			return // the next look goes on with it
		case err != nil:
			state.Waiting = err.Error()
			show(state)
			k.log.Warn("the snapshot can't be copied to its disk; it stays near the data, and this is tried again", "id", one.ID, "err", err, "in", copyAgain)
			return
		}
		k.log.Info("snapshot copied and verified; the one near the data is released", "id", one.ID, "to", k.store.Dir, "elapsed", time.Since(start).Round(time.Millisecond))
	}
	k.copying.Store(nil)
}

// prune deletes the snapshots that retention does not keep.
func (k *keeper) prune() {
	deleted, err := upgrade.Prune(k.home, k.store, k.keep)
	for _, one := range deleted {
		k.log.Info("snapshot deleted: newer ones are kept", "id", one.ID)
	}
	if err != nil {
		k.log.Warn("old snapshots can't be deleted", "err", err)
	}
}
