package simulate

import (
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"solstice"
	"solstice/internal/durable"
	"solstice/localnet"
)

// Where things are in the containers of a project.
const (
	projectFile  = "/network.json"
	projectHomes = "/homes"
	projectChain = "/chain" // a folder for each version, with its binary
	projectBin   = "/usr/local/bin/solstice"
	rpcPort      = 26657
	p2pPort      = 26656
)

// projectVoting is how long a vote lasts if nothing else is said: the votes come from a container of its own beside busy ones.
const projectVoting = 15 * time.Second

// network is what a project's own governance has to know: the content of projectFile.
type network struct {
	ChainID  string        `json:"chain_id"`
	Chain    string        `json:"chain"`
	Denom    string        `json:"denom"`
	Stake    string        `json:"stake"`
	Voting   time.Duration `json:"voting_ns"`
	Block    time.Duration `json:"block_ns"`
	Versions []string      `json:"versions"` // genesis, and the upgrades in their order
	Tx       []string      `json:"tx,omitempty"`
	Members  []*member     `json:"members"`
	RPC      []string      `json:"rpc"` // of each member, host:port; empty: only its sentries can reach it
}

// Project is the same network as a Docker Compose project, to practise on what a container does: Solstice is the first process, a
// home is a volume, and a validator is reached by its sentries alone.
type Project struct {
	Dir  string // an empty folder, or one that is made
	Base string // the image that ours is made from: scratch, unless the binaries need more
}

