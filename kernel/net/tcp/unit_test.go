package tcp

import (
	"encoding/binary"
	"math"
	"net/netip"
	"testing"
	"time"

	"osv/kernel/net/wire"
)

// sipSlow is SipHash-2-4 as its paper writes it, for messages of any length.
func sipSlow(k0, k1 uint64, m []byte) uint64 {
	v0, v1, v2, v3 := k0^0x736f6d6570736575, k1^0x646f72616e646f6d, k0^0x6c7967656e657261, k1^0x7465646279746573
	word := func(w uint64) {
		v3 ^= w
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		v0 ^= w
	}
	n := len(m)
	for ; len(m) >= 8; m = m[8:] {
		word(binary.LittleEndian.Uint64(m))
	}
	last := uint64(n) << 56
	for i, b := range m {
		last |= uint64(b) << (8 * i)
	}
	word(last)
	v2 ^= 0xff
	for range 4 {
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	}
	return v0 ^ v1 ^ v2 ^ v3
}

func TestSipHash(t *testing.T) {
	m := make([]byte, 32)
	for i := range m {
		m[i] = byte(i)
	}
	k := Key{0x0706050403020100, 0x0f0e0d0c0b0a0908}
	if h := sipSlow(k[0], k[1], m[:15]); h != 0xa129ca6149be45e5 { // Appendix A of the paper
		t.Fatalf("the model says %#x", h)
	}
	le := binary.LittleEndian.Uint64
	if got, want := sip4(&k, le(m), le(m[8:]), le(m[16:]), le(m[24:])), sipSlow(k[0], k[1], m); got != want {
		t.Errorf("%#x, want %#x", got, want)
	}
}

// RFC 6528 §3: numbers of one tuple follow the clock, those of others tell
// nothing about it.
func TestISN(t *testing.T) {
	a := newScriptTuple()
	b := a
	b.Remote = netip.AddrPortFrom(a.Remote.Addr(), a.Remote.Port()+1)
	k1, k2 := Key{1, 2}, Key{1, 3}
	if d := ISN(&k1, &a, 5e9).Sub(ISN(&k1, &a, 4e9)); d != 250000 {
		t.Errorf("%d numbers in a second, want one each 4 µs", d)
	}
	if ISN(&k1, &a, 0) == ISN(&k1, &b, 0) || ISN(&k1, &a, 0) == ISN(&k2, &a, 0) {
		t.Error("the same number for another tuple, or by another key")
	}
	if tsOffset(&k1, &a) == tsOffset(&k1, &b) || tsOffset(&k1, &a) == uint32(ISN(&k1, &a, 0)) {
		t.Error("the timestamp offset tells something")
	}
	c := a
	c.Local = netip.AddrPortFrom(a.Local.Addr(), 999)
	if PortOffset(&k1, &a) != PortOffset(&k1, &c) || PortOffset(&k1, &a) == PortOffset(&k1, &b) {
		t.Error("the place where the search for a port begins depends on the port, or not on the peer")
	}
}

func TestCookies(t *testing.T) {
	k := Key{7, 8}
	tu := newScriptTuple()
	const now = 1000 * cookieTick
	for _, mss := range []int{1, 64, 536, 1000, 1440, 1460, 9000} {
		c := cookie(&k, &tu, now, 5, mss)
		got, is := openCookie(&k, &tu, now+cookieTick, 5, c)
		if is != cookieProven || got > max(mss, minMSS) || got < mss/2 {
			t.Errorf("size %d: %d, %v", mss, got, is)
		}
		if _, is := openCookie(&k, &tu, now+3*cookieTick, 5, c); is != cookieNone {
			t.Error("an old cookie is taken")
		}
		if _, is := openCookie(&k, &tu, now, 6, c); is != cookieOurs {
			t.Error("a cookie for another SYN is taken")
		}
		if _, is := openCookie(&k, &tu, now, 5, c+1<<12); is != cookieNone {
			t.Error("a wrong cookie is taken")
		}
	}
	for _, o := range []wire.TCPOptions{{}, {Have: wire.TCPOptWScale, WScale: 14}, {Have: wire.TCPOptSACKOK}, {Have: wire.TCPOptSACKOK | wire.TCPOptWScale, WScale: 7}} {
		var got wire.TCPOptions
		openCookieOptions(0xabcdef00|cookieOptions(&o), &got)
		if got != o {
			t.Errorf("%+v came back as %+v", o, got)
		}
	}
}

// RFC 6298 §2 by hand.
func TestRTT(t *testing.T) {
	var r rttState
	cfg := Config{}.WithDefaults()
	r.reset(&cfg)
	if r.rto != 1e9 {
		t.Errorf("first timeout %v", time.Duration(r.rto))
	}
	r.sample(0, 100e6, 1)
	if r.srtt != 100e6 || r.rttvar != 50e6 || r.rto != 300e6 {
		t.Errorf("after 100 ms: %+v", r)
	}
	r.sample(0, 200e6, 1)
	if r.srtt != 112.5e6 || r.rttvar != 62.5e6 || r.rto != 362.5e6 {
		t.Errorf("after 200 ms: %+v", r)
	}
	for range 200 {
		r.sample(0, 1e6, 1)
	}
	if r.rto != int64(cfg.MinRTO) || r.min() != 1e6 {
		t.Errorf("after many of 1 ms: %+v", r)
	}
	r.sample(6e9, 5e6, 1)
	r.sample(12e9, 7e6, 1)
	if r.min() != 5e6 {
		t.Errorf("least %v, want that of the last two spans", time.Duration(r.min()))
	}
	if got := r.backedOff(3); got != 8*r.rto {
		t.Errorf("backed off to %v", time.Duration(got))
	}
	if got := r.backedOff(100); got != int64(cfg.MaxRTO) {
		t.Errorf("backed off to %v", time.Duration(got))
	}
}

