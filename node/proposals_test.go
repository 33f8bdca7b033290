package node

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"solstice"
)

// nested is a bytes field.
func nested(field protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), content)
}

func text(field protowire.Number, content string) []byte { return nested(field, []byte(content)) }

// typed is a google.protobuf.Any.
func typed(name string, value ...[]byte) []byte {
	return join(text(1, "/"+name), nested(2, join(value...)))
}

func planMessage(name string, height int64, info string) []byte {
	return join(text(1, name), nested(2, join(varint(1, -62135596800))), varint(3, height), text(4, info))
}

func softwareUpgrade(name string, height int64) []byte {
	return typed("cosmos.upgrade.v1beta1.MsgSoftwareUpgrade", text(1, "cosmos1gov"), nested(2, planMessage(name, height, "")))
}

// proposalMessage is a gov v1 Proposal.
func proposalMessage(id int64, status ProposalStatus, messages ...[]byte) []byte {
	p := varint(1, id)
	for _, m := range messages {
		p = append(p, nested(2, m)...)
	}
	return join(p, varint(3, int64(status)), nested(6, varint(1, 1700000000)), nested(9, varint(1, 1800000000)), text(11, "Go to\nthe \x1b[31mnext"))
}

// application is an RPC server whose queries are answered by answer.
func application(t *testing.T, answer func(path string, request []byte) (value []byte, code int)) *Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request, err := hex.DecodeString(strings.TrimPrefix(r.FormValue("data"), "0x"))
		if r.URL.Path != "/abci_query" || err != nil {
			http.NotFound(w, r)
			return
		}
		value, code := answer(strings.Trim(r.FormValue("path"), `"`), request)
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":-1,"result":{"response":{"code":%d,"log":"what it says","value":%q}}}`, code, base64.StdEncoding.EncodeToString(value))
	}))
	t.Cleanup(server.Close)
	return at(t, server)
}

func at(t *testing.T, server *httptest.Server) *Client {
	return Find(home(t, ""), []string{"--rpc.laddr", "tcp://" + strings.TrimPrefix(server.URL, "http://")}, noEnv, "")
}

// TestPlan: what a real chain answers, and what none should.
func TestPlan(t *testing.T) {
	recorded, err := base64.StdEncoding.DecodeString("ChMKAnYyEgsIgJK4w5j+////ARgR") // SDK v0.54.4
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		value   []byte
		code    int
		want    solstice.Plan
		wantErr string
	}{
		{"recorded", recorded, 0, solstice.Plan{Name: "v2", Height: 17}, ""},
		{"with-info", nested(1, planMessage("v3", 99, `{"binaries":{}}`)), 0, solstice.Plan{Name: "v3", Height: 99, Info: `{"binaries":{}}`}, ""},
		{"none", nil, 0, solstice.Plan{}, ""},
		{"cut-off", recorded[:10], 0, solstice.Plan{}, "unexpected EOF"},
		{"no-name", nested(1, varint(3, 5)), 0, solstice.Plan{}, "needs a name"},
		{"negative-height", nested(1, planMessage("v2", -5, "")), 0, solstice.Plan{}, "needs a height above 0"},
		{"refused", nil, 18, solstice.Plan{}, `code 18: "what it says"`},
		{"huge", make([]byte, 2<<20), 0, solstice.Plan{}, "too large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := application(t, func(path string, _ []byte) ([]byte, int) {
				if path != "/cosmos.upgrade.v1beta1.Query/CurrentPlan" {
					t.Errorf("asked %s", path)
				}
				return tt.value, tt.code
			})
			got, ok, err := c.Plan(t.Context())
			if got != tt.want || ok != (tt.want.Name != "") || (tt.wantErr == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("Plan = %+v, %t, %v, want %+v, %q", got, ok, err, tt.want, tt.wantErr)
			}
		})
	}
}