// Write writes the project and starts nothing.
func (p Project) Write(ctx context.Context, config Config, screen Screen) error {
	if p.Base == "" {
		p.Base = "scratch"
	}
	if len(config.Late)+len(config.Missing)+len(config.Kill) > 0 {
		return &solstice.RefusedError{Reason: "--late, --missing and --kill are not for a project", Hint: "stop a container in the middle: docker-compose kill validator0"}
	}
	config.Dir = filepath.Join(p.Dir, "homes")
	s, err := prepare(ctx, config, screen)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, program := range append([]string{self}, s.paths()...) {
		if needs := interpreter(program); needs != "" && p.Base == "scratch" {
			return &solstice.RefusedError{
				Reason: fmt.Sprintf("%s is not static: it needs %s, which an image from scratch does not have", program, needs),
				Hint:   "name an image that has it with --docker-base, or build it with CGO_ENABLED=0",
			}
		}
	}
	lock, err := claim(p.Dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := p.write(ctx, s, self); err != nil {
		return errors.Join(err, clearFolder(p.Dir))
	}
	return nil
}

// write writes the project into its empty folder.
func (p Project) write(ctx context.Context, s *Simulation, self string) error {
	if err := os.Mkdir(s.config.Dir, 0o755); err != nil {
		return err
	}
	if s.voting == 0 {
		s.voting = projectVoting
	}
	if err := s.layOut(ctx, p.address, p.place); err != nil {
		return err
	}
	for i, program := range s.paths() {
		if err := copyInto(filepath.Join(p.Dir, "chain", s.versions()[i], s.chains[0].Name), program); err != nil {
			return err
		}
	}
	if err := copyInto(filepath.Join(p.Dir, "solstice"), self); err != nil {
		return err
	}
	content, err := json.MarshalIndent(s.network(), "", "  ")
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"network.json": string(content) + "\n", "Dockerfile": p.dockerfile(s), "docker-compose.yml": s.compose(), "README.md": s.readme(), ".dockerignore": "README.md\n*.log\n",
	} {
		if err := os.WriteFile(filepath.Join(p.Dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// paths are those of the binaries, the first version first.
func (s *Simulation) paths() (paths []string) {
	for _, chain := range s.chains {
		paths = append(paths, chain.Path)
	}
	return paths
}

// versions are the names of the binaries' folders in /chain.
func (s *Simulation) versions() []string {
	return append([]string{solstice.Genesis}, planNames(s.config.Upgrades)...)
}

// interpreter is what a program needs to be started by, or empty if it is static.
func interpreter(path string) string {
	f, err := elf.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for _, prog := range f.Progs {
		if prog.Type == elf.PT_INTERP {
			content := make([]byte, min(prog.Filesz, 256))
			if _, err := prog.ReadAt(content, 0); err == nil {
				return strings.TrimRight(string(content), "\x00")
			}
		}
	}
	return ""
}

func copyInto(to, from string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	from, err := filepath.EvalSymlinks(from)
	if err != nil || os.Link(from, to) == nil {
		return err
	}
	return durable.CopyFile(from, to, 0o755)
}

// address gives the members their addresses in the project's networks. They are fixed: CometBFT gives a peer up whose name it can't
// resolve when it starts.
func (p Project) address(s *Simulation) error {
	for _, m := range s.members {
		m.rpc, m.p2p = fmt.Sprintf("0.0.0.0:%d", rpcPort), fmt.Sprintf("0.0.0.0:%d", p2pPort)
	}
	s.reach = func(from, to *member) string {
		for _, n := range s.networks(from) {
			if slices.Contains(s.networks(to), n) {
				return fmt.Sprintf("%s:%d", s.ip(to, n), p2pPort)
			}
		}
		return "" // they don't dial each other
	}
	return nil
}

// networks are those that a member is in: 0 is the public one, and each validator with sentries has its own.
func (s *Simulation) networks(m *member) (networks []int) {
	if !m.Validator || s.config.Sentries == 0 {
		networks = append(networks, 0)
	}
	if s.config.Sentries > 0 {
		guarded := m.Name
		if m.Guards != "" {
			guarded = m.Guards
		}
		networks = append(networks, 1+slices.IndexFunc(s.validators(), func(v *member) bool { return v.Name == guarded }))
	}
	return networks
}

// subnet is the beginning of the addresses in a network. Projects in other folders have others: two can run side by side.
func (s *Simulation) subnet(network int) string {
	h := fnv.New32a()
	h.Write([]byte(s.config.Dir))
	return fmt.Sprintf("10.%d.%d", 20+h.Sum32()%200, network)
}

// ip is a member's address in one of its networks.
func (s *Simulation) ip(m *member, network int) string {
	return fmt.Sprintf("%s.%d", s.subnet(network), 10+slices.Index(s.members, m))
}

// place makes the layout of solstice in each home, with links to the versions in the image: every version is there once.
func (p Project) place(s *Simulation) error {
	for _, m := range s.members {
		paths := m.Paths()
		for _, version := range s.versions() {
			dir := solstice.Genesis
			if version != solstice.Genesis {
				dir = paths.UpgradeDir(version)
			}
			link := paths.Binary(dir)
			if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
				return err
			}
			if err := os.Symlink(path.Join(projectChain, version, s.chains[0].Name), link); err != nil {
				return err
			}
		}
		if err := os.Symlink(solstice.Genesis, paths.CurrentLink()); err != nil {
			return err
		}
	}
	return nil
}

func (s *Simulation) network() network {
	n := network{ChainID: s.chainID, Chain: s.chains[0].Name, Denom: s.config.Denom, Stake: s.config.Stake, Voting: s.voting,
		Block: s.config.BlockTime, Versions: s.versions(), Tx: s.config.Tx, Members: s.members}
	for _, m := range s.members {
		rpc := ""
		if s.networks(m)[0] == 0 {
			rpc = fmt.Sprintf("%s:%d", s.ip(m, 0), rpcPort)
		}
		n.RPC = append(n.RPC, rpc)
	}
	return n
}

func (p Project) dockerfile(s *Simulation) string {
	return fmt.Sprintf(`# One image for all nodes: solstice, the chain's binaries, and the homes, each of which is copied into its node's volume when that is
# made. It holds the keys of the practice network and nothing of yours.
FROM %s
COPY solstice %s
COPY chain %s
COPY homes %s
COPY network.json %s
ENV HOME=/root DAEMON_NAME=%s
WORKDIR /tmp
WORKDIR /root
ENTRYPOINT [%q]
`, p.Base, projectBin, projectChain, projectHomes, projectFile, s.chains[0].Name, projectBin)
}

// compose writes docker-compose.yml. JSON strings are YAML strings.
func (s *Simulation) compose() string {
	var text strings.Builder
	word := func(v any) string {
		content, _ := json.Marshal(v)                         // strings, always
		return strings.ReplaceAll(string(content), "$", "$$") // Compose would take it for a variable
	}
	text.WriteString("# A practice network: see README.md.\nversion: \"3.8\"\n\nservices:\n")
	for i, m := range s.members {
		home := path.Join(projectHomes, m.Name)
		fmt.Fprintf(&text, "  %s:\n    image: solstice-practice\n", m.Name)
		if i == 0 {
			text.WriteString("    build: .\n")
		}
		fmt.Fprintf(&text, "    command: %s\n", word(append([]string{"run", "start", "--home", home}, m.Args...)))
		fmt.Fprintf(&text, "    environment:\n      - DAEMON_HOME=%s\n", home)
		for _, variable := range m.Environ {
			fmt.Fprintf(&text, "      - %s\n", word(variable))
		}
		fmt.Fprintf(&text, "    restart: unless-stopped\n    stop_grace_period: 2m # longer than DAEMON_SHUTDOWN_GRACE\n    healthcheck:\n      test: %s\n    volumes:\n      - %s:%s\n    networks:\n",
			word([]string{"CMD", projectBin, "status", "--check"}), m.Name, home)
		for _, n := range s.networks(m) {
			fmt.Fprintf(&text, "      %s:\n        ipv4_address: %s\n", networkName(s, n), s.ip(m, n))
		}
	}
	fmt.Fprintf(&text, "  governance:\n    image: solstice-practice\n    profiles: [tools] # is run by hand: docker-compose run --rm governance --upgrade NAME\n    entrypoint: %s\n    volumes:\n",
		word([]string{projectBin, "simulate", "--attach", projectFile}))
	for _, m := range s.members {
		fmt.Fprintf(&text, "      - %s:%s\n", m.Name, path.Join(projectHomes, m.Name))
	}
	text.WriteString("    networks: [public]\n\nvolumes:\n")
	for _, m := range s.members {
		fmt.Fprintf(&text, "  %s:\n", m.Name)
	}
	text.WriteString("\nnetworks:\n")
	count := 1
	if s.config.Sentries > 0 {
		count += s.config.Validators
	}
	for n := range count {
		fmt.Fprintf(&text, "  %s:\n", networkName(s, n))
		if n > 0 {
			text.WriteString("    internal: true # a validator has no way out but through its sentries\n")
		}
		fmt.Fprintf(&text, "    ipam:\n      config:\n        - subnet: %s.0/24\n", s.subnet(n))
	}
	return text.String()
}

func networkName(s *Simulation, n int) string {
	if n == 0 {
		return "public"
	}
	return "private-" + s.validators()[n-1].Name
}

// readme says how the project is used.
func (s *Simulation) readme() string {
	var text strings.Builder
	fmt.Fprintf(&text, "# A practice network of %s\n\n%s, each under Solstice as the first process of its container.\n", s.chains[0].Name, s.describe())
	if s.config.Sentries > 0 {
		text.WriteString("A validator is in a private network with its sentries and reaches nobody else.\n")
	}
	text.WriteString("\n    docker-compose up --detach --build\n")
	for _, u := range s.config.Upgrades {
		fmt.Fprintf(&text, "    docker-compose run --rm governance --upgrade %s\n", u.Name)
	}
	text.WriteString(`    docker-compose down --volumes

The first starts the network. The second carries one upgrade through governance, shows what every node does, and ends with 0 only if
all of them went through it. The last removes everything; stop and start keep the chain.

What a node is doing:

    docker-compose exec validator0 /usr/local/bin/solstice status

`)
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "    node\tnetworks")
	for _, m := range s.members {
		var names []string
		for _, n := range s.networks(m) {
			names = append(names, networkName(s, n))
		}
		fmt.Fprintf(table, "    %s\t%s\n", m.Name, strings.Join(names, ", "))
	}
	table.Flush()
	return text.String()
}

// Attach takes the running network of a project through upgrades, from within its container for governance. Nothing is started or
// ended but the chain's own commands.
func Attach(ctx context.Context, file string, upgrades []string, patience time.Duration, screen Screen) (*Result, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var n network
	if err := json.Unmarshal(content, &n); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	s := &Simulation{screen: screen, voting: n.Voting, chainID: n.ChainID, members: n.Members, attached: true, config: Config{
		Validators: len(n.Members), BlockTime: n.Block, Patience: patience, Dir: projectHomes, Denom: n.Denom, Stake: n.Stake, Tx: n.Tx,
	}}
	for i, m := range s.members {
		m.Home, m.Chain, m.RPC = path.Join(projectHomes, m.Name), n.Chain, n.RPC[i]
	}
	status, err := s.members[0].Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the solstice of %s: %w", s.members[0].Name, err)
	}
	for _, version := range append([]string{versionOf(status.Binary.Dir)}, upgrades...) {
		if !slices.Contains(n.Versions, version) {
			return nil, &solstice.RefusedError{Reason: fmt.Sprintf("the project has no upgrade %q", version), Hint: "it has " + strings.Join(n.Versions[1:], ", ")}
		}
		chain, err := localnet.Open(ctx, path.Join(projectChain, version, n.Chain))
		if err != nil {
			return nil, err
		}
		s.chains = append(s.chains, chain)
	}
	for _, name := range upgrades {
		s.config.Upgrades = append(s.config.Upgrades, Upgrade{Name: name})
	}
	if len(upgrades) == 0 {
		return nil, errors.New("no upgrade is named")
	}
	return s.run(ctx)
}
