// Package node tells how far a node is, and what it was told about itself.
//
// A running node is asked. Nothing has to be enabled for it: the address of the CometBFT RPC is found where the node itself
// finds it; gRPC is for a node without one. An answer is bounded in time by the caller and in size here; a node that is down, slow or
// speaks garbage gives an error and nothing else. One question is one request: there is no state.
//
// Of a stopped node the files are read, and nothing is written: goleveldb databases and the consensus WAL, whatever
// state a cut has left them in.
package node

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"solstice"
)

// maxAnswer is the largest answer that is read, in bytes.
const maxAnswer = 64 << 10

// ErrNoAddress means that the node listens nowhere that we know of.
var ErrNoAddress = errors.New("the node has no RPC address")

// Client asks one node. The zero value knows no address.
type Client struct {
	rpc  *endpoint // nil without RPC
	grpc *endpoint // nil with RPC, or without an address from the operator
}

// endpoint is one address and the way to it.
type endpoint struct {
	base string // such as http://127.0.0.1:26657
	http *http.Client
}

// At returns a client for the CometBFT RPC at an address, such as 127.0.0.1:26657. Without one it has nobody to ask.
func At(address string) *Client {
	if address == "" {
		return &Client{}
	}
	return &Client{rpc: dial(address, false, false)}
}

// Find returns a client for the node that runs with these arguments and environment: for Settings.RPC. A node without it
// is asked by gRPC, if grpc (DAEMON_GRPC_ADDRESS) is not empty.
func Find(home solstice.Home, args []string, getenv func(string) string, grpc string) *Client {
	c := &Client{}
	settings := ReadSettings(home, args, getenv)
	if settings.RPC != "" {
		c.rpc = dial(settings.RPC, settings.TLS, false)
	}
	// An RPC address is the node's own. The gRPC address may be the one that Cosmovisor's init writes into every
	// configuration, localhost:9090, and another chain's node may answer there.
	if c.rpc == nil && grpc != "" {
		address, secure := strings.CutPrefix(grpc, "https://")
		c.grpc = dial(strings.TrimPrefix(address, "http://"), secure, true)
	}
	return c
}

// Answer is a height that a node told.
type Answer struct {
	Height int64
	Tied   bool
	Doubt  string
}

// Committed returns the height of the last block that the application has committed. At a halt for an upgrade at
// height H it is H-1 (seen on SDK v0.54 and v0.55).
func (c *Client) Committed(ctx context.Context) (Answer, error) {
	height, err := c.committed(ctx)
	return Answer{Height: height, Tied: true}, err
}

func (c *Client) committed(ctx context.Context) (int64, error) {
	switch {
	case c.rpc != nil:
		return c.rpc.abciInfo(ctx)
	case c.grpc != nil:
		height, err := c.grpc.latestBlock(ctx)
		if err != nil {
			return 0, err
		}
		// The block is stored and may not be executed yet; the one before it is.
		return max(height-1, 0), nil
	}
	return 0, ErrNoAddress
}

// abciInfo reads last_block_height of /abci_info.
func (e *endpoint) abciInfo(ctx context.Context) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.base+"/abci_info", nil)
	if err != nil {
		return 0, err
	}
	resp, err := e.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, err
	}
	return parseABCIInfo(content)
}

func parseABCIInfo(content []byte) (int64, error) {
	var answer struct {
		Error  json.RawMessage `json:"error"`
		Result *struct {
			Response *struct {
				Height json.RawMessage `json:"last_block_height"` // a string; left out at height 0
			} `json:"response"`
		} `json:"result"`
	}
	if err := json.Unmarshal(content, &answer); err != nil {
		return 0, fmt.Errorf("abci_info: %w", err)
	}
	if len(answer.Error) > 0 && string(answer.Error) != "null" {
		return 0, fmt.Errorf("abci_info: %.200s", answer.Error)
	}
	if answer.Result == nil || answer.Result.Response == nil {
		return 0, errors.New("abci_info: the answer has no result")
	}
	text := strings.Trim(string(answer.Result.Response.Height), `"`)
	if text == "" || text == "null" {
		return 0, nil
	}
	height, err := strconv.ParseInt(text, 10, 64)
	if err != nil || height < 0 {
		return 0, fmt.Errorf("abci_info: %.40q is not a height", text)
	}
	return height, nil
}

// dial prepares the way to an address in any form that CometBFT listens on.
func dial(address string, secure, http2 bool) *endpoint {
	network, host := "tcp", address
	if scheme, rest, ok := strings.Cut(address, "://"); ok {
		host = rest
		if scheme == "unix" {
			network = "unix"
		}
	}
	if network == "tcp" {
		host = reachable(hostOnly(host))
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	protocols.SetUnencryptedHTTP2(http2)
	transport := &http.Transport{
		Protocols:    protocols,
		MaxIdleConns: 1,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, host)
		},
		// The certificate is for the name that the public knows; we come over loopback, and all that
		// is asked is a height.
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: true},
		MaxResponseHeaderBytes: maxAnswer,
	}
	scheme, name := "http", host
	if secure {
		scheme = "https"
	}
	if network == "unix" {
		name = "localhost"
	}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &endpoint{base: scheme + "://" + name, http: client}
}

// hostOnly leaves out whatever else an address has: nobody logs in to a node, and a password must not stand in an error.
func hostOnly(address string) string {
	if end := strings.IndexAny(address, "/?#"); end >= 0 {
		address = address[:end]
	}
	return address[strings.LastIndexByte(address, '@')+1:]
}

// reachable turns "all addresses" into one that can be dialled.
func reachable(host string) string {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return host
	}
	if ip := net.ParseIP(name); name == "" || ip != nil && ip.IsUnspecified() {
		name = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			name = "::1"
		}
	}
	return net.JoinHostPort(name, port)
}
