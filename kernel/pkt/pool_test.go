package pkt

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"

	"osv/kernel/hw/dma"
)

func newPool(t testing.TB, n int) *Pool {
	t.Helper()
	var mem dma.Host
	p, err := NewPool(&mem, n, 2048)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(&mem); err != nil {
			t.Error(err)
		}
		if mem.Live() != 0 {
			t.Error("the pool's memory was not freed")
		}
	})
	return p
}

// all takes every buffer and checks that there are want, all different.
func all(t *testing.T, p *Pool, want int) []*Buf {
	t.Helper()
	seen := map[*Buf]bool{}
	var bufs []*Buf
	for b := p.Get(); b != nil; b = p.Get() {
		if seen[b] {
			t.Fatal("a buffer is given twice")
		}
		seen[b] = true
		bufs = append(bufs, b)
	}
	if len(bufs) != want || p.InUse() != want {
		t.Fatalf("%d buffers, %d in use, want %d", len(bufs), p.InUse(), want)
	}
	return bufs
}

func TestPoolGivesEachBufferOnce(t *testing.T) {
	p := newPool(t, 16)
	for range 3 {
		bufs := all(t, p, 16)
		if p.Get() != nil || p.Empty() == 0 {
			t.Error("an empty pool gives a buffer, or does not count")
		}
		for _, b := range bufs {
			if b.Headroom() != Headroom || b.Len() != 0 || b.Tailroom() != 2048-Headroom {
				t.Errorf("buffer with %d, %d, %d bytes", b.Headroom(), b.Len(), b.Tailroom())
			}
			b.Put()
		}
	}
	if p.Cap() != 16 || p.BufSize() != 2048 || p.InUse() != 0 {
		t.Error(p.Cap(), p.BufSize(), p.InUse())
	}
}

func TestBatches(t *testing.T) {
	p, other := newPool(t, 16), newPool(t, 16)
	var bufs []*Buf
	for _, c := range []struct{ ask, want int }{{0, 0}, {5, 5}, {24, 11}, {3, 0}} {
		dst := make([]*Buf, c.ask)
		n := p.GetBatch(dst)
		if n != c.want {
			t.Fatalf("asked for %d: %d, want %d", c.ask, n, c.want)
		}
		bufs = append(bufs, dst[:n]...)
	}
	// Runs of one pool, a chain in between, and another pool's.
	o := other.Get()
	bufs[3].Next = bufs[15]
	mixed := append(append(append([]*Buf{}, bufs[:7]...), o), bufs[7:15]...)
	PutBatch(mixed)
	PutBatch(nil)
	for _, b := range all(t, p, 16) {
		if b.Next != nil {
			t.Error("a buffer came back with its chain")
		}
		b.Put()
	}
	for _, b := range all(t, other, 16) {
		b.Put()
	}
}

// Many goroutines take and give at once; nothing is lost or given twice.
func TestPoolUnderContention(t *testing.T) {
	const n = 64
	p := newPool(t, n)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(g)))
			var held []*Buf
			for range 20_000 {
				var dst [8]*Buf
				switch rnd.IntN(4) {
				case 0:
					if b := p.Get(); b != nil {
						held = append(held, b)
						b.Append(1)[0] = byte(g)
					}
				case 1:
					k := p.GetBatch(dst[:1+rnd.IntN(8)])
					for _, b := range dst[:k] {
						b.Append(1)[0] = byte(g)
					}
					held = append(held, dst[:k]...)
				case 2:
					k := min(len(held), rnd.IntN(9))
					check(t, held[:k], byte(g))
					PutBatch(held[:k])
					held = held[k:]
				case 3:
					if len(held) > 0 {
						check(t, held[:1], byte(g))
						held[0].Put()
						held = held[1:]
					}
				}
			}
			PutBatch(held)
		})
	}
	wg.Wait()
	for _, b := range all(t, p, n) {
		b.Put()
	}
}

func check(t *testing.T, bufs []*Buf, want byte) {
	for _, b := range bufs {
		if got := b.Bytes(); len(got) != 1 || got[0] != want {
			t.Errorf("a buffer of goroutine %d holds %v: it has two owners", want, got)
		}
	}
}

func TestBufEdits(t *testing.T) {
	p := newPool(t, 2)
	b := p.Get()
	copy(b.Append(5), "hello")
	copy(b.Prepend(2), "> ")
	b.Next = p.Get()
	copy(b.Next.Append(3), "abc")
	if string(b.Bytes()) != "> hello" || b.Len() != 7 || b.TotalLen() != 10 {
		t.Errorf("%q, %d, %d", b.Bytes(), b.Len(), b.TotalLen())
	}
	if b.Bus() != b.Mem.Bus+dma.Addr(b.Head) {
		t.Error("bus address is not that of the first byte")
	}
	b.Trim(2)
	if !bytes.Equal(b.Bytes(), []byte("hello")) {
		t.Errorf("%q after Trim", b.Bytes())
	}
	mustPanic(t, func() { b.Trim(6) })
	mustPanic(t, func() { b.Prepend(Headroom + 1) })
	b.Put()
	if p.InUse() != 0 {
		t.Error("Put does not end the chain")
	}
}

func mustPanic(t *testing.T, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	f()
}

func TestPoolRefuses(t *testing.T) {
	var mem dma.Host
	for _, c := range [][2]int{{0, 2048}, {-1, 2048}, {1, Headroom}} {
		if _, err := NewPool(&mem, c[0], c[1]); err == nil {
			t.Errorf("a pool of %d buffers of %d bytes is made", c[0], c[1])
		}
	}
	p, err := NewPool(&mem, 1, 2048)
	if err != nil {
		t.Fatal(err)
	}
	b := p.Get()
	if err := p.Close(&mem); err == nil {
		t.Error("a pool is closed with a buffer out")
	}
	b.Put()
	if err := p.Close(&mem); err != nil || mem.Live() != 0 {
		t.Error(err)
	}
}

func TestPoolDoesNotAllocate(t *testing.T) {
	p := newPool(t, 64)
	var dst [32]*Buf
	if n := testing.AllocsPerRun(1000, func() {
		k := p.GetBatch(dst[:])
		b := p.Get()
		PutBatch(dst[:k])
		b.Put()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPool(b *testing.B) {
	p := newPool(b, 64)
	var dst [32]*Buf
	b.Run("one", func(b *testing.B) {
		for range b.N {
			p.Get().Put()
		}
	})
	b.Run("batch", func(b *testing.B) {
		for range b.N {
			p.GetBatch(dst[:])
			PutBatch(dst[:])
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(dst)), "ns/buffer")
	})
}

// At gives the bytes that are inside the buffer's memory, and nothing else.
func TestAtStaysInside(t *testing.T) {
	var mem dma.Host
	p, err := NewPool(&mem, 2, 256)
	if err != nil {
		t.Fatal(err)
	}
	b := p.Get()
	defer b.Put()
	b.Mem.Bytes[100], b.Mem.Bytes[255] = 7, 8
	if h := At[[8]byte](b, 100); h == nil || h[0] != 7 {
		t.Error("At 100")
	}
	if h := At[[8]byte](b, 248); h == nil || h[7] != 8 {
		t.Error("At the end")
	}
	for _, off := range []int{-1, 249, 256, 1 << 62, -1 << 63} {
		if At[[8]byte](b, off) != nil {
			t.Errorf("At %d is not nil", off)
		}
	}
	if At[[257]byte](b, 0) != nil {
		t.Error("an array longer than the buffer")
	}
}
