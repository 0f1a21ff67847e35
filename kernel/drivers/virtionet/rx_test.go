package virtionet_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"osv/kernel/drivers/virtionet"
	"osv/kernel/ktest/fakedev"
	"osv/kernel/pkt"
)

// §5.1.6.4: a frame over several buffers comes up as one chain.
func TestMergeableFrameIsOneChain(t *testing.T) {
	for _, split := range []bool{false, true} {
		r := newRig(t, rigOpt{features: fakedev.NetAll})
		r.nic.SplitFlush = split // the used index moves buffer by buffer
		want := frame(9000, 3)
		r.nic.Deliver(0, fakedev.Frame{Data: want})
		var got []*pkt.Buf
		for len(got) == 0 && r.nic.Step() > 0 {
			got = r.recv(0, 4)
		}
		if len(got) != 1 {
			t.Fatalf("%d frames", len(got))
		}
		r.wantFrame(got[0], want)
		if got[0].Next == nil || got[0].TotalLen() != 9000 {
			t.Error("not a chain")
		}
		got[0].Put()
		if s := r.dev.Stats(); s.RxFrames != 1 || s.RxBytes != 9000 {
			t.Errorf("%+v", s)
		}
	}
}

// A driver closed in the middle of a frame gives its first buffers back too.
func TestCloseInTheMiddleOfAFrame(t *testing.T) {
	r := newRig(t, rigOpt{features: fakedev.NetAll})
	r.nic.SplitFlush = true
	r.nic.Deliver(0, fakedev.Frame{Data: frame(9000, 0)})
	r.nic.Step()
	if got := r.recv(0, 4); len(got) != 0 {
		t.Errorf("%d frames though buffers are missing", len(got))
	}
}

func TestOffloadFieldsComeUp(t *testing.T) {
	for _, c := range []struct {
		name    string
		hdr     fakedev.NetHdr
		lro     bool
		without uint64
		want    pkt.Buf // offload fields
		drop    bool
	}{
		{name: "plain"},
		{name: "DATA_VALID", hdr: fakedev.NetHdr{Flags: 2}, want: pkt.Buf{Flags: pkt.CsumValid}},
		{name: "NEEDS_CSUM", hdr: fakedev.NetHdr{Flags: 1, CsumStart: 34, CsumOffs: 16},
			want: pkt.Buf{Flags: pkt.CsumPartial, CsumStart: 34, CsumOffset: 16}},
		{name: "NEEDS_CSUM beyond the frame", hdr: fakedev.NetHdr{Flags: 1, CsumStart: 190, CsumOffs: 9}, drop: true},
		{name: "NEEDS_CSUM overflow", hdr: fakedev.NetHdr{Flags: 1, CsumStart: 0xffff, CsumOffs: 0xffff}, drop: true},
		{name: "TCPv4", lro: true, hdr: fakedev.NetHdr{Flags: 1, GSO: 1, CsumStart: 34, CsumOffs: 16, HdrLen: 54, GSOSize: 72},
			want: pkt.Buf{Flags: pkt.CsumPartial, CsumStart: 34, CsumOffset: 16, GSO: pkt.GSOTCPv4, HdrLen: 54, GSOSize: 72}},
		{name: "TCPv6 with ECN", lro: true, hdr: fakedev.NetHdr{Flags: 2, GSO: 0x84, GSOSize: 64},
			want: pkt.Buf{Flags: pkt.CsumValid, GSO: pkt.GSOTCPv6, GSOSize: 64}},
		{name: "one segment", lro: true, hdr: fakedev.NetHdr{Flags: 1, GSO: 1, CsumStart: 34, CsumOffs: 16, HdrLen: 54, GSOSize: 1448},
			want: pkt.Buf{Flags: pkt.CsumPartial, CsumStart: 34, CsumOffset: 16}},
		{name: "segment size 0", lro: true, hdr: fakedev.NetHdr{Flags: 1, GSO: 1, CsumStart: 34, CsumOffs: 16}, drop: true},
		{name: "unknown type", lro: true, hdr: fakedev.NetHdr{Flags: 1, GSO: 3, GSOSize: 100}, drop: true},
		{name: "ECN of no type", lro: true, hdr: fakedev.NetHdr{Flags: 1, GSO: 0x80, GSOSize: 100}, drop: true},
		{name: "NEEDS_CSUM of merged segments beyond the frame", lro: true, hdr: fakedev.NetHdr{Flags: 1, GSO: 1, CsumStart: 199, CsumOffs: 0, GSOSize: 72}, drop: true},
		{name: "not agreed on", hdr: fakedev.NetHdr{Flags: 1, GSO: 1, GSOSize: 100}, drop: true},
		{name: "IPv6 not agreed on", lro: true, without: fakedev.NetGuestTSO6, hdr: fakedev.NetHdr{Flags: 1, GSO: 4, GSOSize: 72}, drop: true},
		{name: "ECN not agreed on", lro: true, without: fakedev.NetGuestECN, hdr: fakedev.NetHdr{Flags: 1, GSO: 0x81, GSOSize: 72}, drop: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, rigOpt{features: fakedev.NetAll &^ c.without, cfg: virtionet.Config{LRO: c.lro}})
			r.nic.Deliver(0, fakedev.Frame{Hdr: c.hdr, Data: frame(200, 0)})
			r.nic.Step()
			got := r.recv(0, 1)
			if c.drop {
				if len(got) != 0 || r.dev.Stats().RxErrors != 1 {
					t.Fatalf("%d frames, %+v", len(got), r.dev.Stats())
				}
				return
			}
			if len(got) != 1 {
				t.Fatalf("%d frames", len(got))
			}
			b := got[0]
			defer b.Put()
			g := pkt.Buf{Flags: b.Flags, GSO: b.GSO, GSOSize: b.GSOSize, HdrLen: b.HdrLen, CsumStart: b.CsumStart, CsumOffset: b.CsumOffset}
			if g.Flags != c.want.Flags || g.GSO != c.want.GSO || g.GSOSize != c.want.GSOSize || g.HdrLen != c.want.HdrLen ||
				g.CsumStart != c.want.CsumStart || g.CsumOffset != c.want.CsumOffset {
				t.Errorf("got %+v\nwant %+v", g, c.want)
			}
		})
	}
}

