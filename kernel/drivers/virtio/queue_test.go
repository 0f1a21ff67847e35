package virtio_test

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"osv/kernel/drivers/virtio"
	"osv/kernel/hw/dma"
	"osv/kernel/ktest/fakedev"
)

func (r *rig) at(off, n int) virtio.Seg {
	return virtio.Seg{Addr: r.buf.Bus + dma.Addr(off), Len: uint32(n)}
}

func (r *rig) wantBroken(want string) {
	r.t.Helper()
	if _, _, ok := r.q.Reap(); ok {
		r.t.Error("Reap takes what is a lie")
	}
	if err := r.q.Err(); err == nil || err.Error() != "virtio-test: queue 0: "+want {
		r.t.Errorf("Err: %v\nwant %q", err, want)
	}
	if _, ok := r.q.PostRead(r.buf.Bus, 1); ok {
		r.t.Error("a broken queue takes buffers")
	}
	if _, ok := r.q.Post([]virtio.Seg{r.at(0, 1), r.at(1, 1)}, 1); ok {
		r.t.Error("a broken queue takes chains")
	}
	if r.q.Pending() {
		r.t.Error("a broken queue has something to give")
	}
}

func TestChainArrivesAsPosted(t *testing.T) {
	for _, c := range []struct {
		name string
		o    opt
	}{
		{"indirect", opt{features: modern, size: 8, maxSegs: 4}},
		{"direct", opt{features: fakedev.FeatureVersion1, size: 8, maxSegs: 4}},
		{"too long for the table", opt{features: modern, size: 8, maxSegs: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.o)
			copy(r.buf.Bytes, "hello, device")
			for range 5 { // around the ring
				head, ok := r.q.Post([]virtio.Seg{r.at(0, 5), r.at(5, 8), r.at(100, 3), r.at(200, 10)}, 2)
				if !ok {
					t.Fatal("no room")
				}
				r.q.Publish()
				got, ok := r.fq.Pop()
				if !ok || len(got.Segs) != 4 || got.Readable() != 13 || got.Writable() != 13 {
					t.Fatalf("device sees %+v", got)
				}
				b := make([]byte, 13)
				got.Read(0, b)
				got.Write(0, []byte("hello, driver"))
				r.fq.Push(got.Head, 13)
				r.fq.Flush()
				h, n, ok := r.q.Reap()
				if h != head || n != 13 || !ok {
					t.Fatalf("Reap = %d, %d, %v; posted %d", h, n, ok, head)
				}
				if string(b) != "hello, device" || string(r.buf.Bytes[100:103])+string(r.buf.Bytes[200:210]) != "hello, driver" {
					t.Error("bytes differ")
				}
				if r.q.Free() != 8 || r.q.InFlight() != 0 {
					t.Errorf("%d free, %d in flight", r.q.Free(), r.q.InFlight())
				}
			}
		})
	}
}

func TestFullRingRefuses(t *testing.T) {
	r := newRig(t, opt{features: fakedev.FeatureVersion1, size: 8})
	for i := range 7 {
		if _, ok := r.q.PostWrite(r.buf.Bus, 1); !ok {
			t.Fatalf("refused at %d of 8", i)
		}
	}
	if _, ok := r.q.Post([]virtio.Seg{r.at(0, 1), r.at(1, 1)}, 2); ok {
		t.Error("2 descriptors fit 1")
	}
	if _, ok := r.q.PostWrite(r.buf.Bus, 1); !ok {
		t.Error("the last descriptor is refused")
	}
	if _, ok := r.q.PostWrite(r.buf.Bus, 1); ok {
		t.Error("9 descriptors fit 8")
	}
	r.q.Publish()
	if n := r.fq.Avail(); n != 8 {
		t.Errorf("device sees %d chains", n)
	}
}

func TestNothingIsVisibleBeforePublish(t *testing.T) {
	r := newRig(t, opt{features: modern, size: 8})
	if r.q.Publish() {
		t.Error("doorbell without a buffer")
	}
	r.q.PostRead(r.buf.Bus, 1)
	r.q.PostRead(r.buf.Bus, 1)
	if r.fq.Avail() != 0 {
		t.Error("visible before Publish")
	}
	if !r.q.Publish() || r.fq.Avail() != 2 || r.fq.Notified() != 1 || r.q.Doorbells() != 1 {
		t.Errorf("after Publish: %d chains, %d doorbells", r.fq.Avail(), r.fq.Notified())
	}
}

