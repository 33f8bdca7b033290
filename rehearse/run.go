package rehearse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"solstice"
	"solstice/internal/child"
	"solstice/localnet"
	"solstice/node"
	"solstice/report"
	"solstice/snapshot"
)

// lookEvery is how often a node is looked at, and diskEvery how often its folder is, at most.
const (
	lookEvery = 100 * time.Millisecond
	diskEvery = time.Second
)

// pass is one run that is under way.
type pass struct {
	r       *rehearsal
	n       *localnet.Node
	process *localnet.Process
	meter   *meter
	said    *words
	run     solstice.RehearsalRun
	began   time.Time // when the new binary was started; zero: not yet
	ownAt   int64     // bytes of the node's own on the disk, at the start
	disk    time.Time // when that is looked at again
	stuck   time.Time // since when the node has said that it gave up
	idle    idle
}

// idle tells a node that hangs from one that works: it uses less than a twentieth of a processor, and hardly the disk.
type idle struct {
	since  time.Time
	height int64
	used   solstice.Usage
}

const (
	idleLimit = 10 * time.Minute
	idleBytes = 16 << 20
)

// over says whether the node has done nothing for so long that it never will.
func (i *idle) over(now time.Time, height int64, u solstice.Usage) bool {
	busy := time.Duration(u.CPU-i.used.CPU) > idleLimit/20 || u.Read+u.Written-i.used.Read-i.used.Written > idleBytes
	if i.since.IsZero() || height > i.height || busy {
		*i = idle{now, height, u}
	}
	return now.Sub(i.since) > idleLimit
}

// run carries the upgrade out once. The error is for what keeps it from being tried at all, and for the end of ctx; what the new binary does is in the
// run.
func (r *rehearsal) run(ctx context.Context, i int) (solstice.RehearsalRun, error) {
	p := &pass{r: r, run: solstice.RehearsalRun{Began: time.Now()}}
	n, err := r.node(ctx)
	if err == nil {
		err = r.place(n)
	}
	if err == nil && r.state != nil {
		err = os.WriteFile(filepath.Join(n.Home, stateFile), r.state, 0o600)
	}
	if err != nil {
		return p.run, err
	}
	p.n, p.said = n, &words{path: r.log(n)}
	data := filepath.Join(n.Home, "data")
	if p.run.Before, err = snapshot.Size(data); err != nil {
		return p.run, err
	}
	if p.ownAt, err = snapshot.Own(data, r.cloned); err != nil {
		return p.run, err
	}
	r.Log.Info("run begins", "run", i+1, "of", r.Repeat, "plan", r.Plan, "height", r.result.Height)
	if err := p.start(ctx); err != nil {
		return p.run, err
	}
	p.meter = newMeter(p.process.PID)
	outcome, reason, err := p.watch(ctx)
	if err == nil && outcome == solstice.RehearsalPassed {
		err = p.compare(ctx, i)
	}
	p.note(ctx, outcome == solstice.RehearsalPassed)
	p.run.Errors, p.run.ErrorLines = p.said.errors, p.said.lines // what it says at its end is not looked at
	stopErr := p.process.KillAll()                               // what it has is thrown away
	stores, _ := node.ReadStores(n.Paths(), r.result.Height)     // only to say more where runs differ; not every database can be read
	r.stores = append(r.stores, stores)
	if p.run.After == 0 {
		p.run.After, _ = snapshot.Size(data) // it was never come so far
	}
	p.run.Outcome, p.run.Reason = outcome, reason
	p.run.Whole = p.meter.usage()
	p.run.Took = solstice.Seconds(time.Since(p.run.Began))
	if outcome != solstice.RehearsalPassed {
		r.result.Said = p.said.last
	}
	r.Log.Info("run ended", "run", i+1, "outcome", outcome, "first block", time.Duration(p.run.FirstBlock).Round(time.Millisecond), "memory", p.run.Whole.Memory, "elapsed", time.Duration(p.run.Took).Round(time.Millisecond))
	if !r.Keep {
		stopErr = errors.Join(stopErr, removeAll(n.Home))
	}
	return p.run, errors.Join(err, stopErr)
}

