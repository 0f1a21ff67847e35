package cache

import (
	"bytes"
	"errors"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"osv/kernel/vfs"
)

func TestFlusherWritesByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _, s, f := setup(1000, 0)
		c.Start()
		c.Start()
		f.Write(&vfs.Bytes{B: []byte("old enough")}, 0)
		time.Sleep(29 * time.Second)
		synctest.Wait()
		if s.cleaned() != 0 {
			t.Error("written too early")
		}
		time.Sleep(7 * time.Second)
		synctest.Wait()
		if s.cleaned() != 1 || c.Stats().Dirty != 0 {
			t.Errorf("%d, %+v", s.cleaned(), c.Stats())
		}
		// Many dirty pages are written without waiting; a writer that makes too many
		// writes them itself.
		f.Write(&vfs.Bytes{B: make([]byte, 150*PageSize)}, 0)
		synctest.Wait()
		if d := c.Stats().Dirty; d != 0 {
			t.Errorf("%d pages are dirty", d)
		}
		c.Stop()
		c.Stop()
		f.Write(&vfs.Bytes{B: make([]byte, 250*PageSize)}, 0)
		if d := c.Stats().Dirty; d != 0 {
			t.Errorf("%d pages are dirty without the flusher", d)
		}
	})
}

func TestMemoryPressure(t *testing.T) {
	c, h, s, f := setup(128, 0)
	s.b = make([]byte, 1000*PageSize)
	f.SetSize(int64(len(s.b)))
	for i := range 128 {
		readAt(t, f, int64(i)*PageSize, 1, nil)
	}
	if c.Claim() != 0 {
		t.Error(c.Claim())
	}
	if n := c.Shrink(60 * PageSize); n != 60*PageSize || h.Used() != 68 {
		t.Errorf("%d bytes, %d frames", n, h.Used())
	}
	pin, _ := f.PageAt(PageSize*100, false)
	if n := c.Shrink(1000 * PageSize); n < 50*PageSize || h.Used() > 18 {
		t.Errorf("%d bytes, %d frames", n, h.Used())
	}
	if n := c.Shrink(PageSize); n != 0 {
		t.Error(n)
	}
	if got := pin.Bytes(); len(got) != PageSize {
		t.Error("a page in use went")
	}
	pin.Release()
	if n := c.Grow(1 << 30); n != 112*PageSize {
		t.Errorf("%d bytes", n)
	}
	if n := c.Claim(); n < 100*PageSize {
		t.Errorf("%d bytes", n)
	}
	// Where frames run out before the limit, old pages go; dirty ones are written.
	h.Max = 40
	if n, err := f.Write(&vfs.Bytes{B: make([]byte, 39*PageSize)}, 0); n != 39*PageSize || err != nil {
		t.Error(n, err)
	}
	for i := range 100 {
		readAt(t, f, int64(200+i)*PageSize, 1, nil)
	}
	var pins []vfs.Page
	var err error
	for i := int64(0); err == nil; i++ {
		var p vfs.Page
		if p, err = f.PageAt(i*PageSize, false); err == nil {
			pins = append(pins, p)
		}
	}
	if err != syscall.ENOMEM || len(pins) != 40 {
		t.Errorf("%v after %d pages", err, len(pins))
	}
	for _, p := range pins {
		p.Release()
	}
	f.Close()
}

func TestReadersShareAFile(t *testing.T) {
	c, h, s, f := setup(48, 0)
	s.b = pattern(200 * PageSize)
	f.SetSize(int64(len(s.b)))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			var ra ReadAhead
			b := make([]byte, 3*PageSize)
			for i := range 600 {
				off := int64((i*(2*g+1)*5000 + g*777) % len(s.b))
				if g == 3 {
					off = int64(i * 8192 % len(s.b))
				}
				d := vfs.Bytes{B: b}
				n, err := f.Read(&d, off, &ra)
				if err != nil || !bytes.Equal(b[:n], s.b[off:off+int64(n)]) {
					t.Errorf("read at %d: %d, %v", off, n, err)
					return
				}
				if i%50 == 0 {
					f.Invalidate(off>>PageShift, off>>PageShift+8)
				}
			}
		}()
	}
	wg.Wait()
	f.Close()
	if h.Used() != 0 || c.Stats().Pages != 0 {
		t.Errorf("%d frames, %+v", h.Used(), c.Stats())
	}
}

func TestSyncAll(t *testing.T) {
	c := New(Config{Frames: &Heap{}})
	var s [3]store
	for i := range s {
		f := c.NewFile(&s[i], uint64(i), 0)
		f.Write(&vfs.Bytes{B: []byte("x")}, 0)
	}
	s[1].cleanErr = syscall.EIO
	err := c.SyncAll(func(b Backing) bool { return b != Backing(&s[2]) })
	if !errors.Is(err, syscall.EIO) || len(s[0].cleans) != 1 || len(s[2].cleans) != 0 {
		t.Error(err, s[0].cleans, s[2].cleans)
	}
}

func TestHeap(t *testing.T) {
	h := &Heap{Max: 1}
	frame, b, err := h.Alloc(false)
	if err != nil || frame == 0 {
		t.Fatal(err)
	}
	b[0] = 1
	if _, _, err := h.Alloc(true); err != syscall.ENOMEM {
		t.Error(err)
	}
	h.Free(frame, b)
	if _, b, _ = h.Alloc(true); b[0] != 0 {
		t.Error("not zero")
	}
	h.Free(frame, b)
	defer func() {
		if recover() == nil {
			t.Error("a frame was freed twice")
		}
	}()
	h.Free(frame, b)
}

func BenchmarkCachedRead4K(b *testing.B) {
	_, _, _, f := setup(1024, 512*PageSize)
	var ra ReadAhead
	readAt(b, f, 0, 512*PageSize, &ra)
	b.ReportAllocs()
	b.SetBytes(PageSize)
	b.RunParallel(func(pb *testing.PB) {
		d := &vfs.Bytes{B: make([]byte, PageSize)}
		i := int64(0)
		for pb.Next() {
			*d = vfs.Bytes{B: d.B}
			f.Read(d, i%512*PageSize, &ra)
			i++
		}
	})
}

func BenchmarkCachedWrite4K(b *testing.B) {
	_, _, _, f := setup(4096, 512*PageSize)
	d := &vfs.Bytes{B: make([]byte, PageSize)}
	b.ReportAllocs()
	b.SetBytes(PageSize)
	for i := range b.N {
		*d = vfs.Bytes{B: d.B}
		f.Write(d, int64(i%64)*PageSize)
	}
}
