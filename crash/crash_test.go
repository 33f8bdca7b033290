package crash

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"solstice"
)

// said is what a node has said that printed this.
func saidOf(text string) Said {
	var t Tail
	_, _ = t.Write([]byte(text))
	return t.Said()
}

// TestWords: the words that programs print, and what they mean. Each is from a report of who has seen it, or from the program's source.
func TestWords(t *testing.T) {
	for _, tt := range []struct {
		name, said string
		code       int
		kind       solstice.CrashKind
		line       string // the first that is shown
	}{
		{"blocksync-cometbft-0.39", "panic: Failed to process committed block (5:4F8B60DC): wrong Block.Header.AppHash.  Expected D4F59E6E87ED29470E, got 606728BD6A3E7EBAB89CF7\n\ngoroutine 78 [running]:\ngithub.com/cometbft/cometbft/blocksync.(*Reactor).poolRoutine(0xc000d0cd00)\n", 2,
			solstice.CrashAppHash, "panic: Failed to process committed block"},
		// https://github.com/Kava-Labs/kava/issues/617
		{"fastsync-tendermint-0.33", "panic: Failed to process committed block (521873:38E341D2): wrong Block.Header.AppHash.  Expected D4F59E6E, got 606728BD\n\ngoroutine 78 [running]:\ngithub.com/tendermint/tendermint/blockchain/v0.(*BlockchainReactor).poolRoutine(0xc000d0cd00)\n", 2,
			solstice.CrashAppHash, "panic: Failed to process committed block"},
		// https://github.com/bnb-chain/node-binary/issues/207
		{"fastsync-tendermint-0.32", "panic: Failed to process committed block (90913099:6EAF26E7): Wrong Block.Header.AppHash.  Expected A74D9895, got 1F7F6326\n", 2,
			solstice.CrashAppHash, "panic: Failed to process committed block"},
		{"replay-cometbft-0.39", "panic: state.AppHash does not match AppHash after replay. Got\n6A84014D, expected 94800FC8.\n\nState: {...}\n\nDid you reset CometBFT without resetting your application's data?\n\ngoroutine 1 [running]:\n", 2,
			solstice.CrashAppHash, "panic: state.AppHash does not match AppHash after replay. Got"},
		{"replay-tendermint", "panic: Tendermint state.AppHash does not match AppHash after replay. Got , expected 393887B6\ngoroutine 1 [running]:\n", 2,
			solstice.CrashAppHash, "panic: Tendermint state.AppHash"},
		{"replay-of-blocks", "panic: block.AppHash does not match AppHash after replay. Got 01, expected 02.\n\nBlock: Block{\n", 2,
			solstice.CrashAppHash, "panic: block.AppHash"},

		// https://github.com/cosmos/cosmos-sdk/issues/3001, 5720, 12249, 16617
		{"locked-2018", "panic: Error initializing DB: resource temporarily unavailable\ngoroutine 1 [running]:\ngithub.com/tendermint/tendermint/libs/db.NewDB\n", 2,
			solstice.CrashLocked, "panic: Error initializing DB"},
		{"locked-2020", "ERROR: couldn't create db: Error initializing DB: resource temporarily unavailable\n", 1,
			solstice.CrashLocked, "ERROR: couldn't create db"},
		{"locked-sdk-0.45", "Error: failed to initialize database: resource temporarily unavailable\nUsage:\n  gaiad start [flags]\n\nFlags:\n      --abci string   specify abci transport\n  -h, --help   help for start\n\nGlobal Flags:\n      --home string   directory for config and data\n\nfailed to initialize database: resource temporarily unavailable\n", 1,
			solstice.CrashLocked, "Error: failed to initialize database"},
		// Seen on the test chain, as the next three.
		{"locked-sdk-0.54", "Error: failed to start app: failed to initialize database: resource temporarily unavailable\n", 1, solstice.CrashLocked, "Error: failed to start app"},
		{"stores-sdk-0.54", "panic: failed to load latest version: version of store totals mismatch root store's version; expected 45 got 0; new stores should be added using StoreUpgrades\n\ngoroutine 1 [running]:\n", 2,
			solstice.CrashWrongBinary, "panic: failed to load latest version"},
		{"replay-sdk-0.54", "panic: block.AppHash does not match AppHash after replay. Got B0E3, expected B434.\n\nBlock: Block{\n  Header{\n    Height: 6\n", 2, solstice.CrashAppHash, "panic: block.AppHash"},
		{"no-gas-price-sdk-0.54", "Error: failed to get and validate config: set min gas price in app.toml or flag or env variable: error in app.toml [cosmossdk.io/errors@v1.1.0/errors.go:161]\n", 1,
			solstice.CrashUnknown, "Error: failed to get and validate config"},
		{"locked-lone", "panic: resource temporarily unavailable\n\ngoroutine 1 [running]:\n", 2, solstice.CrashLocked, "panic: resource"},
		{"locked-pebble-same-process", "Error: lock held by current process\n", 1, solstice.CrashLocked, "Error: lock held"},
		{"locked-rocksdb", "Error: IO error: While lock file: /data/application.db/LOCK: Resource temporarily unavailable\n", 1, solstice.CrashLocked, "Error: IO error"},
		{"locked-badger", "panic: Cannot acquire directory lock on \"/data/x\".  Another process is using this Badger database. error: resource temporarily unavailable\n", 2, solstice.CrashLocked, "panic: Cannot acquire"},
		{"locked-wasmvm-2", "panic: Error calling the VM: Could not lock exclusive.lock. Is a different VM running in the same directory already?\n", 2, solstice.CrashLocked, "panic: Error calling"},
		{"locked-wasmvm-3", "panic: could not lock exclusive.lock. Is a different VM running in the same directory already? resource temporarily unavailable\n", 2, solstice.CrashLocked, "panic: could not"},
		{"no-lock-fork", "Error: fork/exec /usr/bin/tool: resource temporarily unavailable\n", 1, solstice.CrashUnknown, "Error: fork/exec"},
		{"no-lock-socket", "Error: read tcp 1.2.3.4:26656: resource temporarily unavailable\n", 1, solstice.CrashUnknown, "Error: read tcp"},

		// https://github.com/terra-money/core/issues/94
		{"glibc", "/usr/local/bin/terrad: error while loading shared libraries: libwasmvm.x86_64.so: cannot open shared object file: No such file or directory\n", 127,
			solstice.CrashLibrary, "/usr/local/bin/terrad: error while"},
		{"glibc-older", "/usr/bin/gaiad: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by /usr/bin/gaiad)\n", 1, solstice.CrashLibrary, "/usr/bin/gaiad: /lib"},
		{"musl", "Error loading shared library libwasmvm.x86_64.so: No such file or directory (needed by /usr/bin/junod)\n", 127, solstice.CrashLibrary, "Error loading shared"},
		{"musl-symbol", "Error relocating /usr/bin/junod: __memcpy_chk: symbol not found\n", 127, solstice.CrashLibrary, "Error relocating"},

		{"early", "panic: BINARY UPDATED BEFORE TRIGGER! UPGRADE \"v2\" - in binary but not executed on chain. Downgrade your binary\n\ngoroutine 1 [running]:\n", 2,
			solstice.CrashWrongBinary, "panic: BINARY UPDATED"},
		{"early-older", "panic: BINARY UPDATED BEFORE TRIGGER! UPGRADE \"v2\" - in binary but not executed on chain\n", 2, solstice.CrashWrongBinary, "panic: BINARY"},
		{"late", "panic: UPGRADE \"v2\" NEEDED at height: 17: \n\ngoroutine 1 [running]:\n", 2, solstice.CrashWrongBinary, "panic: UPGRADE"},
		{"late-by-time", "panic: UPGRADE \"v2\" NEEDED at time: 2020-01-01T00:00:00Z: \n", 2, solstice.CrashWrongBinary, "panic: UPGRADE"},
		{"old", "panic: Wrong app version 0, upgrade handler is missing for v2 upgrade plan\n\ngoroutine 1 [running]:\n", 2, solstice.CrashWrongBinary, "panic: Wrong app"},
		{"old-sdk-0.54", "Error: error during handshake: error on replay: wrong app version 0, upgrade handler is missing for v2 upgrade plan\n", 1, solstice.CrashWrongBinary, "Error: error during"},
		{"stores-quoted", "panic: failed to load latest version: version of store \"dkg\" mismatch root store's version; expected 999 got 0; new stores should be added using StoreUpgrades\n\ngoroutine 1 [running]:\n", 2,
			solstice.CrashWrongBinary, "panic: failed to load"},
		{"stores-short", "panic: failed to load latest version: version of store evmigration mismatch root store's version; expected 155 got 0\n", 2, solstice.CrashWrongBinary, "panic: failed to load"},

		{"disk-go", "panic: failed to write batch: write /data/application.db/035086.ldb: no space left on device\n\ngoroutine 133 [running]:\n", 2, solstice.CrashDisk, "panic: failed to write"},
		{"disk-rocksdb", "Error: IO error: No space left on deviceWhile appending to file: /data/x.sst: No space left on device\n", 1, solstice.CrashDisk, "Error: IO error"},
		{"quota", "panic: write /data/cs.wal/wal: disk quota exceeded\n", 2, solstice.CrashDisk, "panic: write"},

		{"memory-go", "runtime: out of memory: cannot allocate 4194304-byte block (1944780800 in use)\nfatal error: out of memory\n\ngoroutine 1 [running]:\n", 2,
			solstice.CrashMemory, "runtime: out of memory"},
		{"memory-go-mmap", "fatal error: runtime: out of memory\n\nruntime stack:\n", 2, solstice.CrashMemory, "fatal error: runtime"},
		{"memory-go-start", "fatal error: pageAlloc: out of memory\n", 2, solstice.CrashMemory, "fatal error: pageAlloc"},
		{"memory-rust", "memory allocation of 131072 bytes failed\nSIGABRT: abort\nPC=0x7f0a m=0 sigcode=18446744073709551610\n\ngoroutine 0 [idle]:\n" + strings.Repeat("x\n", 1000), 2,
			solstice.CrashMemory, "memory allocation of 131072 bytes failed"},
		{"memory-c++", "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\nSIGABRT: abort\nPC=0x7f\n\ngoroutine 0 [idle]:\n", 2, solstice.CrashMemory, "terminate called"},

		// https://github.com/evmos/evmos/issues/982
		{"panic", "panic: leveldb: closed\n\ngoroutine 216 [running]:\ngithub.com/cosmos/cosmos-sdk/store/iavl.(*Store).Commit(0xc001b601a0)\n", 2, solstice.CrashPanic, "panic: leveldb: closed"},
		{"panic-nil", "panic: runtime error: invalid memory address or nil pointer dereference\n[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x156c98d]\n\ngoroutine 1 [running]:\n", 2,
			solstice.CrashPanic, "panic: runtime error"},
		{"panic-in-colours", "\x1b[31mpanic: \x1b[0mboom\n", 2, solstice.CrashPanic, "panic: boom"},
		{"map-writes", "fatal error: concurrent map writes\n\ngoroutine 7 [running]:\n" + strings.Repeat("\ngoroutine 8 [select]:\nmain.x()\n\t/x.go:1 +0x1\n", 10_000), 2, solstice.CrashPanic, "fatal error: concurrent map writes"},
		{"native-fault", "SIGSEGV: segmentation violation\nPC=0x7f m=3 sigcode=1 addr=0x0\nsignal arrived during cgo execution\n\ngoroutine 1 [syscall]:\n", 2, solstice.CrashPanic, "SIGSEGV: segmentation violation"},
		{"error", "Error: error reading GenesisDoc at /home/x/config/genesis.json: invalid character\n", 1, solstice.CrashUnknown, "Error: error reading"},
		{"nothing", "", 1, solstice.CrashUnknown, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Name(Facts{Code: tt.code, Read: true, Said: saidOf(tt.said), Data: "/d"})
			first := ""
			if len(c.Lines) > 0 {
				first = c.Lines[0]
			}
			if c.Kind != tt.kind || !strings.HasPrefix(first, tt.line) || (tt.line == "") != (first == "") {
				t.Errorf("%s %q\nwant %s %q", c.Kind, c.Lines, tt.kind, tt.line)
			}
			if c.Cause == "" || c.Do == "" || strings.Contains(c.Cause, "\n") {
				t.Errorf("cause %q, do %q", c.Cause, c.Do)
			}
		})
	}
}

