package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	idlePairs  = 3                // of supervisors, all at the same time
	idleSettle = 5 * time.Second  // until their CPU time is taken
	idleSpan   = 30 * time.Second // over which it is taken; then their memory is looked at
)

// idleUse is what the supervisors of one tool use while nothing happens.
type idleUse struct{ memory, cpu sample }

// idle measures all supervisors at the same time.
func (b *bench) idle(ctx context.Context, use *pair[idleUse]) error {
	type measured struct {
		of          *idleUse
		memory, cpu float64
		err         error
	}
	results := make(chan measured)
	measure := func(t tool, of *idleUse) {
		m := measured{of: of}
		m.memory, m.cpu, m.err = b.idleOne(ctx, t)
		results <- m
	}
	for range idlePairs {
		go measure(b.cosmovisor, &use.cosmovisor)
		go measure(b.solstice, &use.solstice)
	}
	var err error
	for range 2 * idlePairs {
		m := <-results
		err = errors.Join(err, m.err)
		m.of.memory = append(m.of.memory, m.memory)
		m.of.cpu = append(m.of.cpu, m.cpu)
	}
	return err
}

// idleOne measures one supervisor of a node that runs, has an RPC and no plan.
func (b *bench) idleOne(ctx context.Context, t tool) (memory, cpu float64, err error) {
	h, err := newHome(b.dir, b.node)
	if err != nil {
		return 0, 0, err
	}
	defer h.remove()
	address, err := h.withRPC()
	if err != nil {
		return 0, 0, err
	}
	s, err := t.supervise(h, nil, []string{"--serve", address})
	if err != nil {
		return 0, 0, err
	}
	defer s.kill()
	if _, err := s.next(ctx, h); err != nil {
		return 0, 0, err
	}
	pid := s.cmd.Process.Pid
	if err := pause(ctx, idleSettle); err != nil {
		return 0, 0, err
	}
	before, err := cpuTime(pid)
	if err != nil {
		return 0, 0, s.fault(err.Error())
	}
	if err := pause(ctx, idleSpan); err != nil {
		return 0, 0, err
	}
	after, err := cpuTime(pid)
	if err != nil {
		return 0, 0, s.fault(err.Error())
	}
	resident, err := residentMemory(pid)
	return float64(resident), float64(after - before), err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// residentMemory returns VmRSS in bytes.
func residentMemory(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("process %d has no VmRSS", pid)
}

// cpuTime returns the CPU time of a process and all its threads: the sum of utime and stime in /proc/PID/stat, but in
// nanoseconds and not in ticks of 10 ms.
func cpuTime(pid int) (time.Duration, error) {
	const schedulerClock = 2 // CPUCLOCK_SCHED; see clock_getcpuclockid(3)
	clock := ^int32(pid)<<3 | schedulerClock
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}
