package trace

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"
)

// ring holds the last events of any number of emitters, without a lock.
//
// An emitter draws a number n, which names its slot, n modulo the size. The
// slot's seq says what is in it:
//
//	0          nothing yet
//	2n+1       event n is being written
//	2n+2       event n is complete
//
// The emitter moves seq from an older complete state to 2n+1 by compare and
// swap, so a slot has one writer at a time: one that finds it being written
// (its writer lost the processor for a whole round of the ring) or holding a
// newer event counts its own as lost. A reader takes seq, the event, and seq
// again, and keeps the event if both are the same complete state. All words are
// atomic, so this holds under the Go memory model, not only on x86.
type ring struct {
	next atomic.Uint64 // number of the next event
	_    [56]byte
	lost atomic.Uint64
	_    [56]byte
	slot []slot
}

// slot is one cache line.
type slot struct {
	seq  atomic.Uint64
	at   atomic.Int64
	head atomic.Uint64 // point << 8 | number of arguments
	args [MaxArgs]atomic.Uint64
	_    [8]byte
}

func newRing(size int) *ring { return &ring{slot: make([]slot, size)} }

func (r *ring) emit(point uint32, at time.Duration, args []uint64) {
	n := r.next.Add(1) - 1
	s := r.claim(n)
	if s == nil {
		r.lost.Add(1)
		return
	}
	s.fill(point, at, args)
	s.seq.Store(2*n + 2)
}

// claim returns the slot of event n for writing, nil where it is not to be had.
func (r *ring) claim(n uint64) *slot {
	s := &r.slot[n&uint64(len(r.slot)-1)]
	old := s.seq.Load()
	if old&1 != 0 || old > 2*n || !s.seq.CompareAndSwap(old, 2*n+1) {
		return nil
	}
	return s
}

func (s *slot) fill(point uint32, at time.Duration, args []uint64) {
	args = args[:min(len(args), MaxArgs)]
	s.at.Store(int64(at))
	s.head.Store(uint64(point)<<8 | uint64(len(args)))
	for i, a := range args {
		s.args[i].Store(a)
	}
}

type rawEvent struct {
	seq   uint64
	at    time.Duration
	point uint32
	n     int
	args  [MaxArgs]uint64
}

// read returns the slot's event if it is complete and stayed so.
func (s *slot) read() (e rawEvent, ok bool) {
	seq := s.seq.Load()
	if seq == 0 || seq&1 != 0 {
		return e, false
	}
	head := s.head.Load()
	e = rawEvent{seq: seq/2 - 1, at: time.Duration(s.at.Load()), point: uint32(head >> 8), n: int(head & 0xff)}
	for i := range e.n {
		e.args[i] = s.args[i].Load()
	}
	return e, s.seq.Load() == seq
}

func (r *ring) snapshot() []rawEvent {
	var out []rawEvent
	for i := range r.slot {
		if e, ok := r.slot[i].read(); ok {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b rawEvent) int { return cmp.Compare(a.seq, b.seq) })
	return out
}

func (r *ring) emitted() uint64 {
	if r == nil {
		return 0
	}
	return r.next.Load()
}

func (r *ring) lostEvents() uint64 {
	if r == nil {
		return 0
	}
	return r.lost.Load()
}
