package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"time"
)

// bill is a list of what a binary is made of: CycloneDX 1.6.
type bill struct {
	Format       string       `json:"bomFormat"`
	Spec         string       `json:"specVersion"`
	Serial       string       `json:"serialNumber"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Time      time.Time `json:"timestamp"`
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	PURL       string     `json:"purl"`
	Hashes     []hash     `json:"hashes,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn,omitempty"`
}

// module is one that is linked into a binary, with the checksum that go.sum has for it.
func module(m *debug.Module) component {
	purl := "pkg:golang/" + m.Path + "@" + m.Version
	return component{Type: "library", Ref: purl, Name: m.Path, Version: m.Version, PURL: purl, Properties: []property{{"go.sum", m.Sum}}}
}

// bill lists what the linker has put into a binary, as the binary itself says.
func (r *release) bill(binary string) (*bill, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	sum, err := digest(binary)
	if err != nil {
		return nil, err
	}
	goVersion := strings.TrimPrefix(info.GoVersion, "go")
	self := "pkg:golang/" + info.Main.Path + "@" + r.Version
	std := component{Type: "library", Ref: "pkg:golang/stdlib@" + goVersion, Name: "stdlib", Version: goVersion, PURL: "pkg:golang/stdlib@" + goVersion}
	b := &bill{Format: "CycloneDX", Spec: "1.6", Version: 1, Metadata: metadata{r.Date, component{
		Type: "application", Ref: self, Name: "solstice", Version: r.Version, PURL: self, Hashes: []hash{{"SHA-256", sum}},
		Properties: []property{{"commit", r.Commit}, {"platform", setting(info, "GOOS") + "/" + setting(info, "GOARCH")}},
	}}, Components: []component{std}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			return nil, fmt.Errorf("%s is replaced by %s", m.Path, m.Replace.Path)
		}
		b.Components = append(b.Components, module(m))
	}
	uses := dependency{Ref: self}
	for _, c := range b.Components {
		uses.DependsOn = append(uses.DependsOn, c.Ref)
	}
	b.Dependencies = []dependency{uses}
	// A serial number is a UUID. This one is made of the binary's digest, so it is another for each binary and the same each time.
	id := sha256.Sum256([]byte("solstice " + sum))
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // version 8: of our own making
	b.Serial = fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:16])
	return b, nil
}

func setting(info *debug.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// writeBill writes a binary's bill beside it.
func (r *release) writeBill(binary string) error {
	b, err := r.bill(binary)
	if err != nil {
		return err
	}
	content, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(binary+".cdx.json", append(content, '\n'), 0o644)
}

// licence matches the names that a licence and its notices have, in any spelling.
var licence = regexp.MustCompile(`(?i)^(licen[sc]e|copying|notice)`)

// notices are the licences of all that is linked into a binary, which ask to be handed on with it.
func notices(binary string) (string, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return "", err
	}
	goroot, err := output(exec.Command("go", "env", "GOROOT"))
	if err != nil {
		return "", err
	}
	var text strings.Builder
	text.WriteString("Solstice is one program made of its own source, Go's standard library and the modules below.\n")
	add := func(what, dir string) error {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		found := false
		for _, e := range entries {
			if e.IsDir() || !licence.MatchString(e.Name()) {
				continue
			}
			content, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return err
			}
			found = true
			fmt.Fprintf(&text, "\n%s\n%s, %s\n%s\n\n%s\n", strings.Repeat("=", 78), what, e.Name(), strings.Repeat("=", 78), strings.TrimSpace(string(content)))
		}
		if !found {
			return fmt.Errorf("%s has no licence in %s", what, dir)
		}
		return nil
	}
	if err := add("Go "+info.GoVersion, strings.TrimSpace(goroot)); err != nil {
		return "", err
	}
	ask := []string{"list", "-m", "-f", "{{.Path}} {{.Dir}}"}
	for _, m := range info.Deps {
		ask = append(ask, m.Path)
	}
	folders, err := output(exec.Command("go", ask...))
	if err != nil {
		return "", err
	}
	dirs := map[string]string{}
	for line := range strings.Lines(folders) {
		path, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		dirs[path] = dir
	}
	for _, m := range info.Deps {
		if dirs[m.Path] == "" {
			return "", fmt.Errorf("the source of %s is not in the module cache", m.Path)
		}
		if err := add(m.Path+" "+m.Version, dirs[m.Path]); err != nil {
			return "", err
		}
	}
	return text.String(), nil
}
