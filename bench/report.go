package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"text/template"
)

//go:embed report.md
var reportText string

// report is the result in Markdown.
func (r *results) report() ([]byte, error) {
	t, err := template.New("report").Parse(reportText)
	if err != nil {
		return nil, err
	}
	var w bytes.Buffer
	err = t.Execute(&w, map[string]any{
		"Peer": r.peer, "Machine": r.machine, "Rows": r.rows(), "SnapshotRows": r.snapshotRows(), "NoClones": r.noClones,
		"StartRows": r.startRows(), "TurnRow": r.turnRow(), "FewFolders": fewFolders, "ManyFolders": manyFolders, "StartTables": fmt.Sprintf("%d,%03d", startTables/1000, startTables%1000),
		"FullTables": fullTables, "TableSize": tableSize >> 20, "Faster": fasterFull,
		"BareSync": cell(r.bareSync, milliseconds), "BareStart": cell(r.bareStart, milliseconds),
	})
	return w.Bytes(), err
}

// row is one line of the table.
type row struct {
	what string
	of   pair[sample]
	unit unit
	goal float64 // Solstice's median has to be below; 0: none
	less float64 // and below Cosmovisor's, this many times; 0: however much
}

// The goals of the design, in nanoseconds and bytes.
const (
	actedOn       = 5e6
	switched      = 10e6
	switchedFull  = 50e6 // with a snapshot of 2 GiB
	fasterFull    = 50   // times
	standingStill = 110e6
	snapshotSpace = 0.01 // of the data
	snapshotTime  = 2    // times that of the bare command
	sameTime      = 1.25 // times: what is the same but for noise
	firstByte     = 10e6
	startTime     = 1e9 // with 100 GiB of databases
	sameTurn      = 1.2 // times: a decision with many folders beside one with few
	idleMemory    = 20 << 20
	binarySize    = 19 << 20
)

func (r *results) rows() []row {
	stop := func(what string, sc scenario) row {
		u := r.upgrades[sc.name]
		return row{what: what, of: pair[sample]{u.cosmovisor.stop, u.solstice.stop}, unit: milliseconds, goal: actedOn}
	}
	start := func(what string, sc scenario) row {
		u := r.upgrades[sc.name]
		return row{what: what, of: pair[sample]{u.cosmovisor.start, u.solstice.start}, unit: milliseconds, goal: switched}
	}
	whole := func(what string, sc scenario) row {
		u := r.upgrades[sc.name]
		return row{what: what, of: pair[sample]{u.cosmovisor.whole, u.solstice.whole}, unit: milliseconds, goal: standingStill}
	}
	full := func(what string, sc scenario) row {
		r := start(what, sc)
		r.goal, r.less = switchedFull, fasterFull
		return r
	}
	warm := r.upgrades[warmData.name]
	version, idle := r.version, r.idle
	return []row{
		stop("**plan file whole → node gets the signal**", graceful),
		stop("… the node has an RPC", withRPC),
		stop("… default settings: Cosmovisor kills, Solstice signals", byDefault),
		stop("… a call of the binary takes 80 ms", slowCalls),
		start("**old process ended → new one executes**", graceful),
		start("… `UNSAFE_SKIP_BACKUP=true`", noBackup),
		start("… default settings", byDefault),
		start("… the node ends by itself after writing its plan", byItself),
		start("… a call of the binary takes 80 ms", slowCalls),
		full("… `data/` holds 2 GiB, which are in memory", warmData),
		full("… `data/` holds 2 GiB, which are not in memory", coldData),
		whole("**plan file whole → new one executes**", graceful),
		whole("… the node has an RPC", withRPC),
		whole("… a call of the binary takes 80 ms", slowCalls),
		whole("… `data/` holds 2 GiB, which are in memory", warmData),
		whole("… `data/` holds 2 GiB, which are not in memory", coldData),
		{"**backup of 2 GiB**: what it takes on the disk", pair[sample]{warm.cosmovisor.space, warm.solstice.space}, mebibytes, snapshotSpace * fullTables * tableSize, 0},
		{"**`version --cosmovisor-only`** to the first byte", pair[sample]{version.cosmovisor.firstByte, version.solstice.firstByte}, milliseconds, firstByte, 0},
		{"… to its end", pair[sample]{version.cosmovisor.exit, version.solstice.exit}, milliseconds, 0, 0},
		{"**idle supervisor**: resident memory", pair[sample]{idle.cosmovisor.memory, idle.solstice.memory}, mebibytes, idleMemory, 0},
		{"… CPU time in " + idleSpan.String(), pair[sample]{idle.cosmovisor.cpu, idle.solstice.cpu}, milliseconds, 0, 0},
		{"**binary**, stripped", r.size, mebibytes, binarySize, 0},
	}
}

