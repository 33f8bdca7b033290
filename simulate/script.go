package simulate

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"solstice/internal/shell"
)

// StartScript is the name of a script in a kept network's folder that starts it again.
const StartScript = "start.sh"

// writeScript writes StartScript.
func (s *Simulation) writeScript() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, `#!/bin/sh
# Starts the network again, each node under solstice. Ctrl-C ends it. The logs are beside this file.
set -eu
cd "$(dirname "$0")"
solstice=${SOLSTICE:-%s}
nodes=
end() { # a second Ctrl-C, or one while the nodes are being started, must not leave a node behind
  trap '' INT TERM HUP
  kill $nodes ${!:-} 2>/dev/null || true
  wait
  exit 0
}
trap end INT TERM HUP
start() { # name, arguments
  name=$1; shift
  env %sDAEMON_HOME="$PWD/$name" DAEMON_NAME=%s "$solstice" run start --home "$PWD/$name" "$@" >>"$name.log" 2>&1 &
  nodes="$nodes $!"
}
`, shell.Quote(self), environ(s.config.Environ), shell.Quote(s.chains[0].Name))
	for _, m := range s.members {
		fmt.Fprintf(&text, "start %s%s # RPC: http://%s\n", m.Name, arguments(m.Args), m.RPC)
	}
	text.WriteString("wait\n")
	return os.WriteFile(filepath.Join(s.config.Dir, StartScript), []byte(text.String()), 0o755)
}

func arguments(words []string) (text string) {
	for _, word := range words {
		text += " " + shell.Quote(word)
	}
	return text
}

func environ(variables []string) (text string) {
	for _, variable := range variables {
		text += shell.Quote(variable) + " "
	}
	return text
}
