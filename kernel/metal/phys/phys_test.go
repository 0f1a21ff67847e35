package phys

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"osv/kernel/ktest/hostcpu"
	"osv/kernel/metal/arch"
	"osv/kernel/metal/cpu"
)

// fresh makes the calling goroutine processor 0 and the allocator new, over an
// arena that stands for physical memory from 0 to top. at is where Init puts its
// state; nothing is given to AddRange yet.
func fresh(t testing.TB, top uintptr) (memory []byte) {
	t.Helper()
	become(t, 0)
	addr, memory := hostcpu.Arena(t, int(top))
	base, meta, frames, free, total, low = 0, 0, 0, 0, 0, None
	heads = [MaxOrder + 1]uintptr{}
	SetBase(addr)
	Init(0, top)
	return memory
}

func become(t testing.TB, i int) {
	t.Helper()
	c := cpu.All(i)
	c.Self, c.ID = uintptr(unsafe.Pointer(c)), int32(i)
	hostcpu.Become(t, c.Self)
}

// lists returns the free blocks by order, each list sorted, and checks that the
// links agree in both directions and the per-frame state with the lists.
func lists(t testing.TB) map[uint][]uintptr {
	t.Helper()
	out := map[uint][]uintptr{}
	n := uintptr(0)
	for o := uint(0); o <= MaxOrder; o++ {
		before := uintptr(0)
		for f := heads[o]; f != 0; {
			f--
			next, prev := link(f)
			if *prev != before {
				t.Fatalf("order %d, frame %d: prev is %d, want %d", o, f, *prev, before)
			}
			if m := stateOf(f); m != metaFree|byte(o) {
				t.Fatalf("order %d, frame %d is listed, its state is %#x", o, f, m)
			}
			out[o] = append(out[o], f)
			n += 1 << o
			before, f = f+1, *next
		}
		slices.Sort(out[o])
	}
	if n != free {
		t.Fatalf("%d frames listed, %d counted free", n, free)
	}
	return out
}

func stateOf(f uintptr) byte { return *arch.Byte(meta + f) }

func TestAddRangeMakesTheLargestBlocks(t *testing.T) {
	const frame = FrameSize
	for _, test := range []struct {
		ranges [][2]uintptr
		want   map[uint][]uintptr
		total  uintptr
	}{
		{[][2]uintptr{{16 * frame, 64 * frame}}, map[uint][]uintptr{4: {16}, 5: {32}}, 48},
		{[][2]uintptr{{15 * frame, 18 * frame}}, map[uint][]uintptr{0: {15}, 1: {16}}, 3},
		// Inwards to whole frames; an empty range is none.
		{[][2]uintptr{{16*frame + 1, 18*frame - 1}, {20 * frame, 20 * frame}, {30*frame + 1, 31*frame - 1}}, map[uint][]uintptr{}, 0},
		{[][2]uintptr{{16*frame + 1, 18 * frame}}, map[uint][]uintptr{0: {17}}, 1},
		// Ranges that touch join, whatever their order.
		{[][2]uintptr{{24 * frame, 32 * frame}, {16 * frame, 24 * frame}}, map[uint][]uintptr{4: {16}}, 16},
		// Beyond the end is cut.
		{[][2]uintptr{{1020 * frame, 4096 * frame}}, map[uint][]uintptr{2: {1020}}, 4},
	} {
		fresh(t, 1024*frame)
		for _, r := range test.ranges {
			AddRange(r[0], r[1])
		}
		if got := lists(t); !maps.EqualFunc(got, test.want, slices.Equal) {
			t.Errorf("AddRange(%v): %v, want %v", test.ranges, got, test.want)
		}
		if all, now, _ := Counts(); all != test.total || now != test.total {
			t.Errorf("AddRange(%v): %d frames, %d free, want %d", test.ranges, all, now, test.total)
		}
	}
}

func TestSetBaseMovesTheState(t *testing.T) {
	fresh(t, 64*FrameSize)
	AddRange(16*FrameSize, 32*FrameSize)
	at := ToVirt(0)
	SetBase(0x1000)
	if ToVirt(5) != 0x1005 || meta != 0x1000 {
		t.Errorf("ToVirt(5) = %#x, state at %#x", ToVirt(5), meta)
	}
	SetBase(at)
	if Alloc(4) != 16*FrameSize {
		t.Error("the allocator does not work after moving there and back")
	}
}

func TestMetaBytes(t *testing.T) {
	for top, want := range map[uintptr]uintptr{FrameSize: 4096, 4096 * FrameSize: 4096, 4097 * FrameSize: 8192, 1 << 30: 1 << 18} {
		if got := MetaBytes(top); got != want {
			t.Errorf("MetaBytes(%#x) = %d, want %d", top, got, want)
		}
	}
}

// model is what the test believes it owns: first frame → number of frames.
type model struct {
	t      *testing.T
	memory []byte
	owned  map[uintptr]uintptr
	frames map[uintptr]uintptr // frame → first frame of its block
}

