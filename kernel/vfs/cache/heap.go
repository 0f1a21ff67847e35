package cache

import (
	"sync"
	"syscall"
)

// Heap is Frames of ordinary memory, for hosted programs and tests. Its frames'
// numbers are its own.
type Heap struct {
	Max int // pages; 0: any number

	mu   sync.Mutex
	next uint64
	used int
	free [][]byte
}

// Alloc is Frames'.
func (h *Heap) Alloc(zero bool) (uint64, []byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.Max > 0 && h.used >= h.Max {
		return 0, nil, syscall.ENOMEM
	}
	h.used++
	h.next += PageSize
	if n := len(h.free); n > 0 {
		b := h.free[n-1]
		h.free = h.free[:n-1]
		if zero {
			clear(b)
		}
		return h.next, b, nil
	}
	return h.next, make([]byte, PageSize), nil
}

// Free is Frames'. It panics where more is freed than was allocated.
func (h *Heap) Free(_ uint64, b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.used--; h.used < 0 || len(b) != PageSize {
		panic("cache: a frame is freed twice")
	}
	h.free = append(h.free, b)
}

// Used is the number of frames that are out.
func (h *Heap) Used() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.used
}