// RFC 9438 §4.2: after a loss the window follows the cubic function back to
// where it was, and there in K seconds.
func TestCubicFollowsItsFunction(t *testing.T) {
	const mss, rtt = 1000, 500e6 // long enough that the Reno-friendly region is below
	g := congestion{mss: mss, cwnd: 1000 * mss, ssthresh: infinite}
	g.reduce(1000 * mss)
	g.cwnd = g.ssthresh
	if g.cwnd != 700*mss {
		t.Fatalf("reduced to %d segments", g.cwnd/mss)
	}
	k := math.Cbrt(300 / cubicC)
	now := int64(10e9)
	start := now
	for range 40 {
		acks := int64(g.cwnd / (2 * mss))
		for range acks {
			g.acked(2*mss, now, rtt)
			now += rtt / acks
		}
		at := float64(now-start) / 1e9
		want := cubicC*math.Pow(at-k, 3) + 1000
		if got := float64(g.cwnd) / mss; at < 2*k && math.Abs(got-want) > 0.03*want {
			t.Fatalf("%.1f s: %.0f segments, want %.0f", at, got, want)
		}
	}
	// §4.7: a second loss before that releases room for others.
	g.wMax, g.cwnd = 1000, 800*mss
	g.reduce(800 * mss)
	if math.Abs(g.wMax-680) > 1 {
		t.Errorf("W_max %.0f, want 680", g.wMax)
	}
}

// RFC 9406 §4.2: slow start slows down when the round trip grows by the
// threshold, goes on if that was noise, and ends after five rounds.
func TestHyStart(t *testing.T) {
	const mss = 1000
	run := func(rtts ...int64) *congestion {
		g := &congestion{mss: mss, cwnd: 10 * mss, ssthresh: infinite}
		for i, rtt := range rtts {
			g.round(seqNum(i*100), seqNum((i+1)*100))
			for range hsSamples {
				g.rttSample(rtt * 1e6)
			}
		}
		return g
	}
	if g := run(40, 40, 44); g.hs.conservative {
		t.Error("4 ms more in 40 is below the threshold of 5")
	}
	if g := run(40, 40, 45); !g.hs.conservative || g.hs.growth(4*mss, mss) != mss {
		t.Error("5 ms more in 40 are the threshold")
	}
	if g := run(40, 40, 45, 41); g.hs.conservative {
		t.Error("back to 41 ms: it was noise")
	}
	if g := run(2, 2, 5); g.hs.conservative {
		t.Error("the threshold is 4 ms at least")
	}
	if g := run(400, 400, 416); !g.hs.conservative {
		t.Error("the threshold is 16 ms at most")
	}
	if g := run(40, 40, 50, 51, 52, 53, 54, 55); g.ssthresh != g.cwnd || !g.hs.over {
		t.Errorf("after five rounds: %+v", g.hs)
	}
	if g := run(40, 40); g.hs.growth(20*mss, mss) != hsBurst*mss {
		t.Error("growth of one ACK is bounded")
	}
}

func TestChallengeBucket(t *testing.T) {
	var b bucket
	n := 0
	for now := int64(1e12); now < 1e12+10e9; now += 1e6 {
		if b.take(now) {
			n++
		}
	}
	if want := bucketSize + 100; n < want-2 || n > want {
		t.Errorf("%d in ten seconds, want %d", n, want)
	}
}

// The ring of ranges, against a slice.
func TestSentQueueSplitJoin(t *testing.T) {
	var q sentQueue
	for i := range 20 {
		q.push(sentSeg{start: seqNum(i * 100), end: seqNum(i*100 + 100)})
	}
	for range 5 {
		q.popFront()
	}
	for i := range 10 { // wraps
		q.push(sentSeg{start: seqNum(2000 + i*100), end: seqNum(2100 + i*100)})
	}
	check := func(n int) {
		t.Helper()
		if q.n != n {
			t.Fatalf("%d ranges, want %d", q.n, n)
		}
		for i := 1; i < q.n; i++ {
			if q.at(i-1).end != q.at(i).start {
				t.Fatalf("range %d ends at %d, the next begins at %d", i-1, q.at(i-1).end, q.at(i).start)
			}
		}
		if q.at(0).start != 500 || q.at(q.n-1).end != 3000 {
			t.Fatalf("from %d to %d", q.at(0).start, q.at(q.n-1).end)
		}
	}
	check(25)
	for _, s := range []seqNum{550, 2950, 1750, 1350} {
		q.split(q.find(s), s)
	}
	check(29)
	for _, s := range []seqNum{550, 2900, 1700} {
		q.join(q.find(s) - 1)
	}
	check(26)
	if i := q.find(1700); q.at(i).start > 1700 || q.at(i).end <= 1700 {
		t.Errorf("find(1700): %+v", q.at(i))
	}
	if q.find(500) != 0 || q.find(2999) != q.n-1 || q.find(3000) != q.n {
		t.Error("find at the ends")
	}
}