// start starts a real solstice run.
func (p *pass) start(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"start", "--home", p.n.Home}
	if p.r.result.Way == wayInPlace {
		args = p.r.testnetArgs(p.n)
		p.n.Environ = append(p.n.Environ, "SOLSTICE_SUPERVISE="+testnetCommand)
	}
	if h, err := p.r.new.Help(ctx, args[0]); err == nil && h.Has("log_no_color") {
		args = append(args, "--log_no_color")
	}
	log, err := os.OpenFile(p.r.log(p.n), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(self, append([]string{"run"}, args...)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(p.n.Environment(), "SOLSTICE_HALT_WAIT=0s"), log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	started, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		return fmt.Errorf("start solstice run: %w", err)
	}
	p.process = &localnet.Process{Process: started, Home: p.n.Home}
	if err := p.r.limiter.add(started.PID); err != nil {
		return errors.Join(fmt.Errorf("put the node under its limit: %w", err), p.process.KillAll())
	}
	return nil
}

// watch waits until the blocks are made, or until something keeps them from being made.
func (p *pass) watch(ctx context.Context) (outcome solstice.RehearsalOutcome, reason string, err error) {
	height := p.r.result.Height
	last := height + p.r.Blocks
	if p.r.result.Way == wayReplay {
		last = height
	}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	states, stop := p.ask(ctx)
	defer stop()
	var reached int64
	for {
		select {
		case <-ctx.Done():
			return solstice.RehearsalInterrupted, "", context.Cause(ctx)
		case <-p.process.Done():
			p.said.read()
			p.look()
			return p.ended()
		case state := <-states:
			reached = state.Height
			if state.Height >= height && p.run.FirstBlock == 0 {
				p.first(state)
			}
			if state.Height >= last && p.run.FirstBlock != 0 {
				p.run.Blocks = state.Height - height
				if state.Height == height {
					p.run.AppHash = state.AppHash
				}
				return solstice.RehearsalPassed, "", nil
			}
		case <-ticker.C:
			p.said.read()
			resident := p.look()
			if p.r.limiter.exceeded(resident) {
				return p.overMemory(p.process.KillAll())
			}
			if err := p.lookAtDisk(); err != nil {
				return solstice.RehearsalDisk, err.Error(), p.process.KillAll()
			}
			if p.idle.over(time.Now(), reached, p.meter.usage()) {
				return solstice.RehearsalFailed, fmt.Sprintf("the new binary runs, and has made no block and done nothing for %v, %s", idleLimit, p.when()), nil
			}
			if p.said.panicked != "" && p.stuck.IsZero() {
				p.stuck = time.Now()
			}
			// A node whose consensus has failed goes on answering, and makes no block any more.
			if !p.stuck.IsZero() && time.Since(p.stuck) > 2*time.Second {
				return p.panicked()
			}
		}
	}
}

// ask asks the node how far it is, again and again. While it migrates nobody answers.
func (p *pass) ask(ctx context.Context) (<-chan localnet.State, func()) {
	ctx, cancel := context.WithCancel(ctx)
	states := make(chan localnet.State)
	go func() {
		for ctx.Err() == nil {
			state, err := p.n.State(ctx)
			if err == nil {
				select {
				case states <- state:
				case <-ctx.Done():
				}
			}
			select {
			case <-time.After(lookEvery / 4):
			case <-ctx.Done():
			}
		}
	}()
	return states, cancel
}

