package blk_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"osv/kernel/blk"
	"osv/kernel/hw/dma"
	"osv/kernel/ktest/fakedev"
)

// Any memory cut up by any shape comes back whole: parts follow each other, hold
// whole blocks, and keep each limit.
func TestGatherKeepsEachLimit(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		pow := func(lo, hi int, name string) int { return 1 << rapid.IntRange(lo, hi).Draw(rt, name) }
		s := blk.Shape{BlockSize: pow(9, 12, "block")}
		if rapid.Bool().Draw(rt, "has MaxSegBytes") {
			s.MaxSegBytes = pow(9, 14, "MaxSegBytes")
		}
		if rapid.Bool().Draw(rt, "has Boundary") {
			s.Boundary = pow(10, 16, "Boundary")
		}
		if rapid.Bool().Draw(rt, "has Page") {
			s.Page = pow(12, 13, "Page")
			s.MaxSegBytes, s.Boundary = 0, 0
		}
		if rapid.Bool().Draw(rt, "has MaxBytes") {
			s.MaxBytes = s.BlockSize * rapid.IntRange(1, 40).Draw(rt, "MaxBytes")
		}
		maxSegs := rapid.IntRange(1, 20).Draw(rt, "segs")
		if s.Check(maxSegs) != nil {
			rt.Skip()
		}
		var mem []dma.Region
		next, total := dma.Addr(1<<20), 0
		for range rapid.IntRange(1, 12).Draw(rt, "regions") {
			n := s.BlockSize * rapid.IntRange(1, 30).Draw(rt, "blocks")
			switch rapid.IntRange(0, 2).Draw(rt, "gap") { // 0: a neighbour
			case 1:
				next = (next + 8191) &^ 4095
			case 2:
				next += dma.Addr(4 * rapid.IntRange(1, 5000).Draw(rt, "gap/4"))
			}
			mem = append(mem, dma.Region{Bytes: make([]byte, n), Bus: next})
			next += dma.Addr(n)
			total += n
		}
		r := blk.Request{Op: blk.OpRead, Sector: 7, Mem: mem}
		r.Reset(7, uint64(total)/blk.SectorSize)
		var got []blk.Seg
		sum := 0
		for r.Left() > 0 {
			at := r.Cursor.Sector()
			segs, n := r.Cursor.Gather(make([]blk.Seg, 0, maxSegs), mem, &s)
			if n <= 0 || n%s.BlockSize != 0 || s.MaxBytes > 0 && n > s.MaxBytes || r.Cursor.Sector() != at+uint64(n)/blk.SectorSize {
				rt.Fatalf("part of %d bytes at sector %d, then %d", n, at, r.Cursor.Sector())
			}
			sum += n
			k := 0
			for i, g := range segs {
				k += int(g.Len)
				end := g.Addr + dma.Addr(g.Len)
				switch {
				case g.Len == 0 || s.MaxSegBytes > 0 && int(g.Len) > s.MaxSegBytes:
					rt.Fatalf("segment of %d bytes", g.Len)
				case s.Boundary > 0 && g.Addr/dma.Addr(s.Boundary) != (end-1)/dma.Addr(s.Boundary):
					rt.Fatalf("segment %#x+%d crosses a multiple of %d", g.Addr, g.Len, s.Boundary)
				case s.Page > 0 && i > 0 && int(g.Addr)%s.Page != 0 || s.Page > 0 && i < len(segs)-1 && int(end)%s.Page != 0:
					rt.Fatalf("segment %d of %d, %#x+%d, breaks the page rule", i, len(segs), g.Addr, g.Len)
				}
			}
			if k != n {
				rt.Fatalf("segments of %d bytes for a part of %d", k, n)
			}
			got = append(got, segs...)
		}
		if sum != total {
			rt.Fatalf("%d of %d bytes", sum, total)
		}
		// Byte by byte, in order, the memory given.
		i, off := 0, 0
		for _, g := range got {
			for n := int(g.Len); n > 0; {
				if g.Addr != mem[i].Bus+dma.Addr(off) {
					rt.Fatalf("segment at %#x, want region %d+%d", g.Addr, i, off)
				}
				k := min(n, len(mem[i].Bytes)-off)
				g.Addr += dma.Addr(k)
				n -= k
				if off += k; off == len(mem[i].Bytes) {
					i, off = i+1, 0
				}
			}
		}
	})
}

