// Package api answers questions about a supervised home over HTTP, on a socket for the supervisor's user and root.
//
// Two things keep others away, and either is enough: the mode of the socket, and the kernel's word on who has connected.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"solstice"
)

// ErrNotRunning means that nobody answers at the socket.
var ErrNotRunning = errors.New("no supervisor is running")

// answerTime is how long a supervisor may take to say how it is. It says so while its loop
// is held up, too.
const answerTime = 3 * time.Second

// maxSocketPath is the longest path that the system binds a socket to, in bytes (unix(7)).
const maxSocketPath = 100

// Supervisor is what answers. It is called from many goroutines.
type Supervisor interface {
	Status(ctx context.Context) (solstice.Status, error)
	Snapshot(ctx context.Context, name string) (solstice.Paused, error)
	Reload(ctx context.Context) (solstice.Reloading, error)
}

// Server answers at a socket.
type Server struct {
	socket   string
	listener *net.UnixListener
	http     http.Server
}

// Serve begins to answer at the socket. A socket that a dead supervisor left there is replaced; that none is alive is for the
// caller to know.
func Serve(socket string, supervisor Supervisor) (*Server, error) {
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
	if err := narrow(socket); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return serve(socket, listener, supervisor)
}

// Resume goes on where a Server has given its socket away.
func Resume(socket string, listening *os.File, supervisor Supervisor) (*Server, error) {
	listener, err := net.FileListener(listening)
	listening.Close()
	if err != nil {
		return nil, err
	}
	return serve(socket, listener, supervisor)
}

func serve(socket string, listener net.Listener, supervisor Supervisor) (*Server, error) {
	unixListener, ok := listener.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s is no socket of this system", listener.Addr()), listener.Close())
	}
	unixListener.SetUnlinkOnClose(false) // it would look for the short path
	s := &Server{socket: socket, listener: unixListener, http: http.Server{
		Handler: ours(routes(supervisor)), ConnContext: withPeer, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute,
	}}
	go s.http.Serve(unixListener)
	return s, nil
}

func routes(supervisor Supervisor) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /v1/status", handler(func(w http.ResponseWriter, r *http.Request) error {
		s, err := supervisor.Status(r.Context())
		return answer(w, s, err)
	}))
	mux.Handle("POST /v1/snapshots/{name}", handler(func(w http.ResponseWriter, r *http.Request) error {
		taken, err := supervisor.Snapshot(r.Context(), r.PathValue("name"))
		return answer(w, taken, err)
	}))
	mux.Handle("POST /v1/reload", handler(func(w http.ResponseWriter, r *http.Request) error {
		begun, err := supervisor.Reload(r.Context())
		return answer(w, begun, err)
	}))
	return mux
}

// Close ends it and removes the socket.
func (s *Server) Close() {
	s.http.Close()
	os.Remove(s.socket)
}

// Hand ends it and gives the listening socket away: who connects waits until somebody resumes. Answers that are under way are
// finished, if they don't take long.
func (s *Server) Hand() (listening *os.File, err error) {
	listening, err = s.listener.File()
	ctx, cancel := context.WithTimeout(context.Background(), finishTimeout)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	return listening, err
}

// finishTimeout is longer than a status takes.
const finishTimeout = 500 * time.Millisecond

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

// answer writes a result as JSON.
func answer(w http.ResponseWriter, result any, err error) error {
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(result)
}

// handler turns an error into an answer: a refusal is a conflict with its two lines as JSON.
type handler func(http.ResponseWriter, *http.Request) error

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	err := h(w, r)
	var refused *solstice.RefusedError
	switch {
	case errors.As(err, &refused):
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusConflict)
		_ = json.NewEncoder(w).Encode(refusal{refused.Reason, refused.Hint})
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// refusal is a *solstice.RefusedError on its way.
type refusal struct {
	Reason string `json:"reason"`
	Hint   string `json:"hint"`
}

