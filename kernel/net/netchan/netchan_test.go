package netchan

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"osv/kernel/hw/dma"
	"osv/kernel/pkt"
)

func newPool(t testing.TB, n int) *pkt.Pool {
	t.Helper()
	var mem dma.Host
	p, err := pkt.NewPool(&mem, n, 256)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(&mem); err != nil {
			t.Error(err)
		}
	})
	return p
}

// take gets n packets numbered from first in RxTime.
func take(t testing.TB, p *pkt.Pool, first, n int) []*pkt.Buf {
	t.Helper()
	bufs := make([]*pkt.Buf, n)
	for i := range bufs {
		if bufs[i] = p.Get(); bufs[i] == nil {
			t.Fatal("pool empty")
		}
		bufs[i].RxTime = int64(first + i)
	}
	return bufs
}

func putAll(b []*pkt.Buf) {
	for _, b := range b {
		b.Put()
	}
}

func TestOrderAcrossWrap(t *testing.T) {
	p, c := newPool(t, 16), New(5)
	if c.Cap() != 8 {
		t.Fatalf("capacity %d, want 8", c.Cap())
	}
	next, want := 0, int64(0)
	dst := make([]*pkt.Buf, 3)
	for range 50 {
		if n, r := c.Push(take(t, p, next, 3)); n != 3 || r != OK {
			t.Fatal(n, r)
		}
		next += 3
		n := c.Pop(dst)
		if n != 3 {
			t.Fatalf("popped %d of 3", n)
		}
		for _, b := range dst {
			if b.RxTime != want {
				t.Fatalf("packet %d, want %d", b.RxTime, want)
			}
			want++
		}
		putAll(dst)
	}
	if c.Pop(dst) != 0 || c.Len() != 0 {
		t.Error("not empty")
	}
}

func TestFullTakesWhatFits(t *testing.T) {
	p, c := newPool(t, 16), New(8)
	b := take(t, p, 0, 11)
	n, r := c.Push(b)
	if n != 8 || r != Full || c.Len() != 8 {
		t.Fatalf("took %d (%v), holds %d; want 8, full", n, r, c.Len())
	}
	if r := c.Push1(b[8]); r != Full {
		t.Errorf("push into a full channel: %v", r)
	}
	dst := make([]*pkt.Buf, 2)
	c.Pop(dst)
	putAll(dst)
	if n, r := c.Push(b[8:]); n != 2 || r != Full {
		t.Errorf("after popping 2: took %d (%v)", n, r)
	}
	b[10].Put()
	c.Close()
}

func TestClosedRefuses(t *testing.T) {
	p, c := newPool(t, 4), New(4)
	if r := c.Push1(take(t, p, 0, 1)[0]); r != OK {
		t.Fatal(r)
	}
	c.Close()
	c.Close()
	if p.InUse() != 0 {
		t.Error("Close did not put back what was inside")
	}
	b := take(t, p, 0, 1)
	if n, r := c.Push(b); n != 0 || r != Closed || !c.Closed() {
		t.Errorf("push after Close: %d %v", n, r)
	}
	putAll(b) // still the caller's
	if r := Busy.String(); r != "busy" {
		t.Error(r)
	}
}

func TestBusyProducerTurnsAnotherAway(t *testing.T) {
	p, c := newPool(t, 4), New(4)
	c.tail.Or(tailBusy) // as in the middle of a push
	b := take(t, p, 0, 1)
	if n, r := c.Push(b); n != 0 || r != Busy {
		t.Errorf("%d %v", n, r)
	}
	c.tail.And(^tailBusy)
	putAll(b)
}

// The closer leaves the ring to a producer that is in the middle of a push.
func TestCloseDuringPush(t *testing.T) {
	p, c := newPool(t, 4), New(4)
	b := take(t, p, 0, 2)
	if r := c.Push1(b[0]); r != OK {
		t.Fatal(r)
	}
	c.tail.Or(tailBusy) // the producer has its turn,
	c.slots[1] = b[1]   // has stored
	c.Close()
	if p.InUse() != 2 {
		t.Fatal("Close drained under the producer")
	}
	if c.tail.Add(1<<tailShift-tailBusy)&tailClosed == 0 { // and publishes
		t.Fatal("producer does not see the Close")
	}
	c.drain()
	if p.InUse() != 0 {
		t.Error("leak")
	}
}

func TestWakeOncePerBatch(t *testing.T) {
	p, c := newPool(t, 8), New(8)
	fired := 0
	c.SetNotify(func() { fired++ })
	if !c.Arm() {
		t.Fatal("empty channel does not arm")
	}
	c.Wake() // spurious; consumes the arm
	c.Arm()
	fired = 0
	for _, b := range take(t, p, 0, 4) {
		c.Push1(b)
	}
	c.Wake()
	c.Wake()
	if fired != 1 {
		t.Errorf("woken %d times, want 1", fired)
	}
	if c.Arm() {
		t.Error("armed although packets are there")
	}
	c.Close()
	if c.Arm() {
		t.Error("armed although closed")
	}
	c.Disarm()
	c.SetNotify(nil)
	c.Kick()
	c.Kick() // the second token merges into the first
	c.Wait()
}

