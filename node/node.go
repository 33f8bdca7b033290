// Package node asks a running node how far it is.
//
// Nothing has to be enabled for it: the address of the CometBFT RPC is found where the node itself
// finds it; gRPC is for a node without one. An answer is bounded in time by the caller and in size here; a node that is down, slow or
// speaks garbage gives an error and nothing else. One question is one request: there is no state.
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
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

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

// Find returns a client for the node that runs with these arguments and environment. The RPC address comes from
// --rpc.laddr, else NAME_RPC_LADDR (the SDK reads its environment under the binary's name), else
// config/config.toml. A node without any of these has no RPC; it is asked by gRPC, if grpc (DAEMON_GRPC_ADDRESS) is not
// empty.
func Find(home solstice.Home, args []string, getenv func(string) string, grpc string) *Client {
	c := &Client{}
	laddr := rpcAddress(home, args, getenv)
	if laddr.address != "" {
		c.rpc = dial(laddr.address, laddr.tls, false)
	}
	// An RPC address is the node's own. The gRPC address may be the one that Cosmovisor's init writes into every
	// configuration, localhost:9090, and another chain's node may answer there.
	if c.rpc == nil && grpc != "" {
		address, secure := strings.CutPrefix(grpc, "https://")
		c.grpc = dial(strings.TrimPrefix(address, "http://"), secure, true)
	}
	return c
}

// Committed returns the height of the last block that the application has committed. At a halt for an upgrade at
// height H it is H-1 (seen on SDK v0.54 and v0.55).
func (c *Client) Committed(ctx context.Context) (int64, error) {
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

type listenAddress struct {
	address string
	tls     bool
}

func rpcAddress(home solstice.Home, args []string, getenv func(string) string) listenAddress {
	var file struct {
		RPC struct {
			Laddr   string `toml:"laddr"`
			TLSCert string `toml:"tls_cert_file"`
			TLSKey  string `toml:"tls_key_file"`
		} `toml:"rpc"`
	}
	// A config.toml that can't be read leaves no address. The node itself will complain about it.
	if content, err := os.ReadFile(filepath.Join(home.Node, "config", "config.toml")); err == nil {
		_ = toml.Unmarshal(content, &file)
	}
	found := listenAddress{file.RPC.Laddr, file.RPC.TLSCert != "" && file.RPC.TLSKey != ""}
	prefix := strings.NewReplacer(".", "_", "-", "_").Replace(strings.ToUpper(home.Name))
	if value := getenv(prefix + "_RPC_LADDR"); value != "" {
		found.address = value
	}
	if value, ok := Flag(args, "rpc.laddr"); ok {
		found.address = value
	}
	return found
}

// Flag returns the value of the last --name VALUE or --name=VALUE in args.
func Flag(args []string, name string) (value string, found bool) {
	for i, arg := range args {
		if rest, ok := strings.CutPrefix(arg, "--"+name); ok {
			switch {
			case strings.HasPrefix(rest, "="):
				value, found = rest[1:], true
			case rest == "" && i+1 < len(args):
				value, found = args[i+1], true
			}
		}
	}
	return value, found
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
		host = reachable(host)
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
