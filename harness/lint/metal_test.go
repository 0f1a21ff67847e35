package lint

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// tree writes files into a directory of its own: the module osv.
func tree(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if files["go.mod"] == "" {
		write(t, dir, "go.mod", "module osv\n\ngo 1.26.0\n")
	}
	for name, text := range files {
		write(t, dir, name, text)
	}
	return dir
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	file := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var (
	wantComment = regexp.MustCompile(`want (".*")`)
	wantPattern = regexp.MustCompile(`"([^"]*)"`)
)

// compare matches findings with the want comments of a source text.
func compare(t *testing.T, file, src string, findings []Finding) {
	t.Helper()
	for i, line := range strings.Split(src, "\n") {
		var want []string
		if m := wantComment.FindStringSubmatch(line); m != nil {
			for _, p := range wantPattern.FindAllStringSubmatch(m[1], -1) {
				want = append(want, p[1])
			}
		}
		for _, f := range findings {
			if f.File != file || f.Line != i+1 {
				continue
			}
			k := slices.IndexFunc(want, func(p string) bool { return regexp.MustCompile("^(" + p + ")").MatchString(f.Message) })
			if k < 0 {
				t.Errorf("not wanted: %v", f)
				continue
			}
			want = slices.Delete(want, k, k+1)
		}
		for _, w := range want {
			t.Errorf("%s:%d: nothing found that matches %q", file, i+1, w)
		}
	}
	for _, f := range findings {
		if f.File != file || f.Line == 0 {
			t.Errorf("not wanted: %v", f)
		}
	}
}

// Every construct in testdata/metal/bad.go.txt is found where it stands; none in
// good.go.txt is.
func TestMetalSeesEachViolation(t *testing.T) {
	bad, good := load(t, "metal/bad.go.txt"), load(t, "metal/good.go.txt")
	dir := tree(t, map[string]string{"kernel/metal/bad/bad.go": bad, "kernel/metal/good/good.go": good})
	r, err := CheckMetal(Metal{Dir: dir, NoLink: true})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Failed() {
		t.Error("the check does not fail")
	}
	compare(t, "kernel/metal/bad/bad.go", bad, r.Findings)
}

func TestMetalImportsStayInside(t *testing.T) {
	dir := tree(t, map[string]string{
		"kernel/metal/a/a.go": "package a\n\nimport \"osv/kernel/other\"\n\nfunc F() { other.F() }\n",
		"kernel/metal/b/b.go": "package b\n\nimport \"osv/kernel/metal/a\"\n\nfunc F() { a.F() }\n",
		"kernel/other/o.go":   "package other\n\nfunc F() {}\n",
	})
	r, err := CheckMetal(Metal{Dir: dir, NoLink: true})
	if err != nil {
		t.Fatal(err)
	}
	want := "kernel/metal/a/a.go:3: import of osv/kernel/other: metal may import metal and unsafe, sync/atomic, math/bits"
	if got := fmt.Sprint(r.Findings); got != "["+want+"]" {
		t.Errorf("findings: %s\nwant: %s", got, want)
	}
}

func TestMetalThatDoesNotBuild(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"no packages": {"kernel/x.go": "package kernel\n"},
		"syntax":      {"kernel/metal/a/a.go": "package a\n\nfunc {\n"},
		"types":       {"kernel/metal/a/a.go": "package a\n\nvar x int = \"\"\n"},
	} {
		if r, err := CheckMetal(Metal{Dir: tree(t, files), NoLink: true}); err == nil {
			t.Errorf("%s: no error, findings %v", name, r.Findings)
		}
	}
}

func repo(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// The tree itself passes.
func TestMetalOfTheTree(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and disassembles a kernel")
	}
	r, err := CheckMetal(Metal{Dir: repo(t)})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		t.Error(f)
	}
	notes := strings.Join(r.Notes, "\n")
	for _, want := range []string{"runtime.memmove", "_rt0_amd64_linux", "functions"} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes do not mention %s:\n%s", want, notes)
		}
	}
}