func TestEveryWakes(t *testing.T) {
	n := 0
	c := NewEvery(4, func() { n++ })
	c.Wake()
	c.Wake()
	if n != 2 {
		t.Errorf("%d calls for 2 wakes", n)
	}
}

func TestNoAllocs(t *testing.T) {
	p, c := newPool(t, 8), New(8)
	in, out := take(t, p, 0, 8), make([]*pkt.Buf, 8)
	if n := testing.AllocsPerRun(100, func() {
		c.Arm()
		c.Push(in)
		c.Wake()
		c.Pop(out)
		c.Push1(in[0])
		c.Pop(out)
		select {
		case <-c.sema:
		default:
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	putAll(in)
}

// A blocking reader against a producer: every packet once, in order, and no
// sleep that is not ended.
func TestBlockingReaderGetsAll(t *testing.T) {
	const total = 200_000
	p, c := newPool(t, 64), New(32)
	go func() {
		var batch [7]*pkt.Buf
		for sent := 0; sent < total; {
			n := 0
			for n < len(batch) && sent+n < total {
				b := p.Get()
				if b == nil {
					break
				}
				b.RxTime = int64(sent + n)
				batch[n] = b
				n++
			}
			for todo := batch[:n]; len(todo) > 0; {
				k, _ := c.Push(todo)
				todo = todo[k:]
				c.Wake()
				if len(todo) > 0 {
					runtime.Gosched()
				}
			}
			sent += n
		}
	}()
	dst := make([]*pkt.Buf, 5)
	for want := int64(0); want < total; {
		n := c.Pop(dst)
		if n == 0 {
			c.Wait()
		}
		for _, b := range dst[:n] {
			if b.RxTime != want {
				t.Fatalf("got %d, want %d", b.RxTime, want)
			}
			want++
			b.Put()
		}
	}
}

// TestTeardownRace closes channels at a random moment under two producers and
// one consumer. Each packet must end in exactly one place: popped, refused, or
// drained by the teardown. The pool counts leaks and, by the state kept here,
// double ends show up as a wrong sum.
func TestTeardownRace(t *testing.T) {
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	p := newPool(t, 256)
	for round := range rounds {
		c := New(8)
		stop := rng.IntN(200) // pops before closing
		var wg sync.WaitGroup
		var accepted, popped atomic.Int64
		producers := 1 + round%2
		for range producers {
			wg.Go(func() {
				var batch [4]*pkt.Buf
				for {
					n := 0
					for n < len(batch) {
						b := p.Get()
						if b == nil {
							break
						}
						batch[n] = b
						n++
					}
					k, r := c.Push(batch[:n])
					accepted.Add(int64(k))
					c.Wake()
					putAll(batch[k:n])
					if r == Closed {
						return
					}
					if r == Full || n == 0 {
						runtime.Gosched()
					}
				}
			})
		}
		dst := make([]*pkt.Buf, 3)
		for int(popped.Load()) < stop {
			n := c.Pop(dst)
			if n == 0 {
				c.Wait()
				continue
			}
			popped.Add(int64(n))
			putAll(dst[:n])
		}
		c.Close()
		wg.Wait()
		if n := p.InUse(); n != 0 {
			t.Fatalf("seed %d round %d: %d packets in use after teardown (accepted %d, popped %d)", seed, round, n, accepted.Load(), popped.Load())
		}
		if n := c.Len(); n != 0 {
			t.Fatalf("seed %d round %d: %d packets left in the ring", seed, round, n)
		}
		for i, s := range c.slots {
			if s != nil {
				t.Fatalf("seed %d round %d: slot %d still holds a packet", seed, round, i)
			}
		}
	}
}

// A sleeping reader is woken by Close from elsewhere only through Kick: Close
// belongs to the consumer. Kick must end any Wait.
func TestKickEndsWait(t *testing.T) {
	c := New(4)
	for range 1000 {
		done := make(chan struct{})
		go func() {
			c.Wait()
			close(done)
		}()
		c.Kick()
		<-done
	}
}

func BenchmarkPushPop(b *testing.B) {
	p, c := newPool(b, 64), New(64)
	in, out := take(b, p, 0, 32), make([]*pkt.Buf, 32)
	defer putAll(in)
	b.Run("1", func(b *testing.B) {
		for b.Loop() {
			c.Push1(in[0])
			c.Pop(out[:1])
		}
	})
	b.Run("32", func(b *testing.B) {
		for b.Loop() {
			c.Push(in)
			c.Wake()
			c.Pop(out)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/32, "ns/packet")
	})
}
