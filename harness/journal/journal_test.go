package journal

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"osv/harness/design"
	"osv/harness/load"
)

func at(sec int) func() time.Time {
	return func() time.Time { return time.Date(2026, 11, 24, 7, 0, sec, 0, time.UTC) }
}

func write(t *testing.T, path string) []Entry {
	t.Helper()
	j, old, err := Open(path)
	if err != nil || len(old) != 0 {
		t.Fatal(err, old)
	}
	j.Now = at(1)
	want := []Entry{
		{Header: &Header{Format: Format, Name: "t", PlanSHA256: "00"}},
		{Boot: &Boot{Boot: design.Boot{System: "osv", Placements: []design.Placement{design.OneCore}}, Attempt: 1, FirstReply: 0.25, Line: "qemu", Accel: "tcg", Parity: map[string]string{"memory": "256 MiB"}}},
		{Sample: &Sample{Cell: design.Cell{System: "osv", Workload: "udp-get", Placement: design.OneCore}, Metrics: map[string]float64{"rate": 61000},
			Result: load.Result{Spec: load.Spec{Kind: load.MemcachedUDP}.WithDefaults(), Rate: 61000, Probes: map[string]float64{"x": 1}}, HDR: "raw/a.hlog", Clean: true}},
		{Failure: &Failure{Boot: 1, Attempt: 2, Cell: &design.Cell{System: "osv"}, Error: "boom", Final: true}},
		{Fact: &Fact{System: "osv", Metric: "ram_floor", Value: 24, Boot: -1}},
		{Ceiling: &Ceiling{Workload: "udp-get", Rate: 1e5}},
		{Note: &Note{Text: "resumed"}},
	}
	for i := range want {
		if err := j.Append(want[i]); err != nil {
			t.Fatal(err)
		}
		want[i].Time = at(1)()
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return want
}

func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j.jsonl")
	want := write(t, path)
	got, err := Read(path)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v\n%+v\n%+v", err, got, want)
	}
}

// Cut anywhere, the file opens with the lines that are whole and goes on.
func TestCutOffAnywhere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "j.jsonl")
	want := write(t, path)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := 0; cut <= len(whole); cut += 7 {
		p := filepath.Join(dir, "cut.jsonl")
		if err := os.WriteFile(p, whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		lines := strings.Count(string(whole[:cut]), "\n")
		j, got, err := Open(p)
		if err != nil || len(got) != lines || lines > 0 && !reflect.DeepEqual(got, want[:lines]) {
			t.Fatalf("cut at %d: %d entries of %d, %v", cut, len(got), lines, err)
		}
		next := Entry{Note: &Note{Text: "on"}}
		if lines == 0 {
			next = Entry{Header: &Header{Format: Format}}
		}
		if err := j.Append(next); err != nil {
			t.Fatal(err)
		}
		j.Close()
		if again, err := Read(p); err != nil || len(again) != lines+1 {
			t.Fatalf("cut at %d: %d entries afterwards, %v", cut, len(again), err)
		}
	}
}

func TestDamageIsNotIgnored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j.jsonl")
	write(t, path)
	b, _ := os.ReadFile(path)
	lines := strings.SplitAfter(string(b), "\n")
	for name, bad := range map[string]string{
		"line 2":   lines[0] + "{\n" + lines[2],
		"line 1":   lines[1],
		"has one":  lines[0] + lines[0],
		"format 9": strings.Replace(lines[0], `"format":1`, `"format":9`, 1),
		"unknown":  lines[0] + `{"time":"2026-11-24T07:00:00Z","smaple":{}}` + "\n",
	} {
		if err := os.WriteFile(path, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Open(path); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: Open says %v", name, err)
		}
		if _, err := Read(path); err == nil {
			t.Errorf("%s: Read accepts it", name)
		}
	}
	if _, err := Read(path + ".none"); err == nil {
		t.Error("a missing file is read")
	}
	if _, _, err := Open(filepath.Join(path, "x")); err == nil {
		t.Error("a file in a file is opened")
	}
}

// A full disk leaves the journal as it was before the line.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no /dev/full here")
	}
	j := &Journal{f: full, Now: at(1)}
	if err := j.Append(Entry{Note: &Note{Text: "x"}}); err == nil || !strings.Contains(err.Error(), "no space left") || j.size != 0 {
		t.Errorf("%v, size %d", err, j.size)
	}
	j.Close()
	if err := j.Append(Entry{Note: &Note{}}); err == nil {
		t.Error("a closed journal takes a line")
	}
}
