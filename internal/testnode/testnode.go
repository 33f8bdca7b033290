// Package testnode is a small node for tests: a real process with a home, blocks, an RPC and a chain's manners
// at an upgrade, without the weight of a real chain.
//
// A binary's version is the directory that it lies in: genesis, or the name of its upgrade. It knows how to run
// from its own upgrade's height on, and refuses every other, as real binaries do. What happened is in the home's
// noded.log, a line an event.
package testnode

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"solstice"
	"solstice/internal/durable"
	"solstice/node"
)

// Script is what the node of a home does. It is read from config/noded.json at each start.
type Script struct {
	BlockTime  time.Duration  `json:"block_time"`  // between two blocks; default 10ms
	Plans      []Plan         `json:"plans"`       // the chain's history to come, by height
	HaltExit   int            `json:"halt_exit"`   // the code to end with at a halt; -1 stays up, halted
	IgnoreTerm bool           `json:"ignore_term"` // only SIGKILL ends it
	StopTime   time.Duration  `json:"stop_time"`   // how long it takes to stop
	Fail       map[string]int `json:"fail"`        // by version, the code to end with right at the start
	StopAt     int64          `json:"stop_at"`     // the height from which on it ends by itself, with StopCode
	StopCode   int            `json:"stop_code"`
	Says       string         `json:"says"`        // on stderr, before it ends by itself or fails
	Panics     string         `json:"panics"`      // then it does so with a panic, if this is not empty
	Floods     int            `json:"floods"`      // how many bytes it writes to stderr at its start, in numbered lines
	StopFloods int            `json:"stop_floods"` // the same when it is told to stop
	Proposals  []Proposal     `json:"proposals"`
	Database   bool           `json:"database"` // heights and upgrades stand in goleveldb, as a real node's do
}

// Plan is one upgrade of the script.
type Plan struct {
	Name   string `json:"name"`
	Height int64  `json:"height"`
	Info   string `json:"info,omitempty"`
	// Manual says that the chain doesn't know of it: the old binary runs on past the height.
	Manual bool `json:"manual,omitempty"`
	// Itself says that the binary carries it out by itself: it writes the plan file and makes the next block.
	Itself bool `json:"itself,omitempty"`
	// From is the height at which the chain schedules it, Until that at which it is cancelled; 0: never.
	From  int64 `json:"from,omitempty"`
	Until int64 `json:"until,omitempty"`
}

// WrongBinary is the exit code of a binary that was started at a height that is not its own, TwoNodes of one that
// found another at work on its home, and SignedTwice of one that would have to sign a height that was signed before. No test may
// ever see them.
const (
	WrongBinary = 76
	TwoNodes    = 77
	SignedTwice = 78
)

// Main is the node. Its exit code is the process's.
func Main() int {
	args := os.Args[1:]
	if len(args) == 0 || args[0] == "--help" {
		fmt.Printf(help, defaultHome())
		return 0
	}
	line := node.CommandLine{Args: args, Help: node.ParseHelp(help)}
	command, _ := line.Command()
	if command == "comet" {
		_, rest, _ := strings.Cut(strings.Join(args, "\n"), "comet\n")
		args = strings.Split(rest, "\n")
		command, _ = node.CommandLine{Args: args, Help: line.Help}.Command()
	}
	switch command {
	case "start":
		return start(args)
	case "version":
		if slices.Contains(args, "json") {
			fmt.Printf("{\"name\":\"noded\",\"version\":%q}\n", ownVersion())
		} else {
			fmt.Println(ownVersion())
		}
		return 0
	case "pre-upgrade":
		return preUpgrade(args)
	case "unsafe-reset-all":
		return reset(args)
	case "rollback":
		return rollback(args)
	case "echo":
		dir, _ := os.Getwd()
		fmt.Println(ownVersion(), strings.Join(args[1:], " "), "in", dir)
		return 0
	}
	fmt.Fprintf(os.Stderr, "Error: unknown command %q for \"noded\"\n", command)
	return 1
}

// help is laid out as cobra does, with the flags of a chain's binary.
const help = `A small node for tests

Usage:
  noded [command]

Available Commands:
  comet       CometBFT subcommands
  echo        Say what it was called with
  pre-upgrade Prepare an upgrade
  start       Run the node
  version     Print the version

Flags:
  -h, --help               help for noded
      --home string        directory for config and data (default %q)
      --log_level string   the logging level (default "info")
      --trace              print out full stack trace on errors
`

