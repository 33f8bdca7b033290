// Command benchnode is the scripted node of the benchmarks. It does as little as a node can do, so that what is measured
// is its supervisor, and it tells to the nanosecond when what happened.
//
// Its version is the directory that it lies in. The one called genesis writes the plan for v2 when it is told to; every
// other one just runs. An event is one line in the FIFO of --events:
//
//	UNIX-NANOSECONDS PID VERSION start|plan|signal|end
package main

import (
	"bufio"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// started is as early as a Go program can look at the clock.
var started = time.Now()

// The plan is due: its height is the one that status shows, and the block before it is committed.
const (
	planHeight = 100
	planFile   = `{"name":"v2","time":"0001-01-01T00:00:00Z","height":100,"info":"{\"binaries\":{}}"}`
)

// callTime names the variable that says how long a command other than start takes. The binary of a real chain needs most
// of 100 ms to begin.
const callTime = "BENCHNODE_CALL"

// lifetime is when a node ends that nobody has ended: its benchmark was killed.
const lifetime = 2 * time.Minute

func main() {
	command := ""
	if len(os.Args) > 1 {
		command = os.Args[1]
	}
	if command == "start" {
		os.Exit(start(os.Args[2:]))
	}
	if d, err := time.ParseDuration(os.Getenv(callTime)); err == nil {
		time.Sleep(d)
	}
	switch command {
	case "status":
		fmt.Printf("{\"SyncInfo\":{\"latest_block_height\":\"%d\"}}\n", planHeight)
	case "version":
		fmt.Println(version())
	default: // pre-upgrade too: few nodes have it
		fmt.Fprintf(os.Stderr, "Error: unknown command %q for \"benchnode\"\n", command)
		os.Exit(1)
	}
}

func version() string {
	path, err := os.Executable()
	if err != nil {
		return "unknown"
	}
	return filepath.Base(filepath.Dir(filepath.Dir(path)))
}

func start(args []string) int {
	flags := flag.NewFlagSet("start", flag.ExitOnError)
	eventsPath := flags.String("events", "", "`FIFO` for what happens")
	planAfter := flags.Duration("plan-after", 0, "when genesis writes the plan file; 0: never")
	ends := flags.Bool("ends", false, "end with code 1 after that, rather than stay up, halted")
	serve := flags.String("serve", "", "`address` to answer CometBFT's RPC at")
	_ = flags.Parse(args) // ExitOnError
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	events, err := os.OpenFile(*eventsPath, os.O_WRONLY, 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchnode:", err)
		return 2
	}
	own := version()
	tell := func(at time.Time, event string) {
		fmt.Fprintf(events, "%d %d %s %s\n", at.UnixNano(), os.Getpid(), own, event)
	}
	tell(started, "start")
	if *serve != "" {
		listener, err := net.Listen("tcp", *serve)
		if err != nil {
			fmt.Fprintln(os.Stderr, "benchnode:", err)
			return 2
		}
		height := planHeight - 1
		if own != "genesis" {
			height = planHeight + 1
		}
		go answer(listener, height)
	}
	var due <-chan time.Time
	if own == "genesis" && *planAfter > 0 {
		due = time.After(*planAfter)
	}
	tooLong := time.After(lifetime)
	for {
		select {
		case <-signals:
			tell(time.Now(), "signal")
			tell(time.Now(), "end")
			return 0
		case <-due:
			// As x/upgrade does it: one plain write.
			err := os.WriteFile(filepath.Join(os.Getenv("DAEMON_HOME"), "data", "upgrade-info.json"), []byte(planFile), 0o600)
			tell(time.Now(), "plan")
			if err != nil {
				fmt.Fprintln(os.Stderr, "benchnode:", err)
				return 2
			}
			if *ends {
				tell(time.Now(), "end")
				return 1
			}
		case <-tooLong:
			return 3
		}
	}
}

// answer answers every request as /abci_info. It is by hand since net/http would make the node several times as large
// and slower to start.
func answer(listener net.Listener, height int) {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":-1,"result":{"response":{"last_block_height":"%d"}}}`, height)
	response := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			lines := bufio.NewScanner(conn)
			for lines.Scan() {
				if len(lines.Bytes()) > 0 {
					continue // the head of the request; an empty line ends it
				}
				if _, err := conn.Write([]byte(response)); err != nil {
					return
				}
			}
		}()
	}
}
