package e1000_test

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"osv/kernel/drivers/e1000"
	"osv/kernel/ktest/fakee1000"
	"osv/kernel/pkt"
)

// What a device may say of a received frame that cannot be: the frame is dropped,
// the reason is kept, the next one passes.
func TestLyingDescriptors(t *testing.T) {
	lies := map[string]func(*fakee1000.Writeback){
		"a receive descriptor has 2049 bytes in a buffer of 2048":                         func(w *fakee1000.Writeback) { w.Len = 2049 },
		"a receive descriptor in the middle of a frame has 100 bytes in a buffer of 2048": func(w *fakee1000.Writeback) { w.Status &^= 2 },
		"a frame of 13 bytes":                               func(w *fakee1000.Writeback) { w.Len = 13 },
		"a frame of 0 bytes":                                func(w *fakee1000.Writeback) { w.Len = 0 },
		"a frame of 1600 bytes and more, want at most 1518": func(w *fakee1000.Writeback) { w.Len = 1600 },
		"a damaged frame, errors 0x1":                       func(w *fakee1000.Writeback) { w.Errors = 1 },
		"a damaged frame, errors 0x80":                      func(w *fakee1000.Writeback) { w.Errors = 0x80 },
		"a frame of 2048 bytes and more, want at most 1518": func(w *fakee1000.Writeback) { w.Len, w.Status = 2048, 1 },
	}
	for _, k := range kinds {
		for want, lie := range lies {
			r := newRig(t, k.opt)
			r.card.OnWriteback = lie
			r.card.Deliver(frame(100, 1))
			r.card.Step()
			if n := len(r.recv(4)); n != 0 {
				t.Errorf("%s: %s: %d frames", k.name, want, n)
			}
			if err := r.dev.Fault(); err == nil || err.Error() != "e1000: eth0: "+want {
				t.Errorf("%s: fault %v, want %s", k.name, err, want)
			}
			r.card.OnWriteback = nil
			r.card.Deliver(frame(90, 2)) // the end of the spoilt frame, where that has none
			r.card.Deliver(frame(80, 3))
			r.card.Step()
			in := r.recv(4)
			if len(in) == 0 {
				t.Fatalf("%s: %s: nothing passes any more", k.name, want)
			}
			r.want(in[len(in)-1], frame(80, 3))
			pkt.PutBatch(in)
			if s := r.dev.Stats(); s.RxErrors != 1 {
				t.Errorf("%s: %s: %+v", k.name, want, s)
			}
		}
	}
}

// A device that reports nothing is reset, says what hung, and works again. While
// it has no link there is nothing to report.
func TestHang(t *testing.T) {
	for _, k := range kinds {
		synctest.Test(t, func(t *testing.T) {
			r, err := tryRig(t, k.opt)
			if err != nil {
				t.Fatal(err)
			}
			defer r.close()
			r.card.Do(func() { r.card.NoReport = true })
			for i := range 3 {
				r.send(r.bufs(frame(100, i), 2000))
			}
			r.card.Step()
			before := r.card.Resets()
			time.Sleep(5 * time.Second) // of the bubble's time
			synctest.Wait()
			const want = "e1000: eth0: transmit hangs: 3 descriptors, TDH 3, TDT 3; the device is reset"
			if err := r.dev.Fault(); err == nil || err.Error() != want || r.dev.Resets() != 1 || r.card.Resets() != before+1 {
				t.Errorf("%s: fault %v, %d resets", k.name, err, r.dev.Resets())
			}
			if s := r.dev.Stats(); s.TxErrors != 3 || r.pool.InUse() != 255 {
				t.Errorf("%s: %+v, %d buffers out", k.name, s, r.pool.InUse())
			}
			r.card.Do(func() { r.card.NoReport, r.card.HoldTx = false, true })
			r.card.SetLink(false)
			synctest.Wait()
			f := frame(100, 9)
			r.send(r.bufs(f, 2000))
			time.Sleep(20 * time.Second)
			r.card.Do(func() { r.card.HoldTx = false })
			r.card.SetLink(true)
			r.card.TakeSent()
			r.card.Step()
			if out := r.card.TakeSent(); len(out) != 1 || !bytes.Equal(out[0], f) || r.dev.Resets() != 1 {
				t.Errorf("%s: %d frames, %d resets", k.name, len(out), r.dev.Resets())
			}
		})
	}
}

// A device that is taken away ends all waiting with the reason.
func TestDeviceGone(t *testing.T) {
	for _, k := range kinds {
		r, err := tryRig(t, k.opt)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			for {
				if err := r.dev.RxWait(0); err != nil {
					done <- err
					return
				}
			}
		}()
		r.card.Do(func() { r.card.Gone = true })
		for _, l := range r.card.Lines {
			l.Fire()
		}
		if err := <-done; err.Error() != "e1000: eth0: STATUS reads 0xffffffff: the device is gone" {
			t.Error(k.name, err)
		}
		if r.dev.LinkUp() || r.dev.Reset() == nil || r.dev.SetPromiscuous(true) == nil {
			t.Error(k.name, ": still in use")
		}
		if err := r.dev.Close(); err == nil { // it may come back and write
			t.Error(k.name, ": Close of a device that does not answer says nothing")
		}
	}
}

// Close wakes the receiver, and the link is of no use after it.
func TestClose(t *testing.T) {
	r, err := tryRig(t, rigOpt{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		for {
			if err := r.dev.RxWait(0); err != nil {
				done <- err
				return
			}
		}
	}()
	r.send(r.bufs(frame(100, 1), 2000))
	r.close()
	if err := <-done; !errors.Is(err, e1000.ErrClosed) {
		t.Error(err)
	}
	if err := r.dev.Close(); err != nil {
		t.Error(err)
	}
	b := r.pool.Get()
	if r.dev.RxBatch(0, make([]*pkt.Buf, 1)) != 0 || r.dev.TxBatch(0, []*pkt.Buf{b}) != 0 || r.dev.LinkUp() || r.dev.Name() != "eth0" {
		t.Error("a closed link is in use")
	}
	b.Put()
	if err := r.dev.Reset(); !errors.Is(err, e1000.ErrClosed) {
		t.Error(err)
	}
	// A line that ends by itself is an error.
	r = newRig(t, rigOpt{})
	r.card.Lines[0].Close()
	for r.dev.Err() == nil {
		r.dev.RxWait(0)
	}
	if err := r.dev.Err(); err.Error() != "e1000: eth0: interrupt line was closed" {
		t.Error(err)
	}
}
