// Package simulate takes a network of a chain's own binaries, made from nothing on this machine, through its upgrades.
//
// It lays the network out (layout.go), starts every node under solstice run, carries each plan through the chain's governance
// (governance.go), does what was asked for to spoil it (faults in upgrade.go), looks at all nodes all the time (watch.go), and tells
// in the end what happened (result.go). What is the same for every node is done for all at once.
package simulate

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"solstice"
	"solstice/internal/durable"
	"solstice/localnet"
)

// Upgrade is a plan that the network is to go through.
type Upgrade struct {
	Name   string // of the plan, as the new binary's handler is called
	Binary string
}

// Config says what is simulated.
type Config struct {
	Binary        string // the first version
	Upgrades      []Upgrade
	Validators    int
	Sentries      int           // before each validator, which then talks to them alone
	BlocksBetween int64         // from one plan's height to the next, at least
	BlockTime     time.Duration // the pause after each block
	VotingPeriod  time.Duration // 0: as long as this machine needs
	Patience      time.Duration // how long one upgrade may take
	Dir           string        // an empty folder, or one that is made

	Denom   string            // that is staked; empty: the one in the genesis that the binary writes
	Stake   string            // of each validator, in Denom; it owns a thousand times as much
	Genesis map[string]string // dotted paths and JSON values, beyond what we set
	Start   []string          // arguments of the chain's start command
	Tx      []string          // arguments of its tx commands, such as --fees
	Environ []string          // of the nodes

	Late    []string // nodes whose binaries come late
	Missing []string // nodes whose binaries never come
	Kill    []string // nodes that are killed in the middle of each upgrade, and started again
}

// Screen shows a simulation while it goes on. It is called from many goroutines.
type Screen interface {
	// Say tells of something that has happened.
	Say(format string, values ...any)
	// Show shows what all nodes are doing.
	Show(views []View)
}

// member is one node of the network.
type member struct {
	localnet.Node
	Validator bool   `json:"validator"`
	Guards    string `json:"guards,omitempty"` // the validator that a sentry stands before
	Address   string `json:"address,omitempty"`
	ID        string `json:"id"` // in the peer-to-peer network

	rpc, p2p string // host:port where it listens

	watched watched
}

// Simulation is a network and what happens to it.
type Simulation struct {
	config  Config
	chains  []*localnet.Chain // of Config.Binary and of each upgrade
	members []*member
	screen  Screen
	voting  time.Duration
	chainID string
	result  Result
	reach   func(from, to *member) string // host:port where a peer is dialled

	attached bool // the nodes run somewhere else, under their own solstice
}

// Run lays the network out in Config.Dir and takes it through its upgrades. All of its processes have ended when it returns. The
// result is nil if the network never ran; then the error says why. What the network itself got wrong is in the result.
func Run(ctx context.Context, config Config, screen Screen) (*Result, error) {
	s, err := prepare(ctx, config, screen)
	if err != nil {
		return nil, err
	}
	lock, err := claim(config.Dir)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	began := time.Now()
	screen.Say("laying out %s of %s in %s", s.describe(), s.chains[0].Name, config.Dir)
	err = s.layOut(ctx, (*Simulation).here, (*Simulation).placeGenesis)
	if err == nil {
		err = s.writeScript()
	}
	if err != nil {
		return nil, errors.Join(err, clearFolder(config.Dir))
	}
	screen.Say("laid out in %s", took(time.Since(began)))
	return s.run(ctx)
}

// claim takes a folder, which must be empty or not there.
func claim(dir string) (lock *os.File, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if lock, err = durable.Lock(dir); err != nil {
		return nil, &solstice.RefusedError{Reason: fmt.Sprintf("lock %s: %v", dir, err), Hint: "name another folder"}
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = &solstice.RefusedError{Reason: dir + " is not empty", Hint: "name an empty folder, or one that is not there yet"}
	}
	if err != nil {
		lock.Close()
	}
	return lock, err
}