// A frame that is no frame is dropped and counted; the next one comes up.
func TestBadFrameIsDropped(t *testing.T) {
	for _, c := range []struct {
		name string
		lie  func(*fakedev.NIC)
		size int
	}{
		{"used length below the header's", func(n *fakedev.NIC) { n.ShortFrame = true }, 60},
		{"used length below the header's, garbage in it", func(n *fakedev.NIC) { n.ShortFrame, n.BadNum = true, 5 }, 60},
		{"no buffers", func(n *fakedev.NIC) { n.BadNum = -1 }, 60},
		{"shorter than an Ethernet header", func(*fakedev.NIC) {}, 13},
		{"empty", func(*fakedev.NIC) {}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, rigOpt{features: fakedev.NetAll})
			c.lie(r.nic)
			r.nic.Deliver(0, fakedev.Frame{Data: frame(c.size, 0)})
			r.nic.Deliver(0, fakedev.Frame{Data: frame(99, 1)})
			r.nic.Step()
			got := r.recv(0, 4)
			if len(got) != 1 {
				t.Fatalf("%d frames", len(got))
			}
			r.wantFrame(got[0], frame(99, 1))
			got[0].Put()
			if s := r.dev.Stats(); s.RxErrors != 1 || s.RxFrames != 1 || r.dev.Err() != nil {
				t.Errorf("%+v, %v", s, r.dev.Err())
			}
		})
	}
}

