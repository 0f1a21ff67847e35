package virtionet_test

import (
	"bytes"
	"testing"
	"testing/synctest"

	"osv/kernel/drivers/virtionet"
	"osv/kernel/ktest/fakedev"
	"osv/kernel/pkt"
)

// send sends one frame and returns what the card saw of it.
func (r *rig) send(b *pkt.Buf) fakedev.Frame {
	r.t.Helper()
	if n := r.dev.TxBatch(0, []*pkt.Buf{b}); n != 1 {
		r.t.Fatalf("TxBatch took %d", n)
	}
	before := len(r.nic.Sent[0])
	r.nic.Step()
	if len(r.nic.Sent[0]) != before+1 {
		r.t.Fatalf("the card saw %d frames", len(r.nic.Sent[0])-before)
	}
	return r.nic.Sent[0][before]
}

// chain makes a frame of n bytes in buffers of piece bytes.
func (r *rig) chain(data []byte, piece int) *pkt.Buf {
	first := r.buf(0, data[:min(piece, len(data))])
	last := first
	for data = data[first.Len():]; len(data) > 0; data = data[last.Len():] {
		last.Next = r.buf(0, data[:min(piece, len(data))])
		last = last.Next
	}
	return first
}

func TestOffloadFieldsGoOut(t *testing.T) {
	r := newRig(t, rigOpt{features: fakedev.NetAll})
	b := r.buf(0, frame(100, 0))
	b.Flags, b.CsumStart, b.CsumOffset = pkt.CsumPartial, 34, 16
	if got, want := r.send(b).Hdr, (fakedev.NetHdr{Flags: 1, CsumStart: 34, CsumOffs: 16}); got != want {
		t.Errorf("checksum: %+v", got)
	}
	for gso, typ := range map[pkt.GSO]uint8{pkt.GSOTCPv4: 1, pkt.GSOTCPv6: 4} {
		data := frame(65000, 7)
		b = r.chain(data, 1800)
		b.Flags, b.CsumStart, b.CsumOffset = pkt.CsumPartial, 34, 16
		b.GSO, b.GSOSize, b.HdrLen = gso, 1448, 66
		got := r.send(b)
		if want := (fakedev.NetHdr{Flags: 1, GSO: typ, HdrLen: 66, GSOSize: 1448, CsumStart: 34, CsumOffs: 16}); got.Hdr != want {
			t.Errorf("GSO %d: %+v", gso, got.Hdr)
		}
		if !bytes.Equal(got.Data, data) || got.Segs != 37 {
			t.Errorf("frame of %d bytes in %d segments", len(got.Data), got.Segs)
		}
	}
	if s := r.dev.Stats(); s.TxFrames != 3 || s.TxBytes != 130100 || s.TxErrors != 0 {
		t.Errorf("%+v", s)
	}
}

// Frames the device cannot send are dropped and counted, never sent as something
// else and never kept.
func TestFrameTheDeviceCannotSend(t *testing.T) {
	for _, c := range []struct {
		name     string
		features uint64
		make     func(r *rig) *pkt.Buf
	}{
		{"no headroom", fakedev.NetAll, func(r *rig) *pkt.Buf {
			b := r.buf(0, frame(60, 0))
			b.Prepend(b.Head - 11)
			return b
		}},
		{"no headroom in a chain", fakedev.NetAll, func(r *rig) *pkt.Buf {
			b := r.chain(frame(60, 0), 30)
			b.Prepend(b.Head - 11)
			return b
		}},
		{"too many pieces", fakedev.NetAll, func(r *rig) *pkt.Buf { return r.chain(frame(4200, 0), 100) }},
		{"checksum without CSUM", fakedev.NetAll &^ fakedev.NetCsum, func(r *rig) *pkt.Buf {
			b := r.buf(0, frame(60, 0))
			b.Flags = pkt.CsumPartial
			return b
		}},
		{"TSO without TSO", fakedev.NetAll &^ fakedev.NetHostTSO6, func(r *rig) *pkt.Buf {
			b := r.buf(0, frame(60, 0))
			b.Flags, b.GSO, b.GSOSize = pkt.CsumPartial, pkt.GSOTCPv6, 10
			return b
		}},
		{"TSO without checksum", fakedev.NetAll, func(r *rig) *pkt.Buf {
			b := r.buf(0, frame(60, 0))
			b.GSO, b.GSOSize = pkt.GSOTCPv4, 10
			return b
		}},
		{"TSO of size 0", fakedev.NetAll, func(r *rig) *pkt.Buf {
			b := r.buf(0, frame(60, 0))
			b.Flags, b.GSO = pkt.CsumPartial, pkt.GSOTCPv4
			return b
		}},
		{"UDP segmentation", fakedev.NetAll, func(r *rig) *pkt.Buf {
			b := r.buf(0, frame(60, 0))
			b.Flags, b.GSO, b.GSOSize = pkt.CsumPartial, pkt.GSOUDP, 10
			return b
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, rigOpt{features: c.features})
			out := r.pool.InUse()
			if n := r.dev.TxBatch(0, []*pkt.Buf{c.make(r), r.buf(0, frame(70, 1))}); n != 2 {
				t.Errorf("TxBatch took %d of 2", n)
			}
			r.nic.Step()
			if len(r.nic.Sent[0]) != 1 || len(r.nic.Sent[0][0].Data) != 70 {
				t.Errorf("the card saw %+v", r.nic.Sent[0])
			}
			if s := r.dev.Stats(); s.TxErrors != 1 || s.TxFrames != 1 {
				t.Errorf("%+v", s)
			}
			if n := r.pool.InUse() - out; n != 1 {
				t.Errorf("%d buffers are out, want the one sent", n)
			}
		})
	}
}

