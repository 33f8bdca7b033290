package localnet

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"solstice"
)

// chaind is a script with the help of a chain's binary, in cobra's words.
const chaind = `#!/bin/sh
case "$*" in
  --help) cat <<HELP
A chain.

Usage:
  examplechaind [command]

Available Commands:
  init        Make a home
  keys        Keys
  query       Querying subcommands
  start       Run the node
  tx          Transactions subcommands

Flags:
  -h, --help                help for examplechaind
      --home string         directory for config and data

Use "examplechaind [command] --help" for more information about a command.
HELP
  ;;
  "tx --help") printf 'Usage:\n  examplechaind tx [command]\n\nAvailable Commands:\n  gov   Governance\n\nFlags:\n      --chain-id string\n\nGlobal Flags:\n      --home string\n' ;;
  "tx gov --help") printf 'Available Commands:\n  vote  Vote\n' >&2 ;;
  environment*) env ;;
  panic*) printf 'words before\npanic: invalid denom\n\ngoroutine 1 [running]:\nmain.main()\n' >&2; exit 2 ;;
  *) echo "Error: unknown command" >&2; printf 'Usage:\n  examplechaind\n' >&2; exit 1 ;;
esac
`

func TestChain(t *testing.T) {
	path := write(t, chaind)
	c, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "examplechaind" {
		t.Errorf("name %q, want examplechaind", c.Name)
	}
	for _, tt := range []struct {
		words string
		want  bool
	}{{"tx", true}, {"tx gov", true}, {"tx gov vote", true}, {"tx gov submit-proposal", false}, {"genesis gentx", false}, {"gentx", false}, {"--home", false}} {
		if got := c.Has(t.Context(), strings.Fields(tt.words)...); got != tt.want {
			t.Errorf("Has(%s) = %v, want %v", tt.words, got, tt.want)
		}
	}
	if h, err := c.Help(t.Context(), "tx"); err != nil || !h.Has("chain-id") || !h.Has("home") || h.Has("nothing") {
		t.Errorf("help of tx = %+v, %v, want flags chain-id and home", h, err)
	}
	_, err = c.Run(t.Context(), t.TempDir(), "bad", "command", "--flag", "value")
	if want := "chaind bad command: exit status 1: Error: unknown command"; err == nil || err.Error() != want {
		t.Errorf("a failed command: %v, want %s", err, want)
	}
}

// TestLastLines: of a panic the words are told, and not the trace.
func TestLastLines(t *testing.T) {
	c, err := Open(t.Context(), write(t, chaind))
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Run(t.Context(), t.TempDir(), "panic")
	if want := "chaind panic: exit status 2: panic: invalid denom"; err == nil || err.Error() != want {
		t.Errorf("a command that panics: %v, want %s", err, want)
	}
}

// TestName: what a binary calls itself becomes the name of files, and leads nowhere else.
func TestName(t *testing.T) {
	for said, want := range map[string]string{"gaiad": "gaiad", "./bin/gaiad": "gaiad", "../../etc/passwd": "passwd", "..": "chaind", "/": "chaind"} {
		c, err := Open(t.Context(), write(t, strings.Replace(chaind, "  examplechaind [command]", "  "+said+" [command]", 1)))
		if err != nil || c.Name != want {
			t.Errorf("a binary that calls itself %q has the name %+v, %v; want %s", said, c, err, want)
		}
	}
}

// TestEnvironment: what an operator has set for his node does not reach one that is for practice.
func TestEnvironment(t *testing.T) {
	for _, name := range []string{"DAEMON_HOME", "SOLSTICE_STATE_DIR", "COSMOVISOR_DISABLE_LOGS", "UNSAFE_SKIP_BACKUP", "EXAMPLECHAIND_P2P_LADDR"} {
		t.Setenv(name, "operator")
	}
	t.Setenv("UNRELATED", "kept")
	c, err := Open(t.Context(), write(t, chaind))
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.Run(t.Context(), t.TempDir(), "environment")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "operator") || !strings.Contains(string(out), "UNRELATED=kept") {
		t.Errorf("environment of a command:\n%s", out)
	}
	n := Node{Home: "/h", Chain: "examplechaind", Environ: []string{"DAEMON_RESTART_DELAY=1s"}}
	environ := n.Environment()
	for _, want := range []string{"DAEMON_HOME=/h", "HOME=/h", "DAEMON_NAME=examplechaind", "DAEMON_RESTART_DELAY=1s", "UNRELATED=kept"} {
		if !slices.Contains(environ, want) {
			t.Errorf("environment of a node lacks %s", want)
		}
	}
	if strings.Contains(strings.Join(environ, "\n"), "=operator") {
		t.Errorf("environment of a node: %q", environ)
	}
}

// TestOpenRefuses: what is no chain's binary is refused before anything is done.
func TestOpenRefuses(t *testing.T) {
	for _, tt := range []struct{ name, path, want string }{
		{"missing", filepath.Join(t.TempDir(), "nothing"), "no such file"},
		{"text", write(t, "hello"), "neither"},
		{"another-program", write(t, "#!/bin/sh\necho hello\n"), `names no command "init"`},
		{"fails", write(t, "#!/bin/sh\necho broken >&2\nexit 7\n"), "exit status 7: broken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Open(t.Context(), tt.path)
			var refused *solstice.RefusedError
			if !errors.As(err, &refused) || refused.Hint == "" || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Open: %v, want a refusal with %q and a hint", err, tt.want)
			}
		})
	}
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "chaind")
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
