package artifact

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"solstice"
)

// maxDocument is the largest document that is read whole: a plan's info, a registry, a sums file, a signature.
const maxDocument = 1 << 20

// Info is what a plan says about its binaries: where they are, or where the document is that says it.
type Info struct {
	Binaries  map[string]string // addresses by os/arch, or "any"
	Reference string            // an address or an absolute path; empty if Binaries is there
}

// ParseInfo reads the info of a plan: JSON with binaries, or a reference to it. It follows nothing.
func ParseInfo(text string) (Info, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return Info{}, errors.New("the plan's info is empty: it names no binary")
	case len(text) > maxDocument:
		return Info{}, fmt.Errorf("the plan's info is larger than %d bytes", maxDocument)
	case strings.HasPrefix(text, "{"):
		return parseBinaries([]byte(text))
	}
	if u, err := url.ParseRequestURI(text); err != nil || u.Scheme == "" && !path.IsAbs(text) {
		return Info{}, fmt.Errorf("the plan's info is neither JSON with binaries nor an address: %.80q", Redact(text))
	}
	return Info{Reference: text}, nil
}

// parseBinaries reads the document itself.
func parseBinaries(content []byte) (Info, error) {
	var document struct {
		Binaries map[string]string `json:"binaries"`
	}
	if err := json.Unmarshal(content, &document); err != nil {
		return Info{}, fmt.Errorf("the plan's info is no JSON with binaries: %w", err)
	}
	if len(document.Binaries) == 0 {
		return Info{}, errors.New("the plan's info names no binaries")
	}
	return Info{Binaries: document.Binaries}, nil
}

// For returns where the binary for a platform is: under os/arch, else under any.
func (i Info) For(goos, goarch string) (Source, error) {
	platform := goos + "/" + goarch
	for _, key := range []string{platform, "any"} {
		if address, ok := i.Binaries[key]; ok {
			return ParseSource(address)
		}
	}
	return Source{}, fmt.Errorf("no binary for %s: there are %s", platform, platforms(i.Binaries))
}

func platforms(binaries map[string]string) string {
	if len(binaries) == 0 {
		return "none"
	}
	names := slices.Sorted(maps.Keys(binaries))
	if len(names) > 8 {
		names = append(names[:8], "more")
	}
	for n, name := range names {
		names[n] = fmt.Sprintf("%.40q", name)
	}
	return strings.Join(names, ", ")
}

// Source is where an artifact is, what it must be, and how it is packed.
type Source struct {
	URL      url.URL // https, http or file; without the parameters that are ours
	Checksum Checksum
	Kind     string // one of kinds; empty for a binary as such
}

// kinds are the archives, by the ends of names. The longer of two ends comes first.
var kinds = []struct{ end, kind string }{
	{".tar.gz", "tar.gz"}, {".tgz", "tar.gz"}, {".tar.bz2", "tar.bz2"}, {".tbz2", "tar.bz2"},
	{".tar.xz", "tar.xz"}, {".txz", "tar.xz"}, {".tar.zst", "tar.zst"}, {".tzst", "tar.zst"},
	{".tar", "tar"}, {".zip", "zip"}, {".gz", "gz"}, {".bz2", "bz2"}, {".xz", "xz"}, {".zst", "zst"},
}

// ParseSource reads an address as go-getter does for files: the parameters checksum and archive are for us and not for the
// server. An absolute path is an address too.
func ParseSource(address string) (Source, error) {
	u, err := parseURL(address)
	if err != nil {
		return Source{}, err
	}
	query := u.Query()
	sum, err := ParseChecksum(query.Get("checksum"))
	if err != nil {
		return Source{}, fmt.Errorf("%s: %w", shown(*u), err)
	}
	archive := query.Get("archive")
	if query.Has("checksum") || query.Has("archive") {
		query.Del("checksum")
		query.Del("archive")
		u.RawQuery = query.Encode()
	}
	kind, err := kindOf(archive, u.Path)
	if err != nil {
		return Source{}, fmt.Errorf("%s: %w", shown(*u), err)
	}
	return Source{URL: *u, Checksum: sum, Kind: kind}, nil
}

// parseURL takes what is fetched: https, http, file, and absolute paths as file.
func parseURL(address string) (*url.URL, error) {
	address = strings.TrimSpace(address)
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("%.200q is not an address", Redact(address))
	}
	switch {
	case u.Scheme == "" && u.Host == "" && path.IsAbs(u.Path):
		u.Scheme = "file"
		return u, nil
	case (u.Scheme == "https" || u.Scheme == "http") && u.Host != "":
		u.Fragment = ""
		return u, nil
	case u.Scheme == "file" && (u.Host == "" || u.Host == "localhost") && filepath.IsAbs(u.Path):
		u.Host = ""
		return u, nil
	}
	return nil, fmt.Errorf("%.200q is no address that is fetched: https, http and file with an absolute path are", Redact(address))
}

// kindOf is how a file is packed: as it is said, else by the end of its name.
func kindOf(archive, name string) (string, error) {
	switch archive {
	case "":
		for _, k := range kinds {
			if strings.HasSuffix(strings.ToLower(name), k.end) {
				return k.kind, nil
			}
		}
		return "", nil
	case "false", "0", "f", "F", "FALSE", "False":
		return "", nil
	}
	for _, k := range kinds {
		if "."+archive == k.end {
			return k.kind, nil
		}
	}
	return "", fmt.Errorf("archive=%.40q is no kind of archive that is unpacked", archive)
}

// allowed says whether a source may be fetched: what no transport vouches for needs a checksum.
func (s Source) allowed(mustHaveChecksum bool) error {
	if !s.Checksum.IsZero() {
		return nil
	}
	switch {
	case s.URL.Scheme != "https":
		return &solstice.RefusedError{
			Reason: fmt.Sprintf("%s has no checksum, and %s vouches for nothing", shown(s.URL), s.URL.Scheme),
			Hint:   "add ?checksum=sha256:… to the address, or use https",
		}
	case mustHaveChecksum:
		return &solstice.RefusedError{
			Reason: fmt.Sprintf("%s has no checksum, and DAEMON_DOWNLOAD_MUST_HAVE_CHECKSUM is true", shown(s.URL)),
			Hint:   "add ?checksum=sha256:… to the address",
		}
	}
	return nil
}