func TestFullRingTakesWhatFits(t *testing.T) {
	r := newRig(t, rigOpt{features: fakedev.NetAll, ring: 16})
	var in []*pkt.Buf
	for range 20 {
		in = append(in, r.buf(0, frame(60, 0)))
	}
	if n := r.dev.TxBatch(0, in); n != 16 {
		t.Fatalf("took %d of 20 in a ring of 16", n)
	}
	if n := r.dev.TxBatch(0, in[16:]); n != 0 {
		t.Fatalf("took %d in a full ring", n)
	}
	r.nic.Step()
	if n := r.dev.TxBatch(0, in[16:]); n != 4 {
		t.Fatalf("took %d of 4 after the ring was emptied", n)
	}
	r.nic.Step()
	if len(r.nic.Sent[0]) != 20 || r.dev.Stats().TxFull != 2 {
		t.Errorf("the card saw %d, %+v", len(r.nic.Sent[0]), r.dev.Stats())
	}
}

// A chain that does not fit stays the caller's, whole.
func TestFullRingRefusesAChain(t *testing.T) {
	r := newRig(t, rigOpt{features: fakedev.NetAll, ring: 16})
	for range 14 {
		r.dev.TxBatch(0, []*pkt.Buf{r.buf(0, frame(60, 0))})
	}
	c := r.chain(frame(300, 0), 100)
	if n := r.dev.TxBatch(0, []*pkt.Buf{c}); n != 0 {
		t.Fatal("3 pieces fit 2 descriptors")
	}
	if c.TotalLen() != 300 {
		t.Error("the chain was changed")
	}
	r.nic.Step()
	if got := r.send(c); len(got.Data) != 300 {
		t.Errorf("%d bytes", len(got.Data))
	}
}

// A pool that is smaller than half the ring does not run dry for good.
func TestTxBufTakesSentBuffersBack(t *testing.T) {
	r := newRig(t, rigOpt{features: fakedev.NetAll, ring: 64, bufs: 64 + 10})
	for i := range 100 {
		b := r.dev.TxBuf(0)
		if b == nil {
			t.Fatalf("no buffer for frame %d though all before were sent", i)
		}
		b.Append(60)
		r.dev.TxBatch(0, []*pkt.Buf{b})
		r.nic.Step()
	}
	r.nic.HoldTx = true
	for range 10 {
		r.dev.TxBatch(0, []*pkt.Buf{r.buf(0, frame(60, 0))})
	}
	if r.dev.TxBuf(0) != nil {
		t.Error("a buffer that the device has is given away")
	}
}

