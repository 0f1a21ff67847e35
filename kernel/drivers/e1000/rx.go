package e1000

// Packet path, receive, step 1 of 5.
// From: the receive ring.  To: net/demux/demux.go, by way of RxBatch.
// May not: allocate, block, take a lock.

import (
	"math/bits"
	"sync/atomic"
	"time"

	"osv/kernel/drivers/nic"
	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
	"osv/kernel/pkt"
)

// rxFrameOff is where a frame starts in its buffer: the IP header behind 14 bytes
// of Ethernet then starts a cache line, and there is headroom for a reply.
const rxFrameOff = 64 - etherLen

// RxBufBytes is the size of pool buffers that n bytes of frame fit in: a buffer
// is used as far as the largest size in RCTL that fits, and a longer frame takes
// several.
func RxBufBytes(n int) int { return (rxFrameOff + n + 63) &^ 63 }

const rxBatch = 64 // buffers taken from the pool at once

// rxRetry is how long RxWait sleeps where the pool is empty and the ring too.
const rxRetry = time.Millisecond

// rxQueue is the receive ring. Its goroutine owns all but the counters.
type rxQueue struct {
	d      *Device
	gate   nic.Gate
	pool   *pkt.Pool
	region dma.Region
	ring   []desc
	bufs   []*pkt.Buf // by descriptor
	tail   mmio.Doorbell

	head   uint32 // next descriptor to be written back
	next   uint32 // next descriptor to post
	posted uint32 // from head to next
	bufLen uint32 // bytes of each buffer, as RCTL says
	bsize  uint32 // RCTL's bits for it
	max    uint32 // bytes of the longest frame
	rot    int    // of a descriptor's word: see desc
	errs   int    // shift of its error bits
	csum   bool

	// A frame whose end is still to come.
	first, last *pkt.Buf
	size        uint32
	mid, bad    bool

	batches int // that brought frames since RxWait

	tmp   [rxBatch]*pkt.Buf
	retry *time.Timer

	frames, bytes, noBuf, errors, irqs, doorbells atomic.Uint64
}

// bufSizes are those of RCTL, SDM §13.4.22, the largest first.
var bufSizes = []struct{ n, bits uint32 }{
	{16384, rctlBSEX | 1<<rctlBSIZE}, {8192, rctlBSEX | 2<<rctlBSIZE}, {4096, rctlBSEX | 3<<rctlBSIZE},
	{2048, 0}, {1024, 1 << rctlBSIZE}, {512, 2 << rctlBSIZE}, {256, 3 << rctlBSIZE},
}

func (r *rxQueue) init(d *Device) error {
	r.d, r.pool = d, d.cfg.RxPool
	for _, s := range bufSizes {
		if rxFrameOff+int(s.n) <= r.pool.BufSize() {
			r.bufLen, r.bsize = s.n, s.bits
			break
		}
	}
	// A VLAN tag may be there, and the device counts by it.
	r.max = uint32(d.cfg.MTU + etherLen + 4)
	if r.bufLen == 0 {
		return d.errorf("buffers of %d bytes hold no frame", r.pool.BufSize())
	}
	if need := int((r.max + r.bufLen - 1) / r.bufLen); need > d.cfg.RxRing/2 {
		return d.errorf("a frame of %d bytes takes %d of %d receive descriptors", r.max, need, d.cfg.RxRing)
	}
	var err error
	if r.region, err = d.mem.Alloc(d.cfg.RxRing*descBytes, 4096); err != nil {
		return err
	}
	r.ring, r.bufs = descs(r.region), make([]*pkt.Buf, d.cfg.RxRing)
	r.tail = d.regs.Doorbell(regRDT)
	r.errs, r.csum = rxErrors, !d.cfg.NoOffload
	if d.model.ext {
		r.rot, r.errs = 32, rxErrorExt
	}
	return nil
}

// program tells the device of the ring, SDM §14.4, receive being off.
func (r *rxQueue) program() {
	w := r.d.regs.Store32
	w(regRDBAL, uint32(r.region.Bus))
	w(regRDBAH, uint32(r.region.Bus>>32))
	w(regRDLEN, uint32(len(r.region.Bytes)))
	w(regRDH, 0)
	w(regRDT, 0)
}

// restart readies the ring for a device that was reset: what was in it goes back
// to the pool. Caller holds the gate.
func (r *rxQueue) restart() {
	r.drain()
	r.head, r.next, r.posted, r.batches = 0, 0, 0, 0
}

// RxBatch is pkt.Link's.
func (d *Device) RxBatch(_ int, dst []*pkt.Buf) int {
	r := &d.rx
	if !r.gate.Enter() {
		return 0
	}
	n := r.receive(dst)
	if r.free() >= r.refillAt() {
		r.refill()
	}
	r.gate.Leave()
	return n
}

// free is the number of descriptors that can be posted: RDT equal to RDH means
// that the ring is empty, so one stays unused (SDM §3.2.6).
func (r *rxQueue) free() uint32     { return uint32(len(r.ring)) - 1 - r.posted }
func (r *rxQueue) refillAt() uint32 { return min(uint32(len(r.ring))/4, rxBatch) }

// word is descriptor i's, with DD in it once the device has written it back.
func (r *rxQueue) word(i uint32) uint64 {
	return bits.RotateLeft64(atomic.LoadUint64(&r.ring[i].word), r.rot)
}

