package usermem

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"osv/kernel/linux/mm"
)

const (
	arenaBlocks = 24 // of 2 MiB
	arenaSize   = arenaBlocks * largeSize
)

// fake is a machine in an arena: 2 MiB blocks, of which the upper half serves single
// frames. Its processor caches what tests touch, until it is told to drop it.
type fake struct {
	t    testing.TB
	mem  []byte
	base uintptr

	mu     sync.Mutex
	free   [LargeOrder + 1][]uint64
	out    map[uint64]uint // allocated blocks and their order
	limit  int             // allocations until ENOMEM, -1 = none
	roots  map[uint64]bool
	tlb    map[uint64]uint64 // page → entry, for the only root
	calls  int               // of the allocator
	flush1 int               // pages flushed one by one
	flushN int               // whole flushes
}

func newFake(t testing.TB) *fake {
	mem, err := syscall.Mmap(-1, 0, arenaSize+largeSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, mem: mem, base: uintptr(unsafe.Pointer(&mem[0])), limit: -1,
		out: map[uint64]uint{}, roots: map[uint64]bool{}, tlb: map[uint64]uint64{}}
	for i := arenaBlocks - 1; i > 0; i-- { // not 0, which is no frame
		pa := uint64(i) * largeSize
		if i < arenaBlocks/2 {
			f.free[LargeOrder] = append(f.free[LargeOrder], pa)
			continue
		}
		for o := largeSize - pageSize; o >= 0; o -= pageSize {
			f.free[0] = append(f.free[0], pa+uint64(o))
		}
	}
	t.Cleanup(func() { syscall.Munmap(mem) })
	return f
}

func (f *fake) Direct() uintptr { return f.base }

func (f *fake) AllocFrames(list []uint64, order uint) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if len(f.free[order]) < len(list) || f.limit == 0 {
		return syscall.ENOMEM
	}
	if f.limit > 0 {
		f.limit--
	}
	for i := range list {
		n := len(f.free[order]) - 1
		list[i] = f.free[order][n]
		f.free[order] = f.free[order][:n]
		f.out[list[i]] = order
		f.mem[list[i]] = 0xee // memory holds anything
		f.mem[list[i]+pageSize<<order-1] = 0xee
	}
	return nil
}

func (f *fake) FreeFrameList(list []uint64, order uint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, pa := range list {
		if o, ok := f.out[pa]; !ok || o != order {
			f.t.Errorf("frame %#x of order %d is freed, but was not allocated so", pa, order)
		}
		for va, e := range f.tlb {
			if got := e & pteAddr; got >= pa && got < pa+pageSize<<order {
				f.t.Errorf("frame %#x is freed while a processor may reach it at %#x", pa, va)
			}
		}
		delete(f.out, pa)
		f.free[order] = append(f.free[order], pa)
	}
}

func (f *fake) NewRoot() (uint64, error) {
	var l [1]uint64
	if err := f.AllocFrames(l[:], 0); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.roots[l[0]] = true
	top := (*node)(unsafe.Pointer(&f.mem[l[0]]))
	clear(top[:256])
	for i := 256; i < 512; i++ {
		top[i] = 0xdead000 | tableBits // the kernel's half: nothing to walk into
	}
	return l[0], nil
}

func (f *fake) FreeRoot(root uint64) {
	f.mu.Lock()
	if !f.roots[root] {
		f.t.Errorf("root %#x is freed, but is none", root)
	}
	delete(f.roots, root)
	clear(f.tlb)
	f.mu.Unlock()
	f.FreeFrameList([]uint64{root}, 0)
}

func (f *fake) FlushPages(root uint64, pages []uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flushed(root)
	if len(pages) == 0 || len(pages) > MaxFlush {
		f.t.Errorf("a flush of %d pages", len(pages))
	}
	for _, va := range pages {
		f.flush1++
		for k, e := range f.tlb { // a 2 MiB page is cached as one
			if k == va || e&pteLarge != 0 && k>>21 == va>>21 {
				delete(f.tlb, k)
			}
		}
	}
}

func (f *fake) FlushRoot(root uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flushed(root)
	f.flushN++
	clear(f.tlb)
}

func (f *fake) flushed(root uint64) {
	if !f.roots[root] {
		f.t.Errorf("flush of root %#x, which is none", root)
	}
}

func (f *fake) FreeMemory() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return uint64(len(f.free[0]))*pageSize + uint64(len(f.free[LargeOrder]))*largeSize
}

// touch is an access of ring 3: it caches the translation and sets the bits. It
// reports what the processor would: page fault or not.
func (f *fake) touch(t *Table, va uint64, write, exec bool) bool {
	e, at := f.walk(t.root, va)
	if at == nil || e&ptePresent == 0 || write && e&pteWrite == 0 || exec && e&pteNX != 0 {
		return false
	}
	*at |= pteAccessed
	if write {
		*at |= pteDirty
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tlb[va&^(pageSize-1)] = *at
	return true
}

// walk finds an entry as the processor does (SDM vol. 3A figures 4-8 and 4-9).
func (f *fake) walk(root, va uint64) (uint64, *uint64) {
	pa := root
	for shift := uint(39); ; shift -= 9 {
		e := (*uint64)(unsafe.Pointer(&f.mem[pa+(va>>shift&511)*8]))
		switch {
		case *e&ptePresent == 0:
			return 0, nil
		case shift == 12 || *e&pteLarge != 0:
			if *e&pteUser == 0 {
				f.t.Fatalf("entry %#x at %#x is not for ring 3", *e, va)
			}
			return *e, e
		case *e&(pteUser|pteWrite) != pteUser|pteWrite || *e&pteNX != 0:
			f.t.Fatalf("table entry %#x at %#x takes rights away", *e, va)
		}
		pa = *e & pteAddr
	}
}

// cached fails where a processor holds more than the table says.
func (f *fake) cached(t *Table) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for va, c := range f.tlb {
		e, at := f.walk(t.root, va)
		if at == nil {
			return fmt.Errorf("a processor holds %#x for %#x, which is not mapped", c, va)
		}
		if c&pteWrite&^e != 0 || e&pteNX&^c != 0 || c&pteDirty&^e != 0 {
			return fmt.Errorf("a processor holds %#x for %#x, the entry is %#x", c, va, e)
		}
	}
	return nil
}

func newTable(t testing.TB) (*fake, *Machine, *Table) {
	f := newFake(t)
	m := New(f)
	tab, err := m.NewTable()
	if err != nil {
		t.Fatal(err)
	}
	return f, m, tab.(*Table)
}

// release frees a table and all that it maps, and checks that nothing is left.
func release(t testing.TB, f *fake, m *Machine, tab *Table) {
	t.Helper()
	err := tab.Unmap(0, userEnd, func(va uint64, e mm.PTE) { m.Free([]mm.Frame{e.Frame}, e.Order) })
	if err != nil {
		t.Fatal(err)
	}
	tab.Free()
	m.drain()
	if len(f.out) != 0 {
		t.Fatalf("%d blocks are left", len(f.out))
	}
}
