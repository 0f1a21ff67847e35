package mm_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"osv/kernel/ktest/fakemm"
	"osv/kernel/linux/mm"
)

// The model: a window of pages, each with what a program sees of it. Calls, forks,
// accesses by program and kernel, truncation and writeback are made to both; what a
// load returns, which signal it gets, and the list of mappings must agree.

// modelObj is a file or shared memory: the first word of each of its pages.
type modelObj struct {
	vals []uint64
	size int // in pages
	file *fakemm.File
}

func (o *modelObj) reset(i int) {
	o.vals[i] = 0
	if o.file != nil {
		o.vals[i] = uint64(byte(i + 1))
	}
}

type modelPage struct {
	mapped  bool
	prot    mm.Prot
	max     mm.Prot
	obj     *modelObj
	idx     int
	shared  bool
	own     bool // private contents
	val     uint64
	noFork  bool
	wipe    bool
	locked  bool
	huge    int // MADV_HUGEPAGE or its opposite
	changed bool
}

// modelProc is one space of the model and the real one.
type modelProc struct {
	w     *modelWorld
	s     *mm.Space
	cpu   fakemm.CPU
	pages []modelPage
}

type modelWorld struct {
	*rapid.T
	m     *fakemm.Machine
	procs []*modelProc
	files []*modelObj
	base  uint64
	n     int // pages of the window
	step  int // most ranges begin at multiples of it
}

func (p *modelProc) addr(i int) uint64 { return p.w.base + uint64(i)*page }

// span draws a range of pages.
func (w *modelWorld) span() (from, n int) {
	from = rapid.IntRange(0, w.n/w.step-1).Draw(w.T, "from") * w.step
	n = rapid.IntRange(1, 6).Draw(w.T, "n") * w.step
	if rapid.IntRange(0, 3).Draw(w.T, "odd") == 0 {
		from += rapid.IntRange(0, w.step-1).Draw(w.T, "from2")
		n = max(1, n-rapid.IntRange(0, w.step-1).Draw(w.T, "n2"))
	}
	return from, min(n, w.n-from)
}

func (w *modelWorld) prot() mm.Prot {
	return rapid.SampledFrom([]mm.Prot{0, mm.ProtRead, rw, rw, mm.ProtRead | mm.ProtExec}).Draw(w.T, "prot")
}

func sigOf(err error) string {
	var s *mm.Signal
	if errors.As(err, &s) {
		return fmt.Sprintf("%v %d %#x", s.Sig, s.Code, s.Addr)
	}
	return fmt.Sprint(err)
}

// access is what the model says of an access: the place of the word, or the error.
func (p *modelProc) access(i int, write bool) (word *uint64, sig string) {
	m := &p.pages[i]
	a := p.addr(i)
	switch {
	case !m.mapped:
		return nil, sigOf(&mm.Signal{Sig: syscall.SIGSEGV, Code: mm.SegvMapErr, Addr: a})
	case m.prot == 0 || write && m.prot&mm.ProtWrite == 0:
		return nil, sigOf(&mm.Signal{Sig: syscall.SIGSEGV, Code: mm.SegvAccErr, Addr: a})
	case m.own || m.obj == nil && !write:
		return &m.val, ""
	case m.obj == nil:
		m.own = true
		return &m.val, ""
	case m.idx >= m.obj.size:
		return nil, sigOf(&mm.Signal{Sig: syscall.SIGBUS, Code: mm.BusAdrErr, Addr: a})
	case !m.shared && write:
		m.own, m.val = true, m.obj.vals[m.idx]
		return &m.val, ""
	}
	return &m.obj.vals[m.idx], ""
}

func (p *modelProc) load(i int, kernel bool) {
	word, sig := p.access(i, false)
	var got uint64
	var err error
	if kernel {
		got, err = p.s.Load64(p.addr(i))
		if sig != "" {
			sig = sigOf(syscall.EFAULT)
		}
	} else {
		got, err = p.cpu.Load(p.addr(i))
	}
	switch {
	case sig != "":
		if sigOf(err) != sig {
			p.w.Fatalf("load of page %d: %d, %v, want %s", i, got, err, sig)
		}
	case err != nil || got != *word:
		p.w.Fatalf("load of page %d: %d, %v, want %d", i, got, err, *word)
	}
}

