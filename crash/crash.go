// Package crash names what has ended a node, by its exit code or signal, the last words on its stderr, the kernel's counts of
// what it killed for memory, the room on the disk, and the libraries that are missing.
//
// The words are those of the programs that print them, and each names its source. Where stderr is not read the rest has to do, and
// then the name says less. What the Cosmos SDK logs it logs on stdout, which is never read: of a node that logs an error and ends
// without a panic, only what cobra prints of it on stderr is known. Nothing is decided by a name: it is for people.
package crash

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"solstice"
	"solstice/internal/shell"
)

// Facts are what is known of a node that ended with an error.
type Facts struct {
	Code   int            // exit code, when Signal is 0
	Signal syscall.Signal // what killed it, else 0

	Read bool // its stderr was read
	Said Said

	Kills   Kills    // since it was started
	Room    Room     // on the filesystem of its data
	Missing []string // libraries that its binary needs, a sentence each

	Data      string // folder
	Libraries string // folder of the binary's own libraries
}

// word is one by which a node tells on stderr what ended it.
type word struct {
	kind    solstice.CrashKind
	pattern *regexp.Regexp
}

// words are all of them. The first line that matches wins. They are compiled when a node has crashed: each start of solstice would
// wait for that.
var words = sync.OnceValue(func() []word {
	return []word{
		// x/upgrade/abci.go. Older SDKs panic with them; newer ones return them, and a node that replays the block ends with them as its error.
		{solstice.CrashWrongBinary, regexp.MustCompile(`UPGRADE "[^"]+" NEEDED at |BINARY UPDATED BEFORE TRIGGER|[Ww]rong app version \d+, upgrade handler is missing for `)},
		// store/rootmulti/store.go: the binary has a store that no upgrade has added yet. SDK v0.45 says it in fewer words.
		{solstice.CrashWrongBinary, regexp.MustCompile(`version of store "?[\w-]+"? mismatch root store's version|new stores should be added using StoreUpgrades`)},
		// state/validation.go of Tendermint and CometBFT (the older ones write Wrong), consensus/replay.go.
		{solstice.CrashAppHash, regexp.MustCompile(`[Ww]rong Block\.Header\.(AppHash|LastResultsHash)|\.AppHash does not match AppHash after replay`)},
		// goleveldb and pebble hand on the error of flock(2) and fcntl(2); cosmos-db, cometbft-db and tm-db write before it what they
		// were doing (https://github.com/cosmos/cosmos-sdk/issues/3001, 12249). Other things are temporarily unavailable too: a fork, a socket.
		{solstice.CrashLocked, regexp.MustCompile(`(?i)(\bdb\b|database|leveldb|pebble|/LOCK\b)[^\n]*: resource temporarily unavailable|^(panic|Error): resource temporarily unavailable|^resource temporarily unavailable`)},
		// pebble/vfs/file_lock_unix.go, goleveldb/leveldb/storage/storage.go, badger/dir_unix.go, rocksdb/env/fs_posix.cc,
		// wasmvm's internal/api/lib.go.
		{solstice.CrashLocked, regexp.MustCompile(`lock held by current process|leveldb/storage: already locked|Another process is using this Badger database|While lock file: |[Cc]ould not lock exclusive\.lock`)},
		// elf/dl-load.c and elf/rtld.c of glibc, ldso/dynlink.c of musl.
		{solstice.CrashLibrary, regexp.MustCompile("error while loading shared libraries: |version `[^']+' not found \\(required by |Error loading shared library |Error relocating [^:]+: .*symbol not found")},
		// ENOSPC and EDQUOT in the words of Go, of C libraries and of Rust.
		{solstice.CrashDisk, regexp.MustCompile(`(?i)no space left on device|disk quota exceeded`)},
		// Go's runtime (mheap.go, malloc.go, mem_linux.go), Rust's alloc, the C++ library.
		{solstice.CrashMemory, regexp.MustCompile(`runtime: out of memory|fatal error: (runtime: )?(pageAlloc: )?(out of memory|cannot allocate memory)|^memory allocation of \d+ bytes failed|std::bad_alloc|(?i:cannot allocate memory)`)},
	}
})

// missingHandler is what x/upgrade says when the data has applied a plan and the binary is
// from before it.
var missingHandler = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`upgrade handler is missing for (.+?) upgrade plan`)
})

