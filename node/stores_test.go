package node

import (
	"maps"
	"path/filepath"
	"testing"

	"solstice"
)

func TestReadStores(t *testing.T) {
	for _, kind := range kinds {
		home := solstice.Home{Node: t.TempDir()}
		info := varint(1, 36)
		for name, hash := range map[string]byte{"bank": 0xab, "gov": 0xcd} {
			info = append(info, nested(2, join(text(1, name), nested(2, join(varint(1, 36), nested(2, []byte{hash})))))...)
		}
		makeDatabase(t, kind, filepath.Join(home.Data(), "application.db"), "s/36", info)
		got, err := ReadStores(home, 36)
		if want := map[string]string{"bank": "ab", "gov": "cd"}; err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: ReadStores = %v, %v, want %v", kind, got, err, want)
		}
		got, err = ReadStores(home, 35)
		checkErr(t, err, "s/35: not found")
		if len(got) > 0 {
			t.Errorf("%s: ReadStores of a height that is not there = %v", kind, got)
		}
	}
}
