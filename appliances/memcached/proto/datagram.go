package proto

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// UDP (protocol.txt, "UDP protocol"). A datagram begins with a frame header of
// four big-endian words: request id, sequence number, number of datagrams of the
// message, 0. A request is one datagram; each command in it is answered by a
// message of its own, of as many datagrams as it takes.
const (
	FrameHeader = 8
	// MaxDatagram is the size of a reply datagram with its header, as upstream,
	// so that it fits an Ethernet frame.
	MaxDatagram = 1400

	// maxMessage bounds the memory for one reply. More would not arrive anyway.
	maxMessage = 8 << 20
)

var errMessageTooLong = errors.New("proto: UDP reply too long")

const (
	rReplyTooLong = "SERVER_ERROR out of memory writing get response\r\n"
	rCapped       = "SERVER_ERROR reply too long for UDP\r\n"
)

// Datagram answers datagrams, one after the other. It is made by NewDatagram and
// belongs to one goroutine; a receive queue has one.
type Datagram struct {
	c   Conn
	out Out

	scratch []byte // the request, where its place is needed for the reply
	rest    []byte // commands of the request that are still to be run; in scratch
	message []byte // what has been collected of a reply longer than a datagram
	left    []byte // of it, what is still to be sent
	id      uint16
	seq     uint16
	total   uint16
	budget  int // reply bytes that the request earns, if replies are capped

	quick bool // text is spoken and replies are not capped: see quickGet
}

// NewDatagram makes the state of one receive queue, number id.
func NewDatagram(s *Server, id int) *Datagram {
	d := &Datagram{}
	d.c.Init(s, id)
	d.c.udp = true
	d.quick = s.Protocol != Binary && s.UDPFactor == 0
	return d
}

// Handle answers the datagram in, frame header included, and puts the first
// datagram of the reply into out, whose length bounds it. It returns the number
// of bytes, 0 for none; the rest of the reply, if any, comes from More. out may
// be the memory that in is in: in is not needed any more when out is written.
//
// proven says that the sender's address is not forged, so that a long reply does
// not hit someone else.
func (d *Datagram) Handle(in, out []byte, proven bool) int {
	if d.quick && !d.Pending() {
		if n, done := d.quickly(in, out); done {
			return n
		}
	}
	d.left, d.rest = nil, nil
	if len(in) <= FrameHeader || len(out) < FrameHeader+64 {
		return 0
	}
	if binary.BigEndian.Uint16(in[4:]) != 1 {
		return 0 // part of a longer request: dropped, as upstream does
	}
	d.start(in, proven)
	d.scratch = append(d.scratch[:0], in[FrameHeader:]...)
	d.rest = d.scratch
	return d.next(out)
}

// start takes note of a request.
func (d *Datagram) start(in []byte, proven bool) {
	d.id = binary.BigEndian.Uint16(in)
	d.budget = 1 << 62
	if f := d.c.srv.UDPFactor; f > 0 && !proven {
		d.budget = f * len(in)
	}
	d.c.w.Count(countBytesRead, uint64(len(in)))
}

// Pending reports whether More would do something.
func (d *Datagram) Pending() bool { return len(d.left) > 0 || len(d.rest) > 0 }

// More puts the next datagram of the reply to the last request into out and
// returns its length, 0 when there is none.
func (d *Datagram) More(out []byte) int {
	if len(out) < FrameHeader+64 {
		return 0
	}
	if len(d.left) > 0 {
		return d.emit(out)
	}
	return d.next(out)
}

// next runs commands until one has a reply.
func (d *Datagram) next(out []byte) int {
	for len(d.rest) > 0 {
		d.begin(out)
		d.rest = d.c.one(d.rest, &d.out)
		if n := d.finish(out); n > 0 {
			return n
		}
	}
	return 0
}

// begin makes the out buffer ready for a message.
func (d *Datagram) begin(out []byte) {
	n := min(len(out), MaxDatagram)
	d.message = d.message[:0]
	d.out = Out{B: out[FrameHeader:FrameHeader:n], Sink: (*spill)(d)}
}

// finish sends the message that was put.
func (d *Datagram) finish(out []byte) int {
	if d.out.Err != nil {
		d.begin(out)
		d.out.str(rReplyTooLong)
	}
	n := len(d.message) + len(d.out.B)
	if n+FrameHeader > d.budget {
		d.c.w.Count(countUDPCapped, 1)
		d.begin(out)
		d.rest = nil
		if n = len(rCapped); n+FrameHeader > d.budget {
			return 0
		}
		d.out.str(rCapped)
	}
	if n == 0 {
		return 0
	}
	d.budget -= n + FrameHeader
	if len(d.message) == 0 {
		d.c.w.Count(countBytesWritten, uint64(n+FrameHeader))
		d.header(out, 0, 1)
		return FrameHeader + n
	}
	d.message = append(d.message, d.out.B...)
	d.left = d.message
	per := min(len(out), MaxDatagram) - FrameHeader
	d.seq, d.total = 0, uint16((n+per-1)/per)
	return d.emit(out)
}

func (d *Datagram) header(out []byte, seq, total uint16) {
	binary.BigEndian.PutUint64(out, uint64(d.id)<<48|uint64(seq)<<32|uint64(total)<<16)
}

// emit puts the next part of a long message.
func (d *Datagram) emit(out []byte) int {
	n := min(len(out), MaxDatagram)
	d.header(out, d.seq, d.total)
	n = copy(out[FrameHeader:n], d.left)
	d.left = d.left[n:]
	d.seq++
	d.c.w.Count(countBytesWritten, uint64(n+FrameHeader))
	return FrameHeader + n
}

// spill collects what does not fit a datagram.
type spill Datagram

func (d *spill) Flush(b []byte) ([]byte, error) {
	if len(d.message)+len(b) > maxMessage {
		return nil, errMessageTooLong
	}
	d.message = append(d.message, b...)
	return b[:0], nil
}

// one runs the first command of a datagram's payload and returns what follows
// it. What is not complete is dropped.
func (c *Conn) one(in []byte, o *Out) []byte {
	c.bin.on = false
	c.state = stateLine
	if c.srv.Protocol != ASCII && in[0] == reqMagic {
		c.state = stateBinary
		in = c.feedBinary(in, o)
	} else if c.srv.Protocol == Binary {
		return nil
	} else {
		if bytes.IndexByte(in, '\n') < 0 {
			return nil
		}
		in = c.feedLine(in, o)
	}
	for len(in) > 0 && c.state != c.idle() && c.state != stateClosed {
		switch c.state {
		case stateValue:
			n := min(len(in), c.set.p.Room())
			c.set.p.Write(in[:n])
			in = in[n:]
			c.valueDone(o)
		case stateTail:
			in = c.feedTail(in, o)
		case stateSwallow:
			n := min(len(in), c.swallow)
			in = in[n:]
			if c.swallow -= n; c.swallow == 0 {
				c.state = c.idle()
			}
		}
	}
	c.w.Leave()
	c.carry = c.carry[:0]
	if c.set.p.Active() {
		// The value would go on in another datagram.
		c.w.Abort(&c.set.p)
		c.reply(o, rBadChunk)
	}
	if c.state == stateClosed {
		return nil
	}
	return in
}
