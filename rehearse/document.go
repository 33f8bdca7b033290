package rehearse

import (
	"fmt"
	"strings"
	"time"

	"solstice"
	"solstice/report"
)

// Document tells a rehearsal to people.
func Document(r solstice.Rehearsal) report.Document {
	d := report.Document{Title: "Rehearsal of " + r.Plan, Passed: r.Passed(), Verdict: verdict(r), Notes: r.Notes}
	if r.Height > 0 {
		d.Facts.Add("plan", "%s at height %d", r.Plan, r.Height)
	}
	d.Facts.Add("state", "%s: %d files, %s, copied in %s: %d linked, %d cloned, %d copied (%s)", r.From, r.Copied.Files, report.Size(r.Copied.Bytes),
		report.Took(time.Duration(r.Copied.Seconds*float64(time.Second))), r.Copied.Linked, r.Copied.Cloned, r.Copied.Copied, report.Size(r.Copied.New))
	d.Facts.Add("old binary", "%s %s, %.19s…", r.Old.Path, r.Old.Version, r.Old.Digest)
	d.Facts.Add("new binary", "%s %s, %.19s…", r.New.Path, r.New.Version, r.New.Digest)
	if r.Way != "" {
		d.Facts.Add("way", "%s", ways[r.Way])
	}
	d.Facts.Add("network", "%s", r.Network)
	if r.Limit.Bytes > 0 {
		d.Facts.Add("memory limit", "%s, kept by %s", report.Size(r.Limit.Bytes), r.Limit.By)
	}
	if r.Passed() || r.Outcome == solstice.RehearsalUneven {
		d.Facts.Add("it needs", "%s to its first block, %s of memory, %s on the disk", report.Took(r.Migration()), report.Size(r.Memory()), report.Size(r.Disk()))
	}
	d.Facts.Add("took", "%s in all", report.Took(time.Duration(r.Took)))
	if r.Kept != "" {
		d.Facts.Add("kept", "%s", r.Kept)
	}
	if len(r.Runs) > 0 {
		d.Tables = append(d.Tables, runsTable(r), usageTable(r))
	}
	for i, run := range r.Runs {
		if run.Errors > 0 {
			d.Notes = append(d.Notes, fmt.Sprintf("run %d: %s of level error, such as: %s", i+1, count(int64(run.Errors), "log line"), run.ErrorLines[0]))
		}
	}
	if len(r.Said) > 0 {
		t := report.Table{Title: "What the node said last", Columns: []string{""}}
		for _, line := range r.Said {
			t.Rows = append(t.Rows, []string{line})
		}
		d.Tables = append(d.Tables, t)
	}
	d.Timeline = timeline(r)
	return d
}

var ways = map[string]string{
	wayHalted:  "the old binary made a network of one validator out of the state, and halted for the plan",
	wayInPlace: "the new binary made a network of one validator out of the state, with the plan as its first block",
	wayReplay:  "the state was halted for the plan, and the new binary executed that block; without " + testnetCommand + " no block follows",
}

func verdict(r solstice.Rehearsal) string {
	words := map[solstice.RehearsalOutcome]string{
		solstice.RehearsalPassed: "It went well: ", solstice.RehearsalUneven: "NOT DETERMINISTIC: ", solstice.RehearsalPanicked: "IT PANICKED: ",
		solstice.RehearsalMemory: "NOT ENOUGH MEMORY: ", solstice.RehearsalDisk: "NOT ENOUGH DISK: ", solstice.RehearsalFailed: "IT FAILED: ",
	}
	return words[r.Outcome] + r.Reason + "."
}

func runsTable(r solstice.Rehearsal) report.Table {
	t := report.Table{
		Title:   "Runs, each from the same state",
		Columns: []string{"run", "outcome", "standing still", "of it solstice", "first block after", "blocks", "app hash after it", "took"},
		Note:    "Standing still: from the beginning of the upgrade to the block after the plan's. First block: from the start of the new binary to the plan's block.",
	}
	for i, run := range r.Runs {
		hash := "-"
		if run.AppHash != "" {
			hash = fmt.Sprintf("%.16s…", run.AppHash)
		}
		t.Rows = append(t.Rows, []string{
			fmt.Sprint(i + 1), string(run.Outcome), report.Took(time.Duration(run.Standing.Total)), report.Took(time.Duration(run.Standing.Ours)),
			report.Took(time.Duration(run.FirstBlock)), fmt.Sprint(run.Blocks), hash, report.Took(time.Duration(run.Took)),
		})
	}
	return t
}

func usageTable(r solstice.Rehearsal) report.Table {
	t := report.Table{
		Title:   "What it used",
		Columns: []string{"run", "up to", "processor", "memory", "read", "written", "disk", "state before", "after"},
		Note:    "Memory is resident, at the peak. Disk is what the migration took of its own, at the most. From /proc, some ten times a second.",
	}
	for i, run := range r.Runs {
		row := func(upTo string, u solstice.Usage, more ...string) {
			t.Rows = append(t.Rows, append([]string{
				fmt.Sprint(i + 1), upTo, report.Took(time.Duration(u.CPU)), report.Size(u.Memory), report.Size(u.Read), report.Size(u.Written),
			}, more...))
		}
		if run.FirstBlock > 0 {
			row("the plan's block", run.Migration, report.Size(run.Grown), report.Size(run.Before), report.Size(run.After))
			row("the end", run.Whole, "", "", "")
		} else {
			row("its end", run.Whole, report.Size(run.Grown), report.Size(run.Before), report.Size(run.After))
		}
	}
	return t
}

// timeline has a lane for each run.
func timeline(r solstice.Rehearsal) report.Timeline {
	t := report.Timeline{From: r.At, To: r.At.Add(time.Duration(r.Took))}
	for i, run := range r.Runs {
		end := run.Began.Add(time.Duration(run.Took))
		lane := report.Lane{Name: fmt.Sprintf("run %d", i+1)}
		at := run.Began
		add := func(to time.Time, kind report.Kind, label string) {
			if to.After(end) {
				to = end
			}
			if to.After(at) {
				lane.Spans = append(lane.Spans, report.Span{From: at, To: to, Kind: kind, Label: label})
				at = to
			}
		}
		ours := time.Duration(run.Standing.Ours)
		add(at.Add(ours), report.Solstice, "upgrade")
		if run.FirstBlock > 0 {
			add(at.Add(time.Duration(run.FirstBlock)), report.Migration, r.Plan)
			add(end, report.Running, count(run.Blocks, "block"))
		} else {
			add(end, report.Migration, strings.ToUpper(string(run.Outcome)))
		}
		t.Lanes = append(t.Lanes, lane)
	}
	return t
}

// count is a number with its noun.
func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
