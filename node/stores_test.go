package node

import (
	"maps"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"solstice"
)

func TestReadStores(t *testing.T) {
	home := solstice.Home{Node: t.TempDir()}
	field := func(message []byte, number protowire.Number, content []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(message, number, protowire.BytesType), content)
	}
	info := varint(1, 36)
	for name, hash := range map[string]byte{"bank": 0xab, "gov": 0xcd} {
		info = field(info, 2, field(field(nil, 1, []byte(name)), 2, field(varint(1, 36), 2, []byte{hash})))
	}
	makeDatabase(t, filepath.Join(home.Data(), "application.db"), "s/36", info)
	got, err := ReadStores(home, 36)
	if want := map[string]string{"bank": "ab", "gov": "cd"}; err != nil || !maps.Equal(got, want) {
		t.Errorf("ReadStores = %v, %v, want %v", got, err, want)
	}
	if got, err := ReadStores(home, 35); err == nil || len(got) > 0 {
		t.Errorf("ReadStores of a height that there is not = %v, %v", got, err)
	}
}