// defaultHome is DAEMON_HOME, or below the user's home if a file NAME.home beside the binary says where.
func defaultHome() string {
	exe, _ := os.Executable()
	if name, err := os.ReadFile(exe + ".home"); err == nil {
		return filepath.Join(os.Getenv("HOME"), strings.TrimSpace(string(name)))
	}
	return os.Getenv("DAEMON_HOME")
}

// ownVersion is the directory of the binary.
func ownVersion() string {
	exe, err := os.Executable()
	if err != nil {
		return err.Error()
	}
	return filepath.Base(filepath.Dir(filepath.Dir(exe)))
}

// preUpgrade exists if a file NAME.pre-upgrade lies beside the binary. Each line in it is an exit code, for one call
// after the other; the last one stays.
func preUpgrade(args []string) int {
	exe, _ := os.Executable()
	codes, err := os.ReadFile(exe + ".pre-upgrade")
	if err != nil {
		fmt.Fprintln(os.Stderr, `Error: unknown command "pre-upgrade" for "noded"`)
		return 1
	}
	if slices.Contains(args, "--help") {
		fmt.Println("Usage:\n  noded pre-upgrade [flags]")
		return 0
	}
	home := os.Getenv("DAEMON_HOME")
	logLine(home, "pre-upgrade")
	fmt.Println("pre-upgrade of", ownVersion())
	first, rest, more := strings.Cut(strings.TrimSpace(string(codes)), "\n")
	if more {
		_ = os.WriteFile(exe+".pre-upgrade", []byte(rest), 0o644)
	}
	code, _ := strconv.Atoi(first)
	return code
}

func logLine(home, format string, values ...any) {
	f, err := os.OpenFile(filepath.Join(home, "noded.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return
	}
	fmt.Fprintf(f, "%s %s\n", ownVersion(), fmt.Sprintf(format, values...))
	f.Close()
}

// reset does what CometBFT does: the data is gone, and the sign state begins anew.
func reset(args []string) int {
	data := filepath.Join(homeOf(args), "data")
	if err := os.RemoveAll(data); err != nil {
		fmt.Fprintln(os.Stderr, "noded:", err)
		return 1
	}
	if err := os.MkdirAll(data, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, "noded:", err)
		return 1
	}
	_ = os.WriteFile(filepath.Join(data, signState), []byte(`{"height":"0","round":0,"step":0}`), 0o600)
	fmt.Println("reset")
	return 0
}

// rollback undoes one block.
func rollback(args []string) int {
	n := &running{home: homeOf(args)}
	n.height = n.committed() - 2
	if err := n.commit(); err != nil {
		fmt.Fprintln(os.Stderr, "noded:", err)
		return 1
	}
	fmt.Println("Rolled back state to height", n.height)
	return 0
}

func homeOf(args []string) string {
	dir, err := os.Getwd()
	if home, ok := (node.CommandLine{Args: args}).Home(dir); ok && err == nil {
		return home
	}
	exe, _ := os.Executable()
	prefix := strings.NewReplacer(".", "_", "-", "_").Replace(strings.ToUpper(filepath.Base(exe)))
	return cmp.Or(os.Getenv(prefix+"_HOME"), defaultHome())
}

// running is a started node.
type running struct {
	home   string
	script Script
	height int64 // committed
	own    int   // how many upgrades this binary has behind it
	db     *databases
	told   atomic.Int64 // height, for the RPC
}

func start(args []string) int {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	n := &running{home: homeOf(args)}
	if err := n.open(args); err != nil {
		return n.fail(err)
	}
	logLine(n.home, "start at %d", n.height)
	fmt.Println(ownVersion(), "started at height", n.height)
	n.flood(n.script.Floods)
	return n.run(signals)
}

// upgradeAt is the chain's plan that this binary carries out with the block of a height, or nil.
func (n *running) upgradeAt(height int64) *Plan {
	for i, p := range n.script.Plans {
		if p.Height == height && i < n.own && !p.Manual && p.Until == 0 {
			return &n.script.Plans[i]
		}
	}
	return nil
}

// fail tells an error, and returns the code to end with.
func (n *running) fail(err error) int {
	fmt.Fprintln(os.Stderr, "noded:", err)
	logLine(n.home, "%v", err)
	var code exitError
	if errors.As(err, &code) {
		return code.code
	}
	return 1
}

