// Package pkt holds the one type that drivers and the network stack share: the
// packet buffer, with its bounded pool and the link interface between the two.
//
// Spec: the offload fields are those of VIRTIO 1.2 §5.1.6 in the words of the
// device, without its byte layout. Who may use it: drivers and kernel/net.
// May not: know a protocol or a device. Start reading at Buf, then link.go.
//
// Ownership: a Buf has one owner at a time. Get and RxBatch give it to the
// caller; TxBatch takes those it accepted; Put ends it. Parts of a Buf can be sent
// while it stays with its owner: share.go. Nothing here locks
// except the pool's free list, which is lock-free.
package pkt

import (
	"sync/atomic"

	"osv/kernel/hw/dma"
)

// Flags says what is known, or wanted, of a frame's checksum and segmentation.
type Flags uint8

const (
	// CsumValid: the device (or a loopback) has verified the transport checksum.
	CsumValid Flags = 1 << iota
	// CsumPartial: the transport checksum field holds the pseudo-header sum only;
	// the sender's device finishes it (CsumStart, CsumOffset). On receive, the
	// frame comes from a guest or host that did not finish it and is as good as
	// CsumValid.
	CsumPartial
)

// GSO is the segmentation that a large frame asks of the sending device, or that
// the receiving device has undone.
type GSO uint8

const (
	GSONone GSO = iota
	GSOTCPv4
	GSOTCPv6
	GSOUDP
)

// Buf is one packet buffer, or one piece of a packet that spans several (Next).
// The memory is device-visible and outside the Go heap. Head..Tail delimits the
// bytes in use; the space before Head is room for headers.
type Buf struct {
	Mem  dma.Region // the whole buffer
	Head int        // first byte in use, offset in Mem
	Tail int        // one past the last byte in use
	Next *Buf       // next piece of the same packet; nil at the last

	Flags      Flags
	GSO        GSO
	GSOSize    uint16 // payload bytes per segment
	HdrLen     uint16 // bytes of all headers of a GSO frame, 0 if unknown
	CsumStart  uint16 // offset from Head of the first byte to sum
	CsumOffset uint16 // offset from CsumStart of the checksum field
	Queue      uint16 // receive queue the frame came in on
	L3, L4     uint16 // offsets from Head of network and transport header, set by the classifier
	RxTime     int64  // monotonic ns of the batch that brought it in, 0 if not stamped

	pool *Pool
	idx  uint32
	next uint32 // free-list link, index+1

	of   *Buf  // of a share: whose memory this is; see share.go
	refs int32 // shares that are out, of a buffer that has them
}

// Bytes returns the bytes in use.
func (b *Buf) Bytes() []byte { return b.Mem.Bytes[b.Head:b.Tail] }

// Len is the number of bytes in use in this piece.
func (b *Buf) Len() int { return b.Tail - b.Head }

// TotalLen is the number of bytes in use in the whole chain.
func (b *Buf) TotalLen() int {
	n := 0
	for ; b != nil; b = b.Next {
		n += b.Tail - b.Head
	}
	return n
}

// Bus is the device's address of the first byte in use.
func (b *Buf) Bus() dma.Addr { return b.Mem.Bus + dma.Addr(b.Head) }

// Headroom is the number of free bytes before Head, Tailroom after Tail.
func (b *Buf) Headroom() int { return b.Head }

// Tailroom is the number of free bytes after Tail.
func (b *Buf) Tailroom() int { return len(b.Mem.Bytes) - b.Tail }

// Prepend grows the bytes in use by n at the front and returns them. It panics
// without the headroom: who builds a packet reserves Headroom first.
func (b *Buf) Prepend(n int) []byte {
	if n > b.Head {
		panic("pkt: no headroom")
	}
	b.Head -= n
	return b.Mem.Bytes[b.Head : b.Head+n]
}

// Append grows the bytes in use by n at the end and returns them. It panics
// without the tailroom.
func (b *Buf) Append(n int) []byte {
	t := b.Tail
	b.Tail += n
	return b.Mem.Bytes[t:b.Tail]
}

// Trim drops n bytes from the front.
func (b *Buf) Trim(n int) {
	if n > b.Tail-b.Head {
		panic("pkt: trim beyond the packet")
	}
	b.Head += n
}

// Reset makes b an empty packet with headroom bytes of room in front.
func (b *Buf) Reset(headroom int) {
	b.Head, b.Tail, b.Next = headroom, headroom, nil
	b.Flags, b.GSO, b.GSOSize, b.HdrLen, b.CsumStart, b.CsumOffset = 0, 0, 0, 0, 0, 0
	b.Queue, b.L3, b.L4, b.RxTime = 0, 0, 0, 0
}

// Put ends b and all pieces chained to it, giving each back to its pool. Pieces of
// one pool that follow each other cost one exchange of its list's head.
func (b *Buf) Put() {
	for b != nil {
		p, last, n := b.pool, b, 1
		if p.shares != nil { // shares of b may be out
			rest := b.Next
			b.Next = nil
			b.release()
			b = rest
			continue
		}
		if b.of != nil {
			b.leave()
		}
		for next := b.Next; next != nil && next.pool == p; next = next.Next {
			if next.of != nil {
				next.leave()
			}
			last.linkTo(next)
			last = next
			n++
		}
		rest := last.Next
		last.Next = nil
		p.putChain(b, last, n)
		b = rest
	}
}

// linkTo links b, which leaves its packet, to next, both about to be free.
func (b *Buf) linkTo(next *Buf) {
	b.Next = nil
	// Buffers that went round together come back in their old order.
	if b.next != next.idx+1 {
		atomic.StoreUint32(&b.next, next.idx+1)
	}
}
