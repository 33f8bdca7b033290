package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

// maxAnswer is the largest answer that is read, in bytes, where a question has no limit
// of its own.
const maxAnswer = 64 << 10

// errTooLarge means that an answer is larger than its question may cost.
var errTooLarge = errors.New("the answer is too large")

// endpoint is one address that a node listens on.
type endpoint struct {
	kind    string   // RPC or gRPC
	address string   // for people: a host and a port, or the path of a socket
	base    string   // such as http://127.0.0.1:26657
	network string   // tcp or unix
	hosts   []string // dialled in this order; the first that accepts counts
	owner   *owner   // whose node has to answer; nil: anybody's

	transport *http.Transport

	mu    sync.Mutex
	idle  *link // the connection of the last answer, for the next question
	epoch int   // how often forget was called
}

// link is one connection, and who answers over it. Whoever answers once answers until it
// is closed: another process that listens on the same address later has a connection of
// its own, and is asked who it is.
type link struct {
	conn
	raw   net.Conn
	who   peer
	epoch int // of the endpoint, when it was made
}

// conn is an HTTP connection: an http.ClientConn.
type conn interface {
	http.RoundTripper
	Err() error // why it can't be used any more
	Close() error
}

// question is one HTTP request.
type question struct {
	path  string // with its parameters
	body  []byte // of a gRPC request; nil: GET
	limit int64  // how many bytes of the answer are read
}

// reply is the answer to a question, no longer than its limit.
type reply struct {
	status  int
	header  http.Header
	trailer http.Header // known only where the answer was read to its end
	content []byte
	cut     error // why the content is not whole; nil where it is
}

// ask sends a question to whom answers at the address, once it is known who that is. A
// foreign node is not asked at all.
func (e *endpoint) ask(ctx context.Context, q question) (reply, peer, error) {
	if l := e.takeIdle(); l != nil {
		r, reusable, err := l.ask(ctx, e.base, q)
		if err == nil {
			e.release(l, reusable)
			return r, l.who, nil
		}
		l.Close()
		if ctx.Err() != nil {
			return reply{}, peer{}, e.fault(err)
		}
		// The server has closed the connection since the last question, which servers do.
	}
	l, err := e.connect(ctx)
	if err != nil {
		return reply{}, peer{}, e.fault(err)
	}
	r, reusable, err := l.ask(ctx, e.base, q)
	if err != nil {
		l.Close()
		return reply{}, peer{}, e.fault(err)
	}
	e.release(l, reusable)
	return r, l.who, nil
}

// connect makes a connection and finds out who answers over it.
func (e *endpoint) connect(ctx context.Context) (*link, error) {
	l, err := e.dial(ctx)
	if err != nil {
		return nil, err
	}
	if e.owner == nil {
		l.who = peer{doubt: "no home to compare with"}
		return l, nil
	}
	said, reusable, err := e.identify(ctx, l)
	if err == nil {
		l.who, err = e.owner.judge(said, l.raw, e)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	if reusable {
		return l, nil
	}
	l.Close()
	if l, err = e.dial(ctx); err != nil {
		return nil, err
	}
	l.who = peer{doubt: "it closes the connection after each answer, so the next one can be another node's"}
	return l, nil
}

// fault says where a question failed. A foreign node's error says so itself.
func (e *endpoint) fault(err error) error {
	if errors.Is(err, ErrForeign) {
		return err
	}
	return fmt.Errorf("%s at %s: %w", e.kind, e.address, err)
}

// takeIdle returns the connection of the last answer, if it is open and nobody else uses
// it, or nil.
func (e *endpoint) takeIdle() *link {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.idle
	e.idle = nil
	if l == nil || l.Err() != nil {
		return nil
	}
	return l
}

// release keeps a connection for the next question, if it can be used again.
func (e *endpoint) release(l *link, reusable bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !reusable || e.idle != nil || l.epoch != e.epoch {
		l.Close()
		return
	}
	e.idle = l
}

// forget makes the next question ask again who answers.
func (e *endpoint) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.epoch++
	if e.idle != nil {
		e.idle.Close()
		e.idle = nil
	}
}