// TestName: what is known besides words, and what of it counts more.
func TestName(t *testing.T) {
	disk := saidOf("panic: write x: no space left on device\n")
	full, empty := Room{Known: true, Bytes: 4096, Inodes: 10}, Room{Known: true, Bytes: 1 << 40, Inodes: -1}
	for _, tt := range []struct {
		name  string
		facts Facts
		kind  solstice.CrashKind
		cause string
	}{
		{"group", Facts{Signal: syscall.SIGKILL, Kills: Kills{Group: 1, Machine: 1, Known: true}}, solstice.CrashMemory, "as its control group counts"},
		{"group-below-a-shell", Facts{Code: 137, Kills: Kills{Group: 1, Machine: 1, Known: true}}, solstice.CrashMemory, "as its control group counts"},
		{"machine", Facts{Signal: syscall.SIGKILL, Kills: Kills{Machine: 1, Known: true}}, solstice.CrashMemory, "on this machine while it ran"},
		{"killed", Facts{Signal: syscall.SIGKILL, Kills: Kills{Known: true}}, solstice.CrashKilled, "not by the kernel"},
		{"killed-not-counted", Facts{Signal: syscall.SIGKILL}, solstice.CrashKilled, "can't be seen here"},
		{"memory-of-another", Facts{Code: 2, Kills: Kills{Group: 1, Known: true}}, solstice.CrashPanic, "as a Go program does"},
		{"killed-with-old-words", Facts{Signal: syscall.SIGKILL, Kills: Kills{Group: 1}, Read: true, Said: disk}, solstice.CrashMemory, "control group"},
		{"fault", Facts{Signal: syscall.SIGSEGV, Room: full}, solstice.CrashPanic, "it crashed with signal 11 (segmentation fault)"},
		{"words-before-room", Facts{Code: 2, Read: true, Said: saidOf("panic: BINARY UPDATED BEFORE TRIGGER! UPGRADE\n"), Room: full}, solstice.CrashWrongBinary, "wrong binary"},
		{"room", Facts{Code: 1, Room: full, Data: "/d"}, solstice.CrashDisk, "4 KiB are free on the filesystem of /d"},
		{"room-and-a-panic", Facts{Code: 2, Room: full, Read: true, Said: saidOf("panic: x\n"), Data: "/d"}, solstice.CrashDisk, "4 KiB"},
		{"inodes", Facts{Code: 1, Room: Room{Known: true, Bytes: 1 << 40}}, solstice.CrashDisk, "no inode is free"},
		{"enough-room", Facts{Code: 1, Room: empty}, solstice.CrashUnknown, "what it printed stands above"},
		{"library", Facts{Code: 127, Missing: []string{`x needs "liby.so"`}, Room: full}, solstice.CrashLibrary, `x needs "liby.so"`},
		{"not-found", Facts{Code: 127, Room: empty}, solstice.CrashUnknown, "does not find"},
		{"panic-by-code", Facts{Code: 2, Room: empty}, solstice.CrashPanic, "as a Go program does after a panic"},
		{"code-2-without-a-panic", Facts{Code: 2, Read: true, Said: saidOf("bad flag\n")}, solstice.CrashUnknown, "bad flag"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if c := Name(tt.facts); c.Kind != tt.kind || !strings.Contains(c.Cause, tt.cause) {
				t.Errorf("%s: %s; want %s: … %s", c.Kind, c.Cause, tt.kind, tt.cause)
			}
		})
	}
}

