package unit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// specify puts in what the specifiers of a text stand for. One that only a running systemd
// can resolve is an error.
func (s *Service) specify(text string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' || i+1 == len(text) {
			out.WriteByte(text[i])
			continue
		}
		i++
		if text[i] == '%' {
			out.WriteByte('%')
			continue
		}
		if !isLetterOrDigit(text[i]) {
			out.WriteString(text[i-1 : i+1])
			continue
		}
		value, err := s.specifier(text[i])
		if err != nil {
			return "", fmt.Errorf("%%%c in %q: %w", text[i], text, err)
		}
		out.WriteString(value)
	}
	return out.String(), nil
}

func isLetterOrDigit(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

var errSpecifier = errors.New("only a running systemd can tell what it stands for")

// fixed are the specifiers that are the same for all units of the system's manager, which
// runs as root. Among them are those of the user: they are root's, whatever User= says.
var fixed = map[byte]string{
	'C': "/var/cache", 'E': "/etc", 'L': "/var/log", 'S': "/var/lib", 't': "/run", 'T': "/tmp", 'V': "/var/tmp",
	'g': "root", 'G': "0", 'h': "/root", 'u': "root", 'U': "0",
}

// architectures are what systemd calls those that nodes run on.
var architectures = map[string]string{"amd64": "x86-64", "arm64": "arm64", "riscv64": "riscv64", "s390x": "s390x"}

// releaseKeys are the lines of os-release(5) that specifiers stand for.
var releaseKeys = map[byte]string{
	'A': "IMAGE_VERSION", 'B': "BUILD_ID", 'M': "IMAGE_ID", 'o': "ID", 'w': "VERSION_ID", 'W': "VARIANT_ID",
}

// specifier is what a specifier stands for, systemd.unit(5).
func (s *Service) specifier(c byte) (string, error) {
	if value, ok := fixed[c]; ok {
		return value, nil
	}
	if key, ok := releaseKeys[c]; ok {
		return s.osRelease(key)
	}
	prefix, instance := nameParts(s.Name)
	last := prefix[strings.LastIndexByte(prefix, '-')+1:]
	switch c {
	case 'n':
		return s.Name, nil
	case 'N':
		return strings.TrimSuffix(s.Name, ".service"), nil
	case 'p':
		return prefix, nil
	case 'P':
		return unescapeName(prefix)
	case 'i':
		return instance, nil
	case 'I':
		return unescapeName(instance)
	case 'j':
		return last, nil
	case 'J':
		return unescapeName(last)
	case 'f':
		name := prefix
		if kindOf(s.Name) == kindInstance {
			name = instance
		}
		if name == "-" {
			return "/", nil
		}
		path, err := unescapeName(name)
		return "/" + path, err
	case 'd':
		return "/run/credentials/" + s.Name, nil
	case 'y', 'Y':
		path, err := filepath.EvalSymlinks(s.Path)
		if c == 'Y' && err == nil {
			path = filepath.Dir(path)
		}
		return path, err
	case 'a':
		if name, ok := architectures[runtime.GOARCH]; ok {
			return name, nil
		}
	case 'b':
		return s.id("/proc/sys/kernel/random/boot_id")
	case 'm':
		return s.id("/etc/machine-id")
	case 'H', 'l':
		name, err := os.Hostname()
		if c == 'l' {
			name, _, _ = strings.Cut(name, ".")
		}
		return name, err
	case 'v':
		var uts unix.Utsname
		err := unix.Uname(&uts)
		release, _, _ := bytes.Cut(uts.Release[:], []byte{0})
		return string(release), err
	}
	return "", errSpecifier
}

// id reads an ID of 128 bits. systemd writes it without dashes.
func (s *Service) id(path string) (string, error) {
	content, err := os.ReadFile(s.root + path)
	text := strings.ReplaceAll(strings.TrimSpace(string(content)), "-", "")
	if err == nil && len(text) != 32 {
		err = fmt.Errorf("%s has no ID", path)
	}
	return text, err
}

// osRelease is a line of os-release(5). A line that is not there is empty.
func (s *Service) osRelease(key string) (string, error) {
	content, err := os.ReadFile(s.root + "/etc/os-release")
	if err != nil {
		content, err = os.ReadFile(s.root + "/usr/lib/os-release")
	}
	if err != nil {
		return "", err
	}
	pairs, err := parseEnvironmentFile(string(content))
	value := ""
	for _, pair := range pairs {
		if pair.name == key {
			value = pair.value
		}
	}
	return value, err
}

// unescapeName takes back what systemd-escape(1) does.
func unescapeName(name string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '-':
			out.WriteByte('/')
		case '\\':
			if len(name) < i+4 || name[i+1] != 'x' {
				return "", fmt.Errorf("%q is not escaped as systemd-escape does", name)
			}
			n, err := strconv.ParseUint(name[i+2:i+4], 16, 8)
			if err != nil {
				return "", fmt.Errorf("%q is not escaped as systemd-escape does", name)
			}
			out.WriteByte(byte(n))
			i += 3
		default:
			out.WriteByte(name[i])
		}
	}
	return out.String(), nil
}
