package node

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/syndtr/goleveldb/leveldb"
	ldberrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/journal"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"
	"github.com/syndtr/goleveldb/leveldb/util"

	"solstice"
)

// readLevelDB opens a database of goleveldb and reads it.
func readLevelDB(dir string, journals int64, read func(database) error) error {
	db, err := leveldb.Open(levelFiles(dir), &opt.Options{
		ReadOnly:               true,
		ErrorIfMissing:         true,
		DisableBlockCache:      true,
		DisableSeeksCompaction: true,
		NoSync:                 true,
		OpenFilesCacheCapacity: 4,
		WriteBuffer:            max(64<<10, int(journals)), // the journals go there: a smaller one grows, again and again
	})
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	if err = read(levelDatabase{db}); err != nil {
		err = fmt.Errorf("read %s: %w", dir, err)
	}
	return errors.Join(err, db.Close())
}

type levelDatabase struct{ db *leveldb.DB }

func (d levelDatabase) get(key []byte) ([]byte, error) {
	value, err := d.db.Get(key, nil)
	if errors.Is(err, leveldb.ErrNotFound) {
		return nil, errNotFound
	}
	return value, err
}

func (d levelDatabase) each(prefix []byte, see func(key, value []byte) error) error {
	entries := d.db.NewIterator(util.BytesPrefix(prefix), nil)
	defer entries.Release()
	for entries.Next() {
		if err := see(slices.Clone(entries.Key()), slices.Clone(entries.Value())); err != nil {
			return err
		}
	}
	return entries.Error()
}

// levelFiles is a directory with a database of goleveldb, which this view lets nobody change.
// The library's own, opened to be read only, keeps a lock for as long as it is open, and
// creates the file LOCK.
type levelFiles string

// Names are those of storage.FileDesc: MANIFEST-000001, 000001.log, and 000001.ldb for a
// table, before 2013 000001.sst.
func (f levelFiles) parse(name string) (fd storage.FileDesc, ok bool) {
	digits, ok := strings.CutPrefix(name, "MANIFEST-")
	if ok {
		fd.Type = storage.TypeManifest
	} else if fd.Type = levelTypes[filepath.Ext(name)]; fd.Type != 0 {
		digits = strings.TrimSuffix(name, filepath.Ext(name))
	}
	num, err := strconv.ParseInt(digits, 10, 64)
	fd.Num = num
	return fd, err == nil && num >= 0 && fd.Type != 0
}

var levelTypes = map[string]storage.FileType{
	".log": storage.TypeJournal,
	".ldb": storage.TypeTable,
	".sst": storage.TypeTable,
}