// ready reports whether RxBatch would find something.
func (r *rxQueue) ready() bool { return r.posted > 0 && r.word(r.head)&rxDD != 0 }

func (r *rxQueue) receive(dst []*pkt.Buf) (n int) {
	var total int
	for n < len(dst) && r.posted > 0 {
		// Length, status and errors are one word: they belong together.
		w := r.word(r.head)
		if w&rxDD == 0 {
			break
		}
		b := r.bufs[r.head]
		r.bufs[r.head] = nil
		if r.head++; r.head == uint32(len(r.ring)) {
			r.head = 0
		}
		r.posted--
		size := uint32(w & rxLenMask)
		errs := uint32(w>>r.errs) & 0xFF
		if r.mid || w&rxEOP == 0 || size > r.bufLen || size > r.max || size < etherLen || errs&rxDamage != 0 {
			if b = r.part(b, size, w&rxEOP != 0, errs); b == nil {
				continue
			}
			total += int(r.size)
		} else {
			// The usual frame, all of it in this buffer.
			b.Head, b.Tail = rxFrameOff, rxFrameOff+int(size)
			total += int(size)
		}
		b.Flags = 0
		if w&rxIXSM == 0 && w&(rxTCPCS|rxUDPCS) != 0 && errs&(rxTCPE|rxIPE) == 0 && r.csum {
			b.Flags = pkt.CsumValid
		}
		dst[n] = b
		n++
	}
	if n > 0 {
		r.frames.Add(uint64(n))
		r.bytes.Add(uint64(total))
		r.batches++
	}
	return n
}

// part takes a buffer of any frame, and returns the frame where that is complete
// and sound.
func (r *rxQueue) part(b *pkt.Buf, size uint32, end bool, errs uint32) *pkt.Buf {
	if !r.mid {
		r.mid, r.size, r.bad = true, 0, false
	}
	switch {
	case r.bad:
	case size > r.bufLen:
		r.wrong("a receive descriptor has %d bytes in a buffer of %d", size, r.bufLen)
	case !end && size != r.bufLen:
		r.wrong("a receive descriptor in the middle of a frame has %d bytes in a buffer of %d", size, r.bufLen)
	case r.size+size > r.max:
		r.wrong("a frame of %d bytes and more, want at most %d", r.size+size, r.max)
	case errs&rxDamage != 0:
		r.wrong("a damaged frame, errors %#x", errs)
	case end && r.size+size < etherLen:
		r.wrong("a frame of %d bytes", r.size+size)
	}
	r.mid = !end
	if r.bad { // only the frame's end is of interest
		b.Put()
		if r.first != nil {
			r.first.Put()
			r.first, r.last = nil, nil
		}
		return nil
	}
	b.Head, b.Tail = rxFrameOff, rxFrameOff+int(size)
	r.size += size
	switch {
	case r.first == nil:
		r.first, r.last = b, b
	case size == 0: // only the stripped check sequence was in it
		b.Put()
	default:
		r.last.Next, r.last = b, b
	}
	if !end {
		return nil
	}
	f := r.first
	r.first, r.last = nil, nil
	return f
}

// wrong has the frame dropped, and notes why.
func (r *rxQueue) wrong(format string, a ...any) {
	r.bad = true
	r.errors.Add(1)
	r.d.faultf(format, a...)
}

// refill posts buffers until the ring is full or the pool is empty, and tells the
// device once.
func (r *rxQueue) refill() {
	start := r.next
	for {
		want := min(r.free(), uint32(len(r.tmp)))
		got := r.pool.GetBatch(r.tmp[:want])
		for _, b := range r.tmp[:got] {
			e := &r.ring[r.next]
			e.addr = uint64(b.Mem.Bus) + rxFrameOff
			atomic.StoreUint64(&e.word, 0) // no DD
			r.bufs[r.next] = b
			if r.next++; r.next == uint32(len(r.ring)) {
				r.next = 0
			}
		}
		r.posted += uint32(got)
		if uint32(got) < want {
			r.noBuf.Add(uint64(want) - uint64(got))
		}
		if got < len(r.tmp) {
			break
		}
	}
	if r.next != start {
		r.doorbells.Add(1)
		r.tail.Ring32(r.next)
	}
}

// refillIfStarved tries to fill a ring that got low when the pool was empty.
// Where the device may have too few buffers for the frame it has, no interrupt can
// come, so a timer wakes the goroutine to try again.
func (r *rxQueue) refillIfStarved() {
	if r.free() < r.refillAt() {
		return
	}
	r.refill()
	if r.posted*r.bufLen >= r.max {
		return
	}
	if r.retry == nil {
		r.retry = time.AfterFunc(rxRetry, func() { r.d.RxWake(0) })
	} else {
		r.retry.Reset(rxRetry)
	}
}

// drain puts all buffers of the ring back, once the device cannot reach them.
func (r *rxQueue) drain() {
	for i, b := range r.bufs {
		if b != nil {
			b.Put()
			r.bufs[i] = nil
		}
	}
	if r.first != nil {
		r.first.Put()
	}
	r.first, r.last, r.mid = nil, nil, false
}

func (r *rxQueue) release() {
	if r.retry != nil {
		r.retry.Stop()
	}
	r.drain()
	if r.region.Bytes != nil {
		r.d.mem.Free(r.region)
		r.region, r.ring, r.posted = dma.Region{}, nil, 0
	}
}