// look measures what runs.
func (p *pass) look() (resident int64) {
	resident, _ = p.meter.look()
	if !p.began.IsZero() {
		return resident
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	status, err := p.n.Status(ctx)
	if err == nil && status.Node != nil && status.Binary.Dir == p.n.Paths().UpgradeDir(p.r.Plan) {
		p.began = status.Node.Since
	}
	return resident
}

// first notes what the plan's block has cost.
func (p *pass) first(state localnet.State) {
	now := time.Now()
	p.look()
	p.run.FirstBlock = solstice.Seconds(now.Sub(cmp.Or(p.began, p.run.Began)))
	p.run.Migration = p.meter.usage()
	p.grown()
	p.run.After, _ = snapshot.Size(filepath.Join(p.n.Home, "data"))
	if state.Height == p.r.result.Height {
		p.run.AppHash = state.AppHash
	}
}

// grown looks how much the node has of its own on the disk, beyond what it began with.
func (p *pass) grown() {
	if own, err := snapshot.Own(filepath.Join(p.n.Home, "data"), p.r.cloned); err == nil {
		p.run.Grown = max(p.run.Grown, own-p.ownAt)
	}
}

// lookAtDisk is an error if the rehearsal may not go on for want of room.
func (p *pass) lookAtDisk() error {
	if start := time.Now(); start.After(p.disk) && p.run.FirstBlock == 0 {
		p.grown()
		p.disk = time.Now().Add(pause(start))
	}
	return p.r.diskLeft()
}

// pause is how long the disk is not looked at again after a look that began then: looking takes a tenth of the time at most.
func pause(begun time.Time) time.Duration { return max(diskEvery, 10*time.Since(begun)) }

// leastFree is what a rehearsal leaves free on the disk in any case: a node works there.
const leastFree = 256 << 20

// diskError says that a rehearsal has taken all that it may.
type diskError string

func (e diskError) Error() string { return string(e) }

// diskLeft is a diskError if the rehearsal has taken all that it may. It is asked often, and looks now and then.
func (r *rehearsal) diskLeft() error {
	start := time.Now()
	if start.Before(r.lookAgain) {
		return nil
	}
	defer func() { r.lookAgain = time.Now().Add(pause(start)) }()
	free, err := snapshot.FreeSpace(r.folder.path)
	if err != nil {
		return err
	}
	if free < leastFree {
		return diskError(fmt.Sprintf("the disk has %s free, and a rehearsal leaves %s to the node", report.Size(free), report.Size(leastFree)))
	}
	if r.MaxDisk == 0 {
		return nil
	}
	own, err := snapshot.Own(r.folder.path, r.cloned)
	if err == nil && own > r.MaxDisk {
		err = diskError(fmt.Sprintf("the rehearsal has taken %s on the disk, and may take %s", report.Size(own), report.Size(r.MaxDisk)))
	}
	return err
}

// ended says why a node that ended by itself did.
func (p *pass) ended() (solstice.RehearsalOutcome, string, error) {
	if p.r.limiter.killed() > 0 {
		return p.overMemory(nil)
	}
	if p.said.panicked != "" {
		return p.panicked()
	}
	return solstice.RehearsalFailed, fmt.Sprintf("the new binary ended %s, with exit status %d: %s", p.when(), p.process.End().ExitCode(), why(p.said)), nil
}

func (p *pass) overMemory(err error) (solstice.RehearsalOutcome, string, error) {
	return solstice.RehearsalMemory, fmt.Sprintf("the new binary needed more than the %s that it may have, and was killed %s (limit kept by %s)", report.Size(p.r.limiter.bytes), p.when(), p.r.limiter.by), err
}

func (p *pass) panicked() (solstice.RehearsalOutcome, string, error) {
	return solstice.RehearsalPanicked, fmt.Sprintf("the new binary panicked %s: %s", p.when(), reasonIn(p.said.panicked)), nil
}

// when is how far the run had come.
func (p *pass) when() string {
	if p.run.FirstBlock == 0 {
		return "before the plan's block was committed"
	}
	return "after the plan's block was committed"
}

// consensusFailure is CometBFT's word for a panic of the application in a block (consensus/state.go).
var consensusFailure = regexp.MustCompile(`err="?(.*?)"? module=consensus`)

// reasonIn is the reason in the line of a panic.
func reasonIn(line string) string {
	if match := consensusFailure.FindStringSubmatch(line); match != nil {
		return match[1]
	}
	return strings.TrimPrefix(line, "panic: ")
}

// compare notes what runs are compared by: the block at the plan's height, and the state after it.
func (p *pass) compare(ctx context.Context, i int) error {
	height := p.r.result.Height
	own, err := commitAt(ctx, p.n, height)
	if err != nil {
		return fmt.Errorf("ask for block %d: %w", height, err)
	}
	p.run.BlockHash = own.Block.Hash
	if p.run.Blocks > 0 {
		headers, err := p.n.Headers(ctx, height+1, height+1)
		if err != nil || len(headers) == 0 {
			return fmt.Errorf("ask for block %d: %w", height+1, err)
		}
		p.run.AppHash = headers[0].AppHash
	}
	if i > 0 || p.r.result.Way != wayInPlace {
		return nil
	}
	vote, err := commitAt(ctx, p.n, height-1)
	if err != nil {
		return fmt.Errorf("ask for the votes on block %d: %w", height-1, err)
	}
	if p.r.state, err = vote.signState(p.r.chainID); err != nil {
		return err
	}
	return nil
}

// note takes over what solstice says of the upgrade. It hears of the last block a moment after us.
func (p *pass) note(ctx context.Context, passed bool) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = localnet.Poll(ctx, func() (bool, error) {
		status, err := p.n.Status(ctx)
		if err != nil {
			return false, err // it has ended
		}
		confirmed := false
		for _, u := range status.Upgrades {
			if u.Name == p.r.Plan {
				p.run.Standing = u.Standing
				confirmed = !u.Confirmed.IsZero()
			}
		}
		return confirmed || !passed || p.r.result.Way == wayReplay, nil
	})
}