// What only the linked program shows, planted into the tree by an overlay: a
// comparison that calls the runtime, a call from assembly, an indirect call, a
// trap, and code that runs at start-up.
func TestMetalLinkSeesEachViolation(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and disassembles a kernel")
	}
	dir, tmp := repo(t), t.TempDir()
	write(t, tmp, "planted.go", `package klog

var (
	left, right string
	less        bool
)

func plantedAsm()

func init() {
	less = left < right
	plantedAsm()
}
`)
	write(t, tmp, "planted_amd64.s", `TEXT ·plantedAsm(SB),4,$0
	CALL	runtime·mallocgc(SB)
	CALL	(DX)
	SYSCALL
	JMP	osv∕kernel∕metal∕arch·Halt(SB)
`)
	write(t, tmp, "overlay.json", mustJSON(t, map[string]any{"Replace": map[string]string{
		filepath.Join(dir, "kernel/metal/klog/planted.go"):      filepath.Join(tmp, "planted.go"),
		filepath.Join(dir, "kernel/metal/klog/planted_amd64.s"): filepath.Join(tmp, "planted_amd64.s"),
	}}))
	r := new(Report)
	m := Metal{Dir: dir, Program: "./kernel/ktest/progs/hello", Flags: []string{"-overlay=" + filepath.Join(tmp, "overlay.json")}}
	if err := m.link(r); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"klog.init.0: CALL runtime.cmpstring",
		"klog.plantedAsm.* CALL runtime.mallocgc.*is outside metal",
		`klog.plantedAsm.* CALL 0\(DX\): nothing checks where it goes`,
		"klog.plantedAsm.*: SYSCALL in metal",
		"klog..inittask: a package of metal has code",
		"klog.init.0: a package of metal has code",
	}
	for _, w := range want {
		if !slices.ContainsFunc(r.Findings, func(f Finding) bool { return regexp.MustCompile(w).MatchString(f.Message) }) {
			t.Errorf("nothing found that matches %q in:\n%v", w, r.Findings)
		}
	}
	if len(r.Findings) != len(want) {
		t.Errorf("%d findings, want %d:\n%v", len(r.Findings), len(want), r.Findings)
	}
	// The same overlay, seen by the other checks.
	r, err := CheckMetal(Metal{Dir: dir, Flags: m.Flags, NoLink: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(r.Findings); got != "[kernel/metal/klog/planted.go:10: func init runs when the kernel is up already]" {
		t.Errorf("findings: %s", got)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestLinkTargets(t *testing.T) {
	const dump = `TEXT osv/kernel/metal/a.Go(SB) osv/kernel/metal/a/a.go
  a.go:10	0x1000	e8	CALL runtime.memmove(SB)			
  a.go:11	0x1001	e8	CALL runtime.memequal_varlen.abi0(SB)			
  a.go:12	0x1002	ff	JMP 0(R8)(DX*8)			
  a.go:13	0x1003	75	JNE 0x1000			
  a.go:14	0x1004	e9	JMP osv/kernel/metal/b.F(SB)	
  a.go:20	0x1005	e8	CALL runtime.newobject(SB)			
  a.go:21	0x1006	ff	CALL 0(DX)			
  a.go:22	0x1007	ff	JMP AX			
  a.go:23	0x1008	ff	CALL 0(R8)(DX*8)			
  a.go:24	0x1009	e9	JMP 0x2000			
  a.go:25	0x100a	e9	JMP 0x9000			
TEXT osv/kernel/metal/trap.resume.abi0(SB) osv/kernel/metal/trap/entry.s
  entry.s:5	0x1010	ff	JMP CX			
  entry.s:6	0x1011	ff	LJMP 0(SI)			
TEXT osv/kernel/metal/trap.other.abi0(SB) osv/kernel/metal/trap/entry.s
  entry.s:7	0x1012	ff	JMP CX			
  entry.s:8	0x1013	0f	INT $0x80			
  entry.s:9	0x1013	ff	JMP 0(R8)(DX*8)			
TEXT osv/kernel/metal/boot.ap16.abi0(SB) osv/kernel/metal/boot/entry.s
  entry.s:9	0x1014	ff	JMP AX			
`
	syms := &symbolTable{text: elfSymbols("osv/kernel/metal/a.Go", 0x1000, 0x10, "runtime.main", 0x2000, 0x100)}
	r := new(Report)
	syms.reportCalls(r, []byte(dump))
	var got []string
	for _, f := range r.Findings {
		got = append(got, fmt.Sprintf("%s:%d", f.File, f.Line))
	}
	want := []string{
		"kernel/metal/a/a.go:20", "kernel/metal/a/a.go:21", "kernel/metal/a/a.go:22", "kernel/metal/a/a.go:23",
		"kernel/metal/a/a.go:24", "kernel/metal/a/a.go:25", "kernel/metal/trap/entry.s:7", "kernel/metal/trap/entry.s:8", "kernel/metal/trap/entry.s:9",
	}
	if !slices.Equal(got, want) {
		t.Errorf("findings: %v\nwant at: %v", r.Findings, want)
	}
	r = new(Report)
	syms.reportCalls(r, nil)
	if !r.Failed() {
		t.Error("an empty disassembly passes")
	}
}

func TestInitNames(t *testing.T) {
	for name, want := range map[string]bool{
		"osv/kernel/metal/klog..inittask":  true,
		"osv/kernel/metal/klog.init":       true,
		"osv/kernel/metal/klog.init.0":     true,
		"osv/kernel/metal/boot.initAPIC":   false,
		"osv/kernel/metal/boot.initMemory": false,
		"osv/kernel/hw/gate..inittask":     false,
	} {
		r := new(Report)
		(&symbolTable{names: []string{name}}).reportInit(r)
		if r.Failed() != want {
			t.Errorf("%s: found is %v, want %v", name, r.Failed(), want)
		}
	}
}

// Every exception has a reason.
func TestExceptionsHaveReasons(t *testing.T) {
	for _, m := range []map[string]string{linkAllowed, linkIndirect, linkTraps, unsafeElsewhere} {
		for name, why := range m {
			if why == "" {
				t.Errorf("%s: no reason", name)
			}
		}
	}
}
