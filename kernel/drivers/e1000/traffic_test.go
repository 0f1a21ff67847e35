package e1000_test

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"

	"osv/kernel/drivers/e1000"
	"osv/kernel/ktest/fakee1000"
	"osv/kernel/pkt"
)

// Frames of all sizes pass both ways, whole and in order, on each card.
func TestFramesPass(t *testing.T) {
	for _, k := range kinds {
		for _, mtu := range []int{1500, 9000} {
			t.Run(fmt.Sprint(k.name, " ", mtu), func(t *testing.T) {
				o := k.opt
				o.cfg.MTU = mtu
				r := newRig(t, o)
				sizes := []int{60, 61, 128, 1499, 1514}
				if mtu > 1500 {
					sizes = append(sizes, 2047, 2048, 2049, 4096, 6144, 9014)
				}
				for i, n := range sizes {
					f := frame(n, i)
					r.card.Deliver(f)
					r.card.Step()
					in := r.recv(2)
					if len(in) != 1 {
						t.Fatalf("%d bytes: %d frames", n, len(in))
					}
					r.want(in[0], f)
					r.send(in[0]) // back, as it is
					r.send(r.bufs(f, 700))
					r.card.Step()
					out := r.card.TakeSent()
					if len(out) != 2 || !bytes.Equal(out[0], f) || !bytes.Equal(out[1], f) {
						t.Fatalf("%d bytes: %d frames went out", n, len(out))
					}
				}
				s := r.dev.Stats()
				if n := uint64(len(sizes)); s.RxFrames != n || s.TxFrames != 2*n || s.RxErrors+s.TxErrors+s.TxFull != 0 || s.RxBytes*2 != s.TxBytes {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// A batch costs one write of a register, and reports come back for all frames.
func TestOneDoorbellForABatch(t *testing.T) {
	r := newRig(t, rigOpt{})
	before := r.dev.Stats().Doorbells
	var batch []*pkt.Buf
	for i := range 100 {
		batch = append(batch, r.bufs(frame(100, i), 2000))
	}
	if n := r.dev.TxBatch(0, batch); n != 100 {
		t.Fatal(n)
	}
	if n := r.dev.Stats().Doorbells - before; n != 1 {
		t.Errorf("%d doorbells", n)
	}
	r.card.Step()
	if n := len(r.card.TakeSent()); n != 100 {
		t.Errorf("%d frames went out", n)
	}
}

// A full ring takes no more, says so once, and interrupts when there is room.
func TestFullRing(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			o := k.opt
			o.cfg.TxRing = 16
			r := newRig(t, o)
			var batch []*pkt.Buf
			for i := range 20 {
				batch = append(batch, r.bufs(frame(100, i), 2000))
			}
			n := r.dev.TxBatch(0, batch)
			if n != 15 || r.dev.Stats().TxFull != 1 {
				t.Fatal(n, r.dev.Stats())
			}
			if r.dev.TxBatch(0, batch[n:]) != 0 {
				t.Fatal("a full ring takes a frame")
			}
			r.card.Step()
			if err := r.dev.RxWait(0); err != nil { // or it blocks for ever
				t.Fatal(err)
			}
			if k := r.dev.TxBatch(0, batch[n:]); k != 5 {
				t.Errorf("%d frames taken after the interrupt", k)
			}
		})
	}
}

// No wake-up is lost, whether the frame comes before, while or after RxWait.
func TestReceiverIsWoken(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			r := newRig(t, k.opt)
			r.card.Live = true
			go func() {
				for i := range 300 {
					r.card.Deliver(frame(60+i, i))
					r.card.Step()
				}
			}()
			for i := 0; i < 300; {
				in := r.recv(7)
				for _, b := range in {
					r.want(b, frame(60+i, i))
					b.Put()
					i++
				}
				if len(in) == 0 {
					if err := r.dev.RxWait(0); err != nil {
						t.Fatal(err)
					}
				}
			}
			r.dev.RxWake(0)
			if err := r.dev.RxWait(0); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// pool of 40 and a ring of 64: nothing is lost where buffers are short, and a
// receiver that finds the pool empty is woken by a timer.
func TestStarvedRing(t *testing.T) {
	r := newRig(t, rigOpt{bufs: 40, cfg: e1000.Config{RxRing: 64}})
	var held []*pkt.Buf
	for i := range 60 {
		r.card.Deliver(frame(100, i))
	}
	for r.card.Step() > 0 {
		held = append(held, r.recv(64)...)
	}
	if len(held) != 40 || r.dev.Stats().RxNoBuf == 0 {
		t.Fatal(len(held), r.dev.Stats())
	}
	if err := r.dev.RxWait(0); err != nil { // woken by the timer
		t.Fatal(err)
	}
	pkt.PutBatch(held)
	for n := 40; n < 60; r.card.Step() { // recv fills the ring
		for _, b := range r.recv(64) {
			r.want(b, frame(100, n))
			b.Put()
			n++
		}
	}
}

func TestLinkChanges(t *testing.T) {
	for _, k := range kinds {
		synctest.Test(t, func(t *testing.T) {
			r, err := tryRig(t, k.opt)
			if err != nil {
				t.Fatal(err)
			}
			defer r.close()
			told := r.dev.LinkUp()
			r.dev.OnCarrier(func(up bool) { told = up })
			for range 3 {
				for _, up := range []bool{true, false} {
					r.card.SetLink(up)
					synctest.Wait()
					if told != up || r.dev.LinkUp() != up || (r.dev.Speed() == 1000) != up {
						t.Errorf("%s: link %v, speed %d, want %v", k.name, r.dev.LinkUp(), r.dev.Speed(), up)
					}
				}
			}
		})
	}
}

func TestFilters(t *testing.T) {
	r := newRig(t, rigOpt{ext: true})
	to := func(dst ...byte) bool {
		f := frame(100, 1)
		copy(f, dst)
		before := r.card.Dropped()
		r.card.Deliver(f)
		r.card.Step()
		pkt.PutBatch(r.recv(4))
		return r.card.Dropped() == before
	}
	check := func(when string, own, other, group, group2, broadcast bool) {
		t.Helper()
		for _, c := range []struct {
			name string
			dst  []byte
			want bool
		}{{"own", fakee1000.MAC[:], own}, {"other", []byte{2, 1, 1, 1, 1, 1}, other}, {"group", []byte{0x33, 0x33, 0, 0, 0, 1}, group},
			{"second group", []byte{1, 0, 0x5E, 0, 0x12, 0xFB}, group2}, {"broadcast", bytes.Repeat([]byte{255}, 6), broadcast}} {
			if got := to(c.dst...); got != c.want {
				t.Errorf("%s: frame to %s passes: %v", when, c.name, got)
			}
		}
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	check("at first", true, false, true, true, true)
	ok(r.dev.SetMulticast([][6]byte{{1, 0, 0x5E, 0, 0x12, 0xFB}}))
	check("one group", true, false, false, true, true)
	ok(r.dev.Reset())
	check("after a reset", true, false, false, true, true)
	ok(r.dev.SetMulticast([][6]byte{}))
	check("no group", true, false, false, false, true)
	ok(r.dev.SetPromiscuous(true))
	check("promiscuous", true, true, true, true, true)
	ok(r.dev.SetPromiscuous(false))
	ok(r.dev.SetMulticast(nil))
	check("at last", true, false, true, true, true)
}

// Sending and receiving allocate nothing.
func TestHotPathDoesNotAllocate(t *testing.T) {
	r := newRig(t, rigOpt{ext: true, msix: true})
	tcp, _, l4 := ipTCP(false, false, 1000)
	batch, in := make([]*pkt.Buf, 8), make([]*pkt.Buf, 8)
	f := frame(1000, 1)
	one := func() {
		for i := range batch {
			b := r.dev.TxBuf(0)
			copy(b.Append(len(tcp)), tcp)
			b.Flags, b.CsumStart, b.CsumOffset = pkt.CsumPartial, uint16(l4), 16
			if i%2 == 0 {
				b.GSO, b.GSOSize = pkt.GSOTCPv4, 500
			}
			batch[i] = b
		}
		r.dev.TxBatch(0, batch)
		pkt.PutBatch(in[:r.dev.RxBatch(0, in)])
	}
	// The fake allocates: count with and without the driver's part.
	fake := func() {
		for range batch {
			r.card.Deliver(f)
		}
		r.card.Step()
		r.card.TakeSent()
	}
	fake()
	n := r.dev.RxBatch(0, in)
	pkt.PutBatch(in[:n])
	for range 20 {
		fake()
		if got := testing.AllocsPerRun(1, func() {}); got != 0 {
			t.Skip("the runtime allocates")
		}
		allocs := testing.AllocsPerRun(3, one)
		r.card.Step()
		for k := r.dev.RxBatch(0, in); k > 0; k = r.dev.RxBatch(0, in) {
			pkt.PutBatch(in[:k])
		}
		if allocs != 0 {
			t.Fatalf("%v allocations for a batch", allocs)
		}
	}
}
