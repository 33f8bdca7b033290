package simulate

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"solstice"
	"solstice/localnet"
)

// keyName is the name of a validator's account in its keyring.
const keyName = "validator"

// learn finds out by which words the binaries are told what to do. What is not found is refused, with what was looked for.
func (s *Simulation) learn(ctx context.Context) error {
	first := s.chains[0]
	find := func(chain *localnet.Chain, what string, choices ...string) error {
		if firstOf(ctx, chain, choices...) != nil {
			return nil
		}
		return &solstice.RefusedError{
			Reason: fmt.Sprintf("%s has no command to %s: looked for %s", chain.Path, what, strings.Join(choices, ", ")),
			Hint:   "see what it has: " + chain.Path + " --help",
		}
	}
	for _, step := range []struct {
		what    string
		choices []string
	}{{"give an account money in the genesis", addAccount}, {"make a validator's genesis transaction", gentx}, {"collect genesis transactions", collect}} {
		if err := find(first, step.what, step.choices...); err != nil {
			return err
		}
	}
	for _, chain := range s.chains[:max(len(s.chains)-1, 0)] {
		if err := find(chain, "propose an upgrade", propose...); err != nil {
			return err
		}
		if err := find(chain, "vote", "tx gov vote"); err != nil {
			return err
		}
	}
	return nil
}

// The commands by SDK version, the newest first.
var (
	addAccount = []string{"genesis add-genesis-account", "add-genesis-account"} // v0.47, before
	gentx      = []string{"genesis gentx", "gentx"}
	collect    = []string{"genesis collect-gentxs", "collect-gentxs"}
	propose    = []string{"tx upgrade software-upgrade", "tx gov submit-legacy-proposal software-upgrade", "tx gov submit-proposal software-upgrade"} // v0.46, v0.46, before
)

// firstOf is the first of some commands that a binary has, or nil.
func firstOf(ctx context.Context, chain *localnet.Chain, choices ...string) []string {
	for _, choice := range choices {
		if command := strings.Fields(choice); chain.Has(ctx, command...) {
			return command
		}
	}
	return nil
}

// withFlags appends those flags, each a name and a value, that a command has: older SDKs lack some, and need none of them.
func withFlags(ctx context.Context, chain *localnet.Chain, command []string, args []string, flags ...[2]string) []string {
	help, _ := chain.Help(ctx, command...) // it was found before
	all := append(slices.Clone(command), args...)
	for _, flag := range flags {
		if help.Has(flag[0]) {
			all = append(all, "--"+flag[0]+"="+flag[1])
		}
	}
	return all
}

// layOut writes the homes of all nodes, ready to be started. address gives every node its addresses, and place its binaries.
func (s *Simulation) layOut(ctx context.Context, address, place func(*Simulation) error) error {
	if err := address(s); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		do   func(*Simulation, context.Context) error
	}{
		{"make homes", (*Simulation).makeHomes},
		{"write the genesis", (*Simulation).writeGenesis},
		{"sign the genesis", (*Simulation).signGenesis},
		{"write the settings", (*Simulation).configure},
		{"place binaries", func(s *Simulation, _ context.Context) error { return place(s) }},
	} {
		if err := step.do(s, ctx); err != nil {
			return fmt.Errorf("lay out the network: %s: %w", step.name, err)
		}
	}
	return nil
}

// here gives every node its addresses on this machine.
func (s *Simulation) here() error {
	ports, err := localnet.FreePorts(2 * len(s.members))
	if err != nil {
		return err
	}
	for i, m := range s.members {
		m.rpc, m.p2p = fmt.Sprintf("127.0.0.1:%d", ports[2*i]), fmt.Sprintf("127.0.0.1:%d", ports[2*i+1])
		m.RPC = m.rpc
	}
	s.reach = func(_, to *member) string { return to.p2p }
	return nil
}

// makeHomes makes every home, and an account for each validator. How long that takes here says how long the voting has to last.
func (s *Simulation) makeHomes(ctx context.Context) error {
	chain := s.chains[0]
	denom := [2]string{"default-denom", s.config.Denom}
	began := time.Now()
	err := s.each(s.members, func(m *member) error {
		flags := [][2]string{{"chain-id", s.chainID}}
		if denom[1] != "" {
			flags = append(flags, denom)
		}
		if _, err := chain.Run(ctx, m.Home, withFlags(ctx, chain, []string{"init"}, []string{m.Name}, flags...)...); err != nil {
			return err
		}
		id, err := nodeID(m.Home)
		if err != nil {
			return fmt.Errorf("read the node's id: %w", err)
		}
		m.ID = id
		return nil
	})
	if err != nil {
		return err
	}
	if s.voting == 0 {
		// A vote is made by one process of each validator, all at once: that takes about as long as this did. Four times as long
		// leaves room for a machine that becomes busier.
		s.voting = max(4*time.Since(began), 4*time.Second, 4*s.config.BlockTime).Round(100 * time.Millisecond)
	}
	return s.each(s.validators(), func(m *member) error {
		out, err := chain.Run(ctx, m.Home, withFlags(ctx, chain, []string{"keys", "add"}, []string{keyName},
			[2]string{"keyring-backend", "test"}, [2]string{"output", "json"})...)
		if err != nil {
			return err
		}
		m.Address, err = addressIn(out)
		return err
	})
}

