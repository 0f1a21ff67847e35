package usermem

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"

	"osv/kernel/linux/mm"
)

// Entry bits (SDM vol. 3A §4.5, tables 4-15 to 4-20).
const (
	ptePresent  = 1 << 0
	pteWrite    = 1 << 1
	pteUser     = 1 << 2
	pteAccessed = 1 << 5
	pteDirty    = 1 << 6
	pteLarge    = 1 << 7
	pteNX       = 1 << 63
	pteAddr     = 0x000ffffffffff000

	tableBits = ptePresent | pteWrite | pteUser | pteAccessed
)

// Table is an mm.Table: the lower half of a 4-level page table, with pages of 4 KiB
// and 2 MiB.
//
// Entries change by locked instructions only: processors set accessed and dirty
// bits in them at any time, and other goroutines work on other addresses of the
// same table. A page table that Unmap empties is not given back before Free but
// used again in this address space, since Lookup may be in it without a lock.
type Table struct {
	m    *Machine
	root uint64

	near [nearSize]atomic.Pointer[near]

	mu    sync.Mutex
	nodes []uint64 // all tables but the root; guarded by mu
	spare []uint64 // those of them that are emptied page tables
}

var (
	_ mm.Table   = (*Table)(nil)
	_ mm.Reacher = (*Table)(nil)
)

// Root names the table to the processor.
func (t *Table) Root() uint64 { return t.root }

// bitsOf are an entry's bits for rights. A page without any keeps its place, but is
// the supervisor's: user mode faults.
func bitsOf(p mm.Prot, order uint) uint64 {
	e := uint64(ptePresent)
	if p != 0 {
		e |= pteUser
	}
	if p&mm.ProtWrite != 0 {
		e |= pteWrite
	}
	if p&mm.ProtExec == 0 {
		e |= pteNX
	}
	if order != 0 {
		e |= pteLarge
	}
	return e
}

// wider says whether entry e lets user mode do all that bits allow.
func wider(e, bits uint64) bool {
	return (e^bits)&e&pteNX == 0 && bits&(pteWrite|pteUser)&^e == 0
}

func pteOf(e uint64, order uint) mm.PTE {
	return mm.PTE{Frame: mm.Frame(e & pteAddr &^ (pageSize<<order - 1)), Order: order, Prot: protOf(e),
		Accessed: e&pteAccessed != 0, Dirty: e&pteDirty != 0}
}

// protOf are an entry's rights, without a branch: ProtRead is 1, ProtWrite 2, ProtExec
// 4, and nothing without pteUser.
func protOf(e uint64) mm.Prot {
	user := -(e >> 2 & 1)
	return mm.Prot((1 | e&pteWrite | ^e>>63<<2) & user)
}

// pmd returns the entry that maps the 2 MiB around va, making tables if create is
// set; without it nil where one is missing, and where the hole ends.
func (t *Table) pmd(va uint64, create bool) (e *uint64, hole uint64, err error) {
	n := t.m.node(t.root)
	for shift := uint(39); shift > 21; shift -= 9 {
		e = &n[va>>shift&511]
		v := atomic.LoadUint64(e)
		if v == 0 {
			if !create {
				return nil, (va>>shift + 1) << shift, nil
			}
			if v, err = t.grow(e); err != nil {
				return nil, 0, err
			}
		}
		n = t.m.node(v & pteAddr)
	}
	return &n[va>>21&511], 0, nil
}

// grow puts an empty table into e, unless another goroutine was first, and returns
// the entry.
func (t *Table) grow(e *uint64) (uint64, error) {
	pa, err := t.newNode()
	if err != nil {
		return 0, err
	}
	v := pa | tableBits
	if atomic.CompareAndSwapUint64(e, 0, v) {
		return v, nil
	}
	t.retire(pa)
	return atomic.LoadUint64(e), nil
}

// newNode returns an empty table.
func (t *Table) newNode() (uint64, error) {
	t.mu.Lock()
	if n := len(t.spare); n > 0 {
		pa := t.spare[n-1]
		t.spare = t.spare[:n-1]
		t.mu.Unlock()
		return pa, nil
	}
	t.mu.Unlock()
	var one [1]uint64
	if err := t.m.alloc(one[:], 0); err != nil {
		return 0, err
	}
	clear(t.m.node(one[0])[:])
	t.mu.Lock()
	t.nodes = append(t.nodes, one[0])
	t.mu.Unlock()
	return one[0], nil
}

