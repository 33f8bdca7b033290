package simulate

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"solstice"
	"solstice/crash"
	"solstice/report"
)

// Result is what happened to the network. Times are RFC 3339, durations are seconds.
type Result struct {
	Passed    bool      `json:"passed"`
	Verdict   string    `json:"verdict"`
	Chain     string    `json:"chain"`
	Began     time.Time `json:"began"`
	Ended     time.Time `json:"ended"`
	Nodes     []Member  `json:"nodes"`
	Upgrades  []Passed  `json:"upgrades"`
	AppHashes AppHashes `json:"app_hashes"`
	Notes     []string  `json:"notes"` // faults that were asked for, and what the logs warn of

	mu    sync.Mutex
	lanes []report.Lane
}

// Member is a node at the end.
type Member struct {
	Name    string `json:"name"`
	Role    string `json:"role"` // validator or sentry
	Home    string `json:"home"`
	Log     string `json:"log"`
	Height  int64  `json:"height"`
	Version string `json:"version"`
	State   string `json:"state"`
}

// Passed is what one plan did to the network.
type Passed struct {
	Plan      solstice.Plan `json:"plan"`
	Proposal  uint64        `json:"proposal"`
	Scheduled time.Time     `json:"scheduled"`
	Nodes     []Passage     `json:"nodes"`
}

// Passage is one node's way through a plan.
type Passage struct {
	Node       string            `json:"node"`
	State      string            `json:"state"` // of its record: begun, switched, confirmed; or not begun
	Fault      string            `json:"fault,omitempty"`
	Standing   solstice.Standing `json:"standing"`
	FirstBlock solstice.Seconds  `json:"first_block"` // of the standing, the wait for a block after the migration
	Steps      []solstice.Step   `json:"steps"`
	AppHash    string            `json:"app_hash,omitempty"` // the application's own, after the plan's block; empty: not seen
}

// AppHashes is whether the nodes have the same state. Each node's own hash is compared, not what a block that it was sent says.
type AppHashes struct {
	Agree    bool     `json:"agree"`
	Compared int      `json:"compared"` // hashes, one for a node and a height
	From     int64    `json:"from"`
	To       int64    `json:"to"`
	Differ   []string `json:"differ,omitempty"` // a sentence each
}

// height is that of the last plan.
func (r *Result) height() int64 {
	if n := len(r.Upgrades); n > 0 {
		return r.Upgrades[n-1].Plan.Height
	}
	return 0
}

func (r *Result) note(format string, values ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Notes = append(r.Notes, fmt.Sprintf(format, values...))
}

func (s *Simulation) begin() {
	s.result = Result{Chain: s.chains[0].Name, Began: time.Now(), Upgrades: []Passed{}, Notes: []string{}}
}

// conclude says what became of the network, while it still runs. err is what it could not go on from.
func (s *Simulation) conclude(ctx context.Context, err error) {
	r := &s.result
	r.Ended = time.Now()
	for _, m := range s.members {
		m.look(ctx)
		view := m.watched.view()
		role := "validator"
		if !m.Validator {
			role = "sentry"
		}
		r.Nodes = append(r.Nodes, Member{m.Name, role, m.Home, s.log(m), view.Height, view.Version, view.State})
		r.lanes = append(r.lanes, report.Lane{Name: m.Name, Spans: exact(m.watched.spans, m.watched.status.Upgrades)})
	}
	for i := range r.Upgrades {
		r.Upgrades[i].Nodes = s.passages(r.Upgrades[i].Plan)
	}
	r.AppHashes = s.compare(ctx)
	through := 0
	for _, u := range r.Upgrades {
		if !slices.ContainsFunc(u.Nodes, func(p Passage) bool { return p.State != "confirmed" }) {
			through++
		}
	}
	r.Passed = err == nil && through == len(s.config.Upgrades) && r.AppHashes.Agree
	switch {
	case r.Passed && through == 0:
		r.Verdict = "The network runs; no upgrade was asked for."
	case r.Passed:
		r.Verdict = fmt.Sprintf("Every node went through every upgrade (%s), and all have the same state.", strings.Join(planNames(s.config.Upgrades), ", "))
	case len(r.AppHashes.Differ) > 0:
		r.Verdict = "The nodes do not agree on the state: " + r.AppHashes.Differ[0] + "."
	case err != nil:
		r.Verdict = "It failed: " + err.Error() + "."
	case !r.AppHashes.Agree:
		r.Verdict = "It failed: the state of some nodes after the last upgrade was not seen."
	default:
		r.Verdict = fmt.Sprintf("It failed: %d of %d upgrades went through on every node.", through, len(s.config.Upgrades))
	}
}