func (p *modelProc) store(i int, x uint64, kernel bool) {
	word, sig := p.access(i, true)
	var err error
	if kernel {
		err = p.s.Store64(p.addr(i), x)
		if sig != "" {
			sig = sigOf(syscall.EFAULT)
		}
	} else {
		err = p.cpu.Store(p.addr(i), x)
	}
	if sig != "" && sigOf(err) != sig || sig == "" && err != nil {
		p.w.Fatalf("store to page %d: %v, want %q", i, err, sig)
	}
	if sig == "" {
		*word = x
		p.pages[i].changed = true
	}
}

func (p *modelProc) mmap() {
	w := p.w
	from, n := w.span()
	q := modelPage{mapped: true, prot: w.prot(), max: rw | mm.ProtExec}
	flags := anon
	r := mm.MapRequest{Addr: p.addr(from), Length: uint64(n) * page}
	switch rapid.IntRange(0, 5).Draw(w.T, "kind") {
	case 0:
		flags, q.shared = shared, true
		q.obj = &modelObj{vals: make([]uint64, n), size: n}
	case 1, 2:
		q.obj = w.files[rapid.IntRange(0, 1).Draw(w.T, "file")]
		q.idx = rapid.IntRange(0, 8).Draw(w.T, "off")
		flags = syscall.MAP_PRIVATE
		if rapid.Bool().Draw(w.T, "shared") {
			flags, q.shared = syscall.MAP_SHARED, true
			if q.prot&mm.ProtWrite == 0 && rapid.Bool().Draw(w.T, "readonly") {
				q.max &^= mm.ProtWrite
			}
		}
		r = q.obj.file.Request(r.Addr, r.Length, uint64(q.idx)*page, 0, 0)
	}
	r.Prot, r.Max, r.Flags = q.prot, q.max, flags
	want := error(nil)
	switch rapid.IntRange(0, 3).Draw(w.T, "place") {
	case 0:
		r.Flags |= 0x100000 // MAP_FIXED_NOREPLACE
		for _, o := range p.pages[from : from+n] {
			if o.mapped {
				want = syscall.EEXIST
			}
		}
	default:
		r.Flags |= fixed
	}
	if q.obj == nil && rapid.IntRange(0, 2).Draw(w.T, "populate") == 0 {
		r.Flags |= syscall.MAP_POPULATE
	}
	got, err := p.s.Mmap(r)
	if err != want || err == nil && got != r.Addr {
		w.Fatalf("mmap %d+%d: %#x, %v, want %v", from, n, got, err, want)
	}
	if want != nil {
		return
	}
	for i := range n {
		p.pages[from+i] = q
		p.pages[from+i].idx += i
	}
}

func (p *modelProc) mprotect() {
	from, n := p.w.span()
	prot := p.w.prot()
	var want error
	for i := from; i < from+n && want == nil; i++ {
		switch m := &p.pages[i]; {
		case !m.mapped:
			want = syscall.ENOMEM
		case prot&^m.max != 0:
			want = syscall.EACCES
		default:
			m.prot = prot
		}
	}
	if err := p.s.Mprotect(p.addr(from), uint64(n)*page, uint32(prot)); err != want {
		p.w.Fatalf("mprotect %d+%d: %v, want %v", from, n, err, want)
	}
}

func (p *modelProc) munmap() {
	from, n := p.w.span()
	if err := p.s.Munmap(p.addr(from), uint64(n)*page); err != nil {
		p.w.Fatalf("munmap %d+%d: %v", from, n, err)
	}
	clear(p.pages[from : from+n])
}

func (p *modelProc) madvise() {
	from, n := p.w.span()
	advice := rapid.SampledFrom([]int{4, 4, 8, 10, 11, 18, 19, 14, 15, 22, 3}).Draw(p.w.T, "advice")
	var want error
	for i := from; i < from+n; i++ {
		m := &p.pages[i]
		if !m.mapped {
			want = syscall.ENOMEM
			if advice == 22 {
				break
			}
			continue
		}
		bad := false
		switch advice {
		case 4, 8:
			bad = m.locked || advice == 8 && m.obj != nil
			if !bad && !m.shared {
				m.own, m.val = false, 0
			}
		case 10, 11:
			m.noFork = advice == 10
		case 14, 15:
			m.huge = advice
		case 18:
			bad = m.obj != nil
			m.wipe = !bad
		case 19:
			m.wipe = false
		case 22:
			bad = m.prot == 0
			if !bad && m.obj != nil && !m.own && m.idx >= m.obj.size {
				want = syscall.EFAULT
			}
		}
		if bad {
			want = syscall.EINVAL
			break
		}
		if want == syscall.EFAULT {
			break
		}
	}
	if err := p.s.Madvise(p.addr(from), uint64(n)*page, advice); err != want {
		p.w.Fatalf("madvise %d+%d %d: %v, want %v", from, n, advice, err, want)
	}
}

