package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"time"

	"solstice/artifact"
	"solstice/internal/child"
)

const (
	askLimit = 2 * time.Second        // how long a connection or an answer may take
	runLimit = 5 * time.Second        // how long a command that asks may take
	askFirst = 20 * time.Millisecond  // after which an answer that was no is asked for again, ever less often
	askSpare = time.Second            // up to this
	settle   = 200 * time.Millisecond // how long a lock may be held by a process that is only being started
)

// client asks without a proxy, follows nothing and keeps nothing open: what answers is on this machine, mostly.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// ask asks once whether it is ready: nil, or why not. cmd is the command of Exec.
func (r Ready) ask(ctx context.Context, cmd *exec.Cmd) error {
	if r.Exec != nil {
		last := ""
		end, err := child.Run(ctx, cmd, runLimit, func(line string) { last = line })
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", cmd.Path, err)
		case end.ExitCode() != 0 && last != "":
			return fmt.Errorf("%s: %v: %.200s", cmd.Path, end, last)
		case end.ExitCode() != 0:
			return fmt.Errorf("%s: %v", cmd.Path, end)
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	if r.TCP != "" {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", r.TCP)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.HTTP, nil)
	if err != nil {
		return errors.New(artifact.Redact(err.Error()))
	}
	response, err := client.Do(request)
	if err != nil {
		return errors.New(artifact.Redact(err.Error()))
	}
	response.Body.Close()
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return fmt.Errorf("%s answers %s", artifact.Redact(r.HTTP), response.Status)
	}
	return nil
}
