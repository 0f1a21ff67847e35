package ip

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"osv/kernel/hw/dma"
	kclock "osv/kernel/ktest/clock"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

type rig struct {
	t       testing.TB
	clk     kclock.Fake
	pool    *pkt.Pool
	r       *Reassembler
	expired []byte // first byte of each packet that was given up on
}

func newRig(t testing.TB, l Limits) *rig {
	g := &rig{t: t}
	var mem dma.Host
	var err error
	if g.pool, err = pkt.NewPool(&mem, 128, pkt.Headroom+320); err != nil {
		t.Fatal(err)
	}
	g.r = NewReassembler(&g.clk, l, func(b *pkt.Buf) {
		g.expired = append(g.expired, b.Bytes()[20])
		b.Put()
	})
	t.Cleanup(func() {
		g.r.Close()
		if n := g.pool.InUse(); n != 0 || g.r.Held() != 0 {
			t.Errorf("%d buffers in use, %d held at the end", n, g.r.Held())
		}
		if g.clk.Pending() != 0 {
			t.Error("a timer is left")
		}
		g.pool.Close(&mem)
	})
	return g
}

var key = Key{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), Proto: 17}

// frag adds data at off, behind a header of 20 bytes, and returns the whole
// packet's data when that completes it.
func (g *rig) frag(id uint32, off int, data []byte, more bool) []byte {
	b := g.pool.Get()
	if b == nil {
		g.t.Fatal("pool empty")
	}
	head := b.Append(20)
	clear(head)
	head[0] = byte(off / 8)
	copy(b.Append(len(data)), data)
	b.Append(3) // padding of the link
	k := key
	k.ID = id
	whole, n := g.r.Add(Fragment{Key: k, Offset: off, Len: len(data), More: more, Head: 20, Buf: b})
	if whole == nil {
		return nil
	}
	var out []byte
	for p := whole; p != nil; p = p.Next {
		out = append(out, p.Bytes()...)
	}
	if out[0] != 0 || len(out) != 20+n {
		g.t.Errorf("whole packet has %d bytes with the header of the fragment at %d, want %d, 0", len(out), out[0], 20+n)
	}
	whole.Put()
	return out[20:]
}

func seqBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}

func TestReassembleInAnyOrder(t *testing.T) {
	data := seqBytes(100)
	parts := [][2]int{{0, 32}, {32, 64}, {64, 88}, {88, 100}}
	perm := func(order []int) {
		g := newRig(t, Limits{})
		for i, p := range order {
			lo, hi := parts[p][0], parts[p][1]
			got := g.frag(1, lo, data[lo:hi], hi != 100)
			if i < 3 && got != nil {
				t.Fatalf("%v: whole after %d of 4", order, i+1)
			}
			if i == 3 && !bytes.Equal(got, data) {
				t.Fatalf("%v: % x", order, got)
			}
		}
		if s := g.r.Stats(); s.Done != 1 || s.Fragments != 4 {
			t.Errorf("%+v", s)
		}
		g.clk.Advance(time.Minute)
	}
	for a := range 4 {
		for b := range 4 {
			for c := range 4 {
				if a != b && b != c && a != c {
					perm([]int{a, b, c, 6 - a - b - c})
				}
			}
		}
	}
}

func TestDuplicateIsDropped(t *testing.T) {
	g := newRig(t, Limits{})
	d := seqBytes(24)
	g.frag(1, 0, d[:8], true)
	g.frag(1, 0, d[:8], true)
	g.frag(1, 16, d[16:], false)
	g.frag(1, 16, d[16:], false)
	if got := g.frag(1, 8, d[8:16], true); !bytes.Equal(got, d) {
		t.Errorf("% x", got)
	}
}

