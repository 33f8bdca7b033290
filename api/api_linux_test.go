package api

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nobody is a user that owns nothing here.
const nobody = 65534

// asNobody does something as another user. The kernel knows users by thread, so this one's thread becomes nobody's, and ends
// with it.
func asNobody(do func()) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread is of no use to anybody else
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			err = errno
			return
		}
		do()
	}()
	<-done
	return err
}

// ask is one question over a connection that the calling thread opens.
func ask(socket string) (answer string, err error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /v1/status HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	content, err := io.ReadAll(conn)
	return string(content), err
}

func serveOne(t *testing.T, socket string) {
	t.Helper()
	server, err := Serve(socket, fake{nil})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
}

// TestOthersAreNotAnswered: another user can't connect; and where somebody has opened the socket to all, is sent away.
func TestOthersAreNotAnswered(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	folder := t.TempDir()
	for _, open := range []string{filepath.Dir(folder), folder} {
		if err := os.Chmod(open, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(folder, "s")
	serveOne(t, socket)
	var answer string
	var err error
	if err := asNobody(func() { answer, err = ask(socket) }); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, os.ErrPermission) {
		t.Errorf("another user: %q, %v", answer, err)
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := asNobody(func() { answer, err = ask(socket) }); err != nil {
		t.Fatal(err)
	}
	if err != nil || !strings.HasPrefix(answer, "HTTP/1.0 403 ") || !strings.Contains(answer, "this socket is for root and for user 0") || strings.Contains(answer, "noded") {
		t.Errorf("another user, by an open socket: %q, %v", answer, err)
	}
	if answer, err := ask(socket); err != nil || !strings.Contains(answer, "noded") {
		t.Errorf("ourselves: %q, %v", answer, err)
	}
}

// TestSocketIsNeverWide: its mode is right from the moment that it is there on, under the widest umask. Had the mode been
// changed afterwards, inotify(7) would tell.
func TestSocketIsNeverWide(t *testing.T) {
	folder := t.TempDir()
	events, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Skip("no inotify here:", err)
	}
	defer unix.Close(events)
	if _, err := unix.InotifyAddWatch(events, folder, unix.IN_CREATE|unix.IN_ATTRIB); err != nil {
		t.Fatal(err)
	}
	old := unix.Umask(0)
	serveOne(t, filepath.Join(folder, "s"))
	unix.Umask(old)
	if info, err := os.Stat(filepath.Join(folder, "s")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info, err)
	}
	buffer := make([]byte, 4096)
	n, err := unix.Read(events, buffer)
	if err != nil {
		t.Fatal(err)
	}
	var seen []uint32
	for at := 0; at < n; {
		event := (*unix.InotifyEvent)(unsafe.Pointer(&buffer[at]))
		seen = append(seen, event.Mask)
		at += unix.SizeofInotifyEvent + int(event.Len)
	}
	if len(seen) != 1 || seen[0] != unix.IN_CREATE {
		t.Errorf("events %x, want one: it was made", seen)
	}
}