func planNames(upgrades []Upgrade) (names []string) {
	for _, u := range upgrades {
		names = append(names, u.Name)
	}
	return names
}

// passages are the nodes' ways through a plan.
func (s *Simulation) passages(plan solstice.Plan) (passages []Passage) {
	for _, m := range s.members {
		u, waiting, found := m.watched.passage(plan.Name)
		p := Passage{Node: m.Name, State: "not begun", Steps: []solstice.Step{}, AppHash: m.watched.hashes[plan.Height]}
		if found {
			p.State, p.Standing, p.Steps = u.State, u.Standing, u.Steps
		}
		if p.State == "confirmed" {
			p.FirstBlock = max(u.Standing.Total-u.Standing.Ours-u.Standing.Migration, 0)
		} else if view := m.watched.view(); waiting != "" {
			p.Fault = waiting
		} else if view.Ended {
			p.Fault = s.lastWords(m)
		} else {
			p.Fault = view.State
		}
		passages = append(passages, p)
	}
	return passages
}

// compare compares what each node's application says of its own state: with the header of the next block, which the network has
// agreed on, or with the others where there is none.
func (s *Simulation) compare(ctx context.Context) AppHashes {
	agreed := map[int64]string{}
	if m, err := s.answering(ctx); err == nil {
		state, _ := m.State(ctx)
		headers, _ := m.Headers(ctx, 1, state.Height+1)
		for _, h := range headers {
			agreed[h.Height-1] = h.AppHash
		}
	}
	a := AppHashes{Agree: true}
	least := s.result.height()
	for _, m := range s.members {
		if m.RPC == "" {
			continue // it is known by its sentries alone
		}
		m.watched.mu.Lock()
		late := false // seen at or after the last plan's height
		var heights []int64
		for height := range m.watched.hashes {
			heights = append(heights, height)
		}
		slices.Sort(heights)
		for _, height := range heights {
			hash := m.watched.hashes[height]
			if agreed[height] == "" {
				agreed[height] = hash
			}
			a.Compared++
			late = late || height >= least
			if a.From == 0 || height < a.From {
				a.From = height
			}
			a.To = max(a.To, height)
			if hash != agreed[height] {
				a.Agree = false
				a.Differ = append(a.Differ, fmt.Sprintf("after block %d %s has app hash %.16s…, and the network %.16s…", height, m.Name, hash, agreed[height]))
				break // what follows is of the same cause
			}
		}
		a.Agree = a.Agree && late
		m.watched.mu.Unlock()
	}
	return a
}

// logLine finds a line of a log that warns: CometBFT's and the SDK's plain and JSON formats, and ours.
var (
	logLine  = regexp.MustCompile(`^\S+ (ERR|WRN|WARN|ERROR) (.*)$|"level":"(?:error|warn)".*"(?:message|_msg)":"([^"]*)"|^(panic: .*)$`)
	logValue = regexp.MustCompile(` [\w./-]+=.*$`)
)

// usual is what a network says that is being started, upgraded and ended.
var usual = []string{
	"Stopping peer for error", "Error reconnecting to peer", "dialing failed", "Error dialing peer", "UPGRADE ", "CONSENSUS FAILURE!!!", "Error on broadcastTxCommit",
	"Error adding vote", "Connection failed @", "failed to process message", "error in proxyAppConn.FinalizeBlock", "Failed to prune", "Couldn't connect to any seeds", "not caching",
	// A node that is told to end.
	"Stopped accept routine", "Error serving server", "leveldb: closed", "Error stopping pool", "Won't start a peer - switch is not running",
}