// retire keeps an empty table for later.
func (t *Table) retire(pa uint64) {
	t.mu.Lock()
	t.spare = append(t.spare, pa)
	t.mu.Unlock()
}

// pte returns the page table behind pmd, made if there is none; nil where a 2 MiB
// page is mapped.
func (t *Table) pte(pmd *uint64) (*node, error) {
	for {
		v := atomic.LoadUint64(pmd)
		switch {
		case v == 0:
			if _, err := t.grow(pmd); err != nil {
				return nil, err
			}
		case v&pteLarge != 0:
			return nil, nil
		default:
			return t.m.node(v & pteAddr), nil
		}
	}
}

// check panics where a range is none: mm's mistake, not the program's.
func check(va, end, size uint64) {
	if va > end || end > userEnd || (va|end)&(size-1) != 0 {
		panic(fmt.Sprintf("usermem: [%#x, %#x) is no range of %d-byte pages for a program", va, end, size))
	}
}

// Map maps frames from va on. EEXIST says that another frame is mapped there; what
// came before it is mapped.
func (t *Table) Map(va uint64, frames []mm.Frame, order uint, prot mm.Prot) error {
	size := uint64(pageSize) << order
	if order != 0 && order != LargeOrder {
		panic(fmt.Sprintf("usermem: no page has order %d", order))
	}
	check(va, va+uint64(len(frames))*size, size)
	bits := bitsOf(prot, order)
	for len(frames) > 0 {
		pmd, _, err := t.pmd(va, true)
		if err != nil {
			return err
		}
		if order != 0 {
			if err := t.mapLarge(pmd, va, uint64(frames[0])|bits); err != nil {
				return err
			}
			frames, va = frames[1:], va+size
			continue
		}
		n, err := t.pte(pmd)
		if err != nil {
			return err
		}
		if n == nil {
			if err := t.widen(pmd, va, uint64(frames[0])|bits); err != nil {
				return err
			}
			frames, va = frames[1:], va+size
			continue
		}
		for i := va >> 12 & 511; i < 512 && len(frames) > 0; i++ {
			if err := install(&n[i], uint64(frames[0])|bits); err != nil {
				return err
			}
			frames, va = frames[1:], va+size
		}
	}
	return nil
}

// install writes an entry where there is none, or widens the rights of one.
func install(e *uint64, v uint64) error {
	for {
		old, w := atomic.LoadUint64(e), v
		if old != 0 {
			if (old^v)&pteAddr != 0 {
				return syscall.EEXIST
			}
			if wider(old, v) {
				return nil
			}
			w = old&^pteNX | v&(pteUser|pteWrite) | old&v&pteNX
		}
		if atomic.CompareAndSwapUint64(e, old, w) {
			return nil
		}
	}
}

// mapLarge maps a 2 MiB page, in place of an empty page table if there is one.
func (t *Table) mapLarge(pmd *uint64, va, v uint64) error {
	old := atomic.LoadUint64(pmd)
	if old == 0 || old&pteLarge != 0 {
		return install(pmd, v)
	}
	n := t.m.node(old & pteAddr)
	for i := range n {
		if atomic.LoadUint64(&n[i]) != 0 {
			return syscall.EEXIST
		}
	}
	if !atomic.CompareAndSwapUint64(pmd, old, v) {
		return syscall.EEXIST
	}
	t.flush(va)
	t.retire(old & pteAddr)
	return nil
}

// widen serves Map of a small page inside of a 2 MiB page of the same memory.
func (t *Table) widen(pmd *uint64, va, v uint64) error {
	e := atomic.LoadUint64(pmd)
	at := va & (largeSize - 1)
	if e&pteLarge == 0 || e&pteAddr+at != v&pteAddr {
		return syscall.EEXIST
	}
	if wider(e, v) {
		return nil
	}
	n, err := t.split(pmd, va)
	if err != nil {
		return err
	}
	return install(&n[va>>12&511], v)
}

