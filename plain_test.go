package solstice

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"v2", "v2"}, {"Überfall auf 東京 · 5 % ✓", "Überfall auf 東京 · 5 % ✓"},
		{"v2\nNo upgrade is ahead.", `v2\u000aNo upgrade is ahead.`}, {"a\r\tb", `a\u000d\u0009b`},
		{"\x1b]52;c;ZXZpbA==\x07", `\u001b]52;c;ZXZpbA==\u0007`}, {"\u009b31m", `\u009b31m`},
		{"\u202egpj.exe\u2066\u200f", `\u202egpj.exe\u2066\u200f`}, {"a\u2028b", `a\u2028b`}, {"\xff\xfe", `\xff\xfe`}, {"\U000e0041", `\udb40\udc41`}, {"", ""},
	} {
		if got := Line(tt.text); got != tt.want {
			t.Errorf("Line(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
	if got, want := Text("a\r\n\tb\x1b[2J\rc\n"), "a\n\tb\\u001b[2J\\u000dc\n"; got != want {
		t.Errorf("Text = %q, want %q", got, want)
	}
}

// FuzzPlain: whatever comes, and in whatever pieces, what goes out is Text of all of it,
// with nothing in it that is obeyed; and a document in JSON means the same.
func FuzzPlain(f *testing.F) {
	f.Add("v2 \x1b[31m東京\u202e\xe6\x9d", 3)
	f.Fuzz(func(t *testing.T, text string, piece int) {
		if piece = min(max(piece, 1), 64); utf8.ValidString(text) {
			document, err := json.Marshal(text)
			if err != nil {
				t.Fatal(err)
			}
			var back string
			if err := json.Unmarshal([]byte(Text(string(document))), &back); err != nil || back != text {
				t.Fatalf("%q became %q, %v", text, back, err)
			}
		}
		var out bytes.Buffer
		w := &PlainWriter{To: &out}
		for rest := []byte(text); len(rest) > 0; {
			n := min(piece, len(rest))
			if written, err := w.Write(rest[:n]); written != n || err != nil {
				t.Fatalf("Write = %d, %v", written, err)
			}
			rest = rest[n:]
		}
		whole, got := Text(text), out.String()
		if !strings.HasPrefix(whole, got) || len(w.rest) >= utf8.UTFMax || len(whole)-len(got) > 4*len(w.rest) {
			t.Errorf("%q in pieces of %d became %q, not %q; %q is left", text, piece, got, whole, w.rest)
		}
		if strings.ContainsFunc(got, func(r rune) bool { return !shown(r, true) }) || !utf8.ValidString(got) {
			t.Errorf("%q is not plain", got)
		}
	})
}