// plain is a line of a log without its colours: the SDK writes them into files, too.
func plain(line string) string {
	return crash.Colours.ReplaceAllString(strings.TrimRight(line, "\n"), "")
}

// warnings notes what the logs warn of beyond what is usual, the most frequent first.
func (s *Simulation) warnings() {
	const most = 8
	for _, m := range s.members {
		content, err := os.ReadFile(s.log(m))
		if err != nil {
			continue
		}
		counts := map[string]int{}
		for line := range strings.Lines(string(content)) {
			match := logLine.FindStringSubmatch(plain(line))
			if match == nil {
				continue
			}
			text := logValue.ReplaceAllString(match[2]+match[3]+match[4], "")
			if text != "" && !slices.ContainsFunc(usual, func(u string) bool { return strings.HasPrefix(text, u) }) {
				counts[text]++
			}
		}
		texts := make([]string, 0, len(counts))
		for text := range counts {
			texts = append(texts, text)
		}
		sort.Slice(texts, func(i, j int) bool {
			return counts[texts[i]] > counts[texts[j]] || counts[texts[i]] == counts[texts[j]] && texts[i] < texts[j]
		})
		for _, text := range texts[:min(len(texts), most)] {
			s.result.note("%s warns, %s: %.200s", m.Name, plural(counts[text], "time"), text)
		}
	}
}

// Document is the result for people.
func (r *Result) Document() report.Document {
	d := report.Document{Title: "Simulation of " + r.Chain, Passed: r.Passed, Verdict: r.Verdict, Notes: slices.Clone(r.Notes),
		Timeline: report.Timeline{From: r.Began, To: r.Ended, Lanes: r.lanes}}
	d.Facts.Add("nodes", "%d", len(r.Nodes))
	d.Facts.Add("took", "%s", took(r.Ended.Sub(r.Began)))
	for _, u := range r.Upgrades {
		d.Facts.Add("plan", "%s, proposal %d", u.Plan, u.Proposal)
	}
	switch a := r.AppHashes; {
	case a.Compared == 0:
		d.Facts.Add("app hashes", "none was seen")
	case len(a.Differ) > 0:
		for _, differ := range a.Differ {
			d.Facts.Add("app hashes", "DIFFER: %s", differ)
		}
	default:
		d.Facts.Add("app hashes", "equal on all nodes: %d compared, heights %d to %d", a.Compared, a.From, a.To)
	}
	for _, u := range r.Upgrades {
		t := report.Table{Title: "Standing still for " + u.Plan.String(),
			Columns: []string{"node", "total", "of it Solstice", "migration", "first block", "state", "app hash after the block"},
			Note:    "Solstice: from the halt until the new binary executes. Migration: until it has committed the plan's block."}
		for _, p := range u.Nodes {
			state, hash := p.State, "not seen"
			if p.Fault != "" {
				d.Notes = append(d.Notes, fmt.Sprintf("%s did not go through %s: %s", p.Node, u.Plan.Name, p.Fault))
			}
			if p.AppHash != "" {
				hash = fmt.Sprintf("%.16s…", p.AppHash)
			}
			t.Rows = append(t.Rows, []string{p.Node, took(time.Duration(p.Standing.Total)), took(time.Duration(p.Standing.Ours)),
				took(time.Duration(p.Standing.Migration)), took(time.Duration(p.FirstBlock)), state, hash})
		}
		d.Tables = append(d.Tables, t)
	}
	t := report.Table{Title: "The nodes at the end", Columns: []string{"node", "role", "height", "version", "state"}}
	for _, m := range r.Nodes {
		state, _, _ := strings.Cut(m.State, ":") // why it waits stands in the notes
		t.Rows = append(t.Rows, []string{m.Name, m.Role, fmt.Sprint(m.Height), m.Version, state})
	}
	d.Tables = append(d.Tables, t)
	return d
}

func took(d time.Duration) string { return report.Took(d) }
