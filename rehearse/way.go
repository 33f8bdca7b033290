package rehearse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"solstice"
	"solstice/artifact"
	"solstice/internal/child"
	"solstice/localnet"
	"solstice/node"
	"solstice/snapshot"
	"solstice/upgrade"
)

// testnetCommand is the chain's own command that makes a network of one validator out of a node's state, and triggerFlag has it
// schedule a plan (cosmos-sdk server/start.go, v0.50 and later).
const (
	testnetCommand = "in-place-testnet"
	triggerFlag    = "trigger-testnet-upgrade"
)

// prepare finds the way to the plan's height, and the state that the runs begin with.
func (r *rehearsal) prepare(ctx context.Context) error {
	r.chainID = chainID(r.Source.Home)
	release := func() {}
	if r.Source.Hold != nil {
		var err error
		if release, err = r.Source.Hold(); err != nil {
			return err
		}
	}
	r.base = filepath.Join(r.folder.path, "source")
	start := time.Now()
	copied, err := r.borrow(ctx, r.Source.Home, r.base, private(r.Source.Node, r.Source.Settings))
	release()
	if err != nil {
		return err
	}
	if r.Source.Forget != nil {
		r.Source.Forget()
	}
	r.result.Copied = solstice.Borrowed{
		Files: copied.Files, Bytes: copied.Bytes, Linked: copied.Linked, Cloned: copied.Cloned, Copied: copied.Copied, New: copied.NewBytes,
		Seconds: time.Since(start).Seconds(),
	}
	r.Log.Info("state copied", "from", r.Source.Label, "files", copied.Files, "bytes", copied.Bytes, "of them copied", copied.NewBytes, "elapsed", time.Since(start).Round(time.Millisecond))
	if err := r.diskLeft(); err != nil {
		return err
	}
	if r.keys, err = newKeys(); err != nil {
		return err
	}
	switch {
	case !r.old.Has(ctx, testnetCommand) && !r.new.Has(ctx, testnetCommand):
		plan, err := solstice.ReadPlan(filepath.Join(r.base, "data", "upgrade-info.json"))
		if err != nil {
			return err
		}
		r.result.Way, r.result.Height = wayReplay, plan.Height
		return nil
	case r.old.Has(ctx, testnetCommand):
		return r.halt(ctx)
	}
	return r.begin(ctx, errors.New("the old binary has no "+testnetCommand))
}

// halted says whether the source is halted for the plan: its file is there.
func (r *rehearsal) halted() bool {
	plan, err := solstice.ReadPlan(filepath.Join(r.Source.Home, "data", "upgrade-info.json"))
	return err == nil && plan.Name == r.Plan
}

// borrow copies a state into a new folder.
func (r *rehearsal) borrow(ctx context.Context, from, to string, leave func(string) bool) (snapshot.Manifest, error) {
	if err := os.Mkdir(to, 0o700); err != nil {
		return snapshot.Manifest{}, err
	}
	m, err := snapshot.Borrow(ctx, from, to, leave, nil)
	r.cloned = r.cloned || m.Cloned > 0
	return m, err
}

// node makes the home of another node out of the base.
func (r *rehearsal) node(ctx context.Context) (*localnet.Node, error) {
	r.ran++
	n := &localnet.Node{Name: fmt.Sprintf("node%d", r.ran), Home: filepath.Join(r.folder.path, fmt.Sprintf("node%d", r.ran)), Chain: r.Home.Name}
	network := r.based || r.result.Way == wayReplay // then its log of the consensus is its own, and has the last block
	leave := func(rel string) bool {
		return !network && (rel == "data/cs.wal" || strings.HasPrefix(rel, "data/cs.wal/"))
	}
	if _, err := r.borrow(ctx, r.base, n.Home, leave); err != nil {
		return nil, err
	}
	return n, isolate(n, r.keys)
}

// log is where a node of ours writes.
func (r *rehearsal) log(n *localnet.Node) string { return filepath.Join(r.folder.path, n.Name+".log") }

// haltLimit is how long the old binary may take to begin a network out of the state.
const haltLimit = 30 * time.Minute

