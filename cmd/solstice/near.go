package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"solstice"
	"solstice/internal/shell"
)

// meant says, for words that are no commands and that people type, what does what they want. What the node's binary knows is reached
// by run.
var meant = []struct {
	words []string
	hint  string
}{
	{[]string{"start"}, "the node is started by: solstice run start"},
	{[]string{"cosmovisor", "solstice"}, "leave that word out: solstice run start"},
	{[]string{"stop", "kill", "down"}, "solstice ends with its node; as a service: systemctl stop UNIT, else send it SIGTERM: its pid is in solstice status"},
	{[]string{"restart"}, "as a service: systemctl restart UNIT; else end it and type: solstice run start"},
	{[]string{"self-update", "update"}, "put the new solstice where the old one lies, then: solstice reload"},
	{[]string{"upgrade", "up", "apply"}, "a running solstice upgrades by itself at the plan's height; place the binary: solstice add-upgrade NAME PATH\nsee what is ahead: solstice plan"},
	{[]string{"add", "add-binary"}, "place a binary: solstice add-upgrade NAME PATH"},
	{[]string{"remove-upgrade", "delete-upgrade", "rm-upgrade", "drop-upgrade", "cancel", "cancel-plan", "remove-plan", "delete-plan", "unplan", "unschedule"},
		"take a plan that you added with a height off the list: solstice cancel-upgrade NAME"},
	{[]string{"init-node"}, "the node's own init: solstice run init MONIKER\nlay out the folder of the binaries: solstice init PATH"},
	{[]string{"log", "logs"}, "the log is what solstice run prints; as a service: journalctl -u UNIT -f"},
	{[]string{"prepare", "download", "fetch"}, "get the binary of the next plan: solstice prepare-upgrade"},
	{[]string{"next", "upgrades", "plans", "list", "ls"}, "see what is ahead: solstice plan"},
	{[]string{"info", "height", "state", "ps"}, "see what is: solstice status"},
	{[]string{"check", "health", "ready", "verify"}, "see whether the next upgrade will go well: solstice doctor"},
	{[]string{"backup"}, "take a snapshot of the stopped node: solstice snapshot create"},
	{[]string{"restore"}, "bring a snapshot back: solstice snapshot restore ID\ntake an upgrade back: solstice rollback"},
	{[]string{"undo", "revert", "downgrade", "back"}, "take an upgrade back: solstice rollback"},
	{[]string{"skip"}, "take an upgrade back that the network skips: solstice rollback --skip"},
	{[]string{"settings", "env", "configure"}, "see every setting: solstice config"},
	{[]string{"systemd", "unit", "install", "enable"}, "make a systemd unit: solstice service"},
	{[]string{"uninstall", "remove", "leave"}, "leave the home to Cosmovisor: solstice eject"},
	{[]string{"query", "q", "tx", "keys", "tendermint", "comet", "cometbft", "export", "genesis", "debug", "unsafe-reset-all", "prune"},
		"the node's own commands come after run: solstice run %s"},
}

// noCommand refuses words that are no command, and says what was probably meant.
func noCommand(root *cobra.Command, words []string) error {
	refused := &solstice.RefusedError{Reason: fmt.Sprintf("there is no command %q", words[0])}
	for _, m := range meant {
		if slices.Contains(m.words, strings.ToLower(words[0])) {
			refused.Hint = strings.ReplaceAll(m.hint, "%s", shell.Quote(words[0]))
		}
	}
	if refused.Hint != "" {
		return refused
	}
	for _, name := range root.SuggestionsFor(words[0]) {
		refused.Hint += "did you mean: solstice " + name + "\n"
	}
	refused.Hint += "see all commands: solstice --help"
	return refused
}
