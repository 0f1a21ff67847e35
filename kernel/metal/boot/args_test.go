package boot

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"osv/kernel/ktest/hostcpu"
	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
	"osv/kernel/metal/phys"
	"osv/kernel/metal/sched"
)

func cstring(p uintptr) string {
	var b []byte
	for *arch.Byte(p) != 0 {
		b = append(b, *arch.Byte(p))
		p++
	}
	return string(b)
}

func parsed() (s []string) {
	for _, p := range words[:nwords] {
		s = append(s, cstring(p))
	}
	return s
}

func TestCommandLine(t *testing.T) {
	long := strings.Repeat("x", maxLine+100)
	many := strings.Repeat("w ", maxWords+10)
	for _, test := range []struct {
		line    string
		want    []string
		verbose bool
		cut     bool
	}{
		{"", nil, false, false},
		{"  \t\n ", nil, false, false},
		{"one", []string{"one"}, false, false},
		{" one  two\tthree\n", []string{"one", "two", "three"}, false, false},
		{`a "b c" d`, []string{"a", "b c", "d"}, false, false},
		{`--env="A=b c"d -x`, []string{"--env=A=b cd", "-x"}, false, false},
		{`"" a`, []string{"", "a"}, false, false},
		{`"open to the end`, []string{"open to the end"}, false, false},
		{"--verbose prog", []string{"--verbose", "prog"}, true, false},
		{"--ip=1 --verbose", []string{"--ip=1", "--verbose"}, true, false},
		{"prog --verbose", []string{"prog", "--verbose"}, false, false}, // the program's own
		{"--ip=1 -- --verbose", []string{"--ip=1", "--", "--verbose"}, false, false},
		{long, []string{long[:maxLine]}, false, true},
		{many, slices.Repeat([]string{"w"}, maxWords), false, true},
	} {
		m := fresh(t)
		copy(m.mem, test.line)
		out := printed(func() { copyCommandLine(m.at) })
		if got := parsed(); !slices.Equal(got, test.want) {
			t.Errorf("%.40q: words %.100q, want %.100q", test.line, got, test.want)
		}
		if verbose != test.verbose || dropped != test.cut || strings.Contains(out, "the command line was cut") != test.cut {
			t.Errorf("%.40q: verbose %v, cut %v, printed %q", test.line, verbose, dropped, out)
		}
	}
	fresh(t)
	for _, p := range []uintptr{0, lowLimit, lowLimit - 1, ^uintptr(0)} {
		if copyCommandLine(p); nwords != 0 {
			t.Errorf("a command line at %#x", p)
		}
	}
}

func FuzzCommandLine(f *testing.F) {
	for _, s := range []string{"", "a b", `"a b" --env=X=1 "`, `""""`, "a\tb\nc ", `a" "b`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := fresh(t)
		n := copy(m.mem[:1<<20], b)
		m.mem[n] = 0
		copyCommandLine(m.at)
		if nwords > maxWords {
			t.Fatalf("%d words", nwords)
		}
		total := 0
		for i := range nwords {
			off := words[i] - uintptr(unsafe.Pointer(&line))
			if off > maxLine || int(off) != total {
				t.Fatalf("word %d is at %d, the one before ends at %d", i, off, total)
			}
			total += len(cstring(words[i])) + 1
		}
		if s, _, _ := strings.Cut(string(b), "\x00"); !strings.Contains(s, `"`) && len(s) < maxLine && len(spaced(s)) <= maxWords {
			if got := parsed(); !slices.Equal(got, spaced(s)) {
				t.Errorf("%q: words %q, want %q", s, got, spaced(s))
			}
		}
	})
}

// spaced splits at what isSpace takes.
func spaced(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' || r == '\n' })
}

// The main thread starts as Linux starts a process: argc, argv, envp, auxv, in
// that order from the stack pointer up, which is 16-aligned.
func TestSpawnMain(t *testing.T) {
	m := fresh(t)
	copy(m.mem, `--env=GOGC=50 --ip=1 --env="A=b c" prog --env=NO=1 x`)
	copyCommandLine(m.at)
	c := cpu.All(0)
	c.Self, c.Online = uintptr(unsafe.Pointer(c)), 1
	hostcpu.Become(t, c.Self)
	apic, _ := hostcpu.Arena(t, 4096)
	cpu.SetAPIC(apic, false, false)
	const ramBytes = 4 << 20
	at, _ := hostcpu.Arena(t, ramBytes)
	phys.SetBase(at)
	phys.Init(0, ramBytes)
	phys.AddRange(1<<20, ramBytes)
	sched.InitCPU(c, 0)

	spawnMain()
	sched.Schedule(c)
	th := sched.Current(c)
	rt0, _, _ := addresses()
	if th.ID() != 1 || th.RIP != rt0 || th.RSP%16 != 0 || th.RFlags != 0x202 {
		t.Fatalf("thread %d starts at %#x with SP %#x and flags %#x", th.ID(), th.RIP, th.RSP, th.RFlags)
	}
	sp := th.RSP
	next := func() uintptr {
		v := *arch.Ptr(sp)
		sp += 8
		return v
	}
	list := func() (s []string) {
		for p := next(); p != 0; p = next() {
			s = append(s, cstring(p))
		}
		return s
	}
	if argc := next(); argc != 7 {
		t.Errorf("argc is %d", argc)
	}
	if argv := list(); !slices.Equal(argv, []string{"osv", "--env=GOGC=50", "--ip=1", "--env=A=b c", "prog", "--env=NO=1", "x"}) {
		t.Errorf("argv is %q", argv)
	}
	if envp := list(); !slices.Equal(envp, []string{"GOGC=50", "A=b c"}) {
		t.Errorf("envp is %q", envp)
	}
	aux := map[uintptr]uintptr{}
	for k := next(); k != 0; k = next() {
		aux[k] = next()
	}
	if len(aux) != 3 || aux[6] != 4096 || aux[23] != 0 { // AT_PAGESZ, AT_SECURE
		t.Errorf("auxv is %v", aux)
	}
	r := aux[25] // AT_RANDOM: 16 bytes
	if r < sp || fmt.Sprint(*(*[2]uint64)(unsafe.Pointer(r))) == "[0 0]" {
		t.Errorf("16 random bytes at %#x, the vector ends at %#x", r, sp)
	}
}