type exitError struct {
	code int
	text string
}

func (e exitError) Error() string { return e.text }

// open reads the home and checks that this binary is the one for its height.
func (n *running) open(args []string) error {
	line := node.CommandLine{Args: args}
	lock, err := os.OpenFile(filepath.Join(n.home, "data", "LOCK"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return exitError{TwoNodes, "TWO NODES on one home"}
	}
	content, err := os.ReadFile(filepath.Join(n.home, "config", "noded.json"))
	if err == nil {
		err = json.Unmarshal(content, &n.script)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if skip, ok := line.Flag("unsafe-skip-upgrades"); ok {
		n.script.Plans = slices.DeleteFunc(n.script.Plans, func(p Plan) bool { return strconv.FormatInt(p.Height, 10) == skip })
	}
	if n.script.BlockTime == 0 {
		n.script.BlockTime = 10 * time.Millisecond
	}
	n.height = n.committed()
	if n.script.Database {
		if n.db, err = openDatabases(n.home); err != nil {
			return err
		}
		n.height = n.db.height
	}
	n.told.Store(n.height)
	if err := n.checkBinary(); err != nil {
		return err
	}
	if code, ok := n.script.Fail[ownVersion()]; ok {
		n.script.lastWords()
		return exitError{code, fmt.Sprintf("fail with %d", code)}
	}
	settings := node.ReadSettings(solstice.Home{Node: n.home, Name: "noded"}, args, os.Getenv)
	if settings.RPC != "" && settings.Origin("rpc.laddr").Where != "default" {
		go http.ListenAndServe(strings.TrimPrefix(settings.RPC, "tcp://"), http.HandlerFunc(n.rpc))
	}
	return nil
}

// checkBinary refuses to run at a height that another binary was made for.
func (n *running) checkBinary() error {
	n.own = 1 + slices.IndexFunc(n.script.Plans, func(p Plan) bool { return strings.EqualFold(url.PathEscape(p.Name), ownVersion()) })
	for i, p := range n.script.Plans {
		switch {
		case n.own > i && n.height < p.Height-1:
			return exitError{WrongBinary, fmt.Sprintf("WRONG BINARY: too early at %d for %s at %d", n.height, p.Name, p.Height)}
		case n.own <= i && n.height >= p.Height && !p.Manual && !p.Itself && p.Until == 0:
			return exitError{WrongBinary, fmt.Sprintf("WRONG BINARY: too old at %d for %s at %d", n.height, p.Name, p.Height)}
		}
	}
	if n.own > 0 && n.height == n.script.Plans[n.own-1].Height-1 {
		// Its first start: the stores to add are read from the plan file.
		plan, err := solstice.ReadPlan(filepath.Join(n.home, "data", "upgrade-info.json"))
		if want := n.script.Plans[n.own-1]; err != nil || !plan.Is(solstice.Plan{Name: want.Name, Height: want.Height}) {
			return exitError{WrongBinary, fmt.Sprintf("WRONG PLAN FILE for %s: %v", want.Name, err)}
		}
		logLine(n.home, "upgrade at %d", n.height+1)
		// What a migration changes before it is through with it.
		return os.WriteFile(filepath.Join(n.home, "data", "migrated"), []byte(ownVersion()+"\n"), 0o644)
	}
	return nil
}

// committed is the height on disk.
func (n *running) committed() int64 {
	content, _ := os.ReadFile(filepath.Join(n.home, "data", "height"))
	height, _ := strconv.ParseInt(strings.TrimSpace(string(content)), 10, 64)
	return height
}

// signState is CometBFT's file for what was signed, in data/.
const signState = "priv_validator_state.json"

// sign signs the next block, if the node has a validator's key and its sign state lets it. It keeps a list of its own,
// outside data/, of what it has signed: a height that stands there already is a crime.
func (n *running) sign() error {
	if _, err := os.Stat(filepath.Join(n.home, "config", "priv_validator_key.json")); err != nil {
		return nil
	}
	path := filepath.Join(n.home, "data", signState)
	content, err := os.ReadFile(path)
	if err != nil {
		return exitError{1, err.Error()}
	}
	var state struct {
		Height int64 `json:"height,string"`
	}
	if err := json.Unmarshal(content, &state); err != nil {
		return exitError{1, err.Error()}
	}
	if state.Height > n.height {
		return nil // signed before; the others make the block
	}
	line := fmt.Sprintf("%d\n", n.height+1)
	list := filepath.Join(n.home, "signed")
	if signed, _ := os.ReadFile(list); strings.Contains("\n"+string(signed), "\n"+line) {
		return exitError{SignedTwice, "SIGNED TWICE: height " + line}
	}
	// CometBFT writes and syncs its state before the signature leaves it.
	state.Height = n.height + 1
	content = fmt.Appendf(nil, `{"height":"%d","round":0,"step":3}`, state.Height)
	if err := durable.WriteFile(path, content, 0o600); err != nil {
		return err
	}
	f, err := os.OpenFile(list, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Sync(), f.Close())
}

// run makes blocks until it is stopped or halts.
func (n *running) run(signals <-chan os.Signal) int {
	blocks := time.NewTicker(n.script.BlockTime)
	defer blocks.Stop()
	ticks := blocks.C
	for {
		select {
		case sig := <-signals:
			logLine(n.home, "signal %d", sig.(syscall.Signal))
			if n.script.IgnoreTerm || sig == syscall.SIGUSR1 || sig == syscall.SIGUSR2 {
				continue
			}
			time.Sleep(n.script.StopTime)
			n.flood(n.script.StopFloods)
			logLine(n.home, "stopped at %d", n.height)
			return 0
		case <-ticks:
			if err := n.sign(); err != nil {
				return n.fail(err)
			}
			i := slices.IndexFunc(n.script.Plans, func(p Plan) bool { return p.Height == n.height+1 && !p.Manual && p.Until == 0 })
			if i >= n.own && n.script.Plans[i].Itself {
				n.halt(n.script.Plans[i])
				logLine(n.home, "goes on by itself")
			} else if i >= n.own {
				if code := n.halt(n.script.Plans[i]); code >= 0 {
					return code
				}
				ticks = nil
				continue
			}
			if err := n.commit(); err != nil {
				return n.fail(err)
			}
			if n.script.StopAt > 0 && n.height >= n.script.StopAt {
				n.script.lastWords()
				return n.script.StopCode
			}
		}
	}
}

// lastWords are what a node says that ends by itself. With a panic it ends here.
func (s *Script) lastWords() {
	fmt.Fprint(os.Stderr, s.Says)
	if s.Panics != "" {
		panic(s.Panics)
	}
}

// flood writes many bytes to stderr, a line at a time, and notes when all of it is written.
func (n *running) flood(size int) {
	if size == 0 {
		return
	}
	rest := Flood(size)
	for line := range strings.Lines(rest) {
		if _, err := os.Stderr.WriteString(line); err != nil {
			logLine(n.home, "flood: %v", err)
			return
		}
	}
	logLine(n.home, "flooded %d", size)
}

// Flood is what a node writes that floods: numbered lines, with a line end only where size is a multiple of their length.
func Flood(size int) string {
	var text strings.Builder
	for i := 0; text.Len() < size; i++ {
		fmt.Fprintf(&text, "%063d\n", i)
	}
	return text.String()[:size]
}

// halt does what x/upgrade does: one plain write of the plan file, then no more blocks.
func (n *running) halt(p Plan) int {
	plan := solstice.Plan{Name: p.Name, Height: p.Height, Info: p.Info}
	logLine(n.home, "halt for %s", p.Name)
	if n.db != nil {
		if err := n.db.store(n.height + 1); err != nil {
			return n.fail(err)
		}
	}
	fmt.Printf("UPGRADE %q NEEDED at height: %d\n", p.Name, p.Height)
	if err := os.WriteFile(filepath.Join(n.home, "data", "upgrade-info.json"), plan.File(), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, "noded:", err)
	}
	return n.script.HaltExit
}

func (n *running) commit() error {
	if n.db != nil {
		if err := errors.Join(n.db.store(n.height+1), n.db.commit(n.height+1, n.upgradeAt(n.height+1))); err != nil {
			return err
		}
	}
	path := filepath.Join(n.home, "data", "height")
	if err := os.WriteFile(path+".new", []byte(strconv.FormatInt(n.height+1, 10)), 0o644); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	n.height++
	n.told.Store(n.height)
	return nil
}
