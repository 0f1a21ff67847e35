package vmxnet3_test

import (
	"bytes"
	"testing"

	"osv/kernel/drivers/vmxnet3"
	"osv/kernel/hw/mmio"
	"osv/kernel/irq"
	"osv/kernel/ktest/fakedev"
	"osv/kernel/ktest/fakevmxnet3"
	"osv/kernel/pkt"
)

// rig is a driver on a fake device, with all that they share.
type rig struct {
	t    testing.TB
	mem  *fakedev.Mem
	card *fakevmxnet3.Card
	pool *pkt.Pool
	dev  *vmxnet3.Device
}

type rigOpt struct {
	msix    int // lines; 0: one, no MSI-X
	bufs    int // 0: 2048
	bufSize int // 0: holds 2048
	pin     bool
	before  func(*fakevmxnet3.Card)
	wrap    func(pt, vd mmio.Space) (mmio.Space, mmio.Space)
	cfg     vmxnet3.Config
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
		o.bufs = 2048
	}
	if o.bufSize == 0 {
		o.bufSize = vmxnet3.RxBufBytes(2048)
	}
	r := &rig{t: t, mem: &fakedev.Mem{}}
	r.card = fakevmxnet3.New(r.mem)
	r.card.MSIX = o.msix > 0
	var err error
	if r.pool, err = pkt.NewPool(r.mem, o.bufs, o.bufSize); err != nil {
		t.Fatal(err)
	}
	var lines []irq.Line
	for range max(o.msix, 1) {
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
	o.cfg.RxPools, o.cfg.MSIX = []*pkt.Pool{r.pool}, o.msix > 0
	pt, vd := r.card.PT(), r.card.VD()
	if o.wrap != nil {
		pt, vd = o.wrap(pt, vd)
	}
	r.dev, err = vmxnet3.New(pt, vd, r.mem, lines, o.cfg)
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
		r.t.Error("the device was used wrongly: ", v)
	}
}

// frame makes a frame of n bytes to the device that differ by seed.
func frame(n, seed int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + seed)
	}
	copy(b, fakevmxnet3.MAC[:])
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

// kinds are the ways of interrupts.
var kinds = []struct {
	name string
	opt  rigOpt
}{
	{"one line", rigOpt{}},
	{"one line, active masking", rigOpt{before: func(c *fakevmxnet3.Card) { c.ActiveMask = true }}},
	{"MSI-X", rigOpt{msix: 3}},
	{"MSI-X, active masking", rigOpt{msix: 3, before: func(c *fakevmxnet3.Card) { c.ActiveMask = true }}},
	{"MSI-X, lines without Wake", rigOpt{msix: 3, pin: true}},
	{"MSI-X, four queues", rigOpt{msix: 6, bufs: 2048}},
	{"doorbells wanted", rigOpt{msix: 3, before: func(c *fakevmxnet3.Card) { c.UpdateRxProd = true }}},
}