// clearFolder empties a folder that was claimed: a network that is not whole is of no use, and the next one wants an empty folder.
func clearFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// prepare looks at what is wanted, and at the binaries. Nothing is changed.
func prepare(ctx context.Context, config Config, screen Screen) (*Simulation, error) {
	s := &Simulation{config: config, screen: screen, voting: config.VotingPeriod, chainID: "simulation-1"}
	refuse := func(format string, values ...any) error {
		return &solstice.RefusedError{Reason: fmt.Sprintf(format, values...), Hint: "see how it is called: solstice simulate --help"}
	}
	switch {
	case config.Validators < 1:
		return nil, refuse("a network needs a validator, not %d", config.Validators)
	case config.Sentries < 0:
		return nil, refuse("%d sentries are not possible", config.Sentries)
	case config.BlockTime <= 0 || config.Patience <= 0 || config.BlocksBetween < 0:
		return nil, refuse("the block time and the patience are above 0, the blocks between upgrades not below")
	}
	if stake, ok := new(big.Int).SetString(config.Stake, 10); !ok || stake.Sign() <= 0 {
		return nil, refuse("--stake is a number above 0, not %q", config.Stake)
	}
	names := map[string]bool{}
	for _, u := range config.Upgrades {
		if err := (solstice.Plan{Name: u.Name, Height: 1}).Validate(); err != nil {
			return nil, refuse("%v", err)
		}
		if names[strings.ToLower(u.Name)] {
			return nil, refuse("upgrade %q is named twice", u.Name)
		}
		names[strings.ToLower(u.Name)] = true
	}
	s.enlist()
	for fault, list := range map[string][]string{"late": config.Late, "missing": config.Missing, "kill": config.Kill} {
		for _, name := range list {
			if s.member(name) == nil {
				return nil, refuse("--%s %s: there is no such node; there are %s", fault, name, strings.Join(s.names(), ", "))
			}
		}
	}
	for _, path := range append([]string{config.Binary}, binaries(config.Upgrades)...) {
		chain, err := localnet.Open(ctx, path)
		if err != nil {
			return nil, err
		}
		s.chains = append(s.chains, chain)
		if first := s.chains[0]; chain.Name != first.Name {
			return nil, refuse("%s calls itself %s, and %s calls itself %s: they are not of one chain", first.Path, first.Name, chain.Path, chain.Name)
		}
	}
	for _, m := range s.members {
		m.Chain, m.Args, m.Environ = s.chains[0].Name, config.Start, config.Environ
	}
	return s, s.learn(ctx)
}

func binaries(upgrades []Upgrade) (paths []string) {
	for _, u := range upgrades {
		paths = append(paths, u.Binary)
	}
	return paths
}

// enlist names the members: the validators, each followed by its sentries.
func (s *Simulation) enlist() {
	for i := range s.config.Validators {
		name := fmt.Sprintf("validator%d", i)
		s.members = append(s.members, &member{Node: localnet.Node{Name: name}, Validator: true})
		for j := range s.config.Sentries {
			s.members = append(s.members, &member{Node: localnet.Node{Name: fmt.Sprintf("sentry%d-%d", i, j)}, Guards: name})
		}
	}
	for _, m := range s.members {
		m.Home = filepath.Join(s.config.Dir, m.Name)
	}
}

// member is a node by its name, or a validator by its number.
func (s *Simulation) member(name string) *member {
	i := slices.IndexFunc(s.members, func(m *member) bool { return m.Name == name || m.Name == "validator"+name })
	if i < 0 {
		return nil
	}
	return s.members[i]
}

func (s *Simulation) names() (names []string) {
	for _, m := range s.members {
		names = append(names, m.Name)
	}
	return names
}

// isIn says whether a member is named in a list of Config.
func (s *Simulation) isIn(list []string, m *member) bool {
	return slices.ContainsFunc(list, func(name string) bool { return s.member(name) == m })
}