// halt lets the old binary make a network of the copy, with the plan, until it halts for it. Where the chain plans it for the first
// block already, nothing of that is committed when it halts: then the new binary has to begin the network.
func (r *rehearsal) halt(ctx context.Context) error {
	operators, err := r.operators(ctx)
	if err != nil {
		return r.begin(ctx, err)
	}
	var failed error
	for _, operator := range operators {
		r.operator = operator
		n, err := r.node(ctx)
		if err != nil {
			return err
		}
		plan, committed, err := r.haltOld(ctx, n)
		var full diskError
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &full):
			return err
		case err != nil:
			failed = errors.Join(failed, fmt.Errorf("as operator %s: %w", operator, err))
			if err := removeAll(n.Home); err != nil {
				return err
			}
			continue
		}
		r.result.Height = plan.Height
		if committed {
			r.result.Way, r.based = wayHalted, true
			if err := removeAll(r.base); err != nil {
				return err
			}
			r.base = n.Home
			r.Log.Info("the old binary has made a network of it, and is halted for the plan", "plan", r.Plan, "height", plan.Height)
			return nil
		}
		r.result.Way = wayInPlace
		r.Log.Info("the chain plans the upgrade for the first block of its "+testnetCommand+": the new binary begins there", "plan", r.Plan, "height", plan.Height)
		return removeAll(n.Home)
	}
	return r.begin(ctx, failed)
}

// begin lets the new binary make the network, where the old one could not. The height has to be read from the databases then.
func (r *rehearsal) begin(ctx context.Context, why error) error {
	if !r.new.Has(ctx, testnetCommand) {
		return notPossible(r.old.Path, why)
	}
	home := solstice.Home{Dir: r.base, Node: r.base, Name: r.Home.Name}
	committed := node.ReadHeights(home, node.ReadSettings(home, nil, func(string) string { return "" })).Committed
	if committed.Err != nil {
		return notPossible(r.old.Path, errors.Join(why, fmt.Errorf("the height can't be read: %w", committed.Err)))
	}
	if r.operator == "" {
		operators, err := r.operators(ctx)
		if err != nil {
			return notPossible(r.new.Path, errors.Join(why, err))
		}
		r.operator = operators[0]
	}
	r.result.Way, r.result.Height = wayInPlace, committed.Height+1
	r.result.Notes = append(r.result.Notes, fmt.Sprintf("the old binary made no network of the state, the new one does: %v", why))
	return nil
}

func notPossible(binary string, why error) error {
	return &solstice.RefusedError{
		Reason: fmt.Sprintf("not possible for this binary, because its %s fails: %v", testnetCommand, why),
		Hint:   "try it by hand on a copy: " + binary + " " + testnetCommand + " --help\nwith --keep the folder is left, and the logs in it",
	}
}

// operators are the addresses of a throw-away account: chains differ in which kind they want for the new validator, that of the
// account or that of the operator.
func (r *rehearsal) operators(ctx context.Context) ([]string, error) {
	ring := filepath.Join(r.folder.path, "keyring")
	if err := os.MkdirAll(ring, 0o700); err != nil {
		return nil, err
	}
	chain := r.old
	out, err := chain.Run(ctx, ring, "keys", "add", "rehearsal", "--keyring-backend", "test", "--output", "json")
	if err != nil {
		return nil, err
	}
	var key struct {
		Address string `json:"address"`
	}
	if err := json.Unmarshal(out, &key); err != nil || key.Address == "" {
		return nil, fmt.Errorf("keys add answers %.100q", out)
	}
	addresses := []string{key.Address}
	out, err = chain.Run(ctx, ring, "keys", "show", "rehearsal", "--bech", "val", "--address", "--keyring-backend", "test")
	if operator := strings.TrimSpace(string(out)); err == nil && operator != "" {
		addresses = append(addresses, operator)
	}
	return addresses, nil
}

// testnetArgs are the arguments that make a network out of the node's state.
func (r *rehearsal) testnetArgs(n *localnet.Node) []string {
	return []string{testnetCommand, r.chainID, r.operator, "--" + triggerFlag, r.Plan, "--skip-confirmation", "--home", n.Home}
}

