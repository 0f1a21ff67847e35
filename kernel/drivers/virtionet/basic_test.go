package virtionet_test

import (
	"testing"

	"osv/kernel/ktest/fakedev"
	"osv/kernel/pkt"
)

func TestFrameGoesOutWithOneDescriptorAndOneDoorbell(t *testing.T) {
	r := newRig(t, rigOpt{features: fakedev.NetAll})
	before := r.nic.TxQueue(0).Notified()
	in := []*pkt.Buf{r.buf(0, frame(60, 1)), r.buf(0, frame(1514, 2))}
	if n := r.dev.TxBatch(0, in); n != 2 {
		t.Fatalf("TxBatch took %d of 2", n)
	}
	if n := r.nic.TxQueue(0).Notified() - before; n != 1 {
		t.Errorf("%d doorbells for one batch", n)
	}
	r.nic.Step()
	sent := r.nic.Sent[0]
	if len(sent) != 2 || len(sent[0].Data) != 60 || len(sent[1].Data) != 1514 || sent[0].Segs != 1 {
		t.Fatalf("card saw %d frames: %+v", len(sent), sent)
	}
	if d := diff(sent[1].Data, frame(1514, 2)); d != "in length only" {
		t.Error(d)
	}
	if sent[0].Hdr != (fakedev.NetHdr{}) {
		t.Errorf("header of a plain frame: %+v", sent[0].Hdr)
	}
	s := r.dev.Stats()
	if s.TxFrames != 2 || s.TxBytes != 1574 {
		t.Errorf("stats: %+v", s)
	}
}

func TestFrameComesIn(t *testing.T) {
	r := newRig(t, rigOpt{features: fakedev.NetAll})
	for i, n := range []int{14, 60, 1514} {
		r.nic.Deliver(0, fakedev.Frame{Data: frame(n, i)})
	}
	r.nic.Step()
	got := r.recv(0, 8)
	if len(got) != 3 {
		t.Fatalf("%d frames received, want 3", len(got))
	}
	for i, n := range []int{14, 60, 1514} {
		r.wantFrame(got[i], frame(n, i))
		if (got[i].Mem.Bus+14+12)%2 != 0 || got[i].Headroom() < 12 {
			t.Errorf("headroom %d", got[i].Headroom())
		}
		got[i].Put()
	}
	if s := r.dev.Stats(); s.RxFrames != 3 || s.RxBytes != 1588 || s.RxErrors != 0 {
		t.Errorf("stats: %+v", s)
	}
}

func TestWaitReturnsForFrameWakeAndClose(t *testing.T) {
	for _, lines := range []int{0, 1, 2} {
		r := newRig(t, rigOpt{features: fakedev.NetAll, lines: lines})
		ret := make(chan error)
		wait := func() { ret <- r.dev.RxWait(0) }

		go wait()
		r.nic.Deliver(0, fakedev.Frame{Data: frame(60, 0)})
		r.nic.Step()
		if err := <-ret; err != nil {
			t.Fatal(err)
		}
		got := r.recv(0, 1)
		if len(got) != 1 {
			t.Fatal("woken without a frame")
		}
		got[0].Put()
		go wait()
		r.dev.RxWake(0)
		if err := <-ret; err != nil {
			t.Fatal(err)
		}
		go wait()
		go r.dev.Close()
		for err := error(nil); err == nil; {
			if err = <-ret; err == nil {
				go wait()
			}
		}
	}
}
