package vmxnet3

// Packet path, transmit, last step.
// From: net's output, by way of TxBatch.  To: the transmit ring.
// May not: allocate, block, take a lock but its own.

import (
	"sync"
	"sync/atomic"
	"time"

	"osv/kernel/hw/dma"
	"osv/kernel/hw/mmio"
	"osv/kernel/pkt"
)

const txReap = 64 // frames given back at once

// txQueue is one transmit queue.
type txQueue struct {
	mu     sync.Mutex // guards all below to the blank line, but d, index and pool
	d      *Device
	index  int
	pool   *pkt.Pool
	region dma.Region // descriptors, then completions
	ring   []desc
	comps  []desc
	bufs   []*pkt.Buf // by descriptor: the frame whose last one it is
	prod   mmio.Doorbell
	next   uint32 // next descriptor to fill
	gen    uint64 // of the lap that next is in: 0 or txdGen
	done   uint32 // oldest that is not given back
	used   uint32 // from done to next
	at     uint32 // next completion
	cgen   uint64 // of the lap that at is in: 0 or compGen
	closed bool
	stuck  bool // done has not moved since the watch looked
	timer  *time.Timer
	watch  bool // timer runs
	freed  [txReap]*pkt.Buf

	frames, bytes, full, errors, doorbells uint64

	wanted atomic.Bool // the device is to interrupt; written with mu held
}

func (t *txQueue) init(d *Device, i int) error {
	t.d, t.index, t.pool = d, i, d.cfg.TxPools[i%len(d.cfg.TxPools)]
	n := d.cfg.TxRing
	var err error
	if t.region, err = d.mem.Alloc(2*n*descBytes, ringAlign); err != nil {
		return err
	}
	all := descs(t.region)
	t.ring, t.comps, t.bufs = all[:n], all[n:], make([]*pkt.Buf, n)
	t.prod = d.pt.Doorbell(regTXPROD + mmio.Off(i*regStride))
	t.begin()
	return nil
}

// begin sets all indices for empty rings.
func (t *txQueue) begin() {
	t.next, t.done, t.used, t.gen = 0, 0, 0, txdGen
	t.at, t.cgen, t.stuck = 0, compGen, false
	clear(t.ring)
	clear(t.comps)
}

// describe writes the queue descriptor.
func (t *txQueue) describe(q []byte) {
	n := len(t.ring)
	le.PutUint64(q[qdRing:], uint64(t.region.Bus))
	le.PutUint64(q[qdComp:], uint64(t.region.Bus)+uint64(n*descBytes))
	le.PutUint64(q[qdDriverData:], uint64(t.region.Bus))
	le.PutUint32(q[qdRingSize:], uint32(n))
	le.PutUint32(q[qdCompSize:], uint32(n))
	q[qdIntr] = byte(t.d.txIntr())
}

// restart readies the rings for a device that was reset. Caller holds mu.
func (t *txQueue) restart() {
	t.reap()
	t.errors += t.drain()
	t.begin()
	t.wanted.Store(false)
}

// TxBuf is pkt.Link's.
func (d *Device) TxBuf(q int) *pkt.Buf {
	t := &d.tx[q]
	if b := t.pool.Get(); b != nil {
		return b
	}
	// The missing buffers may all be in a ring that is not even half full, where
	// TxBatch would not look for them.
	t.mu.Lock()
	if !t.closed {
		t.reap()
	}
	t.mu.Unlock()
	return t.pool.Get()
}

// TxBatch is pkt.Link's. A frame has at most Caps().TxScatter pieces, 16 where it
// is not segmented, and asks only for what Caps offers; another is taken, dropped,
// and counted in TxErrors.
func (d *Device) TxBatch(q int, frames []*pkt.Buf) int {
	t := &d.tx[q]
	t.mu.Lock()
	n := t.send(frames)
	t.mu.Unlock()
	return n
}

func (t *txQueue) free() uint32 { return uint32(len(t.ring)) - 1 - t.used }

func (t *txQueue) send(frames []*pkt.Buf) int {
	if t.closed || t.d.Err() != nil {
		return 0
	}
	// Sent buffers are taken back in bulk: completions are the device's cache
	// lines, and looking at them for each batch costs more than the wait.
	if f := t.free(); f < uint32(len(frames)) || f < uint32(len(t.ring))/2 {
		t.reap()
	}
	start, n := t.next, 0
	for n < len(frames) && t.put(frames[n]) {
		n++
	}
	if t.next != start {
		t.doorbells++
		t.prod.Ring32(t.next)
		t.startWatch()
	}
	if n < len(frames) {
		t.full++
		t.askForRoom()
	}
	return n
}

