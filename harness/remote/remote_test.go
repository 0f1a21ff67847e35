package remote

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shell is a host whose ssh is a shell on this machine in a folder of its own.
func shell(t *testing.T) (Host, string) {
	t.Helper()
	home := t.TempDir()
	return Host{Target: "there", SSH: []string{"sh", "-c", `cd "$0" && shift 2 && exec sh -c "$1"`, home}}, home
}

func TestQuote(t *testing.T) {
	h, _ := shell(t)
	for _, s := range []string{"", "a b", "it's", `$HOME "x" \ ; rm`, "~/x"} {
		out, err := h.Do(t.Context(), "printf %s "+Quote(s), nil)
		if err != nil || out != s {
			t.Errorf("%q became %q, %v", s, out, err)
		}
	}
}

func TestPutAndFetch(t *testing.T) {
	h, home := shell(t)
	src := t.TempDir()
	prog := filepath.Join(src, "p")
	if err := os.WriteFile(prog, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := h.Put(t.Context(), "a dir/b", map[string]string{"prog": prog}); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(filepath.Join(home, "a dir/b/prog"))
	if err != nil || st.Mode().Perm()&0o100 == 0 {
		t.Errorf("%v %v", st, err)
	}
	if err := os.MkdirAll(filepath.Join(home, "a dir/b/sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "a dir/b/sub/x"), []byte("xx"), 0o600); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "new")
	if err := h.Fetch(t.Context(), "a dir/b", to); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(to, "sub/x")); err != nil || string(b) != "xx" {
		t.Errorf("%q %v", b, err)
	}
	if err := h.Put(t.Context(), "c", map[string]string{"x": filepath.Join(src, "missing")}); err == nil {
		t.Error("a file that is not there was copied")
	}
	if err := h.Fetch(t.Context(), "nowhere", to); err == nil {
		t.Error("a folder that is not there was fetched")
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(home, "a dir/b/link")); err != nil {
		t.Fatal(err)
	}
	if err := h.Fetch(t.Context(), "a dir/b", to); err == nil || !strings.Contains(err.Error(), "neither a file nor a folder") {
		t.Errorf("a link was taken: %v", err)
	}
}

// A machine over there cannot write outside the folder.
func TestUnpackStaysInside(t *testing.T) {
	for _, name := range []string{"../x", "/etc/x", "a/../../x"} {
		var b bytes.Buffer
		tw := tar.NewWriter(&b)
		if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		tw.Close()
		if err := unpack(&b, t.TempDir()); err == nil || !strings.Contains(err.Error(), "leads out") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := unpack(strings.NewReader("no archive at all, but long enough"), t.TempDir()); err == nil {
		t.Error("no archive, no error")
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		root := t.TempDir()
		_ = unpack(bytes.NewReader(b), filepath.Join(root, "in"))
		es, err := os.ReadDir(root)
		if err != nil || len(es) > 1 || len(es) == 1 && es[0].Name() != "in" {
			t.Errorf("%v %v", es, err)
		}
	})
}

func TestRun(t *testing.T) {
	h, _ := shell(t)
	var out, errs bytes.Buffer
	code, err := h.Run(t.Context(), []string{"sh", "-c", "echo o; echo e >&2; exit 7"}, &out, &errs, time.Second)
	if code != 7 || err != nil || out.String() != "o\n" || errs.String() != "e\n" {
		t.Errorf("%d %v %q %q", code, err, out.String(), errs.String())
	}
	if code, err := h.Run(t.Context(), []string{"true"}, nil, nil, time.Second); code != 0 || err != nil {
		t.Errorf("%d %v", code, err)
	}
	// Ended by the context, the command is told and says its last word.
	ctx, cancel := context.WithCancel(t.Context())
	out.Reset()
	w := writerFunc(func(b []byte) (int, error) { cancel(); return out.Write(b) })
	code, _ = h.Run(ctx, []string{"sh", "-c", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done"}, w, nil, 20*time.Second)
	if code != 5 || out.String() != "up\nbye\n" {
		t.Errorf("%d %q", code, out.String())
	}
	if _, err := h.Run(t.Context(), []string{"sh", "-c", "exit 255"}, nil, nil, time.Second); err == nil || !strings.Contains(err.Error(), "broke") {
		t.Errorf("%v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestRefusals(t *testing.T) {
	for _, target := range []string{"", "-oProxyCommand=x", "a b", "a;b"} {
		h := Host{Target: target, SSH: []string{"true"}}
		if _, err := h.Do(t.Context(), "x", nil); err == nil {
			t.Errorf("%q passes", target)
		}
		if h.Fetch(t.Context(), "x", "y") == nil {
			t.Errorf("%q passes", target)
		}
		if _, err := h.Run(t.Context(), []string{"x"}, nil, nil, 0); err == nil {
			t.Errorf("%q passes", target)
		}
	}
	h := Host{Target: "u@h", SSH: []string{"/nonexistent/ssh"}}
	if _, err := h.Do(t.Context(), "x", nil); err == nil || !strings.Contains(err.Error(), "u@h") {
		t.Errorf("%v", err)
	}
	if got := strings.Join((Host{Target: "u@h"}).command(t.Context(), "ls").Args, " "); got != "ssh -o BatchMode=yes -o ServerAliveInterval=15 -T u@h ls" {
		t.Error(got)
	}
}
