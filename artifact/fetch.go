package artifact

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"aead.dev/minisign"

	"solstice"
)

// Bounds of what is fetched.
const (
	MaxDownload = 4 << 30 // bytes of one artifact
	MaxUnpacked = 2 << 30 // bytes that it may become; SOLSTICE_MAX_UNPACKED
	maxHeader   = 256 << 10
	tries       = 6 // of one address
	patience    = 30 * time.Second
	tellEvery   = 10 * time.Second
	slowest     = 16 << 10 // bytes a second that a server sends, by the mean of slowSpan
	slowSpan    = 5 * time.Minute
)

// Fetcher gets artifacts. The zero value works, with the bounds above.
type Fetcher struct {
	MustHaveChecksum bool                        // refuse what has none, also by https
	Keys             []minisign.PublicKey        // one of them must have signed the artifact, or its sums file; none: nothing need be signed
	MaxUnpacked      int64                       // bytes; 0: MaxUnpacked
	Log              *slog.Logger                // told of each try, and each 10 s how far it is
	Progress         func(done, total int64)     // of the download, in bytes; total is 0 where the server does not say it
	Transport        http.RoundTripper           // nil: over the proxies that the environment names
	Pause            func(try int) time.Duration // between two tries; nil: 1 s, and twice as long each time
	Patience         time.Duration               // how long a server may send nothing; 0: 30 s
	SlowSpan         time.Duration               // how long it may send less than 16 KiB/s; 0: 5 min
}

func (f Fetcher) log() *slog.Logger {
	if f.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return f.Log
}

// Resolve reads a plan's info, and follows the reference if it is one, once. A reference that is a path or comes by https needs no
// checksum unless all must have one.
func (f Fetcher) Resolve(ctx context.Context, info string) (Info, error) {
	parsed, err := ParseInfo(info)
	if err != nil || parsed.Reference == "" {
		return parsed, err
	}
	source, err := ParseSource(parsed.Reference)
	if err != nil {
		return Info{}, err
	}
	if local := source.URL.Scheme == "file"; !local || f.MustHaveChecksum {
		if err := source.allowed(f.MustHaveChecksum); err != nil {
			return Info{}, err
		}
	}
	content, err := f.document(ctx, source.URL)
	if err != nil {
		return Info{}, err
	}
	sum, _, err := f.checksum(ctx, source)
	if err != nil {
		return Info{}, err
	}
	if !sum.IsZero() {
		hash := sum.hash()
		hash.Write(content)
		if got := hex.EncodeToString(hash.Sum(nil)); got != sum.Sum {
			return Info{}, fmt.Errorf("%s is not what it should be: its checksum is %s:%s, not %s", shown(source.URL), sum.Kind, got, sum)
		}
	}
	parsed, err = parseBinaries(content)
	if err != nil {
		return Info{}, fmt.Errorf("%s: %w", shown(source.URL), err)
	}
	return parsed, nil
}

// document fetches something small.
func (f Fetcher) document(ctx context.Context, from url.URL) ([]byte, error) {
	folder, err := os.MkdirTemp("", "solstice-document-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	file, err := os.Create(filepath.Join(folder, "document"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := f.get(ctx, from, file, maxDocument); err != nil {
		return nil, err
	}
	return os.ReadFile(file.Name())
}

// checksum is what an artifact must hash to, looked up in its sums file if that is what names it; that file's content is sums.
func (f Fetcher) checksum(ctx context.Context, s Source) (sum Checksum, sums []byte, err error) {
	if s.Checksum.File == "" {
		return s.Checksum, nil, nil
	}
	u, err := parseURL(s.Checksum.File)
	if err != nil {
		return Checksum{}, nil, err
	}
	if sums, err = f.document(ctx, *u); err != nil {
		return Checksum{}, nil, fmt.Errorf("the sums file: %w", err)
	}
	if sum, err = FindSum(sums, path.Base(s.URL.Path)); err != nil {
		return Checksum{}, nil, fmt.Errorf("%s: %w", shown(*u), err)
	}
	return sum, sums, nil
}

