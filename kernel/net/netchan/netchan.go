// Package netchan is the net channel: a bounded ring of packets between the
// receive loop that classifies and the flow that reads.
//
// Packet path, receive, step 3 of 5.
// From: demux/demux.go (through stack/rx.go).  To: tcp/input.go, udp/read.go.
// May not: look into a packet, drop one silently, allocate, block the producer.
//
// One producer at a time, one consumer at a time. The consumer is one by
// contract (the flow's own lock). Producers take turns by one bit of the tail
// word, so that a flow whose packets arrive on two receive queues needs no
// second ring; while one is pushing, another is turned away rather than made to
// wait.
//
// Push stores the packets and publishes them, all at once; Wake, once per batch
// of the receive loop, wakes the reader if it sleeps. A push that does not find
// room says so, and the caller sends the rest through the slow path, where the
// flow drains the channel first: order is kept.
//
// Teardown: the consumer closes. From then on no push succeeds, and what is in
// the ring is put back to its pool exactly once, by Close or, where a producer
// was in the middle of a push, by that producer when it finishes. A channel
// that is closed may still be pushed to for as long as somebody holds it; the
// answer is Closed and the packets stay the caller's.
//
// Start reading at Push, then wait.go.
package netchan

import (
	"math/bits"
	"sync/atomic"

	"osv/kernel/pkt"
)

// The tail word: bit 0 is set while a producer pushes, bit 1 once the channel is
// closed, the rest counts packets ever pushed. One word, so that whoever comes
// second of Close and the end of a push sees the other.
const (
	tailBusy   uint64 = 1 << 0
	tailClosed uint64 = 1 << 1
	tailShift         = 2
)

const cacheLine = 64

// Chan is a net channel. Make one with New.
type Chan struct {
	// The producers' line.
	tail     atomic.Uint64 // producer writes; Pop reads after the publishing add
	headSeen uint64        // last head that a producer saw; guarded by tailBusy
	_        [cacheLine - 16]byte

	// The consumer's line.
	head     atomic.Uint64 // packets ever popped; consumer writes, producer reads when it seems full
	tailSeen uint64        // last tail that the consumer saw
	_        [cacheLine - 16]byte

	// Written when the consumer goes to sleep and when it is woken.
	every  bool // wake whether armed or not; set by NewEvery
	armed  atomic.Bool
	notify atomic.Pointer[func()]
	sema   chan struct{} // capacity 1: a token says "look again"
	_      [cacheLine - 24]byte

	slots []*pkt.Buf // length is a power of two; slots[i] belongs to the producer until published
	mask  uint64
}

// Result says what became of a Push that did not take all.
type Result uint8

const (
	OK     Result = iota
	Full          // no room for the rest
	Busy          // another producer is pushing right now
	Closed        // the consumer is gone
)

func (r Result) String() string {
	return [...]string{"ok", "full", "busy", "closed"}[r]
}

// New makes a channel for at least size packets, rounded up to a power of two.
func New(size int) *Chan {
	n := 1 << bits.Len(uint(max(size, 2)-1))
	return &Chan{slots: make([]*pkt.Buf, n), mask: uint64(n - 1), sema: make(chan struct{}, 1)}
}

// NewEvery makes a channel whose every Wake calls wake, armed or not: for a
// reader that keeps its own account of whether it sleeps.
func NewEvery(size int, wake func()) *Chan {
	c := New(size)
	c.every = true
	c.SetNotify(wake)
	return c
}

// Cap is the number of packets the channel holds.
func (c *Chan) Cap() int { return len(c.slots) }

// Push hands frames to the channel, in order, and returns how many it took;
// those are the consumer's now. The result is OK only if it took all. The
// consumer sleeps on until Wake.
func (c *Chan) Push(frames []*pkt.Buf) (int, Result) {
	t := c.tail.Load()
	for {
		if t&(tailBusy|tailClosed) != 0 {
			if t&tailClosed != 0 {
				return 0, Closed
			}
			return 0, Busy
		}
		if c.tail.CompareAndSwap(t, t|tailBusy) {
			break
		}
		t = c.tail.Load()
	}
	idx := t >> tailShift
	n := len(frames)
	if room := len(c.slots) - int(idx-c.headSeen); room < n {
		c.headSeen = c.head.Load()
		n = min(n, len(c.slots)-int(idx-c.headSeen))
	}
	for i, b := range frames[:n] {
		c.slots[(idx+uint64(i))&c.mask] = b
	}
	// Publishes the slots, ends the turn and learns of a Close, in one.
	t = c.tail.Add(uint64(n)<<tailShift - tailBusy)
	if t&tailClosed != 0 {
		// Closed meanwhile; the closer saw tailBusy and left the ring to us.
		c.drain()
	}
	if n < len(frames) {
		return n, Full
	}
	return n, OK
}

// Push1 is Push of one packet.
func (c *Chan) Push1(b *pkt.Buf) Result {
	one := [1]*pkt.Buf{b}
	_, r := c.Push(one[:])
	return r
}

// Pop moves up to len(dst) packets to dst, oldest first, and returns how many;
// they are the caller's. Only the consumer may call it.
func (c *Chan) Pop(dst []*pkt.Buf) int {
	h := c.head.Load()
	avail := int(c.tailSeen - h)
	if avail < len(dst) {
		c.tailSeen = c.tail.Load() >> tailShift
		avail = int(c.tailSeen - h)
	}
	n := min(avail, len(dst))
	if n == 0 {
		return 0
	}
	for i := range dst[:n] {
		s := &c.slots[(h+uint64(i))&c.mask]
		dst[i], *s = *s, nil
	}
	c.head.Store(h + uint64(n))
	return n
}

// Len is the number of packets in the channel at some recent time.
func (c *Chan) Len() int {
	h := c.head.Load()
	return int(c.tail.Load()>>tailShift - h)
}

// Closed reports whether Close was called.
func (c *Chan) Closed() bool { return c.tail.Load()&tailClosed != 0 }

// Close ends the channel and puts back what is in it. Only the consumer may
// call it, and it may not Pop afterwards. A second Close does nothing.
func (c *Chan) Close() {
	for {
		t := c.tail.Load()
		if t&tailClosed != 0 {
			return
		}
		if c.tail.CompareAndSwap(t, t|tailClosed) {
			if t&tailBusy == 0 {
				c.drain()
			} // else the producer drains when it publishes
			break
		}
	}
	c.Kick()
}

// drain puts back all that is in a closed ring. Exactly one caller gets here:
// the closer, or the producer that was busy when the channel was closed.
func (c *Chan) drain() {
	h, t := c.head.Load(), c.tail.Load()>>tailShift
	for ; h != t; h++ {
		s := &c.slots[h&c.mask]
		(*s).Put()
		*s = nil
	}
	c.head.Store(h)
}
