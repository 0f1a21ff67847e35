package vmxnet3_test

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"osv/kernel/drivers/vmxnet3"
	"osv/kernel/hw/mmio"
	"osv/kernel/irq"
	"osv/kernel/ktest/fakedev"
	"osv/kernel/ktest/fakevmxnet3"
	"osv/kernel/pkt"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The accesses of start and reset.
func TestInitTranscript(t *testing.T) {
	tr := &fakedev.Transcript{}
	r := newRig(t, rigOpt{msix: 4, bufs: 2048, wrap: func(pt, vd mmio.Space) (mmio.Space, mmio.Space) {
		return &fakedev.Transcript{Behind: pt, Prefix: "pt ", Into: tr}, &fakedev.Transcript{Behind: vd, Prefix: "vd ", Into: tr}
	}})
	if err := r.dev.Reset(); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, l := range strings.SplitAfter(tr.String(), "\n") {
		if f := strings.Fields(l); len(f) == 4 && f[2] == "010" {
			l = strings.Join(f[:3], " ") + " shared\n" // an address
		}
		out.WriteString(l)
	}
	const file = "testdata/init.regs"
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != out.String() {
		t.Errorf("got\n%s\nwant\n%s\n%v", out.String(), want, err)
	}
}

// What the configuration cannot be, and what a device may do wrong at the start:
// each has its message, and nothing is kept.
func TestNewRefuses(t *testing.T) {
	type card = fakevmxnet3.Card
	for _, c := range []struct {
		want   string
		opt    rigOpt
		before func(*card)
	}{
		{"vmxnet3: 2 lines of MSI-X, want 3 to 25", rigOpt{msix: 2}, nil},
		{"vmxnet3: an MTU of 67, want 68 to 9000", rigOpt{cfg: vmxnet3.Config{MTU: 67}}, nil},
		{"vmxnet3: a ring of 100 descriptors, want a multiple of 32 up to 4096", rigOpt{cfg: vmxnet3.Config{RxRing: 100}}, nil},
		{"vmxnet3: eth0: buffers of 150 bytes hold no frame", rigOpt{bufSize: 150}, nil},
		{"vmxnet3: eth0: VRRS reads 0xffffffff: there is no device", rigOpt{}, func(c *card) { c.Gone = true }},
		{"vmxnet3: eth0: the device offers revisions 0x6, and not the first", rigOpt{}, func(c *card) { c.Revisions = 6 }},
		{"vmxnet3: eth0: the device offers UPT versions 0x2, and not the first", rigOpt{}, func(c *card) { c.UPTVersions = 2 }},
		{"vmxnet3: eth0: the MAC address is 010203040506", rigOpt{}, func(c *card) { c.Addr = [6]byte{1, 2, 3, 4, 5, 6} }},
		{"vmxnet3: eth0: ACTIVATE_DEV with 1 queues answers 0x7", rigOpt{msix: 5, bufs: 4096}, func(c *card) { c.ActivateFail = 7 }},
	} {
		c.opt.before = c.before
		r, err := tryRig(t, c.opt)
		if err == nil {
			t.Errorf("no error, want %q", c.want)
			r.close()
			continue
		}
		if err.Error() != c.want {
			t.Errorf("got  %q\nwant %q", err, c.want)
		}
		r.leaks()
	}
	// A pool that has nothing to start with, and lines that are not there.
	r := newRig(t, rigOpt{})
	var all []*pkt.Buf
	for b := r.pool.Get(); b != nil; b = r.pool.Get() {
		all = append(all, b)
	}
	c := fakevmxnet3.New(r.mem)
	for _, lines := range [][]irq.Line{nil, {&fakedev.Line{}}} {
		if _, err := vmxnet3.New(c.PT(), c.VD(), r.mem, lines, vmxnet3.Config{RxPools: []*pkt.Pool{r.pool}}); err == nil {
			t.Error("no line, or no buffer, and no error")
		}
	}
	if _, err := vmxnet3.New(c.PT(), c.VD(), r.mem, []irq.Line{&fakedev.Line{}}, vmxnet3.Config{}); err == nil {
		t.Error("no pool and no error")
	}
	pkt.PutBatch(all)
}

