package upgrade

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"pgregory.net/rapid"

	"solstice"
	"solstice/internal/durable"
	"solstice/node"
)

// truth is a chain and the data of its node, and what the operator's binaries are. Solstice
// sees only what the files, the databases and the RPC say of it.
type truth struct {
	*rapid.T
	home    solstice.Home
	now     time.Time
	initial int64
	plans   []truePlan // by height, at equal heights the operator's first
	tops    map[string]int
	height  int64 // the last block that was executed
	lag     int64 // how far the application's database is behind it
	ondisk  int64 // that database's height when the node ended last
	tip     int64 // the chain's last block
	created bool  // there are databases
	blockAt time.Time
	eras    []era // which binary made the blocks
	reads   string
	marks   bool // the databases tell what was applied
	stored  int64
}

// truePlan is a plan, and what becomes of it.
type truePlan struct {
	solstice.Plan
	manual   bool
	byFile   bool  // manual, and not on our list: its file is placed, as Cosmovisor does it
	proposed int64 // from this height on the chain has it scheduled
	cancel   int64 // at this height the chain takes it off; 0: never
	late     bool  // the operator adds it by mistake, once its height has passed
	void     bool  // the operator has taken it back, or it was never seen ahead
}

// era says that a binary made the blocks from a height on.
type era struct {
	from int64
	top  int
}

const (
	genesisTop = -1 // the binary without any plan
	absent     = -3 // there is none
)

// effective says whether a plan is to be carried out: it is not cancelled, and the chain has
// none for the same height.
func (w *truth) effective(i int) bool {
	p := w.plans[i]
	if p.cancel > 0 || p.void {
		return false
	}
	return !p.manual || !slices.ContainsFunc(w.plans, func(q truePlan) bool {
		return !q.manual && q.cancel == 0 && q.Height == p.Height
	})
}

// index is which plan this is; -1: none that there ever was.
func (w *truth) index(p solstice.Plan) int {
	return slices.IndexFunc(w.plans, func(q truePlan) bool { return q.Is(p) })
}

func (w *truth) dirOf(top int) string {
	if top == genesisTop {
		return solstice.Genesis
	}
	return w.home.UpgradeDir(w.plans[top].Name)
}

// misfit says why a binary is wrong where a block is the last one that is committed, or "".
func (w *truth) misfit(top int, committed int64) string {
	for i, p := range w.plans {
		switch {
		case !w.effective(i):
			if i == top && p.cancel > 0 {
				return "is that of " + p.String() + ", which was cancelled"
			}
		case i <= top && committed < p.Height-1:
			return "is too early for " + p.String()
		case i > top && !p.manual && committed >= p.Height:
			return "is too old for " + p.String()
		}
	}
	if w.eraAt(committed) > top {
		return "is older than the one that made the last block"
	}
	return ""
}

// right is the binary that an operator who knows everything links.
func (w *truth) right(committed int64) int {
	top := w.eraAt(committed)
	for i, p := range w.plans {
		if w.effective(i) && i > top && committed >= p.Height-1 {
			top = i
		}
	}
	return top
}

func (w *truth) eraAt(height int64) int {
	top := genesisTop
	for _, e := range w.eras {
		if e.from <= height {
			top = e.top
		}
	}
	return top
}

func (w *truth) made(from, to int64, top int) {
	if w.eraAt(w.height) != top {
		w.eras = append(w.eras, era{from, top})
	}
	w.height, w.blockAt, w.tip = to, w.now, max(w.tip, to)
}

// moveTo puts the data at another height: of the same chain, as its other nodes made it. Of
// manual plans it has no trace.
func (w *truth) moveTo(height int64) {
	w.eras = slices.DeleteFunc(w.eras, func(e era) bool { return e.from > height })
	for i, p := range w.plans {
		if !p.manual && w.effective(i) && p.Height > w.height && p.Height <= height {
			w.eras = append(w.eras, era{p.Height, i})
		}
	}
	w.height, w.lag, w.ondisk, w.created, w.stored, w.tip = height, 0, height, true, height, max(w.tip, height)
}

// scheduled is what x/upgrade has scheduled at a height.
func (w *truth) scheduled(height int64) *solstice.Plan {
	for _, p := range w.plans {
		if !p.manual && p.proposed <= height && height < p.Height && (p.cancel == 0 || height < p.cancel) {
			return &p.Plan
		}
	}
	return nil
}

// next is the chain's plan for the next block, that a binary does not have.
func (w *truth) halts(top int) (i int, halts bool) {
	for i, p := range w.plans {
		if !p.manual && w.effective(i) && i > top && p.Height == w.height+1 {
			return i, true
		}
	}
	return 0, false
}