// TestTail: pieces of any size come to the same; the panic is kept, however much follows; a panic that the node has outlived is not taken for
// the one that ended it.
func TestTail(t *testing.T) {
	text := "before\r\npanic: first [recovered]\n\tpanic: first\n\ngoroutine 1 [running]:\nmain()\n" + strings.Repeat("more\n", 15_000) +
		"runtime: goroutine stack exceeds 1000000000-byte limit\nfatal error: stack overflow\n\nruntime stack:\n\ngoroutine 5 [running]:\n" + strings.Repeat("frame()\n", 10_000) + "exit \x1b]0;title\x07status\tx"
	want := fmt.Sprintf("%q", saidOf(text))
	for _, size := range []int{1, 7, 4096, 1 << 20} {
		var tail Tail
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			_, _ = tail.Write([]byte(rest[:n]))
			rest = rest[n:]
		}
		if got := fmt.Sprintf("%q", tail.Said()); got != want {
			t.Errorf("in pieces of %d: %s, want %s", size, got, want)
		}
		if cap(tail.end) > 4*keptEnd {
			t.Errorf("it keeps %d bytes", cap(tail.end))
		}
	}
	s := saidOf(text)
	if s.Panic[0] != "runtime: goroutine stack exceeds 1000000000-byte limit" || s.Panic[1] != "fatal error: stack overflow" || s.Led[len(s.Led)-1] != "more" {
		t.Errorf("panic %q after %q", s.Panic, s.Led)
	}
	if last := s.Last[len(s.Last)-1]; last != "exit ]0;titlestatus x" || len(s.Last) != keptLast {
		t.Errorf("%d last lines, %q", len(s.Last), last)
	}
}

