package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"solstice"
	"solstice/readiness"
)

// checkOwner refuses to run a node as another user than the one whose data it is: what it makes there would not be that user's, and
// his next start would fail. It is mostly root who is at the wrong keyboard. It comes before everything else, because the lock may
// be a file, and what a rollback has left to do would be done as the wrong user. Then data/ may be missing for a moment, and the
// node's home tells whose it is.
func (s *Supervisor) checkOwner() error {
	path := s.Home.Data()
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		path = s.Home.Node
		info, err = os.Stat(path)
	}
	if err != nil {
		return nil // what is missing is told by those who need it
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) == os.Geteuid() || s.AllowOtherOwner {
		return nil
	}
	name := strconv.Itoa(int(stat.Uid))
	login := "'#" + name + "'"
	if u, err := user.LookupId(name); err == nil {
		name, login = u.Username, u.Username
	}
	return &solstice.RefusedError{
		Reason: fmt.Sprintf("%s belongs to %s, and this is %s: what one of them makes there, the other may not be able to change later",
			path, readiness.UserName(stat.Uid), readiness.UserName(uint32(os.Geteuid()))),
		Hint: fmt.Sprintf("run it as its owner: User=%s in the unit, or: sudo -E -u %s solstice run start", name, login) +
			"\nor give the node's home to this user: chown -R " + strconv.Itoa(os.Geteuid()) + " " + s.Home.Node +
			"\nor, where a container sees owners that mean nothing: SOLSTICE_ALLOW_OTHER_OWNER=true",
	}
}

// shownExposed is how many of what others can get at are told at a start.
const shownExposed = 10

// tellExposed warns of what others can get at, though it is executed or trusted.
func (s *Supervisor) tellExposed() {
	exposed, err := readiness.Exposed(s.Home, s.now().Settings, s.Trusted)
	for _, e := range exposed[:min(len(exposed), shownExposed)] {
		s.Log.Warn("others can get at what is executed or trusted here", "path", e.Path, "why", e.Why, "do", e.Do)
	}
	if n := len(exposed) - shownExposed; n > 0 {
		s.Log.Warn("others can get at more of it", "files", n)
	}
	if err != nil {
		s.Log.Warn("whether others can get at it can't be looked at", "err", err)
	}
}
