package loopback

import (
	"errors"
	"testing"

	"osv/kernel/hw/dma"
	"osv/kernel/pkt"
)

func TestFramesComeBack(t *testing.T) {
	var mem dma.Host
	l, err := New(&mem, 4, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if c := l.Caps(); c.MTU != 1000 || !c.TxCsum || !c.RxCsum || l.Name() != "lo" || !l.LinkUp() {
		t.Errorf("%+v", c)
	}
	var out []*pkt.Buf
	for range 4 {
		b := l.TxBuf(0)
		b.Append(100)
		b.Flags = pkt.CsumPartial
		out = append(out, b)
	}
	if l.TxBuf(0) != nil {
		t.Error("a fifth buffer of four")
	}
	if n := l.TxBatch(0, out[:3]); n != 3 {
		t.Fatalf("%d taken", n)
	}
	if err := l.RxWait(0); err != nil {
		t.Fatal(err)
	}
	var in [8]*pkt.Buf
	if n := l.RxBatch(0, in[:]); n != 3 || in[0] != out[0] || in[2] != out[2] || in[0].Flags != pkt.CsumPartial {
		t.Fatalf("%d received", n)
	}
	if s := l.Stats(); s.TxFrames != 3 || s.RxFrames != 3 || s.TxBytes != 300 || s.TxFull != 0 {
		t.Errorf("%+v", s)
	}
	l.RxWake(0)
	if err := l.RxWait(0); err != nil {
		t.Error(err)
	}
	l.TxBatch(0, out[3:])
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	l.Close()
	if err := l.RxWait(0); !errors.Is(err, ErrClosed) || l.RxBatch(0, in[:]) != 0 || l.LinkUp() {
		t.Errorf("after Close: %v", err)
	}
	if err := l.Release(); err == nil {
		t.Error("three frames are out, and nobody complains")
	}
	for _, b := range in[:3] {
		b.Put()
	}
	if err := l.Release(); err != nil || l.InUse() != 0 || mem.Live() != 0 {
		t.Errorf("%v, %d in use, %d regions", err, l.InUse(), mem.Live())
	}
}

func TestFullRing(t *testing.T) {
	var mem dma.Host
	l, err := New(&mem, 3, 1000) // the ring holds 4
	if err != nil {
		t.Fatal(err)
	}
	p, err := pkt.NewPool(&mem, 6, 256)
	if err != nil {
		t.Fatal(err)
	}
	var out []*pkt.Buf
	for range 6 {
		b := p.Get()
		b.Append(10)
		out = append(out, b)
	}
	if n := l.TxBatch(0, out); n != 4 {
		t.Fatalf("%d taken, want 4", n)
	}
	if s := l.Stats(); s.TxFull != 1 || s.TxBytes != 40 {
		t.Errorf("%+v", s)
	}
	for _, b := range out[4:] {
		b.Put()
	}
	if err := l.Release(); err != nil || p.InUse() != 0 {
		t.Errorf("%v, %d in use", err, p.InUse())
	}
}

func TestNoMemory(t *testing.T) {
	if _, err := New(&dma.Host{}, 0, 1000); err == nil {
		t.Error("0 buffers accepted")
	}
}
