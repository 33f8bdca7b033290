package node

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"solstice"
)

// chainHelp is what a chain's binary prints, shortened (SDK v0.54).
const chainHelp = `The test chain, version v1

Usage:
  chaind [command]

Available Commands:
  start                 Run the full node
  --home                no flag, as it is a command's line

Flags:
  -h, --help                       help for chaind
      --home string                directory for config and data (default "/home/op/.chaind")
      --log_format string          The logging format (json|plain) (default "plain")
      --log_level string           The logging level (default "info")
      --log_no_color               Disable colored logs
  -o, --output text                text or json
      --retries count              how often
      --trace                      print out full stack trace on errors
      --when string[="now"]        when

Use "chaind [command] --help" for more information about a command.
`

func TestParseHelp(t *testing.T) {
	h := ParseHelp(chainHelp)
	for flag, off := range map[string]bool{
		"-h": true, "help": true, "trace": true, "log_no_color": true, "when": true,
		"home": false, "log_level": false, "-o": false, "output": false,
	} {
		if got, known := h.Switches[flag]; got != off || !known {
			t.Errorf("flag %s is a switch: %v, known %v, want %v", flag, got, known, off)
		}
	}
	if _, known := h.Switches["retries"]; known {
		t.Error("a counter, which looks like a flag with a value, is taken for known")
	}
	if h.Home.Path != "/home/op/.chaind" {
		t.Errorf("home %q", h.Home.Path)
	}
	for _, text := range []string{
		"", "Error: unknown flag: --help\n", "Usage: noded start|version\n", "--home string   at the beginning of a line\n",
		"  -x, string\n", "  --\n", "  -, --\n", strings.Repeat("  --", 1000), "Flags:\n  -h, --help   help\n",
	} {
		if h := ParseHelp(text); h.Known() {
			t.Errorf("ParseHelp(%.40q) = %+v, want unknown", text, h)
		}
	}
}

func TestCommandLine(t *testing.T) {
	known := ParseHelp(chainHelp)
	reset := []string{"unsafe-reset-all"}
	for _, tt := range []struct {
		line    string // words with a space between them; _ is an empty word
		help    Help
		command string
		doubted bool
		start   bool // it is a start, or may be
		resets  bool
	}{
		{line: "", help: known},
		{line: "start", command: "start", start: true},
		{line: "run", command: "run"},
		{line: "--home /x start", command: "start", start: true},
		{line: "--home=/x start", command: "start", start: true},
		{line: "--home start", help: known},
		{line: "--home start start", command: "start", start: true},
		{line: "_ - start", command: "start", start: true},
		{line: "-- start"},
		{line: "start -- --home /x", command: "start", start: true},

		{line: "--log_level info start", help: known, command: "start", start: true},
		{line: "--log_level info start", command: "start", doubted: true, start: true},
		{line: "--log_level start tx", help: known, command: "tx"},
		{line: "--log_level start tx", command: "tx", doubted: true, start: true},
		{line: "--trace start", help: known, command: "start", start: true},
		{line: "--trace start", doubted: true, start: true},
		{line: "--when start", help: known, command: "start", start: true},
		{line: "--retries start", help: known, doubted: true, start: true},
		{line: "-h start", help: known, command: "start", start: true},
		{line: "-o json start", help: known, command: "start", start: true},
		{line: "-ojson start", help: known, command: "start", start: true},
		{line: "-o=json start", help: known, command: "start", start: true},
		{line: "-o start", help: known},
		{line: "--rpc.laddr tcp://:1 start", help: known, command: "start", doubted: true, start: true},
		{line: "--hidden start", help: known, doubted: true, start: true},
		{line: "--hidden --trace start", help: known, command: "start", start: true},
		{line: "--trace=false --log_level=x start", command: "start", start: true},
		{line: "--log_level -- start", help: known, command: "start", start: true},

		{line: "keys add start", command: "keys"},
		{line: "--keyring-backend test keys add start", command: "keys", doubted: true},
		{line: "tx bank send start", help: known, command: "tx"},
		{line: "help start", command: "help"},

		{line: "unsafe-reset-all", command: "unsafe-reset-all", resets: true},
		{line: "unsafe_reset_all", command: "unsafe_reset_all", resets: true},
		{line: "--log_level info unsafe-reset-all", help: known, command: "unsafe-reset-all", resets: true},
		{line: "--log_level info unsafe-reset-all", command: "unsafe-reset-all", doubted: true, resets: true},
		{line: "--trace unsafe-reset-all", doubted: true, resets: true},
		{line: "--home /x comet unsafe-reset-all --keep-addr-book", command: "comet", resets: true},
		{line: "tendermint --log_level info unsafe-reset-all", command: "tendermint", resets: true},
		{line: "--trace cometbft --keep-addr-book unsafe-reset-all", doubted: true, resets: true},
		{line: "tendermint reset-state", command: "tendermint", resets: true},
		{line: "comet unsafe-reset-priv-validator", command: "comet", resets: true},
		{line: "tendermint show-node-id", command: "tendermint"},
		{line: "keys add unsafe-reset-all", command: "keys"},
		{line: "comet keys unsafe-reset-all", command: "comet"},
		{line: "--log_level unsafe-reset-all status", help: known, command: "status"},
		{line: "comet --home unsafe-reset-all", command: "comet"},
	} {
		c := CommandLine{Args: split(tt.line), Help: tt.help}
		command, certain := c.Command()
		if command != tt.command || certain == tt.doubted {
			t.Errorf("%q, help %v: Command = %q, certain %v, want %q, %v", tt.line, tt.help.Known(), command, certain, tt.command, !tt.doubted)
		}
		if got := c.MayBe("start"); got != tt.start {
			t.Errorf("%q, help %v: may be a start: %v, want %v", tt.line, tt.help.Known(), got, tt.start)
		}
		if got := c.Resets(); got != tt.resets {
			t.Errorf("%q, help %v: Resets = %v, want %v", tt.line, tt.help.Known(), got, tt.resets)
		}
		if c.MayBe(reset...) && !c.Resets() {
			t.Errorf("%q may be a reset and does not reset", tt.line)
		}
	}
}

