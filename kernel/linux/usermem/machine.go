// Package usermem is user memory on the machine itself: page tables of programs and
// frames for them, for kernel/linux/mm.
//
// Spec: Intel SDM vol. 3A (2024-06) chapter 4 (4-level paging), §4.10 (what
// processors cache of it). Who may use it: kernel/linux, which passes it to mm as its
// Machine. Tables are built here, above the Go runtime, through the direct map; what
// needs the processor itself (frames, invalidation, a table's root) comes from
// kernel/hw/gate by way of Hardware, so that all of this runs hosted on a fake.
//
// It may not decide what is mapped, nor keep count of who uses a frame: mm does.
// The kernel's writes through the direct map set no dirty bit: mm marks those.
//
// Start reading at Machine, then table.go.
package usermem

import (
	"sync"

	"osv/kernel/linux/mm"
)

const (
	pageShift = 12
	pageSize  = 1 << pageShift
	largeSize = 1 << 21
	// LargeOrder is the order of a 2 MiB page.
	LargeOrder = 9
	userEnd    = 1 << 47
)

// Hardware is the machine below: kernel/hw/gate in a guest (Guest), a fake in
// tests. The functions are as gate documents them.
type Hardware interface {
	AllocFrames(list []uint64, order uint) error
	FreeFrameList(list []uint64, order uint)
	NewRoot() (uint64, error)
	FreeRoot(root uint64)
	FlushPages(root uint64, pages []uint64) // at most MaxFlush
	FlushRoot(root uint64)
	FreeMemory() uint64
	// Direct is the address where physical address 0 would be.
	Direct() uintptr
}

// MaxFlush is how many pages FlushPages takes.
const MaxFlush = 32

// Machine is an mm.Machine. Any goroutine may use it.
type Machine struct {
	hw      Hardware
	direct  uintptr
	plenty  uint64 // bytes that must be free for 2 MiB pages
	reserve reserve

	// A few single frames are kept, so that a page fault costs no call below the
	// runtime.
	mu    sync.Mutex
	cache [cacheSize]uint64
	n     int
}

var _ mm.Machine = (*Machine)(nil)

const (
	cacheSize = 512
	cacheFill = 64 // frames fetched at once
	cacheTake = 16 // larger requests go past the cache
)

// New makes the machine on hw.
func New(hw Hardware) *Machine {
	return &Machine{hw: hw, direct: hw.Direct(), plenty: hw.FreeMemory() / 16}
}

// NewTable makes an address space that maps nothing below the kernel's half.
func (m *Machine) NewTable() (mm.Table, error) {
	root, err := m.hw.NewRoot()
	if err != nil {
		return nil, err
	}
	return &Table{m: m, root: root}, nil
}

// Alloc fills out with frames, zeroed if zero is set; with ENOMEM it allocates none.
func (m *Machine) Alloc(out []mm.Frame, order uint, zero bool) error {
	if len(out) == 0 {
		return nil
	}
	if err := m.alloc(words(out), order); err != nil {
		return err
	}
	if zero {
		for _, f := range out {
			clear(m.Bytes(f, order))
		}
	}
	return nil
}

func (m *Machine) alloc(out []uint64, order uint) error {
	if order != 0 || len(out) > cacheTake {
		err := m.allocFrames(out, order)
		if err == nil || !m.drain() {
			return err
		}
		return m.allocFrames(out, order) // what the cache held may have been the last
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n < len(out) {
		var err error
		if m.allocFrames(m.cache[m.n:m.n+cacheFill], 0) == nil {
			m.n += cacheFill
		} else if err = m.allocFrames(m.cache[m.n:len(out)], 0); err != nil {
			return err
		} else {
			m.n = len(out)
		}
	}
	m.n -= copy(out, m.cache[m.n-len(out):m.n])
	return nil
}

// drain gives the cache back; false if it was empty.
func (m *Machine) drain() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n == 0 {
		return false
	}
	m.hw.FreeFrameList(m.cache[:m.n], 0)
	m.n = 0
	return true
}

// Free gives frames back.
func (m *Machine) Free(frames []mm.Frame, order uint) {
	if len(frames) > 0 {
		m.free(words(frames), order)
	}
}

func (m *Machine) free(list []uint64, order uint) {
	if order == 0 && len(list) <= cacheTake {
		m.mu.Lock()
		if m.n+len(list) > cacheSize-cacheFill {
			m.hw.FreeFrameList(m.cache[m.n/2:m.n], 0)
			m.n /= 2
		}
		m.n += copy(m.cache[m.n:], list)
		m.mu.Unlock()
		return
	}
	m.hw.FreeFrameList(list, order)
}

// FreeBytes is how much memory could be had now.
func (m *Machine) FreeBytes() uint64 {
	m.mu.Lock()
	n := m.n
	m.mu.Unlock()
	free, keep := m.hw.FreeMemory()+uint64(n)*pageSize, m.reserve.keep.Load()
	if free < keep {
		return 0
	}
	return free - keep
}
