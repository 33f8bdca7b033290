package supervisor

import (
	"context"
	"os"
	"sync"
	"time"

	"solstice"
	"solstice/upgrade"
)

const (
	downloadAgain = time.Minute     // how soon a download that failed is tried again
	downloadSoon  = 5 * time.Second // the same while the chain stands still for it
)

// wish asks for a plan's binary, if that is allowed and it is not there. It never waits.
func (s *Supervisor) wish(plan solstice.Plan) {
	if !s.Download || plan.Info == "" {
		return
	}
	if _, err := os.Lstat(s.Home.Binary(s.Home.UpgradeDir(plan.Name))); err == nil {
		return
	}
	select {
	case s.wishes <- plan:
	default:
	}
}

// startDownloads downloads, beside the loop, one binary after the other. What failed is told once, shown in the status and tried
// again for as long as somebody wishes it.
func (s *Supervisor) startDownloads() (stop func()) {
	s.wishes = make(chan solstice.Plan, 1)
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() {
		var failed solstice.Plan
		var failedAt time.Time
		var said said
		for {
			var plan solstice.Plan
			select {
			case <-ctx.Done():
				return
			case plan = <-s.wishes:
			}
			again := downloadAgain
			if s.view.Load().Waiting != "" {
				again = downloadSoon
			}
			if plan == failed && time.Since(failedAt) < again {
				continue
			}
			err := s.download(ctx, plan)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				failed, failedAt = plan, time.Now()
				if said.anew("", err.Error()) {
					s.Log.Warn("the binary can't be downloaded; it is tried again", "plan", plan.Name, "err", err)
				}
			}
		}
	})
	return func() {
		cancel()
		wait.Wait()
	}
}

func (s *Supervisor) download(ctx context.Context, plan solstice.Plan) error {
	state := solstice.Downloading{Name: plan.Name, Since: time.Now()}
	show := func() {
		now := state
		s.getting.Store(&now)
	}
	show()
	f := s.Fetcher
	f.Log = s.Log.With("plan", plan.Name)
	f.Progress = func(done, total int64) {
		state.Done, state.Total = done, total
		show()
	}
	p, there, err := upgrade.Prepare(ctx, s.Home, plan, f)
	switch {
	case err != nil:
		state.Waiting = err.Error()
		show()
		return err
	case !there:
		s.Log.Info("binary downloaded and put in its place", "plan", plan.Name, "path", s.Home.Binary(p.Dir), "digest", p.Digest, "checksum", p.Checksum,
			"elapsed", time.Since(state.Since).Round(time.Millisecond))
	}
	s.getting.Store(nil)
	return nil
}