// split makes words of a line, with _ for an empty one.
func split(line string) (words []string) {
	for _, word := range strings.Fields(line) {
		words = append(words, strings.TrimPrefix(word, "_"))
	}
	return words
}

func TestFlagsOfCommandLine(t *testing.T) {
	known := ParseHelp(chainHelp)
	for _, tt := range []struct {
		line  string
		help  Help
		home  string // as Home finds it from /cwd; none: not given
		laddr string
		on    string // what --x says that needs no value
		skip  []int64
	}{
		{line: "start", home: "none", laddr: "none", on: "none"},
		{line: "start --home /x --home=/y/ --x", home: "/y", laddr: "none", on: "true"},
		{line: "start --home x --x=false", home: "/cwd/x", laddr: "none", on: "false"},
		{line: "start --home= --x false", home: "/cwd", laddr: "none", on: "true"},
		{line: "start --home", home: "none", laddr: "none", on: "none"},
		{line: "start --homer /x --rpc.laddr --x", home: "none", laddr: "--x", on: "true"},
		{line: "start --log_level --home /x", home: "/x", laddr: "none", on: "none"},
		{line: "start --log_level --home /x", help: known, home: "none", laddr: "none", on: "none"},
		{line: "start -o --home /x", help: known, home: "none", laddr: "none", on: "none"},
		{line: "start -ho --home /x", help: known, home: "none", laddr: "none", on: "none"},
		{line: "start -oh --home /x", help: known, home: "/x", laddr: "none", on: "none"},
		{line: "start -h=o --home /x", help: known, home: "/x", laddr: "none", on: "none"},
		{line: "start -Zo --home /x", help: known, home: "/x", laddr: "none", on: "none"},
		{line: "start --home --home", home: "/cwd/--home", laddr: "none", on: "none"},
		{line: "start -- --home /x --x --unsafe-skip-upgrades 10", home: "none", laddr: "none", on: "none"},
		{line: "--home /x start --rpc.laddr=a=b", home: "/x", laddr: "a=b", on: "none"},

		{line: "start --unsafe-skip-upgrades 10,20", home: "none", laddr: "none", on: "none", skip: []int64{10, 20}},
		{line: "start --unsafe-skip-upgrades 10 20 --x", home: "none", laddr: "none", on: "true", skip: []int64{10, 20}},
		{line: "start --unsafe-skip-upgrades=10 --unsafe-skip-upgrades 20", home: "none", laddr: "none", on: "none", skip: []int64{10, 20}},
		{line: "start --unsafe-skip-upgrades", home: "none", laddr: "none", on: "none"},
		{line: "start --unsafe-skip-upgrades= --x", home: "none", laddr: "none", on: "true"},
		{line: "start --unsafe-skip-upgrades 1x,-2,3", home: "none", laddr: "none", on: "none", skip: []int64{-2, 3}},
	} {
		c := CommandLine{Args: split(tt.line), Help: tt.help}
		or := func(value string, found bool) string {
			if !found {
				return "none"
			}
			return value
		}
		if got := or(c.Home("/cwd")); got != tt.home {
			t.Errorf("%q: Home = %q, want %q", tt.line, got, tt.home)
		}
		if got := or(c.Flag("rpc.laddr")); got != tt.laddr {
			t.Errorf("%q: Flag = %q, want %q", tt.line, got, tt.laddr)
		}
		if got := or(c.Switch("x")); got != tt.on {
			t.Errorf("%q: Switch = %q, want %q", tt.line, got, tt.on)
		}
		if got := c.SkippedHeights(); !slices.Equal(got, tt.skip) {
			t.Errorf("%q: SkippedHeights = %v, want %v", tt.line, got, tt.skip)
		}
	}
}

