package dma

import (
	"sync"
	"syscall"
	"unsafe"
)

// Host is an Allocator for tests on a plain host: the bus address of a byte is
// its virtual address, so a fake device can follow any address it is given.
// The zero value is ready. It counts what is handed out, for leak checks.
type Host struct {
	mu   sync.Mutex
	live map[Addr]hostBlock // guarded by mu
}

type hostBlock struct {
	raw  []byte // the whole mapping, alignment slack included
	size int
}

// Alloc maps fresh anonymous memory.
func (h *Host) Alloc(size, align int) (Region, error) {
	if size <= 0 || align <= 0 || align&(align-1) != 0 {
		return Region{}, ErrNoMemory{size, align}
	}
	raw, err := syscall.Mmap(-1, 0, size+align, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return Region{}, ErrNoMemory{size, align}
	}
	base := uintptr(unsafe.Pointer(&raw[0]))
	skip := int(-base & uintptr(align-1))
	r := Region{Bytes: raw[skip : skip+size : skip+size], Bus: Addr(base + uintptr(skip))}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.live == nil {
		h.live = map[Addr]hostBlock{}
	}
	h.live[r.Bus] = hostBlock{raw, size}
	return r, nil
}

// Free unmaps r; it panics where r is not a live Region of h, since a double
// free of device memory is the bug that such tests look for.
func (h *Host) Free(r Region) {
	h.mu.Lock()
	b, ok := h.live[r.Bus]
	delete(h.live, r.Bus)
	h.mu.Unlock()
	if !ok {
		panic("dma: Free of a region that is not live")
	}
	if err := syscall.Munmap(b.raw); err != nil {
		panic(err)
	}
}

// Live is the number of regions handed out and not yet freed.
func (h *Host) Live() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.live)
}

// BytesAt returns n bytes at bus address a, for fake devices. It reports false
// where they are not inside one live region: the driver gave the device a bad
// address.
func (h *Host) BytesAt(a Addr, n int) ([]byte, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for bus, b := range h.live {
		if a >= bus && uint64(a)+uint64(n) <= uint64(bus)+uint64(b.size) {
			off := int(a - Addr(uintptr(unsafe.Pointer(&b.raw[0]))))
			return b.raw[off : off+n : off+n], true
		}
	}
	return nil, false
}
