package rehearse

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"solstice"
	"solstice/internal/durable"
	"solstice/snapshot"
)

// mark begins the names of the folders of a home's rehearsals: the folder that they are in may be shared with other homes.
func mark(home solstice.Home) string {
	dir := home.Node
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	sum := sha256.Sum256([]byte(dir))
	return snapshot.RehearsalPrefix + hex.EncodeToString(sum[:4]) + "-"
}

// folder is where a rehearsal works. The lock on it lasts as long as its process, so that the next one knows what is debris.
type folder struct {
	path string
	lock *os.File
}

// makeFolder makes the folder of a rehearsal in a place, which is on the filesystem of the state.
func makeFolder(home solstice.Home, place string, now time.Time) (*folder, error) {
	path := filepath.Join(place, mark(home)+now.UTC().Format("20060102T150405.000"))
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, &solstice.RefusedError{
			Reason: "the copy lies on the filesystem of the state, and no folder can be made there: " + err.Error(),
			Hint:   "rehearse as a user who can write there; or on a copy of your own elsewhere: solstice rehearse --from DIR",
		}
	}
	lock, err := durable.Lock(path)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	return &folder{path, lock}, nil
}

// keptMark is a file that says that a folder was asked for.
const keptMark = "kept"

// keep leaves the folder to the operator.
func (f *folder) keep() error {
	err := os.WriteFile(filepath.Join(f.path, keptMark), nil, 0o600)
	return errors.Join(err, f.lock.Close())
}

// remove removes the folder, and waits for nothing: its processes have ended.
func (f *folder) remove() error {
	err := removeAll(f.path)
	return errors.Join(err, f.lock.Close())
}

// removeAll removes a folder that a process may still be writing to for a moment.
func removeAll(path string) (err error) {
	for range 20 {
		if err = os.RemoveAll(path); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// Sweep removes what rehearsals of this home have left that were cut off, and kills the processes that still run there. Those that
// are at work, and those that were to be kept, stay. It returns the folders that it removed.
func Sweep(home solstice.Home, places []string) (removed []string, err error) {
	for _, place := range places {
		found, _ := filepath.Glob(filepath.Join(place, mark(home)+"*"))
		for _, path := range found {
			if exists(filepath.Join(path, keptMark)) {
				continue
			}
			lock, lockErr := durable.Lock(path)
			if lockErr != nil {
				continue // it is at work
			}
			killErr := killIn(path)
			err = errors.Join(err, killErr, removeAll(path), lock.Close())
			removed = append(removed, path)
		}
	}
	return removed, err
}

// SweepNear is Sweep for the folders in which rehearsals on the home's own state lie.
func SweepNear(home solstice.Home) (removed []string, err error) {
	return Sweep(home, near(home, home.Node))
}

// near are the folders in which a rehearsal of a home may lie, on a state that is in another folder perhaps, the preferred one first.
func near(home solstice.Home, source string) (places []string) {
	folders := []string{home.Dir, source}
	if data, err := filepath.EvalSymlinks(filepath.Join(source, "data")); err == nil {
		folders = append(folders, filepath.Dir(data), data)
	}
	for _, folder := range folders {
		if real, err := filepath.EvalSymlinks(folder); err == nil && !slices.Contains(places, real) {
			places = append(places, real)
		}
	}
	return places
}

// killIn kills the processes that a rehearsal in a folder has started, and waits for their
// end: their program lies there, or they were given a home there. A shell whose working
// directory it is was not started by one.
func killIn(path string) error {
	for deadline := time.Now().Add(10 * time.Second); ; {
		pids := runningIn(path)
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes that can't be killed work in %s: %v", path, pids)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func runningIn(path string) (pids []int) {
	inside := func(link string) bool {
		target, err := os.Readlink(link)
		return err == nil && strings.HasPrefix(target, path+"/")
	}
	for _, pid := range processes() {
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		environ, _ := os.ReadFile(filepath.Join(dir, "environ"))
		if pid == os.Getpid() {
			continue
		}
		if _, alive := readStat(pid); !alive {
			continue
		}
		if inside(filepath.Join(dir, "exe")) || strings.Contains(string(environ), "DAEMON_HOME="+path+"/") {
			pids = append(pids, pid)
		}
	}
	return pids
}
