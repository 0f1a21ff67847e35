package virtionet_test

import (
	"testing"
	"testing/synctest"
	"time"

	"osv/kernel/drivers/virtionet"
	"osv/kernel/ktest/fakedev"
	"osv/kernel/pkt"
)

// merged is the header of a frame of TCPv4 segments of 1448 bytes.
var merged = fakedev.NetHdr{Flags: 1, GSO: 1, HdrLen: 66, GSOSize: 1448, CsumStart: 34, CsumOffs: 16}

// ipMax is a frame of the largest IPv4 packet.
const ipMax = 14 + 65535

// Merged segments of up to 64 KiB come up as one chain with what the device says
// of them, through rings that such a frame nearly fills, in buffers of each size.
func TestMergedSegmentsComeUp(t *testing.T) {
	for _, c := range []struct {
		ring, bufSize int
		split         bool
	}{{256, 2048, false}, {64, 2048, false}, {64, 2048, true}, {32, 4224, false}, {256, 4224, true}, {8, 16512, false}} {
		r := newRig(t, rigOpt{features: fakedev.NetAll, ring: c.ring, bufSize: c.bufSize, cfg: virtionet.Config{LRO: true}})
		r.nic.SplitFlush = c.split
		sizes := []int{1514, ipMax, 60, 9000, ipMax, 2 * (c.bufSize - 50), 2*(c.bufSize-50) - 12, 2*(c.bufSize-50) - 13, 30000}
		for i, n := range sizes {
			f := fakedev.Frame{Data: frame(n, i)}
			if n > 1514 {
				f.Hdr = merged
			}
			r.nic.Deliver(0, f)
		}
		for i, n := range sizes {
			var got []*pkt.Buf
			for len(got) == 0 {
				// The ring is filled up by RxBatch, also where that returns nothing.
				if got = r.recv(0, 1); len(got) == 0 && r.nic.Step() == 0 {
					t.Fatalf("ring %d of %d bytes: frame %d never comes in: %+v, %v", c.ring, c.bufSize, i, r.dev.Stats(), r.dev.Err())
				}
			}
			b := got[0]
			r.wantFrame(b, frame(n, i))
			if n > 1514 && (b.GSO != pkt.GSOTCPv4 || b.GSOSize != 1448 || b.Flags != pkt.CsumPartial) || n <= 1514 && b.GSO != 0 {
				t.Errorf("frame %d of %d bytes: GSO %d of %d, flags %d", i, n, b.GSO, b.GSOSize, b.Flags)
			}
			for p := b; p != nil; p = p.Next {
				if p.Len() == 0 {
					t.Errorf("frame %d of %d bytes has an empty buffer", i, n)
				}
			}
			b.Put()
		}
		if s := r.dev.Stats(); s.RxErrors != 0 || s.RxFrames != uint64(len(sizes)) {
			t.Errorf("%+v", s)
		}
	}
}

// §5.1.6.4.1, what a device must not do with the buffers of one frame: the frame
// is dropped and counted, its buffers come back, and the next one comes up.
func TestBadMergedFrameIsDropped(t *testing.T) {
	for _, c := range []struct {
		name string
		lie  func(*fakedev.NIC)
		hdr  fakedev.NetHdr
		size int
	}{
		{"the first buffer is not full", func(n *fakedev.NIC) { n.Gap = 1 }, merged, 9000},
		{"one in the middle is not full", func(n *fakedev.NIC) { n.Gap = 3 }, merged, 9000},
		{"the last is empty", func(n *fakedev.NIC) { n.EmptyLast = true }, merged, 2*(2048-38) - 12},
		{"longer than IP", func(*fakedev.NIC) {}, merged, 65535 + 14 + 4 + 40 + 1},
		{"longer than IP, one segment", func(*fakedev.NIC) {}, fakedev.NetHdr{}, 65535 + 14 + 4 + 40 + 1},
		{"no segment size", func(*fakedev.NIC) {}, fakedev.NetHdr{Flags: 1, GSO: 1, CsumStart: 34, CsumOffs: 16}, 9000},
		{"UDP segments", func(*fakedev.NIC) {}, fakedev.NetHdr{Flags: 1, GSO: 3, GSOSize: 1448, CsumStart: 34, CsumOffs: 6}, 9000},
		{"checksum beyond the frame", func(*fakedev.NIC) {}, fakedev.NetHdr{Flags: 1, GSO: 1, GSOSize: 1448, CsumStart: 9000, CsumOffs: 16}, 9000},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, rigOpt{features: fakedev.NetAll, cfg: virtionet.Config{LRO: true}})
			c.lie(r.nic)
			r.nic.Deliver(0, fakedev.Frame{Hdr: c.hdr, Data: frame(c.size, 0)})
			r.nic.Deliver(0, fakedev.Frame{Hdr: merged, Data: frame(5000, 1)})
			r.nic.Step()
			got := r.recv(0, 4)
			if len(got) != 1 {
				t.Fatalf("%d frames", len(got))
			}
			r.wantFrame(got[0], frame(5000, 1))
			got[0].Put()
			if s := r.dev.Stats(); s.RxErrors != 1 || s.RxFrames != 1 || r.dev.Err() != nil {
				t.Errorf("%+v, %v", s, r.dev.Err())
			}
		})
	}
}

