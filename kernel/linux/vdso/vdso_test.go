package vdso

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// loaded is the image behind its data page, as a program sees it, and a bridge into
// it.
type loaded struct {
	mem  []byte
	data []byte
	call func(args *[5]uint64) // function, three arguments; result
}

// load maps the pages. The bridge takes Go's first argument (RAX) apart into the C
// convention: MOV RDI, RSI, RDX, CALL, and stores RAX.
func load(t testing.TB) *loaded {
	m, err := syscall.Mmap(-1, 0, 3*PageSize, syscall.PROT_READ|syscall.PROT_WRITE|syscall.PROT_EXEC, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Skipf("no memory that is writable and executable: %v", err)
	}
	t.Cleanup(func() { syscall.Munmap(m) })
	copy(m[PageSize:], Image())
	bridge := m[2*PageSize:]
	copy(bridge, []byte{
		0x50,                // PUSH RAX
		0x48, 0x8b, 0x78, 8, // MOV RDI, [RAX+8]
		0x48, 0x8b, 0x70, 16, // MOV RSI, [RAX+16]
		0x48, 0x8b, 0x50, 24, // MOV RDX, [RAX+24]
		0xff, 0x10, // CALL [RAX]
		0x59,                 // POP RCX
		0x48, 0x89, 0x41, 32, // MOV [RCX+32], RAX
		0xc3, // RET
	})
	l := &loaded{mem: m, data: m[:PageSize]}
	code := new(uintptr)
	*code = uintptr(unsafe.Pointer(&bridge[0]))
	*(*unsafe.Pointer)(unsafe.Pointer(&l.call)) = unsafe.Pointer(code)
	return l
}

