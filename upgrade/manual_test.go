package upgrade

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"solstice"
	"solstice/internal/durable"
)

// planned is an upgrade to a plan that the operator has added, beside another.
func planned(t *testing.T) *Upgrade {
	t.Helper()
	u := newUpgrade(t)
	u.Manual = true
	must(t, os.Remove(u.Home.PlanFile()))
	must(t, ChangeManual(u.Home, func([]ManualPlan) ([]ManualPlan, error) {
		return []ManualPlan{{Plan: u.Plan}, {Plan: v("v3", 200)}}, nil
	}))
	return u
}

// TestCancel: a plan is either cancelled or carried out, whoever comes first, and the other one hears of it.
func TestCancel(t *testing.T) {
	list := func(t *testing.T, u *Upgrade) int {
		plans, err := ReadManual(u.Home)
		must(t, err)
		return len(plans)
	}
	cancel := func(u *Upgrade, p solstice.Plan) error {
		_, err := CancelManual(u.Home, p)
		return err
	}
	t.Run("before-it-is-begun", func(t *testing.T) {
		u := planned(t)
		must(t, cancel(u, v("v2", 100)))
		if err := u.Begin(); !errors.Is(err, ErrCancelled) {
			t.Errorf("Begin: %v", err)
		}
		if journal, err := OpenJournal(u.Home).Read(); err != nil || len(journal) > 0 || list(t, u) != 1 {
			t.Errorf("the journal has %v, %v, and %d plans are left", journal, err, list(t, u))
		}
		if err := cancel(u, v("v2", 100)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("once more: %v", err)
		}
	})
	t.Run("after-it-is-begun", func(t *testing.T) {
		u := planned(t)
		must(t, u.Begin())
		refused(t, cancel(u, u.Plan))
		must(t, u.Begin()) // it goes on after a crash
		must(t, u.Run(t.Context()))
		refused(t, cancel(u, u.Plan))
		if got := list(t, u); got != 2 {
			t.Errorf("%d plans are left, want 2", got)
		}
		must(t, cancel(u, v("v3", 200)))
	})
	t.Run("at-another-height", func(t *testing.T) {
		u := planned(t)
		if err := cancel(u, v("v2", 101)); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
	t.Run("the-plan-file-has-it", func(t *testing.T) { // from an upgrade to it that was taken back
		u := planned(t)
		must(t, cancel(u, u.Plan))
		must(t, os.WriteFile(u.Home.PlanFile(), u.Plan.File(), 0o600))
		must(t, u.Begin())
	})
	t.Run("while-somebody-places-a-binary", func(t *testing.T) { // the chain does not wait for that
		u := planned(t)
		lock, err := durable.Lock(u.Home.StateDir)
		must(t, err)
		defer lock.Close()
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			must(t, u.Begin())
			if waited := time.Since(start); waited < beginPatience || waited > 2*beginPatience {
				t.Errorf("it was begun after %v, want %v", waited, beginPatience)
			}
		})
	})
}

func refused(t *testing.T, err error) {
	t.Helper()
	var refused *solstice.RefusedError
	if !errors.As(err, &refused) || refused.Hint == "" {
		t.Errorf("%v, want a refusal with a hint", err)
	}
}

// TestPlanIsKeptBesideAnother: the plan that stands in the plan file when another's upgrade
// takes its place is not lost, also where another process changes the operator's list
// meanwhile, which may have read it before.
func TestPlanIsKeptBesideAnother(t *testing.T) {
	u := newUpgrade(t)
	u.Manual, u.Plan = true, v("v2", 100)
	must(t, os.WriteFile(u.Home.PlanFile(), v("v3", 200).File(), 0o600))
	began, goOn, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- ChangeManual(u.Home, func(plans []ManualPlan) ([]ManualPlan, error) {
			close(began)
			<-goOn
			return append(plans, ManualPlan{Plan: v("v9", 900)}), nil
		})
	}()
	<-began
	must(t, u.placePlan(t.Context()))
	g, err := Gather(u.Home, Live{}, nil)
	must(t, err)
	if !slices.ContainsFunc(g.Manual, func(c Candidate) bool { return c.Is(v("v3", 200)) }) {
		t.Errorf("v3 is not known while the list is locked: %+v", g.Manual)
	}
	close(goOn)
	must(t, <-done)
	_, err = ImportBatch(u.Home)
	must(t, err)
	plans, err := ReadManual(u.Home)
	must(t, err)
	if len(plans) != 2 || !plans[0].Is(v("v3", 200)) || !plans[1].Is(v("v9", 900)) {
		t.Errorf("the list is %+v", plans)
	}
}
