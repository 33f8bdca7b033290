package artifact

import (
	"bufio"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// FindLibraries looks for everything that the system's loader will look for when it starts
// a program (ld.so(8)): the number of libraries that are here, and a sentence for each
// that is missing. A script is an error: what it needs is unknown.
func FindLibraries(binary string) (found int, missing []string, err error) {
	if runtime.GOOS != "linux" {
		return 0, nil, fmt.Errorf("only Linux's loader is known")
	}
	l := loader{own: Libraries(binary), seen: map[string]string{}}
	missing, err = l.missing(binary)
	return len(l.seen), missing, err
}

// MissingLibraries says what a binary needs that the system's loader will not find, a
// sentence each; nothing where that is unknown.
func MissingLibraries(binary string) []string {
	_, missing, _ := FindLibraries(binary)
	return missing
}

// loader finds libraries as ld.so does.
type loader struct {
	own  string            // folder of the binary's own libraries
	seen map[string]string // where each library is that was found
	musl string            // the program's loader, if it is musl's; it has a search path of its own
}

// maxLibraries bounds what one binary may lead to.
const maxLibraries = 500

// missing says what a program, and all that it leads to, needs and does not find.
func (l *loader) missing(path string) ([]string, error) {
	file, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer file.Close()
	var missing []string
	if interpreter := interpreterOf(file); interpreter != "" {
		if strings.HasPrefix(filepath.Base(interpreter), "ld-musl-") {
			l.musl = interpreter
		}
		if _, err := os.Stat(interpreter); err != nil {
			missing = append(missing, fmt.Sprintf("%s needs the loader %s, which is not here", filepath.Base(path), interpreter))
		}
	}
	needed, err := file.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	folders := l.folders(file, path)
	for _, name := range needed {
		if strings.HasPrefix(name, "ld-linux") || strings.HasPrefix(name, "ld-musl") {
			continue // the loader itself
		}
		if _, ok := l.seen[name]; ok {
			continue
		}
		found := find(name, folders, file.Machine)
		if found == "" {
			missing = append(missing, fmt.Sprintf("%s needs %.100q, which is not here", filepath.Base(path), name))
			continue
		}
		if l.seen[name] = found; len(l.seen) > maxLibraries {
			return nil, fmt.Errorf("%s leads to more than %d libraries", path, maxLibraries)
		}
		more, err := l.missing(found)
		if err != nil {
			return nil, err
		}
		missing = append(missing, more...)
	}
	return append(missing, l.missingVersions(file, path)...), nil
}

// missingVersions says which versions of symbols, such as GLIBC_2.34, the libraries here do not have.
func (l *loader) missingVersions(file *elf.File, path string) (missing []string) {
	needs, err := file.DynamicVersionNeeds()
	if err != nil {
		return nil // a file without them says so with an error too
	}
	for _, need := range needs {
		library, err := elf.Open(l.seen[need.Name])
		if err != nil {
			continue // it is missing, or the loader
		}
		defined, err := library.DynamicVersions()
		library.Close()
		if err != nil {
			continue
		}
		for _, dep := range need.Needs {
			if !slices.ContainsFunc(defined, func(v elf.DynamicVersion) bool { return v.Name == dep.Dep }) {
				missing = append(missing, fmt.Sprintf("%s needs %.60s of %s, and the one here, %s, is older", filepath.Base(path), dep.Dep, need.Name, l.seen[need.Name]))
			}
		}
	}
	return missing
}

// Interpreter is the loader that a program names, or empty: it is static, or no program.
func Interpreter(binary string) string {
	file, err := elf.Open(binary)
	if err != nil {
		return ""
	}
	defer file.Close()
	return interpreterOf(file)
}

// interpreterOf is the loader that a program names.
func interpreterOf(file *elf.File) string {
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz < 4096 {
			content := make([]byte, p.Filesz)
			if _, err := p.ReadAt(content, 0); err == nil {
				return strings.TrimRight(string(content), "\x00")
			}
		}
	}
	return ""
}

// folders are those that are searched for what a file needs, in order.
func (l *loader) folders(file *elf.File, path string) []string {
	expand := func(tag elf.DynTag) (folders []string) {
		texts, _ := file.DynString(tag)
		for _, text := range texts {
			origin := filepath.Dir(path)
			folders = append(folders, filepath.SplitList(strings.NewReplacer("$ORIGIN", origin, "${ORIGIN}", origin).Replace(text))...)
		}
		return folders
	}
	var folders []string
	runPath := expand(elf.DT_RUNPATH)
	if runPath == nil {
		folders = expand(elf.DT_RPATH)
	}
	folders = append(folders, l.own)
	folders = append(folders, filepath.SplitList(os.Getenv("LD_LIBRARY_PATH"))...)
	folders = append(folders, runPath...)
	if l.musl != "" {
		return append(folders, muslPath(l.musl)...)
	}
	folders = append(folders, configured("/etc/ld.so.conf", 0)...)
	multiarch := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
	return append(folders, "/lib/"+multiarch, "/usr/lib/"+multiarch, "/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")
}

// muslPath is where musl's loader searches last: what etc/ld-musl-ARCH.path names, beside the folder of the loader, with
// colons or line ends between; without that file a path of its own (musl's ldso/dynlink.c).
func muslPath(interpreter string) []string {
	name := strings.TrimSuffix(filepath.Base(interpreter), ".so.1") + ".path"
	file, err := os.Open(filepath.Join(filepath.Dir(filepath.Dir(interpreter)), "etc", name))
	if err != nil {
		return []string{"/lib", "/usr/local/lib", "/usr/lib"}
	}
	defer file.Close()
	content, _ := io.ReadAll(io.LimitReader(file, 64<<10))
	return strings.FieldsFunc(string(content), func(r rune) bool { return r == ':' || r == '\n' })
}

// find returns the first file of that name which is for the same machine, or nothing.
func find(name string, folders []string, machine elf.Machine) string {
	if strings.Contains(name, "/") {
		folders, name = []string{filepath.Dir(name)}, filepath.Base(name)
	}
	for _, folder := range folders {
		path := filepath.Join(folder, name)
		file, err := elf.Open(path)
		if err != nil {
			continue
		}
		file.Close()
		if file.Machine == machine {
			return path
		}
	}
	return ""
}

// configured are the folders that /etc/ld.so.conf names, and the files that it includes.
func configured(path string, depth int) (folders []string) {
	file, err := os.Open(path)
	if err != nil || depth > 3 {
		return nil
	}
	defer file.Close()
	scanner := bufio.NewScanner(io.LimitReader(file, 64<<10))
	for scanner.Scan() {
		line, _, _ := strings.Cut(scanner.Text(), "#")
		line = strings.TrimSpace(line)
		if pattern, ok := strings.CutPrefix(line, "include "); ok {
			pattern = strings.TrimSpace(pattern)
			if !filepath.IsAbs(pattern) {
				pattern = filepath.Join(filepath.Dir(path), pattern)
			}
			included, _ := filepath.Glob(pattern)
			for _, one := range included {
				folders = append(folders, configured(one, depth+1)...)
			}
		} else if filepath.IsAbs(line) {
			folders = append(folders, line)
		}
	}
	return folders
}