// FuzzCommandLine: where the binary's help names all its flags, the command and each flag are those that cobra and pflag find.
func FuzzCommandLine(f *testing.F) {
	for _, line := range []string{
		"start", "--level info start", "--trace start --level=x", "-o json start --home /x", "-to x start", "--home start start -- --home y",
		"comet unsafe-reset-all --keep", "--level --home /x start", "-t=false start", "--when start", "-vv start", "start --home",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words := strings.Split(line, " ")
		root := cobraNode()
		var text strings.Builder
		root.SetOut(&text)
		if err := root.Help(); err != nil {
			t.Fatal(err)
		}
		c := CommandLine{Args: words, Help: ParseHelp(text.String())}
		if !c.Help.Known() {
			t.Fatalf("the help is not understood:\n%s", text.String())
		}
		found, rest, err := root.Find(words)
		if err != nil {
			return // cobra refuses it: nothing is started
		}
		path := strings.Fields(found.CommandPath())[1:]
		command, certain := c.Command()
		allKnown := found.ParseFlags(rest) == nil
		if len(path) > 0 && (command != path[0] || allKnown && !certain) {
			t.Errorf("Command of %q = %q, certain %v; cobra finds %q", words, command, certain, path)
		}
		if len(path) == 0 && (command == "start" || command == "comet") {
			t.Errorf("Command of %q = %q; cobra finds none", words, command)
		}
		if slices.Equal(path, []string{"comet", "unsafe-reset-all"}) && !c.Resets() {
			t.Errorf("%q does not reset; cobra finds %q", words, path)
		}
		// What pflag makes of it, with the flags of the command that is found.
		if !allKnown || !slices.Equal(path, []string{"start"}) {
			return
		}
		home, given := c.Flag("home")
		if flag := found.Flag("home"); flag.Changed != given || given && flag.Value.String() != home {
			t.Errorf("Flag(home) of %q = %q, %v; pflag finds %q, %v", words, home, given, flag.Value, flag.Changed)
		}
	})
}

// cobraNode is a command line with every kind of flag.
func cobraNode() *cobra.Command {
	run := func(*cobra.Command, []string) {}
	root := &cobra.Command{Use: "noded", SilenceErrors: true, SilenceUsage: true}
	root.SetErr(io.Discard)
	flags := root.PersistentFlags()
	flags.String("home", "/home/op/.noded", "directory for config and data")
	flags.String("level", "info", "the level (trace|debug)")
	flags.StringP("output", "o", "", "text or json")
	flags.BoolP("trace", "t", false, "print a trace")
	flags.Bool("color", true, "")
	flags.Duration("wait", 0, "how long\nit takes")
	flags.String("when", "", "when")
	flags.Lookup("when").NoOptDefVal = "now"
	flags.IntSlice("heights", nil, "")
	comet := &cobra.Command{Use: "comet", Run: run}
	comet.AddCommand(&cobra.Command{Use: "unsafe-reset-all", Run: run})
	start := &cobra.Command{Use: "start", Run: run}
	root.AddCommand(start, comet)
	root.CompletionOptions.DisableDefaultCmd = true
	root.InitDefaultHelpCmd()
	return root
}

// TestHelpNamesEveryKindOfFlag: ParseHelp knows each kind of flag that pflag has as it does.
func TestHelpNamesEveryKindOfFlag(t *testing.T) {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.String("home", "/x y\"/z", "the home")
	flags.Bool("bool", false, "x")
	flags.Bool("bool-on", true, "x")
	flags.BoolP("bool-short", "b", false, "")
	flags.Int("int", 1, "x")
	flags.Uint64("uint", 1, "x")
	flags.Float64("float", 1.5, "x")
	flags.DurationP("duration", "d", 1, "x")
	flags.StringSlice("strings", []string{"a"}, "x")
	flags.IntSlice("ints", nil, "x")
	flags.StringToString("map", nil, "x")
	flags.IP("ip", nil, "x")
	flags.BytesHex("bytes", nil, "x")
	flags.String("optional", "", "x")
	flags.Lookup("optional").NoOptDefVal = "y"
	flags.Int("optional-int", 0, "x")
	flags.Lookup("optional-int").NoOptDefVal = "1"
	flags.Bool("bool-off", true, "x")
	flags.Lookup("bool-off").NoOptDefVal = "false"
	h := ParseHelp(flags.FlagUsages())
	flags.VisitAll(func(f *pflag.Flag) {
		for _, name := range []string{f.Name, "-" + f.Shorthand} {
			if off, known := h.Switches[name]; name != "-" && (!known || off != (f.NoOptDefVal != "")) {
				t.Errorf("flag %s: known %v, a switch %v, want %v, in:\n%s", name, known, off, f.NoOptDefVal != "", flags.FlagUsages())
			}
		}
	})
	if want := "/x y\"/z"; h.Home.Path != want {
		t.Errorf("home %q, want %q", h.Home.Path, want)
	}
}