// stuck says whether a binary can make no block here: it lacks the handler of a plan that was
// applied, or has one of a plan that is to come.
func (w *truth) stuck(top int) bool {
	for i, p := range w.plans {
		if p.manual {
			continue
		}
		late := w.effective(i) && i > top && w.height >= p.Height
		early := w.effective(i) && i <= top && w.height < p.Height-1
		if late || early {
			return true
		}
	}
	return false
}

// finish is a height well beyond the last plan.
func (w *truth) finish() int64 { return w.plans[len(w.plans)-1].Height + 8 }

// disk is what can be read of the databases of the stopped node.
func (w *truth) disk() node.Heights {
	no := node.Reading{Err: errors.New("a database of rocksdb, which we can't read")}
	h := node.Heights{Committed: no, State: no, Stored: no, Upgrades: node.Upgrades{Err: no.Err}, Initial: w.initial}
	if !w.created {
		h.Empty = true
		return h
	}
	if w.height < w.initial { // before its first block
		return h
	}
	is := func(height int64) node.Reading { return node.Reading{Height: height, File: "x.db"} }
	committed := w.height - w.lag
	switch w.reads {
	case "application":
		h.Stored, h.Base, h.State = is(w.stored), 1, is(w.height)
		if committed >= w.initial {
			h.Committed = is(committed)
		}
		if w.marks && h.Committed.Err == nil {
			h.Upgrades = node.Upgrades{Scheduled: w.scheduled(committed)}
			for _, p := range w.plans {
				if !p.manual && p.cancel == 0 && p.Height <= committed {
					h.Upgrades.Done = append(h.Upgrades.Done, p.Plan)
				}
			}
		}
	case "state and blocks":
		h.Stored, h.Base, h.State = is(w.stored), 1, is(w.height)
	case "blocks":
		h.Stored, h.Base = is(w.stored), 1
	case "state":
		h.State = is(w.height)
	case "WAL":
		if lacks := rapid.Int64Range(0, 4).Draw(w.T, "the WAL lacks"); w.stored-lacks > 0 {
			h.Stored = node.Reading{Height: w.stored - lacks, File: "wal", At: w.blockAt}
		}
	}
	return h
}

// place puts a binary into a directory.
func (w *truth) place(dir string, top int) {
	path := w.home.Binary(dir)
	must(w, os.MkdirAll(filepath.Dir(path), 0o755))
	must(w, durable.WriteFile(path, []byte("#!/bin/sh\nexit 1\n"), 0o755))
	w.tops[dir] = top
}

// newTruth draws a chain with its plans, and the operator's home.
func newTruth(rt *rapid.T, dir string, on func(string) bool) *truth {
	w := &truth{T: rt, tops: map[string]int{}, now: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), marks: true, reads: "application"}
	w.home = solstice.Home{Dir: dir, Node: dir, Name: "noded", StateDir: filepath.Join(dir, "cosmovisor", ".solstice")}
	must(rt, os.MkdirAll(w.home.Data(), 0o755))
	must(rt, os.MkdirAll(w.home.StateDir, 0o700))
	w.initial = rapid.SampledFrom([]int64{1, 1, 1, 2, 1000}).Draw(rt, "initial height")
	w.height = w.initial - 1
	w.place(solstice.Genesis, genesisTop)
	at, lastOfChain := w.initial, int64(0)
	for i := range rapid.IntRange(1, 4).Draw(rt, "plans") {
		gap := rapid.SampledFrom([]int64{1, 2, 5, 12, 150, 30_000}).Draw(rt, "blocks between")
		if i == 0 {
			gap = rapid.SampledFrom([]int64{0, 1, 3, 9, 200, 30_000}).Draw(rt, "blocks before the first")
		}
		at += gap
		name := rapid.SampledFrom([]string{"V", "v", "up grade/"}).Draw(rt, "name") + string(rune('2'+i))
		p := truePlan{Plan: solstice.Plan{Name: name, Height: at}, manual: rapid.Bool().Draw(rt, "manual")}
		if p.manual {
			p.byFile = on("files") && rapid.Bool().Draw(rt, "by file")
			p.late = on("late plans") && rapid.Bool().Draw(rt, "late")
			p.void = p.late
			if rapid.IntRange(0, 3).Draw(rt, "the chain has one for the same height") == 0 && at > lastOfChain+1 {
				w.plans = append(w.plans, p)
				p = truePlan{Plan: solstice.Plan{Name: name + "-chain", Height: at}}
			}
		}
		if !p.manual {
			p.proposed = rapid.Int64Range(max(lastOfChain, at-100), at-1).Draw(rt, "proposed")
			lastOfChain = at
		}
		w.plans = append(w.plans, p)
	}
	for i, p := range w.plans {
		w.place(w.home.UpgradeDir(p.Name), i)
	}
	return w
}