// FuzzTail: whatever a node writes, in whatever pieces, what is shown of it is bounded, printable, and the same.
func FuzzTail(f *testing.F) {
	f.Add([]byte("panic: x\n\ngoroutine 1 [running]:\n"), uint8(3))
	f.Add([]byte("Error: x\nUsage:\n  noded start\n\nFlags:\n  -h\n\nx\n"), uint8(1))
	f.Add([]byte("\x1b[31mfatal error: \xff\x00\u202e\n"), uint8(200))
	f.Fuzz(func(t *testing.T, text []byte, size uint8) {
		var whole, pieces Tail
		_, _ = whole.Write(text)
		for rest := text; len(rest) > 0; {
			n := min(int(size)+1, len(rest))
			_, _ = pieces.Write(rest[:n])
			rest = rest[n:]
		}
		s := whole.Said()
		if got, want := fmt.Sprintf("%q", pieces.Said()), fmt.Sprintf("%q", s); got != want {
			t.Errorf("in pieces %s, whole %s", got, want)
		}
		if len(s.Panic) > keptPanic || len(s.Last) > keptLast || len(s.Led) > keptBefore {
			t.Errorf("too much: %q", s)
		}
		for _, line := range append(append(s.Panic, s.Led...), s.Last...) {
			if len(line) > longest+len(" …") || strings.ContainsAny(line, "\n\x1b\r\t") || line == "" {
				t.Errorf("line %q", line)
			}
		}
		if c := Name(Facts{Code: 1, Read: true, Said: s}); c.Kind == "" || c.Cause == "" || c.Do == "" {
			t.Errorf("%+v", c)
		}
	})
}

