package unit

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// manager is what systemd-system.conf(5) sets for all services.
type manager struct {
	stop        time.Duration // DefaultTimeoutStopSec=
	environment []assignment  // DefaultEnvironment=
	fault       error         // why it is not known
}

// managerFolders are where the settings of systemd itself are, the folder that wins first.
var managerFolders = []string{"/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd", "/lib/systemd"}

// readManager reads the settings of systemd itself.
func readManager(root string) manager {
	m := manager{stop: 90 * time.Second}
	var paths []string
	byName := map[string]string{}
	for _, folder := range slices.Backward(managerFolders) {
		found, err := readDir(filepath.Join(root, folder, "system.conf.d"))
		if err != nil {
			m.fault = err
		}
		for _, e := range found {
			if strings.HasSuffix(e.Name(), ".conf") {
				byName[e.Name()] = filepath.Join(root, folder, "system.conf.d", e.Name())
			}
		}
		main := filepath.Join(root, folder, "system.conf")
		if _, _, err := readUnitFile(main); !errors.Is(err, fs.ErrNotExist) {
			paths = []string{main} // of these only the first counts
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		paths = append(paths, byName[name])
	}
	for _, path := range paths {
		content, _, err := readUnitFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.fault = err
		}
		section := ""
		for _, line := range joinLines(content) {
			if strings.HasPrefix(line, "[") {
				section = line
			} else if key, value, ok := strings.Cut(line, "="); ok && section == "[Manager]" {
				m.set(strings.TrimRight(key, blanks), located{strings.TrimLeft(value, blanks), path})
			}
		}
	}
	return m
}

func (m *manager) set(key string, value located) {
	switch key {
	case "DefaultTimeoutStopSec":
		if d, ok := parseSpan(value.text); ok {
			m.stop = d
		}
	case "DefaultEnvironment":
		if value.text == "" {
			m.environment = nil
			return
		}
		words, _ := split(value.text, rules{})
		for _, w := range words {
			name, text, ok := strings.Cut(w.text, "=")
			switch {
			case !ok || !isName(name):
			case strings.Contains(text, "%"):
				err := fmt.Errorf("%s: DefaultEnvironment=: %w", value.file, errSpecifier)
				m.environment = append(m.environment, assignment{name: name, err: err})
			default:
				m.environment = append(m.environment, assignment{name: name, value: text})
			}
		}
	}
}
