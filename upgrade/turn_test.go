package upgrade

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"solstice"
)

// BenchmarkTurn is what a turn of the supervisor's loop costs with few upgrades in the
// home's past and with many: the history is read once, and not at each turn.
//
//	go test ./upgrade -run '^$' -bench Turn
func BenchmarkTurn(b *testing.B) {
	for _, folders := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("folders=%d", folders), func(b *testing.B) {
			dir := b.TempDir()
			home := solstice.Home{Dir: dir, Node: dir, Name: "noded", StateDir: filepath.Join(dir, "cosmovisor", ".solstice")}
			must(b, os.MkdirAll(home.Data(), 0o755))
			must(b, os.MkdirAll(home.StateDir, 0o755))
			for i := range folders {
				name := fmt.Sprintf("v%d", i)
				path := filepath.Join(home.Upgrades(), name)
				must(b, os.MkdirAll(path, 0o755))
				must(b, os.WriteFile(home.AppliedFile(filepath.Join("upgrades", name)), v(name, int64(i+1)).File(), 0o644))
			}
			must(b, os.Symlink("upgrades/v9", home.CurrentLink()))
			must(b, os.WriteFile(home.PlanFile(), v("next", 1_000_000).File(), 0o600))
			probes := &Probes{}
			live := Live{Launched: "upgrades/v9", Height: Exactly(20_000, SourceNode), SeenKnown: true}
			_, err := Gather(home, live, probes) // the first turn reads it
			must(b, err)
			for b.Loop() {
				g, err := Gather(home, live, probes)
				must(b, err)
				Decide(g.Facts)
			}
		})
	}
}
