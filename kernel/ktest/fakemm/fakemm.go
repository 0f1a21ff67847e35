// Package fakemm is the machine below an address space (mm.Machine, mm.Table) in
// ordinary memory: frames of 4 KiB out of an arena, page tables as Go maps, and a
// processor that loads and stores through them with accessed and dirty bits. It is
// strict: what mm promises (no frame freed twice or mapped after it was freed, no
// entry replaced by another frame, frames of a block in order) panics when broken, and
// Leaked counts what was not given back.
//
// For tests only. Start reading at Machine.
package fakemm

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"osv/kernel/linux/mm"
)

const (
	pageSize  = 4096
	largeSize = 2 << 20
	perLarge  = largeSize / pageSize
	base      = 1 << 30 // physical address of the first frame
)

// Machine is memory of a fixed size.
type Machine struct {
	arena []byte

	mu    sync.Mutex
	free  []uint32 // frame numbers, used from the end
	used  []bool
	fail  int // Alloc fails after so many frames; negative: never
	inUse int

	tables  atomic.Int64
	Flushes atomic.Int64 // calls that took rights away
}

// New makes a machine with n frames.
func New(n int) *Machine {
	n = (n + perLarge - 1) / perLarge * perLarge
	m := &Machine{arena: make([]byte, n*pageSize), used: make([]bool, n), fail: -1}
	for i := n - 1; i >= 0; i-- {
		m.free = append(m.free, uint32(i))
	}
	return m
}

// FailAfter makes allocations fail once n more frames were taken; negative is never.
func (m *Machine) FailAfter(n int) {
	m.mu.Lock()
	m.fail = n
	m.mu.Unlock()
}

// Leaked is how many frames are in use, and how many tables.
func (m *Machine) Leaked() (frames int, tables int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.inUse, int(m.tables.Load())
}

// Alloc is mm.Machine's.
func (m *Machine) Alloc(out []mm.Frame, order uint, zero bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range out {
		n, ok := m.take(order)
		if !ok {
			for _, f := range out[:i] {
				m.give(f, order)
			}
			return syscall.ENOMEM
		}
		out[i] = base + mm.Frame(n)*pageSize
		b := m.arena[int(n)*pageSize:][:pageSize<<order]
		if zero {
			clear(b)
		} else {
			for i := 0; i < len(b); i += 512 {
				b[i] = 0xa5
			}
		}
	}
	return nil
}

// take finds a free block. Caller holds mu.
func (m *Machine) take(order uint) (uint32, bool) {
	size := 1 << order
	if m.fail >= 0 && m.fail < size {
		return 0, false
	}
	n, ok := uint32(0), false
	if order == 0 {
		for len(m.free) > 0 && !ok {
			n = m.free[len(m.free)-1]
			m.free = m.free[:len(m.free)-1]
			ok = !m.used[n] // blocks leave their frames on the list
		}
	} else {
		for at := len(m.used) - size; at >= 0 && !ok; at -= size {
			n, ok = uint32(at), !slices.Contains(m.used[at:at+size], true)
		}
	}
	if !ok {
		return 0, false
	}
	if m.fail >= 0 {
		m.fail -= size
	}
	m.inUse += size
	for i := range size {
		m.used[int(n)+i] = true
	}
	return n, true
}

func (m *Machine) give(f mm.Frame, order uint) {
	n := int(f-base) / pageSize
	for i := n; i < n+1<<order; i++ {
		if !m.used[i] {
			panic(fmt.Sprintf("fakemm: frame %#x is freed twice", f))
		}
		m.used[i] = false
		m.free = append(m.free, uint32(i))
		b := m.arena[i*pageSize:][:pageSize]
		for j := 0; j < len(b); j += 256 {
			b[j] = 0x5a
		}
	}
	m.inUse -= 1 << order
}

// Free is mm.Machine's.
func (m *Machine) Free(frames []mm.Frame, order uint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range frames {
		m.give(f, order)
	}
}

// Bytes is mm.Machine's.
func (m *Machine) Bytes(f mm.Frame, order uint) []byte {
	return m.arena[f-base:][: pageSize<<order : pageSize<<order]
}

// FreeBytes is mm.Machine's.
func (m *Machine) FreeBytes() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail >= 0 {
		return uint64(m.fail) * pageSize
	}
	return uint64(len(m.used)-m.inUse) * pageSize
}

// Frames gives frames to a page cache: kernel/vfs/cache's interface.
type Frames struct{ M *Machine }

// Alloc returns a frame and its memory.
func (f Frames) Alloc(zero bool) (uint64, []byte, error) {
	var one [1]mm.Frame
	if err := f.M.Alloc(one[:], 0, zero); err != nil {
		return 0, nil, err
	}
	return uint64(one[0]), f.M.Bytes(one[0], 0), nil
}

// Free takes it back.
func (f Frames) Free(frame uint64, _ []byte) { f.M.Free([]mm.Frame{mm.Frame(frame)}, 0) }

// live says whether f is in use.
func (m *Machine) live(f mm.Frame) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used[(f-base)/pageSize]
}
