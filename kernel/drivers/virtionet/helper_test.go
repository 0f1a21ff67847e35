package virtionet_test

import (
	"bytes"
	"fmt"
	"testing"

	"osv/kernel/drivers/virtio"
	"osv/kernel/drivers/virtionet"
	"osv/kernel/irq"
	"osv/kernel/ktest/fakedev"
	"osv/kernel/pkt"
)

// rig is a driver on a fake card, with all that they share.
type rig struct {
	t    testing.TB
	mem  *fakedev.Mem
	nic  *fakedev.NIC
	pool *pkt.Pool
	dev  *virtionet.Device
	pins []*fakedev.Line
}

type rigOpt struct {
	features uint64
	pairs    int // of the card
	lines    int // 0: one, no MSI-X
	ring     int
	bufs     int // 0: 1024
	bufSize  int // 0: 2048
	front    string
	pin      bool // lines cannot be woken
	before   func(*fakedev.NIC)
	cfg      virtionet.Config
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
	if o.ring == 0 {
		o.ring = 256
	}
	if o.pairs == 0 {
		o.pairs = 1
	}
	if o.bufs == 0 {
		o.bufs = 1024
	}
	if o.bufSize == 0 {
		o.bufSize = 2048
	}
	r := &rig{t: t, mem: &fakedev.Mem{}}
	r.nic = fakedev.NewNIC(r.mem, o.features, o.pairs, o.ring)
	var err error
	if r.pool, err = pkt.NewPool(r.mem, o.bufs, o.bufSize); err != nil {
		t.Fatal(err)
	}
	r.nic.MSIX = o.lines > 0
	var lines []irq.Line
	for range max(o.lines, 1) {
		l := &fakedev.Line{}
		r.pins = append(r.pins, l)
		if o.pin {
			lines = append(lines, struct{ irq.Line }{l})
		} else {
			lines = append(lines, l)
		}
		r.nic.Lines = append(r.nic.Lines, l)
	}
	if o.before != nil {
		o.before(r.nic)
	}
	o.cfg.RxPools = []*pkt.Pool{r.pool}
	r.dev, err = virtionet.New(transport(t, r.nic, o.front), r.mem, lines, o.cfg)
	if err != nil {
		if n := r.pool.InUse(); n != 0 {
			t.Errorf("after a failed New, %d buffers are out", n)
		}
		if n := r.mem.Live(); n != 1 { // the pool's
			t.Errorf("after a failed New, %d regions are live", n)
		}
	}
	return r, err
}

// transport shows the card to the driver by the front named.
func transport(t testing.TB, nic *fakedev.NIC, front string) virtio.Transport {
	t.Helper()
	switch front {
	case "", "pci":
		f := nic.PCI()
		tr, err := virtio.NewPCI(virtio.DeviceID(nic.ID), virtio.PCIWindows{Common: f.Common, Notify: f.Notify,
			NotifyMultiplier: f.NotifyMultiplier, ISR: f.ISR, Device: f.Config}, nic.MSIX)
		if err != nil {
			t.Fatal(err)
		}
		return tr
	case "pci-legacy":
		tr, err := virtio.NewLegacyPCI(virtio.DeviceID(nic.ID), nic.LegacyPCI(), nic.MSIX)
		if err != nil {
			t.Fatal(err)
		}
		return tr
	case "mmio", "mmio-legacy":
		tr, err := virtio.NewMMIO(nic.MMIO(map[string]int{"mmio": 2, "mmio-legacy": 1}[front]))
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	t.Fatalf("no front %q", front)
	return nil
}

// close ends the driver and checks that nothing leaked.
func (r *rig) close() {
	r.t.Helper()
	if err := r.dev.Close(); err != nil {
		r.t.Error(err)
	}
	if n := r.pool.InUse(); n != 0 {
		r.t.Errorf("%d packet buffers leaked", n)
	}
	if n := r.mem.Live(); n != 1 {
		r.t.Errorf("%d DMA regions live after Close, want the pool only", n)
	}
}

// frame makes a frame of n bytes that differ by seed.
func frame(n, seed int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + seed)
	}
	return b
}

// buf makes a transmit buffer with b in it.
func (r *rig) buf(q int, b []byte) *pkt.Buf {
	r.t.Helper()
	p := r.dev.TxBuf(q)
	if p == nil {
		r.t.Fatal("no transmit buffer")
	}
	copy(p.Append(len(b)), b)
	return p
}

// oneBuffer is what a card writes into a receive buffer's header, for
// fakedev.Queue.Answer: num_buffers is 1.
func oneBuffer(hdr, _ []byte) { copy(hdr, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0}) }

// recv receives up to max frames of queue q.
func (r *rig) recv(q, max int) []*pkt.Buf {
	dst := make([]*pkt.Buf, max)
	return dst[:r.dev.RxBatch(q, dst)]
}

// flat is the content of a whole chain.
func flat(b *pkt.Buf) []byte {
	var out []byte
	for ; b != nil; b = b.Next {
		out = append(out, b.Bytes()...)
	}
	return out
}

func (r *rig) wantFrame(b *pkt.Buf, want []byte) {
	r.t.Helper()
	if got := flat(b); !bytes.Equal(got, want) {
		r.t.Fatalf("frame of %d bytes differs from the one of %d sent: %s", len(got), len(want), diff(got, want))
	}
}

func diff(a, b []byte) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("at %d: %#x, want %#x", i, a[i], b[i])
		}
	}
	return "in length only"
}
