package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"solstice"
	"solstice/node"
)

var (
	v2     = solstice.Plan{Name: "v2", Height: 200, Info: `{"binaries":{"linux/arm64":"b","linux/amd64":"a"}}`}
	v3     = solstice.Plan{Name: "v3", Height: 300}
	voting = node.Proposal{ID: 7, Status: node.Voting, Title: "Three", Plans: []solstice.Plan{v3}}
	cancel = node.Proposal{ID: 8, Status: node.Voting, Cancel: true}
	pace   = node.Pace{Height: 150, Time: time.Now(), Block: 6 * time.Second, Spread: time.Second, Blocks: 100}
)

// TestAddTo: what the chain says, what the disk says, and what of it is one and the same.
func TestAddTo(t *testing.T) {
	home := solstice.Home{Dir: t.TempDir(), Name: "noded"}
	asked := time.Now()
	for _, tt := range []struct {
		name    string
		outlook Outlook
		pending []solstice.Pending
		height  int64
		want    string
		unseen  string
	}{
		{"not-asked", Outlook{}, nil, 150, "", "not asked yet"},
		{"nothing", Outlook{Asked: asked, Pace: pace}, nil, 150, "", ""},
		{"scheduled", Outlook{Asked: asked, Plan: &v2, Pace: pace}, nil, 150, "v2@200 scheduled 50 timed [linux/amd64 linux/arm64]", ""},
		{"in-the-file-too", Outlook{Asked: asked, Plan: &v2}, []solstice.Pending{{Name: "V2", Height: 200, Origin: "plan file"}}, 150, "v2@200 scheduled 50 [linux/amd64 linux/arm64]", ""},
		{"in-the-file-only", Outlook{Asked: asked}, []solstice.Pending{{Name: "v2", Height: 200, Origin: "plan file"}}, 150, "v2@200 plan file 50", ""},
		{"due", Outlook{Asked: asked, Plan: &v2}, nil, 199, "v2@200 due 1 [linux/amd64 linux/arm64]", ""},
		{"operator-first", Outlook{Asked: asked, Plan: &v2}, []solstice.Pending{{Name: "x", Height: 160, Origin: "operator"}}, 150, "x@160 operator 10; v2@200 scheduled 50 [linux/amd64 linux/arm64]", ""},
		{"proposed", Outlook{Asked: asked, Plan: &v2, Proposals: []node.Proposal{voting, cancel}}, nil, 0,
			"v2@200 scheduled 0 [linux/amd64 linux/arm64]; v3@300 voting 0 proposal 7; v2@200 voting 0 proposal 8 cancels", ""},
		{"silent", Outlook{Asked: asked, Fault: errors.New("connection refused")}, []solstice.Pending{{Name: "v2", Height: 200, Origin: "plan file"}}, 150, "v2@200 plan file 50", "connection refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status := solstice.Status{Pending: tt.pending}
			if tt.height > 0 {
				status.Height = &solstice.Height{Committed: tt.height}
			}
			tt.outlook.AddTo(&status, home)
			var parts []string
			for _, c := range status.Coming {
				text := fmt.Sprintf("%s@%d %s %d", c.Name, c.Height, c.Stage, c.Blocks)
				if !c.Expected.IsZero() {
					text += " timed"
				}
				if c.Proposal > 0 {
					text += fmt.Sprint(" proposal ", c.Proposal)
				}
				if c.Cancels {
					text += " cancels"
				} else if c.Binary.Fault == "" {
					text += " ready" // nothing is there
				}
				if c.Offered != nil {
					text += fmt.Sprint(" ", c.Offered)
				}
				parts = append(parts, text)
			}
			if got := strings.Join(parts, "; "); got != tt.want || !strings.Contains(status.Unseen, tt.unseen) || (tt.unseen == "") != (status.Unseen == "") {
				t.Errorf("coming %q, unseen %q, want %q, %q", got, status.Unseen, tt.want, tt.unseen)
			}
		})
	}
	for state, want := range map[string]int{"switched": 0, "confirmed": 0, "rolled back": 1} {
		status := solstice.Status{Upgrades: []solstice.Upgrade{{Name: "v2", Height: 200, State: state}}}
		if (Outlook{Asked: asked, Plan: &v2}).AddTo(&status, home); len(status.Coming) != want {
			t.Errorf("%s, and still to come: %+v", state, status.Coming)
		}
	}
}

