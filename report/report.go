// Package report writes what happened for people: as text, and as one HTML page that needs nothing beside it.
package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"solstice"
)

// Document is what is told, from the most important to the least.
type Document struct {
	Title    string
	Passed   bool
	Verdict  string // one sentence
	Facts    solstice.Lines
	Timeline Timeline // only on the page; left out without lanes
	Tables   []Table
	Notes    []string // what is to be looked at, a sentence each
}

// Table is rows under a title.
type Table struct {
	Title   string
	Columns []string
	Rows    [][]string
	Note    string // what the columns mean, if that is not plain
}

// Timeline is what was going on side by side.
type Timeline struct {
	From, To time.Time
	Lanes    []Lane
}

// Lane is one node's or one run's time.
type Lane struct {
	Name  string
	Spans []Span // one after the other
}

// Span is a time in which one thing was going on.
type Span struct {
	From, To time.Time
	Kind     Kind
	Label    string
}

// Kind is what was going on.
type Kind string

// Kinds of spans.
const (
	Running   Kind = "running"
	Halted    Kind = "halted"    // it stood still and nothing was done about it
	Solstice  Kind = "solstice"  // it stood still and Solstice worked
	Migration Kind = "migration" // the new binary started and migrated
	Waiting   Kind = "next"      // it waited for the next block, which needs the others
	Down      Kind = "down"      // no process
)

// Text writes the document for a terminal or a log.
func (d Document) Text(w io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n%s\n", d.Title, d.Verdict)
	if len(d.Facts) > 0 {
		text.WriteString("\n")
		if err := d.Facts.Print(&text, "  "); err != nil {
			return err
		}
	}
	for _, t := range d.Tables {
		fmt.Fprintf(&text, "\n%s\n", t.Title)
		table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
		for _, row := range append([][]string{t.Columns}, t.Rows...) {
			fmt.Fprintf(table, "  %s\n", strings.Join(row, "\t"))
		}
		if err := table.Flush(); err != nil {
			return err
		}
		if t.Note != "" {
			fmt.Fprintf(&text, "  %s\n", t.Note)
		}
	}
	if len(d.Notes) > 0 {
		text.WriteString("\nTo be looked at\n")
		for _, note := range d.Notes {
			fmt.Fprintf(&text, "  %s\n", note)
		}
	}
	_, err := io.WriteString(w, trimLines(text.String()))
	return err
}

// trimLines takes the blanks away that a table leaves at the ends of lines.
func trimLines(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return out.String()
}

// Took writes a duration as people read it.
func Took(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d m %02d s", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%d h %02d m", d/time.Hour, d%time.Hour/time.Minute)
}

// Size writes a number of bytes as people read it.
func Size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n)/1024, 0
	for value >= 1024 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}