func (m *model) took(p, n, align uintptr, zero bool) {
	if p%(align*FrameSize) != 0 {
		m.t.Fatalf("block at %#x is not aligned to %d frames", p, align)
	}
	f := p / FrameSize
	for k := f; k < f+n; k++ {
		if other, taken := m.frames[k]; taken {
			m.t.Fatalf("frame %d of block %d+%d is in block %d too", k, f, n, other)
		}
		m.frames[k] = f
		page := m.memory[k*FrameSize : (k+1)*FrameSize]
		if zero && slices.ContainsFunc(page, func(b byte) bool { return b != 0 }) {
			m.t.Fatalf("frame %d is not zero", k)
		}
		for i := 0; i < FrameSize; i += 256 {
			binary.LittleEndian.PutUint64(page[i:], uint64(k)<<16|0xa5a5)
		}
	}
	m.owned[f] = n
}

func (m *model) dropped(f uintptr) (n uintptr) {
	n = m.owned[f]
	for k := f; k < f+n; k++ {
		page := m.memory[k*FrameSize : (k+1)*FrameSize]
		for i := 0; i < FrameSize; i += 256 {
			if v := binary.LittleEndian.Uint64(page[i:]); v != uint64(k)<<16|0xa5a5 {
				m.t.Fatalf("frame %d, owned, was written to: %#x at %d", k, v, i)
			}
		}
		delete(m.frames, k)
	}
	delete(m.owned, f)
	return n
}

// Blocks never overlap, are aligned, keep their contents, and when all is given
// back the free lists are what they were.
func TestAgainstModel(t *testing.T) {
	const top = 2048 * FrameSize
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m := &model{t: t, memory: fresh(t, top), owned: map[uintptr]uintptr{}, frames: map[uintptr]uintptr{}}
		AddRange(16*FrameSize, 700*FrameSize)
		AddRange(701*FrameSize, top)
		atStart := lists(t)
		total, _, _ := Counts()
		least := total
		order := func() uint { return min(uint(rng.ExpFloat64()*2), 9) }
		for step := range 1500 {
			switch k := rng.IntN(10); {
			case k < 3:
				o := order()
				if p := Alloc(o); p != None {
					m.took(p, 1<<o, 1<<o, false)
				}
			case k < 4:
				o := order()
				if p := AllocZero(o); p != None {
					m.took(p, 1<<o, 1<<o, true)
				}
			case k < 5:
				n, align := 1+rng.UintN(40), uint(1)<<rng.UintN(5)
				if p := AllocContiguous(uintptr(n), uintptr(align)); p != None {
					m.took(p, uintptr(n), uintptr(align), true)
				}
			case len(m.owned) > 0:
				keys := slices.Sorted(maps.Keys(m.owned))
				f := keys[rng.IntN(len(keys))]
				n := m.dropped(f)
				if n&(n-1) == 0 && f%n == 0 && rng.IntN(2) == 0 {
					o := uint(0)
					for 1<<o < n {
						o++
					}
					if !Free(f*FrameSize, o) {
						t.Fatalf("seed %d, step %d: Free of block %d+%d is refused", seed, step, f, n)
					}
				} else {
					FreeRun(f*FrameSize, (f+n)*FrameSize)
				}
			}
			all, now, low := Counts()
			if least = min(least, now); all != total || now != total-uintptr(len(m.frames)) || low != None && low > least { // None before the first Alloc
				t.Fatalf("seed %d, step %d: %d frames, %d free, least %d; owned are %d, least seen was %d", seed, step, all, now, low, len(m.frames), least)
			}
		}
		lists(t)
		for _, f := range slices.Sorted(maps.Keys(m.owned)) {
			n := m.dropped(f)
			FreeRun(f*FrameSize, (f+n)*FrameSize)
		}
		if got := lists(t); !maps.EqualFunc(got, atStart, slices.Equal) {
			t.Errorf("seed %d: free lists at the end %v, at the start %v", seed, got, atStart)
		}
	}
}

func TestAllocWhenExhausted(t *testing.T) {
	fresh(t, 64*FrameSize)
	AddRange(16*FrameSize, 64*FrameSize)
	if p := Alloc(6); p != None {
		t.Errorf("64 frames from 48: %#x", p)
	}
	for i := range 3 {
		if Alloc(4) == None {
			t.Fatalf("block %d of 3 is not to be had", i)
		}
	}
	for o := uint(0); o <= MaxOrder+1; o++ {
		if p := Alloc(o); p != None {
			t.Errorf("order %d from nothing: %#x", o, p)
		}
		if p := AllocZero(o); p != None {
			t.Errorf("order %d, zeroed, from nothing: %#x", o, p)
		}
	}
	if _, now, low := Counts(); now != 0 || low != 0 {
		t.Errorf("%d free, least %d", now, low)
	}
	Free(32*FrameSize, 4)
	if p := Alloc(0); p/FrameSize < 32 || p/FrameSize >= 48 {
		t.Errorf("after giving back frames 32 to 47: %#x", p)
	}
}

