package mm

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"
)

// nearSize is how many pages a Space remembers.
const nearSize = 16

// Bits of a nearPage's tag beside the page's address.
const (
	tagRead  = 1
	tagWrite = 2
)

// near are pages that copies reached lately: what a TLB is to the processor. With mu
// held for reading an entry stays true but where a copy on write replaces its frame,
// and whoever holds mu for writing forgets all of them first.
//
// An entry is read without a lock: the tag before the page and after it. One goroutine
// at a time fills one; the same tag does not come with another page unless forget was
// in between.
type near struct {
	pages [nearSize]nearPage
	used  atomic.Uint32 // bit per entry that may have a tag
	fill  atomic.Bool   // somebody fills an entry
}

type nearPage struct {
	tag atomic.Uint64
	p   atomic.Pointer[[PageSize]byte]
}

// load is the page if the tag is t, the bit of writing aside where ignore has it.
func (e *nearPage) load(t, ignore uint64) *[PageSize]byte {
	if e.tag.Load()&^ignore != t {
		return nil
	}
	p := e.p.Load()
	if e.tag.Load()&^ignore != t {
		return nil
	}
	return p
}

// nearRead is the page around addr if it is remembered. Caller holds mu for reading.
func (s *Space) nearRead(addr uint64) *[PageSize]byte {
	return s.near.pages[addr>>PageShift%nearSize].load(addr&^(PageSize-1)|tagRead, tagWrite)
}

// nearWrite is the page around addr if it is remembered for writing, and nobody has to
// be told of writes. Caller holds mu for reading.
func (s *Space) nearWrite(addr uint64) *[PageSize]byte {
	if s.inPlace != 0 {
		return nil
	}
	return s.near.pages[addr>>PageShift%nearSize].load(addr&^(PageSize-1)|tagRead|tagWrite, 0)
}

// remember keeps the page around addr, which Reach has given for want. Caller holds mu
// for reading.
func (s *Space) remember(addr uint64, want Prot) {
	n := &s.near
	if !n.fill.CompareAndSwap(false, true) {
		return
	}
	addr &^= PageSize - 1
	i := addr >> PageShift % nearSize
	e := &n.pages[i]
	e.tag.Store(0)
	if b, _, ok := s.reacher.Reach(addr, want); ok {
		p := (*[PageSize]byte)(b)
		tag := addr | tagRead
		if want == ProtWrite {
			tag |= tagWrite
		}
		e.p.Store(p)
		e.tag.Store(tag)
		n.used.Or(1 << i)
		// A copy on write takes the page out of the table first, and then forgets: one
		// of the two sees the other.
		if b, _, ok = s.reacher.Reach(addr, want); !ok || (*[PageSize]byte)(b) != p {
			e.tag.Store(0)
		}
	}
	n.fill.Store(false)
}

// forgetNear drops all entries. Caller holds mu for writing, or has taken a page out of
// the table with mu held for reading.
func (s *Space) forgetNear() {
	if s.near.used.Load() == 0 {
		return
	}
	for u := s.near.used.Swap(0); u != 0; u &= u - 1 {
		s.near.pages[bits.TrailingZeros32(u)].tag.Store(0)
	}
}

// Word reads 8 bytes at addr, little-endian and not at once: EFAULT.
func (s *Space) Word(addr uint64) (uint64, error) {
	s.mu.RLock()
	if p, at := s.nearRead(addr), addr%PageSize; p != nil && at <= PageSize-8 {
		v := binary.LittleEndian.Uint64(p[at:])
		s.mu.RUnlock()
		return v, nil
	}
	var b [8]byte
	_, err := s.get(b[:], addr)
	s.mu.RUnlock()
	return binary.LittleEndian.Uint64(b[:]), err
}

// PutWord writes 8 bytes at addr, little-endian and not at once: EFAULT.
func (s *Space) PutWord(addr, v uint64) error {
	s.mu.RLock()
	if p, at := s.nearWrite(addr), addr%PageSize; p != nil && at <= PageSize-8 {
		binary.LittleEndian.PutUint64(p[at:], v)
		s.mu.RUnlock()
		return nil
	}
	return s.putSlow(addr, v)
}

// PutWords is PutWord of two.
func (s *Space) PutWords(addr, v, w uint64) error {
	s.mu.RLock()
	if p, at := s.nearWrite(addr), addr%PageSize; p != nil && at <= PageSize-16 {
		b := p[at:]
		binary.LittleEndian.PutUint64(b, v)
		binary.LittleEndian.PutUint64(b[8:], w)
		s.mu.RUnlock()
		return nil
	}
	return s.putSlow(addr, v, w)
}

// putSlow is PutWord and PutWords where the page is not remembered. It releases mu,
// which the caller holds for reading.
func (s *Space) putSlow(addr uint64, v ...uint64) error {
	var b [16]byte
	for i, w := range v {
		binary.LittleEndian.PutUint64(b[8*i:], w)
	}
	_, err := s.put(addr, b[:8*len(v)])
	s.mu.RUnlock()
	s.settle()
	return err
}