// Fetch gets an artifact into a file and compares it with its checksum and its signature. What is there of it from an earlier try is gone on
// with, if the server says that it is the same file still. A file that is not what it should be is deleted.
func (f Fetcher) Fetch(ctx context.Context, s Source, to string) (Checksum, error) {
	if err := s.allowed(f.MustHaveChecksum); err != nil {
		return Checksum{}, err
	}
	sum, sums, err := f.checksum(ctx, s)
	if err != nil {
		return Checksum{}, err
	}
	if sum.Weak() {
		f.log().Warn("a checksum of this kind can be forged: ask for one of sha256", "checksum", sum, "url", shown(s.URL))
	}
	if sum.IsZero() {
		f.log().Warn("no checksum: what comes is trusted because it comes by https", "url", shown(s.URL))
	}
	file, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return Checksum{}, err
	}
	defer file.Close()
	if err := f.get(ctx, s.URL, file, MaxDownload); err != nil {
		info, statErr := file.Stat()
		var disk *fs.PathError
		// On a full disk the node has more use for the room than the next try for a beginning.
		if errors.As(err, &disk) || statErr == nil && info.Size() == 0 {
			err = errors.Join(err, os.Remove(to), forget(to))
		}
		return Checksum{}, err
	}
	hash := sum.hash()
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return Checksum{}, err
	}
	if _, err := io.Copy(hash, file); err != nil {
		return Checksum{}, err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); !sum.IsZero() && got != sum.Sum {
		err = fmt.Errorf("%s is not what it should be: its checksum is %s:%s, not %s; it was deleted", shown(s.URL), sum.Kind, got, sum)
	} else {
		err = f.checkSigned(ctx, s, file, sums)
	}
	if err != nil && ctx.Err() == nil {
		err = errors.Join(err, os.Remove(to), forget(to))
	}
	return sum, err
}

// get brings the whole of an address into a file, of which a front may be there.
func (f Fetcher) get(ctx context.Context, from url.URL, to *os.File, limit int64) error {
	if from.Scheme == "file" {
		return copyLocal(from.Path, to, limit)
	}
	pause := f.Pause
	if pause == nil {
		pause = func(try int) time.Duration { return time.Second << try }
	}
	for try := 0; ; try++ {
		err := f.try(ctx, from, to, limit)
		var final finalError
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &final):
			return fmt.Errorf("%s: %w", shown(from), final.error)
		case try == tries-1:
			return fmt.Errorf("%s: %w; tried %d times", shown(from), withoutURL(err), tries)
		}
		f.log().Info("the download broke off; it is tried again", "url", shown(from), "err", withoutURL(err), "in", pause(try))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause(try)):
		}
	}
}

// finalError is one that another try does not mend.
type finalError struct{ error }

func final(format string, values ...any) error { return finalError{fmt.Errorf(format, values...)} }

// withoutURL takes the address off an error of net/http, which stands before it already.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return redacted{err}
}