// GetMeta returns the manifest in use. CURRENT names it. A crash can leave a newer
// CURRENT.NUMBER that was not renamed, or nothing but CURRENT.bak.
func (f levelFiles) GetMeta() (storage.FileDesc, error) {
	names, err := f.names()
	if err != nil {
		return storage.FileDesc{}, err
	}
	pending := slices.DeleteFunc(names, func(name string) bool {
		return !strings.HasPrefix(name, "CURRENT.") || name == "CURRENT.bak"
	})
	var newest storage.FileDesc
	damaged := fs.ErrNotExist
	for _, name := range slices.Concat([]string{"CURRENT", "CURRENT.bak"}, pending) {
		if name == "CURRENT.bak" && !newest.Zero() {
			continue
		}
		fd, err := f.manifestIn(filepath.Join(string(f), name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case ldberrors.IsCorrupted(err):
			damaged = err
		case err != nil:
			return storage.FileDesc{}, err // an older manifest would tell of an older height
		case newest.Zero() || fd.Num > newest.Num:
			newest = fd
		}
	}
	if newest.Zero() {
		return newest, damaged
	}
	return newest, nil
}

// manifestIn returns the manifest that a file names, if there is such a manifest.
func (f levelFiles) manifestIn(path string) (storage.FileDesc, error) {
	content, err := solstice.ReadFile(path, 4<<10)
	if err != nil {
		return storage.FileDesc{}, err
	}
	line, whole := strings.CutSuffix(string(content), "\n")
	fd, ok := f.parse(line)
	if !whole || !ok || fd.Type != storage.TypeManifest {
		return fd, &storage.ErrCorrupted{Err: fmt.Errorf("%s has %.40q", path, content)}
	}
	_, err = os.Stat(filepath.Join(string(f), fd.String()))
	return fd, err
}

func (f levelFiles) names() ([]string, error) {
	d, err := os.Open(string(f))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// List finds what is asked for, but of the journals that count only the last, which Open then
// gives with those before it: a node that is killed leaves two, and the library, opened to be
// read only, takes the end of the first for a fault.
func (f levelFiles) List(types storage.FileType) (found []storage.FileDesc, err error) {
	if types == storage.TypeJournal {
		live, err := f.liveJournals()
		return live[max(len(live)-1, 0):], err
	}
	return f.list(types)
}

func (f levelFiles) list(types storage.FileType) (found []storage.FileDesc, err error) {
	names, err := f.names()
	for _, name := range names {
		if fd, ok := f.parse(name); ok && fd.Type&types != 0 {
			found = append(found, fd)
		}
	}
	return found, err
}

// liveJournals are the journals that the manifest does not say to be in tables, in their order.
func (f levelFiles) liveJournals() ([]storage.FileDesc, error) {
	manifest, err := f.GetMeta()
	if err != nil {
		return nil, err
	}
	file, err := os.Open(filepath.Join(string(f), manifest.String()))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	first, before, err := journalsOf(file)
	if err != nil {
		return nil, err
	}
	journals, err := f.list(storage.TypeJournal)
	journals = slices.DeleteFunc(journals, func(fd storage.FileDesc) bool { return fd.Num < first && fd.Num != before })
	slices.SortFunc(journals, func(a, b storage.FileDesc) int { return cmp.Compare(a.Num, b.Num) })
	return journals, err
}

// journalsOf reads from a manifest which journals count: those from first on, and the one
// before. Its records are numbers and texts, by these tags (session_record.go): 1 comparer, 2
// first journal, 3 next file, 4 sequence, 5 compaction of a level up to a key, 6 a deleted
// table of a level, 7 a new table of a level, its size and its two ends, 9 the journal
// before.
func journalsOf(manifest io.Reader) (first, before int64, err error) {
	forms := map[uint64]string{1: "t", 2: "n", 3: "n", 4: "n", 5: "nt", 6: "nn", 7: "nnntt", 9: "n"}
	for records := journal.NewReader(manifest, nil, false, true); ; {
		r, err := records.Next()
		if err == io.EOF {
			return first, before, nil
		}
		if err != nil {
			return 0, 0, err
		}
		record, err := io.ReadAll(r)
		if err == io.ErrUnexpectedEOF {
			continue // the library skips it too
		}
		if err != nil {
			return 0, 0, err
		}
		for in := (&fieldReader{record}); len(in.rest) > 0; {
			tag := in.uvarint()
			form, ok := forms[tag]
			if !ok {
				return 0, 0, fmt.Errorf("the manifest has a tag %d", tag)
			}
			var n uint64
			for _, what := range form {
				if what == 't' {
					in.bytes()
				} else {
					n = in.uvarint()
				}
			}
			switch {
			case in.rest == nil:
				return 0, 0, errors.New("the manifest is cut off")
			case tag == 2:
				first = int64(n)
			case tag == 9:
				before = int64(n)
			}
		}
	}
}

func (f levelFiles) Open(fd storage.FileDesc) (storage.Reader, error) {
	if fd.Type == storage.TypeJournal {
		return f.openJournals()
	}
	file, err := os.Open(filepath.Join(string(f), fd.String()))
	if fd.Type == storage.TypeTable && errors.Is(err, fs.ErrNotExist) {
		file, err = os.Open(filepath.Join(string(f), fmt.Sprintf("%06d.sst", fd.Num)))
	}
	if err != nil {
		return nil, err
	}
	if fd.Type == storage.TypeTable {
		if err := checkFooter(file); err != nil {
			file.Close()
			return nil, &storage.ErrCorrupted{Fd: fd, Err: err}
		}
	}
	return file, nil
}

// journals are several, one after the other.
type journals struct {
	storage.Reader // of the last
	all            io.Reader
	before         []io.Closer
}

func (j journals) Read(p []byte) (int, error) { return j.all.Read(p) }

func (j journals) Close() error {
	for _, file := range j.before {
		file.Close()
	}
	return j.Reader.Close()
}

// openJournals opens all that count. A journal is read in blocks, of which one of zeros is
// skipped: it keeps a record that is cut off from going on in the next journal.
func (f levelFiles) openJournals() (storage.Reader, error) {
	const block = 32 << 10
	live, err := f.liveJournals()
	if err != nil || len(live) == 0 {
		return nil, cmp.Or(err, fs.ErrNotExist)
	}
	var opened journals
	var parts []io.Reader
	for i, fd := range live {
		file, err := os.Open(filepath.Join(string(f), fd.String()))
		var size int64
		if err == nil {
			size, err = file.Seek(0, io.SeekEnd)
		}
		if err == nil {
			_, err = file.Seek(0, io.SeekStart)
		}
		if err != nil {
			for _, file := range opened.before {
				file.Close()
			}
			return nil, err
		}
		parts = append(parts, file)
		if i < len(live)-1 {
			parts = append(parts, bytes.NewReader(make([]byte, block+(block-size%block)%block)))
			opened.before = append(opened.before, file)
		} else {
			opened.Reader = file
		}
	}
	opened.all = io.MultiReader(parts...)
	return opened, nil
}

func (f levelFiles) Lock() (storage.Locker, error)                   { return f, nil }
func (f levelFiles) Unlock()                                         {}
func (f levelFiles) Log(string)                                      {}
func (f levelFiles) Close() error                                    { return nil }
func (f levelFiles) SetMeta(storage.FileDesc) error                  { return errReadOnly }
func (f levelFiles) Create(storage.FileDesc) (storage.Writer, error) { return nil, errReadOnly }
func (f levelFiles) Remove(storage.FileDesc) error                   { return errReadOnly }
func (f levelFiles) Rename(_, _ storage.FileDesc) error              { return errReadOnly }

// checkFooter returns an error if the footer of a table names a block that the file does not
// hold: the library would allocate whatever a damaged footer says, and no checksum guards it.
// The footer is 48 bytes: offset and length of two blocks, as varints, padding, 8 bytes of
// magic.
func checkFooter(file io.ReadSeeker) error {
	end, err := file.Seek(-48, io.SeekEnd) // of the blocks
	if err != nil {
		return errors.New("it is too short for a table")
	}
	footer := make([]byte, 40)
	if _, err := io.ReadFull(file, footer); err != nil {
		return err
	}
	for range 2 {
		offset, n := binary.Uvarint(footer)
		length, m := binary.Uvarint(footer[max(n, 0):])
		if n <= 0 || m <= 0 || offset > uint64(end) || length > uint64(end)-offset {
			return errors.New("its footer names a block outside of the file")
		}
		footer = footer[n+m:]
	}
	return nil
}
