package sysbench

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const console = `OSV-GUEST init
linux: sysbench[2]: said once
sysbench: getpid                    100.5      120.0 ns/op
sysbench: pipe_rw                  2000.0     2100.0 ns/op
sysbench: exit 0
sysbench: done
`

func TestParse(t *testing.T) {
	v, err := Parse(strings.NewReader(console))
	if err != nil || len(v) != 2 || v["getpid"] != 100.5 || v["pipe_rw"] != 2000 {
		t.Fatalf("%v, %v", v, err)
	}
	for _, c := range []struct{ text, want string }{
		{"sysbench: getpid 1 1 ns/op\n", "did not come to its end"},
		{"sysbench: done\n", "measured nothing"},
		{"sysbench: getpid x 1 ns/op\nsysbench: done\n", "is no time"},
		{"sysbench: getpid NaN 1 ns/op\nsysbench: done\n", "is no time"},
		{"sysbench: getpid 0 1 ns/op\nsysbench: done\n", "is no time"},
		{"sysbench: getpid 1 1 ns/op\nsysbench: getpid 1 1 ns/op\nsysbench: done\n", "twice"},
		{strings.Repeat("x", 1<<20), "token too long"},
	} {
		if _, err := Parse(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: error %v, want %q", c.text, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(console)
	f.Fuzz(func(t *testing.T, s string) {
		v, err := Parse(strings.NewReader(s))
		if (err == nil) != (len(v) > 0) {
			t.Errorf("%v, %v", v, err)
		}
	})
}

func report(t *testing.T) *Report {
	t.Helper()
	r := &Report{Counted: true, Kernel: "6.1", Runs: 3, Rounds: 2, Guests: []string{Stock, Tuned, OSv}}
	for i, x := range []float64{3, 1, 2} {
		for g, f := range map[string]float64{Stock: 1000, Tuned: 500, OSv: 2000} {
			v := map[string]float64{"pipe_rw": x * f, "getpid": f, "unheard_of": 1}
			if err := r.add(g, v); err != nil {
				t.Fatalf("boot %d of %s: %v", i, g, err)
			}
		}
	}
	return r
}

func TestRows(t *testing.T) {
	r := report(t)
	rows := r.Rows()
	if len(rows) != 3 || rows[0].Op != "getpid" || rows[1].Op != "pipe_rw" || rows[2].Op != "unheard_of" {
		t.Fatalf("rows %+v", rows)
	}
	p := rows[1]
	if c := p.Cells[Stock]; c != (Cell{Median: 2000, Min: 1000, Max: 3000}) {
		t.Errorf("stock %+v", c)
	}
	if p.Stock != 2 || p.Tuned != 4 {
		t.Errorf("ratios %v, %v: want 2, 4", p.Stock, p.Tuned)
	}
	if p.Reason != reason("pipe_rw") || p.Reason == "" || rows[2].Reason != "" {
		t.Errorf("reasons %q, %q", p.Reason, rows[2].Reason)
	}
	if err := r.add(OSv, map[string]float64{"getpid": 1}); err == nil || !strings.Contains(err.Error(), "did not measure") {
		t.Errorf("a missing operation: %v", err)
	}
	if err := r.add(OSv, map[string]float64{"getpid": 1, "pipe_rw": 1, "unheard_of": 1, "more": 1}); err == nil || !strings.Contains(err.Error(), "others did not") {
		t.Errorf("an operation too many: %v", err)
	}
}

func TestCell(t *testing.T) {
	if c := cellOf([]float64{4, 1, 3, 2}); c != (Cell{2.5, 1, 4}) {
		t.Errorf("%+v", c)
	}
	for want, c := range map[string]Cell{"-": {}, "12.5": {12.5, 12.5, 12.5}, "1000 (900 to 1100)": {1000, 900, 1100}, "200": {200, 200.1, 199.9}} {
		if got := c.String(); got != want {
			t.Errorf("%+v: %q, want %q", c, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	r := report(t)
	var b bytes.Buffer
	if err := r.Table(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"in instructions each", "2000 (1000 to 3000)", "4000 (2000 to 6000)", "  2.00  ", "  4.00  ", Tuned} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
	r.Counted = false
	b.Reset()
	if err := r.Table(&b); err != nil || !strings.Contains(b.String(), "in ns each") {
		t.Errorf("%v\n%s", err, &b)
	}
	b.Reset()
	var back struct {
		Rows []Row
		Runs int
	}
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || len(back.Rows) != 3 || back.Runs != 3 {
		t.Errorf("%v: %+v", err, back)
	}
}

// Every reason and remark is about an operation of the program.
func TestOpsAreTheProgram(t *testing.T) {
	src, err := os.ReadFile("../../kernel/ktest/linux/sysbench/main.c")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, op := range Ops {
		known[op] = true
		if !bytes.Contains(src, []byte("T("+op+")")) && !bytes.Contains(src, []byte(`"`+op+`"`)) {
			t.Errorf("%s: the program has no such operation", op)
		}
	}
	for _, m := range []map[string]string{reasons, what} {
		for op := range m {
			if !known[op] {
				t.Errorf("%s is not among Ops", op)
			}
		}
	}
}

func TestInitrd(t *testing.T) {
	dir := t.TempDir()
	bare, out := filepath.Join(dir, "bare"), filepath.Join(dir, "out")
	if err := writeInitrd(out, bare, nil, 1); err == nil || !strings.Contains(err.Error(), "bare Linux root") {
		t.Errorf("no bare root: %v", err)
	}
	if err := os.WriteFile(bare, []byte("abcde"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := writeInitrd(out, bare, []byte("PROGRAM"), 7); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if len(b)%4 != 0 || !bytes.HasPrefix(b, []byte("abcde\x00\x00\x00070701")) {
		t.Errorf("%d bytes, start %q", len(b), b[:16])
	}
	for _, want := range []string{"PROGRAM\x00070701", "\n/sysbench 7\n", `"${f%%=*}"`, "TRAILER!!!"} {
		if !bytes.Contains(b, []byte(want)) {
			t.Errorf("no %q", want)
		}
	}
}

func TestOrder(t *testing.T) {
	g := []guest{{name: "a"}, {name: "b"}, {name: "c"}}
	for round, want := range []string{"abc", "cba", "abc"} {
		var got string
		for _, x := range order(g, round) {
			got += x.name
		}
		if got != want {
			t.Errorf("round %d: %s, want %s", round, got, want)
		}
	}
}

func TestWrongBench(t *testing.T) {
	dir := t.TempDir()
	for want, b := range map[string]Bench{
		"-1 runs":    {Work: dir, Runs: -1},
		"101 rounds": {Work: dir, Rounds: 101},
		"folder":     {Work: filepath.Join(dir, "none")},
	} {
		if _, err := b.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
