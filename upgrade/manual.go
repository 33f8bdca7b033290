package upgrade

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"solstice"
	"solstice/internal/durable"
)

// ManualPlan is a plan that the operator added.
type ManualPlan struct {
	solstice.Plan
	// Below says that the chain was seen below the height once. A plan that never was is taken for a mistake, and
	// dropped when its height has passed.
	Below bool `json:"below,omitempty"`
	Batch bool `json:"batch,omitempty"` // it came with others in one list, which the next list replaces
}

// ReadManual returns the operator's plans, by height.
func ReadManual(home solstice.Home) ([]ManualPlan, error) {
	content, err := solstice.ReadFile(home.ManualFile(), solstice.MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var plans []ManualPlan
	err = json.Unmarshal(content, &plans)
	for _, p := range plans {
		err = errors.Join(err, p.Validate())
	}
	if err != nil {
		return nil, &solstice.RefusedError{
			Reason: fmt.Sprintf("the list of plans that you added can't be read: %s: %v", home.ManualFile(), err),
			Hint:   "mend it, or remove it and add the plans again",
		}
	}
	return plans, nil
}

// ChangeManual lets change turn the operator's plans into others. No two processes change
// them at once: it waits for another.
func ChangeManual(home solstice.Home, change func([]ManualPlan) ([]ManualPlan, error)) error {
	return changeManual(home, durable.Locked, change)
}

// tryManual is ChangeManual that does not wait. The error is durable.ErrLocked while
// another process changes the list: one that was stopped does so for long.
func tryManual(home solstice.Home, change func([]ManualPlan) ([]ManualPlan, error)) error {
	return changeManual(home, durable.TryLocked, change)
}

func changeManual(home solstice.Home, locked func(string, func() error) error, change func([]ManualPlan) ([]ManualPlan, error)) error {
	if err := durable.MkdirAll(home.StateDir, 0o700); err != nil {
		return &solstice.RefusedError{
			Reason: "the state folder can't be made: " + err.Error(),
			Hint:   "run this as the user that the node runs as, or put the state elsewhere with SOLSTICE_STATE_DIR",
		}
	}
	return locked(home.StateDir, func() error {
		old, err := ReadManual(home)
		if err != nil {
			return err
		}
		plans, err := change(slices.Clone(old))
		if err != nil || slices.Equal(old, plans) {
			return err
		}
		slices.SortStableFunc(plans, func(a, b ManualPlan) int { return cmp.Compare(a.Height, b.Height) })
		content, err := json.MarshalIndent(plans, "", "  ")
		if err != nil {
			return err
		}
		return replaceManual(home, append(content, '\n'))
	})
}

// replaceManual writes the list. If it has its name already and can't be synced, the old list is put back: on an error, whoever adds
// a plan takes its binary back, and the plan has to go with it.
func replaceManual(home solstice.Home, content []byte) error {
	old, oldErr := solstice.ReadFile(home.ManualFile(), solstice.MaxFile)
	err := durable.WriteFile(home.ManualFile(), content, 0o600)
	if err == nil {
		return nil
	}
	if now, readErr := solstice.ReadFile(home.ManualFile(), solstice.MaxFile); readErr != nil || !bytes.Equal(now, content) {
		return err
	}
	if oldErr != nil {
		return errors.Join(err, durable.Remove(home.ManualFile()))
	}
	return errors.Join(err, durable.WriteFile(home.ManualFile(), old, 0o600))
}

// DropManual takes plans off the operator's list. It does not wait: see durable.ErrLocked.
func DropManual(home solstice.Home, drop []solstice.Plan) error {
	return tryManual(home, func(plans []ManualPlan) ([]ManualPlan, error) {
		return slices.DeleteFunc(plans, func(p ManualPlan) bool { return slices.ContainsFunc(drop, p.Is) }), nil
	})
}

// CancelManual takes a plan off the operator's list, unless its upgrade was begun: from then on it has to be gone through, or taken back.
// It returns what is left. The error is fs.ErrNotExist if the list does not have the plan.
func CancelManual(home solstice.Home, cancel solstice.Plan) (left []ManualPlan, err error) {
	err = ChangeManual(home, func(plans []ManualPlan) ([]ManualPlan, error) {
		at := slices.IndexFunc(plans, func(p ManualPlan) bool { return p.Is(cancel) })
		if at < 0 {
			return nil, fs.ErrNotExist
		}
		journal, err := OpenJournal(home).Read()
		if err != nil {
			return nil, err
		}
		if begun, ok := journal.Begun(); ok && begun.Plan.Is(cancel) {
			return nil, BegunError(cancel)
		}
		if slices.ContainsFunc(journal.Switches(), func(s Switched) bool { return s.Is(cancel) }) {
			return nil, DoneError(cancel)
		}
		left = slices.Delete(plans, at, at+1)
		return left, nil
	})
	return left, err
}

// BegunError refuses to cancel a plan whose upgrade was begun.
func BegunError(p solstice.Plan) error {
	return &solstice.RefusedError{
		Reason: fmt.Sprintf("plan %s is being carried out: it can't be cancelled any more", p),
		Hint:   "see how far it is: solstice status\ntake it back, with solstice stopped: solstice rollback --skip",
	}
}

// DoneError refuses to cancel a plan that was carried out.
func DoneError(p solstice.Plan) error {
	return &solstice.RefusedError{
		Reason: fmt.Sprintf("plan %s was carried out already", p),
		Hint:   "take it back, if it is the last one, with solstice stopped: solstice rollback",
	}
}

// MarkManual notes that the chain was seen below the heights of these plans. It does not
// wait: see durable.ErrLocked.
func MarkManual(home solstice.Home, below []solstice.Plan) error {
	return tryManual(home, func(plans []ManualPlan) ([]ManualPlan, error) {
		for i, p := range plans {
			plans[i].Below = p.Below || slices.ContainsFunc(below, p.Is)
		}
		return plans, nil
	})
}

// ReadBatch returns the list that Cosmovisor keeps in the node's data directory. Without one it is empty.
func ReadBatch(home solstice.Home) ([]solstice.Plan, error) {
	content, err := solstice.ReadFile(home.BatchFile(), solstice.MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var batch []solstice.Plan
	err = json.Unmarshal(content, &batch)
	for _, p := range batch {
		err = errors.Join(err, p.Validate())
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", home.BatchFile(), err)
	}
	return batch, nil
}

// ImportBatch takes over that list, and removes it. One that can't be read stays where it
// is. It does not wait: see durable.ErrLocked.
func ImportBatch(home solstice.Home) ([]solstice.Plan, error) {
	batch, err := ReadBatch(home)
	if err != nil {
		return nil, err
	}
	if _, err := os.Lstat(home.BatchFile()); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	err = tryManual(home, func(plans []ManualPlan) ([]ManualPlan, error) {
		for _, p := range batch {
			if !slices.ContainsFunc(plans, func(m ManualPlan) bool { return m.Is(p) }) {
				plans = append(plans, ManualPlan{Plan: p, Batch: true})
			}
		}
		return plans, nil
	})
	if err != nil {
		return nil, err
	}
	return batch, durable.Remove(home.BatchFile())
}

// addToBatch puts a plan on Cosmovisor's list, which ImportBatch takes over.
func addToBatch(home solstice.Home, p solstice.Plan) error {
	batch, err := ReadBatch(home)
	if err != nil || slices.ContainsFunc(batch, p.Is) {
		return err
	}
	return writeBatch(home, append(batch, p))
}

// writeBatch replaces Cosmovisor's list.
func writeBatch(home solstice.Home, plans []solstice.Plan) error {
	list := []json.RawMessage{}
	for _, p := range plans {
		list = append(list, p.File())
	}
	content, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(home.BatchFile(), content, 0o600)
}

// Eject writes the operator's plans where Cosmovisor keeps them, empties our list, and makes the current link
// absolute, which Cosmovisor 1.5 and 1.6 need. The first plan goes into the plan file, unless something that is not
// carried out yet stands there, and the others into the batch list. It returns the plans.
func Eject(home solstice.Home) ([]solstice.Plan, error) {
	facts, err := Gather(home, Live{}, nil)
	if err != nil {
		return nil, err
	}
	occupied := facts.FileFault != nil || facts.File != nil && !facts.Applied(facts.File.Plan)
	var ejected []solstice.Plan
	err = ChangeManual(home, func(plans []ManualPlan) ([]ManualPlan, error) {
		for _, p := range plans {
			ejected = append(ejected, p.Plan)
		}
		return nil, writeForCosmovisor(home, ejected, occupied)
	})
	if err != nil {
		return nil, err
	}
	link, err := home.Current()
	if err != nil || link.Dir == "" || filepath.IsAbs(link.Target) {
		return ejected, err
	}
	return ejected, durable.Symlink(filepath.Join(home.Root(), link.Dir), home.CurrentLink())
}

// writeForCosmovisor leaves the plan file alone if it is occupied.
func writeForCosmovisor(home solstice.Home, plans []solstice.Plan, occupied bool) error {
	if len(plans) == 0 {
		return nil
	}
	rest := plans
	if !occupied {
		if err := durable.WriteFile(home.PlanFile(), plans[0].File(), 0o600); err != nil {
			return err
		}
		rest = plans[1:]
	}
	if len(rest) == 0 {
		return nil
	}
	return writeBatch(home, rest)
}
