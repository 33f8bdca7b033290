package report

import (
	_ "embed" // page.css
	"fmt"
	"html"
	"io"
	"math"
	"strings"
	"time"

	"solstice"
)

//go:embed page.css
var style string

// HTML writes the document as a page. It has no scripts and asks for nothing from the network.
//
// The page is written by hand: html/template makes every program that links it 2.8 MiB larger, and the supervisor is such a program.
// All that is not markup goes through text.
func (d Document) HTML(w io.Writer) error {
	var p page
	p.raw("<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n")
	p.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<title>").text(d.Title).raw("</title>\n<style>\n" + style + "</style>\n")
	p.raw("<h1>").text(d.Title).raw("</h1>\n")
	verdict := "verdict"
	if d.Passed {
		verdict += " passed"
	}
	p.raw(`<p class="` + verdict + `">`).text(d.Verdict).raw("</p>\n")
	if len(d.Facts) > 0 {
		p.raw(`<div class="wide"><table>`)
		for _, fact := range d.Facts {
			p.raw(`<tr><th scope="row">`).text(fact.What).raw("</th><td>").text(fact.Value).raw("</td></tr>\n")
		}
		p.raw("</table></div>\n")
	}
	if len(d.Timeline.Lanes) > 0 {
		p.drawing(draw(d.Timeline))
	}
	for _, table := range d.Tables {
		p.table(table)
	}
	if len(d.Notes) > 0 {
		p.raw("<h2>To be looked at</h2>\n<ul>")
		for _, note := range d.Notes {
			p.raw("<li>").text(note).raw("</li>\n")
		}
		p.raw("</ul>\n")
	}
	p.raw("</html>\n")
	_, err := io.WriteString(w, p.String())
	return err
}

// page is a page that is being written.
type page struct{ strings.Builder }

// raw writes markup.
func (p *page) raw(markup string) *page {
	p.WriteString(markup)
	return p
}

// text writes what is no markup, whatever stands in it: also between the quotes of an attribute.
func (p *page) text(text string) *page { return p.raw(html.EscapeString(solstice.Text(text))) }

func (p *page) table(t Table) {
	p.raw("<h2>").text(t.Title).raw("</h2>\n<div class=\"wide\"><table><tr>")
	for _, column := range t.Columns {
		p.raw(`<th scope="col">`).text(column).raw("</th>")
	}
	p.raw("</tr>\n")
	for _, row := range t.Rows {
		p.raw("<tr>")
		for _, cell := range row {
			p.raw("<td>").text(cell).raw("</td>")
		}
		p.raw("</tr>\n")
	}
	p.raw("</table></div>\n")
	if t.Note != "" {
		p.raw(`<p class="note">`).text(t.Note).raw("</p>\n")
	}
}

// kinds are what the colours of a timeline mean.
var kinds = []struct {
	kind  Kind
	means string
}{
	{Running, "running"}, {Halted, "halted, waiting"}, {Solstice, "Solstice at work"}, {Migration, "new binary starts and migrates"},
	{Waiting, "waiting for the next block"}, {Down, "no process"},
}

func (p *page) drawing(d drawing) {
	fmt.Fprintf(p, "<figure>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"What each was doing, over time\">\n", d.Width, d.Height)
	for _, t := range d.Ticks {
		fmt.Fprintf(p, `<line x1="%g" x2="%g" y1="0" y2="%d"/><text class="tick" x="%g" dx="3" y="%d" dy="-4">`, t.X, t.X, d.Height, t.X, d.Height)
		p.text(t.Label).raw("</text>\n")
	}
	for _, lane := range d.Lanes {
		fmt.Fprintf(p, `<g transform="translate(0 %d)"><text y="17">`, lane.Y)
		p.text(lane.Name).raw("</text>\n")
		for _, s := range lane.Spans {
			p.raw("<g><title>").text(s.Title).raw(`</title><rect class="`).text(string(s.Kind))
			fmt.Fprintf(p, `" x="%g" width="%g" height="24" rx="2"/>`, s.X, s.Width)
			if s.Label != "" {
				fmt.Fprintf(p, `<text y="16" x="%g" dx="5">`, s.X)
				p.text(s.Label).raw("</text>")
			}
			p.raw("</g>\n")
		}
		p.raw("</g>\n")
	}
	p.raw("</svg>\n<figcaption>")
	for _, k := range kinds {
		p.raw(`<span class="key" style="background:var(--` + string(k.kind) + `)"></span>`).text(k.means)
	}
	p.raw("</figcaption>\n</figure>\n")
}

// drawing is a timeline in the units of its picture.
type drawing struct {
	Width, Height int
	Lanes         []drawnLane
	Ticks         []tick
}

type drawnLane struct {
	Name  string
	Y     int
	Spans []drawnSpan
}

type drawnSpan struct {
	X, Width float64
	Kind     Kind
	Label    string // inside, where it has room
	Title    string
}

type tick struct {
	X     float64
	Label string
}

// Measures of the picture.
const (
	drawnWidth = 1000
	nameWidth  = 150
	laneHeight = 34
	charWidth  = 7.0
	leastWidth = 1.5 // so that a short span can be seen
)

// draw lays a timeline out.
func draw(t Timeline) drawing {
	whole := t.To.Sub(t.From).Seconds()
	if whole <= 0 {
		whole = 1
	}
	x := func(at time.Time) float64 {
		return nameWidth + (drawnWidth-nameWidth)*min(max(at.Sub(t.From).Seconds()/whole, 0), 1)
	}
	d := drawing{Width: drawnWidth, Height: laneHeight*len(t.Lanes) + 26}
	for i, lane := range t.Lanes {
		drawn := drawnLane{Name: lane.Name, Y: i*laneHeight + 4}
		for _, s := range lane.Spans {
			span := drawnSpan{X: x(s.From), Width: max(x(s.To)-x(s.From), leastWidth), Kind: s.Kind}
			span.Title = fmt.Sprintf("%s: %s, %s", s.Label, s.Kind, Took(s.To.Sub(s.From)))
			if float64(len(s.Label)+1)*charWidth < span.Width {
				span.Label = s.Label
			}
			drawn.Spans = append(drawn.Spans, span)
		}
		d.Lanes = append(d.Lanes, drawn)
	}
	step := tickStep(whole)
	for s := 0.0; s <= whole; s += step {
		d.Ticks = append(d.Ticks, tick{nameWidth + (drawnWidth-nameWidth)*s/whole, fmt.Sprintf("%g s", s)})
	}
	return d
}

// tickStep is a round number of seconds that makes about ten ticks.
func tickStep(whole float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(whole/10)))
	for _, f := range []float64{1, 2, 5} {
		if power*f >= whole/12 {
			return max(power*f, 0.1)
		}
	}
	return max(power*10, 0.1)
}