// addressIn reads an account's address out of what keys add prints: a JSON document, perhaps with other lines around it.
func addressIn(out []byte) (string, error) {
	var key struct {
		Address string `json:"address"`
	}
	begin := bytes.IndexByte(out, '{')
	if begin >= 0 && json.NewDecoder(bytes.NewReader(out[begin:])).Decode(&key) == nil && key.Address != "" {
		return key.Address, nil
	}
	return "", errors.New("keys add --output json printed no address")
}

// nodeID is a node's id: the start of the hash of its public key, which is the second half of the private one (CometBFT, p2p.NodeKey).
func nodeID(home string) (string, error) {
	content, err := os.ReadFile(filepath.Join(home, "config", "node_key.json"))
	if err != nil {
		return "", err
	}
	var key struct {
		Private struct {
			Value []byte `json:"value"`
		} `json:"priv_key"`
	}
	if err := json.Unmarshal(content, &key); err != nil {
		return "", err
	}
	if len(key.Private.Value) != ed25519.PrivateKeySize {
		return "", fmt.Errorf("the key has %d bytes, not %d", len(key.Private.Value), ed25519.PrivateKeySize)
	}
	sum := sha256.Sum256(key.Private.Value[ed25519.SeedSize:])
	return fmt.Sprintf("%x", sum[:20]), nil
}

func (m *member) genesis() string { return filepath.Join(m.Home, "config", "genesis.json") }

// writeGenesis gives the accounts their money, and the chain a short vote.
func (s *Simulation) writeGenesis(ctx context.Context) error {
	chain, first := s.chains[0], s.members[0]
	genesis, err := readGenesis(first.genesis())
	if err != nil {
		return err
	}
	if s.config.Denom == "" {
		denom, ok := genesis.get("app_state.staking.params.bond_denom").(string)
		if !ok {
			return &solstice.RefusedError{Reason: "the genesis does not say which denomination is staked", Hint: "say it with --denom"}
		}
		s.config.Denom = denom
	}
	if err := s.setGenesis(genesis); err != nil {
		return err
	}
	if err := genesis.write(first.genesis()); err != nil {
		return err
	}
	owned := s.stakes(1000, 1) + s.config.Denom
	add := firstOf(ctx, chain, addAccount...)
	for _, m := range s.validators() { // one after the other: all write one file
		if _, err := chain.Run(ctx, first.Home, withFlags(ctx, chain, add, []string{m.Address, owned}, [2]string{"keyring-backend", "test"})...); err != nil {
			return err
		}
	}
	return s.shareGenesis()
}

// setGenesis sets what makes a network that decides quickly and jails nobody, and what the configuration says.
func (s *Simulation) setGenesis(g genesis) error {
	deposit := []any{map[string]any{"denom": s.config.Denom, "amount": s.deposit()}}
	expedited := []any{map[string]any{"denom": s.config.Denom, "amount": s.stakes(2, 1)}}
	switch {
	case g.get("app_state.gov.params") != nil: // since SDK v0.47
		g.set("app_state.gov.params.voting_period", seconds(s.voting))
		g.set("app_state.gov.params.min_deposit", deposit)
		if g.get("app_state.gov.params.expedited_voting_period") != nil {
			g.set("app_state.gov.params.expedited_voting_period", seconds(s.voting/2))
			g.set("app_state.gov.params.expedited_min_deposit", expedited)
		}
	case g.get("app_state.gov.voting_params") != nil && g.get("app_state.gov.deposit_params") != nil:
		g.set("app_state.gov.voting_params.voting_period", seconds(s.voting))
		g.set("app_state.gov.deposit_params.min_deposit", deposit)
	default:
		return &solstice.RefusedError{
			Reason: "the genesis has neither app_state.gov.params nor app_state.gov.voting_params: how this chain votes is not known",
			Hint:   "only chains that upgrade by x/gov can be simulated",
		}
	}
	if g.get("app_state.slashing.params.signed_blocks_window") != nil {
		g.set("app_state.slashing.params.signed_blocks_window", "100000") // a node that stays down is not to be jailed
	}
	for path, value := range s.config.Genesis {
		var parsed any
		if err := json.Unmarshal([]byte(value), &parsed); err != nil {
			parsed = value // a text without its quotes
		}
		if !g.set(path, parsed) {
			return &solstice.RefusedError{Reason: fmt.Sprintf("--genesis %s: the genesis has no such place", path), Hint: "look at what the binary writes: config/genesis.json after its init"}
		}
	}
	return nil
}