// try asks once, for what is missing.
func (f Fetcher) try(ctx context.Context, from url.URL, to *os.File, limit int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	wait := cmp.Or(f.Patience, patience)
	silent := time.AfterFunc(wait, func() { cancel(fmt.Errorf("the server sent nothing for %v", wait)) })
	defer silent.Stop()
	have, err := to.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from.String(), nil)
	if err != nil {
		return finalError{redacted{err}}
	}
	validator := remembered(to.Name())
	if have > 0 && validator != "" {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		req.Header.Set("If-Range", validator)
	}
	resp, err := f.client().Do(req)
	if err != nil {
		return orCause(ctx, err)
	}
	defer resp.Body.Close()
	part := resp.Header.Get("Content-Range")
	asked := req.Header.Get("Range") != ""
	switch {
	case resp.StatusCode == http.StatusOK:
		have, validator = 0, cmp.Or(strongETag(resp.Header), resp.Header.Get("Last-Modified"))
	case asked && resp.StatusCode == http.StatusPartialContent && strings.HasPrefix(part, fmt.Sprintf("bytes %d-", have)) && !isAnother(resp.Header, validator):
	case asked && resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && part == fmt.Sprintf("bytes */%d", have):
		return nil // all of it was here
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable, resp.StatusCode == http.StatusPartialContent:
		// There is more here than there, or something else. From the beginning, then.
		return errors.Join(fmt.Errorf("the server says %s, and it does not go with what is here", resp.Status), to.Truncate(0), forget(to.Name()))
	case resp.StatusCode >= 500, resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusRequestTimeout:
		return fmt.Errorf("the server says %s", resp.Status)
	default:
		return final("the server says %s", resp.Status)
	}
	total := int64(0)
	if resp.ContentLength >= 0 {
		total = have + resp.ContentLength
	}
	if total > limit {
		return final("it has %d bytes, and %d are the limit", total, limit)
	}
	if err := errors.Join(to.Truncate(have), os.WriteFile(validatorFile(to.Name()), []byte(validator), 0o600)); err != nil {
		return finalError{err}
	}
	if _, err := to.Seek(have, io.SeekStart); err != nil {
		return finalError{err}
	}
	told := time.Now()
	begun, before := told, have // of a span in which it may be slow
	body := &watched{from: resp.Body, read: func(n int) {
		silent.Reset(wait)
		have += int64(n)
		if span := time.Since(begun); span >= cmp.Or(f.SlowSpan, slowSpan) {
			if have-before < int64(slowest*span.Seconds()) {
				cancel(fmt.Errorf("the server sends less than %d KiB/s", slowest>>10))
			}
			begun, before = time.Now(), have
		}
		if time.Since(told) >= tellEvery {
			told = time.Now()
			f.log().Info("downloading", "url", shown(from), "done", have, "of", total)
		}
		if f.Progress != nil {
			f.Progress(have, total)
		}
	}}
	_, err = io.Copy(to, io.LimitReader(body, limit-have+1))
	var disk *fs.PathError
	switch {
	case errors.As(err, &disk):
		return finalError{err} // it can't be written
	case err != nil:
		return orCause(ctx, err)
	case have > limit:
		return errors.Join(final("it has more than %d bytes, which are the limit", limit), to.Truncate(0))
	}
	if err := to.Sync(); err != nil {
		return finalError{err}
	}
	return nil
}

// orCause is why a request was given up, or its own error.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// watched is a reader that tells how much was read.
type watched struct {
	from io.Reader
	read func(n int)
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.from.Read(p)
	w.read(n)
	return n, err
}

// client follows redirects to what vouches for as much.
func (f Fetcher) client() *http.Client {
	transport := f.Transport
	if transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.DisableCompression = true // a checksum and a range are of the bytes as they lie there
		t.DisableKeepAlives = true
		t.MaxResponseHeaderBytes = maxHeader
		transport = t
	}
	return &http.Client{Transport: transport, CheckRedirect: func(next *http.Request, before []*http.Request) error {
		switch {
		case len(before) >= 10:
			return final("it is redirected again and again")
		case next.URL.Scheme != "https" && next.URL.Scheme != "http":
			return final("it is redirected to %s, which is no https", shown(*next.URL))
		case next.URL.Scheme != "https" && before[len(before)-1].URL.Scheme == "https":
			return final("it is redirected from https to %s", shown(*next.URL))
		}
		return nil
	}}
}

// validatorFile lies beside a file that is not whole, and holds what If-Range asks for.
func validatorFile(name string) string { return name + ".validator" }

// strongETag is empty where there is none: weak ones are good for nothing here (RFC 9110, 13.1.5).
func strongETag(header http.Header) string {
	if etag := header.Get("ETag"); !strings.HasPrefix(etag, "W/") {
		return etag
	}
	return ""
}

// isAnother says whether what a server goes on with is not the file that was begun: not every server looks at If-Range.
func isAnother(header http.Header, validator string) bool {
	now := header.Get("Last-Modified")
	if strings.HasPrefix(validator, `"`) {
		now = header.Get("ETag")
	}
	return now != "" && now != validator
}

func remembered(name string) string {
	content, err := solstice.ReadFile(validatorFile(name), solstice.MaxFile)
	if err != nil || len(content) > 1<<10 {
		return ""
	}
	return string(content)
}

func forget(name string) error {
	if err := os.Remove(validatorFile(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// copyLocal copies a regular file.
func copyLocal(from string, to *os.File, limit int64) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return &solstice.RefusedError{Reason: fmt.Sprintf("%s is not a regular file of %s bytes at most", from, strconv.FormatInt(limit, 10))}
	}
	in, err := os.Open(filepath.Clean(from))
	if err != nil {
		return err
	}
	defer in.Close()
	if err := to.Truncate(0); err != nil {
		return err
	}
	if _, err := to.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(to, io.LimitReader(in, limit))
	return err
}