// §2.7.10: no doorbell while the device has not caught up with what it knows of.
func TestDoorbellOnlyWhereTheDeviceAsks(t *testing.T) {
	for _, f := range []uint64{modern, modern &^ fakedev.FeatureEventIdx} {
		r := newRig(t, opt{features: f, size: 8})
		post := func() bool {
			r.q.PostRead(r.buf.Bus, 1)
			return r.q.Publish()
		}
		if !post() {
			t.Error("no doorbell for the first buffer")
		}
		if again := post(); again == (f&fakedev.FeatureEventIdx != 0) {
			t.Errorf("features %#x: doorbell for the second buffer: %v", f, again)
		}
		for { // the device catches up and asks again
			if _, ok := r.fq.Pop(); !ok {
				break
			}
		}
		if !post() {
			t.Error("no doorbell for a device that waits")
		}
	}
}

func TestInterruptOnlyWhereTheDriverAsks(t *testing.T) {
	for _, f := range []uint64{modern, modern &^ fakedev.FeatureEventIdx} {
		r := newRig(t, opt{features: f, size: 8})
		use := func(n int) (fired bool) {
			for range n {
				r.q.PostRead(r.buf.Bus, 1)
			}
			r.q.Publish()
			for range n {
				c, _ := r.fq.Pop()
				r.fq.Push(c.Head, 0)
			}
			return r.fq.Flush()
		}
		reap := func() (n int) {
			for {
				if _, _, ok := r.q.Reap(); !ok {
					return n
				}
				n++
			}
		}
		if r.q.Disarm(); use(1) {
			t.Errorf("features %#x: interrupt though not armed", f)
		}
		if r.q.Arm() {
			t.Error("Arm does not see a buffer that is there")
		}
		reap()
		if !r.q.Arm() || r.q.Fired() {
			t.Error("Arm sees a buffer where none is")
		}
		if !use(2) || !r.q.Fired() || !r.q.Pending() {
			t.Errorf("features %#x: no interrupt though armed", f)
		}
		r.q.Disarm()
		if use(1) {
			t.Errorf("features %#x: interrupt after Disarm", f)
		}
		if n := reap(); n != 3 {
			t.Errorf("%d buffers", n)
		}
		if f&fakedev.FeatureEventIdx != 0 {
			if !r.q.ArmAfter(3) || use(1) || use(1) || !use(1) {
				t.Error("ArmAfter(3) does not mean the third")
			}
			if r.q.ArmAfter(3) || !r.q.ArmAfter(4) {
				t.Error("ArmAfter counts wrongly what is there")
			}
		}
	}
}

// The ring's indices wrap at 65,536.
func TestIndicesWrap(t *testing.T) {
	for _, f := range []uint64{modern, modern &^ fakedev.FeatureEventIdx} {
		r := newRig(t, opt{features: f, size: 4})
		for i := range 70_000 {
			r.q.PostRead(r.buf.Bus, 1)
			r.q.Publish()
			if !r.q.Arm() {
				t.Fatalf("buffer %d is used before it was", i)
			}
			c, ok := r.fq.Pop()
			if !ok {
				t.Fatalf("device does not see buffer %d", i)
			}
			if _, ok := r.fq.Pop(); ok { // asks for the next doorbell
				t.Fatalf("device sees a buffer after %d", i)
			}
			r.fq.Push(c.Head, 0)
			if !r.fq.Flush() {
				t.Fatalf("no interrupt for buffer %d", i)
			}
			if _, _, ok := r.q.Reap(); !ok {
				t.Fatalf("driver does not see buffer %d: %v", i, r.q.Err())
			}
		}
		if n := r.fq.Notified(); n != 70_000 {
			t.Errorf("%d doorbells", n)
		}
	}
}

func TestLiesBreakTheQueue(t *testing.T) {
	for _, c := range []struct {
		name string
		lie  func(r *rig, head uint16)
		want string
	}{
		{"id out of range", func(r *rig, _ uint16) { r.fq.PushRaw(8, 0) }, "used ring slot 0 names descriptor 8 of 8"},
		{"id beyond 16 bits", func(r *rig, h uint16) { r.fq.PushRaw(uint32(h)|1<<16, 0) }, "used ring slot 0 names descriptor 65536 of 8"},
		{"id not outstanding", func(r *rig, h uint16) { r.fq.PushRaw(7, 0) }, "used ring slot 0 names descriptor 7, which is not outstanding"},
		{"length", func(r *rig, h uint16) { r.fq.PushRaw(uint32(h), 101) }, "descriptor 0: device says it wrote 101 bytes into 100"},
		{"used index", func(r *rig, h uint16) { r.fq.SkipUsed(3) }, "used index went from 0 to 3 with 2 buffers outstanding"},
		{"used index back", func(r *rig, h uint16) { r.fq.SkipUsed(65535) }, "used index went from 0 to 65535 with 2 buffers outstanding"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, opt{features: modern, size: 8})
			head, _ := r.q.PostWrite(r.buf.Bus, 100)
			r.q.PostWrite(r.buf.Bus, 100)
			r.q.Publish()
			c.lie(r, head)
			r.fq.Flush()
			r.wantBroken(c.want)
		})
	}
}

