package tcp

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"osv/kernel/net/seq"
	"osv/kernel/net/wire"
)

// Connections that cookies open over a bad wire: whichever segment is lost or
// overtaken, the client is not reset, and every octet arrives.
// The losses are few enough for that to happen before a cookie is too old.
func TestCookiePair(t *testing.T) {
	n := pairSeedCount()
	early := uint64(0)
	for seed := uint64(1); seed <= uint64(n); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { early += runCookiePair(t, seed) })
	}
	if early == 0 {
		t.Error("no segment ever came before the one that proves its cookie")
	}
}

func runCookiePair(t *testing.T, seed uint64) (early uint64) {
	r := rand.New(rand.NewPCG(seed, 3))
	var cfg Config
	cfg.NoTimestamps, cfg.NoSACK = r.IntN(2) == 0, r.IntN(2) == 0
	w := newWorld(seed, cfg, cfg, 1500, false)
	w.loss, w.reorder, w.dup = float64(r.IntN(15))/100, float64(r.IntN(50))/100, float64(r.IntN(10))/100
	w.delay = int64(1e6 + r.IntN(20e6))
	size := r.IntN(20000)
	a := &app{h: w.a, out: stream{seed, size}, rng: r, t: t}
	b := &app{h: w.b, in: stream{seed, size}, rng: r, t: t}
	l := NewListener(&w.b.cfg, w.b, 10, 1)
	w.b.listener = l
	w.b.accepted = func(c *Conn) { b.c = c }
	fill := func() { // the one place is taken by a SYN that nobody stands behind
		if l.HalfOpen() > 0 {
			return
		}
		tu := Tuple{newScriptTuple().Local, newScriptTuple().Remote}
		l.Input(w.now, &tu, &Segment{Seq: seq.Num(r.Uint32()), Flags: wire.TCPSyn, Window: 1000})
	}
	fill()
	a.c = w.a.connect(4000, 80)
	end := w.now + 3600e9
	for a.run() && b.run() && !(a.shut && b.eof && a.c.State() != StateFinWait1) && w.step() {
		if w.now > end {
			t.Errorf("no end: a %v, b %v eof %v", a.c.State(), stateOf(b.c), b.eof)
			break
		}
		if r.IntN(4) == 0 {
			fill()
		}
	}
	if a.c.Err() != nil || b.c == nil || b.in.left != 0 || l.Stats.Established != 1 {
		t.Errorf("%v, %d octets did not arrive, %+v", a.c.Err(), b.in.left, l.Stats)
	}
	if l.Stats.Cookies == 0 {
		t.Errorf("%+v: no cookie", l.Stats)
	}
	for _, c := range []*Conn{a.c, b.c} {
		if c != nil {
			c.Abort(w.now)
			c.Close(w.now)
		}
	}
	l.Close(w.now)
	w.a.close(t)
	w.b.close(t)
	if t.Failed() {
		t.Logf("seed %d: loss %v reorder %v dup %v delay %d size %d", seed, w.loss, w.reorder, w.dup, w.delay, size)
	}
	return l.Stats.CookiesEarly
}
