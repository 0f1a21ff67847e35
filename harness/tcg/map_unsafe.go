package tcg

import (
	"sync/atomic"
	"unsafe"
)

// The layout of struct shared in plugin/count.c, in bytes.
const (
	offMax      = 8
	offHalf     = 16
	offBlocks   = 32
	offEvents   = 40
	headerBytes = 128
	blockBytes  = 24
)

// word is the 64-bit counter at byte off of the shared memory, which QEMU's
// threads write.
func (c *Counter) word(off int) *uint64 {
	_ = c.mem[off+7]
	return (*uint64)(unsafe.Pointer(&c.mem[off])) // page-aligned, off a multiple of 8
}

func (c *Counter) init() {
	copy(c.mem, "OSVTCG2\x00")
	atomic.StoreUint64(c.word(offMax), uint64(c.max))
}

// Read reads the counters. It allocates nothing.
func (c *Counter) Read() Counts {
	return Counts{atomic.LoadUint64(c.word(offHalf)), atomic.LoadUint64(c.word(offHalf + 8))}
}

// ReadEvents reads the event counters. It allocates nothing.
func (c *Counter) ReadEvents() Events {
	at := func(i int) uint64 { return atomic.LoadUint64(c.word(offEvents + 8*i)) }
	return Events{at(0), at(1), at(2), at(3)}
}

func (c *Counter) translated() int {
	return int(min(atomic.LoadUint64(c.word(offBlocks)), 1<<40))
}

// Block is a translated block of guest code.
type Block struct {
	Addr  uint64 // of its first instruction
	Insns uint64 // instructions in it
	Execs uint64 // times executed
}

// Blocks reads the table. A block that was translated again appears again.
func (c *Counter) Blocks() []Block {
	n := min(c.translated(), c.max)
	out := make([]Block, 0, n)
	for i := range n {
		at := headerBytes + i*blockBytes
		// The address is written last: zero means "being filled in".
		addr := atomic.LoadUint64(c.word(at))
		if addr == 0 {
			continue
		}
		out = append(out, Block{addr, atomic.LoadUint64(c.word(at + 8)), atomic.LoadUint64(c.word(at + 16))})
	}
	return out
}
