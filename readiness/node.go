package readiness

import (
	"context"
	"os"

	"solstice/signstate"
)

var nodeChecks = []check{
	{"sign state", signStateRight}, {"halt", noHaltLeft}, {"state sync", noStateSync}, {"home", homesAgree},
}

func signStateRight(_ context.Context, s Subject) finding {
	address, err := s.Signs.Address()
	switch {
	case err != nil:
		return notReady("see that it can be read", "the validator's key: %v", err)
	case address == "" && s.Signs.Remote:
		return ok("a remote signer keeps its own")
	case address == "":
		return ok("this node signs nothing")
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
		if setting.value != "" && setting.value != "0" {
			return warning("set it to 0 in config/app.toml, unless you want the node to end there", "%s is %s: the node ends there, plan or not", setting.name, setting.value)
		}
	}
	return ok("no halt-height and no halt-time is set")
}

func noStateSync(_ context.Context, s Subject) finding {
	if s.Settings.StateSync {
		return warning("set statesync.enable to false in config/config.toml", "state sync is enabled: a node whose data is gone would fetch a state in place of the upgrade's way back")
	}
	return ok("state sync is off")
}

func homesAgree(_ context.Context, s Subject) finding {
	if s.Home.Node == s.Home.Dir {
		return ok("the node's home is %s", s.Home.Node)
	}
	node, nodeErr := os.Stat(s.Home.Node)
	own, ownErr := os.Stat(s.Home.Dir)
	if nodeErr == nil && ownErr == nil && os.SameFile(node, own) {
		return ok("the node's home is %s", s.Home.Node)
	}
	return warning("see that this is what you want: the plan file is watched in the node's home", "the node's --home is %s, and DAEMON_HOME is %s", s.Home.Node, s.Home.Dir)
}