// haltOld runs the old binary until it has written the plan's file. committed says that blocks of the network came before.
func (r *rehearsal) haltOld(ctx context.Context, n *localnet.Node) (plan solstice.Plan, committed bool, err error) {
	file := n.Paths().PlanFile()
	if err := os.RemoveAll(file); err != nil {
		return plan, false, err
	}
	log, err := os.OpenFile(r.log(n), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return plan, false, err
	}
	defer log.Close()
	cmd := r.old.Command(context.Background(), r.testnetArgs(n)...)
	cmd.Stdout, cmd.Stderr, cmd.Cancel, cmd.WaitDelay = log, log, nil, 0
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	started, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		return plan, false, err
	}
	p := &localnet.Process{Process: started, Home: n.Home}
	ctx, cancel := context.WithTimeoutCause(ctx, haltLimit, fmt.Errorf("it has not halted after %v", haltLimit))
	defer cancel()
	said := &words{path: r.log(n)}
	err = localnet.Poll(ctx, func() (bool, error) {
		said.read()
		found, err := solstice.ReadPlan(file)
		if err == nil && found.Name == r.Plan {
			plan = found
			return true, nil
		}
		if !p.Running() || said.panicked != "" {
			return false, errors.New("it ended: " + why(said))
		}
		return false, r.diskLeft()
	})
	if err == nil {
		committed = r.ownBlock(ctx, n, p, plan.Height-1)
	}
	if !committed {
		return plan, false, errors.Join(err, p.KillAll())
	}
	return plan, true, p.Stop(stopGrace) // it goes on from there
}

// ownBlock says whether the block at a height is of the rehearsal's network: the halted node is asked.
func (r *rehearsal) ownBlock(ctx context.Context, n *localnet.Node, p *localnet.Process, height int64) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	own := false
	_ = localnet.Poll(ctx, func() (bool, error) {
		headers, err := n.Headers(ctx, height, height)
		if err == nil && len(headers) == 1 {
			own = headers[0].ChainID == r.chainID
			return true, nil
		}
		if !p.Running() {
			return false, errors.New("it has ended") // then the new binary begins the network
		}
		return false, nil
	})
	return own
}

// stopGrace is how long a node whose state is needed may take to end.
const stopGrace = time.Minute

// place puts the binaries of a run in place, as they are in the original: with the old one in use.
func (r *rehearsal) place(n *localnet.Node) error {
	paths := n.Paths()
	dir := r.Source.Dir
	if dir == "" {
		dir = solstice.Genesis
	}
	name := solstice.Genesis
	if dir != solstice.Genesis {
		name = filepath.Base(dir)
	}
	if err := n.Place(name, r.old.Path); err != nil {
		return err
	}
	applied := filepath.Join(r.Home.AppliedFile(dir))
	if content, err := solstice.ReadFile(applied, solstice.MaxFile); err == nil {
		if err := os.WriteFile(paths.AppliedFile(dir), content, 0o644); err != nil {
			return err
		}
	}
	if err := n.Place(r.Plan, r.new.Path); err != nil {
		return err
	}
	for path, dir := range map[string]string{r.old.Path: dir, r.new.Path: paths.UpgradeDir(r.Plan)} {
		from := artifact.Libraries(path)
		if strings.HasPrefix(path, r.Home.Root()+"/") && exists(from) { // elsewhere, lib beside bin may be that of the system
			if err := os.CopyFS(artifact.Libraries(paths.Binary(dir)), os.DirFS(from)); err != nil {
				return err
			}
		}
	}
	if err := os.Symlink(dir, paths.CurrentLink()); err != nil {
		return err
	}
	// The plan as the chain would have written it, unless it has, and the height as the old binary told it: so the plan is due.
	if r.result.Way == wayInPlace {
		plan := solstice.Plan{Name: r.Plan, Height: r.result.Height}
		if err := os.WriteFile(paths.PlanFile(), plan.File(), 0o600); err != nil {
			return err
		}
	}
	// The halt is now: how long the node stands still is counted from when the file was written.
	now := time.Now()
	if err := errors.Join(os.Chtimes(paths.PlanFile(), now, now), os.MkdirAll(paths.StateDir, 0o700)); err != nil {
		return err
	}
	return upgrade.WriteHeight(paths, upgrade.HeightRecord{Committed: r.result.Height - 1, At: now, Exact: true})
}

var lastWords = regexp.MustCompile(`(?i)panic|error|ERR|fail`)

// why is the line in which a node has most likely said why it ended.
func why(w *words) string {
	if w.panicked != "" {
		return reasonIn(w.panicked)
	}
	if n := len(w.lines); n > 0 {
		return w.lines[n-1]
	}
	for i := len(w.last) - 1; i >= 0; i-- {
		if lastWords.MatchString(w.last[i]) {
			return w.last[i]
		}
	}
	if n := len(w.last); n > 0 {
		return w.last[n-1]
	}
	return "it said nothing"
}
