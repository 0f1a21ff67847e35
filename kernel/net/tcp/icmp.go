package tcp

import "osv/kernel/net/seq"

// ICMP errors: RFC 9293 §3.9.2.2, RFC 5461, RFC 5927, and path MTU discovery of
// RFC 1191 and RFC 8201.

// Least MTU that is believed, bytes: RFC 1191 §3 would allow 68 for IPv4, but
// 552 is what a stack can live with and an attacker can not use.
const (
	minMTU4 = 552
	minMTU6 = 1280
)

// plateaus are the MTUs to try when a router does not say its own (RFC 1191 §7.1).
var plateaus = [...]int{32000, 17914, 8166, 4352, 2002, 1492, 1006, minMTU4}

// ICMP takes an error about a segment that c has sent. Flush should follow.
func (c *Conn) ICMP(now int64, e ICMPError) {
	c.now = now
	if s := seq.Num(e.Seq); c.state == StateClosed || s.Less(c.sndUna) || !s.Less(c.sndMax) {
		return // not about what is in flight: forged, or too late (RFC 5927 §4.1)
	}
	err := e.Err
	if err == nil {
		err = ErrUnreachable
	}
	opening := c.state == StateSynSent || c.state == StateSynReceived
	switch {
	case e.Kind == ICMPTooBig:
		c.PathMTU(now, c.nextMTU(e.MTU))
	case e.Kind == ICMPHard && opening:
		c.fail(err)
	default:
		c.softErr = err
	}
}

func (c *Conn) nextMTU(said int) int {
	least := minMTU6
	if c.tuple.Local.Addr().Is4() {
		least = minMTU4
	}
	if said == 0 {
		for _, p := range plateaus {
			if p < c.path.MTU {
				said = p
				break
			}
		}
	}
	return max(said, least)
}

// PathMTU lowers the path MTU to mtu bytes. What is in flight in larger packets
// has been dropped on the way, not by congestion: it is sent again in smaller
// ones, and the window stays.
func (c *Conn) PathMTU(now int64, mtu int) {
	c.now = now
	if mtu >= c.path.MTU {
		return
	}
	c.path.MTU = mtu
	before := c.cc.mss
	c.setMSS()
	if c.cc.mss >= before || !c.state.synchronized() || c.sent.n == 0 {
		return
	}
	for i := range c.sent.n {
		if e := c.sent.at(i); e.len() > c.cc.mss {
			c.markLost(e)
		}
	}
	if c.lostBytes > 0 && c.rec.state == recOpen {
		c.rec.state = recLoss
		c.rec.point, c.rec.pointSet = c.sndNxt, true
		c.rec.undo = false
		c.cc.ssthresh = min(c.cc.ssthresh, c.cc.cwnd)
	}
}
