package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"

	"solstice"
)

// ErrForeign is what every ForeignError is.
var ErrForeign = errors.New("another node answers")

// ForeignError says that another node than this home's answers at an address.
type ForeignError struct {
	Kind    string // RPC or gRPC
	Address string // a host and a port, or the path of a socket
	Want    string // this home's node, by its files
	Got     string // the one that answers
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("the %s at %s is answered by another node (%s), not by this home's (%s)", e.Kind, e.Address, e.Got, e.Want)
}

// Is makes errors.Is(err, ErrForeign) true.
func (e *ForeignError) Is(target error) bool { return target == ErrForeign }

// Hints returns the next step.
func (e *ForeignError) Hints() []string {
	if e.Kind == gRPC {
		return []string{"set DAEMON_GRPC_ADDRESS to the gRPC address of this node, or leave it empty"}
	}
	_, port, err := net.SplitHostPort(e.Address)
	if err != nil {
		return []string{"see which process listens there: fuser -v " + e.Address}
	}
	return []string{"see which process listens there: ss -ltnp sport = :" + port}
}

// peer is who answers over a connection.
type peer struct {
	tied  bool   // it is this home's node
	doubt string // why that can't be told; empty if tied
}

// owner is whose node has to answer, by the files of its home and by its process.
type owner struct {
	keyFile     string // CometBFT's node_key_file
	genesisFile string
	pid         atomic.Int64 // of the node; 0: not known
}

// newOwner is the owner by the node's settings.
func newOwner(settings Settings) *owner {
	return &owner{keyFile: settings.NodeKeyFile, genesisFile: settings.GenesisFile}
}

// said is what a node says of itself. Its parts are empty where it does not say so.
type said struct{ id, chain string }

func (s said) String() string {
	var parts []string
	if s.id != "" {
		parts = append(parts, fmt.Sprintf("ID %.60s", printable(s.id)))
	}
	if s.chain != "" {
		parts = append(parts, fmt.Sprintf("chain %.60s", printable(s.chain)))
	}
	return strings.Join(parts, ", ")
}

// printable is a text as it is if it is plain, else quoted.
func printable(text string) string {
	if quoted := fmt.Sprintf("%+q", text); quoted != `"`+text+`"` || strings.ContainsAny(text, " ,()") {
		return quoted
	}
	return text
}

// judge says whether this home's node answers over a connection. A node that is certainly
// another one is a ForeignError.
//
// The files are read anew for each connection: a node makes its key at its first start.
func (o *owner) judge(s said, conn net.Conn, e *endpoint) (peer, error) {
	id, keyErr := ReadNodeID(o.keyFile)
	if keyErr == nil && s.id == id {
		return peer{tied: true}, nil
	}
	ours, processErr := holds(int(o.pid.Load()), conn)
	if ours && keyErr == nil && s.id != "" {
		return peer{doubt: fmt.Sprintf("the node's process has the ID %.60s, and %s has %s: "+
			"the file has changed since the node started, or the node uses another home; restart the node",
			printable(s.id), o.keyFile, id)}, nil
	}
	if ours {
		return peer{tied: true}, nil
	}
	chain, chainErr := ReadChainID(o.genesisFile)
	otherChain := chainErr == nil && s.chain != "" && s.chain != chain
	if keyErr == nil && s.id != "" || otherChain {
		return peer{}, &ForeignError{Kind: e.kind, Address: e.address, Want: said{id, chain}.String(), Got: s.String()}
	}
	var doubts []string
	switch {
	case keyErr != nil:
		doubts = append(doubts, "the node's ID is not known: "+keyErr.Error())
	default:
		doubts = append(doubts, "it does not say its node ID")
	}
	if processErr != nil {
		doubts = append(doubts, processErr.Error())
	} else {
		doubts = append(doubts, "another process than the node's answers")
	}
	if chainErr == nil && s.chain == chain {
		doubts = append(doubts, "it is a node of the same chain")
	}
	return peer{doubt: strings.Join(doubts, "; ")}, nil
}

