package artifact

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"solstice"
)

// Version is one of the binaries that a chain has had, as the chain registry lists them.
type Version struct {
	Name   string // of the plan that it came with
	Height int64  // of that plan; 0: it is the first, or nobody says
	Info   Info   // without binaries where the registry names none
}

// ParseRegistry reads the versions of a chain registry's versions.json, or of codebase in its chain.json, by their height.
func ParseRegistry(content []byte) ([]Version, error) {
	type version struct {
		Name     string            `json:"name"`
		Height   int64             `json:"height"`
		Binaries map[string]string `json:"binaries"`
	}
	var document struct {
		Versions []version `json:"versions"`
		Codebase struct {
			Versions []version `json:"versions"`
		} `json:"codebase"`
	}
	if err := json.Unmarshal(content, &document); err != nil {
		return nil, fmt.Errorf("no chain registry's versions: %w", err)
	}
	var versions []Version
	for _, v := range append(document.Versions, document.Codebase.Versions...) {
		if err := (solstice.Plan{Name: v.Name, Height: max(v.Height, 1)}).Validate(); err != nil {
			return nil, fmt.Errorf("a chain registry's version: %w", err)
		}
		versions = append(versions, Version{Name: v.Name, Height: max(v.Height, 0), Info: Info{Binaries: v.Binaries}})
	}
	if versions == nil {
		return nil, errors.New("it lists no versions: a chain registry's versions.json does, or codebase in its chain.json")
	}
	slices.SortStableFunc(versions, func(a, b Version) int { return cmp.Compare(a.Height, b.Height) })
	return versions, nil
}

// Registry fetches and reads a chain registry's document: by https, or from an absolute path.
func (f Fetcher) Registry(ctx context.Context, address string) ([]Version, error) {
	u, err := parseURL(address)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "http" {
		return nil, &solstice.RefusedError{Reason: fmt.Sprintf("%s: http vouches for nothing", shown(*u)), Hint: "use https, or a file"}
	}
	content, err := f.document(ctx, *u)
	if err != nil {
		return nil, err
	}
	versions, err := ParseRegistry(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", shown(*u), err)
	}
	return versions, nil
}
