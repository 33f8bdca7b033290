package solstice

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "upgrade-info.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func checkErr(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Fatalf("unexpected error: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Fatalf("error = %v, want one with %q", err, want)
	}
}

func TestReadPlan(t *testing.T) {
	for _, tt := range []struct{ name, file, want, wantErr string }{
		{"from-x-upgrade", `{"name":"v2","time":"0001-01-01T00:00:00Z","height":17}`, "v2 at height 17", ""},
		{"with-info", `{"name":"v3","time":"0001-01-01T00:00:00Z","height":35,"info":"{\"binaries\":{}}"}`, "v3 at height 35", ""},
		{"keys-in-other-case-and-unknown", `{"Name":"v2","HEIGHT":17,"other":[1]}`, "v2 at height 17", ""},
		{"client-state-null", `{"name":"v2","height":17,"upgraded_client_state":null}`, "v2 at height 17", ""},
		{"leaves-the-folder-escaped", `{"name":"a/../../x","height":17}`, "a/../../x at height 17", ""},
		{"hidden", `{"name":".x","height":17}`, "", "is not a directory name"},
		{"above", `{"name":"../x","height":17}`, "", "is not a directory name"},
		{"empty", "", "", "it is empty"},
		{"blank", " \n", "", "it is empty"},
		{"zeroes-of-a-power-cut", "\x00\x00\x00", "", "invalid character"},
		{"half-written", `{"name":"v2`, "", "unexpected end of JSON input"},
		{"two-in-one", `{"name":"v2","height":17}{"name":"v2","height":17}`, "", "after top-level value"},
		{"no-object", `[]`, "", "it is a list, and not an object"},
		{"nothing-in-it", `{}`, "", "a plan needs a name"},
		{"name-only", `{"name":"v2"}`, "", "needs a height above 0"},
		{"height-only", `{"height":1}`, "", "a plan needs a name"},
		{"negative", `{"name":"v2","height":-1}`, "", "needs a height above 0"},
		{"height-as-text", `{"name":"v2","height":"17"}`, "", "its height has to be a whole number below 2^63 without quotes, and is text"},
		{"height-too-large", `{"name":"v2","height":99999999999999999999}`, "", "its height has to be a whole number below 2^63 without quotes, and is number 99999999999999999999"},
		{"by-time", `{"name":"v2","time":"2026-01-01T00:00:00Z","height":1}`, "", "time-based"},
		{"with-client-state", `{"name":"v2","height":1,"upgraded_client_state":{}}`, "", "IBC"},
		{"name-is-the-parent", `{"name":"..","height":1}`, "", "not a directory name"},
		{"name-is-long", `{"name":"` + strings.Repeat("ä", 50) + `","height":1}`, "", "not a directory name"},
		{"name-with-nul", `{"name":"a\u0000","height":1}`, "", "not a directory name"},
		{"too-large", `{"name":"v2","height":1,"info":"` + strings.Repeat("x", MaxPlanSize) + `"}`, "", "larger than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plan, err := ReadPlan(write(t, tt.file))
			checkErr(t, err, tt.wantErr)
			if got := plan.String(); tt.wantErr == "" && got != tt.want {
				t.Errorf("ReadPlan = %q, want %q", got, tt.want)
			}
		})
	}
}

// TestReadPlanNeverBlocks: a FIFO that nobody writes to would stop a reader for ever.
func TestReadPlanNeverBlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := ReadPlan(path)
	checkErr(t, err, "not a regular file")
	_, err = ReadPlan(t.TempDir())
	checkErr(t, err, "not a regular file")
}

// TestPlanFile: byte for byte what the SDK writes.
func TestPlanFile(t *testing.T) {
	for _, tt := range []struct {
		plan Plan
		want string
	}{
		{Plan{Name: "v2", Height: 17}, `{"name":"v2","time":"0001-01-01T00:00:00Z","height":17}`},
		{Plan{Name: "a<b>&", Height: 1, Info: `{"x":"https://a?b&c"}`}, `{"name":"a<b>&","time":"0001-01-01T00:00:00Z","height":1,"info":"{\"x\":\"https://a?b&c\"}"}`},
	} {
		if got := string(tt.plan.File()); got != tt.want {
			t.Errorf("File = %s, want %s", got, tt.want)
		}
	}
}

