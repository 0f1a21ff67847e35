package pkt

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"osv/kernel/hw/dma"
)

func sharedPool(t testing.TB, n, shares int) *Pool {
	t.Helper()
	var mem dma.Host
	p, err := NewSharedPool(&mem, n, 4096, shares)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if n := p.shares.InUse(); n != 0 {
			t.Errorf("%d shares are out", n)
		}
		if err := p.Close(&mem); err != nil {
			t.Error(err)
		}
		if mem.Live() != 0 {
			t.Error("the pool's memory was not freed")
		}
	})
	return p
}

func TestShareIsTheSameBytes(t *testing.T) {
	p := sharedPool(t, 2, 2)
	b := p.Get()
	copy(b.Mem.Bytes, "0123456789")
	s := b.Share(2, 5)
	if string(s.Bytes()) != "23456" || s.Bus() != b.Mem.Bus+2 || s.Headroom() != 0 || s.Tailroom() != 0 || cap(s.Bytes()) != 5 {
		t.Errorf("%q at %#x of %#x, %d, %d, %d", s.Bytes(), s.Bus(), b.Mem.Bus, s.Headroom(), s.Tailroom(), cap(s.Bytes()))
	}
	if s.Share(0, 1) != nil {
		t.Error("a share of a share")
	}
	mustPanic(t, func() { b.Share(4095, 2) })
	if s2 := b.Share(0, 1); s2 == nil || b.Share(0, 1) != nil {
		t.Error("more shares than there are, or fewer")
	} else {
		s2.Put()
	}
	b.Put()
	if p.InUse() != 1 {
		t.Error("a buffer went back while a share of it is out")
	}
	s.Put()
	if p.InUse() != 0 {
		t.Error("the last share does not end the buffer")
	}
	if plain := newPool(t, 1); true {
		b := plain.Get()
		if b.Share(0, 1) != nil {
			t.Error("a share of a pool without")
		}
		b.Put()
	}
}

// Shares come back with chains, in batches, before and after their buffer, beside
// buffers of other pools.
func TestSharesComeBack(t *testing.T) {
	p, other := sharedPool(t, 4, 64), newPool(t, 8)
	for i := range 20 {
		b := p.Get()
		frame, tail := other.Get(), other.Get()
		frame.Next = b.Share(0, 10)
		frame.Next.Next = b.Share(10, 10)
		frame.Next.Next.Next = tail
		tail.Next = other.Get()
		alone := b.Share(20, 10)
		if i%2 == 0 {
			b.Put()
			PutBatch([]*Buf{alone, frame, other.Get()})
		} else {
			PutBatch([]*Buf{frame, alone, b})
		}
		if p.InUse()+p.shares.InUse()+other.InUse() != 0 {
			t.Fatalf("round %d: %d buffers, %d shares and %d others are out", i, p.InUse(), p.shares.InUse(), other.InUse())
		}
	}
}

// One shares, others put: no buffer comes back while a share is out, none is lost.
func TestSharesUnderContention(t *testing.T) {
	p := sharedPool(t, 8, 256)
	out := make(chan *Buf, 128)
	var putters, owners sync.WaitGroup
	for range 3 {
		putters.Go(func() {
			for s := range out {
				if want := s.of.Mem.Bytes[0]; s.Bytes()[0] != want {
					t.Errorf("a share reads %d, its buffer %d", s.Bytes()[0], want)
				}
				s.Put()
			}
		})
	}
	for g := range 2 {
		owners.Go(func() {
			rnd := rand.New(rand.NewPCG(7, uint64(g)))
			for i := range 20_000 {
				b := p.Get()
				if b == nil {
					continue
				}
				b.Mem.Bytes[0] = byte(i)
				for range rnd.IntN(4) {
					if s := b.Share(0, 1); s != nil {
						out <- s
					}
				}
				b.Put()
			}
		})
	}
	owners.Wait()
	close(out)
	putters.Wait()
	for _, b := range all(t, p, 8) {
		if atomic.LoadInt32(&b.refs) != 0 {
			t.Error("a buffer with shares came back")
		}
		b.Put()
	}
}

func TestShareDoesNotAllocate(t *testing.T) {
	p := sharedPool(t, 2, 16)
	if n := testing.AllocsPerRun(1000, func() {
		b := p.Get()
		s := b.Share(0, 100)
		s.Next = b.Share(100, 100)
		b.Put()
		s.Put()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSharedPoolRefuses(t *testing.T) {
	var mem dma.Host
	for _, c := range [][2]int{{1, 0}, {1, -1}, {0, 1}} {
		if _, err := NewSharedPool(&mem, c[0], 4096, c[1]); err == nil {
			t.Errorf("a pool of %d buffers with %d shares is made", c[0], c[1])
		}
	}
	if mem.Live() != 0 {
		t.Error("memory is left behind")
	}
}