// A device that breaks the rings is given up, with the reason, and everybody who
// waits is told.
func TestRingLiesStopTheLink(t *testing.T) {
	for _, c := range []struct {
		name string
		lie  func(*rig)
		want string
	}{
		{"too many buffers", func(r *rig) { r.nic.BadNum = 999; r.deliver() }, "virtio-net: queue 0: frame in 999 buffers of a ring of 256"},
		{"too long", func(r *rig) { r.nic.LongFrame = true; r.deliver() }, "virtio-net: queue 0: descriptor 0: device says it wrote 2011 bytes into 2010"},
		{"unknown id", func(r *rig) { r.nic.RxQueue(0).PushRaw(300, 60); r.nic.RxQueue(0).Flush() }, "virtio-net: queue 0: used ring slot 0 names descriptor 300 of 256"},
		{"used index", func(r *rig) { r.nic.RxQueue(0).SkipUsed(1000); r.nic.RxQueue(0).Flush() }, "virtio-net: queue 0: used index went from 0 to 1000 with 256 buffers outstanding"},
		{"transmit id", func(r *rig) {
			r.nic.TxQueue(0).PushRaw(300, 0)
			r.nic.TxQueue(0).Flush()
			for range 200 { // until the driver takes sent frames back
				if b := r.buf(0, frame(60, 0)); r.dev.TxBatch(0, []*pkt.Buf{b}) == 0 {
					b.Put()
				}
			}
		}, "virtio-net: queue 1: used ring slot 0 names descriptor 300 of 256"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, rigOpt{features: fakedev.NetAll, lines: 2})
			c.lie(r)
			if got := r.recv(0, 4); len(got) != 0 {
				t.Errorf("%d frames", len(got))
			}
			if err := r.dev.Err(); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Fatalf("Err: %v\nwant %q", err, c.want)
			}
			if err := r.dev.RxWait(0); err != r.dev.Err() {
				t.Errorf("RxWait: %v", err)
			}
			if r.dev.LinkUp() {
				t.Error("the link is up")
			}
		})
	}
}

func (r *rig) deliver() {
	r.nic.Deliver(0, fakedev.Frame{Data: frame(60, 0)})
	r.nic.Step()
}

func TestNeedsResetWakesAllWaiters(t *testing.T) {
	for _, lines := range []int{0, 3} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, rigOpt{features: fakedev.NetAll, pairs: 2, lines: lines, cfg: virtionet.Config{Pairs: 2}})
			errs := make(chan error, 2)
			for q := range 2 {
				go func() {
					for {
						if err := r.dev.RxWait(q); err != nil {
							errs <- err
							return
						}
					}
				}()
			}
			synctest.Wait()
			r.nic.NeedsReset()
			for range 2 {
				if err := <-errs; !strings.Contains(err.Error(), "device needs a reset") {
					t.Error(err)
				}
			}
		})
	}
}

// The pool is empty: drops are counted, and once there are buffers again the ring
// is filled, without any interrupt from the device.
func TestPoolRunsDry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOpt{features: fakedev.NetAll, ring: 8, bufs: 8, lines: 2})
		for range 8 {
			r.nic.Deliver(0, fakedev.Frame{Data: frame(60, 0)})
		}
		r.nic.Step()
		kept := r.recv(0, 8)
		if len(kept) != 8 || r.dev.Stats().RxNoBuf == 0 {
			t.Fatalf("%d frames, %+v", len(kept), r.dev.Stats())
		}
		ret := make(chan error, 1)
		go func() { ret <- r.dev.RxWait(0) }()
		synctest.Wait()
		pkt.PutBatch(kept)
		time.Sleep(2 * time.Millisecond) // the bubble's time: the driver tries again
		if err := <-ret; err != nil {
			t.Fatal(err)
		}
		go func() { ret <- r.dev.RxWait(0) }()
		synctest.Wait()
		r.deliver()
		if err := <-ret; err != nil {
			t.Fatal(err)
		}
		got := r.recv(0, 8)
		if len(got) != 1 {
			t.Fatalf("%d frames after the drought", len(got))
		}
		got[0].Put()
	})
}