// FuzzParsePlan: a plan that is accepted makes a directory name, and survives being written and read again.
func FuzzParsePlan(f *testing.F) {
	f.Add([]byte(`{"name":"v2","time":"0001-01-01T00:00:00Z","height":17,"info":"x"}`))
	f.Add([]byte(`{"name":"../../x","height":1e3}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		plan, err := ParsePlan(content)
		if err != nil {
			return
		}
		home := Home{Dir: "/h"}
		dir := filepath.Join(home.Root(), home.UpgradeDir(plan.Name))
		if filepath.Dir(dir) != home.Upgrades() || plan.Height <= 0 {
			t.Fatalf("plan %+v leads to %s", plan, dir)
		}
		again, err := ParsePlan(plan.File())
		if err != nil || again != plan {
			t.Fatalf("%+v became %+v, %v", plan, again, err)
		}
	})
}

func TestCurrent(t *testing.T) {
	home := Home{Dir: t.TempDir(), Name: "noded"}
	elsewhere := t.TempDir()
	for _, dir := range []string{home.Root() + "/genesis", home.Upgrades() + "/v2"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mounted := filepath.Join(elsewhere, "mounted")
	if err := os.Symlink(home.Dir, mounted); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, target, wantDir, wantFault string }{
		{"missing", "", "", ""},
		{"relative", "upgrades/v2", "upgrades/v2", ""},
		{"absolute", home.Upgrades() + "/v2", "upgrades/v2", ""},
		{"absolute-by-another-path", mounted + "/cosmovisor/upgrades/v2", "upgrades/v2", ""},
		{"genesis-with-a-slash", "./genesis/", "genesis", ""},
		{"dangling", "upgrades/v9", "upgrades/v9", ""},
		{"outside", elsewhere, "", "neither genesis nor a folder in upgrades/"},
		{"the-root", ".", "", "neither genesis nor a folder in upgrades/"},
		{"upgrades-itself", "upgrades", "", "neither genesis nor a folder in upgrades/"},
		{"too-deep", "upgrades/v2/bin", "", "neither genesis nor a folder in upgrades/"},
		{"up-and-out", "upgrades/../../x", "", "neither genesis nor a folder in upgrades/"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			os.Remove(home.CurrentLink())
			if tt.target != "" {
				if err := os.Symlink(tt.target, home.CurrentLink()); err != nil {
					t.Fatal(err)
				}
			}
			link, err := home.Current()
			if err != nil || link.Dir != tt.wantDir || !strings.Contains(link.Fault, tt.wantFault) || (tt.wantFault == "") != (link.Fault == "") {
				t.Errorf("Current = %+v, %v", link, err)
			}
			if link.Missing() != (tt.target == "") {
				t.Errorf("Missing = %v", link.Missing())
			}
		})
	}
}

func TestUpgradeDir(t *testing.T) {
	home := Home{Dir: t.TempDir()}
	for _, name := range []string{"Exact", "Both", "both"} {
		if err := os.MkdirAll(filepath.Join(home.Upgrades(), name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		plan, want string
		keepCase   bool
	}{
		{"New", "upgrades/new", false},
		{"Exact", "upgrades/Exact", false},
		{"Both", "upgrades/both", false},
		{"Both", "upgrades/Both", true},
		{"New", "upgrades/New", true},
		{"My Up/1", "upgrades/my%20up%2F1", false},
		{"../x", "upgrades/..%2Fx", false},
	} {
		home.KeepCase = tt.keepCase
		if got := home.UpgradeDir(tt.plan); got != tt.want {
			t.Errorf("UpgradeDir(%q) = %q, want %q", tt.plan, got, tt.want)
		}
	}
}

func TestSecondsAsJSON(t *testing.T) {
	text, err := Seconds(1234567 * time.Microsecond).MarshalJSON()
	if err != nil || string(text) != "1.234567" {
		t.Fatalf("MarshalJSON = %s, %v", text, err)
	}
	var s Seconds
	if err := s.UnmarshalJSON(text); err != nil || s != Seconds(1234567*time.Microsecond) {
		t.Fatalf("UnmarshalJSON = %v, %v", time.Duration(s), err)
	}
}