// identify asks over a new connection who answers. An answer that nobody can read says
// nothing.
func (e *endpoint) identify(ctx context.Context, l *link) (s said, reusable bool, err error) {
	q := question{path: "/status", limit: maxAnswer}
	if e.kind == gRPC {
		q = unaryQuestion("/cosmos.base.tendermint.v1beta1.Service/GetNodeInfo", nil, maxAnswer)
	}
	r, reusable, err := l.ask(ctx, e.base, q)
	if err != nil {
		return said{}, false, err
	}
	if e.kind == gRPC {
		if message, err := r.message(maxAnswer, false); err == nil {
			s = parseNodeInfo(message)
		}
		return s, reusable, nil
	}
	var answer statusAnswer
	if r.result(&answer) == nil && answer.Node != nil {
		s = said{answer.Node.ID, answer.Node.Network}
	}
	return s, reusable, nil
}

// statusAnswer is what counts of CometBFT's /status.
type statusAnswer struct {
	Node *struct {
		ID      string `json:"id"`
		Network string `json:"network"`
	} `json:"node_info"`
	Sync *struct {
		CatchingUp bool `json:"catching_up"`
	} `json:"sync_info"`
}

// parseNodeInfo reads a GetNodeInfoResponse, as much of it as is there: default_node_info
// 1 with default_node_id 2 and network 4.
func parseNodeInfo(message []byte) said {
	info := field(message, 1)
	return said{id: string(field(info, 2)), chain: string(field(info, 4))}
}

const (
	maxKeyFile = 64 << 10
	// maxGenesis is how much of a genesis is read. CometBFT and the SDK write the chain
	// ID before the application's state, which can be hundreds of megabytes.
	maxGenesis = 1 << 20
)

// ReadNodeID returns the ID of the node that has this key (CometBFT's node_key.json): 40
// hex digits.
func ReadNodeID(path string) (string, error) {
	file, err := solstice.OpenFile(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxKeyFile))
	if err != nil {
		return "", err
	}
	id, err := parseNodeKey(content)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return id, nil
}

// parseNodeKey computes the ID as CometBFT does: the first 20 bytes of the SHA-256 of the
// public key. The errors have nothing of the key in them.
func parseNodeKey(content []byte) (string, error) {
	var file struct {
		Key *struct {
			Type  string `json:"type"`
			Value string `json:"value"`
		} `json:"priv_key"`
	}
	if err := json.Unmarshal(content, &file); err != nil || file.Key == nil {
		return "", errors.New("it is not a node key")
	}
	if file.Key.Type != "tendermint/PrivKeyEd25519" {
		return "", fmt.Errorf("the ID of a key of type %.60q is not known", file.Key.Type)
	}
	key, err := base64.StdEncoding.DecodeString(file.Key.Value)
	if err != nil || len(key) != ed25519.PrivateKeySize {
		return "", errors.New("it is not a whole key")
	}
	public := key[ed25519.SeedSize:]
	if bytes.Equal(public, make([]byte, ed25519.PublicKeySize)) { // CometBFT refuses it too
		return "", errors.New("it is not a whole key")
	}
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:20]), nil
}

// ReadChainID returns the chain ID of a genesis file.
func ReadChainID(path string) (string, error) {
	file, err := solstice.OpenFile(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	id, err := parseChainID(io.LimitReader(file, maxGenesis))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return id, nil
}

// parseChainID finds chain_id among the outer fields of a genesis, and reads no further.
func parseChainID(genesis io.Reader) (string, error) {
	unknown := errors.New("no chain ID was found")
	decoder := json.NewDecoder(genesis)
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return "", unknown
	}
	for depth, name := 1, true; depth > 0; { // name: the next token at depth 1 is the name of a field
		token, err := decoder.Token()
		if err != nil {
			return "", unknown
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
			continue
		case json.Delim('}'), json.Delim(']'):
			depth--
			name = true
			continue
		}
		if depth > 1 {
			continue
		}
		if name && token == "chain_id" {
			token, err := decoder.Token()
			if id, ok := token.(string); err == nil && ok && id != "" {
				return id, nil
			}
			return "", unknown
		}
		name = !name
	}
	return "", unknown
}
