package virtionet

// Packet path, transmit, last step.
// From: net's output, by way of TxBatch.  To: the available ring.
// May not: allocate, block, take a lock but its own.

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/dma"
	"osv/kernel/pkt"
)

// maxScatter bounds the pieces of a frame: 64 KiB of TCP payload in buffers of
// 2 KiB with headers take 35.
const maxScatter = 40

// txQueue is one transmit queue.
type txQueue struct {
	mu     sync.Mutex // guards all below but d
	d      *Device
	index  int // pair number
	vq     *virtio.Queue
	pool   *pkt.Pool
	hdrLen int
	split  bool // the header needs a descriptor of its own
	gso    [4]bool
	csum   bool
	closed bool
	sent   []*pkt.Buf // by chain head
	done   [txReap]*pkt.Buf
	used   [txReap]virtio.Used
	pieces [txBatch]virtio.Piece
	segs   [maxScatter + 1]virtio.Seg

	frames, bytes, full, errors uint64

	wanted atomic.Bool // the device is to interrupt; written with mu held, read by the line's goroutine
}

const (
	txReap  = 64 // buffers given back at once
	txBatch = 64 // frames posted at once
)

func (t *txQueue) init(d *Device, i int, vector uint16) error {
	vq, err := d.dev.Queue(2*i+1, virtio.QueueOptions{MaxSize: d.cfg.TxRing, Vector: vector})
	if err != nil {
		return err
	}
	f := d.dev.Features
	t.d, t.index, t.vq = d, i, vq
	t.pool = d.cfg.TxPools[i%len(d.cfg.TxPools)]
	t.hdrLen = hdrLen(f)
	t.split = !anyLayout(f)
	t.csum = f.Has(featCsum)
	t.gso = [4]bool{pkt.GSONone: true, pkt.GSOTCPv4: f.Has(featHostTSO4), pkt.GSOTCPv6: f.Has(featHostTSO6)}
	t.sent = make([]*pkt.Buf, vq.Size())
	return nil
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

// TxBatch is pkt.Link's. A frame must have headroom for the virtio header (12
// bytes), at most Caps().TxScatter pieces, and ask only for what Caps offers;
// another is taken, dropped, and counted in TxErrors.
func (d *Device) TxBatch(q int, frames []*pkt.Buf) int {
	t := &d.tx[q]
	t.mu.Lock()
	n := t.send(frames)
	err := t.vq.Err()
	t.mu.Unlock()
	if err != nil {
		d.fail(err)
	}
	return n
}

func (t *txQueue) send(frames []*pkt.Buf) int {
	if t.closed {
		return 0
	}
	// Sent buffers are taken back in bulk: the used index is the device's cache
	// line, and looking at it for each batch costs more than the wait.
	if f := t.vq.Free(); f < len(frames) || f < t.vq.Size()/2 {
		t.reap()
	}
	n := 0
	for n < len(frames) {
		k := t.prepare(frames[n:])
		took := t.vq.PostReads(t.pieces[:k])
		for i, b := range frames[n : n+took] {
			t.sent[t.pieces[i].Head] = b
			t.bytes += uint64(t.pieces[i].Len)
		}
		t.bytes -= uint64(took * t.hdrLen)
		t.frames += uint64(took)
		if n += took; took < k {
			break
		}
		if k < txBatch && n < len(frames) {
			if !t.sendChain(frames[n]) {
				break
			}
			n++
		}
	}
	t.vq.Publish()
	if n < len(frames) {
		t.full++
		t.askForRoom()
	}
	return n
}

// prepare puts the header to the frames at the front of frames that take one
// descriptor and ask for nothing but a checksum, and notes them in pieces. It
// returns how many there were.
func (t *txQueue) prepare(frames []*pkt.Buf) int {
	frames = frames[:min(len(frames), len(t.pieces))]
	hdr := t.hdrLen
	if t.split {
		return 0
	}
	for i, b := range frames {
		start := b.Head - hdr
		if b.Next != nil || b.GSO != pkt.GSONone || start < 0 {
			return i
		}
		var w uint64
		var x uint32
		if b.Flags&pkt.CsumPartial != 0 {
			if !t.csum {
				return i
			}
			w, x = flagNeedsCsum|uint64(b.CsumStart)<<48, uint32(b.CsumOffset)
		}
		// The headroom may hold what it likes, also where the ring proves full.
		h := pkt.At[[hdrBytes]byte](b, start)
		binary.LittleEndian.PutUint64(h[:], w)
		if hdr == hdrBytes {
			binary.LittleEndian.PutUint32(h[8:], x) // num_buffers is 0, §5.1.6.2.1
		} else {
			binary.LittleEndian.PutUint16(h[8:], uint16(x))
		}
		t.pieces[i].Addr, t.pieces[i].Len = b.Mem.Bus+dma.Addr(start), uint32(b.Tail-start)
	}
	return len(frames)
}

// takes reports whether the device does what the frame asks.
func (t *txQueue) takes(b *pkt.Buf) bool {
	if b.GSO == pkt.GSONone {
		return b.Flags&pkt.CsumPartial == 0 || t.csum
	}
	// §5.1.6.2.1: segmentation needs NEEDS_CSUM, and the size is not 0.
	return int(b.GSO) < len(t.gso) && t.gso[b.GSO] && b.GSOSize != 0 && b.Flags&pkt.CsumPartial != 0
}

func (t *txQueue) drop(b *pkt.Buf) {
	t.errors++
	b.Put()
}

// sendChain posts a frame of any kind, or drops it where the device does not do
// what it asks. It reports false where the ring lacks the descriptors.
func (t *txQueue) sendChain(b *pkt.Buf) bool {
	start := b.Head - t.hdrLen
	if start < 0 || !t.takes(b) {
		t.drop(b)
		return true
	}
	segs := t.segs[:0]
	at := start
	if t.split {
		segs = append(segs, virtio.Seg{Addr: b.Mem.Bus + dma.Addr(start), Len: uint32(t.hdrLen)})
		at = b.Head
	}
	total := 0
	for p := b; p != nil; p = p.Next {
		if len(segs) == len(t.segs) || len(segs) == t.vq.Size() {
			t.drop(b)
			return true
		}
		total += p.Len()
		if n := p.Tail - at; n > 0 {
			segs = append(segs, virtio.Seg{Addr: p.Mem.Bus + dma.Addr(at), Len: uint32(n)})
		}
		if p.Next != nil {
			at = p.Next.Head
		}
	}
	head, ok := t.vq.Post(segs, len(segs))
	if !ok {
		return false
	}
	putHdr(b.Mem.Bytes[start:b.Head], b)
	t.sent[head] = b
	t.frames++
	t.bytes += uint64(total)
	return true
}

// reap takes back all frames the device has sent.
func (t *txQueue) reap() {
	for {
		n := t.vq.ReapBatch(t.used[:])
		for i, u := range t.used[:n] {
			t.done[i] = t.sent[u.Head]
			t.sent[u.Head] = nil
		}
		pkt.PutBatch(t.done[:n])
		if n < len(t.used) {
			return
		}
	}
}

// askForRoom arms the interrupt for when three quarters of the ring are done.
func (t *txQueue) askForRoom() {
	if n := t.vq.InFlight(); !t.wanted.Load() && n > 0 {
		t.wanted.Store(true)
		if !t.vq.ArmAfter((n*3 + 3) / 4) {
			t.d.RxWake(t.index)
		}
	}
}

// idle is called by a receive goroutine that goes to sleep: it takes back what
// was sent. It does not wait for a sender that is at work.
func (t *txQueue) idle() {
	if !t.mu.TryLock() {
		return
	}
	if !t.closed {
		t.reap()
		if t.d.cfg.TxInterrupt && !t.wanted.Load() && t.vq.InFlight() > 0 {
			t.wanted.Store(true)
			if !t.vq.ArmAfter(t.vq.InFlight()) {
				t.reap()
			}
		}
	}
	t.mu.Unlock()
}

// woken is called when the pair's interrupt came: if it was the transmit queue's,
// the wish is met.
func (t *txQueue) woken() {
	if !t.wanted.Load() {
		return
	}
	t.mu.Lock()
	if t.wanted.Load() && !t.closed {
		t.reap()
		t.wanted.Store(false)
		t.vq.Disarm()
	}
	t.mu.Unlock()
}

func (t *txQueue) shut() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
}

// release puts all frames of the ring back, once the device cannot reach them.
func (t *txQueue) release() {
	for i, b := range t.sent {
		if b != nil {
			b.Put()
			t.sent[i] = nil
		}
	}
}