func TestParseProposal(t *testing.T) {
	const exec, legacy = "cosmos.authz.v1beta1.MsgExec", "cosmos.gov.v1.MsgExecLegacyContent"
	old := typed("cosmos.upgrade.v1beta1.SoftwareUpgradeProposal", text(1, "Old title"), text(2, "why"), nested(3, planMessage("v2", 7, "")))
	deep := softwareUpgrade("v2", 7)
	for range 100 {
		deep = typed(exec, nested(2, deep))
	}
	for _, tt := range []struct {
		name   string
		in     []byte
		plans  string
		cancel bool
	}{
		{"upgrade", proposalMessage(5, Voting, softwareUpgrade("v2", 7)), "[v2 at height 7]", false},
		{"beside-others", proposalMessage(5, Voting, typed("cosmos.bank.v1beta1.MsgSend", text(1, "x")), softwareUpgrade("v2", 7)), "[v2 at height 7]", false},
		{"in-exec", proposalMessage(5, Voting, typed(exec, text(1, "grantee"), nested(2, softwareUpgrade("v2", 7)))), "[v2 at height 7]", false},
		{"in-legacy-content", proposalMessage(5, Voting, typed(legacy, nested(1, old))), "[v2 at height 7]", false},
		{"v1beta1", join(varint(1, 5), nested(2, old), varint(3, 2), nested(9, varint(1, 1800000000)), text(11, "Go to the [31mnext")), "[v2 at height 7]", false},
		{"cancel", proposalMessage(5, Voting, typed("cosmos.upgrade.v1beta1.MsgCancelUpgrade", text(1, "cosmos1gov"))), "[]", true},
		{"in-a-group-message", proposalMessage(5, Voting, typed("cosmos.group.v1.MsgSubmitProposal", nested(4, softwareUpgrade("v2", 7)))), "[]", false},
		{"nested-too-deep", proposalMessage(5, Voting, deep), "[]", false},
		{"plan-without-a-name", proposalMessage(5, Voting, softwareUpgrade("", 7)), "[]", false},
		{"broken-inside", proposalMessage(5, Voting, typed(exec, []byte{0xff})), "[]", false},
		{"nothing", proposalMessage(5, Voting), "[]", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := parseProposal(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(p.Plans); got != tt.plans || p.Cancel != tt.cancel || p.ID != 5 || p.Status != Voting {
				t.Errorf("plans %s, cancel %t, %+v", got, p.Cancel, p)
			}
			if p.Title != "Go tothe [31mnext" && p.Title != "Go to the [31mnext" || !p.Ends.Equal(time.Unix(1800000000, 0)) {
				t.Errorf("title %q, ends %v", p.Title, p.Ends)
			}
		})
	}
	if p, err := parseProposal(proposalMessage(5, Deposit)); err != nil || !p.Ends.Equal(time.Unix(1700000000, 0)) {
		t.Errorf("in deposit: %+v, %v", p, err)
	}
	if _, err := parseProposal([]byte{0xff}); err == nil {
		t.Error("a broken proposal is read")
	}
}

// pageOf answers a QueryProposalsRequest from what there is of each status.
func pageOf(request []byte, there map[ProposalStatus][][]byte) []byte {
	status, _ := number(request, 1)
	page := part(request, 4)
	offset, _ := number(page, 2)
	limit, _ := number(page, 3)
	found := there[ProposalStatus(status)]
	var answer []byte
	for i := offset; i < min(offset+limit, int64(len(found))); i++ {
		answer = append(answer, nested(1, found[i])...)
	}
	return answer
}

func TestProposals(t *testing.T) {
	contract := typed("cosmwasm.wasm.v1.MsgStoreCode", nested(2, make([]byte, 1<<10)))
	many := map[ProposalStatus][][]byte{Deposit: {proposalMessage(90, Deposit, softwareUpgrade("v4", 400))}}
	for id := int64(40); id > 25; id-- {
		m := contract
		switch id {
		case 33:
			m = softwareUpgrade("v3", 300)
		case 30:
			m = typed("cosmwasm.wasm.v1.MsgStoreCode", nested(2, make([]byte, 5<<20))) // no answer holds it
		case 27:
			m = softwareUpgrade("v2", 200)
		}
		many[Voting] = append(many[Voting], proposalMessage(id, Voting, m))
	}
	for _, tt := range []struct {
		name   string
		answer func(path string, request []byte) ([]byte, int)
		want   string
	}{
		{"large-ones-between", func(path string, request []byte) ([]byte, int) {
			if path != "/cosmos.gov.v1.Query/Proposals" {
				return nil, 6
			}
			return pageOf(request, many), 0
		}, "33 27 90"},
		{"v1beta1-only", func(path string, request []byte) ([]byte, int) {
			if path != "/cosmos.gov.v1beta1.Query/Proposals" {
				return nil, 6
			}
			return pageOf(request, map[ProposalStatus][][]byte{Voting: {proposalMessage(3, Voting, softwareUpgrade("v2", 2))}}), 0
		}, "3"},
		{"all-too-large", func(string, []byte) ([]byte, int) { return make([]byte, maxProposals+maxAnswer), 0 }, "too large"},
		{"no-governance", func(string, []byte) ([]byte, int) { return nil, 6 }, "code 6"},
		{"garbage", func(string, []byte) ([]byte, int) { return []byte{0xff, 0xff}, 0 }, "Proposals: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found, err := application(t, tt.answer).Proposals(t.Context())
			var ids []string
			for _, p := range found {
				ids = append(ids, fmt.Sprint(p.ID))
			}
			got := strings.Join(ids, " ")
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, tt.want) || err == nil && got != tt.want {
				t.Errorf("proposals %q, want %q", got, tt.want)
			}
		})
	}
}

