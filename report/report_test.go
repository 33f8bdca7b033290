package report

import (
	"strings"
	"testing"
	"time"
)

// example has everything, and words that a page must not take for markup.
func example() Document {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d := Document{
		Title: "Rehearsal of v2", Passed: true, Verdict: "It went <well>.",
		Timeline: Timeline{From: at, To: at.Add(10 * time.Second), Lanes: []Lane{{Name: "validator0", Spans: []Span{
			{at, at.Add(4 * time.Second), Running, "genesis"}, {at.Add(4 * time.Second), at.Add(4*time.Second + time.Millisecond), Solstice, "v2"},
		}}}},
		Tables: []Table{{Title: "Standing still", Columns: []string{"node", "total"}, Rows: [][]string{{"validator0", "1.00 s"}}, Note: "From the halt on."}},
		Notes:  []string{`one <script>alert(1)</script> & "two"`},
	}
	d.Facts.Add("nodes", "%d", 3)
	return d
}

func TestText(t *testing.T) {
	var out strings.Builder
	if err := example().Text(&out); err != nil {
		t.Fatal(err)
	}
	const want = `Rehearsal of v2
It went <well>.

  nodes  3

Standing still
  node        total
  validator0  1.00 s
  From the halt on.

To be looked at
  one <script>alert(1)</script> & "two"
`
	if got := out.String(); got != want {
		t.Errorf("text:\n%s\nwant:\n%s", got, want)
	}
}

// TestHTML: the page has all that the text has, nothing in it is taken for markup, and it needs nothing from elsewhere.
func TestHTML(t *testing.T) {
	var out strings.Builder
	if err := example().HTML(&out); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	for _, want := range []string{"It went &lt;well&gt;.", "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;two&#34;", "From the halt on.", `class="running" x="150" width="340"`, "genesis: running, 4.00 s", `class="solstice" x="490" width="1.5"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	for _, bad := range []string{"<script", "http://", "https://"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
}

// TestKinds: every kind of span has its colour, in the picture and in the key.
func TestKinds(t *testing.T) {
	for _, k := range kinds {
		if !strings.Contains(style, "--"+string(k.kind)+":") || !strings.Contains(style, "."+string(k.kind)+" {") {
			t.Errorf("no colour for %s", k.kind)
		}
	}
}

func TestTook(t *testing.T) {
	for _, tt := range []struct {
		d    time.Duration
		want string
	}{{0, "-"}, {3 * time.Millisecond, "3 ms"}, {1500 * time.Millisecond, "1.50 s"}, {90 * time.Second, "1 m 30 s"}, {2 * time.Hour, "2 h 00 m"}} {
		if got := Took(tt.d); got != tt.want {
			t.Errorf("Took(%v) = %q, want %q", tt.d, got, tt.want)
		}
	}
}