// String is the row in Markdown.
func (r row) String() string {
	ours, peer := r.of.solstice.median(), r.of.cosmovisor.median()
	target, met := "–", "–"
	if r.goal > 0 {
		target, met = "< "+r.unit(r.goal), "yes"
		if r.less > 0 {
			target += ", > " + significant(r.less) + "×"
		}
		if ours >= r.goal || ours*r.less > peer {
			met = "**no**"
		}
	}
	ratio := "–"
	if ours > 0 {
		ratio = significant(peer/ours) + "×"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |", r.what, cell(r.of.cosmovisor, r.unit), cell(r.of.solstice, r.unit), ratio, target, met)
}

// snapshotRows are the lines of the table of snapshots, in Markdown.
func (r *results) snapshotRows() []string {
	var rows []string
	add := func(what, beside, ours, ratio, target, met string) {
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s | %s | %s |", what, beside, ours, ratio, target, met))
	}
	verdict := func(met bool) string {
		if met {
			return "yes"
		}
		return "**no**"
	}
	for _, f := range forests {
		s := r.snapshots[f]
		if s == nil {
			continue
		}
		bare, whole := s.bare.median(), s.whole.median()
		add(fmt.Sprintf("**%d,%03d tables, %s%s**", f.tables/1000, f.tables%1000, gibibytes(float64(s.size)), f.on), cell(s.bare, milliseconds), cell(s.whole, milliseconds),
			significant(whole/bare)+"×", "≤ "+significant(snapshotTime)+"×", verdict(whole <= snapshotTime*bare))
		if f == heavy {
			ratio := whole / r.snapshots[middle].whole.median()
			add("… beside as many tables of an eighth of the size", "–", cell(s.whole, milliseconds), significant(ratio)+"×",
				"< "+significant(sameTime)+"×", verdict(ratio < sameTime))
		}
		taking := s.taking.median()
		add("… the taking alone, synced", "–", cell(s.taking, milliseconds), significant(taking/bare)+"×",
			"≤ "+significant(snapshotTime)+"×", verdict(taking <= snapshotTime*bare))
		share := s.space.median() / float64(s.size)
		add("… on the disk, beside the size of the data", "–", cell(s.space, mebibytes), significant(100*share)+" %",
			"< "+significant(100*snapshotSpace)+" %", verdict(share < snapshotSpace))
	}
	return rows
}

// startRows are the lines of the table of starts, in Markdown.
func (r *results) startRows() []string {
	var rows []string
	for _, s := range r.starts {
		bare, whole, met := s.bare.median(), s.whole.median(), "yes"
		if whole >= startTime {
			met = "**no**"
		}
		rows = append(rows, fmt.Sprintf("| **%s**, 100 GiB | %s | %s | %s× | < %s | %s |", s.kind, cell(s.bare, milliseconds),
			cell(s.whole, milliseconds), significant(whole/bare), milliseconds(startTime), met))
	}
	return rows
}

func cell(s sample, u unit) string {
	if len(s) < 2 {
		return u(s.median())
	}
	return fmt.Sprintf("%s (%s)", u(s.median()), u(s.quantile(0.9)))
}
