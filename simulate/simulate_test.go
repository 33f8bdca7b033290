package simulate

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"solstice"
	"solstice/localnet"
	"solstice/report"
)

// quiet is a screen that nobody looks at.
type quiet struct{}

func (quiet) Say(string, ...any) {}
func (quiet) Show([]View)        {}

// chaind is a script with the helps of a chain's binary; what is in them is told by its arguments.
func chaind(t *testing.T, name string, tx string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	text := fmt.Sprintf(`#!/bin/sh
commands() { printf 'Available Commands:\n'; for c in "$@"; do printf '  %%s  About\n' "$c"; done; }
case "$*" in
--help) printf 'Usage:\n  %s [command]\n\n'; commands init start keys tx add-genesis-account gentx collect-gentxs ;;
"tx --help") commands gov ;;
"tx gov --help") commands %s ;;
"tx gov submit-proposal --help") commands software-upgrade ;;
*) exit 1 ;;
esac
`, name, tx)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRefuses: what can't be simulated is refused before anything is made, with a sentence and a way on.
func TestRefuses(t *testing.T) {
	chain := chaind(t, "oldd", "vote submit-proposal")
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string // empty: it is accepted
	}{
		{"an-old-SDK", func(*Config) {}, ""},
		{"no-validator", func(c *Config) { c.Validators = 0 }, "needs a validator"},
		{"no-time", func(c *Config) { c.BlockTime = 0 }, "block time"},
		{"plan-name", func(c *Config) { c.Upgrades[0].Name = ".." }, "not a directory name"},
		{"twice", func(c *Config) { c.Upgrades = append(c.Upgrades, Upgrade{"V2", chain}) }, `"V2" is named twice`},
		{"no-such-node", func(c *Config) { c.Late = []string{"7"} }, "--late 7: there is no such node; there are validator0, sentry0-0"},
		{"no-such-binary", func(c *Config) { c.Binary = "/nowhere/chaind" }, "no such file"},
		{"another-chain", func(c *Config) { c.Upgrades[0].Binary = chaind(t, "otherd", "vote submit-proposal") }, "they are not of one chain"},
		{"no-governance", func(c *Config) { c.Binary = chaind(t, "oldd", "deposit") }, "has no command to propose an upgrade: looked for tx upgrade software-upgrade"},
		{"no-vote", func(c *Config) { c.Binary = chaind(t, "oldd", "submit-proposal") }, "has no command to vote"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := Config{Binary: chain, Upgrades: []Upgrade{{"v2", chain}}, Validators: 1, Sentries: 1, Stake: "1000", BlockTime: time.Second, Patience: time.Second, Dir: filepath.Join(t.TempDir(), "network")}
			tt.change(&config)
			_, err := prepare(t.Context(), config, quiet{})
			var refused *solstice.RefusedError
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.want != "" && (!errors.As(err, &refused) || refused.Hint == "" || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("prepare: %v, want a refusal with %q and a hint", err, tt.want)
			}
			if _, err := os.Stat(config.Dir); err == nil {
				t.Error("a folder was made")
			}
		})
	}
}

// TestClaim: a folder with something in it is nobody's to write into.
func TestClaim(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "network")
	lock, err := claim(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claim(dir); err == nil {
		t.Error("a folder was claimed twice")
	}
	lock.Close()
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := claim(dir); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("claim of a full folder: %v, want a refusal", err)
	}
}

// TestHalfWritten: a network that can't be laid out leaves an empty folder, also as a project.
func TestHalfWritten(t *testing.T) {
	config := Config{
		Binary: chaind(t, "oldd", "vote submit-proposal"), Validators: 1, Stake: "1000", BlockTime: time.Second, Patience: time.Second,
		Dir: filepath.Join(t.TempDir(), "network"),
	}
	check := func(err error, dir string) {
		t.Helper()
		if want := "lay out the network: make homes: validator0: oldd init validator0: exit status 1"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a binary whose init fails: %v, want %s", err, want)
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("left in the folder: %v, %v", entries, err)
		}
	}
	_, err := Run(t.Context(), config, quiet{})
	check(err, config.Dir)
	project := Project{Dir: filepath.Join(t.TempDir(), "project"), Base: "some-image"}
	check(project.Write(t.Context(), config, quiet{}), project.Dir)
}