// Without the event index the device is told by a flag.
func TestWaitOnEachKindOfLine(t *testing.T) {
	for _, c := range []struct {
		name string
		o    rigOpt
	}{
		{"own line", rigOpt{features: fakedev.NetAll, lines: 2}},
		{"own line, no event index", rigOpt{features: fakedev.NetAll, lines: 2, cfg: virtionet.Config{NoEventIdx: true}}},
		{"own line that cannot be woken", rigOpt{features: fakedev.NetAll, lines: 2, pin: true}},
		{"one pin", rigOpt{features: fakedev.NetAll, pin: true}},
		{"one pin, no event index", rigOpt{features: fakedev.NetAll &^ fakedev.FeatureEventIdx, pin: true}},
		{"one vector", rigOpt{features: fakedev.NetAll, lines: 1}},
		{"mmio", rigOpt{features: fakedev.NetAll, front: "mmio"}},
		{"mmio-legacy", rigOpt{features: fakedev.NetAll, front: "mmio-legacy"}},
		{"pci-legacy", rigOpt{features: fakedev.NetAll, front: "pci-legacy"}},
		{"pci-legacy msix", rigOpt{features: fakedev.NetAll, front: "pci-legacy", lines: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, c.o)
				ret := make(chan error, 1)
				blocked := func() {
					t.Helper()
					go func() { ret <- r.dev.RxWait(0) }()
					synctest.Wait()
					if len(ret) != 0 {
						t.Fatalf("RxWait returned though nothing happened: %v", <-ret)
					}
				}
				returned := func() {
					t.Helper()
					synctest.Wait()
					select {
					case err := <-ret:
						if err != nil {
							t.Fatal(err)
						}
					default:
						t.Fatal("RxWait still blocks")
					}
				}
				for i := range 3 {
					blocked()
					r.nic.Deliver(0, fakedev.Frame{Data: frame(60, i)})
					r.nic.Step()
					returned()
					got := r.recv(0, 4)
					if len(got) != 1 {
						t.Fatalf("%d frames", len(got))
					}
					r.wantFrame(got[0], frame(60, i))
					got[0].Put()
				}
				blocked()
				r.dev.RxWake(0)
				returned()
				r.dev.RxWake(0) // before the wait
				if err := r.dev.RxWait(0); err != nil {
					t.Fatal(err)
				}
				r.deliver() // before the wait
				if err := r.dev.RxWait(0); err != nil {
					t.Fatal(err)
				}
				pkt.PutBatch(r.recv(0, 4))
				if s := r.dev.Stats(); s.RxIRQs == 0 || s.RxErrors != 0 {
					t.Errorf("%+v", s)
				}
				// The interrupt of the last frame may still be pending.
				for stray := true; stray; {
					go func() { ret <- r.dev.RxWait(0) }()
					synctest.Wait()
					if stray = len(ret) > 0; stray {
						<-ret
					}
				}
				if err := r.dev.Close(); err != nil {
					t.Fatal(err)
				}
				if err := <-ret; err == nil {
					t.Error("RxWait on a closed link returns nil")
				}
				if err := r.dev.RxWait(0); err == nil {
					t.Error("RxWait on a closed link returns nil")
				}
			})
		})
	}
}

// A line that somebody else closes is not mistaken for silence.
func TestLineClosedFromOutside(t *testing.T) {
	for _, lines := range []int{0, 2} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, rigOpt{features: fakedev.NetAll, lines: lines})
			ret := make(chan error, 1)
			go func() { ret <- r.dev.RxWait(0) }()
			synctest.Wait()
			r.pins[len(r.pins)-1].Close()
			if err := <-ret; err == nil || !strings.Contains(err.Error(), "line was closed") {
				t.Error(err)
			}
		})
	}
}

func TestLinkChange(t *testing.T) {
	for _, lines := range []int{0, 1, 2} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, rigOpt{features: fakedev.NetAll, lines: lines})
			told := true
			r.dev.OnCarrier(func(up bool) { told = up })
			for _, up := range []bool{true, false, true} {
				r.nic.SetLink(up)
				synctest.Wait()
				if lines != 1 && told != up { // with one for all, who asks is told
					t.Errorf("%d lines: told that link is %v, want %v", lines, told, up)
				}
				if r.dev.LinkUp() != up {
					t.Errorf("%d lines: link is %v, want %v", lines, !up, up)
				}
			}
		})
	}
}
