package readiness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"solstice"
	"solstice/node"
)

// exposedHome is a home in which everything is as it should be, in a folder of its own, base.
func exposedHome(t *testing.T) (home solstice.Home, base string) {
	t.Helper()
	base, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	dir := filepath.Join(base, "home")
	home = solstice.Home{Dir: dir, Node: dir, Name: "noded", StateDir: filepath.Join(dir, "cosmovisor", ".solstice")}
	for _, path := range []string{
		"config/priv_validator_key.json", "config/app.toml", "data/priv_validator_state.json", "data/upgrade-info.json",
		"cosmovisor/genesis/bin/noded", "cosmovisor/genesis/lib/libwasmvm.so", "cosmovisor/upgrades/v2/bin/noded", "cosmovisor/solstice.toml",
		"cosmovisor/.solstice/journal.jsonl", "cosmovisor/.solstice/sign-state/marks.jsonl", "cosmovisor/pre.sh",
	} {
		path = filepath.Join(dir, path)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, nil, 0o600))
	}
	must(t, os.Symlink("genesis", home.CurrentLink()))
	return home, base
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestExposed: in each row one thing is as it should not be, or looks so. want is what is found below base, with its command.
func TestExposed(t *testing.T) {
	const stranger, group, own = 12345, 23456, 34567
	chmod := func(mode os.FileMode, paths ...string) func(*testing.T, string) {
		return func(t *testing.T, base string) {
			for _, path := range paths {
				must(t, os.Chmod(filepath.Join(base, path), mode))
			}
		}
	}
	chown := func(uid, gid int, path string) func(*testing.T, string) {
		return func(t *testing.T, base string) { must(t, os.Lchown(filepath.Join(base, path), uid, gid)) }
	}
	symlink := func(target, path string) func(*testing.T, string) {
		return func(t *testing.T, base string) {
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(base, path)), 0o700))
			if !filepath.IsAbs(target) {
				must(t, os.MkdirAll(filepath.Join(base, filepath.Dir(path), target), 0o700))
			}
			must(t, os.Symlink(target, filepath.Join(base, path)))
		}
	}
	all := func(do ...func(*testing.T, string)) func(*testing.T, string) {
		return func(t *testing.T, base string) {
			for _, one := range do {
				one(t, base)
			}
		}
	}
	everybody := func(path string, mode int) string {
		return fmt.Sprintf("%s can be written by everybody (mode %04o), chmod go-w %[1]s", path, mode)
	}
	for _, tt := range []struct {
		name, more string // below base
		spoil      func(t *testing.T, base string)
		want       string
	}{
		{"in-order", "", func(*testing.T, string) {}, ""},
		{"readable", "", chmod(0o644, "home/cosmovisor/genesis/bin/noded", "home/config/app.toml"), ""},
		{"binary", "", chmod(0o777, "home/cosmovisor/genesis/bin/noded"), everybody("home/cosmovisor/genesis/bin/noded", 0o777)},
		{"staged-binary", "", chmod(0o777, "home/cosmovisor/upgrades/v2/bin/noded"), everybody("home/cosmovisor/upgrades/v2/bin/noded", 0o777)},
		{"library", "", chmod(0o666, "home/cosmovisor/genesis/lib/libwasmvm.so"), everybody("home/cosmovisor/genesis/lib/libwasmvm.so", 0o666)},
		{"libraries", "", chmod(0o777, "home/cosmovisor/genesis/lib"), everybody("home/cosmovisor/genesis/lib", 0o777)},
		{"settings", "", chmod(0o666, "home/cosmovisor/solstice.toml"), everybody("home/cosmovisor/solstice.toml", 0o666)},
		{"node-settings", "", chmod(0o666, "home/config/app.toml"), everybody("home/config/app.toml", 0o666)},
		{"key", "", chmod(0o666, "home/config/priv_validator_key.json"), everybody("home/config/priv_validator_key.json", 0o666)},
		{"plan-file", "", chmod(0o666, "home/data/upgrade-info.json"), everybody("home/data/upgrade-info.json", 0o666)},
		{"journal", "", chmod(0o666, "home/cosmovisor/.solstice/journal.jsonl"), everybody("home/cosmovisor/.solstice/journal.jsonl", 0o666)},
		{"mark", "", chmod(0o666, "home/cosmovisor/.solstice/sign-state/marks.jsonl"), everybody("home/cosmovisor/.solstice/sign-state/marks.jsonl", 0o666)},
		{"state-that-can-be-listed", "", chmod(0o755, "home/cosmovisor/.solstice"),
			"home/cosmovisor/.solstice is open to others (mode 0755), chmod 700 home/cosmovisor/.solstice"},
		{"script", "home/cosmovisor/pre.sh", chmod(0o777, "home/cosmovisor/pre.sh"), everybody("home/cosmovisor/pre.sh", 0o777)},
		{"not-there", "nowhere/at/all", func(*testing.T, string) {}, ""},
		{"below-a-file", "home/config/app.toml/x", func(*testing.T, string) {}, ""},

		{"above", "", chmod(0o777, ""), everybody("", 0o777)},
		{"above-and-sticky", "", chmod(0o777|os.ModeSticky, ""), ""},
		{"sticky-where-names-are-looked-up", "", chmod(0o777|os.ModeSticky, "home/cosmovisor/upgrades"), everybody("home/cosmovisor/upgrades", 0o777)},
		{"two", "", chmod(0o777, "home/cosmovisor/genesis/bin", "home/data"),
			everybody("home/data", 0o777) + "; " + everybody("home/cosmovisor/genesis/bin", 0o777)},

		{"by-a-link-in-an-open-folder", "open/keys", all(symlink("../keys", "open/keys"), chmod(0o777, "open")), everybody("open", 0o777)},
		{"by-a-link-in-a-sticky-folder", "open/keys", all(symlink("../keys", "open/keys"), chmod(0o777|os.ModeSticky, "open")), ""},
		{"by-two-links", "one/keys", all(symlink("../two/keys", "one/keys"), func(t *testing.T, base string) {
			must(t, os.Remove(filepath.Join(base, "two/keys")))
		}, symlink("../keys", "two/keys"), chmod(0o777, "two")), everybody("two", 0o777)},
		{"link-to-an-open-folder", "keys", all(symlink("three/open", "keys"), chmod(0o777, "three/open")), everybody("three/open", 0o777)},
		{"endless-links", "a", func(t *testing.T, base string) { must(t, os.Symlink("a", filepath.Join(base, "a"))) }, ""},

		{"of-a-stranger", "", chown(stranger, 0, "home/cosmovisor/genesis/bin/noded"),
			"home/cosmovisor/genesis/bin/noded belongs to user 12345, who is neither root nor the node's, chown -h 0 home/cosmovisor/genesis/bin/noded"},
		{"link-of-a-stranger", "open/keys", all(symlink("../keys", "open/keys"), chown(stranger, 0, "open/keys")),
			"open/keys belongs to user 12345, who is neither root nor the node's, chown -h 0 open/keys"},
		{"of-the-owner-of-data", "", all(chown(own, own, "home/data"), chown(own, own, "home/cosmovisor/genesis/bin/noded")), ""},
		{"of-a-group", "", all(chown(0, group, "home/cosmovisor/upgrades"), chmod(0o770, "home/cosmovisor/upgrades")),
			"home/cosmovisor/upgrades can be written by group 23456 (mode 0770), chmod g-w home/cosmovisor/upgrades"},
		{"of-the-owner's-own-group", "", all(chown(own, own, "home/data"), chown(0, own, "home/cosmovisor/upgrades"), chmod(0o770, "home/cosmovisor/upgrades")), ""},
		{"of-root's-group", "", chmod(0o770, "home/cosmovisor/upgrades", "home/cosmovisor/.solstice"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if os.Geteuid() != 0 && (strings.Contains(tt.name, "of-")) {
				t.Skip("only root gives files to others")
			}
			home, base := exposedHome(t)
			tt.spoil(t, base)
			settings := node.Settings{KeyFile: filepath.Join(home.Dir, "config/priv_validator_key.json"), StateFile: filepath.Join(home.Dir, "data/priv_validator_state.json")}
			var more []string
			if tt.more != "" {
				more = append(more, filepath.Join(base, tt.more))
			}
			exposed, err := Exposed(home, settings, more)
			must(t, err)
			var got []string
			for _, e := range exposed {
				if strings.HasPrefix(e.Path, base) { // what is above is the machine's
					got = append(got, strings.ReplaceAll(strings.ReplaceAll(e.Path+" "+e.Why+", "+e.Do, base+"/", ""), base, ""))
				}
			}
			if text := strings.Join(got, "; "); text != tt.want {
				t.Errorf("found %q, want %q", text, tt.want)
			}
		})
	}
}

// TestManyExposed: a check names the first ones and counts the others; what can't be looked at is unknown, not in order.
func TestManyExposed(t *testing.T) {
	home, base := exposedHome(t)
	for _, path := range []string{"home/data", "home/config", "home/cosmovisor", "home/cosmovisor/genesis/bin", "home/cosmovisor/pre.sh"} {
		must(t, os.Chmod(filepath.Join(base, path), 0o777))
	}
	f := nobodyElse(t.Context(), Subject{Home: home, Trusted: []string{filepath.Join(base, "home/cosmovisor/pre.sh")}})
	if f.verdict != solstice.Warning || !strings.HasSuffix(f.evidence, "; and 2 more") || strings.Count(f.do, "chmod go-w ") != 3 {
		t.Errorf("%+v", f)
	}
	home, base = exposedHome(t)
	long := filepath.Join(base, strings.Repeat("x", 300)) // no filesystem has such a name
	if f := nobodyElse(t.Context(), Subject{Home: home, Trusted: []string{long}}); f.verdict != solstice.Unknown || !strings.Contains(f.evidence, "file name too long") {
		t.Errorf("%+v", f)
	}
}