// deposit is what a proposal needs: a thousandth of a stake.
func (s *Simulation) deposit() string { return s.stakes(1, 1000) }

// stakes is a part or a multiple of a validator's stake, 1 at least.
func (s *Simulation) stakes(times, parts int64) string {
	stake, _ := new(big.Int).SetString(s.config.Stake, 10) // prepare has looked at it
	stake.Mul(stake, big.NewInt(times)).Div(stake, big.NewInt(parts))
	if stake.Sign() == 0 {
		return "1"
	}
	return stake.String()
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3fs", d.Seconds()) }

// signGenesis makes the validators' genesis transactions and collects them.
func (s *Simulation) signGenesis(ctx context.Context) error {
	chain, first := s.chains[0], s.members[0]
	folder := filepath.Join(first.Home, "config", "gentx")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	err := s.each(s.validators(), func(m *member) error {
		_, err := chain.Run(ctx, m.Home, withFlags(ctx, chain, firstOf(ctx, chain, gentx...), []string{keyName, s.config.Stake + s.config.Denom},
			[2]string{"chain-id", s.chainID}, [2]string{"keyring-backend", "test"}, [2]string{"moniker", m.Name}, [2]string{"ip", "127.0.0.1"},
			[2]string{"output-document", filepath.Join(folder, m.Name+".json")})...)
		return err
	})
	if err != nil {
		return err
	}
	if _, err := chain.Run(ctx, first.Home, firstOf(ctx, chain, collect...)...); err != nil {
		return err
	}
	return s.shareGenesis()
}

// shareGenesis gives the first node's genesis to the others.
func (s *Simulation) shareGenesis() error {
	content, err := os.ReadFile(s.members[0].genesis())
	if err != nil {
		return err
	}
	for _, m := range s.members[1:] {
		if err := os.WriteFile(m.genesis(), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// configure writes addresses, peers and times.
func (s *Simulation) configure(context.Context) error {
	for _, m := range s.members {
		var peers, hidden []string
		for _, other := range s.members {
			if s.dials(m, other) {
				peers = append(peers, other.ID+"@"+s.reach(m, other))
			}
			if m.Guards != "" && m.Guards == other.Name {
				hidden = append(hidden, other.ID)
			}
		}
		err := m.Configure(localnet.Listen{RPC: m.rpc, P2P: m.p2p, Peers: peers,
			Config: map[string]string{
				"consensus.timeout_commit": localnet.Quote(s.config.BlockTime.String()), "consensus.timeout_propose": `"1s"`,
				"p2p.private_peer_ids": localnet.Quote(strings.Join(hidden, ",")), "tx_index.indexer": `"kv"`,
			},
			App: map[string]string{"minimum-gas-prices": localnet.Quote("0" + s.config.Denom)},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// dials says whether a node keeps a connection to another: validators with sentries know these alone.
func (s *Simulation) dials(m, other *member) bool {
	switch {
	case m == other:
		return false
	case s.config.Sentries == 0:
		return true
	case m.Validator:
		return other.Guards == m.Name
	case other.Validator:
		return m.Guards == other.Name
	}
	return true
}

// placeGenesis puts the first binary under solstice.
func (s *Simulation) placeGenesis() error {
	for _, m := range s.members {
		if err := m.Place(solstice.Genesis, s.chains[0].Path); err != nil {
			return err
		}
		if err := os.Symlink(solstice.Genesis, m.Paths().CurrentLink()); err != nil {
			return err
		}
	}
	return nil
}

// genesis is a genesis document. Numbers stay as they are written.
type genesis map[string]any

func readGenesis(path string) (genesis, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var g genesis
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	if err := decoder.Decode(&g); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return g, nil
}

// get is what stands at a dotted path, or nil.
func (g genesis) get(path string) any {
	var here any = map[string]any(g)
	for _, key := range strings.Split(path, ".") {
		parent, ok := here.(map[string]any)
		if !ok {
			return nil
		}
		here = parent[key]
	}
	return here
}

// set puts a value at a dotted path, and says whether there is such a place: all but its last part must be there.
func (g genesis) set(path string, value any) bool {
	parent, key := map[string]any(g), path
	if dot := strings.LastIndexByte(path, '.'); dot >= 0 {
		var ok bool
		if parent, ok = g.get(path[:dot]).(map[string]any); !ok {
			return false
		}
		key = path[dot+1:]
	}
	parent[key] = value
	return true
}

func (g genesis) write(path string) error {
	content, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}
