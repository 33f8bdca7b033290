package node

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/syndtr/goleveldb/leveldb/journal"
)

// journalOf is a journal of goleveldb with one batch for each height, which sets the key
// s/latest to it. The batches have these sequence numbers and those after it.
func journalOf(t testing.TB, sequence uint64, heights ...int64) []byte {
	t.Helper()
	var content bytes.Buffer
	w := journal.NewWriter(&content)
	for i, height := range heights {
		batch := binary.LittleEndian.AppendUint64(nil, sequence+uint64(i))
		batch = binary.LittleEndian.AppendUint32(batch, 1) // entries
		batch = append(batch, 1)                           // a value is put
		for _, s := range [][]byte{[]byte("s/latest"), varint(1, height)} {
			batch = append(binary.AppendUvarint(batch, uint64(len(s))), s...)
		}
		r, err := w.Next()
		check(t, err)
		_, err = r.Write(batch)
		check(t, err)
	}
	check(t, w.Close())
	return content.Bytes()
}

// TestSeveralJournals: a node that is killed while it makes a table of one journal leaves
// that one and the next, and often the end of the last is not whole. What counts is the last
// batch that is.
func TestSeveralJournals(t *testing.T) {
	const late = 1 << 40 // a sequence number
	var many []int64     // more than a block of a journal
	for i := range int64(2000) {
		many = append(many, 100+i)
	}
	for _, tt := range []struct {
		name  string
		files map[string][]byte
		cut   int // bytes off the end of the database's own journal
		want  int64
	}{
		{"next-is-empty", map[string][]byte{"000998.log": nil}, 0, 36},
		{"next-has-more", map[string][]byte{"000998.log": journalOf(t, late, 37, 38)}, 0, 38},
		{"three", map[string][]byte{
			"000998.log": journalOf(t, late, many...),
			"000999.log": journalOf(t, late+5000, 7000),
		}, 0, 7000},
		{"next-is-torn", map[string][]byte{"000998.log": journalOf(t, late, 37, 38)[:50]}, 0, 37},
		{"next-is-torn-at-once", map[string][]byte{"000998.log": journalOf(t, late, 37)[:5]}, 0, 36},
		{"first-is-torn", map[string][]byte{"000998.log": journalOf(t, late, 37)}, 2, 37},
		{"first-ends-amid-a-record", map[string][]byte{
			"000997.log": journalOf(t, late, many...)[:32<<10],
			"000998.log": journalOf(t, late+5000, 7000),
		}, 0, 7000},
		{"older-than-the-tables", map[string][]byte{"000001.log": journalOf(t, late, 99)}, 0, 36},
	} {
		t.Run(tt.name, func(t *testing.T) {
			home, settings := stoppedNode(t, goLevelDB, 37)
			dir := filepath.Join(home.Data(), "application.db")
			if tt.cut > 0 {
				own, err := filepath.Glob(filepath.Join(dir, "*.log"))
				check(t, err)
				slices.Sort(own)
				info, err := os.Stat(own[len(own)-1])
				check(t, err)
				check(t, os.Truncate(own[len(own)-1], info.Size()-int64(tt.cut)))
			}
			for name, content := range tt.files {
				write(t, filepath.Join(dir, name), content)
			}
			r := committedHere(home, settings)
			if r.Height != tt.want || r.Err != nil {
				t.Errorf("%+v, want %d", r, tt.want)
			}
			// The library, when it opens the database for a node, finds the same.
			db := create(t, goLevelDB, dir).(levelWriter)
			defer db.Close()
			value, err := db.Get([]byte("s/latest"), nil)
			check(t, err)
			if height, err := parseLatest(value); height != tt.want || err != nil {
				t.Errorf("a node finds %d, %v, want %d", height, err, tt.want)
			}
		})
	}
}

// TestWhichManifest: a crash while the manifest is replaced leaves a CURRENT that is not
// renamed, or only the one before.
func TestWhichManifest(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string // by name, with %s for the name of the manifest
		err   string
	}{
		{"current", map[string]string{}, ""},
		{"only-the-one-before", map[string]string{"CURRENT": "", "CURRENT.bak": "%s\n"}, ""},
		{"not-renamed", map[string]string{
			"CURRENT":         "MANIFEST-000001\n",
			"CURRENT.999":     "%s\n",
			"MANIFEST-000001": "x",
		}, ""},
		{"obsolete", map[string]string{"CURRENT.1": "MANIFEST-000001\n", "MANIFEST-000001": "x"}, ""},
		{"without-its-manifest", map[string]string{"CURRENT.999": "MANIFEST-000999\n"}, ""},
		{"damaged-beside", map[string]string{"CURRENT.999": "x", "CURRENT.bak": "y"}, ""},
		{"damaged", map[string]string{"CURRENT": "%s"}, "CURRENT has"},
		{"names-no-manifest", map[string]string{"CURRENT": "000001.log\n"}, "CURRENT has"},
		{"leads-away", map[string]string{"CURRENT": "../MANIFEST-000001\n"}, "CURRENT has"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			home, settings := stoppedNode(t, goLevelDB, 37)
			dir := filepath.Join(home.Data(), "application.db")
			current, err := os.ReadFile(filepath.Join(dir, "CURRENT"))
			check(t, err)
			remove(t, filepath.Join(dir, "CURRENT.bak"))
			for name, content := range tt.files {
				if bytes.Contains([]byte(content), []byte("%s")) {
					content = fmt.Sprintf(content, bytes.TrimSpace(current))
				}
				write(t, filepath.Join(dir, name), []byte(content))
			}
			r := committedHere(home, settings)
			checkErr(t, r.Err, tt.err)
			if tt.err == "" && r.Height != 36 {
				t.Errorf("%+v", r)
			}
		})
	}
}

func FuzzJournalsOf(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "application.db")
	makeDatabase(f, goLevelDB, dir, "s/latest", varint(1, 36))
	manifests, err := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
	if err != nil || len(manifests) == 0 {
		f.Fatal(manifests, err)
	}
	content, err := os.ReadFile(manifests[0])
	check(f, err)
	f.Add(content)
	f.Fuzz(func(t *testing.T, content []byte) {
		// As a record of a manifest whose checksum is right, since no other gets far.
		var manifest bytes.Buffer
		w := journal.NewWriter(&manifest)
		r, err := w.Next()
		check(t, err)
		_, err = r.Write(content)
		check(t, err)
		check(t, w.Close())
		_, _, _ = journalsOf(&manifest) // it returns
		_, _, _ = journalsOf(bytes.NewReader(content))
	})
}