// Status asks the supervisor at the socket. The error is ErrNotRunning if there is none,
// and a *SilentError if it does not answer until the deadline, or without one within
// answerTime.
func Status(ctx context.Context, socket string) (s solstice.Status, err error) {
	if _, bounded := ctx.Deadline(); !bounded {
		within, cancel := context.WithTimeout(ctx, answerTime)
		defer cancel()
		ctx = within
	}
	err = call(ctx, socket, http.MethodGet, "/v1/status", &s)
	if errors.Is(err, context.DeadlineExceeded) {
		err = &SilentError{PID: listenerOf(socket)}
	}
	return s, err
}

// SilentError means that a supervisor runs and does not answer.
type SilentError struct {
	PID int // 0: not known
}

func (e *SilentError) Error() string {
	if e.PID == 0 {
		return "a supervisor runs and does not answer"
	}
	return fmt.Sprintf("the supervisor, pid %d, does not answer: %s", e.PID, doing(e.PID))
}

// Hints is what to do about it.
func (e *SilentError) Hints() []string {
	if e.PID != 0 && doing(e.PID) == stoppedBySignal {
		return []string{fmt.Sprintf("let it go on: kill -CONT %d", e.PID)}
	}
	return []string{"its log says what it did last; the node runs on beside it"}
}

const stoppedBySignal = "it was stopped by a signal"

// doing is what a process does that does not answer, as far as the kernel tells (proc_pid_stat(5)).
func doing(pid int) string {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	switch {
	case strings.HasPrefix(state, "T"), strings.HasPrefix(state, "t"):
		return stoppedBySignal
	case strings.HasPrefix(state, "D"):
		return "it waits for a disk"
	}
	return "it hangs, or has too much to do"
}

// listenerOf is the process that listens at a socket, or 0.
func listenerOf(socket string) (pid int) {
	path, done, err := short(socket)
	if err != nil {
		return 0
	}
	defer done()
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return 0
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { pid, _ = listenerPID(int(fd)) })
	}
	return pid
}

// Snapshot has the supervisor stop its node, take a snapshot whose ID begins with name, and
// start the node again. The error is ErrNotRunning if there is no supervisor, a
// *SilentError if it does not answer, and a *solstice.RefusedError if it declined.
func Snapshot(ctx context.Context, socket, name string) (taken solstice.Paused, err error) {
	if _, err := Status(ctx, socket); err != nil { // this takes as long as it takes
		return taken, err
	}
	err = call(ctx, socket, http.MethodPost, "/v1/snapshots/"+url.PathEscape(name), &taken)
	return taken, err
}

// Reload has the supervisor give way to the program that lies where its own was when it was started. It answers once that has been
// tried, and just before it takes over. The errors are those of Snapshot.
func Reload(ctx context.Context, socket string) (begun solstice.Reloading, err error) {
	if _, err := Status(ctx, socket); err != nil {
		return begun, err
	}
	err = call(ctx, socket, http.MethodPost, "/v1/reload", &begun)
	return begun, err
}

// call asks the supervisor and decodes its answer.
func call(ctx context.Context, socket, method, path string, result any) error {
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
	req, err := http.NewRequestWithContext(ctx, method, "http://solstice"+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return ErrNotRunning
	}
	if errors.Is(err, fs.ErrPermission) || err == nil && resp.StatusCode == http.StatusForbidden {
		if resp != nil {
			resp.Body.Close()
		}
		return &solstice.RefusedError{
			Reason: "a supervisor answers only root and the user that it runs as: " + socket,
			Hint:   "run this as one of them",
		}
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return json.NewDecoder(resp.Body).Decode(result)
	case http.StatusNotFound:
		return &solstice.RefusedError{Reason: "the supervisor that runs is of a version that can't do this", Hint: "start it anew with this version"}
	case http.StatusConflict:
		var r refusal
		if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&r); err != nil {
			return fmt.Errorf("read the supervisor's refusal: %w", err)
		}
		return &solstice.RefusedError{Reason: r.Reason, Hint: r.Hint}
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	return fmt.Errorf("the supervisor says: %s", text)
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
