package tcp

import (
	"net/netip"

	"osv/kernel/net/seq"
)

// isnTick is the period of the clock that drives initial sequence numbers, in
// ns: 4 µs (RFC 9293 §3.4.1, MUST-8).
const isnTick = 4000

// ISN is the initial sequence number for a connection t that begins at now:
// M + F(tuple, secret), RFC 6528 §3.
func ISN(k *Key, t *Tuple, now int64) seq.Num {
	return seq.Num(uint32(hashTuple(k, hashISN, t, 0)) + uint32(now/isnTick))
}

// tsOffset is what is added to the millisecond clock in timestamps of t, so that
// they tell neither uptime nor other connections' clocks (RFC 7323 §5.4).
// A new incarnation of t goes on where the old one was.
func tsOffset(k *Key, t *Tuple) uint32 {
	return uint32(hashTuple(k, hashTimestamp, t, 0))
}

// PortOffset is where the search for a local port of t begins, the same for all
// connections of one pair of ends and a secret for others (RFC 6056 §3.3.3).
func PortOffset(k *Key, t *Tuple) uint32 {
	return uint32(hashTuple(k, hashPort, &Tuple{netip.AddrPortFrom(t.Local.Addr(), 0), t.Remote}, 0))
}