func (p *modelProc) mlock() {
	from, n := p.w.span()
	on := rapid.Bool().Draw(p.w.T, "lock")
	var want error
	for i := from; i < from+n; i++ {
		m := &p.pages[i]
		if !m.mapped {
			want = syscall.ENOMEM
			break
		}
		m.locked = on
	}
	var err error
	if on {
		err = p.s.Mlock(p.addr(from), uint64(n)*page, 1)
	} else {
		err = p.s.Munlock(p.addr(from), uint64(n)*page)
	}
	if err != want {
		p.w.Fatalf("mlock %v %d+%d: %v, want %v", on, from, n, err, want)
	}
}

// same says whether two neighbouring pages are in one mapping: Linux's rule, which mm
// must follow for mremap to fail where it does there.
func (p *modelProc) same(i int) bool {
	a, b := &p.pages[i], &p.pages[i+1]
	return a.mapped && b.mapped && a.prot == b.prot && a.max == b.max && a.obj == b.obj && a.shared == b.shared &&
		a.noFork == b.noFork && a.wipe == b.wipe && a.locked == b.locked && a.huge == b.huge &&
		(a.obj == nil || a.idx+1 == b.idx)
}

func (p *modelProc) mremap() {
	w := p.w
	from, n := w.span()
	to, k := w.span()
	oldLen := uint64(n)
	whole := p.pages[from].mapped
	for i := from; i < from+n-1; i++ {
		whole = whole && p.same(i)
	}
	flags := mm.MremapFixed | mm.MremapMayMove
	var want error
	switch {
	case !p.pages[from].mapped:
		want = syscall.EFAULT
	case from < to+k && to < from+n:
		want = syscall.EINVAL
	}
	if want == nil {
		// As Linux: the target goes first, then the tail, then the checks.
		clear(p.pages[to : to+k])
		if n > k {
			clear(p.pages[from+k : from+n])
			n = k
			whole = true
			for i := from; i < from+n-1; i++ {
				whole = whole && p.same(i)
			}
		}
		if !whole {
			want = syscall.EFAULT
		}
	}
	got, err := p.s.Mremap(p.addr(from), oldLen*page, uint64(k)*page, flags, p.addr(to))
	if err != want || err == nil && got != p.addr(to) {
		w.Fatalf("mremap %d+%d to %d+%d: %#x, %v, want %v", from, n, to, k, got, err, want)
	}
	if want != nil {
		return
	}
	last := p.pages[from+n-1]
	moved := append([]modelPage(nil), p.pages[from:from+n]...)
	clear(p.pages[from : from+n])
	copy(p.pages[to:], moved)
	for i := n; i < k; i++ {
		q := last
		q.own, q.val = false, 0
		q.idx += i - n + 1
		p.pages[to+i] = q
	}
}

func (w *modelWorld) fork(p *modelProc) {
	if len(w.procs) >= 3 {
		return
	}
	s, err := p.s.Fork()
	if err != nil {
		w.Fatalf("fork: %v", err)
	}
	c := &modelProc{w: w, s: s, cpu: fakemm.CPU{S: s}, pages: append([]modelPage(nil), p.pages...)}
	for i := range c.pages {
		m := &c.pages[i]
		m.locked = false
		switch {
		case m.noFork:
			*m = modelPage{}
		case m.wipe:
			m.own, m.val = false, 0
		}
	}
	w.procs = append(w.procs, c)
}

func (w *modelWorld) exit(i int) {
	if len(w.procs) > 1 {
		w.procs[i].s.Close()
		w.procs = append(w.procs[:i], w.procs[i+1:]...)
	}
}

func (w *modelWorld) truncate(punch bool) {
	o := w.files[rapid.IntRange(0, 1).Draw(w.T, "file")]
	from := rapid.IntRange(0, len(o.vals)).Draw(w.T, "size")
	end := len(o.vals)
	if punch {
		end = min(o.size, from+3)
		if from >= end {
			return
		}
		o.file.Punch(int64(from)*page, int64(end)*page)
	} else {
		o.file.Truncate(int64(from) * page)
		o.size = from
		for _, p := range w.procs {
			for i := range p.pages {
				if m := &p.pages[i]; m.obj == o && !m.shared && m.idx >= from {
					m.own, m.val = false, 0
				}
			}
		}
	}
	for i := from; i < end; i++ {
		o.reset(i)
	}
}