// The same buffer given back twice.
func TestUsedTwiceBreaksTheQueue(t *testing.T) {
	r := newRig(t, opt{features: modern, size: 8})
	head, _ := r.q.PostWrite(r.buf.Bus, 100)
	r.q.PostWrite(r.buf.Bus, 100)
	r.q.Publish()
	r.fq.Push(head, 1)
	r.fq.Push(head, 1)
	r.fq.Flush()
	if _, _, ok := r.q.Reap(); !ok {
		t.Error("the first time is right")
	}
	r.wantBroken("used ring slot 1 names descriptor 0, which is not outstanding")
}

// The middle of a chain is not its head.
func TestMiddleOfAChainBreaksTheQueue(t *testing.T) {
	r := newRig(t, opt{features: fakedev.FeatureVersion1, size: 8})
	r.q.Post([]virtio.Seg{r.at(0, 1), r.at(1, 1), r.at(2, 1)}, 3)
	r.q.Publish()
	r.fq.PushRaw(1, 0)
	r.fq.Flush()
	r.wantBroken("used ring slot 0 names descriptor 1, which is not outstanding")
}

// What the device scribbles into the descriptor table does not matter: the driver
// does not read it back.
func TestScribbledDescriptorsDoNotMatter(t *testing.T) {
	r := newRig(t, opt{features: fakedev.FeatureVersion1, size: 8})
	head, _ := r.q.Post([]virtio.Seg{r.at(0, 1), r.at(1, 1), r.at(2, 1)}, 3)
	r.q.Publish()
	c, _ := r.fq.Pop()
	ring := r.mem.Region(0)
	copy(ring, bytes.Repeat([]byte{0xff}, 8*16))
	r.fq.Push(c.Head, 0)
	r.fq.Flush()
	if h, _, ok := r.q.Reap(); h != head || !ok || r.q.Free() != 8 {
		t.Errorf("Reap = %d, %v, %d free; %v", h, ok, r.q.Free(), r.q.Err())
	}
}

// §2.7.8.1: lengths of legacy devices mean nothing for what they only read.
func TestLegacyLengthOfReadBufferIsIgnored(t *testing.T) {
	for _, name := range fronts {
		r := newRig(t, opt{features: modern, size: 8, front: name})
		head, _ := r.q.PostRead(r.buf.Bus, 10)
		r.q.Publish()
		r.fq.PushRaw(uint32(head), 10)
		r.fq.Flush()
		_, n, ok := r.q.Reap()
		if ok != legacy(name) || n != 0 {
			t.Errorf("%s: %d, %v", name, n, ok)
		}
	}
}

func TestBreakKeepsTheFirstReason(t *testing.T) {
	r := newRig(t, opt{features: modern, size: 8})
	r.q.PostWrite(r.buf.Bus, 1)
	r.q.Publish()
	c, _ := r.fq.Pop()
	r.fq.Push(c.Head, 0)
	r.fq.Flush()
	r.q.Break("first %d", 1)
	r.q.Break("second")
	r.wantBroken("first 1")
}

func TestPostOfNothingIsTheCallersBug(t *testing.T) {
	r := newRig(t, opt{features: modern, size: 8})
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	r.q.Post(nil, 0)
}

