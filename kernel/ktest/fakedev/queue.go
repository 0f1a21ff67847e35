package fakedev

import (
	"fmt"
	"sync/atomic"

	"osv/kernel/hw/dma"
)

// Queue is the device's side of one virtqueue. The test's goroutine steps it.
type Queue struct {
	Max    int // largest size offered; 0 makes the queue not exist
	Index  int
	Size   int
	Vector int // MSI-X vector or NoVector

	// Answer is called by Complete with the first and the last descriptor's bytes
	// of each chain, to put in what the driver wants to see there; nil for nothing.
	Answer func(first, last []byte)

	dev                   *Device
	descAt, availAt, used dma.Addr
	pfn                   uint32 // legacy: page number
	align                 int    // legacy MMIO: of the used ring
	enabled               bool
	r                     ring
	lastAvail             uint16
	usedIdx               uint16
	flushed               uint16 // usedIdx at the last Flush
	notified              atomic.Uint64
	segs                  []Seg // reused by Pop
}

// Seg is one descriptor of a chain: the bytes, and whether the device writes them.
type Seg struct {
	Bytes []byte
	Write bool
}

// Chain is a descriptor chain that the driver offered. Its Segs are valid until
// the next Pop of the same queue.
type Chain struct {
	Head uint16
	Segs []Seg
}

// Readable and Writable are the sizes in bytes of the two halves of the chain.
func (c Chain) Readable() (n int) {
	for _, s := range c.Segs {
		if !s.Write {
			n += len(s.Bytes)
		}
	}
	return n
}

// Writable is the number of bytes the device may write.
func (c Chain) Writable() (n int) {
	for _, s := range c.Segs {
		if s.Write {
			n += len(s.Bytes)
		}
	}
	return n
}

// Read copies the device-readable bytes from offset off into p.
func (c Chain) Read(off int, p []byte) (n int) {
	for _, s := range c.Segs {
		if s.Write {
			break
		}
		if off >= len(s.Bytes) {
			off -= len(s.Bytes)
			continue
		}
		m := copy(p[n:], s.Bytes[off:])
		n, off = n+m, 0
	}
	return n
}

// Write copies p into the device-writable bytes from offset off.
func (c Chain) Write(off int, p []byte) (n int) {
	for _, s := range c.Segs {
		if !s.Write {
			continue
		}
		if off >= len(s.Bytes) {
			off -= len(s.Bytes)
			continue
		}
		m := copy(s.Bytes[off:], p[n:])
		n, off = n+m, 0
	}
	return n
}

// Live reports whether the driver has enabled the queue and the device runs.
func (q *Queue) Live() bool { return q.enabled && q.dev.status.Load()&statusDriverOK != 0 }

// Notified is the number of doorbell writes for this queue.
func (q *Queue) Notified() uint64 { return q.notified.Load() }

// Avail is the number of chains offered and not yet popped.
func (q *Queue) Avail() int {
	if !q.Live() {
		return 0
	}
	return int(uint16(atomic.LoadUint32(q.r.availHead)>>16) - q.lastAvail)
}

// Pop takes the next chain. It panics where the driver broke the rules of
// §2.7.5: the test has found a bug.
func (q *Queue) Pop() (Chain, bool) {
	if q.Avail() == 0 {
		if q.Live() && q.dev.features&FeatureEventIdx != 0 {
			atomic.StoreUint32(q.r.availEvent, uint32(q.lastAvail))
		}
		if q.Avail() == 0 {
			return Chain{}, false
		}
	}
	if n := q.Avail(); n > q.Size {
		panic(fmt.Sprintf("fakedev: queue %d: driver offers %d chains in a ring of %d", q.Index, n, q.Size))
	}
	head := q.r.avail[int(q.lastAvail)%q.Size]
	q.lastAvail++
	q.segs = q.segs[:0]
	q.walk(q.r.desc, int(head), true)
	return Chain{head, q.segs}, true
}

