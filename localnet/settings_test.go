package localnet

import (
	"testing"

	"github.com/pelletier/go-toml/v2"
)

func TestEditTOML(t *testing.T) {
	const before = `# the chain's own words
minimum-gas-prices = "" # none
# laddr = "commented"

[p2p]
laddr = "tcp://0.0.0.0:26656"
  pex=true

[rpc]
laddr = "tcp://127.0.0.1:26657"
`
	const want = `halt-height = 0
# the chain's own words
minimum-gas-prices = "0stake"
# laddr = "commented"

[p2p]
upnp = false
laddr = "tcp://127.0.0.1:1"
pex = false

[rpc]
laddr = "tcp://127.0.0.1:26657"

[statesync]
enable = false
trust_height = 0
`
	values := map[string]string{
		"minimum-gas-prices": `"0stake"`, "halt-height": "0", "p2p.laddr": `"tcp://127.0.0.1:1"`, "p2p.pex": "false", "p2p.upnp": "false",
		"statesync.enable": "false", "statesync.trust_height": "0",
	}
	got := editTOML(before, values)
	if got != want {
		t.Errorf("edited:\n%s\nwant:\n%s", got, want)
	}
	if again := editTOML(got, values); again != got {
		t.Errorf("edited again:\n%s\nwant no change", again)
	}
	var read map[string]any
	if err := toml.Unmarshal([]byte(got), &read); err != nil {
		t.Errorf("what was edited can't be read: %v", err)
	}
}
