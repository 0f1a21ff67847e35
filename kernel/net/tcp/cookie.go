package tcp

import (
	"osv/kernel/net/seq"
	"osv/kernel/net/wire"
)

// SYN cookies: RFC 4987 §3.6 and Appendix A. When the queue of half-open
// connections is full, the answer to a SYN carries all that must be remembered
// of it in the sequence number: the time in units of cookieTick (5 bits), an
// index into cookieMSS (3 bits), and two keyed hashes of 12 bits, one of the
// tuple and these, the other of the peer's sequence number too. The low bits of
// the timestamp carry the peer's other options, where it has timestamps.
//
// Both hashes together let a connection in: only a segment that begins at the
// peer's first octet has the number for that. Where such a segment was lost or
// overtaken, the first hash alone tells that a later one is of a peer that has
// our cookie. It is dropped without a RST: the peer sends its first octet again
// as long as it is not acknowledged.

const (
	cookieTick = 64e9 // ns
	cookieLife = 2    // ticks in which a cookie is good
)

// cookieMSS are the segment sizes that a cookie can express.
var cookieMSS = [8]int{minMSS, 536, 1024, 1220, 1360, 1440, 1460, 8960}

// The option bits of a timestamp: window shift (15 for no scaling) and SACK.
const (
	cookieScaleMask = 0xf
	cookieNoScale   = 0xf
	cookieSACK      = 1 << 4
	cookieBits      = 6
)

// cookie is the initial sequence number that answers a SYN of t with number irs.
func cookie(k *Key, t *Tuple, now int64, irs seq.Num, mss int) seq.Num {
	i := 0
	for i+1 < len(cookieMSS) && cookieMSS[i+1] <= mss {
		i++
	}
	tick := uint32(now / cookieTick)
	return seq.Num(tick<<27 | uint32(i)<<24 | cookieMark(k, t, tick, i)<<12 | cookieProof(k, t, irs, tick, i))
}

// cookieMark is the hash that a segment shows whatever its own number is.
func cookieMark(k *Key, t *Tuple, tick uint32, i int) uint32 {
	return uint32(hashTuple(k, hashCookieMark, t, uint64(tick)<<3|uint64(i))) & 0xfff
}

// cookieProof is the hash that takes the number of the SYN.
func cookieProof(k *Key, t *Tuple, irs seq.Num, tick uint32, i int) uint32 {
	return uint32(hashTuple(k, hashCookie, t, uint64(irs)<<32|uint64(tick)<<3|uint64(i))) & 0xfff
}

// cookieIs is what an acknowledged number turned out to be.
type cookieIs uint8

const (
	cookieNone   cookieIs = iota // none of ours, or too old
	cookieOurs                   // ours, but not in answer to a SYN with that number
	cookieProven                 // ours, and it answered that SYN
)

// openCookie says whether iss is a cookie that answered a SYN of t with number
// irs not long ago, and the segment size in it.
func openCookie(k *Key, t *Tuple, now int64, irs, iss seq.Num) (mss int, is cookieIs) {
	tick := uint32(now / cookieTick)
	age := (tick - uint32(iss)>>27) & 0x1f
	if age >= cookieLife {
		return 0, cookieNone
	}
	tick -= age
	i := int(uint32(iss) >> 24 & 7)
	if cookieMark(k, t, tick, i) != uint32(iss)>>12&0xfff {
		return 0, cookieNone
	}
	if cookieProof(k, t, irs, tick, i) != uint32(iss)&0xfff {
		return 0, cookieOurs
	}
	return cookieMSS[i], cookieProven
}

// cookieOptions is what goes into the timestamp of a SYN's answer.
func cookieOptions(o *wire.TCPOptions) uint32 {
	bits := uint32(cookieNoScale)
	if o.Have&wire.TCPOptWScale != 0 {
		bits = uint32(o.WScale)
	}
	if o.Have&wire.TCPOptSACKOK != 0 {
		bits |= cookieSACK
	}
	return bits
}

// openCookieOptions turns the echo of such a timestamp back into options.
func openCookieOptions(echo uint32, o *wire.TCPOptions) {
	if s := echo & cookieScaleMask; s != cookieNoScale {
		o.Have |= wire.TCPOptWScale
		o.WScale = uint8(s)
	}
	if echo&cookieSACK != 0 {
		o.Have |= wire.TCPOptSACKOK
	}
}

// synTimestamp is the TSval of a SYN: now, or the latest time that has tsBits in
// its low bits.
func (c *Conn) synTimestamp() uint32 {
	v := c.tsClock(c.now)
	if !c.tsCookie {
		return v
	}
	const mask = 1<<cookieBits - 1
	w := v&^mask | c.tsBits
	if int32(w-v) > 0 {
		w -= 1 << cookieBits
	}
	return w
}
