package tcp

import "osv/kernel/pkt"

// Octets of large frames are not copied out of the send buffer: the frame is a
// header, and the parts of the chunks that the octets lie in (pkt.Buf.Share). The
// chunks stay until both the peer and the device are done with them. Nobody writes
// to octets in the send buffer, so they may be sent again while they are being
// sent.

// attachable is how many octets from off on fit the pieces of one frame when they
// are attached.
func (c *Conn) attachable(off int) int {
	q := &c.snd
	return (c.path.Pieces-1)*q.size - (q.skip+off)%q.size
}

// attach chains n octets of the send buffer, from off on, to b, which is empty.
// It reports false, and leaves b as it was, where the chunks cannot be shared, or
// too many are.
func (c *Conn) attach(b *pkt.Buf, off, n int) bool {
	q := &c.snd
	pos := q.skip + off
	i := pos / q.size
	pos -= i * q.size
	for t := b; n > 0; t = t.Next {
		k := min(n, q.size-pos)
		if t.Next = q.chunk(i).Share(pos, k); t.Next == nil {
			if b.Next != nil {
				b.Next.Put()
				b.Next = nil
			}
			return false
		}
		n -= k
		i, pos = i+1, 0
	}
	return true
}