// split makes a page table of a 2 MiB page and returns it; nil where it is one no
// more.
func (t *Table) split(pmd *uint64, va uint64) (*node, error) {
	pa, err := t.newNode()
	if err != nil {
		return nil, err
	}
	n := t.m.node(pa)
	for {
		e := atomic.LoadUint64(pmd)
		if e&pteLarge == 0 { // another goroutine was first
			clear(n[:])
			t.retire(pa)
			if e == 0 {
				return nil, nil
			}
			return t.m.node(e & pteAddr), nil
		}
		small := e &^ pteLarge
		for i := range n {
			n[i] = small + uint64(i)<<pageShift
		}
		if atomic.CompareAndSwapUint64(pmd, e, pa|tableBits) {
			t.flush(va)
			return n, nil
		}
	}
}

// flush drops the processors' translations around va.
func (t *Table) flush(va uint64) {
	one := [1]uint64{va}
	t.m.hw.FlushPages(t.root, one[:])
}

// MapZero maps zeroed frames wherever [va, va+n) maps nothing, 2 MiB at once where
// large is set, the place is aligned and memory is plenty.
func (t *Table) MapZero(va, n uint64, prot mm.Prot, large bool) (mapped uint64, err error) {
	end := va + n
	check(va, end, pageSize)
	for va < end {
		pmd, _, err := t.pmd(va, true)
		if err != nil {
			return partly(mapped, err)
		}
		next := min((va>>21+1)<<21, end)
		if large && next-va == largeSize && atomic.LoadUint64(pmd) == 0 && t.mapZeroLarge(pmd, prot) {
			mapped, va = mapped+largeSize, next
			continue
		}
		nd, err := t.pte(pmd)
		if err != nil {
			return partly(mapped, err)
		}
		if nd != nil {
			k, err := t.mapZeroSmall(nd, va, next, bitsOf(prot, 0))
			mapped += k
			if err != nil {
				return partly(mapped, err)
			}
		}
		va = next
	}
	return mapped, nil
}

// partly is MapZero's end where memory has run out.
func partly(mapped uint64, err error) (uint64, error) {
	if mapped > 0 {
		return mapped, nil
	}
	return 0, err
}

func (t *Table) mapZeroLarge(pmd *uint64, prot mm.Prot) bool {
	var f [1]mm.Frame
	if t.m.hw.FreeMemory() < t.m.plenty || t.m.Alloc(f[:], LargeOrder, true) != nil {
		return false
	}
	if !atomic.CompareAndSwapUint64(pmd, 0, uint64(f[0])|bitsOf(prot, LargeOrder)) {
		t.m.Free(f[:], LargeOrder)
		return false
	}
	return true
}

// mapZeroSmall fills the holes of one page table in [va, end).
func (t *Table) mapZeroSmall(n *node, va, end, bits uint64) (mapped uint64, err error) {
	var frames [cacheTake]mm.Frame
	have := 0
	for ; va < end; va += pageSize {
		e := &n[va>>12&511]
		if atomic.LoadUint64(e) != 0 {
			continue
		}
		if have == 0 {
			// As many as there are holes: a zeroed frame that is not used is dear.
			want := 0
			for a := va; a < end && want < len(frames); a += pageSize {
				if atomic.LoadUint64(&n[a>>12&511]) == 0 {
					want++
				}
			}
			if err = t.m.Alloc(frames[:want], 0, true); err != nil {
				if want == 1 || t.m.Alloc(frames[:1], 0, true) != nil {
					return mapped, err
				}
				want = 1
			}
			have = want
		}
		if atomic.CompareAndSwapUint64(e, 0, uint64(frames[have-1])|bits) {
			have--
			mapped += pageSize
		}
	}
	t.m.Free(frames[:have], 0)
	return mapped, nil
}

// Free releases the tables. Nothing is mapped any more, and no thread enters it.
func (t *Table) Free() {
	t.m.hw.FreeRoot(t.root)
	for n := 0; n < len(t.nodes); n += cacheTake {
		t.m.free(t.nodes[n:min(n+cacheTake, len(t.nodes))], 0)
	}
	for i := range t.near {
		t.near[i].Store(nil)
	}
	t.nodes, t.spare, t.root = nil, nil, 0
}
