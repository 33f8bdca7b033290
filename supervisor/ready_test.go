package supervisor

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"solstice"
)

func TestStageAt(t *testing.T) {
	for left, want := range map[time.Duration]int{30 * time.Hour: 0, 24 * time.Hour: 1, 2 * time.Hour: 1, time.Hour: 2, 11 * time.Minute: 2, 9 * time.Minute: 3, -time.Minute: 3} {
		if got := stageAt(left); got != want {
			t.Errorf("%v: %d, want %d", left, got, want)
		}
	}
}

// TestTellReadiness: what is wrong is told when it is new and when the height comes closer, louder in the end.
func TestTellReadiness(t *testing.T) {
	good := solstice.Check{Name: "binary", Verdict: solstice.OK, Evidence: "there"}
	bad := solstice.Check{Name: "binary", Verdict: solstice.NotReady, Evidence: "gone", Do: "add it"}
	odd := solstice.Check{Name: "binary", Verdict: solstice.Warning, Evidence: "strange", Do: "look"}
	seen := func(c solstice.Check, stage int) examined {
		return examined{plan: v2, stage: stage, checks: []solstice.Check{c}}
	}
	for _, tt := range []struct {
		name  string
		last  examined
		stage int
		now   solstice.Check
		want  string // levels and what they say
	}{
		{"first-sight", examined{}, 0, good, "INFO readiness"},
		{"first-sight-wrong", examined{}, 1, bad, "INFO readiness WARN gone"},
		{"as-before", seen(bad, 1), 1, bad, ""},
		{"closer", seen(bad, 1), 2, bad, "INFO readiness WARN gone"},
		{"close", seen(bad, 2), 3, bad, "INFO readiness ERROR gone"},
		{"close-and-strange", seen(odd, 2), 3, odd, "INFO readiness WARN strange"},
		{"mended", seen(bad, 1), 1, good, "INFO there"},
		{"better", seen(bad, 1), 1, odd, "WARN strange"},
		{"broken", seen(good, 2), 2, bad, "WARN gone"},
		{"another-plan", examined{plan: v3, stage: 1, checks: []solstice.Check{bad}}, 1, good, "INFO readiness"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			s := &Supervisor{Log: slog.New(slog.NewTextHandler(&out, nil))}
			s.tellReadiness(tt.last, v2, tt.stage, []solstice.Check{tt.now})
			var got []string
			for line := range strings.Lines(out.String()) {
				level := strings.TrimPrefix(strings.Fields(line)[1], "level=")
				for _, word := range []string{"readiness", "gone", "strange", "there"} {
					if strings.Contains(line, word) {
						got = append(got, level+" "+word)
						break
					}
				}
			}
			if text := strings.Join(got, " "); text != tt.want {
				t.Errorf("says %q, want %q:\n%s", text, tt.want, &out)
			}
		})
	}
}
