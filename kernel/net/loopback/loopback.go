// Package loopback is the link of a host to itself: a pkt.Link whose transmit
// queue is its receive queue.
//
// Who may use it: kernel/net/stack, as its first interface. Frames have an
// Ethernet header like on any link, so nothing above has a special case; a
// checksum left to the device (CsumPartial) is never computed, since the frame
// does not leave memory. Start reading at TxBatch.
package loopback

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"osv/kernel/hw/dma"
	"osv/kernel/net/netchan"
	"osv/kernel/pkt"
)

// ErrClosed is what RxWait returns after Close.
var ErrClosed = errors.New("loopback: closed")

// Link is a loopback link with one queue each way.
type Link struct {
	pool  *pkt.Pool
	mem   dma.Allocator
	mtu   int
	ring  *netchan.Chan
	tx    sync.Mutex // transmitters take turns
	stats struct{ frames, bytes, full, wakes atomic.Uint64 }
	done  atomic.Bool
}

var _ pkt.Link = (*Link)(nil)

// New makes a loopback link with n buffers for packets of mtu bytes.
func New(mem dma.Allocator, n, mtu int) (*Link, error) {
	p, err := pkt.NewPool(mem, n, pkt.Headroom+mtu)
	if err != nil {
		return nil, fmt.Errorf("loopback: %w", err)
	}
	return &Link{pool: p, mem: mem, mtu: mtu, ring: netchan.New(n)}, nil
}

// Name is "lo".
func (l *Link) Name() string { return "lo" }

// Caps reports checksum offload both ways and no segmentation.
func (l *Link) Caps() pkt.Caps {
	return pkt.Caps{MTU: l.mtu, RxQueues: 1, TxQueues: 1, TxCsum: true, RxCsum: true, TxScatter: 64}
}

// TxBatch moves frames to the receive side.
func (l *Link) TxBatch(_ int, frames []*pkt.Buf) int {
	l.tx.Lock()
	for _, b := range frames {
		l.stats.bytes.Add(uint64(b.TotalLen()))
	}
	n, r := l.ring.Push(frames)
	l.tx.Unlock()
	l.stats.frames.Add(uint64(n))
	if r != netchan.OK {
		l.stats.full.Add(1)
		for _, b := range frames[n:] {
			l.stats.bytes.Add(-uint64(b.TotalLen()))
		}
	}
	l.ring.Wake()
	return n
}

// RxBatch takes frames that were sent.
func (l *Link) RxBatch(_ int, dst []*pkt.Buf) int {
	if l.done.Load() {
		return 0
	}
	return l.ring.Pop(dst)
}

// RxWait sleeps until a frame was sent, RxWake or Close.
func (l *Link) RxWait(int) error {
	if l.done.Load() {
		return ErrClosed
	}
	l.ring.Wait()
	l.stats.wakes.Add(1)
	if l.done.Load() {
		return ErrClosed
	}
	return nil
}

// RxWake ends a RxWait.
func (l *Link) RxWake(int) { l.ring.Kick() }

// TxBuf returns an empty buffer.
func (l *Link) TxBuf(int) *pkt.Buf { return l.pool.Get() }

// LinkUp is true until Close.
func (l *Link) LinkUp() bool { return !l.done.Load() }

// Stats counts frames; what is sent is received.
func (l *Link) Stats() pkt.LinkStats {
	f, b := l.stats.frames.Load(), l.stats.bytes.Load()
	return pkt.LinkStats{RxFrames: f, TxFrames: f, RxBytes: b, TxBytes: b, TxFull: l.stats.full.Load(), RxIRQs: l.stats.wakes.Load()}
}

// Close ends the link. What is under way is put back once the receive loop has
// stopped or never ran; Release frees the memory.
func (l *Link) Close() error {
	if l.done.Swap(true) {
		return nil
	}
	l.ring.Kick()
	return nil
}

// Release puts back frames that nobody received and frees the buffers. The
// receive loop must have stopped.
func (l *Link) Release() error {
	l.ring.Close()
	return l.pool.Close(l.mem)
}

// InUse is the number of buffers that are out.
func (l *Link) InUse() int { return l.pool.InUse() }
