package e1000_test

import (
	"bytes"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"osv/kernel/drivers/e1000"
	"osv/kernel/ktest/fakee1000"
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
			o.bufs = rapid.IntRange(200, 400).Draw(rt, "buffers")
			o.bufSize = e1000.RxBufBytes(1024 << rapid.IntRange(0, 2).Draw(rt, "size"))
			o.cfg.MTU = mtu
			o.cfg.RxRing, o.cfg.TxRing = 8*rapid.IntRange(5, 16).Draw(rt, "rx ring"), 8*rapid.IntRange(5, 16).Draw(rt, "tx ring")
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
				for _, f := range e.card.TakeSent() {
					ends[1-i].card.Deliver(f)
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
					r.card.Deliver(frame(60+seed*37%8955, seed))
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
			for _, f := range r.card.TakeSent() {
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

// Whatever a device says of received frames, the driver neither panics nor leaks,
// and never hands up more than a frame can be.
func FuzzDeviceAnswers(f *testing.F) {
	f.Add(true, []byte{1, 2, 3, 0xFF, 0, 0})
	f.Add(false, []byte{0, 8, 1, 0, 0, 8, 3, 0, 13, 0, 3, 0})
	f.Fuzz(func(t *testing.T, ext bool, answers []byte) {
		o := rigOpt{ext: ext, bufs: 64, cfg: e1000.Config{RxRing: 32, Hang: -1}}
		r, err := tryRig(t, o)
		if err != nil {
			t.Fatal(err)
		}
		defer r.close()
		r.card.OnWriteback = func(w *fakee1000.Writeback) {
			if len(answers) < 4 {
				return
			}
			w.Len, w.Status, w.Errors = uint16(answers[0])|uint16(answers[1])<<8, answers[2]|1, answers[3]
			answers = answers[4:]
		}
		for i := range 40 {
			r.card.Deliver(frame(60+i*30, i))
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