// RFC 5722 §3: the whole packet goes, with all its fragments.
func TestOverlapEndsThePacket(t *testing.T) {
	d := seqBytes(200)
	for name, f := range map[string]func(g *rig){
		"into the one before": func(g *rig) { g.frag(1, 0, d[:16], true); g.frag(1, 8, d[8:24], true) },
		"into the one behind": func(g *rig) { g.frag(1, 16, d[:16], true); g.frag(1, 8, d[8:24], true) },
		"same place, longer":  func(g *rig) { g.frag(1, 8, d[:8], true); g.frag(1, 8, d[:16], true) },
		"beyond the end":      func(g *rig) { g.frag(1, 16, d[:8], false); g.frag(1, 24, d[:8], true) },
		"two ends":            func(g *rig) { g.frag(1, 16, d[:8], false); g.frag(1, 32, d[:8], false) },
		"end before others":   func(g *rig) { g.frag(1, 32, d[:8], true); g.frag(1, 16, d[:8], false) },
		"end turns to middle": func(g *rig) { g.frag(1, 16, d[:8], false); g.frag(1, 16, d[:8], true) },
	} {
		g := newRig(t, Limits{})
		f(g)
		if s := g.r.Stats(); s.Overlaps != 1 || g.r.Held() != 0 {
			t.Errorf("%s: %+v, %d held", name, s, g.r.Held())
		}
	}
}

func TestImpossibleFragments(t *testing.T) {
	g := newRig(t, Limits{})
	g.frag(1, 0, seqBytes(7), true)      // not a multiple of 8
	g.frag(1, 65528, seqBytes(16), true) // beyond 65535
	g.frag(1, 0, nil, true)
	g.frag(1, 4, seqBytes(8), true)
	b := g.pool.Get()
	b.Append(10)
	g.r.Add(Fragment{Key: key, Len: 8, Head: 20, Buf: b}) // shorter than it says
	if s := g.r.Stats(); s.Bad != 5 || g.r.Held() != 0 {
		t.Errorf("%+v", s)
	}
}

func TestTimeout(t *testing.T) {
	g := newRig(t, Limits{Timeout: 10 * time.Second})
	g.frag(1, 0, []byte("Aaaaaaaa"), true)
	g.frag(1, 16, []byte("bbbbbbbb"), false)
	g.frag(2, 8, []byte("cccccccc"), true) // without its first, nobody is told
	g.clk.Advance(9 * time.Second)
	if g.r.Held() != 3 {
		t.Fatalf("%d held", g.r.Held())
	}
	g.clk.Advance(2 * time.Second)
	if g.r.Held() != 0 || string(g.expired) != "A" || g.r.Stats().Timeouts != 2 {
		t.Errorf("%d held, told %q, %+v", g.r.Held(), g.expired, g.r.Stats())
	}
	if g.frag(1, 8, []byte("bbbbbbbb"), true) != nil {
		t.Error("completed a packet that was given up on")
	}
}

func TestLimits(t *testing.T) {
	g := newRig(t, Limits{MaxBufs: 6, MaxPackets: 3})
	for id := range uint32(4) { // the oldest makes room
		g.frag(id, 0, seqBytes(8), true)
		g.clk.Advance(time.Second)
	}
	if g.r.Held() != 3 || g.r.Stats().Full != 1 {
		t.Errorf("%d held, %+v", g.r.Held(), g.r.Stats())
	}
	for i := range 4 { // one buffer too many ends its packet
		g.frag(3, 8+8*i, seqBytes(8), true)
	}
	if g.r.Held() != 2 || g.r.Stats().Full != 2 {
		t.Errorf("%d held, %+v", g.r.Held(), g.r.Stats())
	}
	h := newRig(t, Limits{})
	for i := range maxFragments + 1 {
		h.frag(1, 8*i, seqBytes(8), true)
	}
	if h.r.Held() != 0 {
		t.Errorf("%d fragments of one packet held", h.r.Held())
	}
}

