package vmxnet3_test

import (
	"bytes"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"osv/kernel/drivers/vmxnet3"
	"osv/kernel/pkt"
)

// Two drivers, their cards on one wire: any mix of frames both ways arrives, in
// order and whole, and every buffer comes back.
func TestTwoCardsOnAWire(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		mtu := rapid.SampledFrom([]int{1500, 9000}).Draw(rt, "mtu")
		var ends [2]*rig
		for i := range ends {
			o := kinds[rapid.IntRange(0, len(kinds)-1).Draw(rt, "card")].opt
			o.bufs = rapid.IntRange(1200, 1500).Draw(rt, "buffers")
			o.bufSize = vmxnet3.RxBufBytes(1500 << rapid.IntRange(0, 2).Draw(rt, "size"))
			o.cfg.MTU = mtu
			o.cfg.RxRing, o.cfg.TxRing = 32*rapid.IntRange(1, 3).Draw(rt, "rx ring"), 32*rapid.IntRange(2, 3).Draw(rt, "tx ring")
			r, err := tryRig(t, o)
			if err != nil {
				rt.Fatal(err)
			}
			defer r.close()
			ends[i] = r
		}
		var sent, arrived [2][][]byte // by sender
		step := func() {
			for i, e := range ends {
				e.card.Step()
				for _, f := range e.card.TakeSent(0) {
					ends[1-i].card.Deliver(0, f)
				}
				ends[1-i].card.Step()
				for _, b := range ends[1-i].recv(rapid.IntRange(1, 20).Draw(rt, "max")) {
					arrived[i] = append(arrived[i], flat(b))
					b.Put()
				}
			}
		}
		for range rapid.IntRange(1, 30).Draw(rt, "rounds") {
			from := rapid.IntRange(0, 1).Draw(rt, "from")
			e := ends[from]
			for range rapid.IntRange(1, 12).Draw(rt, "frames") {
				f := frame(rapid.IntRange(60, mtu+14).Draw(rt, "bytes"), len(sent[from]))
				b := e.bufs(f, rapid.IntRange(800, 2000).Draw(rt, "piece"))
				if e.dev.TxBatch(0, []*pkt.Buf{b}) == 1 {
					sent[from] = append(sent[from], f)
					continue
				}
				b.Put()
				break
			}
			step()
		}
		for range 40 {
			step()
		}
		for i := range sent {
			if len(sent[i]) != len(arrived[i]) {
				rt.Fatalf("%d of %d frames arrived: %v %v", len(arrived[i]), len(sent[i]), ends[i].dev.Fault(), ends[1-i].dev.Fault())
			}
			for k := range sent[i] {
				if !bytes.Equal(sent[i][k], arrived[i][k]) {
					rt.Fatalf("frame %d of %d bytes differs", k, len(sent[i][k]))
				}
			}
		}
	})
}

// Resets and link flaps while frames pass both ways: what arrives is whole, comes
// in order, and nothing leaks.
func TestResetsUnderLoad(t *testing.T) {
	for _, k := range kinds {
		synctest.Test(t, func(t *testing.T) {
			o := k.opt
			o.cfg.MTU = 9000
			r, err := tryRig(t, o)
			if err != nil {
				t.Fatal(err)
			}
			defer r.close()
			r.card.Live = true
			var wg sync.WaitGroup
			end := make(chan struct{})
			wg.Go(func() {
				for i := range 200 {
					for range 5 {
						time.Sleep(time.Microsecond)
					}
					if i%3 == 0 {
						if err := r.dev.Reset(); err != nil {
							t.Error(err)
						}
					}
					r.card.SetLink(i%2 == 1)
				}
				close(end)
			})
			wg.Go(func() { // the wire
				for seed := 0; ; seed++ {
					select {
					case <-end:
						r.dev.RxWake(0)
						return
					case <-time.After(time.Microsecond):
					}
					r.card.Deliver(0, frame(60+seed*37%8955, seed))
					r.card.Step()
				}
			})
			wg.Go(func() {
				last, got := -1, 0
				for {
					for _, b := range r.recv(8) {
						f := flat(b)
						seed := seedOf(len(f), f, last)
						if seed < 0 {
							t.Errorf("%s: a frame of %d bytes that was not sent after %d", k.name, len(f), last)
						} else {
							last = seed
						}
						got++
						b.Put()
					}
					select {
					case <-end:
						if got == 0 {
							t.Error("nothing arrived")
						}
						return
					default:
					}
					if err := r.dev.RxWait(0); err != nil {
						t.Error(err)
						return
					}
				}
			})
			wg.Go(func() {
				for seed := 0; ; seed++ {
					select {
					case <-end:
						return
					case <-time.After(time.Microsecond):
					}
					if b := r.dev.TxBuf(0); b != nil {
						copy(b.Append(500), frame(500, seed))
						if r.dev.TxBatch(0, []*pkt.Buf{b}) == 0 {
							b.Put()
						}
					}
				}
			})
			wg.Wait()
			if n := r.dev.Resets(); n < 60 {
				t.Errorf("%d resets", n)
			}
			for _, f := range r.card.TakeSent(0) {
				if len(f) != 500 || !bytes.Equal(f[14:], frame(500, int(f[20])-20*7)[14:]) {
					t.Fatal("a sent frame is damaged")
				}
			}
		})
	}
}

// seedOf finds which frame f is of those after last.
func seedOf(n int, f []byte, last int) int {
	for s := last + 1; s < last+3000; s++ {
		if 60+s*37%8955 == n && bytes.Equal(f, frame(n, s)) {
			return s
		}
	}
	return -1
}

// Whatever a device says of received and sent frames, the driver neither panics nor
// leaks, and never hands up more than a frame can be.
func FuzzDeviceAnswers(f *testing.F) {
	f.Add([]byte{1, 2, 3, 0xFF, 0, 0}, uint16(3))
	f.Add([]byte{0, 0, 0xC0, 0, 100, 0, 0, 3, 1, 0, 0xC0, 0, 100, 0, 0, 3}, uint16(0))
	f.Fuzz(func(t *testing.T, answers []byte, tx uint16) {
		r, err := tryRig(t, rigOpt{bufs: 128, cfg: vmxnet3.Config{RxRing: 32, Hang: -1}})
		if err != nil {
			t.Fatal(err)
		}
		defer r.close()
		r.card.OnRx = func(c *[4]uint32) {
			if len(answers) < 8 {
				return
			}
			c[0] ^= uint32(answers[0]) | uint32(answers[1])<<8 | uint32(answers[2])<<14 | uint32(answers[3])<<24
			c[2], c[3] = uint32(answers[4])|uint32(answers[5])<<8, c[3]^uint32(answers[6])<<16^uint32(answers[7]&3)<<24
			answers = answers[8:]
		}
		r.card.OnTx = func(c *[4]uint32) { c[0] ^= uint32(tx) }
		for i := range 40 {
			if b := r.pool.Get(); b != nil {
				copy(b.Append(100), frame(100, i))
				if r.dev.TxBatch(0, []*pkt.Buf{b}) == 0 {
					b.Put()
				}
			}
			r.card.Deliver(0, frame(60+i*30, i))
			r.card.Step()
			for _, b := range r.recv(5) {
				if n := b.TotalLen(); n < 14 || n > 1518 {
					t.Errorf("a frame of %d bytes", n)
				}
				b.Put()
			}
		}
	})
}