// num_buffers that promises more buffers than the device gives holds the frame
// back; the next frame's buffers are then taken for this one's. What comes up is
// never longer than it may be, and all buffers come back (newRig's cleanup).
func TestFrameOfTooManyBuffers(t *testing.T) {
	r := newRig(t, rigOpt{features: fakedev.NetAll, cfg: virtionet.Config{LRO: true}})
	r.nic.BadNum = 200
	for i := range 300 {
		r.nic.Deliver(0, fakedev.Frame{Hdr: merged, Data: frame(5000, i)})
	}
	for r.nic.Step() > 0 {
		for _, b := range r.recv(0, 64) {
			if b.TotalLen() > 14+4+40+65535 {
				t.Errorf("a frame of %d bytes", b.TotalLen())
			}
			b.Put()
		}
	}
	// What is taken for a header then is a frame's content.
	if err := r.dev.Err(); r.dev.Stats().RxErrors == 0 || err != nil && err.Error() != "virtio-net: queue 0: frame in 10016 buffers of a ring of 256" {
		t.Errorf("%+v, %v", r.dev.Stats(), err)
	}
}

// The pool has too few buffers for a large frame: the device says nothing, and the
// driver looks again by itself until there are enough.
func TestPoolRunsLowForALargeFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOpt{features: fakedev.NetAll, ring: 64, bufs: 64, lines: 2, cfg: virtionet.Config{LRO: true}})
		for range 60 {
			r.nic.Deliver(0, fakedev.Frame{Data: frame(60, 0)})
		}
		r.nic.Step()
		kept := r.recv(0, 64)
		r.nic.Deliver(0, fakedev.Frame{Hdr: merged, Data: frame(ipMax, 1)})
		if len(kept) != 60 || r.nic.Step() != 0 {
			t.Fatalf("%d frames, %d wait", len(kept), r.nic.Backlog(0))
		}
		ret := make(chan error, 1)
		go func() { ret <- r.dev.RxWait(0) }()
		synctest.Wait()
		pkt.PutBatch(kept)
		time.Sleep(2 * time.Millisecond) // the bubble's time
		if err := <-ret; err != nil {
			t.Fatal(err)
		}
		go func() { ret <- r.dev.RxWait(0) }()
		synctest.Wait()
		if r.nic.Step() != 1 {
			t.Fatal("the frame does not fit the ring")
		}
		if err := <-ret; err != nil {
			t.Fatal(err)
		}
		got := r.recv(0, 4)
		if len(got) != 1 {
			t.Fatalf("%d frames", len(got))
		}
		r.wantFrame(got[0], frame(ipMax, 1))
		got[0].Put()
	})
}

func TestMergedSegmentsDoNotAllocate(t *testing.T) {
	r := newRig(t, rigOpt{features: fakedev.NetAll, bufSize: 4224, lines: 2, cfg: virtionet.Config{LRO: true}})
	inMany(r, 15)
	var dst [4]*pkt.Buf
	full := 4224 - 38
	if n := testing.AllocsPerRun(200, func() {
		r.nic.RxQueue(0).Complete(15, full)
		k := r.dev.RxBatch(0, dst[:])
		if k != 1 || dst[0].GSO != pkt.GSOTCPv4 {
			t.Fatal(k)
		}
		pkt.PutBatch(dst[:k])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// inMany has the card answer with one frame of n full buffers, for Complete.
func inMany(r *rig, n byte) {
	k := byte(0)
	r.nic.RxQueue(0).Answer = func(hdr, _ []byte) {
		if k == 0 {
			copy(hdr, []byte{1, 1, 66, 0, 0xa8, 5, 34, 0, 16, 0, n, 0})
		}
		k = (k + 1) % n
	}
}