// lookup finds a symbol as musl and the Go runtime do: program headers, dynamic
// section, hash table, version.
func (l *loaded) lookup(t testing.TB, name string) uint64 {
	img := l.mem[PageSize : 2*PageSize]
	le := binary.LittleEndian
	base := uint64(uintptr(unsafe.Pointer(&img[0])))
	var dyn []byte
	ph := img[le.Uint64(img[32:]):]
	for i := range int(le.Uint16(img[56:])) {
		p := ph[i*56:]
		switch elf.ProgType(le.Uint32(p)) {
		case elf.PT_LOAD:
			if le.Uint64(p[8:]) != le.Uint64(p[16:]) {
				t.Fatal("the image is not loaded at its offset")
			}
		case elf.PT_DYNAMIC:
			dyn = img[le.Uint64(p[8:]):][:le.Uint64(p[32:])]
		}
	}
	at := map[elf.DynTag]uint64{}
	for ; len(dyn) > 0; dyn = dyn[16:] {
		at[elf.DynTag(le.Uint64(dyn))] = le.Uint64(dyn[8:])
	}
	hash := func(i uint32) uint32 { return le.Uint32(img[at[elf.DT_HASH]+uint64(i)*4:]) }
	str := func(off uint64) string {
		s := img[at[elf.DT_STRTAB]+off:]
		return string(s[:bytes.IndexByte(s, 0)])
	}
	nb := hash(0)
	for i := hash(2 + elfHash(name)%nb); i != 0; i = hash(2 + nb + i) {
		s := img[at[elf.DT_SYMTAB]+uint64(i)*24:]
		if str(uint64(le.Uint32(s))) != name {
			continue
		}
		v := le.Uint16(img[at[elf.DT_VERSYM]+uint64(i)*2:]) & 0x7fff
		for d := img[at[elf.DT_VERDEF]:]; ; d = d[le.Uint32(d[16:]):] {
			if le.Uint16(d[4:]) == v {
				aux := d[le.Uint32(d[12:]):]
				if n := str(uint64(le.Uint32(aux))); n != "LINUX_2.6" || le.Uint32(d[8:]) != elfHash(n) {
					t.Fatalf("%s has version %q", name, n)
				}
				return base + le.Uint64(s[8:])
			}
			if le.Uint32(d[16:]) == 0 {
				t.Fatalf("%s has version %d, which is none", name, v)
			}
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

func (l *loaded) do(f uint64, a, b unsafe.Pointer) uint64 {
	args := [5]uint64{f, uint64(uintptr(a)), uint64(uintptr(b))}
	l.call(&args)
	runtime.KeepAlive(a)
	runtime.KeepAlive(b)
	return args[4]
}

func (l *loaded) clock(f uint64, id uint64) (ns int64, result uint64) {
	var ts [2]int64
	args := [5]uint64{f, id, uint64(uintptr(unsafe.Pointer(&ts)))}
	l.call(&args)
	if ts[1] < 0 || ts[1] >= 1e9 {
		ns = -1
	}
	return ns + ts[0]*1e9 + ts[1], args[4]
}

func TestElf(t *testing.T) {
	img := Image()
	f, err := elf.NewFile(bytes.NewReader(img))
	if err != nil {
		t.Fatal(err)
	}
	if len(img) != PageSize || f.Type != elf.ET_DYN || f.Machine != elf.EM_X86_64 {
		t.Errorf("%d bytes, %v, %v", len(img), f.Type, f.Machine)
	}
	if s, err := f.DynString(elf.DT_SONAME); err != nil || !slices.Equal(s, []string{"linux-vdso.so.1"}) {
		t.Errorf("soname %q, %v", s, err)
	}
	syms, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	text := f.Section(".text")
	var names []string
	for _, s := range syms {
		if s.Version != "LINUX_2.6" && s.Name != "LINUX_2.6" {
			t.Errorf("%s has version %q", s.Name, s.Version)
		}
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC {
			if s.Value < text.Addr || s.Value+s.Size > text.Addr+text.Size || s.Size == 0 {
				t.Errorf("%s is at %#x+%#x, .text at %#x+%#x", s.Name, s.Value, s.Size, text.Addr, text.Size)
			}
		}
		names = append(names, s.Name)
	}
	for _, n := range []string{"clock_gettime", "gettimeofday", "time", "clock_getres", "getcpu"} {
		if !slices.Contains(names, n) || !slices.Contains(names, "__vdso_"+n) {
			t.Errorf("%s is missing in %s", n, strings.Join(names, " "))
		}
	}
	vs, err := f.DynamicVersions()
	if err != nil || len(vs) != 2 || vs[1].Name != "LINUX_2.6" {
		t.Errorf("versions %+v, %v", vs, err)
	}
	if !bytes.Equal(img, Image()) {
		t.Error("two builds differ")
	}
}

// Every function is found in the table that unwinders search, and its entry leads back
// to it.
func TestFrames(t *testing.T) {
	img := Image()
	f, err := elf.NewFile(bytes.NewReader(img))
	if err != nil {
		t.Fatal(err)
	}
	hdr := f.Section(".eh_frame_hdr")
	b := img[hdr.Addr:]
	le := binary.LittleEndian
	rel := func(at uint64) uint64 { return at + uint64(int64(int32(le.Uint32(img[at:])))) }
	if rel(hdr.Addr+4) != f.Section(".eh_frame").Addr {
		t.Errorf(".eh_frame is said to be at %#x", rel(hdr.Addr+4))
	}
	found := map[uint64]uint64{}
	for i := range uint64(le.Uint32(b[8:])) {
		pc := hdr.Addr + uint64(le.Uint32(b[12+i*8:]))
		fde := hdr.Addr + uint64(le.Uint32(b[16+i*8:]))
		if rel(fde+8) != pc {
			t.Errorf("the entry of %#x is for %#x", pc, rel(fde+8))
		}
		if c := fde + 4 - uint64(le.Uint32(img[fde+4:])); string(img[c+9:c+11]) != "zR" {
			t.Errorf("the entry of %#x has its common part at %#x", pc, c)
		}
		found[pc] = uint64(le.Uint32(img[fde+12:]))
	}
	syms, _ := f.DynamicSymbols()
	for _, s := range syms {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && found[s.Value] != s.Size {
			t.Errorf("%s: %d bytes have an entry, want %d", s.Name, found[s.Value], s.Size)
		}
	}
	ok := false
	for _, p := range f.Progs {
		ok = ok || p.Type == elf.PT_GNU_EH_FRAME && p.Vaddr == hdr.Addr && p.Filesz == hdr.Size
	}
	if !ok {
		t.Error("no program header tells of it")
	}
}

// The clocks follow the data page: with a rate of 1 they tell the TSC itself, with
// the host's rate, the host's time.
func TestClocks(t *testing.T) {
	l := load(t)
	get := l.lookup(t, "__vdso_clock_gettime")
	Update(l.data, Params{Mul: 1 << 32, Usable: true})
	t0, c0 := time.Now(), int64(0)
	c0, _ = l.clock(get, 1)
	time.Sleep(20 * time.Millisecond)
	c1, r := l.clock(get, 1)
	dt := time.Since(t0)
	if r != 0 || c1 <= c0 {
		t.Fatalf("TSC %d, then %d; result %d", c0, c1, int64(r))
	}
	mul := uint64(float64(dt.Nanoseconds()) / float64(c1-c0) * (1 << 32))
	const wall = 1700000000123456789
	Update(l.data, Params{Start: uint64(c1), Mul: mul, WallNS: wall, Usable: true})
	for id, base := range map[uint64]int64{0: wall, 1: 0, 4: 0, 5: wall, 6: 0, 7: 0, 11: wall} {
		since := time.Since(t0) - dt
		got, r := l.clock(get, id)
		if d := got - base - since.Nanoseconds(); r != 0 || d < -int64(time.Second) || d > int64(2*time.Second) {
			t.Errorf("clock %d tells %d, %d ns from what it should; result %d", id, got, d, int64(r))
		}
	}
	last := int64(0)
	for range 10000 {
		now, _ := l.clock(get, 1)
		if now < last {
			t.Fatalf("the clock went from %d to %d", last, now)
		}
		last = now
	}
	// The others tell the same.
	var tv, tz [2]int64
	tz = [2]int64{-1, -1}
	before, _ := l.clock(get, 0)
	if r := l.do(l.lookup(t, "__vdso_gettimeofday"), unsafe.Pointer(&tv), unsafe.Pointer(&tz)); r != 0 || tz[0] != 0 || tz[1] != -1 {
		t.Errorf("gettimeofday: %d, zone %v", int64(r), tz)
	}
	after, _ := l.clock(get, 0)
	if us := tv[0]*1e6 + tv[1]; us < before/1000 || us > after/1000 || tv[1] >= 1e6 {
		t.Errorf("gettimeofday %v, between %d and %d", tv, before, after)
	}
	if l.do(l.lookup(t, "gettimeofday"), nil, nil) != 0 {
		t.Error("gettimeofday of nothing")
	}
	var sec int64
	if r := l.do(l.lookup(t, "__vdso_time"), unsafe.Pointer(&sec), nil); int64(r) != sec || sec < before/1e9 || sec > after/1e9+1 {
		t.Errorf("time: %d, stored %d", r, sec)
	}
	if r := l.do(l.lookup(t, "time"), nil, nil); int64(r) < sec {
		t.Errorf("time(NULL): %d", r)
	}
}

// What the TSC cannot tell is a system call, of this host here.
func TestSystemCalls(t *testing.T) {
	l := load(t)
	get := l.lookup(t, "clock_gettime")
	near := func(what string, ns int64) {
		if d := time.Since(time.Unix(0, ns)); d < -time.Minute || d > time.Minute {
			t.Errorf("%s: %v off", what, d)
		}
	}
	Update(l.data, Params{Mul: 1, Usable: true})
	if ns, r := l.clock(get, 2); r != 0 || ns <= 0 { // CLOCK_PROCESS_CPUTIME_ID
		t.Errorf("CPU time: %d, %d", ns, int64(r))
	}
	if _, r := l.clock(get, 99); int64(r) != -int64(syscall.EINVAL) {
		t.Errorf("clock 99: %d", int64(r))
	}
	Update(l.data, Params{})
	ns, _ := l.clock(get, 0)
	near("clock_gettime", ns)
	var tv [2]int64
	l.do(l.lookup(t, "gettimeofday"), unsafe.Pointer(&tv), nil)
	near("gettimeofday", tv[0]*1e9+tv[1]*1000)
	near("time", int64(l.do(l.lookup(t, "time"), nil, nil))*1e9)
	cpu := [2]uint32{^uint32(0), ^uint32(0)}
	if r := l.do(l.lookup(t, "getcpu"), unsafe.Pointer(&cpu), nil); r != 0 || cpu[0] > 4096 {
		t.Errorf("getcpu: %d, cpu %d", int64(r), cpu[0])
	}
}

func TestGetres(t *testing.T) {
	l := load(t)
	f := l.lookup(t, "__vdso_clock_getres")
	for id, want := range map[uint64]int64{0: 1, 1: 1, 4: 1, 5: 4e6, 6: 4e6, 7: 1, 11: 1} {
		if ns, r := l.clock(f, id); r != 0 || ns != want {
			t.Errorf("clock %d: %d ns, result %d", id, ns, int64(r))
		}
		args := [5]uint64{f, id}
		if l.call(&args); args[4] != 0 {
			t.Errorf("clock %d, nowhere to store: %d", id, int64(args[4]))
		}
	}
	if _, r := l.clock(f, 99); int64(r) != -int64(syscall.EINVAL) {
		t.Errorf("clock 99: %d", int64(r))
	}
}

// A reader never sees half of an update: each has a wall time that belongs to its
// rate.
func TestUpdateWhileRead(t *testing.T) {
	if runtime.GOMAXPROCS(0) < 2 {
		t.Skip("the reader, which the Go runtime cannot preempt, would wait for a writer that cannot run")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the same holds for a stopped world
	l := load(t)
	get := l.lookup(t, "clock_gettime")
	var wg sync.WaitGroup
	done := make(chan struct{})
	a := Params{Mul: 0, WallNS: 1e18, Usable: true}
	b := Params{Start: ^uint64(0) >> 1, Mul: 0, WallNS: 2e18, Usable: true}
	Update(l.data, a)
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
				Update(l.data, []Params{a, b}[i%2])
			}
		}
	})
	for range 20000 {
		if ns, _ := l.clock(get, 0); ns != 1e18 && ns != 2e18 {
			t.Fatalf("%d", ns)
		}
	}
	close(done)
	wg.Wait()
	if s := binary.LittleEndian.Uint32(l.data); s%2 != 0 {
		t.Errorf("sequence %d", s)
	}
}
