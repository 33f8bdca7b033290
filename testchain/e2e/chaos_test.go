package e2e

import (
	"context"
	"flag"
	"math/rand/v2"
	"strconv"
	"syscall"
	"testing"
	"time"

	"solstice/testchain/network"
)

var chaosFor = flag.Duration("chaos", 0, "go on killing for at least so long in TestChaos; 0 is the short form")

// TestChaos kills supervisors, nodes, and both at random over three upgrades of three validators, all of which the chain
// needs: two that it decides on and a release that the operators plan. Each is started again at once. The chain goes on, all have
// the same blocks, and nobody has signed anything twice.
func TestChaos(t *testing.T) {
	t.Parallel()
	start := time.Now()
	ctx, nw := layOutFor(t, *chaosFor+5*time.Minute, network.Config{Validators: 3, BlockTime: 250 * time.Millisecond})
	c := &chaos{t: t, ctx: ctx}
	for _, n := range nw.Nodes {
		h := home(t, n)
		h.run("init", built.chain.V1)
		h.run("add-upgrade", "v2", built.chain.V2)
		h.run("add-upgrade", "v3", built.chain.V3)
		h.watchSigned()
		h.start(ctx)
		c.nodes = append(c.nodes, h)
	}
	for _, n := range c.nodes {
		check(t, n.Node.WaitHeight(ctx, 2))
	}

	for i, name := range []string{"v2", "v3"} {
		plan := schedule(t, ctx, nw, []string{built.chain.V1, built.chain.V2}[i], name)
		c.killUntil(start.Add(*chaosFor*time.Duration(i+1)/3), name)
		c.settle(plan)
	}
	height, err := c.nodes[0].Node.AppHeight(ctx)
	check(t, err)
	fix := network.Plan{Name: "fix", Height: height + 20}
	for _, n := range c.nodes {
		n.run("add-upgrade", fix.Name, built.chain.V3, "--upgrade-height", strconv.FormatInt(fix.Height, 10))
	}
	c.killUntil(start.Add(*chaosFor), fix.Name)
	c.settle(fix)

	last := c.nodes[0].signs(ctx)
	checkSame(t, ctx, c.nodes, last)
	for _, n := range c.nodes {
		checkSignedOnce(t, ctx, c.nodes, n, n.signs(ctx))
	}
	for _, n := range c.nodes {
		n.stop()
	}
	t.Logf("%d kills in %v, %d blocks", c.kills, time.Since(start).Round(time.Second), last)
}

// chaos is a network whose processes are killed.
type chaos struct {
	t     *testing.T
	ctx   context.Context
	nodes []*node
	kills int
}

// killUntil kills at random until the time has come, and then some more times as long as not every node runs the binary of a plan.
func (c *chaos) killUntil(end time.Time, name string) {
	c.t.Helper()
	const more = 6
	for late := 0; c.ctx.Err() == nil && (time.Now().Before(end) || late < more && !c.allOn(name)); {
		if time.Now().After(end) {
			late++
		}
		time.Sleep(rand.N(1500 * time.Millisecond))
		n := c.nodes[rand.IntN(len(c.nodes))]
		c.kills++
		switch rand.IntN(3) {
		case 0: // the supervisor alone: the kernel tells the node
			n.process.Kill()
		case 1: // the node alone: solstice ends with it
			if status, err := n.Status(c.ctx); err == nil && status.Node != nil {
				_ = syscall.Kill(status.Node.PID, syscall.SIGKILL)
			}
			_, err := n.process.Stop(30 * time.Second)
			check(c.t, err)
		case 2: // the machine
			check(c.t, n.process.KillAll())
		}
		n.start(c.ctx)
		if rand.IntN(4) > 0 { // the chain needs all three: mostly it is let go on before the next one falls
			c.goOn(n)
		}
	}
}

// goOn waits until a node has seen a new block, or for as long as operators would watch.
func (c *chaos) goOn(n *node) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, 30*time.Second)
	defer cancel()
	height := int64(0)
	_ = Wait(ctx, func() (bool, error) {
		now, err := n.Node.AppHeight(ctx)
		if err != nil {
			return false, nil // it is not up yet
		}
		if height == 0 {
			height = now
		}
		return now > height, nil
	})
}

func (c *chaos) allOn(name string) bool {
	for _, n := range c.nodes {
		if n.current() != "upgrades/"+name {
			return false
		}
	}
	return true
}

// settle waits until a plan is confirmed on every node and the chain goes on.
func (c *chaos) settle(plan network.Plan) {
	c.t.Helper()
	for _, n := range c.nodes {
		status, err := n.WaitStatus(c.ctx, func(s Status) bool { return s.Confirmed(plan.Name) && s.Node != nil })
		if err != nil {
			c.t.Fatalf("%s on %s: %v", plan.Name, n.Node.Moniker, err)
		}
		if got := n.current(); got != "upgrades/"+plan.Name {
			c.t.Errorf("current of %s -> %s", n.Node.Moniker, got)
		}
		n.checkSnapshots(status, plan)
	}
	for _, n := range c.nodes {
		check(c.t, n.Node.WaitHeight(c.ctx, plan.Height+2))
	}
	c.t.Logf("%s at %d: all on it after %d kills", plan.Name, plan.Height, c.kills)
}
