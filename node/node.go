// Package node tells how far a node is, and what it was told about itself.
//
// A running node is asked. Nothing has to be enabled for it: the address of the CometBFT
// RPC is found where the node itself finds it; where it gives no usable answer, gRPC is
// asked. Each connection is asked first who answers: an answer of another node is an
// error, and one that can't be tied to this home's node says so. An answer is bounded in
// time by the caller and in size here; a node that is down, slow or speaks garbage gives
// an error and nothing else.
//
// Of a stopped node the files are read, and nothing is written: goleveldb databases and
// the consensus WAL, whatever state a cut has left them in.
package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"solstice"
)

// ErrNoAddress means that the node listens nowhere that we know of.
var ErrNoAddress = errors.New("the node has no RPC address")

// errNoProcess means that the node's process is not known, or can't be looked into.
var errNoProcess = errors.New("the node's process is not known")

// The two ways to ask a node.
const (
	rpc  = "RPC"
	gRPC = "gRPC"
)

// Client asks one node. The zero value knows no address. Its methods may be called at the
// same time.
type Client struct {
	rpc  *endpoint // nil without an address
	grpc *endpoint // nil without an address; asked where rpc gives no usable answer
}

// At returns a client for the CometBFT RPC at an address, such as 127.0.0.1:26657.
// Without one it has nobody to ask. It knows no home, so it takes any node's answer, and
// ties none.
func At(address string) *Client {
	if address == "" {
		return &Client{}
	}
	return &Client{rpc: newEndpoint(rpc, address, false)}
}

// Find returns a client for the node that runs with these arguments and environment: for
// Settings.RPC, and for grpc (DAEMON_GRPC_ADDRESS) if it is not empty.
func Find(home solstice.Home, args []string, getenv func(string) string, grpc string) *Client {
	c := &Client{}
	settings := ReadSettings(home, args, getenv)
	owner := newOwner(settings)
	if settings.RPC != "" {
		c.rpc = newEndpoint(rpc, settings.RPC, settings.TLS)
		c.rpc.owner = owner
	}
	if grpc != "" {
		address, secure := strings.CutPrefix(grpc, "https://")
		c.grpc = newEndpoint(gRPC, strings.TrimPrefix(address, "http://"), secure)
		c.grpc.owner = owner
	}
	return c
}

// SetProcess tells which process the node is, 0 once it has ended. Where the node's key
// can't be read, an answer counts as the node's if this process, or one that it has
// started, gives it. Who answers is asked anew after a change.
func (c *Client) SetProcess(pid int) {
	for _, e := range []*endpoint{c.rpc, c.grpc} {
		if e != nil && e.owner != nil {
			e.owner.pid.Store(int64(pid))
			e.forget()
		}
	}
}

// Answer is how far a node says that it is.
type Answer struct {
	// Height is the last block that the application has committed for certain. At a halt
	// for an upgrade at height H it is H-1 (seen on SDK v0.54 and v0.55).
	Height int64
	// AtMost is the highest block that it may have committed. gRPC tells the last block
	// that is stored, which is either committed or the next one to be.
	AtMost int64
	Tied   bool   // the answer is proven to come from this home's node
	Doubt  string // why that can't be told; empty if Tied
}

// Committed returns how far the application is. An answer of another node is a
// ForeignError.
func (c *Client) Committed(ctx context.Context) (answer Answer, err error) {
	err = c.ask(ctx, func(ctx context.Context, e *endpoint) error {
		var who peer
		if e.kind == gRPC {
			answer.AtMost, who, err = e.latestBlock(ctx)
			answer.Height = max(answer.AtMost-1, 0)
		} else {
			answer.Height, who, err = e.abciInfo(ctx)
			answer.AtMost = answer.Height
		}
		answer.Tied, answer.Doubt = who.tied, who.doubt
		return err
	})
	if err != nil {
		return Answer{}, err
	}
	return answer, nil
}

// rpcLimit is how long the RPC may take where the caller has no limit and gRPC could be
// asked too.
const rpcLimit = 5 * time.Second

// ask asks the RPC, in half of the time, and gRPC where the RPC gives no usable answer.
// Where another node answers, or the node itself says no, that is the answer.
func (c *Client) ask(ctx context.Context, question func(context.Context, *endpoint) error) error {
	switch {
	case c.rpc == nil && c.grpc == nil:
		return ErrNoAddress
	case c.rpc == nil:
		return question(ctx, c.grpc)
	case c.grpc == nil:
		return question(ctx, c.rpc)
	}
	limit := rpcLimit
	if deadline, ok := ctx.Deadline(); ok {
		limit = time.Until(deadline) / 2
	}
	half, cancel := context.WithTimeout(ctx, limit)
	err := question(half, c.rpc)
	cancel()
	var no *refusal
	if err == nil || ctx.Err() != nil || errors.Is(err, ErrForeign) || errors.As(err, &no) {
		return err
	}
	if otherErr := question(ctx, c.grpc); otherErr != nil {
		return fmt.Errorf("%w; %w", err, otherErr)
	}
	return nil
}

// abciInfo reads last_block_height of /abci_info.
func (e *endpoint) abciInfo(ctx context.Context) (int64, peer, error) {
	var answer abciInfoAnswer
	who, err := e.get(ctx, "/abci_info", nil, maxAnswer, &answer)
	if err != nil {
		return 0, peer{}, about("abci_info", err)
	}
	committed, err := answer.height()
	return committed, who, about("abci_info", err)
}

type abciInfoAnswer struct {
	Response map[string]json.RawMessage `json:"response"`
}

// height is 0 before the first block, when it is left out, but not when nothing else is
// there either.
func (a abciInfoAnswer) height() (int64, error) {
	if len(a.Response) == 0 {
		return 0, errNoResult
	}
	var committed height
	if text, ok := a.Response["last_block_height"]; ok {
		if err := json.Unmarshal(text, &committed); err != nil {
			return 0, err
		}
	}
	return int64(committed), nil
}