// Name names an end. At and End are left to the caller, who knows the process.
func Name(f Facts) solstice.Crash {
	c := solstice.Crash{Lines: f.Said.Panic}
	if c.Lines == nil {
		c.Lines = f.Said.Last[max(len(f.Said.Last)-shownLast, 0):]
	}
	name := func(kind solstice.CrashKind, format string, values ...any) solstice.Crash {
		c.Kind, c.Cause = kind, fmt.Sprintf(format, values...)
		c.Do = do(kind, f)
		return c
	}
	killed := f.Signal == syscall.SIGKILL || f.Signal == 0 && f.Code == 128+int(syscall.SIGKILL)
	switch {
	case killed && f.Kills.Group > 0:
		return name(solstice.CrashMemory, "the kernel has killed it for want of memory, as its control group counts")
	case killed && f.Kills.Machine > 0:
		return name(solstice.CrashMemory, "it was killed, and the kernel has killed for want of memory on this machine while it ran")
	}
	if kind, line := f.Said.find(); line != "" {
		if !slices.Contains(c.Lines, line) {
			c.Lines = slices.Insert(slices.Clone(c.Lines), 0, line)
		}
		c := name(kind, "%s: %s", said[kind], line)
		if plan := missingHandler().FindStringSubmatch(line); plan != nil {
			c.Do = "the data has applied plan " + strconv.Quote(plan[1]) + ": run its binary, with solstice stopped: solstice switch " + shell.Quote(plan[1])
		}
		return c
	}
	switch {
	case killed && f.Kills.Known:
		return name(solstice.CrashKilled, "it was killed by signal 9, and not by the kernel for want of memory, as far as that counts")
	case killed:
		return name(solstice.CrashKilled, "it was killed by signal 9; whether for want of memory can't be seen here")
	case slices.Contains(ownFaults, f.Signal):
		return name(solstice.CrashPanic, "it crashed with signal %d (%v)", int(f.Signal), f.Signal)
	case f.Signal != 0:
		return name(solstice.CrashKilled, "it was ended by signal %d (%v)", int(f.Signal), f.Signal)
	case len(f.Missing) > 0:
		return name(solstice.CrashLibrary, "%s: %s", said[solstice.CrashLibrary], strings.Join(f.Missing, "; "))
	case f.Room.full():
		return name(solstice.CrashDisk, "%s: %s on the filesystem of %s", said[solstice.CrashDisk], f.Room, f.Data)
	case f.Said.Panic != nil:
		return name(solstice.CrashPanic, "%s", f.Said.Panic[0])
	case f.Code == goPanic && !f.Read:
		return name(solstice.CrashPanic, "it ended as a Go program does after a panic; what it printed stands above")
	case f.Code == notFound:
		return name(solstice.CrashUnknown, "it ended as a shell or a loader does that does not find what it should run")
	case !f.Read:
		return name(solstice.CrashUnknown, "what it printed stands above")
	case len(f.Said.Last) == 0:
		return name(solstice.CrashUnknown, "it said nothing on stderr; what it logged stands above")
	}
	return name(solstice.CrashUnknown, "its last words on stderr: %s", f.Said.Last[len(f.Said.Last)-1])
}

// ownFaults are the signals that a program gets for what it does itself (signal(7)).
var ownFaults = []syscall.Signal{syscall.SIGSEGV, syscall.SIGABRT, syscall.SIGBUS, syscall.SIGILL, syscall.SIGFPE, syscall.SIGSYS, syscall.SIGTRAP}

// Exit codes with a meaning: that of a Go program after a panic (runtime/panic.go), and that of shells and of ld.so.
const (
	goPanic  = 2
	notFound = 127
)

// said are what the kinds mean, before the words by which they are known.
var said = map[solstice.CrashKind]string{
	solstice.CrashWrongBinary: "it is the wrong binary for this height",
	solstice.CrashAppHash:     "it has another state than its chain",
	solstice.CrashLocked:      "another process has its databases open",
	solstice.CrashLibrary:     "a library is missing",
	solstice.CrashDisk:        "the disk is full",
	solstice.CrashMemory:      "it ran out of memory",
}

// do is what the operator can do about a kind.
func do(kind solstice.CrashKind, f Facts) string {
	switch kind {
	case solstice.CrashWrongBinary:
		return "see which one is in use and what is pending: solstice status; put another in use with: solstice switch NAME"
	case solstice.CrashAppHash:
		return "starting it again does not help: compare its version with the one that the chain runs, then take it back to a state from before: solstice snapshot list"
	case solstice.CrashLocked:
		return "find the process and end it: fuser -v " + f.Data + "/*.db/LOCK"
	case solstice.CrashLibrary:
		return "install it, or put it into " + f.Libraries
	case solstice.CrashDisk:
		return "make room on the filesystem of " + f.Data + "; snapshots that are not needed: solstice snapshot list"
	case solstice.CrashMemory:
		return "give it more memory (the machine's, or the limit of its service or container), or let it use less"
	case solstice.CrashKilled:
		return "find out who has done it: journalctl -k, dmesg, the log of what watches over this machine"
	case solstice.CrashPanic:
		return "look for its first line in what the chain has announced; if it stays, take the node back: solstice snapshot list"
	}
	return "read what the node has printed, on stdout too"
}
