package e1000_test

import (
	"bytes"
	"testing"
	"time"

	"osv/kernel/drivers/e1000"
	"osv/kernel/hw/mmio"
	"osv/kernel/irq"
	"osv/kernel/ktest/fakedev"
	"osv/kernel/ktest/fakee1000"
	"osv/kernel/pkt"
)

// rig is a driver on a fake card, with all that they share.
type rig struct {
	t    testing.TB
	mem  *fakedev.Mem
	card *fakee1000.Card
	pool *pkt.Pool
	dev  *e1000.Device
}

type rigOpt struct {
	ext, msix bool
	bufs      int // 0: 1024
	bufSize   int // 0: holds 2048
	pin       bool
	before    func(*fakee1000.Card)
	wrap      func(mmio.Space) mmio.Space
	cfg       e1000.Config
}

func newRig(t testing.TB, o rigOpt) *rig {
	t.Helper()
	r, err := tryRig(t, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

func tryRig(t testing.TB, o rigOpt) (*rig, error) {
	t.Helper()
	if o.bufs == 0 {
		o.bufs = 1024
	}
	if o.bufSize == 0 {
		o.bufSize = e1000.RxBufBytes(2048)
	}
	r := &rig{t: t, mem: &fakedev.Mem{}}
	r.card = fakee1000.New(r.mem, o.ext)
	r.card.MSIX = o.msix
	var err error
	if r.pool, err = pkt.NewPool(r.mem, o.bufs, o.bufSize); err != nil {
		t.Fatal(err)
	}
	var lines []irq.Line
	n := 1
	if o.msix {
		n = 2
	}
	for range n {
		l := &fakedev.Line{}
		r.card.Lines = append(r.card.Lines, l)
		if o.pin {
			lines = append(lines, struct{ irq.Line }{l})
		} else {
			lines = append(lines, l)
		}
	}
	if o.before != nil {
		o.before(r.card)
	}
	o.cfg.RxPool, o.cfg.MSIX = r.pool, o.msix
	o.cfg.Pause = func(time.Duration) {}
	if o.cfg.Model == 0 {
		o.cfg.Model = e1000.Model82540EM
		if o.ext {
			o.cfg.Model = e1000.Model82574L
		}
	}
	regs := r.card.Regs()
	if o.wrap != nil {
		regs = o.wrap(regs)
	}
	r.dev, err = e1000.New(regs, r.mem, lines, o.cfg)
	return r, err
}

// close ends the driver and checks that nothing leaked.
func (r *rig) close() {
	r.t.Helper()
	if err := r.dev.Close(); err != nil {
		r.t.Error(err)
	}
	r.leaks()
}

func (r *rig) leaks() {
	r.t.Helper()
	if n := r.pool.InUse(); n != 0 {
		r.t.Errorf("%d packet buffers leaked", n)
	}
	if n := r.mem.Live(); n != 1 {
		r.t.Errorf("%d DMA regions live, want the pool only", n)
	}
	for _, v := range r.card.Violations {
		r.t.Error("the card was used wrongly: ", v)
	}
}

// frame makes a frame of n bytes to the card that differ by seed.
func frame(n, seed int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + seed)
	}
	copy(b, fakee1000.MAC[:])
	b[12], b[13] = 0x88, 0xB5 // no IP
	return b
}

// bufs makes a frame of pieces of at most size bytes.
func (r *rig) bufs(b []byte, size int) *pkt.Buf {
	r.t.Helper()
	var first, last *pkt.Buf
	for len(b) > 0 {
		p := r.dev.TxBuf(0)
		if p == nil {
			r.t.Fatal("no transmit buffer")
		}
		k := min(size, len(b), p.Tailroom())
		copy(p.Append(k), b)
		b = b[k:]
		if first == nil {
			first = p
		} else {
			last.Next = p
		}
		last = p
	}
	return first
}

func (r *rig) send(b *pkt.Buf) {
	r.t.Helper()
	if r.dev.TxBatch(0, []*pkt.Buf{b}) != 1 {
		r.t.Fatal("a frame is not taken: ", r.dev.Err())
	}
}

func (r *rig) recv(max int) []*pkt.Buf {
	dst := make([]*pkt.Buf, max)
	return dst[:r.dev.RxBatch(0, dst)]
}

// flat is the content of a whole chain.
func flat(b *pkt.Buf) []byte {
	var out []byte
	for ; b != nil; b = b.Next {
		out = append(out, b.Bytes()...)
	}
	return out
}

func (r *rig) want(b *pkt.Buf, want []byte) {
	r.t.Helper()
	if got := flat(b); !bytes.Equal(got, want) {
		r.t.Fatalf("frame of %d bytes differs from the one of %d sent", len(got), len(want))
	}
}

// kinds are the cards and ways of interrupts.
var kinds = []struct {
	name string
	opt  rigOpt
}{
	{"82540EM", rigOpt{}},
	{"82545EM", rigOpt{cfg: e1000.Config{Model: e1000.Model82545EM}}},
	{"82574L", rigOpt{ext: true}},
	{"82574L MSI-X", rigOpt{ext: true, msix: true}},
	{"82574L MSI-X, lines without Wake", rigOpt{ext: true, msix: true, pin: true}},
}
