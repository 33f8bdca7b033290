package testnode

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"solstice/node"
)

// Proposal is one of the chain's governance.
type Proposal struct {
	ID     uint64 `json:"id"`
	Status int    `json:"status"` // 1 in deposit, 2 in voting
	Title  string `json:"title"`
	Exec   bool   `json:"exec,omitempty"` // its message lies in an authz MsgExec
	Plan
}

// rpc answers what Solstice asks of CometBFT and of the application. A file rpc in the home takes the place of every answer but
// the height's and the node's own name: what is in it is sent.
func (n *running) rpc(w http.ResponseWriter, r *http.Request) {
	height := n.told.Load()
	if r.URL.Path == "/abci_info" {
		fmt.Fprintf(w, `{"jsonrpc":"2.0","id":-1,"result":{"response":{"last_block_height":"%d"}}}`, height)
		return
	}
	if r.URL.Path == "/status" {
		n.status(w, height)
		return
	}
	if garbage, err := os.ReadFile(filepath.Join(n.home, "rpc")); err == nil {
		w.Write(garbage)
		return
	}
	switch {
	case r.URL.Path == "/blockchain":
		n.blockchain(w, r, height)
	case strings.Contains(r.FormValue("path"), "Query/CurrentPlan"):
		var answer []byte
		if i := n.scheduled(height); i >= 0 {
			answer = bytesField(1, n.script.Plans[i].message())
		}
		abciAnswer(w, answer)
	case strings.Contains(r.FormValue("path"), "gov.v1.Query/Proposals"):
		abciAnswer(w, n.proposals(func(p Proposal) bool {
			return strings.HasPrefix(r.FormValue("data"), fmt.Sprintf("0x08%02x", p.Status)) // the field proposal_status
		}))
	case strings.Contains(r.FormValue("path"), "gov.v1.Query/Proposal"):
		abciAnswer(w, n.proposals(func(p Proposal) bool {
			return strings.EqualFold(r.FormValue("data"), fmt.Sprintf("0x%x", intField(1, int64(p.ID)))) // the field proposal_id
		}))
	default:
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":-1,"result":{"response":{"code":6,"log":"unknown query path"}}}`)
	}
}

// status answers with who the node is, by its key and its genesis, as far as they are there.
func (n *running) status(w http.ResponseWriter, height int64) {
	id, _ := node.ReadNodeID(filepath.Join(n.home, "config", "node_key.json"))
	chain, _ := node.ReadChainID(filepath.Join(n.home, "config", "genesis.json"))
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":-1,"result":{"node_info":{"id":%q,"network":%q},"sync_info":{"latest_block_height":"%d","catching_up":false}}}`,
		id, chain, height)
}

// blockchain answers with the headers of the last blocks, as far apart as this node makes them.
func (n *running) blockchain(w http.ResponseWriter, r *http.Request, height int64) {
	from, to := max(height-19, 1), height
	if asked, err := strconv.ParseInt(r.FormValue("minHeight"), 10, 64); err == nil {
		from, to = asked, asked
	}
	now := time.Now()
	var metas []string
	for h := to; h >= from; h-- {
		at, _ := json.Marshal(now.Add(-time.Duration(height-h) * n.script.BlockTime))
		metas = append(metas, fmt.Sprintf(`{"header":{"height":"%d","time":%s}}`, h, at))
	}
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":-1,"result":{"last_height":"%d","block_metas":[%s]}}`, height, strings.Join(metas, ","))
}

func abciAnswer(w http.ResponseWriter, value []byte) {
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":-1,"result":{"response":{"code":0,"value":%q}}}`, base64.StdEncoding.EncodeToString(value))
}

// scheduled is the plan that the chain would tell at a height, or -1.
func (n *running) scheduled(height int64) int {
	for i, p := range n.script.Plans {
		if i >= n.own && !p.Manual && height >= p.From && (p.Until == 0 || height < p.Until) {
			return i
		}
	}
	return -1
}

// proposals answers with those that are asked for: a QueryProposalResponse, or a QueryProposalsResponse of one page.
func (n *running) proposals(askedFor func(Proposal) bool) []byte {
	var answer []byte
	for _, p := range n.script.Proposals {
		if !askedFor(p) {
			continue
		}
		upgrade := anyField("cosmos.upgrade.v1beta1.MsgSoftwareUpgrade", bytesField(2, p.Plan.message()))
		if p.Exec {
			upgrade = anyField("cosmos.authz.v1beta1.MsgExec", bytesField(2, upgrade))
		}
		message := append(intField(1, int64(p.ID)), bytesField(2, upgrade)...)
		message = append(message, intField(3, int64(p.Status))...)
		ends := bytesField(protowire.Number(3+3*p.Status), intField(1, time.Now().Add(3*time.Hour).Unix())) // 6 deposit, 9 voting
		answer = append(answer, bytesField(1, append(append(message, ends...), bytesField(11, []byte(p.Title))...))...)
	}
	return answer
}

// message is the plan as the chain stores it.
func (p Plan) message() []byte {
	return append(append(bytesField(1, []byte(p.Name)), intField(3, p.Height)...), bytesField(4, []byte(p.Info))...)
}

func bytesField(field protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), content)
}

func intField(field protowire.Number, value int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, field, protowire.VarintType), uint64(value))
}

func anyField(kind string, value []byte) []byte {
	return append(bytesField(1, []byte("/"+kind)), bytesField(2, value)...)
}
