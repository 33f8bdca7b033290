package artifact

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// stripped is a program without section headers, as upx and some strippers leave it, that ends too early.
func stripped(program []byte) []byte {
	cut := append([]byte{}, program[:len(program)/2]...)
	binary.LittleEndian.PutUint64(cut[40:], 0) // e_shoff
	binary.LittleEndian.PutUint32(cut[60:], 0) // e_shnum, e_shstrndx
	return cut
}

func TestCheck(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	foreign := append([]byte{}, whole...)
	binary.LittleEndian.PutUint16(foreign[18:], 243) // e_machine: RISC-V
	sections := append([]byte{}, whole...)
	binary.LittleEndian.PutUint64(sections[40:], uint64(len(whole))) // e_shoff
	binary.LittleEndian.PutUint16(sections[60:], 60_000)             // e_shnum
	sections = append(sections, make([]byte, 60_000*64)...)
	for _, tt := range []struct {
		name    string
		content []byte
		wantErr string
	}{
		{"this-test", whole, ""},
		{"script", []byte("#!/bin/sh\n"), ""},
		{"empty", nil, "is empty"},
		{"text", []byte("hello"), "neither a program for linux/" + runtime.GOARCH},
		{"one-byte", []byte("#"), "neither a program"},
		{"cut-off-in-the-middle", whole[:len(whole)/2], "not a whole program"},
		{"cut-off-at-the-end", stripped(whole), "cut off"},
		{"cut-off-in-the-header", whole[:40], "not a whole program"},
		{"endless-sections", sections, "what it lists is too large"},
		{"another-machine", foreign, "is a program for EM_RISCV"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "noded")
			if err := os.WriteFile(path, tt.content, 0o644); err != nil {
				t.Fatal(err)
			}
			err := Check(path)
			if (tt.wantErr == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("Check = %v, want %q", err, tt.wantErr)
			}
		})
	}
	if err := Check(t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: %v", err)
	}
}

// TestCheckWhileWritten: a binary that somebody is still copying is not there yet.
func TestCheckWhileWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "noded")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("#!/bin/sh\n"); err != nil {
		t.Fatal(err)
	}
	if err := Check(path); err == nil || !strings.Contains(err.Error(), "still being written") {
		t.Errorf("while it is open: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Check(path); err != nil {
		t.Errorf("when it is closed: %v", err)
	}
}

func TestMakeExecutable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "noded")
	if err := os.WriteFile(path, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := MakeExecutable(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o751 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "noded")
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		_ = Check(path) // whatever it says, it says it without a panic
	})
}
