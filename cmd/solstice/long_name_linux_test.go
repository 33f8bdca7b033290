package main

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// TestLongPlanName: a plan whose name makes a folder at all is carried out, with its
// snapshot, and is rolled back.
func TestLongPlanName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{strings.Repeat("升", 28), strings.Repeat("v", 255)} {
		t.Run(fmt.Sprint(len(url.PathEscape(name))), func(t *testing.T) {
			t.Parallel()
			h := newHome(t, fmt.Sprintf(`{"halt_exit":-1,"plans":[{"name":%q,"height":20}]}`, name), "upgrades/"+url.PathEscape(name))
			run := h.start("run", "start")
			h.await("start at 19", 1)
			_ = run.Process.Kill()
			_ = run.Wait()
			h.clear()
			for _, args := range [][]string{{"snapshot", "list"}, {"snapshot", "verify"}, {"rollback", "--yes"}} {
				if out, err := h.output(args...); err != nil {
					t.Errorf("%s: %v\n%s", args, err, out)
				}
			}
			h.checkNoDebris()
		})
	}
}
