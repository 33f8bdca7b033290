package readiness

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"solstice"
	"solstice/snapshot"
)

var diskChecks = []check{
	{"snapshot", snapshotFits}, {"space", migrationFits}, {"writable", foldersWritable}, {"owner", oneOwner},
}

// snapshotFits: links and clones need no room, a full copy needs that of the data.
func snapshotFits(_ context.Context, s Subject) finding {
	if s.NoBackup {
		return warning("unset UNSAFE_SKIP_BACKUP", "UNSAFE_SKIP_BACKUP is true: the upgrade has no way back")
	}
	if err := s.Snapshots.Room(); err != nil {
		return notReady(solstice.HintOf(err, "make room, or name another folder in DAEMON_DATA_BACKUP_DIR"), "%v", err)
	}
	if err := s.Snapshots.Fault(); err != nil {
		return notReady(solstice.HintOf(err, ""), "%v", err)
	}
	dir, how, err := s.Snapshots.Reach()
	switch {
	case err != nil:
		return unknown("see that data/ is there", "%v", err)
	case how == snapshot.Copy:
		return warning("name a folder on the filesystem of data/ in DAEMON_DATA_BACKUP_DIR, of the same owner",
			"a snapshot in %s is a full copy: the node stands still for as long as it takes", dir)
	}
	return ok("a snapshot in %s takes next to no space (%s)", dir, how)
}

// A migration writes what it changes anew, before the old is compacted away: how much, nobody can know before. A tenth of the
// application's database, and 1 GiB at least, is what we ask for.
const (
	growthShare = 10
	growthLeast = 1 << 30
)

func migrationFits(_ context.Context, s Subject) finding {
	var st unix.Statfs_t
	if err := unix.Statfs(s.Home.Data(), &st); err != nil {
		return unknown("see that data/ is there", "%s: %v", s.Home.Data(), err)
	}
	free := int64(st.Bavail) * int64(st.Bsize)
	var size int64
	err := filepath.WalkDir(filepath.Join(s.Home.Data(), "application.db"), func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil // it is deleted while the node runs
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	if err != nil {
		return unknown("see that data/ can be read", "%v", err)
	}
	if want := max(size/growthShare, growthLeast); free < want {
		return warning("make room: a migration writes what it changes anew", "%s free beside data/, and %s are wanted: a tenth of application.db, 1 GiB at least", gibi(free), gibi(want))
	}
	return ok("%s free beside data/, application.db has %s", gibi(free), gibi(size))
}

func gibi(bytes int64) string { return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30)) }

func foldersWritable(_ context.Context, s Subject) finding {
	for _, folder := range []string{s.Home.Root(), s.Home.Data(), s.Home.StateDir} {
		if err := unix.Access(folder, unix.W_OK|unix.X_OK); err != nil && !(folder == s.Home.StateDir && err == unix.ENOENT) {
			return notReady("run this as the user that the node runs as, or give it the folder", "%s can't be written to: %v", folder, err)
		}
	}
	return ok("cosmovisor/ and data/ can be written to")
}

// oneOwner: what belongs to somebody else can't be linked, and perhaps not replaced.
func oneOwner(_ context.Context, s Subject) finding {
	owners := map[string]uint32{}
	for _, folder := range []string{s.Home.Root(), s.Home.Data()} {
		info, err := os.Stat(folder)
		if err != nil {
			return unknown("see that it is there", "%v", err)
		}
		stat, isStat := info.Sys().(*syscall.Stat_t)
		if !isStat {
			return unknown("look at the owners by hand", "owners are not known on this system")
		}
		owners[folder] = stat.Uid
	}
	if root, data := owners[s.Home.Root()], owners[s.Home.Data()]; root != data {
		return warning("chown one of them", "cosmovisor/ belongs to user %d and data/ to user %d", root, data)
	}
	return ok("cosmovisor/ and data/ have one owner")
}
