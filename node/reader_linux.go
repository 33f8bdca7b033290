package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"solstice/internal/child"
)

// readerName is the name that a reader is started under, by which it knows what it is.
const readerName = "solstice-reader"

// readerProgram is this program, also when another file has taken its name.
var readerProgram = "/proc/self/exe"

// answerFile is the pipe that a reader gives its answer on.
const answerFile = 3

func init() {
	if len(os.Args) == 2 && os.Args[0] == readerName {
		os.Exit(beReader(os.Args[1]))
	}
}

// ask has a reader do something that yields a number of values, and gives each to take. It
// returns when it has them, and then the reader is gone. An error is an errReader.
func ask(ctx context.Context, r request, values int, take func(json.RawMessage) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	argument, err := json.Marshal(r)
	if err != nil {
		return &errReader{err.Error(), true}
	}
	answer, given, err := os.Pipe()
	if err != nil {
		return cannotStart(err)
	}
	defer answer.Close()
	received := make(chan int)
	go func() {
		n := 0
		for decoder := json.NewDecoder(io.LimitReader(answer, maxReadings)); n < values; n++ {
			var value json.RawMessage
			err := decoder.Decode(&value)
			if err == nil {
				err = take(value)
			}
			if err != nil {
				cancel(errGarbled) // where it has died already, nobody asks for the cause
				break
			}
		}
		if n == values {
			cancel(errAnswered)
		}
		received <- n
	}()

	cmd := exec.Command(readerProgram)
	cmd.Args = []string{readerName, string(argument)}
	cmd.Env = readerEnvironment()
	cmd.ExtraFiles = []*os.File{given}
	var said []string
	end, err := child.Run(ctx, cmd, 2*readTime, func(line string) { // ctx is sooner
		if len(said) == 0 && line != "" {
			said = append(said, fmt.Sprintf("%.*q", maxLastWord, line))
		}
	})
	given.Close()
	n := <-received
	switch {
	case n == values:
		return nil
	case end == child.End{} && err != nil:
		return cannotStart(err)
	case errors.Is(err, context.DeadlineExceeded):
		return &errReader{fmt.Sprintf("timed out after %v", readTime), true}
	case err != nil:
		return &errReader{err.Error(), false}
	}
	how := strings.Join(append([]string{end.String()}, said...), ", ")
	return &errReader{fmt.Sprintf("the database reader died (%s)", how), false}
}

func cannotStart(err error) error {
	return &errReader{fmt.Sprintf("cannot start the database reader: %v", err), true}
}

var (
	errAnswered = errors.New("it has answered")
	errGarbled  = errors.New("the database reader returned an invalid answer")
)

// readerEnvironment is all that a reader gets of ours: under the race detector what keeps it
// from sleeping at its end.
func readerEnvironment() []string {
	environment := []string{"GOTRACEBACK=none"}
	if race, ok := os.LookupEnv("GORACE"); ok {
		environment = append(environment, "GORACE="+race)
	}
	return environment
}

// beReader is what a reader does in its life.
func beReader(argument string) (code int) {
	var status unix.Stat_t
	if err := unix.Fstat(answerFile, &status); err != nil || status.Mode&unix.S_IFMT != unix.S_IFIFO {
		fmt.Fprintln(os.Stderr, "solstice runs this itself to read databases")
		return 1
	}
	limitReader()
	answer := os.NewFile(answerFile, "answer")
	var r request
	if err := json.Unmarshal([]byte(argument), &r); err != nil || tasks[r.Task] == nil {
		fmt.Fprintln(os.Stderr, "no such task:", r.Task, err)
		return 1
	}
	if err := tasks[r.Task](r, json.NewEncoder(answer).Encode); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// limitReader bounds this process. The garbage collector is not needed for a small database,
// and has much to do for a large one; whatever needs much more memory all the same ends; and
// if memory gets scarce before, the kernel ends this process first.
func limitReader() {
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(readGoal)
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0) // else another may be ended
	go func() {
		mapped := []metrics.Sample{{Name: "/memory/classes/total:bytes"}}
		for {
			metrics.Read(mapped)
			if mapped[0].Value.Uint64() > readMemory {
				fmt.Fprintf(os.Stderr, "needs more than %d MiB of memory\n", readMemory>>20)
				os.Exit(1)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
}
