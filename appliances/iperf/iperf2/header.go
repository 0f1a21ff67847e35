// Package iperf2 is a server of iperf 2's protocol, as `iperf -s` and `iperf -s -u`
// are in one: it takes what clients send by TCP and UDP, and sends where a client
// asks for that.
//
// Spec: there is no written one. The layouts are those that clients of 2.0.5 (the
// -d and -r tests) and 2.1.8 (-R, --full-duplex, 64-bit numbers) put on the wire.
// A TCP client may begin its stream with a header that asks for something; without
// one it just sends, half-closes and waits for the server's close. A UDP client
// numbers its datagrams, ends with a negative number, and gets the server's report
// for an answer. Not covered: --bounceback, --isochronous and --trip-times
// reports (their octets are counted like any), --permit-key, multicast.
//
// Who may use it: main of the appliance. May not: know which host it runs on.
// Start reading at server.go; header.go is the wire.
package iperf2

import (
	"encoding/binary"
	"time"
)

// Flags of a client's header.
const (
	flagVersion1   = 1 << 31 // a test in both directions, by a connection back (-d, -r)
	flagExtend     = 1 << 30 // the extension follows
	flagSeq64      = 1 << 27 // datagrams have 64-bit numbers
	flagVersion2   = 1 << 26 // the flags of the extension ask for something
	flagPeerDetect = 1 << 25 // the client waits for an answer
	flagRunNow     = 1       // -d; without it -r
)

// Flags of the extension.
const (
	extNoFin      = 1 << 3  // no report is wanted
	extTripTime   = 1 << 4  // the answer holds times
	extReverse    = 1 << 10 // the server sends
	extFullDuplex = 1 << 11 // both send, on one connection
)

// Sizes in bytes.
const (
	v1Len     = 24
	extLen    = 36
	oldSeqLen = 12 // a datagram's number and time until 2.0.9
	seqLen    = 16 // since then
)

// header is what a client asks for.
type header struct {
	flags  uint32
	ext    uint16
	port   uint16        // where the client listens, for -d and -r
	block  int           // bytes of a write; 0: the default
	amount int64         // octets to send, if not 0
	time   time.Duration // or how long
	rate   uint64        // bit/s; 0: no bound
}

// headerLen is how many octets the header has that begins with flags; 0: none.
func headerLen(flags uint32) int {
	switch {
	case flags&flagVersion2 != 0 && flags&flagExtend != 0:
		return v1Len + extLen
	case flags&(flagVersion1|flagVersion2|flagExtend) != 0:
		return v1Len
	}
	return 0
}

// parseHeader reads the header at the beginning of b. What is beyond the end of b
// was not asked for.
func parseHeader(b []byte) (h header) {
	if len(b) < 4 {
		return h
	}
	h.flags = binary.BigEndian.Uint32(b)
	if headerLen(h.flags) == 0 || len(b) < v1Len {
		return header{}
	}
	h.port = uint16(binary.BigEndian.Uint32(b[8:]))
	if n := binary.BigEndian.Uint32(b[12:]); n <= maxBlock {
		h.block = int(n)
	}
	if a := int64(int32(binary.BigEndian.Uint32(b[20:]))); a < 0 {
		h.time = min(time.Duration(-a)*10*time.Millisecond, maxTime)
	} else {
		h.amount = a
	}
	if h.flags&flagExtend == 0 || len(b) < v1Len+extLen {
		h.flags &^= flagVersion2
		return h
	}
	e := b[v1Len:]
	h.ext = binary.BigEndian.Uint16(e[8:])
	h.rate = uint64(binary.BigEndian.Uint32(e[24:])) | uint64(binary.BigEndian.Uint32(e[28:])>>8)<<32
	return h
}

// Bounds on what a client may ask for.
const (
	maxBlock     = 1 << 20
	maxTime      = 24 * time.Hour
	defaultTime  = 10 * time.Second
	defaultBlock = 128 << 10
	udpBlock     = 1470
	maxDatagram  = 65507
)

func (h *header) wants(ext uint16) bool { return h.flags&flagVersion2 != 0 && h.ext&ext != 0 }

// dual reports a test by a connection back to the client.
func (h *header) dual() bool { return h.flags&flagVersion1 != 0 && h.flags&flagVersion2 == 0 }

// sequence is a datagram's number and the time when it was sent.
type sequence struct {
	id   int64 // negative: the last, its sign turned
	sec  uint32
	usec uint32
	wide bool // of 64 bits
}