// A device with fewer queues than there are lines gets one.
func TestFewerQueues(t *testing.T) {
	r := newRig(t, rigOpt{msix: 6, bufs: 4096, before: func(c *fakevmxnet3.Card) { c.MaxQueues = 2 }})
	if c := r.dev.Caps(); c.RxQueues != 1 || c.TxQueues != 1 {
		t.Errorf("%+v", c)
	}
	if err := r.dev.Fault(); err == nil || err.Error() != "vmxnet3: eth0: with 4 queues: vmxnet3: eth0: ACTIVATE_DEV with 4 queues answers 0x2" {
		t.Error(err)
	}
}

// Frames pass on each of several queues, each with its own interrupt.
func TestQueues(t *testing.T) {
	r := newRig(t, rigOpt{msix: 6, bufs: 2048})
	if n := r.dev.Caps().RxQueues; n != 4 {
		t.Fatal(n)
	}
	for q := range 4 {
		f := frame(200+q, q)
		got := make(chan *pkt.Buf)
		go func() {
			var one [1]*pkt.Buf
			for r.dev.RxBatch(q, one[:]) == 0 {
				if err := r.dev.RxWait(q); err != nil {
					t.Error(err)
					break
				}
			}
			got <- one[0]
		}()
		r.card.Deliver(q, f)
		r.card.Step()
		b := <-got
		if r.want(b, f); int(b.Queue) != q {
			t.Errorf("queue %d: the frame says %d", q, b.Queue)
		}
		if r.dev.TxBatch(q, []*pkt.Buf{b}) != 1 {
			t.Fatal("not taken")
		}
		r.card.Step()
		if out := r.card.TakeSent(q); len(out) != 1 || !bytes.Equal(out[0], f) {
			t.Errorf("queue %d: %d frames went out", q, len(out))
		}
	}
}

// A full ring takes no more, says so once, and interrupts when there is room.
func TestFullRing(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			o := k.opt
			o.cfg.TxRing = 32
			r := newRig(t, o)
			var batch []*pkt.Buf
			for i := range 40 {
				batch = append(batch, r.bufs(frame(100, i), 2000))
			}
			before := r.dev.Stats().Doorbells
			n := r.dev.TxBatch(0, batch)
			if s := r.dev.Stats(); n != 31 || s.TxFull != 1 || s.Doorbells != before+1 {
				t.Fatal(n, r.dev.Stats())
			}
			if r.dev.TxBatch(0, batch[n:]) != 0 {
				t.Fatal("a full ring takes a frame")
			}
			r.card.Step()
			if err := r.dev.RxWait(0); err != nil { // or it blocks for ever
				t.Fatal(err)
			}
			if k := r.dev.TxBatch(0, batch[n:]); k != 9 {
				t.Errorf("%d frames taken after the interrupt", k)
			}
		})
	}
}

