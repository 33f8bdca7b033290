// Package api answers questions about a supervised home over HTTP, on a socket that only the
// supervisor's user can open.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"solstice"
)

// ErrNotRunning means that nobody answers at the socket.
var ErrNotRunning = errors.New("no supervisor is running")

// maxSocketPath is the longest path that the system binds a socket to, in bytes (unix(7)).
const maxSocketPath = 100

// Serve answers at the socket until the returned function is called, which removes it. A socket that a dead
// supervisor left there is replaced; that none is alive is for the caller to know. status is called from many
// goroutines.
func Serve(socket string, status func(context.Context) (solstice.Status, error)) (stop func(), err error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	path, done, err := short(socket)
	if err != nil {
		return nil, err
	}
	defer done()
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false) // it would look for the short path
	if err := os.Chmod(socket, 0o600); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	mux := http.NewServeMux()
	mux.Handle("GET /v1/status", handler(func(w http.ResponseWriter, r *http.Request) error {
		s, err := status(r.Context())
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/json")
		return json.NewEncoder(w).Encode(s)
	}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	go server.Serve(listener)
	return func() {
		server.Close()
		os.Remove(socket)
	}, nil
}

// handler turns an error into an answer.
type handler func(http.ResponseWriter, *http.Request) error

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h(w, r); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// Status asks the supervisor at the socket. The error is ErrNotRunning if there is none.
func Status(ctx context.Context, socket string) (solstice.Status, error) {
	var s solstice.Status
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			path, done, err := short(socket)
			if err != nil {
				return nil, err
			}
			defer done()
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://solstice/v1/status", nil)
	if err != nil {
		return s, err
	}
	resp, err := client.Do(req)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return s, ErrNotRunning
	}
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return s, fmt.Errorf("the supervisor says: %s", text)
	}
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// short returns a path for a socket that the system accepts however long the real one is: through the open
// folder, where the system has /proc. Call done when the path has been used.
func short(socket string) (path string, done func(), err error) {
	if len(socket) <= maxSocketPath {
		return socket, func() {}, nil
	}
	folder, err := os.Open(filepath.Dir(socket))
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join("/proc/self/fd", strconv.Itoa(int(folder.Fd())), filepath.Base(socket))
	return path, func() { folder.Close() }, nil
}