func TestShapeCheckRefuses(t *testing.T) {
	for _, c := range []struct {
		s    blk.Shape
		segs int
		ok   bool
	}{
		{blk.Shape{BlockSize: 512}, 1, true},
		{blk.Shape{BlockSize: 512}, 0, false},
		{blk.Shape{}, 1, false},
		{blk.Shape{BlockSize: 4096, MaxSegBytes: 1024}, 4, false},
		{blk.Shape{BlockSize: 4096, MaxSegBytes: 1024}, 5, true},
		{blk.Shape{BlockSize: 4096, Boundary: 4096}, 1, false},
		{blk.Shape{BlockSize: 4096, Boundary: 4096}, 2, true},
		{blk.Shape{BlockSize: 4096, MaxBytes: 512}, 2, false},
	} {
		if err := c.s.Check(c.segs); (err == nil) != c.ok {
			t.Errorf("%+v with %d segments: %v", c.s, c.segs, err)
		}
	}
}

func TestGatherDoesNotAllocate(t *testing.T) {
	mem := []dma.Region{{Bytes: make([]byte, 8192), Bus: 4096}, {Bytes: make([]byte, 4096), Bus: 1 << 20}}
	s := blk.Shape{BlockSize: 512, Page: 4096}
	segs := make([]blk.Seg, 0, 8)
	var r blk.Request
	if n := testing.AllocsPerRun(100, func() {
		r.Reset(0, 24)
		r.Cursor.Gather(segs, mem, &s)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestList(t *testing.T) {
	var l blk.List
	r := make([]blk.Request, 4)
	for i := range r {
		l.Push(&r[i])
	}
	if !l.Remove(&r[1]) || l.Remove(&r[1]) || !l.Remove(&r[3]) || !l.Remove(&r[0]) || l.Head() != &r[2] {
		t.Fatal("Remove")
	}
	l.Push(&r[0])
	if l.Pop() != &r[2] || l.Pop() != &r[0] || l.Pop() != nil || l.Head() != nil {
		t.Error("order")
	}
	n := 0
	r[0].Done = func(*blk.Request) { n++ }
	l.Push(&r[0])
	l.Finish()
	if n != 1 || l.Pop() != nil {
		t.Error("Finish")
	}
}

func TestBeginRefuses(t *testing.T) {
	one := dma.Region{Bytes: make([]byte, 4096), Bus: 4096}
	l := blk.Limits{Driver: "x", BlockSize: 4096, MemAlign: 4, WriteCache: true, MaxDiscard: 8}
	ro := l
	ro.ReadOnly = true
	low := l
	low.MemBelow = 4096
	noCache := l
	noCache.WriteCache = false
	for _, c := range []struct {
		l    *blk.Limits
		req  blk.Request
		want error // nil: begun
		text string
	}{
		{&l, blk.Request{Op: blk.OpRead, Mem: []dma.Region{one}}, nil, ""},
		{&l, blk.Request{Op: blk.OpRead}, blk.ErrRange, "x: read of 0 sectors at sector 0: beyond the end of the device: nothing to do"},
		{&l, blk.Request{Op: blk.OpRead, Mem: []dma.Region{{Bytes: one.Bytes[:512], Bus: 512}}}, blk.ErrAlign, "piece of 512 bytes"},
		{&l, blk.Request{Op: blk.OpRead, Mem: []dma.Region{{Bytes: one.Bytes, Bus: 2}}}, blk.ErrAlign, "memory at 0x2"},
		{&low, blk.Request{Op: blk.OpRead, Mem: []dma.Region{one}}, blk.ErrAlign, "wanted below 0x1000"},
		{&l, blk.Request{Op: blk.OpRead, Sector: 1, Mem: []dma.Region{one}}, blk.ErrAlign, "blocks of 4096"},
		{&l, blk.Request{Op: blk.OpRead, Sector: 80, Mem: []dma.Region{one}}, blk.ErrRange, "of 80 sectors"},
		{&l, blk.Request{Op: blk.OpWrite, Sector: 1<<64 - 8, Mem: []dma.Region{one}}, blk.ErrRange, ""},
		{&l, blk.Request{Op: blk.OpDiscard, Sectors: 80}, nil, ""},
		{&l, blk.Request{Op: blk.OpDiscard, Sectors: 1 << 63}, blk.ErrRange, ""},
		{&l, blk.Request{Op: blk.OpWriteZeroes, Sectors: 8}, blk.ErrUnsupported, ""},
		{&l, blk.Request{Op: blk.OpFlush}, nil, ""},
		{&l, blk.Request{Op: blk.OpDriver}, blk.ErrUnsupported, "op 128"},
		{&ro, blk.Request{Op: blk.OpWrite, Mem: []dma.Region{one}}, blk.ErrReadOnly, ""},
		{&ro, blk.Request{Op: blk.OpRead, Mem: []dma.Region{one}}, nil, ""},
	} {
		done := 0
		c.req.Done = func(*blk.Request) { done++ }
		begun := c.l.Begin(&c.req, 80)
		if begun != (c.want == nil) || begun == (done == 1) || !begun && (!errors.Is(c.req.Err, c.want) || !strings.Contains(c.req.Err.Error(), c.text)) {
			t.Errorf("%v: begun %v, done %d, %v; want %v", c.req.Op, begun, done, c.req.Err, c.want)
		}
	}
	r := blk.Request{Op: blk.OpFlush, Err: io.EOF, Done: func(*blk.Request) {}}
	if noCache.Begin(&r, 80) || r.Err != nil {
		t.Errorf("flush without a cache: %v", r.Err)
	}
	l.Refuse(&r, blk.ErrClosed)
	if !errors.Is(r.Err, blk.ErrClosed) {
		t.Error(r.Err)
	}
}

// ram is the driver of a disk in memory, which works at once.
type ram struct {
	*blk.Blocking
	limits blk.Limits
	b      []byte
	bad    uint64 // sector
	seen   []blk.Op
	err    error
}

func (d *ram) Size() int64 { return int64(len(d.b)) }
func (d *ram) Err() error  { return d.err }

func (d *ram) Submit(r *blk.Request) {
	if d.err != nil {
		d.limits.Refuse(r, d.err)
		return
	}
	if !d.limits.Begin(r, uint64(len(d.b)/blk.SectorSize)) {
		return
	}
	d.seen = append(d.seen, r.Op)
	at := d.b[r.Sector*blk.SectorSize:]
	if n := r.Left(); r.Sector <= d.bad && d.bad < r.Sector+n {
		r.Fail(&blk.Error{Driver: "ram", Op: r.Op, Sector: r.Sector, Count: n, Why: blk.ErrIO})
		r.Fail(io.EOF) // the first stays
		r.Done(r)
		return
	}
	for _, m := range r.Mem {
		if r.Op == blk.OpWrite {
			copy(at, m.Bytes)
		} else {
			copy(m.Bytes, at)
		}
		at = at[len(m.Bytes):]
	}
	if s, n := r.Range(1 << 40); r.Op == blk.OpWriteZeroes {
		clear(d.b[s*blk.SectorSize:][:n*blk.SectorSize])
	}
	r.Done(r)
}

func newRAM(t *testing.T, mem *fakedev.Mem, blockSize int) *ram {
	d := &ram{b: make([]byte, 1<<20), bad: 1 << 40,
		limits: blk.Limits{Driver: "ram", BlockSize: blockSize, WriteCache: true, MaxWriteZeroes: 8, MaxDiscard: 8}}
	for i := range d.b {
		d.b[i] = byte(i + i/512*7)
	}
	var err error
	if d.Blocking, err = blk.NewBlocking(d, &d.limits, mem, blk.Bounces{N: 3, Size: 4096}); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestBlocking(t *testing.T) {
	for _, bs := range []int{512, 4096, 8192} {
		var mem fakedev.Mem
		d := newRAM(t, &mem, bs)
		if d.BlockSize() != bs || d.ReadOnly() {
			t.Error(d.BlockSize(), d.ReadOnly())
		}
		for _, x := range []struct {
			n   int
			off int64
		}{{0, 0}, {1, 1}, {100000, 777}, {1 << 20, 0}, {3, 1<<20 - 3}} {
			p := make([]byte, x.n)
			if n, err := d.ReadAt(p, x.off); n != x.n || err != nil || !bytes.Equal(p, d.b[x.off:x.off+int64(x.n)]) {
				t.Errorf("ReadAt %d at %d: %d, %v", x.n, x.off, n, err)
			}
		}
		if n, err := d.ReadAt(make([]byte, 10), 1<<20-4); n != 4 || err != io.EOF {
			t.Errorf("across the end: %d, %v", n, err)
		}
		if n, err := d.ReadAt(make([]byte, 10), 1<<20); n != 0 || err != io.EOF {
			t.Errorf("at the end: %d, %v", n, err)
		}
		if _, err := d.ReadAt(nil, -1); !errors.Is(err, blk.ErrRange) {
			t.Error(err)
		}
		p := bytes.Repeat([]byte("abcdefg!"), 3*8192/8)
		if n, err := d.WriteAt(p, 16384); n != len(p) || err != nil || !bytes.Equal(d.b[16384:][:len(p)], p) {
			t.Errorf("WriteAt: %d, %v", n, err)
		}
		for _, x := range []struct {
			n    int
			off  int64
			want error
		}{{bs, 1 << 20, blk.ErrRange}, {2 << 20, 0, blk.ErrRange}, {bs, -int64(bs), blk.ErrRange}, {bs - 1, 0, blk.ErrAlign}, {bs, 1, blk.ErrAlign}} {
			if n, err := d.WriteAt(make([]byte, x.n), x.off); n != 0 || !errors.Is(err, x.want) {
				t.Errorf("WriteAt %d at %d: %d, %v; want %v", x.n, x.off, n, err, x.want)
			}
		}
		d.bad = 64 // byte 32768
		if n, err := d.WriteAt(make([]byte, 65536), 16384); n != 16384 || !errors.Is(err, blk.ErrIO) || err == io.EOF {
			t.Errorf("across a bad sector: %d, %v", n, err)
		}
		d.bad = 1 << 40
		if err := errors.Join(d.Flush(), d.Discard(0, int64(bs)), d.Discard(5<<40, 0), d.WriteZeroes(int64(bs), int64(bs))); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(d.b[bs:2*bs], make([]byte, bs)) {
			t.Error("WriteZeroes left bytes")
		}
		if err := d.Discard(1, 512); !errors.Is(err, blk.ErrAlign) {
			t.Error(err)
		}
		d.limits.WriteCache = false
		d.seen = nil
		if err := d.Flush(); err != nil || d.seen != nil {
			t.Error("flush without a cache:", err, d.seen)
		}
		d.limits.ReadOnly = true
		if _, err := d.WriteAt(make([]byte, bs), 0); !errors.Is(err, blk.ErrReadOnly) {
			t.Error(err)
		}
		d.err = blk.ErrClosed
		d.Free()
		if _, err := d.ReadAt(make([]byte, 1), 0); !errors.Is(err, blk.ErrClosed) {
			t.Error(err)
		}
		if mem.Live() != 0 {
			t.Error(mem.Live(), "regions leaked")
		}
	}
	if err := (&blk.Bounces{Size: 5000}).Check(); err == nil {
		t.Error("bounce buffers of 5000 bytes")
	}
	var none *blk.Blocking
	none.Free()
}

// A command is late after the timeout, at most a quarter more, and the timer rests
// when there is nothing under way.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fired := make(chan struct{}, 1)
		w := blk.NewWatch(4*time.Second, func() { fired <- struct{}{} })
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(fired) != 0 {
			t.Fatal("fired before Begin")
		}
		start := time.Now()
		at := w.Begin()
		for {
			<-fired
			w.Tick(true)
			if w.Late(at) {
				break
			}
		}
		if d := time.Since(start); d < 4*time.Second || d > 5*time.Second {
			t.Errorf("late after %v", d)
		}
		if w.Late(w.Begin()) {
			t.Error("late at once")
		}
		<-fired
		w.Tick(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(fired) != 0 {
			t.Error("fires when idle")
		}
		w.Begin()
		w.Stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(fired) != 0 {
			t.Error("fires after Stop")
		}
	})
}

func TestTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := blk.NewTurn()
		n := 0
		for range 10 {
			go func() {
				turn.Lock()
				defer turn.Unlock()
				k := n
				time.Sleep(time.Second) // who waits for the turn is asleep, too
				n = k + 1
			}()
		}
		time.Sleep(11 * time.Second)
		turn.Lock()
		if n != 10 {
			t.Errorf("%d turns of 10", n)
		}
	})
}
