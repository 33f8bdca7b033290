// Package api answers questions about a supervised home over HTTP, on a socket for the supervisor's user and root.
//
// Two things keep others away, and either is enough: the mode of the socket, and the kernel's word on who has connected.
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

	"golang.org/x/sys/unix"

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
	listener, err := listen(path)
	if err != nil {
		return nil, err
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false) // it would look for the short path
	if err := narrow(socket); err != nil {
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
	server := &http.Server{Handler: ours(mux), ConnContext: withPeer, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	go server.Serve(listener)
	return func() {
		server.Close()
		os.Remove(socket)
	}, nil
}

// listen binds a socket that is for us alone from its first moment on, whatever the umask is: on Linux, bind(2) gives it the mode
// that it has before.
func listen(path string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.Fchmod(int(fd), 0o600) }) // an error where narrow has to do
	}}
	return config.Listen(context.Background(), "unix", path)
}

// narrow sees to the mode of the socket where the system did not take it from listen. Until then the folder's mode guards it.
func narrow(socket string) error {
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() == 0o600 {
		return err
	}
	return os.Chmod(socket, 0o600)
}

// peerKey is where a request's context has the user at the other end, if the kernel tells.
type peerKey struct{}

func withPeer(ctx context.Context, conn net.Conn) context.Context {
	uid, err := peer(conn.(*net.UnixConn))
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, uid)
}

// peer is the user who has connected, by the kernel's word.
func peer(conn *net.UnixConn) (uid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var askErr error
	err = raw.Control(func(fd uintptr) { uid, askErr = peerOf(int(fd)) })
	return uid, errors.Join(err, askErr)
}

// ours answers root and the user that we run as, and nobody else, whatever somebody has done to the mode of the socket.
func ours(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if uid, known := r.Context().Value(peerKey{}).(int); known && (uid == 0 || uid == os.Geteuid()) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Connection", "close")
		http.Error(w, fmt.Sprintf("this socket is for root and for user %d", os.Geteuid()), http.StatusForbidden)
	})
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
	if errors.Is(err, fs.ErrPermission) || err == nil && resp.StatusCode == http.StatusForbidden {
		if resp != nil {
			resp.Body.Close()
		}
		return s, &solstice.RefusedError{
			Reason: "a supervisor answers only root and the user that it runs as: " + socket,
			Hint:   "run this as one of them",
		}
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