func TestProposal(t *testing.T) {
	c := application(t, func(path string, request []byte) ([]byte, int) {
		if id, _ := number(request, 1); path == "/cosmos.gov.v1.Query/Proposal" && id == 12 {
			return nested(1, proposalMessage(12, Passed, softwareUpgrade("v2", 7))), 0
		}
		return nil, 22
	})
	if p, err := c.Proposal(t.Context(), 12); err != nil || p.ID != 12 || p.Status != Passed || len(p.Plans) != 1 || !p.Ends.IsZero() {
		t.Errorf("Proposal = %+v, %v", p, err)
	}
	if _, err := c.Proposal(t.Context(), 13); err == nil || !strings.Contains(err.Error(), "code 22") {
		t.Errorf("one that is not there: %v", err)
	}
}

// TestPlanOverGRPC: the same question to a node that has only gRPC.
func TestPlanOverGRPC(t *testing.T) {
	answer := nested(1, planMessage("v2", 7, ""))
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		if r.URL.Path != "/cosmos.upgrade.v1beta1.Query/CurrentPlan" {
			w.Header().Set("Grpc-Status", "12")
			return
		}
		w.Write(append([]byte{0, 0, 0, 0, byte(len(answer))}, answer...))
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	c := Find(home(t, ""), nil, noEnv, strings.TrimPrefix(server.URL, "http://"))
	if plan, ok, err := c.Plan(t.Context()); plan.Name != "v2" || !ok || err != nil {
		t.Errorf("Plan = %+v, %t, %v", plan, ok, err)
	}
	if _, err := c.Proposals(t.Context()); err == nil || !strings.Contains(err.Error(), "status 12") {
		t.Errorf("Proposals: %v", err)
	}
	if _, err := c.Pace(t.Context()); err != ErrNoAddress {
		t.Errorf("Pace: %v", err)
	}
}

func FuzzParseProposal(f *testing.F) {
	f.Add(proposalMessage(5, Voting, softwareUpgrade("v2", 7)))
	f.Add(proposalMessage(5, Voting, typed("cosmos.authz.v1beta1.MsgExec", nested(2, softwareUpgrade("v2", 7)))))
	f.Fuzz(func(t *testing.T, message []byte) {
		p, err := parseProposal(message)
		if err != nil {
			return
		}
		for _, plan := range p.Plans {
			if err := plan.Validate(); err != nil {
				t.Error(err)
			}
		}
		if strings.ContainsAny(p.Title, "\n\x1b") || len(p.Title) > maxTitle {
			t.Errorf("title %q", p.Title)
		}
	})
}

