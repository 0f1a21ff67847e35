package ring3

import (
	"sync/atomic"
	"unsafe"

	"osv/kernel/linux/mm"
)

// Words of 4 and 8 bytes at multiples of their size are accessed as the processor
// does: all at once. The kernel's atomic operations on them race with nothing then.

// Get32 loads a word.
func (p *Prog) Get32(addr uint64) (v uint32) {
	if addr%4 != 0 {
		return le.Uint32(p.Read(addr, 4))
	}
	p.touch(addr, mm.ProtRead, make([]byte, 4), func(mem, _ []byte) { v = atomic.LoadUint32((*uint32)(unsafe.Pointer(&mem[0]))) })
	return v
}

// Put32 stores one.
func (p *Prog) Put32(addr uint64, v uint32) {
	if addr%4 != 0 {
		p.Write(addr, le.AppendUint32(nil, v))
		return
	}
	p.touch(addr, mm.ProtWrite, make([]byte, 4), func(mem, _ []byte) { atomic.StoreUint32((*uint32)(unsafe.Pointer(&mem[0])), v) })
}

// Get64 loads a word of 8 bytes.
func (p *Prog) Get64(addr uint64) (v uint64) {
	if addr%8 != 0 {
		return le.Uint64(p.Read(addr, 8))
	}
	p.touch(addr, mm.ProtRead, make([]byte, 8), func(mem, _ []byte) { v = atomic.LoadUint64((*uint64)(unsafe.Pointer(&mem[0]))) })
	return v
}

// Put64 stores one.
func (p *Prog) Put64(addr, v uint64) {
	if addr%8 != 0 {
		p.Write(addr, le.AppendUint64(nil, v))
		return
	}
	p.touch(addr, mm.ProtWrite, make([]byte, 8), func(mem, _ []byte) { atomic.StoreUint64((*uint64)(unsafe.Pointer(&mem[0])), v) })
}