// put writes the descriptors of a frame, or drops it where the device does not do
// what it asks. It reports false where the ring lacks the descriptors.
func (t *txQueue) put(b *pkt.Buf) bool {
	var o offload
	if b.Flags&pkt.CsumPartial != 0 || b.GSO != pkt.GSONone {
		if !o.plan(b, &t.d.caps) {
			t.drop(b)
			return true
		}
	}
	need, total, pieces := 0, 0, 0
	for p := b; p != nil; p = p.Next {
		total += p.Len()
		need += (p.Len() + txMaxLen - 1) / txMaxLen
		pieces++
	}
	if total < etherLen || pieces > t.d.caps.TxScatter || need > len(t.ring)-1 ||
		!o.TSO && (need > txMaxDescs || total > t.d.cfg.MTU+etherLen+4) {
		t.drop(b)
		return true
	}
	if uint32(need) > t.free() {
		return false
	}
	if o.TSO {
		o.Reseed(b)
	}
	// The first descriptor gets its generation last: the device then sees all of
	// the frame or nothing.
	first, gen := t.next, t.gen
	word := o.word
	left := total
	for p := b; p != nil; p = p.Next {
		a, n := uint64(p.Bus()), p.Len()
		for n > 0 {
			k := min(n, txMaxLen)
			w := uint64(k) | word | t.gen
			if t.next == first {
				w ^= txdGen
			}
			if left -= k; left == 0 {
				w |= txdEOP | txdCQ
				t.bufs[t.next] = b
			}
			t.ring[t.next].addr = a
			atomic.StoreUint64(&t.ring[t.next].word, w)
			if t.next++; t.next == uint32(len(t.ring)) {
				t.next, t.gen = 0, t.gen^txdGen
			}
			t.used++
			a += uint64(k)
			n -= k
		}
	}
	atomic.StoreUint64(&t.ring[first].word, t.ring[first].word&^txdGen|gen)
	t.frames++
	t.bytes += uint64(total)
	return true
}

func (t *txQueue) drop(b *pkt.Buf) {
	t.errors++
	b.Put()
}

// reap takes back all frames that the device has completed.
func (t *txQueue) reap() {
	n := 0
	for t.d.Err() == nil {
		w := atomic.LoadUint64(&t.comps[t.at].word)
		if w&compGen != t.cgen {
			break
		}
		i := uint32(atomic.LoadUint64(&t.comps[t.at].addr) & tcdIndex)
		if t.at++; t.at == uint32(len(t.comps)) {
			t.at, t.cgen = 0, t.cgen^compGen
		}
		size := uint32(len(t.ring))
		if i >= size || (i+size-t.done)%size >= t.used || t.bufs[i] == nil {
			t.d.fail(t.d.errorf("transmit queue %d: a completion of descriptor %d, which ends no frame", t.index, i))
			break
		}
		for more := true; more; {
			if b := t.bufs[t.done]; b != nil {
				t.bufs[t.done] = nil
				t.freed[n] = b
				if n++; n == len(t.freed) {
					pkt.PutBatch(t.freed[:n])
					n = 0
				}
			}
			more = t.done != i
			if t.done++; t.done == size {
				t.done = 0
			}
			t.used--
		}
		t.stuck = false
	}
	pkt.PutBatch(t.freed[:n])
}

// askForRoom has the next completion interrupt.
func (t *txQueue) askForRoom() {
	if t.wanted.Load() || t.used == 0 {
		return
	}
	t.wanted.Store(true)
	t.d.mask(t.d.txIntr(), 0)
	// What was completed before that may not interrupt.
	before := t.used
	if t.reap(); t.used < before {
		t.d.rx[t.index].wait.Wake()
	}
}

// idle is called by a receiver that goes to sleep: it takes back what was sent.
// It does not wait for a sender that is at work.
func (t *txQueue) idle() {
	if !t.mu.TryLock() {
		return
	}
	if !t.closed {
		t.reap()
	}
	t.mu.Unlock()
}

// woken is called when the transmit interrupt came, which is masked then. It
// reports whether somebody waited for it.
func (t *txQueue) woken() bool {
	if !t.wanted.Load() {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.reap()
	t.wanted.Store(false)
	return true
}

// startWatch has the ring looked at after Config.Hang, if that is not under way.
// Caller holds mu.
func (t *txQueue) startWatch() {
	if t.watch || t.d.cfg.Hang < 0 {
		return
	}
	t.watch = true
	if t.timer == nil {
		t.timer = time.AfterFunc(t.d.cfg.Hang, t.look)
	} else {
		t.timer.Reset(t.d.cfg.Hang)
	}
}

// look resets a device that has completed nothing since the last look although it
// had frames to send and a link to send them on.
func (t *txQueue) look() {
	d := t.d
	t.mu.Lock()
	t.watch = false
	if t.closed {
		t.mu.Unlock()
		return
	}
	t.reap()
	hung := t.used > 0 && t.stuck && d.linkUp.Load()
	t.stuck = t.used > 0 && d.linkUp.Load()
	if t.used > 0 && d.Err() == nil {
		t.startWatch()
	}
	used := t.used
	t.mu.Unlock()
	if !hung {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closing || d.stopped() != nil {
		return
	}
	if d.readLink(); d.Err() != nil { // it is gone
		return
	}
	d.faultf("transmit queue %d hangs: %d descriptors; the device is reset", t.index, used)
	_ = d.restart() // Err has it
}

func (t *txQueue) shut() {
	t.mu.Lock()
	t.closed = true
	if t.timer != nil {
		t.timer.Stop()
	}
	t.mu.Unlock()
}

// drain puts all frames of the ring back, once the device cannot reach them, and
// returns how many there were.
func (t *txQueue) drain() (n uint64) {
	for i, b := range t.bufs {
		if b != nil {
			b.Put()
			t.bufs[i] = nil
			n++
		}
	}
	return n
}

func (t *txQueue) release() {
	t.drain()
	if t.region.Bytes != nil {
		t.d.mem.Free(t.region)
		t.region = dma.Region{}
	}
}