// TestSetGenesis: governance is made quick in the words of each SDK.
func TestSetGenesis(t *testing.T) {
	for _, tt := range []struct{ name, genesis, path, want string }{
		{"v0.50", `{"app_state":{"gov":{"params":{"voting_period":"172800s","expedited_voting_period":"86400s"}}}}`, "app_state.gov.params.expedited_voting_period", "2.000s"},
		{"v0.47", `{"app_state":{"gov":{"params":{"voting_period":"172800s"}}}}`, "app_state.gov.params.voting_period", "4.000s"},
		{"v0.46", `{"app_state":{"gov":{"voting_params":{},"deposit_params":{}}}}`, "app_state.gov.voting_params.voting_period", "4.000s"},
		{"further", `{"app_state":{"gov":{"params":{}},"mint":{}}}`, "app_state.mint.blocks", "5"},
		{"none", `{"app_state":{}}`, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "genesis.json")
			if err := os.WriteFile(path, []byte(tt.genesis), 0o644); err != nil {
				t.Fatal(err)
			}
			g, err := readGenesis(path)
			if err != nil {
				t.Fatal(err)
			}
			s := Simulation{voting: 4 * time.Second, config: Config{Denom: "stake", Stake: "1000"}}
			if tt.name == "further" {
				s.config.Genesis = map[string]string{"app_state.mint.blocks": "5"}
			}
			err = s.setGenesis(g)
			if (err == nil) != (tt.want != "") {
				t.Fatalf("setGenesis: %v", err)
			}
			if got := g.get(tt.path); tt.want != "" && fmt.Sprint(got) != tt.want {
				t.Errorf("%s = %v, want %s", tt.path, got, tt.want)
			}
		})
	}
}