// parseSequence reads the beginning of a datagram; false: it is too short. wide
// says whether the client's numbers have 64 bits.
func parseSequence(b []byte, wide bool) (s sequence, ok bool) {
	if len(b) < oldSeqLen || wide && len(b) < seqLen {
		return s, false
	}
	s = sequence{int64(int32(binary.BigEndian.Uint32(b))), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:]), wide}
	if wide {
		s.id = int64(uint64(binary.BigEndian.Uint32(b)) | uint64(binary.BigEndian.Uint32(b[12:]))<<32)
	}
	if s.id == -1<<63 {
		return s, false // it has no positive
	}
	return s, true
}

// putSequence writes it.
func putSequence(b []byte, id int64, now time.Time) {
	binary.BigEndian.PutUint32(b, uint32(id))
	binary.BigEndian.PutUint32(b[4:], uint32(now.Unix()))
	binary.BigEndian.PutUint32(b[8:], uint32(now.Nanosecond()/1000))
	if len(b) >= seqLen {
		binary.BigEndian.PutUint32(b[12:], uint32(id>>32))
	}
}

// isWide tells from a client's first datagram whether its numbers have 64 bits.
// In an older one there is a count of streams or text at that place, which never
// has the bit.
func isWide(b []byte) bool {
	return len(b) >= seqLen+4 && binary.BigEndian.Uint32(b[seqLen:])&flagSeq64 != 0
}

// udpHeader is the header in a client's first datagram.
func udpHeader(b []byte, wide bool) header {
	at := oldSeqLen
	if wide {
		at = seqLen
	}
	if len(b) < at {
		return header{}
	}
	return parseHeader(b[at:])
}

// report is what a server says of a UDP test.
type report struct {
	bytes                     uint64
	span                      time.Duration
	lost, outOfOrder, packets int64
	jitter                    time.Duration
}

// reportLen is the length of a report with the statistics of 2.1, which are left
// at 0.
const reportLen = 112

// appendReport makes the answer to the datagram that ended a test: its first
// octets, then the report.
func appendReport(dst, last []byte, r *report, wide bool) []byte {
	at := oldSeqLen
	if wide {
		at = seqLen
	}
	dst = append(dst, last[:at]...)
	u32 := func(v uint64) { dst = binary.BigEndian.AppendUint32(dst, uint32(v)) }
	flags := uint64(flagVersion1)
	if wide {
		flags |= flagSeq64
	}
	u32(flags)
	u32(r.bytes >> 32)
	u32(r.bytes)
	u32(uint64(r.span / time.Second))
	u32(uint64(r.span % time.Second / time.Microsecond))
	u32(uint64(r.lost))
	u32(uint64(r.outOfOrder))
	u32(uint64(r.packets))
	u32(uint64(r.jitter / time.Second))
	u32(uint64(r.jitter % time.Second / time.Microsecond))
	dst = append(dst, make([]byte, 15*4)...)
	u32(uint64(r.lost) >> 32)
	u32(uint64(r.outOfOrder) >> 32)
	u32(uint64(r.packets) >> 32)
	return dst
}

// parseReport reads a server's answer; false: it is none.
func parseReport(b []byte, wide bool) (r report, ok bool) {
	at := oldSeqLen
	if wide {
		at = seqLen
	}
	if len(b) < at+40 || binary.BigEndian.Uint32(b[at:])&flagVersion1 == 0 {
		return r, false
	}
	u32 := func(i int) uint64 { return uint64(binary.BigEndian.Uint32(b[at+4*i:])) }
	return report{
		bytes: u32(1)<<32 | u32(2), span: time.Duration(u32(3))*time.Second + time.Duration(u32(4))*time.Microsecond,
		lost: int64(u32(5)), outOfOrder: int64(u32(6)), packets: int64(u32(7)),
		jitter: time.Duration(u32(8))*time.Second + time.Duration(u32(9))*time.Microsecond,
	}, true
}

// ackLen is the length of the answer to a client's header, tripAckLen with times.
const (
	ackType    = 2
	ackLen     = 28
	tripAckLen = 52
)

// appendAck makes the answer to a client's header. Its version is 2.1.8's.
func appendAck(dst []byte, withTimes bool, now time.Time) []byte {
	n := ackLen
	if withTimes {
		n = tripAckLen
	}
	for _, v := range []uint32{ackType, uint32(n), 0, 0x00020001, 0x00080000, 0, 0} {
		dst = binary.BigEndian.AppendUint32(dst, v)
	}
	if withTimes {
		for range 3 {
			dst = binary.BigEndian.AppendUint32(dst, uint32(now.Unix()))
			dst = binary.BigEndian.AppendUint32(dst, uint32(now.Nanosecond()/1000))
		}
	}
	return dst
}

// needsAck reports that the client waits for one, or that 2.0.13 did.
func (h *header) needsAck() bool {
	return h.flags&flagPeerDetect != 0 && h.flags&(flagVersion2|flagExtend) != 0 ||
		h.flags&flagExtend != 0 && h.flags&flagVersion2 == 0
}