// check compares the lists of mappings, and the contents of some pages.
func (w *modelWorld) check() {
	for _, p := range w.procs {
		i := 0
		for _, m := range p.s.Maps() {
			start, end := int((m.Start-w.base)/page), int((m.End-w.base)/page)
			for ; i < start; i++ {
				if p.pages[i].mapped {
					w.Fatalf("page %d is not mapped", i)
				}
			}
			for ; i < end; i++ {
				q := &p.pages[i]
				if !q.mapped || q.prot != m.Prot || q.shared != m.Shared || q.locked != m.Locked {
					w.Fatalf("page %d is %+v, the mapping %v", i, *q, m.String())
				}
				if i+1 < end && !p.same(i) {
					w.Fatalf("pages %d and %d are in one mapping %v", i, i+1, m.String())
				}
			}
			if end < w.n && p.same(end-1) {
				w.Fatalf("pages %d and %d are in two mappings", end-1, end)
			}
		}
		for ; i < w.n; i++ {
			if p.pages[i].mapped {
				w.Fatalf("page %d is not mapped", i)
			}
		}
		stride := max(1, w.n/48)
		for i := rapid.IntRange(0, stride-1).Draw(w.T, "phase"); i < w.n; i += stride {
			if q := &p.pages[i]; q.changed || i%3 == 0 {
				p.load(i, i%2 == 0)
			}
		}
		if err := mm.Check(p.s); err != nil {
			w.Fatal(err)
		}
	}
}

func runModel(t *rapid.T, pages, step int) {
	w := &modelWorld{T: t, m: fakemm.New(16384), base: 0x7f0000000000 - uint64(pages/2)*page&^(2<<20-1), n: pages, step: step}
	for range 2 {
		o := &modelObj{vals: make([]uint64, pages+16), size: 6, file: w.m.NewFile(6 * page)}
		for i := range o.vals {
			o.reset(i)
		}
		w.files = append(w.files, o)
	}
	s, err := mm.New(w.m, mm.Options{Limits: mm.Limits{AS: ^uint64(0), Data: ^uint64(0), Stack: 8 << 20, Memlock: ^uint64(0)}})
	if err != nil {
		t.Fatal(err)
	}
	w.procs = []*modelProc{{w: w, s: s, cpu: fakemm.CPU{S: s}, pages: make([]modelPage, pages)}}
	for range rapid.IntRange(1, 60).Draw(t, "steps") {
		k := rapid.IntRange(0, len(w.procs)-1).Draw(t, "proc")
		p := w.procs[k]
		switch rapid.SampledFrom([]string{
			"mmap", "mmap", "mmap", "munmap", "mprotect", "mprotect", "madvise", "mlock", "mremap", "mremap",
			"fork", "exit", "store", "store", "store", "truncate", "punch", "writeback",
		}).Draw(t, "op") {
		case "mmap":
			p.mmap()
		case "munmap":
			p.munmap()
		case "mprotect":
			p.mprotect()
		case "madvise":
			p.madvise()
		case "mlock":
			p.mlock()
		case "mremap":
			p.mremap()
		case "fork":
			w.fork(p)
		case "exit":
			w.exit(k)
		case "store":
			for range 4 {
				i := rapid.IntRange(0, w.n-1).Draw(t, "page")
				p.store(i, rapid.Uint64().Draw(t, "x"), rapid.Bool().Draw(t, "kernel"))
			}
		case "truncate":
			w.truncate(false)
		case "punch":
			w.truncate(true)
		case "writeback":
			w.files[rapid.IntRange(0, 1).Draw(t, "file")].file.Writeback()
		}
		w.check()
	}
	for _, p := range w.procs {
		p.s.Close()
	}
	for _, o := range w.files {
		if o.file.Mapped() != 0 || o.file.Refs != 0 || o.file.Pinned() != 0 {
			t.Fatalf("%d mappings, %d references, %d pages pinned", o.file.Mapped(), o.file.Refs, o.file.Pinned())
		}
		o.file.Drop()
	}
	if f, n := w.m.Leaked(); f != 0 || n != 0 {
		t.Fatalf("%d frames and %d tables are left", f, n)
	}
}

func TestSpaceAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { runModel(t, 48, 4) })
}

// TestLargePagesAgainstModel has ranges of halves of 2 MiB, so that large pages come
// about and are split.
func TestLargePagesAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { runModel(t, 6*512, 256) })
}

// FuzzSpace lets the fuzzer choose the calls.
func FuzzSpace(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) { runModel(t, 48, 4) }))
}