// A sender that found the ring full gets one interrupt once it is mostly empty:
// RxWait of its pair returns.
func TestRoomAfterFullWakesTheReceiveLoop(t *testing.T) {
	for _, lines := range []int{0, 2} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, rigOpt{features: fakedev.NetAll, ring: 16, lines: lines})
			r.nic.HoldTx = true
			in := make([]*pkt.Buf, 17)
			for i := range in {
				in[i] = r.buf(0, frame(60, 0))
			}
			if n := r.dev.TxBatch(0, in); n != 16 {
				t.Fatal(n)
			}
			r.nic.Step()
			ret := make(chan error, 1)
			go func() { ret <- r.dev.RxWait(0) }()
			synctest.Wait()
			r.nic.ReleaseTx(0, 11)
			synctest.Wait()
			if len(ret) != 0 {
				t.Error("woken before three quarters are done")
			}
			r.nic.ReleaseTx(0, 1)
			synctest.Wait()
			if len(ret) != 1 {
				t.Fatal("not woken though there is room")
			}
			<-ret
			if n := r.dev.TxBatch(0, in[16:]); n != 1 {
				t.Error("no room after all")
			}
			r.nic.ReleaseTx(0, 16)
		})
	}
}

// Config.TxInterrupt: sent buffers come back though nobody sends or receives.
func TestTxInterruptReturnsBuffers(t *testing.T) {
	for _, on := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, rigOpt{features: fakedev.NetAll, lines: 2, cfg: virtionet.Config{TxInterrupt: on}})
			idle := r.pool.InUse()
			for range 3 {
				r.dev.TxBatch(0, []*pkt.Buf{r.buf(0, frame(60, 0))})
			}
			ret := make(chan error, 1)
			go func() { ret <- r.dev.RxWait(0) }()
			synctest.Wait()
			r.nic.Step()
			synctest.Wait()
			if woken := len(ret) == 1; woken != on {
				t.Errorf("TxInterrupt %v: woken %v", on, woken)
			}
			if back := r.pool.InUse() == idle; back != on {
				t.Errorf("TxInterrupt %v: buffers back: %v", on, back)
			}
			if !on { // they come back with the next sleep
				r.dev.RxWake(0)
				<-ret
				go func() { ret <- r.dev.RxWait(0) }()
				synctest.Wait()
				if r.pool.InUse() != idle {
					t.Error("buffers are not back after RxWait")
				}
				r.dev.RxWake(0)
			}
			<-ret
		})
	}
}

func TestClosedLink(t *testing.T) {
	r := newRig(t, rigOpt{features: fakedev.NetAll})
	b := r.buf(0, frame(60, 0))
	r.dev.TxBatch(0, []*pkt.Buf{r.buf(0, frame(60, 0))})
	if err := r.dev.Close(); err != nil {
		t.Fatal(err)
	}
	if n := r.dev.TxBatch(0, []*pkt.Buf{b}); n != 0 {
		t.Error("a closed link takes frames")
	}
	if n := len(r.recv(0, 4)); n != 0 {
		t.Error("a closed link gives frames")
	}
	if r.dev.LinkUp() {
		t.Error("a closed link is up")
	}
	if err := r.dev.SetPromiscuous(true); err == nil {
		t.Error("a closed link takes commands")
	}
	if err := r.dev.Close(); err != nil {
		t.Error("second Close:", err)
	}
	b.Put()
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	r := newRig(t, rigOpt{features: fakedev.NetAll, lines: 2})
	var tx, rx [16]*pkt.Buf
	r.nic.RxQueue(0).Answer = oneBuffer
	n := testing.AllocsPerRun(500, func() {
		for i := range tx {
			tx[i] = r.dev.TxBuf(0)
			tx[i].Append(60)
		}
		tx[3].Next, tx[15] = tx[15], r.dev.TxBuf(0)
		tx[15].Append(10)
		tx[5].Flags, tx[5].CsumStart = pkt.CsumPartial, 34
		if r.dev.TxBatch(0, tx[:]) != len(tx) {
			t.Fatal("TxBatch")
		}
		r.nic.TxQueue(0).Complete(len(tx), 0)
		r.nic.RxQueue(0).Complete(len(rx), 12+60)
		if err := r.dev.RxWait(0); err != nil {
			t.Fatal(err)
		}
		if k := r.dev.RxBatch(0, rx[:]); k != len(rx) {
			t.Fatalf("RxBatch %d %v", k, r.dev.Err())
		}
		pkt.PutBatch(rx[:])
	})
	if n != 0 {
		t.Errorf("%v allocations for 16 frames each way", n)
	}
}