// TestRoomOf: a real filesystem has some, and one that is not there is not called full.
func TestRoomOf(t *testing.T) {
	if r := RoomOf(t.TempDir()); !r.Known || r.Bytes == 0 {
		t.Errorf("RoomOf = %+v", r)
	}
	if r := RoomOf(filepath.Join(t.TempDir(), "none")); r.full() {
		t.Errorf("%+v is full", r)
	}
}

// TestCountKills: a process that the kernel kills for memory in a control group is counted there, and on the machine.
func TestCountKills(t *testing.T) {
	own, ok := OwnGroup("memory")
	if !ok {
		t.Skip("no control groups of version 1")
	}
	dir := filepath.Join("/sys/fs/cgroup/memory", own, fmt.Sprintf("solstice-test-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skipf("no control group can be made: %v", err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	limit := []byte(strconv.Itoa(24 << 20))
	if err := os.WriteFile(filepath.Join(dir, "memory.limit_in_bytes"), limit, 0); err != nil {
		t.Fatal(err)
	}
	_ = os.WriteFile(filepath.Join(dir, "memory.memsw.limit_in_bytes"), limit, 0) // absent without accounting for swap
	before := CountKills()
	cmd := exec.Command("sh", "-c", `echo $$ >"$0/cgroup.procs" && exec awk 'BEGIN { for (s = "x"; ; s = s s) ; }'`, dir)
	err := cmd.Run()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("it was not killed: %v", err)
	}
	if n, ok := CountIn(filepath.Join(dir, "memory.oom_control")); !ok || n < 1 {
		t.Errorf("the group counts %d, %v", n, ok)
	}
	if since := CountKills().Since(before); !since.Known || since.Machine < 1 || since.Group != 0 {
		t.Errorf("since then: %+v; our own group has lost nothing", since)
	}
}
