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
		"Peer": r.peer, "Machine": r.machine, "Rows": r.rows(),
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
}

// The goals of the design, in nanoseconds and bytes.
const (
	actedOn       = 5e6
	switched      = 10e6
	standingStill = 110e6
	firstByte     = 10e6
	idleMemory    = 14 << 20
	binarySize    = 18 << 20
)

func (r *results) rows() []row {
	stop := func(what string, sc scenario) row {
		u := r.upgrades[sc.name]
		return row{what, pair[sample]{u.cosmovisor.stop, u.solstice.stop}, milliseconds, actedOn}
	}
	start := func(what string, sc scenario) row {
		u := r.upgrades[sc.name]
		return row{what, pair[sample]{u.cosmovisor.start, u.solstice.start}, milliseconds, switched}
	}
	whole := func(what string, sc scenario) row {
		u := r.upgrades[sc.name]
		return row{what, pair[sample]{u.cosmovisor.whole, u.solstice.whole}, milliseconds, standingStill}
	}
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
		whole("**plan file whole → new one executes**", graceful),
		whole("… the node has an RPC", withRPC),
		whole("… a call of the binary takes 80 ms", slowCalls),
		{"**`version --cosmovisor-only`** to the first byte", pair[sample]{version.cosmovisor.firstByte, version.solstice.firstByte}, milliseconds, firstByte},
		{"… to its end", pair[sample]{version.cosmovisor.exit, version.solstice.exit}, milliseconds, 0},
		{"**idle supervisor**: resident memory", pair[sample]{idle.cosmovisor.memory, idle.solstice.memory}, mebibytes, idleMemory},
		{"… CPU time in " + idleSpan.String(), pair[sample]{idle.cosmovisor.cpu, idle.solstice.cpu}, milliseconds, 0},
		{"**binary**, stripped", r.size, mebibytes, binarySize},
	}
}

// String is the row in Markdown.
func (r row) String() string {
	ours, peer := r.of.solstice.median(), r.of.cosmovisor.median()
	target, met := "–", "–"
	if r.goal > 0 {
		target, met = "< "+r.unit(r.goal), "yes"
		if ours >= r.goal {
			met = "**no**"
		}
	}
	ratio := "–"
	if ours > 0 {
		ratio = significant(peer/ours) + "×"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |", r.what, cell(r.of.cosmovisor, r.unit), cell(r.of.solstice, r.unit), ratio, target, met)
}

func cell(s sample, u unit) string {
	if len(s) < 2 {
		return u(s.median())
	}
	return fmt.Sprintf("%s (%s)", u(s.median()), u(s.quantile(0.9)))
}