func FuzzParseResult(f *testing.F) {
	f.Add([]byte(`{"jsonrpc":"2.0","id":-1,"result":{"last_height":"30","block_metas":[{"header":{"height":"30","time":"2026-01-02T03:04:05.6Z"}}]}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		var answer blockchainAnswer
		if parseResult(content, &answer) != nil {
			return
		}
		headers, err := answer.headers()
		if err != nil {
			return
		}
		p := paceOf(headers)
		if at, uncertainty, ok := p.At(p.Height + 1000); ok && (p.Block <= 0 || uncertainty < 0 || at.Before(p.Time)) {
			t.Errorf("%+v: %v, %v", p, at, uncertainty)
		}
	})
}

func TestPace(t *testing.T) {
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	// A block each 6 s, by turns a second sooner and later; the newest node is at 2000, and has everything from keeps on.
	meta := func(height int64) string {
		return fmt.Sprintf(`{"header":{"height":"%d","time":%q}}`, height, start.Add(time.Duration(height)*6*time.Second+time.Duration(height%2)*time.Second).Format(time.RFC3339Nano))
	}
	for _, tt := range []struct {
		name             string
		keeps            int64
		blocks           int64
		block, uncertain time.Duration
	}{
		{"whole", 1, 1019, 6 * time.Second, 22 * time.Second},
		{"pruned", 1900, 19, 6 * time.Second, 50 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				from, to := int64(1981), int64(2000)
				if at := r.FormValue("minHeight"); at != "" {
					fmt.Sscan(at, &from)
					to = from
				}
				if from < tt.keeps {
					fmt.Fprint(w, `{"error":{"code":-32603,"message":"min height can't be less than the base"}}`)
					return
				}
				var metas []string
				for h := to; h >= from; h-- {
					metas = append(metas, meta(h))
				}
				fmt.Fprintf(w, `{"result":{"last_height":"2000","block_metas":[%s]}}`, strings.Join(metas, ","))
			}))
			defer server.Close()
			p, err := at(t, server).Pace(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if p.Height != 2000 || p.Blocks != tt.blocks || (p.Block-tt.block).Abs() > 100*time.Millisecond || p.Spread.Round(100*time.Millisecond) != time.Second {
				t.Errorf("%+v", p)
			}
			when, uncertainty, ok := p.At(2100)
			if want := start.Add(2100 * 6 * time.Second); !ok || when.Sub(want).Abs() > 7*time.Second || (uncertainty-tt.uncertain).Abs() > 3*time.Second {
				t.Errorf("At = %v, %v, %t, want %v, %v", when, uncertainty, ok, want, tt.uncertain)
			}
		})
	}
	for name, headers := range map[string][]header{"one": {{5, start}}, "backwards": {{5, start}, {6, start.Add(-time.Second)}}} {
		if p := paceOf(headers); p.Block != 0 {
			t.Errorf("%s: %+v", name, p)
		} else if _, _, ok := p.At(100); ok {
			t.Errorf("%s: a time without a pace", name)
		}
	}
	halted := paceOf([]header{{5, start}, {6, start.Add(2 * time.Second)}, {7, start.Add(time.Hour)}, {8, start.Add(time.Hour + 3*time.Second)}})
	if halted.Usual != 3*time.Second || halted.Block < 10*time.Minute {
		t.Errorf("after a halt: %+v", halted)
	}
	if _, _, ok := (Pace{Height: 1, Block: time.Hour}).At(1 << 62); ok {
		t.Error("a time beyond all times")
	}
}

// says is a connection over which every request is answered with the same bytes.
type says struct {
	content []byte
	asked   int
}

func (s *says) RoundTrip(*http.Request) (*http.Response, error) {
	s.asked++
	return &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 2,
		Header: http.Header{"Content-Type": {"application/grpc"}},
		Body:   io.NopCloser(bytes.NewReader(s.content)),
	}, nil
}

func (s *says) Err() error   { return nil }
func (s *says) Close() error { return nil }

// FuzzAnswers: whatever a node says, by RPC or gRPC, it is an error or what a node can say, and it is not asked without an end.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"result":{"response":{"last_block_height":"8","value":"CgA="},"block_metas":[{"header":{"height":"30","time":"2026-01-02T03:04:05Z"}}]}}`))
	f.Add([]byte(standingNetwork))
	f.Add(nested(1, planMessage("v2", 7, "")))
	f.Add(bytes.Repeat(nested(1, proposalMessage(5, Voting, softwareUpgrade("v2", 7))), proposalsAtOnce))
	f.Fuzz(func(t *testing.T, content []byte) {
		query := fmt.Appendf(nil, `{"result":{"response":{"value":%q}}}`, base64.StdEncoding.EncodeToString(content))
		frame := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(content))), content...)
		for _, answer := range [][]byte{content, query, frame} {
			s := &says{content: answer}
			byRPC := &endpoint{kind: rpc, base: "http://node", idle: &link{conn: s}}
			byGRPC := &endpoint{kind: gRPC, base: "http://node", idle: &link{conn: s}}
			for _, c := range []*Client{{rpc: byRPC}, {grpc: byGRPC}, {rpc: byRPC, grpc: byGRPC}} {
				if a, err := c.Committed(t.Context()); err == nil && (a.Height < 0 || a.AtMost < a.Height || a.AtMost > a.Height+1) {
					t.Errorf("committed %+v", a)
				}
				if plan, ok, err := c.Plan(t.Context()); err == nil && ok && plan.Validate() != nil {
					t.Errorf("plan %+v", plan)
				}
				proposals, _ := c.Proposals(t.Context())
				one, _ := c.Proposal(t.Context(), 5)
				for _, p := range append(proposals, one) {
					for _, plan := range p.Plans {
						if err := plan.Validate(); err != nil {
							t.Error(err)
						}
					}
				}
				if pace, err := c.Pace(t.Context()); err == nil && (pace.Height <= 0 || pace.Block < 0) {
					t.Errorf("pace %+v", pace)
				}
				if c, err := c.Consensus(t.Context()); err == nil && (c.Height <= 0 || c.Round < 0 || c.Voted < 0 || c.Voted > c.Power) {
					t.Errorf("consensus %+v", c)
				}
			}
			if s.asked > 4*(2*proposalsAtAll+10) {
				t.Errorf("asked %d times", s.asked)
			}
		}
	})
}
