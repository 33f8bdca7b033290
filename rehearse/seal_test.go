package rehearse

import (
	"encoding/json"
	"testing"
)

// TestSignState: what a node of SDK v0.54 wrote for its vote on block 35, and took for given when it made block 36 again.
func TestSignState(t *testing.T) {
	const commit = `{"height":"35","round":0,"block_id":{"hash":"2C25D4BE3FB72D10F9BA70E1405355E4375A1EB0393484BD8D7B9AD0B8C5125B",
		"parts":{"total":1,"hash":"FCD9F1EC903045646D7EDB73380B2BA303A10D0EDFA113EFD0DF065472542AFF"}},"signatures":[{"block_id_flag":2,
		"timestamp":"2026-11-25T21:46:14.556771787Z",
		"signature":"2G5NkpHhM/nlAFwTg3vZec/w6+WC4N45xJRvI1mO4EIYwjugn1Vk4rdA4MFE/PzAQH4OP/pX5Sn5Iykp0/C2Cg=="}]}`
	const want = `{"height":"35","round":0,"signature":"2G5NkpHhM/nlAFwTg3vZec/w6+WC4N45xJRvI1mO4EIYwjugn1Vk4rdA4MFE/PzAQH4OP/pX5Sn5Iykp0/C2Cg==",` +
		`"signbytes":"6A080211230000000000000022480A202C25D4BE3FB72D10F9BA70E1405355E4375A1EB0393484BD8D7B9AD0B8C5125B122408011220FCD9F1EC9030` +
		`45646D7EDB73380B2BA303A10D0EDFA113EFD0DF065472542AFF2A0C08A6AE9DD80610CBD3BE890232057265682D31","step":3}`
	var s seal
	if err := json.Unmarshal([]byte(commit), &s); err != nil {
		t.Fatal(err)
	}
	got, err := s.signState("reh-1")
	if err != nil || string(got) != want {
		t.Errorf("signState = %s, %v, want %s", got, err, want)
	}
}