// ask sends a question over this connection, and over no other. An error means that no
// answer has begun.
func (l *link) ask(ctx context.Context, base string, q question) (r reply, reusable bool, err error) {
	method, body := http.MethodGet, io.Reader(http.NoBody)
	if q.body != nil {
		method, body = http.MethodPost, bytes.NewReader(q.body)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+q.path, body)
	if err != nil {
		return reply{}, false, err
	}
	if q.body != nil {
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("TE", "trailers")
	}
	resp, err := l.RoundTrip(req)
	if err != nil {
		return reply{}, false, err
	}
	defer resp.Body.Close()
	r.content, r.cut = io.ReadAll(io.LimitReader(resp.Body, q.limit+1))
	if r.cut == nil && int64(len(r.content)) > q.limit {
		r.content, r.cut = r.content[:q.limit], errTooLarge
	}
	r.status, r.header, r.trailer = resp.StatusCode, resp.Header, resp.Trailer
	// An HTTP/2 connection carries on after an answer that was not read to its end.
	reusable = !resp.Close && (r.cut == nil || errors.Is(r.cut, errTooLarge) && resp.ProtoMajor == 2)
	return r, reusable, nil
}

// newEndpoint prepares the way to an address in any form that CometBFT listens on.
func newEndpoint(kind, address string, secure bool) *endpoint {
	e := &endpoint{kind: kind, network: "tcp"}
	if scheme, rest, ok := strings.Cut(address, "://"); ok {
		address = rest
		if scheme == "unix" {
			e.network = "unix"
		}
	}
	e.hosts = []string{address}
	name := "localhost:80"
	if e.network == "tcp" {
		e.hosts = reachable(hostOnly(address))
		name = e.hosts[0]
	}
	e.address = e.hosts[0]
	e.base = "http://" + name
	if secure {
		e.base = "https://" + name
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(kind != gRPC)
	protocols.SetHTTP2(kind == gRPC)
	protocols.SetUnencryptedHTTP2(kind == gRPC)
	e.transport = &http.Transport{
		Protocols: protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return ctx.Value(dialled{}).(net.Conn), nil
		},
		// The certificate is for the name that the public knows; we come over loopback,
		// and all that is asked is a height.
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: true},
		MaxResponseHeaderBytes: maxAnswer,
	}
	return e
}

// dialled is the key of a context's connection that the transport is to use.
type dialled struct{}

// dial makes a connection.
func (e *endpoint) dial(ctx context.Context) (*link, error) {
	var raw net.Conn
	var faults []error
	for _, host := range e.hosts {
		conn, err := new(net.Dialer).DialContext(ctx, e.network, host)
		if err == nil {
			raw = conn
			break
		}
		faults = append(faults, err)
	}
	switch {
	case raw != nil:
	case len(faults) == 2:
		return nil, fmt.Errorf("%w; %w", faults[0], faults[1])
	default:
		return nil, faults[0]
	}
	e.mu.Lock()
	epoch := e.epoch
	e.mu.Unlock()
	scheme, name, _ := strings.Cut(e.base, "://")
	conn, err := e.transport.NewClientConn(context.WithValue(ctx, dialled{}, raw), scheme, name)
	if err != nil {
		raw.Close()
		return nil, err
	}
	return &link{conn: conn, raw: raw, epoch: epoch}, nil
}

// hostOnly leaves out whatever else an address has: nobody logs in to a node, and a
// password must not stand in an error.
func hostOnly(address string) string {
	if end := strings.IndexAny(address, "/?#"); end >= 0 {
		address = address[:end]
	}
	return address[strings.LastIndexByte(address, '@')+1:]
}

// reachable turns "all addresses" into those that can be dialled: loopback of its own
// family, then of the other one, as a machine may have only one of them.
func reachable(host string) []string {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		return []string{host}
	}
	const v4, v6 = "127.0.0.1", "::1"
	names := []string{name}
	if ip := net.ParseIP(name); name == "" || ip != nil && ip.IsUnspecified() {
		names = []string{v4, v6}
		if ip != nil && ip.To4() == nil {
			names = []string{v6, v4}
		}
	}
	for i := range names {
		names[i] = net.JoinHostPort(names[i], port)
	}
	return names
}