// FuzzReassembly compares with a model that is slow and simple: whatever order,
// repetition and overlap, a packet that comes out is the one that was cut up, and
// no buffer leaks.
func FuzzReassembly(f *testing.F) {
	f.Add([]byte{0, 4, 1, 4, 4, 1, 8, 2, 0})
	f.Add([]byte{0, 200, 0, 5, 5, 1, 0, 255, 255})
	f.Fuzz(func(t *testing.T, in []byte) {
		g := newRig(t, Limits{MaxBufs: 40})
		data := seqBytes(2048)
		for len(in) >= 3 {
			off, n, more := int(in[0])*8, int(in[1]), in[2]&1 != 0
			in = in[3:]
			if off+n > len(data) {
				continue
			}
			if got := g.frag(1, off, data[off:off+n], more); got != nil && !bytes.Equal(got, data[:len(got)]) {
				t.Fatalf("packet of %d bytes is not what was sent", len(got))
			}
			if in != nil && len(in) > 0 && in[0] == 99 {
				g.clk.Advance(20 * time.Second)
			}
		}
	})
}

func TestSplitAndSum(t *testing.T) {
	g := newRig(t, Limits{})
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var first, last *pkt.Buf
		var want []byte
		for range 1 + rng.IntN(5) {
			b := g.pool.Get()
			p := b.Append(rng.IntN(200))
			for i := range p {
				p[i] = byte(rng.Uint32())
			}
			want = append(want, p...)
			if first == nil {
				first = b
			} else {
				last.Next = b
			}
			last = b
		}
		from := rng.IntN(first.Len() + 1)
		n := rng.IntN(len(want) - from + 1)
		if got, ref := wire.Fold(SumChain(7, first, from, n)), wire.Fold(wire.Sum(7, want[from:from+n])); got != ref && got%0xffff != ref%0xffff {
			t.Fatalf("sum of chain %#x, want %#x", got, ref)
		}
		var got []byte
		size := 8 * (1 + rng.IntN(30))
		lastMore := true
		ok := Split(first, size, g.pool.Get, func(p *pkt.Buf, off int, more bool) {
			if off != len(got) || off%8 != 0 || p.Len() > size || more == (off+p.Len() == len(want)) {
				t.Fatalf("piece of %d at %d (more %v) of %d", p.Len(), off, more, len(want))
			}
			got, lastMore = append(got, p.Bytes()...), more
			p.Put()
		})
		if !ok || !bytes.Equal(got, want) || lastMore && len(want) > 0 {
			t.Fatalf("split into %d bytes of %d", len(got), len(want))
		}
		first.Put()
	}
	b := g.pool.Get()
	b.Append(64)
	if Split(b, 8, func() *pkt.Buf { return nil }, nil) {
		t.Error("split without buffers")
	}
	b.Put()
}

func TestCut(t *testing.T) {
	g := newRig(t, Limits{})
	mk := func() *pkt.Buf {
		a, b := g.pool.Get(), g.pool.Get()
		a.Append(10)
		b.Append(10)
		a.Next = b
		return a
	}
	for n, want := range map[int][2]int{20: {20, 2}, 15: {15, 2}, 11: {11, 2}, 10: {10, 1}, 3: {3, 1}, 0: {0, 1}, 30: {20, 2}} {
		b := mk()
		Cut(b, n)
		pieces := 1
		if b.Next != nil {
			pieces = 2
		}
		if b.TotalLen() != want[0] || pieces != want[1] {
			t.Errorf("cut to %d: %d bytes in %d pieces", n, b.TotalLen(), pieces)
		}
		b.Put()
	}
}

// RFC 4443 §2.4 (f): a burst, then the rate.
func TestLimiter(t *testing.T) {
	var clk kclock.Fake
	l := NewLimiter(&clk, 10, 5)
	count := func() (n int) {
		for l.Allow() {
			n++
		}
		return n
	}
	if n := count(); n != 5 {
		t.Errorf("burst of %d, want 5", n)
	}
	clk.Advance(time.Second / 10)
	if n := count(); n != 1 {
		t.Errorf("%d after a tenth of a second, want 1", n)
	}
	clk.Advance(time.Hour)
	if n := count(); n != 5 {
		t.Errorf("%d after an hour, want the burst again", n)
	}
}
