package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"--help", 0, "--runs"},
		{"--runs 0", 2, "--runs 0"},
		{"--rounds 101", 2, "--rounds 101"},
		{"--accel fast", 2, "fast"},
		{"--qemu no-such-qemu --accel tcg -q", 1, "no-such-qemu"},
	} {
		var out, err bytes.Buffer
		if code := run(t.Context(), strings.Fields(c.args), &out, &err); code != c.code || !strings.Contains(out.String()+err.String(), c.want) {
			t.Errorf("%s: status %d, want %d\n%s%s", c.args, code, c.code, &out, &err)
		}
	}
}

func TestKeepSaysWhy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var out, err bytes.Buffer
	if code := run(t.Context(), []string{"--keep", filepath.Join(file, "below")}, &out, &err); code != 1 || !strings.Contains(err.String(), "below") && !strings.Contains(err.String(), "not a directory") {
		t.Errorf("status %d: %s", code, &err)
	}
}
