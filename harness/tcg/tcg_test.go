package tcg

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"osv/harness/vm"
)

func TestAPIVersion(t *testing.T) {
	for text, want := range map[string]int{
		"QEMU emulator version 7.2.22 (Debian 1:7.2)\nCopyright": 1, "QEMU emulator version 8.2.2": 1,
		"QEMU emulator version 9.0.0": 2, "QEMU emulator version 10.1.0": 2, "something else": 0,
	} {
		got, err := apiVersion(text)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

func TestBuildFailures(t *testing.T) {
	if _, err := Build(t.Context(), t.TempDir(), "osv-no-such-qemu"); err == nil || !strings.Contains(err.Error(), "--version") {
		t.Errorf("no QEMU: %v", err)
	}
	bin := t.TempDir()
	qemu := filepath.Join(bin, "qemu")
	if err := os.WriteFile(qemu, []byte("#!/bin/sh\necho version 7.2.0\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	if _, err := Build(t.Context(), t.TempDir(), qemu); err == nil || !strings.Contains(err.Error(), "gcc is not installed") {
		t.Errorf("no gcc: %v", err)
	}
	if err := os.WriteFile(filepath.Join(bin, "gcc"), []byte("#!/bin/sh\necho '<stdin>:1: error: no'\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := Build(t.Context(), dir, qemu); err == nil || !strings.Contains(err.Error(), "<stdin>:1: error: no") {
		t.Errorf("gcc fails: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := Build(t.Context(), "/dev/null/x", qemu); err == nil {
		t.Error("bad folder: no error")
	}
}

func TestCounterMemory(t *testing.T) {
	c, err := New(2)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := os.OpenFile(c.Path(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	put := func(off int, v uint64) {
		if _, err := f.WriteAt(binary.LittleEndian.AppendUint64(nil, v), int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	put(offHalf, 7)
	put(offHalf+8, 11)
	put(offBlocks, 5)
	put(headerBytes, 0xffffffff81000000)
	put(headerBytes+8, 3)
	put(headerBytes+16, 9)
	if n := c.Read(); n != (Counts{7, 11}) || n.Total() != 18 || n.Sub(Counts{1, 1}) != (Counts{6, 10}) {
		t.Errorf("%+v", n)
	}
	if b := c.Blocks(); len(b) != 1 || b[0] != (Block{0xffffffff81000000, 3, 9}) {
		t.Errorf("%+v", b)
	}
	if c.Overflow() != 3 {
		t.Errorf("overflow %d", c.Overflow())
	}
	if n := testing.AllocsPerRun(100, func() { c.Read() }); n != 0 {
		t.Errorf("Read allocates %v", n)
	}
	if p := c.Probes("insn"); len(p) != 2 || p[0] != "insn=u64:"+c.Path()+":16" || p[1] != "insn=u64:"+c.Path()+":24" {
		t.Errorf("%v", p)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := New(-1); err == nil {
		t.Error("negative table: no error")
	}
}

// needPlugin compiles the plugin or skips.
func needPlugin(t *testing.T, flags ...string) string {
	t.Helper()
	for _, tool := range []string{"qemu-system-x86_64", "gcc"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not installed")
		}
	}
	dir := t.TempDir()
	so, err := Build(t.Context(), dir, "")
	if len(flags) > 0 && err == nil {
		so, err = compile(t.Context(), dir, flags...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return so
}

// countTiny runs the 30-byte guest that prints n characters and returns what the
// plugin saw of its code.
func countTiny(t *testing.T, so string, n, table int) (insns uint64, all Counts, ev Events) {
	t.Helper()
	c, err := New(table)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	elf := filepath.Join(t.TempDir(), "k.elf")
	if err := os.WriteFile(elf, vm.TinyGuest(strings.Repeat("x", n-1)+"\n", 0), 0o644); err != nil {
		t.Fatal(err)
	}
	v, err := vm.Start(t.Context(), vm.Spec{Kernel: elf, Plugins: []vm.Plugin{c.Plugin(so)}}, vm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if e, late := v.WaitTimeout(30 * time.Second); late || !e.OK() {
		t.Fatalf("%v", e)
	}
	if table > 0 && c.Overflow() > 0 {
		t.Errorf("%d blocks too many", c.Overflow())
	}
	for _, b := range c.Blocks() {
		if b.Addr >= 0x100000 && b.Addr < 0x101000 {
			insns += b.Insns * b.Execs
		}
	}
	return insns, c.Read(), c.ReadEvents()
}

// The loop of the 30-byte guest has six instructions a character; the table and
// the counters agree with what can be counted by hand, in both ways of counting.
func TestCountsByHand(t *testing.T) {
	for name, flags := range map[string][]string{"inline": nil, "call back": {"-DAPI_VERSION=1", "-DCALL_BACK=1"}} {
		t.Run(name, func(t *testing.T) {
			so := needPlugin(t, flags...)
			short, _, _ := countTiny(t, so, 100, 1<<16)
			long, all, _ := countTiny(t, so, 1100, 1<<16)
			// lodsb, test, jz, mov, out, jmp
			if long-short != 6*1000 {
				t.Errorf("1000 more characters took %d instructions, want 6000", long-short)
			}
			// Before the loop: mov; after it lodsb, test, jz, and the block of mov,
			// out, hlt, which counts whole though out ends the machine.
			if want := uint64(6*100 + 1 + 3 + 3); short != want {
				t.Errorf("100 characters took %d instructions, want %d", short, want)
			}
			if all.Low < long || all.Low > 1e9 {
				t.Errorf("all: %+v", all)
			}
		})
	}
}

// The 30-byte guest has one out a character; firmware's own vary by a thousand.
func TestEvents(t *testing.T) {
	so := needPlugin(t)
	_, _, short := countTiny(t, so, 100, 0)
	_, _, long := countTiny(t, so, 50100, 0)
	if e := long.Sub(short); e.Sensitive < 47000 || e.Sensitive > 53000 || e.Halts > 10 {
		t.Errorf("50000 more characters: %+v", e)
	}
	if short.Interrupts == 0 {
		t.Error("firmware takes no interrupt")
	}
}

// Without a table the counters count all the same, in both ways.
func TestCountsWithoutTable(t *testing.T) {
	for name, flags := range map[string][]string{"inline": nil, "call back": {"-DAPI_VERSION=1", "-DCALL_BACK=1"}} {
		so := needPlugin(t, flags...)
		_, with, _ := countTiny(t, so, 1000, 1<<16)
		_, without, _ := countTiny(t, so, 1000, 0)
		// Firmware waits for a clock: not to the instruction.
		if d := float64(without.Total()) / float64(with.Total()); d < 0.5 || d > 2 {
			t.Errorf("%s: %d instructions, %d with a table", name, without.Total(), with.Total())
		}
	}
}

func TestPluginRefusesForeignFiles(t *testing.T) {
	so := needPlugin(t)
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, make([]byte, 4096), 0o644); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{"not a counter file": {"out=" + file}, "No such file": {"out=" + file + "x"}, "no out=PATH": nil} {
		_, err := vm.Start(t.Context(), vm.Spec{Plugins: []vm.Plugin{{Path: so, Args: args}}}, vm.Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want one with %q", args, err, want)
		}
	}
}

func TestProfile(t *testing.T) {
	syms, err := ParseKallsyms(strings.NewReader("ffffffff81000100 T second\nffffffff81000000 t first\nffffffff82000000 D data\n\nffffffff81000200 W third [module]\n"))
	if err != nil {
		t.Fatal(err)
	}
	const k = 0xffffffff81000000
	before := []Block{{k, 10, 5}}
	after := []Block{{k, 10, 6}, {k, 10, 1}, {k + 0x150, 4, 20}, {k + 0x200, 1, 0}, {0x401000, 2, 30}, {k - 8, 1, 3}}
	got := Profile(before, after, syms, "user")
	want := []Entry{{"second", 80, 80. / 163}, {"user", 60, 60. / 163}, {"first", 20, 20. / 163}, {"unknown", 3, 3. / 163}}
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%d: %+v, want %+v", i, got[i], want[i])
		}
	}
	var b bytes.Buffer
	Write(&b, got, 2, 10)
	if b.String() != " 49.08 %        8.0  second\n 36.81 %        6.0  user\n" {
		t.Errorf("%q", b.String())
	}
	b.Reset()
	Write(&b, got, 9, 0)
	if !strings.HasPrefix(b.String(), " 49.08 %  second\n") {
		t.Errorf("%q", b.String())
	}
	if Profile(nil, after, nil, "low")[0].Symbol == "" {
		t.Error("no symbols: no name")
	}
	if _, err := ParseKallsyms(strings.NewReader("zz T name\n")); err == nil {
		t.Error("bad address: no error")
	}
	if _, err := ParseKallsyms(strings.NewReader(strings.Repeat("x", 1<<20))); err == nil {
		t.Error("endless line: no error")
	}
}

func TestELFSymbols(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ELFSymbols(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("no file: no error")
	}
	s, err := ELFSymbols(self)
	if err != nil {
		t.Skip("test binary without symbols: ", err)
	}
	for i, name := range s.names {
		if name == "osv/harness/tcg.ELFSymbols" {
			if got := s.Lookup(s.addrs[i] + 1); got != name {
				t.Errorf("%s", got)
			}
			if got := s.Lookup(s.ends[i] - 1); got != name {
				t.Errorf("%s", got)
			}
		}
	}
	if got := s.Lookup(0); got != "" {
		t.Errorf("address 0 is %s", got)
	}
}