func TestFindHome(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "cosmovisor/genesis/bin/chain-d-v1.2"), []byte("\x7fELF"))
	if err := os.Symlink("chain-d-v1.2", filepath.Join(dir, "cosmovisor/genesis/bin/chain-d")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "cosmovisor/upgrades/v2/bin/chain-d"), []byte("\x7fELF"))
	write(t, filepath.Join(dir, "cosmovisor/upgrades/script/bin/chain-d"), []byte("#!/bin/sh\n"))
	help := Help{Switches: map[string]bool{}, Home: DefaultHome{Variable: "HOME", Path: ".chain"}}
	for _, tt := range []struct {
		name string
		link string
		args string
		help Help
		env  map[string]string
		want string
	}{
		{name: "flag", args: "start --home /x", help: help, env: map[string]string{"CHAIN_D_HOME": "/env"}, want: "/x --home"},
		{name: "flag, relative", args: "start --home x", want: "/cwd/x --home"},
		{name: "flag, empty", args: "start --home=", want: "/cwd --home"},
		{name: "environment", link: "upgrades/v2", help: help, env: map[string]string{"CHAIN_D_HOME": "/env", "HOME": "/root"}, want: "/env CHAIN_D_HOME"},
		{name: "environment, relative", link: "upgrades/v2", env: map[string]string{"CHAIN_D_HOME": "e"}, want: "/cwd/e CHAIN_D_HOME"},
		{
			name: "environment, by the name that the symlink leads to",
			env:  map[string]string{"CHAIN_D_V1_2_HOME": "/env", "CHAIN_D_HOME": "/no"},
			want: "/env CHAIN_D_V1_2_HOME",
		},
		{name: "default", help: help, env: map[string]string{"HOME": "/home/op"}, want: "/home/op/.chain " + FromDefault},
		{name: "default of a home that is not set", help: help, want: " "},
		{name: "default without a variable", help: Help{Home: DefaultHome{Path: "/srv"}}, want: "/srv " + FromDefault},
		{name: "default, relative", help: Help{Home: DefaultHome{Path: "srv"}}, want: "/cwd/srv " + FromDefault},
		{name: "no help", want: " "},
		{name: "a script has no default that could be trusted", link: "upgrades/script", help: help, env: map[string]string{"HOME": "/root"}, want: " "},
		{name: "a script, environment", link: "upgrades/script", env: map[string]string{"CHAIN_D_HOME": "/env"}, want: "/env CHAIN_D_HOME"},
		{name: "no binary", link: "upgrades/none", env: map[string]string{"CHAIN_D_HOME": "/env"}, want: "/env CHAIN_D_HOME"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			home := solstice.Home{Dir: dir, Name: "chain-d"}
			_ = os.Remove(home.CurrentLink())
			if tt.link != "" {
				if err := os.Symlink(tt.link, home.CurrentLink()); err != nil {
					t.Fatal(err)
				}
			}
			path, from := FindHome(home, CommandLine{Args: split(tt.args), Help: tt.help}, "/cwd", func(name string) string { return tt.env[name] })
			if got := fmt.Sprint(path, " ", from); got != tt.want {
				t.Errorf("FindHome = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestDefaultHomeBelow(t *testing.T) {
	folders := map[string]string{"HOME": "/m", "NODE_HOME": "/m/NODE_HOME"}
	for _, tt := range []struct {
		printed string
		want    DefaultHome
	}{
		{"/m/.gaia", DefaultHome{"HOME", ".gaia"}},
		{"/m", DefaultHome{"HOME", "."}},
		{"/m/NODE_HOME", DefaultHome{"NODE_HOME", "."}},
		{"/m/NODE_HOME/x", DefaultHome{"NODE_HOME", "x"}},
		{"/mm/x", DefaultHome{"", "/mm/x"}},
		{"/srv", DefaultHome{"", "/srv"}},
		{".gaia", DefaultHome{"", ".gaia"}},
		{"", DefaultHome{}},
	} {
		if got := (DefaultHome{Path: tt.printed}).Below(folders); got != tt.want {
			t.Errorf("%q: %+v, want %+v", tt.printed, got, tt.want)
		}
	}
}