func TestAddressIn(t *testing.T) {
	for _, tt := range []struct{ name, out, want string }{
		{"json", `{"name":"validator","address":"cosmos1x"}`, "cosmos1x"},
		{"with-words-around", "\n- wrote it down?\n{\"address\":\"cosmos1x\"}\nbye", "cosmos1x"},
		{"text", "- address: cosmos1x", ""},
		{"nothing", "", ""},
	} {
		got, err := addressIn([]byte(tt.out))
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: address %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

// TestDials: a validator with sentries is known to them alone.
func TestDials(t *testing.T) {
	s := Simulation{config: Config{Validators: 2, Sentries: 1}}
	s.enlist()
	var pairs []string
	for _, from := range s.members {
		for _, to := range s.members {
			if s.dials(from, to) {
				pairs = append(pairs, from.Name+">"+to.Name)
			}
		}
	}
	const want = "validator0>sentry0-0 sentry0-0>validator0 sentry0-0>sentry1-0 validator1>sentry1-0 sentry1-0>sentry0-0 sentry1-0>validator1"
	if got := strings.Join(pairs, " "); got != want {
		t.Errorf("dialled: %s, want %s", got, want)
	}
}

// TestCompose: each node of a project has its home in a volume, time to stop, and a health check that a migration does not fail.
func TestCompose(t *testing.T) {
	s := Simulation{config: Config{Validators: 2, Sentries: 1}}
	s.enlist()
	for _, m := range s.members {
		m.Args = []string{"--moniker=$HOME"}
	}
	var project struct {
		Services map[string]struct {
			Command     []string
			Networks    any
			Volumes     []string
			Grace       time.Duration `yaml:"stop_grace_period"`
			Healthcheck struct{ Test []string }
		}
	}
	if err := yaml.Unmarshal([]byte(s.compose()), &project); err != nil {
		t.Fatal(err)
	}
	for _, m := range s.members {
		got := project.Services[m.Name]
		if want := []string{"CMD", "/usr/local/bin/solstice", "status", "--check"}; !slices.Equal(got.Healthcheck.Test, want) {
			t.Errorf("%s has the health check %q, want %q", m.Name, got.Healthcheck.Test, want)
		}
		if last := got.Command[len(got.Command)-1]; last != "--moniker=$$HOME" {
			t.Errorf("%s is started with %q, which Compose would read variables in", m.Name, last)
		}
		networks, _ := got.Networks.(map[string]any)
		if _, private := networks["private-"+m.Name]; m.Validator && (len(networks) != 1 || !private) {
			t.Errorf("%s is in the networks %v, want its private one alone", m.Name, networks)
		}
		if want := m.Name + ":/homes/" + m.Name; !slices.Contains(got.Volumes, want) || got.Grace <= time.Minute {
			t.Errorf("%s has the volumes %q and %v to stop, want %s and more than a minute", m.Name, got.Volumes, got.Grace, want)
		}
	}
}

// TestStartScriptEnds: a kept network's start.sh ends after its nodes, also when it is interrupted again while they stop, as timeout
// does, which sends its signal to the process and to the group.
func TestStartScriptEnds(t *testing.T) {
	dir := t.TempDir()
	s := Simulation{config: Config{Dir: dir, Validators: 2}, chains: []*localnet.Chain{{Name: "chaind"}}}
	s.enlist()
	if err := s.writeScript(); err != nil {
		t.Fatal(err)
	}
	solstice := filepath.Join(dir, "solstice")
	if err := os.WriteFile(solstice, []byte(`#!/bin/sh
trap ': >"$DAEMON_HOME/stops"; while [ -e "$DAEMON_HOME" ] && ! [ -e may-end ]; do sleep 0.01; done; : >"$DAEMON_HOME/ended"; exit 0' TERM
mkdir "$DAEMON_HOME"
: >"$DAEMON_HOME/runs"
while [ -e "$DAEMON_HOME" ]; do sleep 0.01; done
`), 0o755); err != nil {
		t.Fatal(err)
	}
	script := exec.Command(filepath.Join(dir, StartScript))
	script.Env = append(os.Environ(), "SOLSTICE="+solstice)
	if err := script.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- script.Wait() }()
	all := func(file string) { // waits until all nodes have made it
		for _, m := range s.members {
			path := filepath.Join(m.Home, file)
			for _, err := os.Stat(path); err != nil; _, err = os.Stat(path) {
				time.Sleep(time.Millisecond)
			}
		}
	}
	all("runs")
	script.Process.Signal(os.Interrupt)
	all("stops")
	script.Process.Signal(os.Interrupt)
	select {
	case err := <-ended:
		t.Fatalf("it ended before its nodes: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := os.WriteFile(filepath.Join(dir, "may-end"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	all("ended")
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// TestExact: what solstice has measured takes the place of what was seen now and then.
func TestExact(t *testing.T) {
	at := func(second float64) time.Time {
		return time.Unix(1000, 0).Add(time.Duration(second * float64(time.Second)))
	}
	seen := []report.Span{{From: at(0), To: at(5.1), Kind: report.Running, Label: "genesis"}, {From: at(5.1), To: at(8.2), Kind: report.Migration, Label: "v2"}, {From: at(8.2), To: at(12), Kind: report.Running, Label: "v2"}}
	got := exact(seen, []solstice.Upgrade{{Name: "v2", Confirmed: at(8), Standing: solstice.Standing{
		Total: solstice.Seconds(3 * time.Second), Ours: solstice.Seconds(time.Second), Migration: solstice.Seconds(time.Second),
	}}, {Name: "v3"}})
	var text strings.Builder
	for _, span := range got {
		fmt.Fprintf(&text, "%s %s %v-%v\n", span.Kind, span.Label, span.From.Sub(at(0)).Round(time.Millisecond), span.To.Sub(at(0)).Round(time.Millisecond))
	}
	const want = "running genesis 0s-5s\nsolstice v2 5s-6s\nmigration v2 6s-7s\nnext v2 7s-8s\nmigration v2 8s-8.2s\nrunning v2 8.2s-12s\n"
	if text.String() != want {
		t.Errorf("spans:\n%swant:\n%s", text.String(), want)
	}
}

// TestCompare: a node that has computed another state is named, also when no block was made that could tell.
func TestCompare(t *testing.T) {
	s := Simulation{config: Config{Validators: 2}}
	s.enlist()
	s.result.Upgrades = []Passed{{Plan: solstice.Plan{Name: "v2", Height: 7}}}
	for i, hash := range []string{"AA", "AA"} {
		s.members[i].Node = localnet.Node{Name: s.members[i].Name, RPC: "127.0.0.1:1"} // nobody answers
		s.members[i].watched.hashes = map[int64]string{6: hash, 7: hash}
	}
	if a := s.compare(t.Context()); !a.Agree || a.Compared != 4 || a.From != 6 || a.To != 7 {
		t.Errorf("equal nodes: %+v", a)
	}
	s.members[1].watched.hashes[7] = "BB"
	a := s.compare(t.Context())
	if a.Agree || len(a.Differ) != 1 || !strings.Contains(a.Differ[0], "after block 7 validator1 has app hash BB…, and the network AA…") {
		t.Errorf("nodes that differ: %+v", a)
	}
	s.members[1].watched.hashes = map[int64]string{6: "AA"}
	if a := s.compare(t.Context()); a.Agree {
		t.Errorf("a node whose state after the plan was not seen: %+v", a)
	}
}

// TestLastWords: what a node died of is found in its log, without colours.
func TestLastWords(t *testing.T) {
	s := Simulation{config: Config{Dir: t.TempDir()}}
	m := &member{Node: localnet.Node{Name: "validator0"}}
	log := "\x1b[90m1:00AM\x1b[0m \x1b[32mINF\x1b[0m block\npanic: bad migration\n\ngoroutine 1\nsolstice: error: upgrade \"v2\": it ended\nsolstice: hint: look\n"
	if err := os.WriteFile(s.log(m), []byte(log), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, want := s.lastWords(m), `panic: bad migration; upgrade "v2": it ended`; got != want {
		t.Errorf("last words %q, want %q", got, want)
	}
}
