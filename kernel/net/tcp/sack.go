package tcp

import (
	"osv/kernel/net/seq"
	"osv/kernel/net/wire"
)

// Selective acknowledgment: RFC 2018 and RFC 2883, both directions.

// sackInput marks what the SACK blocks of s report. They are taken in sequence
// order: RACK must not take the order of the blocks for one of arrival.
func (c *Conn) sackInput(s *Segment, r *ackResult) {
	var blocks [wire.TCPMaxSACK]oooRange
	n := 0
	for i := range s.Opt.NSACK {
		b := &s.Opt.SACK[i]
		left, right := seq.Num(b.Left), seq.Num(b.Right)
		if !left.Less(right) || c.sndMax.Less(right) {
			continue
		}
		if i == 0 && c.isDSACK(s, left, right) {
			r.dsack = true
			c.dsackInput(left, right)
			continue
		}
		if left = seq.Max(left, c.sndUna); !left.Less(right) {
			continue
		}
		j := n
		for ; j > 0 && left.Less(blocks[j-1].start); j-- {
			blocks[j] = blocks[j-1]
		}
		blocks[j] = oooRange{start: left, end: right}
		n++
	}
	for i := range n {
		c.sackMark(blocks[i].start, blocks[i].end, r)
	}
}

// isDSACK reports that the first block tells of duplicate octets: it lies below
// the ACK, or inside the second block (RFC 2883 §4).
func (c *Conn) isDSACK(s *Segment, left, right seq.Num) bool {
	if right.LessEq(s.Ack) {
		return c.sndUna.Add(-c.sndMaxWnd).LessEq(left)
	}
	if s.Opt.NSACK > 1 {
		b := &s.Opt.SACK[1]
		return seq.Num(b.Left).LessEq(left) && right.LessEq(seq.Num(b.Right))
	}
	return false
}

// sackMark marks [left, right), within what is in flight, as received.
func (c *Conn) sackMark(left, right seq.Num, r *ackResult) {
	for i := c.sent.find(left); i < c.sent.n; i++ {
		e := c.sent.at(i)
		if right.LessEq(e.start) {
			return
		}
		if e.flags&sentSacked != 0 {
			continue
		}
		if e.start.Less(left) {
			c.sent.split(i, left)
			continue
		}
		if right.Less(e.end) {
			c.sent.split(i, right)
			e = c.sent.at(i)
		}
		n := e.len()
		if e.flags&sentLost != 0 {
			c.lostBytes -= n
			e.flags &^= sentLost
		}
		c.rackSample(e, e.end, r)
		e.flags |= sentSacked
		c.sackedBytes += n
		c.sackedSegs += (n + c.cc.mss - 1) / c.cc.mss
		r.sacked += n
		r.delivered += n
		// Neighbours that are both sacked are one, so that a block that grows by
		// a segment with every ACK is not walked from its start each time.
		if i > 0 && c.sent.at(i-1).flags&sentSacked != 0 {
			c.sent.join(i - 1)
			i--
		}
		if i+1 < c.sent.n && c.sent.at(i+1).flags&sentSacked != 0 {
			c.sent.join(i)
		}
	}
}

// renege forgets all that the peer has sacked: it has dropped it (RFC 2018 §8).
func (c *Conn) renege() {
	for i := range c.sent.n {
		c.sent.at(i).flags &^= sentSacked
	}
	c.sackedBytes, c.sackedSegs = 0, 0
}

// noteSack makes the range that holds s the first to be reported (RFC 2018 §4).
func (c *Conn) noteSack(s seq.Num) {
	r := c.ooo.holding(s)
	keep := [len(c.sackRecent)]seq.Num{s}
	n := 1
	for _, old := range c.sackRecent[:c.sackNum] {
		if n < len(keep) && !old.In(r.start, r.end.Sub(r.start)) {
			keep[n] = old
			n++
		}
	}
	c.sackRecent, c.sackNum = keep, n
}

// sackBlocks puts the blocks to report into o.
func (c *Conn) sackBlocks(o *wire.TCPOptions) {
	n := 0
	if c.dsack.start != c.dsack.end {
		o.SACK[0] = wire.TCPSACKBlock{Left: uint32(c.dsack.start), Right: uint32(c.dsack.end)}
		n = 1
	}
	live := 0
	for _, s := range c.sackRecent[:c.sackNum] {
		r := c.ooo.holding(s)
		if r.start == r.end {
			continue // delivered meanwhile
		}
		c.sackRecent[live] = s
		live++
		if n < len(o.SACK) {
			o.SACK[n] = wire.TCPSACKBlock{Left: uint32(r.start), Right: uint32(r.end)}
			n++
		}
	}
	c.sackNum = live
	if n > 0 {
		o.Have |= wire.TCPOptSACK
		o.NSACK = uint8(n)
	}
}
