package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"time"
)

// scenario is a way in which an upgrade is measured.
type scenario struct {
	name     string
	settings []string // of the supervisor
	rpc      bool     // the node has one, and Solstice has asked it before. Cosmovisor asks none and is left out.
	ends     bool     // the node ends by itself when it has written its plan
	rare     bool     // measured in every second round only
}

// upgradeTimes are the samples of one tool in one scenario.
type upgradeTimes struct {
	stop  sample // plan file whole -> the node got the signal, or was killed
	start sample // node ended -> new binary executes
	whole sample // plan file whole -> new binary executes
}

const (
	pollInterval = 300 * time.Millisecond  // of both tools, by default
	askedBefore  = 5200 * time.Millisecond // Solstice asks an idle node every 5 s
)

// upgrade carries one node of a tool through one upgrade.
func (b *bench) upgrade(ctx context.Context, t tool, sc scenario, times *upgradeTimes) error {
	h, err := newHome(b.dir, b.node)
	if err != nil {
		return err
	}
	defer h.remove()
	// The moment is spread evenly over the poll of a tool that polls.
	planAfter := pollInterval + rand.N(pollInterval)
	var args []string
	if sc.rpc {
		address, err := h.withRPC()
		if err != nil {
			return err
		}
		args = append(args, "--serve", address)
		planAfter += askedBefore
	}
	args = append(args, "--plan-after", planAfter.String(), fmt.Sprintf("--ends=%t", sc.ends))
	s, err := t.supervise(h, sc.settings, args)
	if err != nil {
		return err
	}
	defer s.kill()
	var ended <-chan time.Time // as the kernel tells
	seen := map[string]time.Time{}
	for seen["v2 start"].IsZero() || seen["genesis plan"].IsZero() {
		e, err := s.next(ctx, h)
		if err != nil {
			return err
		}
		seen[e.version+" "+e.name] = e.at
		if e.version == "genesis" && e.name == "start" {
			if ended, err = watchEnd(e.pid); err != nil {
				return err
			}
		}
	}
	end := seen["genesis end"]
	if end.IsZero() {
		end = <-ended // it was killed; v2 runs, so it can't last
	}
	stop := seen["genesis signal"]
	if stop.IsZero() {
		stop = end
	}
	times.stop.add(stop.Sub(seen["genesis plan"]))
	times.start.add(seen["v2 start"].Sub(end))
	times.whole.add(seen["v2 start"].Sub(seen["genesis plan"]))
	return nil
}

// freeAddress returns an address that nobody listened at a moment ago.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}
