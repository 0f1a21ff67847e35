// Package seq is arithmetic on TCP sequence numbers, which wrap.
//
// Spec: RFC 9293 §3.4. Who may use it: kernel/net/tcp and its tests. Comparisons
// hold for numbers less than 2^31 apart, which the largest window (2^30, RFC
// 7323 §2.3) guarantees for all numbers of one connection. Start reading at Num.
package seq

// Num is a sequence number. Compare with the methods, never with < or >.
type Num uint32

// Less reports a < b.
func (a Num) Less(b Num) bool { return int32(a-b) < 0 }

// LessEq reports a <= b.
func (a Num) LessEq(b Num) bool { return int32(a-b) <= 0 }

// Add is a moved n octets forward, back where n is negative.
func (a Num) Add(n int) Num { return a + Num(uint32(int32(n))) }

// Sub is the signed distance a - b in octets.
func (a Num) Sub(b Num) int { return int(int32(a - b)) }

// In reports whether a lies in the window of size octets that begins at first.
func (a Num) In(first Num, size int) bool { return uint32(a-first) < uint32(size) }

// Max is the later of a and b.
func Max(a, b Num) Num {
	if a.Less(b) {
		return b
	}
	return a
}

// Min is the earlier of a and b.
func Min(a, b Num) Num {
	if b.Less(a) {
		return b
	}
	return a
}
