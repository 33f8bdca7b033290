package upgrade

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"solstice"
	"solstice/artifact"
	"solstice/internal/durable"
	"solstice/internal/shell"
)

// Prepared is a binary that was got for a plan and put in its place, and what is known of where it came from.
type Prepared struct {
	Dir      string    `json:"dir"` // of the binary, relative to the folder cosmovisor/
	Plan     string    `json:"plan,omitempty"`
	Digest   string    `json:"digest,omitempty"`   // of the binary
	Source   string    `json:"source,omitempty"`   // without secrets
	Checksum string    `json:"checksum,omitempty"` // that the source was compared with
	Signed   bool      `json:"signed,omitempty"`   // by a key that is trusted
	Info     string    `json:"info,omitempty"`     // what the plan's info hashes to; empty: the operator has said where the binary is
	ByHand   bool      `json:"by_hand,omitempty"`  // the operator has put another one in its place: nothing is held against that
	Time     time.Time `json:"time"`
}

// abandonedAfter is how long what is left of a download that broke off is kept.
const abandonedAfter = 7 * 24 * time.Hour

// Prepare gets the binary of a plan, as its info says, and puts it where a start of the upgrade finds it. there is true if
// one is there already; then nothing is fetched. A download that breaks off is gone on with by the next try; two at once
// are refused. The binary is for this info only: a plan is often known by the word of who answers as the node's RPC, and what the node
// itself writes at the height may be something else.
func Prepare(ctx context.Context, home solstice.Home, plan solstice.Plan, f artifact.Fetcher) (p Prepared, there bool, err error) {
	p, there, err = prepare(ctx, home, Prepared{Plan: plan.Name, Info: hashInfo(plan)}, f, func() (artifact.Info, error) { return f.Resolve(ctx, plan.Info) })
	if there && err == nil {
		err = CheckPlanned(home, plan, p.Dir, &Probes{})
	}
	return p, there, err
}

// PrepareOwn is Prepare for a plan of which the operator has said where its binary is, whatever the chain's info says.
func PrepareOwn(ctx context.Context, home solstice.Home, plan solstice.Plan, f artifact.Fetcher) (p Prepared, there bool, err error) {
	return prepare(ctx, home, Prepared{Plan: plan.Name}, f, func() (artifact.Info, error) { return f.Resolve(ctx, plan.Info) })
}

// PrepareVersion is PrepareOwn for a version that a chain registry lists.
func PrepareVersion(ctx context.Context, home solstice.Home, v artifact.Version, f artifact.Fetcher) (p Prepared, there bool, err error) {
	return prepare(ctx, home, Prepared{Plan: v.Name}, f, func() (artifact.Info, error) { return v.Info, nil })
}

func prepare(ctx context.Context, home solstice.Home, p Prepared, f artifact.Fetcher, resolve func() (artifact.Info, error)) (_ Prepared, there bool, err error) {
	name := p.Plan
	p.Dir, p.Time = home.UpgradeDir(name), time.Now()
	path := home.Binary(p.Dir)
	if _, err := os.Lstat(path); err == nil {
		_ = dropDownloads(home, p.Dir) // else the next start does
		return p, true, CheckBinary(home, p.Dir, &Probes{})
	}
	info, err := resolve()
	if err != nil {
		return p, false, err
	}
	folder, release, err := downloadFolder(home, name, info)
	if err != nil {
		return p, false, err
	}
	defer release()
	got, err := f.Get(ctx, info, home.Name, folder)
	if err != nil {
		return p, false, err
	}
	p.Source, p.Checksum, p.Signed = artifact.Redact(got.Source.URL.String()), got.Checksum.String(), got.Signed
	if p.Digest, err = artifact.Digest(got.Path); err != nil {
		return p, false, err
	}
	err = durable.Locked(home.StateDir, func() error { return place(home, got, &p) })
	if err != nil {
		return p, false, err
	}
	return p, false, os.RemoveAll(folder)
}

// downloadFolder is the folder that a download lies in until it is whole, locked. Others that were given up are removed.
func downloadFolder(home solstice.Home, name string, info artifact.Info) (folder string, release func(), err error) {
	sum := sha256.Sum256(fmt.Append(nil, info.Binaries)) // a map is printed in order
	folder = filepath.Join(home.DownloadDir(), downloadsOf(home.UpgradeDir(name))+hex.EncodeToString(sum[:8]))
	if err := durable.MkdirAll(folder, 0o700); err != nil {
		return "", nil, err
	}
	lock, err := durable.Lock(folder)
	if errors.Is(err, durable.ErrLocked) {
		return "", nil, &solstice.RefusedError{Reason: fmt.Sprintf("the binary of plan %s is being downloaded already", name), Hint: "see how far it is: solstice status"}
	}
	if err != nil {
		return "", nil, err
	}
	others, err := os.ReadDir(home.DownloadDir())
	for _, e := range others {
		path := filepath.Join(home.DownloadDir(), e.Name())
		if info, statErr := e.Info(); statErr == nil && path != folder && time.Since(info.ModTime()) > abandonedAfter {
			if other, lockErr := durable.Lock(path); lockErr == nil {
				err = errors.Join(err, os.RemoveAll(path))
				other.Close()
			}
		}
	}
	return folder, func() {
		_ = os.Remove(folder) // if nothing is in it
		lock.Close()
	}, err
}

// downloadsOf begins the names of the download folders for a binary's directory.
func downloadsOf(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return hex.EncodeToString(sum[:8]) + "-"
}

