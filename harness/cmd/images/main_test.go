package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"osv/harness/diskimage"
	"osv/harness/image"
)

func images(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(t.Context(), args, &o, &e)
	return code, o.String(), e.String()
}

func TestUsage(t *testing.T) {
	for want, args := range map[string][]string{
		`expected "<package> ..."`:  {"build"},
		`format "vdi"`:              {"build", "x", "--format", "vdi"},
		"--name=a for 2 packages":   {"build", "x", "y", "--name", "a"},
		"--data=-1":                 {"build", "x", "--data", "-1"},
		`unexpected argument frob`:  {"frob"},
		"no such file or directory": {"cmdline", "/nonexistent"},
	} {
		if code, _, errs := images(t, args...); code != 2 || !strings.Contains(errs, want) {
			t.Errorf("%v: status %d, %q, want %q", args, code, errs, want)
		}
	}
	for _, args := range [][]string{{}, {"--help"}, {"build", "--help"}, {"cmdline", "--help"}} {
		if code, out, _ := images(t, args...); code != 0 || !strings.Contains(out, "Usage: images") {
			t.Errorf("%v: status %d, %q", args, code, out)
		}
	}
}

func TestFormats(t *testing.T) {
	code, out, _ := images(t, "formats")
	if code != 0 || strings.Count(out, "\n") != len(diskimage.Formats) || !strings.Contains(out, "-esxi.ova") {
		t.Errorf("status %d:\n%s", code, out)
	}
}

// The smallest program of all, from its package to images, an index and a new command
// line; then once more from the ELF, to the same bytes.
func TestBuild(t *testing.T) {
	dir := t.TempDir()
	const pkg = "../../../kernel/ktest/progs/hello"
	code, out, errs := images(t, "build", pkg, "-o", dir, "-f", "qcow2,esxi,elf", "--cmdline=--verbose")
	if code != 0 || strings.Count(out, "\n") != 3 || !strings.Contains(errs, "[4/4] hello.elf: ") {
		t.Fatalf("status %d\n%s%s", code, out, errs)
	}
	index, err := diskimage.ReadIndex(dir)
	if err != nil || len(index) != 3 {
		t.Fatalf("index %v, %v", index, err)
	}
	qcow2 := filepath.Join(dir, "hello.qcow2")
	if code, out, errs := images(t, "cmdline", qcow2); code != 0 || out != "--verbose\n" {
		t.Errorf("status %d, %q %q", code, out, errs)
	}

	again := t.TempDir()
	code, _, errs = images(t, "build", filepath.Join(dir, "hello.elf"), "-o", again, "-f", "qcow2", "-f", "esxi", "--cmdline=--verbose")
	if code != 0 {
		t.Fatal(errs)
	}
	for _, name := range []string{"hello.qcow2", "hello-esxi.ova"} {
		a, err1 := os.ReadFile(filepath.Join(dir, name))
		b, err2 := os.ReadFile(filepath.Join(again, name))
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: two builds differ (%v, %v)", name, err1, err2)
		}
	}

	if code, _, errs := images(t, "cmdline", qcow2, "--set", "--ip=x -- new"); code != 0 {
		t.Errorf("status %d, %q", code, errs)
	}
	if code, out, _ := images(t, "cmdline", qcow2); code != 0 || out != "--ip=x -- new\n" {
		t.Errorf("status %d, %q", code, out)
	}
	if code, _, errs := images(t, "cmdline", filepath.Join(dir, "hello-esxi.ova"), "--set=x"); code != 1 || !strings.Contains(errs, "neither a raw disk nor QCOW2") {
		t.Errorf("status %d, %q", code, errs)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestBuildFails(t *testing.T) {
	dir := t.TempDir()
	code, _, errs := images(t, "build", "./nonexistent", "-o", dir)
	if code != 1 || !strings.Contains(errs, "go build ./nonexistent") {
		t.Errorf("status %d, %q", code, errs)
	}
	text := filepath.Join(dir, "a.txt")
	if err := os.WriteFile(text, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := images(t, "build", text, "-o", dir, "-f", "raw"); code != 1 || !strings.Contains(errs, "a.txt.raw: diskimage: kernel") {
		t.Errorf("status %d, %q", code, errs)
	}
	if image.LoadAddr%(2<<20) != 0 {
		t.Error("the loader moves the kernel by multiples of 2 MiB")
	}
}