func TestFilters(t *testing.T) {
	r := newRig(t, rigOpt{})
	to := func(dst ...byte) bool {
		f := frame(100, 1)
		copy(f, dst)
		before := r.card.Dropped()
		r.card.Deliver(0, f)
		r.card.Step()
		pkt.PutBatch(r.recv(4))
		return r.card.Dropped() == before
	}
	check := func(when string, want ...bool) {
		t.Helper()
		for i, dst := range [][]byte{fakevmxnet3.MAC[:], {2, 1, 1, 1, 1, 1}, {0x33, 0x33, 0, 0, 0, 1}, {1, 0, 0x5E, 0, 0x12, 0xFB}, bytes.Repeat([]byte{255}, 6)} {
			if got := to(dst...); got != want[i] {
				t.Errorf("%s: frame to %x passes: %v", when, dst, got)
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
	ok(r.dev.SetPromiscuous(true))
	check("promiscuous", true, true, true, true, true)
	ok(r.dev.SetPromiscuous(false))
	ok(r.dev.SetMulticast(make([][6]byte, 513)))
	check("too many groups", true, false, true, true, true)
	ok(r.dev.SetMulticast([][6]byte{}))
	check("no group", true, false, false, false, true)
	ok(r.dev.SetMulticast(nil))
	check("at last", true, false, true, true, true)
}

// What a device may say of a frame that cannot be: the frame is dropped, the
// reason is kept, the next one passes.
func TestLyingCompletions(t *testing.T) {
	for want, lie := range map[string]func(*[4]uint32){
		"a completion of 3000 bytes in a buffer of 2062":          func(c *[4]uint32) { c[2] = 3000 },
		"a frame of 13 bytes":                                     func(c *[4]uint32) { c[2] = 13 },
		"a frame of 1600 bytes and more, want at most 1518":       func(c *[4]uint32) { c[2] = 1600 },
		"a damaged frame":                                         func(c *[4]uint32) { c[2] |= 1 << 14 },
		"a frame that starts: false, in the middle of one: false": func(c *[4]uint32) { c[0] &^= 1 << 15 },
		"a frame that starts: true, in the middle of one: true":   func(c *[4]uint32) { c[0] &^= 1 << 14 },
	} {
		for _, k := range kinds {
			r := newRig(t, k.opt)
			r.card.OnRx = lie
			r.card.Deliver(0, frame(100, 1))
			r.card.Step()
			if n := len(r.recv(4)); n != 0 {
				t.Errorf("%s: %s: %d frames", k.name, want, n)
			}
			r.card.OnRx = nil
			r.card.Deliver(0, frame(80, 3))
			r.card.Step()
			in := r.recv(4)
			if len(in) != 1 {
				t.Fatalf("%s: %s: %d frames after it", k.name, want, len(in))
			}
			r.want(in[0], frame(80, 3))
			in[0].Put()
			if err := r.dev.Fault(); err == nil || err.Error() != "vmxnet3: eth0: receive queue 0: "+want {
				t.Errorf("%s: fault %v, want %s", k.name, err, want)
			}
			if s := r.dev.Stats(); s.RxErrors != 1 {
				t.Errorf("%s: %s: %+v", k.name, want, s)
			}
		}
	}
}

// A device that loses its place in the rings is of no use any more; it says why,
// and nothing leaks.
func TestBrokenRings(t *testing.T) {
	for want, lie := range map[string]func(*[4]uint32){
		"a completion of descriptor 255 of ring 0, which is not posted":  func(c *[4]uint32) { c[0] |= 255 },
		"a completion of descriptor 4000 of ring 0, which is not posted": func(c *[4]uint32) { c[0] |= 4000 },
		"a completion for ring 7 of 2":                                   func(c *[4]uint32) { c[0] |= 7 << 16 },
		"a completion of type 4":                                         func(c *[4]uint32) { c[3] = c[3]&^(127<<24) | 4<<24 },
	} {
		r := newRig(t, rigOpt{})
		r.card.OnRx = lie
		r.card.Deliver(0, frame(100, 1))
		r.card.Step()
		if n := len(r.recv(4)); n != 0 {
			t.Errorf("%s: %d frames", want, n)
		}
		if err := r.dev.Err(); err == nil || err.Error() != "vmxnet3: eth0: receive queue 0: "+want {
			t.Errorf("got %v, want %s", err, want)
		}
		if r.dev.RxWait(0) == nil || r.dev.LinkUp() {
			t.Error("a broken device is in use")
		}
	}
	for want, i := range map[string]uint32{
		"a completion of descriptor 9, which ends no frame":    9,
		"a completion of descriptor 0, which ends no frame":    0, // its frame goes on
		"a completion of descriptor 3000, which ends no frame": 3000,
	} {
		r := newRig(t, rigOpt{})
		r.card.OnTx = func(c *[4]uint32) { c[0] = i }
		r.send(r.bufs(frame(1000, 1), 300))
		r.card.Step()
		r.dev.RxWake(0)
		for r.dev.RxWait(0) == nil {
		}
		if err := r.dev.Err(); err == nil || err.Error() != "vmxnet3: eth0: transmit queue 0: "+want {
			t.Errorf("got %v, want %s", err, want)
		}
		b := r.pool.Get()
		if r.dev.TxBatch(0, []*pkt.Buf{b}) != 0 {
			t.Error("a broken device takes a frame")
		}
		b.Put()
	}
}

// A device may pass over a buffer; it comes back.
func TestSkippedBuffer(t *testing.T) {
	r := newRig(t, rigOpt{})
	r.card.SkipBuf = true
	r.card.OnRx = func(c *[4]uint32) { c[3] &^= 127 << 24 } // the type, as in QEMU
	r.card.Deliver(0, frame(100, 1))
	r.card.Step()
	in := r.recv(2)
	if len(in) != 1 {
		t.Fatal(len(in), r.dev.Err())
	}
	r.want(in[0], frame(100, 1))
	in[0].Put()
}

// A queue that stopped is named with its reason, and works after a reset.
func TestStoppedQueue(t *testing.T) {
	for _, c := range []struct {
		rx   bool
		code uint32
		want string
	}{
		{false, 0x80000002, "transmit queue 0 stopped, error 0x80000002: too many descriptors for a packet; the device is reset"},
		{true, 0x80000004, "receive queue 0 stopped, error 0x80000004: a buffer that is too small; the device is reset"},
		{true, 5, "receive queue 0 stopped, error 0x5: no known reason; the device is reset"},
	} {
		for _, k := range kinds {
			synctest.Test(t, func(t *testing.T) {
				r, err := tryRig(t, k.opt)
				if err != nil {
					t.Fatal(err)
				}
				defer r.close()
				r.card.StopQueue(c.rx, 0, c.code)
				synctest.Wait()
				if err := r.dev.Fault(); err == nil || err.Error() != "vmxnet3: eth0: "+c.want || r.dev.Resets() != 1 {
					t.Errorf("%s: fault %v, %d resets", k.name, err, r.dev.Resets())
				}
				f := frame(300, 1)
				r.card.Deliver(0, f)
				r.send(r.bufs(f, 2000))
				r.card.Step()
				in := r.recv(2)
				if len(in) != 1 || len(r.card.TakeSent(0)) != 1 {
					t.Fatalf("%s: %d frames after the reset", k.name, len(in))
				}
				in[0].Put()
			})
		}
	}
}

// A device that completes nothing is reset and works again; one that is gone says so.
func TestHangAndGone(t *testing.T) {
	for _, k := range kinds {
		synctest.Test(t, func(t *testing.T) {
			r, err := tryRig(t, k.opt)
			if err != nil {
				t.Fatal(err)
			}
			defer r.close()
			done := make(chan error, 1)
			go func() {
				for {
					if err := r.dev.RxWait(0); err != nil {
						done <- err
						return
					}
				}
			}()
			r.card.Do(func() { r.card.NoReport = true })
			for i := range 3 {
				r.send(r.bufs(frame(100, i), 2000))
			}
			r.card.Step()
			time.Sleep(5 * time.Second) // of the bubble's time
			synctest.Wait()
			const want = "vmxnet3: eth0: transmit queue 0 hangs: 3 descriptors; the device is reset"
			if err := r.dev.Fault(); err == nil || err.Error() != want || r.dev.Resets() != 1 || r.dev.Stats().TxErrors != 3 {
				t.Errorf("%s: fault %v, %d resets, %+v", k.name, err, r.dev.Resets(), r.dev.Stats())
			}
			r.card.Do(func() { r.card.HoldTx = true })
			r.card.SetLink(false) // without a link nothing is sent: no hang
			synctest.Wait()
			r.send(r.bufs(frame(100, 9), 2000))
			time.Sleep(20 * time.Second)
			if r.dev.Resets() != 1 {
				t.Errorf("%s: a reset without a link", k.name)
			}
			r.card.SetLink(true)
			synctest.Wait()
			r.card.Do(func() { r.card.Gone = true })
			time.Sleep(20 * time.Second)
			synctest.Wait()
			if err := <-done; err.Error() != "vmxnet3: eth0: GET_LINK answers 0xffffffff: the device is gone" {
				t.Errorf("%s: %v", k.name, err)
			}
			if r.dev.Reset() == nil || r.dev.SetPromiscuous(true) == nil {
				t.Error(k.name, ": still in use")
			}
		})
	}
}