func (q *Queue) walk(table []desc, at int, top bool) {
	for n := 0; ; n++ {
		if at >= len(table) || n >= len(table) {
			panic(fmt.Sprintf("fakedev: queue %d: chain leaves its table of %d at %d", q.Index, len(table), at))
		}
		d := table[at]
		b, ok := q.dev.Mem.BytesAt(dma.Addr(d.addr), int(d.len))
		if !ok {
			panic(fmt.Sprintf("fakedev: queue %d: descriptor %d: %d bytes at %#x are not the driver's", q.Index, at, d.len, d.addr))
		}
		if d.flags&descIndirect != 0 {
			if !top || d.flags&(descNext|descWrite) != 0 || d.len == 0 || d.len%16 != 0 || q.dev.features&FeatureIndirectDesc == 0 {
				panic(fmt.Sprintf("fakedev: queue %d: descriptor %d: bad indirect table, flags %#x, %d bytes", q.Index, at, d.flags, d.len))
			}
			q.walk(indirectTable(b), 0, false)
			return
		}
		w := d.flags&descWrite != 0
		if k := len(q.segs); k > 0 && q.segs[k-1].Write && !w {
			panic(fmt.Sprintf("fakedev: queue %d: readable descriptor %d after a writable one", q.Index, at))
		}
		q.segs = append(q.segs, Seg{b, w})
		if d.flags&descNext == 0 {
			return
		}
		at = int(d.next)
	}
}

// Push puts a chain into the used ring; n is the number of bytes written. The
// driver sees it after Flush.
func (q *Queue) Push(head uint16, n int) { q.PushRaw(uint32(head), uint32(n)) }

// PushRaw is Push of anything, true or not.
func (q *Queue) PushRaw(id, n uint32) {
	q.r.used[int(q.usedIdx)%q.Size] = used{id, n}
	q.usedIdx++
}

// SkipUsed moves the used index by n without filling in elements: a lie.
func (q *Queue) SkipUsed(n uint16) { q.usedIdx += n }

// Flush makes pushed chains visible and raises the interrupt if the driver wants
// one (§2.7.7). It reports whether it did.
func (q *Queue) Flush() bool {
	old, now := q.flushed, q.usedIdx
	if old == now {
		return false
	}
	q.flushed = now
	atomic.StoreUint32(q.r.usedHead, uint32(now)<<16)
	if q.dev.features&FeatureEventIdx != 0 {
		if ev := q.r.loadUsedEvent(); now-ev-1 >= now-old {
			return false
		}
	} else if atomic.LoadUint32(q.r.availHead)&1 != 0 {
		return false
	}
	q.dev.interrupt(q.Vector, isrQueue)
	return true
}

// Complete uses up to max chains without looking into them (but for Answer), as a device that
// costs nothing: for benchmarks. All are reported with n bytes written.
func (q *Queue) Complete(max, n int) int {
	k := min(q.Avail(), max)
	for range k {
		if q.Answer != nil {
			q.answer(int(q.r.avail[int(q.lastAvail)&(q.Size-1)]))
		}
		q.r.used[int(q.usedIdx)&(q.Size-1)] = used{uint32(q.r.avail[int(q.lastAvail)&(q.Size-1)]), uint32(n)}
		q.lastAvail++
		q.usedIdx++
	}
	if q.dev.features&FeatureEventIdx != 0 {
		atomic.StoreUint32(q.r.availEvent, uint32(q.lastAvail))
	}
	q.Flush()
	return k
}

func (q *Queue) answer(at int) {
	first := q.r.desc[at]
	last := first
	for last.flags&descNext != 0 {
		last = q.r.desc[last.next]
	}
	f, _ := q.dev.Mem.BytesAt(dma.Addr(first.addr), int(first.len))
	l, _ := q.dev.Mem.BytesAt(dma.Addr(last.addr), int(last.len))
	q.Answer(f, l)
}

func (q *Queue) reset() {
	max, index, dev, segs := q.Max, q.Index, q.dev, q.segs
	n := q.notified.Load()
	*q = Queue{Max: max, Index: index, dev: dev, Vector: NoVector, segs: segs[:0], Answer: q.Answer}
	q.notified.Store(n)
}

// enable maps the ring that the driver set up.
func (q *Queue) enable() {
	r, ok := mapRing(q.dev.Mem, q.Size, q.descAt, q.availAt, q.used)
	if !ok {
		panic(fmt.Sprintf("fakedev: queue %d: ring of %d at %#x %#x %#x is not in the driver's memory",
			q.Index, q.Size, q.descAt, q.availAt, q.used))
	}
	q.r, q.enabled = r, true
}

// enableLegacy maps a ring given as one page number, §2.7.2.
func (q *Queue) enableLegacy(pfn uint32, pageSize, align int) {
	if pfn == 0 {
		q.enabled, q.r = false, ring{}
		return
	}
	q.pfn = pfn
	q.descAt = dma.Addr(pfn) * dma.Addr(pageSize)
	q.availAt = q.descAt + dma.Addr(16*q.Size)
	end := q.availAt + dma.Addr(6+2*q.Size)
	q.used = (end + dma.Addr(align) - 1) &^ (dma.Addr(align) - 1)
	q.enable()
}