func (s *Simulation) validators() []*member {
	return slices.DeleteFunc(slices.Clone(s.members), func(m *member) bool { return !m.Validator })
}

func (s *Simulation) describe() string {
	text := plural(s.config.Validators, "validator")
	if n := len(s.members) - s.config.Validators; n > 0 {
		text += " and " + plural(n, "sentry node")
	}
	return text
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// run starts the nodes, takes them through the upgrades and ends them.
func (s *Simulation) run(ctx context.Context) (*Result, error) {
	s.begin()
	watching, stopWatching := context.WithCancel(ctx)
	done := s.watch(watching)
	err := s.story(ctx)
	stopWatching()
	<-done
	s.conclude(context.WithoutCancel(ctx), err)
	s.warnings() // before the nodes are ended, which makes them warn, too
	stopErr := s.stop()
	if ctx.Err() != nil {
		return &s.result, context.Cause(ctx)
	}
	return &s.result, stopErr
}

// story is what happens to the network.
func (s *Simulation) story(ctx context.Context) error {
	began := time.Now()
	if !s.attached {
		for _, m := range s.members {
			if err := s.start(m); err != nil {
				return err
			}
		}
	}
	if err := s.firstBlocks(ctx); err != nil {
		return err
	}
	s.screen.Say("the network makes blocks, seen after %s", took(time.Since(began)))
	for i := range s.config.Upgrades {
		if err := s.upgrade(ctx, i); err != nil {
			return err
		}
	}
	return s.encore(ctx)
}

// Log is the path of a node's log and of its solstice's.
func (s *Simulation) log(m *member) string { return filepath.Join(s.config.Dir, m.Name+".log") }

// start starts a node under solstice.
func (s *Simulation) start(m *member) error {
	process, err := m.Start(s.log(m))
	if err == nil {
		m.watched.began(process)
	}
	return err
}

// stopGrace is how long a node may take to end.
const stopGrace = 20 * time.Second

// stop ends all nodes.
func (s *Simulation) stop() error {
	return s.each(s.members, func(m *member) error {
		if process := m.watched.current(); process != nil {
			return process.Stop(stopGrace)
		}
		return nil
	})
}

// firstBlocks waits until every node has committed two blocks.
func (s *Simulation) firstBlocks(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.config.Patience, errors.New("the network has made no block after "+took(s.config.Patience)))
	defer cancel()
	return localnet.Poll(ctx, func() (bool, error) {
		all := true
		for _, m := range s.members {
			view := m.watched.view()
			if view.Ended {
				return false, fmt.Errorf("%s ended before its first block: %s", m.Name, s.lastWords(m))
			}
			all = all && (view.Height >= 2 || m.RPC == "")
		}
		return all, nil
	})
}

// encore sees some blocks after the last upgrade.
func (s *Simulation) encore(ctx context.Context) error {
	const blocks = 3
	if len(s.config.Upgrades) == 0 {
		return nil
	}
	height := s.result.height() + min(blocks, max(s.config.BlocksBetween, 1))
	ctx, cancel := context.WithTimeoutCause(ctx, s.config.Patience, fmt.Errorf("the network has not come to height %d after %s", height, took(s.config.Patience)))
	defer cancel()
	return localnet.Poll(ctx, func() (bool, error) {
		return !slices.ContainsFunc(s.members, func(m *member) bool { return m.RPC != "" && m.watched.view().Height < height }), nil
	})
}

// each does something for some members at once.
func (s *Simulation) each(members []*member, do func(*member) error) error {
	errs := make([]error, len(members))
	done := make(chan int)
	for i, m := range members {
		go func() {
			if err := do(m); err != nil {
				errs[i] = fmt.Errorf("%s: %w", m.Name, err)
			}
			done <- i
		}()
	}
	for range members {
		<-done
	}
	return errors.Join(errs...)
}