// Any run of posts, uses in any order and reaps: every head comes back once with
// its length, and the ring is whole at the end.
func TestAnyRunComesBackWhole(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		features := rapid.SampledFrom([]uint64{modern, fakedev.FeatureVersion1,
			modern &^ fakedev.FeatureEventIdx, modern &^ fakedev.FeatureIndirectDesc}).Draw(rt, "features")
		size := 1 << rapid.IntRange(1, 5).Draw(rt, "size")
		r := newRig(t, opt{features: features, size: size, maxSegs: 4})
		out := map[uint16]uint32{}  // head to length it will be given back with
		room := map[uint16]uint32{} // head to bytes the device may write
		var popped []uint16
		use := func() {
			i := rapid.IntRange(0, len(popped)-1).Draw(rt, "which")
			h := popped[i]
			popped = append(popped[:i], popped[i+1:]...)
			out[h] = uint32(rapid.IntRange(0, int(room[h])).Draw(rt, "length"))
			r.fq.Push(h, int(out[h]))
			r.fq.Flush()
		}
		pop := func() bool {
			c, ok := r.fq.Pop()
			if ok {
				if c.Writable() != int(room[c.Head]) {
					rt.Fatalf("device sees %d writable bytes of %d", c.Writable(), room[c.Head])
				}
				popped = append(popped, c.Head)
			}
			return ok
		}
		reap := func() bool {
			h, n, ok := r.q.Reap()
			if ok {
				if want, known := out[h]; !known || n != want {
					rt.Fatalf("head %d came back with %d, want %d (%v)", h, n, want, known)
				}
				delete(out, h)
				delete(room, h)
			}
			return ok
		}
		reapMany := func() {
			dst := make([]virtio.Used, rapid.IntRange(0, 40).Draw(rt, "most"))
			for _, u := range dst[:r.q.ReapBatch(dst)] {
				if want, known := out[u.Head]; !known || u.Len != want {
					rt.Fatalf("head %d came back with %d, want %d (%v)", u.Head, u.Len, want, known)
				}
				delete(out, u.Head)
				delete(room, u.Head)
			}
		}
		postMany := func() {
			ps := make([]virtio.Piece, rapid.IntRange(0, 40).Draw(rt, "pieces"))
			for i := range ps {
				ps[i] = virtio.Piece{Addr: r.at(i*100, 0).Addr, Len: uint32(1 + i)}
			}
			free, post, write := r.q.Free(), r.q.PostReads, uint32(0)
			if rapid.Bool().Draw(rt, "write") {
				post, write = r.q.PostWrites, 1
			}
			n := post(ps)
			if n != min(free, len(ps)) {
				rt.Fatalf("%d of %d pieces taken with %d free", n, len(ps), free)
			}
			for _, p := range ps[:n] {
				if _, twice := room[p.Head]; twice {
					rt.Fatalf("head %d is given twice", p.Head)
				}
				room[p.Head] = p.Len * write
			}
		}
		for range rapid.IntRange(1, 200).Draw(rt, "steps") {
			switch rapid.IntRange(0, 6).Draw(rt, "do") {
			case 5:
				postMany()
			case 6:
				reapMany()
			case 0:
				n := rapid.IntRange(1, 5).Draw(rt, "segments")
				k := rapid.IntRange(0, n).Draw(rt, "readable")
				segs := make([]virtio.Seg, n)
				var w uint32
				for i := range segs {
					segs[i] = r.at(i*100, 1+i)
					if i >= k {
						w += segs[i].Len
					}
				}
				need := n
				if features&fakedev.FeatureIndirectDesc != 0 && n > 1 && n <= 4 {
					need = 1
				}
				free := r.q.Free()
				h, ok := r.q.Post(segs, k)
				if ok != (free >= need) {
					rt.Fatalf("Post of %d with %d free: %v", need, free, ok)
				}
				if ok {
					if _, twice := room[h]; twice {
						rt.Fatalf("head %d is given twice", h)
					}
					room[h] = w
				}
			case 1:
				r.q.Publish()
			case 2:
				pop()
			case 3:
				if len(popped) > 0 {
					use()
				}
			case 4:
				reap()
			}
			if r.q.InFlight() != len(room) {
				rt.Fatalf("%d in flight, should be %d", r.q.InFlight(), len(room))
			}
		}
		r.q.Publish()
		for pop() {
		}
		for len(popped) > 0 {
			use()
		}
		for reap() {
		}
		if r.q.Free() != size || r.q.InFlight() != 0 || len(room) != 0 || r.q.Err() != nil {
			rt.Fatalf("at the end %d of %d free, %d in flight, %v", r.q.Free(), size, r.q.InFlight(), r.q.Err())
		}
	})
}