// TestTellAhead: a line for each change, and none for what stays as it is.
func TestTellAhead(t *testing.T) {
	moved := solstice.Plan{Name: "v2", Height: 250}
	early, late := pace, pace
	late.Height = 199
	beyond := pace
	beyond.Height = 301
	down := errors.New("connection refused")
	for _, tt := range []struct {
		name        string
		before, now Outlook
		want        string
	}{
		{"nothing", Outlook{}, Outlook{Pace: early}, ""},
		{"scheduled", Outlook{}, Outlook{Plan: &v2, Pace: early}, `INFO msg="upgrade scheduled" plan=v2 height=200 "blocks ahead"=50 expected`},
		{"as-it-was", Outlook{Plan: &v2, Pace: early}, Outlook{Plan: &v2, Pace: early}, ""},
		{"moved", Outlook{Plan: &v2, Pace: early}, Outlook{Plan: &moved, Pace: early}, `plan=v2 height=250 "blocks ahead"=100`},
		{"cancelled", Outlook{Plan: &v2, Pace: early}, Outlook{Pace: early}, `WARN msg="the scheduled upgrade was cancelled" plan=v2 height=200`},
		{"carried-out", Outlook{Plan: &v2, Pace: early}, Outlook{Pace: late}, ""},
		{"down", Outlook{Asked: time.Now()}, Outlook{Fault: down}, "does not say what comes"},
		{"still-down", Outlook{Asked: time.Now(), Fault: down}, Outlook{Fault: down}, ""},
		{"up-again", Outlook{Asked: time.Now(), Fault: down}, Outlook{Pace: early}, "says again what comes"},
		{"no-rpc", Outlook{}, Outlook{Fault: node.ErrNoAddress}, ""},
		{"proposed", Outlook{}, Outlook{Proposals: []node.Proposal{voting}}, `INFO msg="proposal about an upgrade" proposal=7 title=Three plan="v3 at height 300" status=voting`},
		{"still-proposed", Outlook{Proposals: []node.Proposal{voting}}, Outlook{Proposals: []node.Proposal{voting}}, ""},
		{"rejected", Outlook{Proposals: []node.Proposal{voting}, Pace: early}, Outlook{Pace: early}, `INFO msg="proposal about an upgrade has ended without effect" proposal=7 title=Three plan="v3 at height 300"`},
		{"rejected-beside-a-plan", Outlook{Plan: &v2, Proposals: []node.Proposal{voting}, Pace: early}, Outlook{Plan: &v2, Pace: early}, "proposal=7"},
		{"passed", Outlook{Plan: &v3, Proposals: []node.Proposal{voting}, Pace: early}, Outlook{Plan: &v3, Pace: early}, ""},
		{"carried-out-meanwhile", Outlook{Proposals: []node.Proposal{voting}, Pace: early}, Outlook{Pace: beyond}, ""},
		{"cancels-nothing", Outlook{Plan: &v2, Proposals: []node.Proposal{cancel}, Pace: early}, Outlook{Plan: &v2, Pace: early}, `proposal=8 title="" plan="cancels the scheduled one"`},
		{"has-cancelled", Outlook{Proposals: []node.Proposal{cancel}, Pace: early}, Outlook{Pace: early}, ""},
		{"down-while-it-ends", Outlook{Asked: time.Now(), Fault: down, Proposals: []node.Proposal{voting}}, Outlook{Fault: down}, ""},
		{"to-cancel", Outlook{}, Outlook{Proposals: []node.Proposal{cancel}}, `plan="cancels the scheduled one"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			s := &Supervisor{Log: slog.New(slog.NewTextHandler(&out, nil))}
			s.tellAhead(tt.before, tt.now)
			if got := out.String(); !strings.Contains(strings.ReplaceAll(got, "level=", ""), tt.want) || (tt.want == "") != (got == "") {
				t.Errorf("says %q, want %q", got, tt.want)
			}
		})
	}
}

// silent is a node that never answers.
type silent struct{}

func (silent) Committed(ctx context.Context) (node.Answer, error) {
	<-ctx.Done()
	return node.Answer{}, ctx.Err()
}
func (silent) Plan(ctx context.Context) (solstice.Plan, bool, error) {
	<-ctx.Done()
	return solstice.Plan{}, false, ctx.Err()
}
func (silent) Proposals(ctx context.Context) ([]node.Proposal, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
func (silent) SetProcess(int) {}
func (silent) Applied(ctx context.Context, _ string) (int64, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}
func (silent) Pace(ctx context.Context) (node.Pace, error) {
	<-ctx.Done()
	return node.Pace{}, ctx.Err()
}
func (silent) Consensus(ctx context.Context) (node.Consensus, error) {
	<-ctx.Done()
	return node.Consensus{}, ctx.Err()
}

// TestAskSilentNode: what was known of the proposals stays, what was known of the plan does not.
func TestAskSilentNode(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	o := Outlook{Plan: &v2, Proposals: []node.Proposal{voting}}
	o.ask(ctx, silent{})
	o.askProposals(ctx, silent{})
	if o.Plan != nil || len(o.Proposals) != 1 || !errors.Is(o.Fault, context.Canceled) {
		t.Errorf("%+v", o)
	}
}