func TestAllocContiguousBounds(t *testing.T) {
	fresh(t, 64*FrameSize)
	AddRange(16*FrameSize, 64*FrameSize)
	for _, a := range [][2]uintptr{{0, 1}, {1<<MaxOrder + 1, 1}, {1, 1<<MaxOrder + 1}, {33, 1}, {1, 64}, {^uintptr(0), 1}, {1, ^uintptr(0)}} {
		if p := AllocContiguous(a[0], a[1]); p != None {
			t.Errorf("AllocContiguous(%d, %d) = %#x", a[0], a[1], p)
		}
	}
	if _, now, _ := Counts(); now != 48 {
		t.Errorf("%d frames free after refusals, want 48", now)
	}
}

func TestFreeRefuses(t *testing.T) {
	fresh(t, 64*FrameSize)
	AddRange(16*FrameSize, 48*FrameSize)
	p := Alloc(1)
	if !Free(p, 1) || Free(p, 1) {
		t.Error("the first Free is refused, or the second is not")
	}
	for _, a := range []struct {
		p     uintptr
		order uint
		what  string
	}{
		{16*FrameSize + 8, 0, "not a frame's address"},
		{17 * FrameSize, 1, "not aligned to its size"},
		{8 * FrameSize, 0, "not RAM"},
		{50 * FrameSize, 1, "RAM that was never given"},
		{64 * FrameSize, 0, "beyond the end"},
		{48 * FrameSize, 5, "reaching beyond the end"},
		{None &^ (FrameSize - 1), 0, "the last address"},
	} {
		if Free(a.p, a.order) {
			t.Errorf("Free(%#x, %d) is accepted: %s", a.p, a.order, a.what)
		}
	}
	if _, now, _ := Counts(); now != 32 {
		t.Errorf("%d frames free, want 32", now)
	}
	lists(t)
}

// Several processors at once: no frame has two owners.
func TestConcurrent(t *testing.T) {
	memory := fresh(t, 512*FrameSize)
	AddRange(16*FrameSize, 512*FrameSize)
	atStart := lists(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			become(t, i)
			rng := rand.New(rand.NewPCG(uint64(i), 2))
			type block struct {
				p uintptr
				o uint
			}
			var mine []block
			give := func(k int) {
				b := mine[k]
				mine = slices.Delete(mine, k, k+1)
				for a := b.p; a < b.p+FrameSize<<b.o; a += FrameSize {
					if memory[a] != byte(i+1) {
						t.Errorf("frame %d of processor %d belongs to %d too", a/FrameSize, i, memory[a]-1)
					}
				}
				Free(b.p, b.o)
			}
			for range 1500 {
				if o := uint(rng.IntN(4)); rng.IntN(2) == 0 {
					if p := Alloc(o); p != None {
						for a := p; a < p+FrameSize<<o; a += FrameSize {
							memory[a] = byte(i + 1)
						}
						mine = append(mine, block{p, o})
					}
				} else if len(mine) > 0 {
					give(rng.IntN(len(mine)))
				}
			}
			for len(mine) > 0 {
				give(0)
			}
		})
	}
	wg.Wait()
	if got := lists(t); fmt.Sprint(got) != fmt.Sprint(atStart) {
		t.Errorf("free lists at the end %v, at the start %v", got, atStart)
	}
}

// A frame freed twice must be refused also when its block has merged with its
// neighbours meanwhile: nothing at the frame itself tells any more.
func TestFreeTwiceAfterMerge(t *testing.T) {
	fresh(t, 64*FrameSize)
	AddRange(16*FrameSize, 32*FrameSize)
	a, b := Alloc(0), Alloc(0)
	if !Free(a, 0) || !Free(b, 0) {
		t.Fatal("a busy frame was refused")
	}
	want := lists(t)
	for _, p := range []uintptr{a, b, 20 * FrameSize} {
		if Free(p, 0) {
			t.Errorf("frame %d was free and could be freed again", p/FrameSize)
		}
	}
	if got := lists(t); !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("lists are %v, want %v", got, want)
	}
}

// A list is had whole or not at all, and given back block by block.
func TestLists(t *testing.T) {
	fresh(t, 4<<20)
	AddRange(1<<20, 4<<20)
	_, before, _ := Counts()
	var list [300]uintptr
	at := uintptr(unsafe.Pointer(&list))
	if !AllocList(at, 300, 0) {
		t.Fatal("no memory")
	}
	seen := map[uintptr]bool{}
	for _, p := range list {
		if p%FrameSize != 0 || seen[p] {
			t.Fatalf("frame %#x", p)
		}
		seen[p] = true
	}
	if _, now, _ := Counts(); now != before-300 {
		t.Errorf("%d frames are gone", before-now)
	}
	if !FreeList(at, 300, 0) || FreeList(at, 1, 0) {
		t.Error("blocks are refused, or freed twice")
	}
	if AllocList(at, 300, 5) {
		t.Error("more than there is")
	}
	if _, now, _ := Counts(); now != before {
		t.Errorf("%d frames are lost", before-now)
	}
}
