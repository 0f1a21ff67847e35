package report

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// With the real pictures too.
func TestPicturesVerify(t *testing.T) {
	w := reference()
	w.light = true
	w.plan.Boots, w.plan.Placements, w.plan.Workloads = 1, w.plan.Placements[:1], w.plan.Workloads[:1]
	dir := t.TempDir()
	w.write(t, dir)
	if _, err := Write(dir); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, chartsDir, "throughput.png")); err != nil || !bytes.HasPrefix(b, []byte("\x89PNG")) {
		t.Fatal(err)
	}
	if problems, err := Verify(dir); err != nil || len(problems) > 0 {
		t.Errorf("verify: %v %v", problems, err)
	}
}

// One changed byte anywhere in the folder is found, and the file is named; with
// a manifest forged to match, raw data and report contradict each other.
func TestVerifyFindsEveryFlippedByte(t *testing.T) {
	withoutPictures(t)
	dir := t.TempDir()
	w := reference()
	w.plan.Boots, w.plan.Placements = 2, w.plan.Placements[:1]
	w.write(t, dir)
	if _, err := Write(dir); err != nil {
		t.Fatal(err)
	}
	m, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, l := range strings.Split(strings.TrimSpace(string(m)), "\n") {
		_, name, _ := strings.Cut(l, "  ")
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		flipped := bytes.Clone(b)
		flipped[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		if err := os.WriteFile(path, flipped, 0o644); err != nil {
			t.Fatal(err)
		}
		problems, err := Verify(dir)
		if err != nil || len(problems) != 1 || !strings.HasPrefix(problems[0], name+": changed") {
			t.Errorf("%s: %v %v", name, problems, err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, tamper := range map[string]func(b []byte) []byte{
		"raw/journal.jsonl":     func(b []byte) []byte { return bytes.Replace(b, []byte(`"p99":`), []byte(`"p99":1`), 1) },
		"summary.json":          func(b []byte) []byte { return bytes.Replace(b, []byte(`"gm": `), []byte(`"gm": 9`), 1) },
		"charts/throughput.svg": func(b []byte) []byte { return append(b, ' ') },
	} {
		path := filepath.Join(dir, name)
		b, _ := os.ReadFile(path)
		if err := os.WriteFile(path, tamper(bytes.Clone(b)), 0o644); err != nil {
			t.Fatal(err)
		}
		forged, err := manifest(dir)
		if err != nil {
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(dir, manifestFile), forged, 0o644)
		if problems, err := Verify(dir); err == nil && len(problems) == 0 {
			t.Errorf("%s: tampered with and forged, not found", name)
		}
		os.WriteFile(path, b, 0o644)
		os.WriteFile(filepath.Join(dir, manifestFile), m, 0o644)
	}
	extra := filepath.Join(dir, "raw/extra")
	os.WriteFile(extra, []byte("x"), 0o644)
	if problems, _ := Verify(dir); len(problems) != 1 || !strings.Contains(problems[0], "not in the manifest") {
		t.Errorf("%v", problems)
	}
	os.Remove(extra)
	os.Remove(filepath.Join(dir, "plan.yaml"))
	if problems, _ := Verify(dir); len(problems) != 1 || problems[0] != "plan.yaml: missing" {
		t.Errorf("%v", problems)
	}
	if _, err := Verify(t.TempDir()); err == nil {
		t.Error("an empty folder verifies")
	}
}
