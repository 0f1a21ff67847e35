package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

func TestUsage(t *testing.T) {
	for want, args := range map[string][]string{
		"unknown flag": {"--frob"},
		"one of":       {"--machine", "microvm"},
	} {
		var b bytes.Buffer
		if code := run(t.Context(), args, &b, &b); code != 2 || !strings.Contains(b.String(), want) {
			t.Errorf("%v: status %d, %q", args, code, b.String())
		}
	}
	for want, args := range map[string][]string{
		`pin "x"`: {"--pin", "x"},
		"hello:":  {"--accel", "tcg", "--progs", "/dev/null/none", "--build", t.TempDir()},
	} {
		var b bytes.Buffer
		if code := run(t.Context(), args, &b, &b); code != 1 || !strings.Contains(b.String(), want) {
			t.Errorf("%v: status %d, %q", args, code, b.String())
		}
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	tmp := t.TempDir()
	var b bytes.Buffer
	if code := run(ctx, []string{"--no-linux", "--no-floor", "--accel", "tcg", "--progs", "../../../kernel/ktest/progs", "--build", tmp}, &b, &b); code != 130 {
		t.Errorf("status %d, %q", code, b.String())
	}
}