// dropDownloads removes what is left of downloads whose binary is in its place: of one that was cut off at its very end, or that
// the operator was faster than. One that somebody is at is left to them.
func dropDownloads(home solstice.Home, dir string) error {
	folders, err := os.ReadDir(home.DownloadDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range folders {
		if !strings.HasPrefix(e.Name(), downloadsOf(dir)) {
			continue
		}
		folder := filepath.Join(home.DownloadDir(), e.Name())
		if lock, lockErr := durable.Lock(folder); lockErr == nil {
			err = errors.Join(err, os.RemoveAll(folder))
			lock.Close()
		}
	}
	return err
}

// place puts the libraries and the sidecars' binaries in their place, then the binary, whose being there is what counts, and records it.
func place(home solstice.Home, got artifact.Got, p *Prepared) error {
	path := home.Binary(p.Dir)
	libraries := artifact.Libraries(path)
	if len(got.Libraries) > 0 {
		if err := durable.MkdirAll(libraries, 0o755); err != nil {
			return err
		}
	}
	for _, from := range got.Libraries {
		to := filepath.Join(libraries, filepath.Base(from))
		temp := durable.TempName(to)
		err := durable.CopyFile(from, temp, 0o755)
		if err == nil {
			err = durable.Rename(temp, to) // over what a try that was cut off has placed
		}
		if err != nil {
			return errors.Join(err, os.RemoveAll(temp))
		}
	}
	if err := placeSidecars(home, got, p.Plan); err != nil {
		return err
	}
	_, undo, keep, err := Stage(home, p.Plan, got.Path, false)
	if err != nil {
		return err
	}
	if err := p.append(home); err != nil {
		return errors.Join(err, undo())
	}
	return keep()
}

// placeSidecars puts the sidecars' binaries that came with a plan's in their place, where none is there yet. Those that did not come
// are for the operator.
func placeSidecars(home solstice.Home, got artifact.Got, plan string) error {
	for _, name := range home.Sidecars {
		from, found := got.File(name)
		if _, err := os.Lstat(home.File(home.UpgradeDir(plan), name)); !found || err == nil {
			continue
		}
		_, _, keep, err := StageAs(home, plan, name, from, false)
		if err != nil {
			return err
		}
		if err := keep(); err != nil {
			return err
		}
	}
	return nil
}

func (p Prepared) append(home solstice.Home) error {
	line, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return durable.AppendLine(home.PreparedFile(), line)
}

// ForgetPrepared notes that the operator has put a binary of his own into a directory. It is not held against the one that was
// downloaded.
func ForgetPrepared(home solstice.Home, dir string) error {
	_, known, err := ReadPrepared(home, dir)
	if err != nil || !known {
		return err
	}
	return Prepared{Dir: dir, ByHand: true, Time: time.Now()}.append(home)
}

// ReadPrepared returns what is known of the binary in a directory, if Prepare put it there: the last record of it.
func ReadPrepared(home solstice.Home, dir string) (Prepared, bool, error) {
	content, err := solstice.ReadFile(home.PreparedFile(), solstice.MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return Prepared{}, false, nil
	}
	var found Prepared
	for line := range bytes.Lines(content) {
		var p Prepared
		if json.Unmarshal(line, &p) == nil && p.Dir == dir {
			found = p
		}
	}
	return found, found.Dir != "" && !found.ByHand, err
}

// Verify refuses a binary that is another than the one that was downloaded and verified.
func (p Prepared) Verify(home solstice.Home, probes *Probes) error {
	path := home.Binary(p.Dir)
	digest, err := probes.Digest(path)
	if err != nil || digest == p.Digest {
		return err
	}
	return &solstice.RefusedError{
		Reason: fmt.Sprintf("%s is another binary than the one that was downloaded and verified: it is %s, and what came from %s was %s", path, digest, p.Source, p.Digest),
		Hint: fmt.Sprintf("if you have put it there yourself, say so: solstice add-upgrade %s PATH --force; if not, find out who did, delete it, and get it again: solstice prepare-upgrade",
			shell.Quote(p.Plan)),
	}
}

// CheckBinary says why the binary in a directory must not be started, or nil: it can't run here, or it is another than the one that
// was verified. One that nobody has downloaded is taken as it is: who put it there knows what it is.
func CheckBinary(home solstice.Home, dir string, probes *Probes) error {
	if err := artifact.Check(home.Binary(dir)); err != nil {
		return err
	}
	p, known, err := ReadPrepared(home, dir)
	if err != nil || !known {
		return err
	}
	return p.Verify(home, probes)
}

// CheckPlanned is CheckBinary for a binary that a plan asks for. One that was downloaded for another info than the plan has is not
// what the chain has decided.
func CheckPlanned(home solstice.Home, plan solstice.Plan, dir string, probes *Probes) error {
	if err := CheckBinary(home, dir, probes); err != nil {
		return err
	}
	p, known, err := ReadPrepared(home, dir)
	if err != nil || !known {
		return err
	}
	return p.For(home, plan)
}

// For refuses a binary for a plan with another info than it was downloaded for.
func (p Prepared) For(home solstice.Home, plan solstice.Plan) error {
	if p.Info == "" || p.Info == hashInfo(plan) {
		return nil
	}
	return &solstice.RefusedError{
		Reason: fmt.Sprintf("%s was downloaded from %s for another info than plan %s has", home.Binary(p.Dir), p.Source, plan),
		Hint: fmt.Sprintf("if it is the right one all the same, say so: solstice add-upgrade %s PATH --force; if not, delete it, and get it again: solstice prepare-upgrade",
			shell.Quote(p.Plan)),
	}
}

// hashInfo is what a plan's info hashes to: itself it may be long, and hold secrets.
func hashInfo(plan solstice.Plan) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(strings.TrimSpace(plan.Info))))
}