// Any garbage in the used ring: never a panic, and what is taken was posted.
func FuzzUsedRing(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0}, uint16(1), 0)
	f.Add([]byte{9, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0}, uint16(3), 1)
	f.Add([]byte{0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 2, 0, 0, 1, 0, 2, 0, 0, 51, 0}, uint16(0), 4)
	f.Fuzz(func(t *testing.T, garbage []byte, idx uint16, batch int) {
		r := newRig(t, opt{features: modern, size: 8, maxSegs: 3})
		posted := map[uint16]bool{}
		for range 3 {
			h, _ := r.q.PostWrite(r.buf.Bus, 50)
			posted[h] = true
			if h, ok := r.q.Post([]virtio.Seg{r.at(0, 9), r.at(9, 9), r.at(18, 9), r.at(30, 9)}, 2); ok {
				posted[h] = true
			}
		}
		r.q.Publish()
		for len(garbage) >= 5 {
			r.fq.PushRaw(uint32(garbage[0])|uint32(garbage[1])<<8|uint32(garbage[2]&1)<<31, uint32(garbage[3])|uint32(garbage[4])<<24)
			garbage = garbage[5:]
		}
		r.fq.SkipUsed(idx)
		r.fq.Flush()
		taken := func(h uint16, n uint32) {
			if !posted[h] || n > 50 {
				t.Fatalf("Reap gives %d with %d bytes", h, n)
			}
			delete(posted, h)
		}
		var dst [4]virtio.Used
		for {
			if k := batch & 7; k > 0 {
				k = r.q.ReapBatch(dst[:min(k, len(dst))])
				for _, u := range dst[:k] {
					taken(u.Head, u.Len)
				}
				if k == 0 {
					break
				}
				continue
			}
			h, n, ok := r.q.Reap()
			if !ok {
				break
			}
			taken(h, n)
		}
	})
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	for _, c := range []struct {
		name string
		o    opt
		post func(r *rig)
	}{
		{"one", opt{features: modern, size: 64}, func(r *rig) { r.q.PostWrite(r.buf.Bus, 64) }},
		{"pieces", opt{features: modern, size: 64}, func(r *rig) {
			p := [1]virtio.Piece{{Addr: r.buf.Bus, Len: 64}}
			r.q.PostWrites(p[:])
			r.q.ReapBatch(nil)
		}},
		{"chain", opt{features: fakedev.FeatureVersion1, size: 64}, func(r *rig) {
			s := [3]virtio.Seg{r.at(0, 1), r.at(1, 1), r.at(2, 1)}
			r.q.Post(s[:], 1)
		}},
		{"indirect", opt{features: modern, size: 64, maxSegs: 3}, func(r *rig) {
			s := [3]virtio.Seg{r.at(0, 1), r.at(1, 1), r.at(2, 1)}
			r.q.Post(s[:], 1)
		}},
	} {
		r := newRig(t, c.o)
		n := testing.AllocsPerRun(1000, func() {
			for range 8 {
				c.post(r)
			}
			r.q.Publish()
			r.q.Arm()
			r.fq.Complete(8, 1)
			for range 8 {
				if _, _, ok := r.q.Reap(); !ok {
					t.Fatal(r.q.Err())
				}
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

// Post, publish and reap of 32 buffers, and what the fake needs in between.
func BenchmarkQueue(b *testing.B) {
	const batch = 32
	for _, c := range []struct {
		name string
		f    uint64
	}{{"eventIdx", modern}, {"plain", fakedev.FeatureVersion1}} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b, opt{features: c.f, size: 256})
			b.ReportAllocs()
			for range b.N {
				for range batch {
					r.q.PostRead(r.buf.Bus, 64)
				}
				r.q.Publish()
				r.fq.Complete(batch, 0)
				for range batch {
					r.q.Reap()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/buffer")
		})
	}
	b.Run("batch", func(b *testing.B) {
		r := newRig(b, opt{features: modern, size: 256})
		var pieces [batch]virtio.Piece
		var used [batch]virtio.Used
		for i := range pieces {
			pieces[i] = virtio.Piece{Addr: r.buf.Bus, Len: 64}
		}
		b.ReportAllocs()
		for range b.N {
			r.q.PostReads(pieces[:])
			r.q.Publish()
			r.fq.Complete(batch, 0)
			r.q.ReapBatch(used[:])
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/buffer")
	})
}

func TestErrDeviceNamesTheQueue(t *testing.T) {
	e := &virtio.ErrDevice{Driver: "virtio-x", Queue: -1, Msg: "m"}
	if e.Error() != "virtio-x: m" {
		t.Error(e)
	}
	if e.Queue = 3; !strings.HasPrefix(e.Error(), "virtio-x: queue 3: ") {
		t.Error(e)
	}
}
