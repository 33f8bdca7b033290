package readiness

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"solstice/signstate"
)

var nodeChecks = []check{
	{"sign state", signStateRight}, {"signer", signerThere}, {"halt", noHaltLeft}, {"state sync", noStateSync}, {"home", homesAgree}, {"clock", clockRight},
}

func signStateRight(_ context.Context, s Subject) finding {
	address, err := s.Signs.Address()
	missing := s.Settings.SignsUnknown()
	switch {
	case err != nil && s.Signs.Unknown != nil:
		return unknown("see that the node's configuration can be read, and that its home is the right one", "%v", err)
	case err != nil:
		return notReady("see that it can be read", "the validator's key: %v", err)
	case address == "" && s.Signs.Remote:
		return ok("a remote signer keeps its own")
	case address == "" && missing != nil:
		return unknown("see that this is the node's home", "there is no key at %s, and cannot tell whether the node looks there: %v", s.Signs.KeyFile, missing)
	case address == "":
		return ok("this node signs nothing: it has no key at %s", s.Signs.KeyFile)
	}
	if err := s.Signs.Check(); err != nil {
		return notReady("solstice sign-state raise", "%v", err)
	}
	state, err := signstate.ReadFile(s.Signs.StateFile)
	if err != nil {
		return notReady("see that it can be read", "%v", err)
	}
	return ok("%s, not below the mark", state)
}

// noHaltLeft: a height or time to halt at ends the node without a plan, again and again.
func noHaltLeft(_ context.Context, s Subject) finding {
	for _, setting := range []struct{ name, value string }{{"halt-height", s.Settings.HaltHeight}, {"halt-time", s.Settings.HaltTime}} {
		if err := s.Settings.Origin(setting.name).Err; err != nil {
			return unknown("see that the file can be read", "%s is not known: %v", setting.name, err)
		}
		if setting.value != "" && setting.value != "0" {
			return warning("set it to 0 in config/app.toml, unless you want the node to end there", "%s is %s: the node ends there, plan or not", setting.name, setting.value)
		}
	}
	return ok("no halt-height and no halt-time is set")
}

func noStateSync(_ context.Context, s Subject) finding {
	if err := s.Settings.Origin("statesync.enable").Err; err != nil {
		return unknown("see that the file can be read", "whether state sync is enabled is not known: %v", err)
	}
	if s.Settings.StateSync {
		return warning("set statesync.enable to false in config/config.toml", "state sync is enabled: a node whose data is gone would fetch a state in place of the upgrade's way back")
	}
	return ok("state sync is off")
}

// signerThere: a remote signer connects to the node, which listens for it.
func signerThere(_ context.Context, s Subject) finding {
	if err := s.Settings.Origin("priv_validator_laddr").Err; err != nil {
		return unknown("see that the file can be read", "whether a remote signer is set up is not known: %v", err)
	}
	if s.Settings.SignerAddress == "" {
		return ok("no remote signer is set up")
	}
	if s.PID == 0 {
		return unknown("start the node", "a remote signer connects to %s when the node runs", s.Settings.SignerAddress)
	}
	port, found := strings.CutPrefix(s.Settings.SignerAddress, "tcp://")
	if found {
		_, port, _ = net.SplitHostPort(port)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if !found || err != nil {
		return unknown("look by hand", "whether a remote signer is connected to %s can't be seen", s.Settings.SignerAddress)
	}
	var tables []byte
	for _, name := range []string{"tcp", "tcp6"} {
		table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", s.PID, name))
		if err != nil && name == "tcp" {
			return unknown("look by hand", "whether a remote signer is connected can't be seen: %v", err)
		}
		tables = append(tables, table...)
	}
	if !connected(string(tables), uint16(number)) {
		return notReady("see that it runs and reaches this machine", "no remote signer is connected to %s: the node can't sign", s.Settings.SignerAddress)
	}
	return ok("a remote signer is connected to %s", s.Settings.SignerAddress)
}

// connected says whether a table of /proc/net/tcp has an established connection to a local port (proc_pid_net(5)).
func connected(table string, port uint16) bool {
	const established = "01"
	for line := range strings.Lines(table) {
		words := strings.Fields(line)
		if len(words) > 3 && words[3] == established && strings.HasSuffix(words[1], fmt.Sprintf(":%04X", port)) {
			return true
		}
	}
	return false
}

// Bounds of what the last block's time may be off by. Blocks are some seconds apart, and their time is that of the votes on the
// block before.
const (
	clockBehind = 2 * time.Second
	clockAhead  = time.Minute
)

func clockRight(_ context.Context, s Subject) finding {
	if s.Pace.Height == 0 {
		return unknown("start the node", "the node tells no block time to compare the clock with")
	}
	switch late := time.Since(s.Pace.Time); {
	case late < -clockBehind:
		return warning("set the clock: a validator whose clock is off votes too late or too early", "the clock is %v behind the last block", -late.Round(time.Second))
	case late > max(clockAhead, 10*s.Pace.Block):
		return unknown("see whether the node follows the chain, and the clock is right", "the last block is %v old", late.Round(time.Second))
	default:
		return ok("the last block is %v old by this clock", late.Round(time.Millisecond))
	}
}
