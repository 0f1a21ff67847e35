package vhost

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"
)

func TestFramesBothWays(t *testing.T) {
	f := start(t, Options{}, testFeatures, 8)
	if err := f.dev.WaitReady(soon(t)); err != nil {
		t.Fatal(err)
	}
	if f.dev.Features() != f.feat || f.feat&featEventIdx == 0 || f.feat&featMQ != 0 {
		t.Errorf("features %#x, %#x", f.dev.Features(), f.feat)
	}
	p, rx, tx := f.dev.Port(0), f.q[0], f.q[1]
	mustSend(t, p, 0, frameOf(60, 1)) // no buffers yet
	rx.offerEmpty(bufBytes, 0, 3)
	mustSend(t, p, 2, frameOf(60, 1), frameOf(1514, 2))
	used := rx.reap()
	if len(used) != 2 || used[0] != (usedElem{0, 72}) || used[1] != (usedElem{1, 1526}) {
		t.Fatalf("used %v", used)
	}
	b := rx.buf(1)
	if b[0] != hdrDataValid || b[10] != 1 || !bytes.Equal(b[12:1526], frameOf(1514, 2)) {
		t.Errorf("header % x, frame %x...", b[:12], b[12:20])
	}

	// One buffer for header and frame, then a header apart, then in three pieces.
	copy(tx.buf(0), append(header(0, 0, 0, 0), frameOf(100, 7)...))
	tx.setDesc(0, tx.bufAddr(0), 112, 0, 0)
	copy(tx.buf(1), header(0, 0, 0, 0))
	tx.setDesc(1, tx.bufAddr(1), 12, descNext, 2)
	copy(tx.buf(2), frameOf(300, 8))
	tx.setDesc(2, tx.bufAddr(2), 300, 0, 0)
	tx.setDesc(3, tx.bufAddr(1), 5, descNext, 4)
	tx.setDesc(4, tx.bufAddr(1)+5, 7, descNext, 5)
	tx.setDesc(5, tx.bufAddr(2), 20, 0, 0)
	tx.offer(0, 1, 3)
	got := mustRecv(t, p, 3)
	if !bytes.Equal(got[0], frameOf(100, 7)) || !bytes.Equal(got[1], frameOf(300, 8)) || !bytes.Equal(got[2], frameOf(20, 8)) {
		t.Errorf("frames of %d, %d and %d bytes", len(got[0]), len(got[1]), len(got[2]))
	}
	if u := tx.reap(); len(u) != 3 || u[0].id != 0 || u[1].id != 1 || u[2].id != 3 {
		t.Errorf("used %v", u)
	}
	if s := p.Stats(); s.ToGuest != 2 || s.FromGuest != 3 || s.Full != 1 || s.GuestErrors != 0 {
		t.Errorf("%+v", s)
	}
}

// A frame larger than a buffer takes several where the guest agreed to that, and
// none when there are too few.
func TestMergeableBuffers(t *testing.T) {
	f := start(t, Options{}, testFeatures, 8)
	p, rx := f.dev.Port(0), f.q[0]
	frame := make([]byte, 300)
	for i := range frame {
		frame[i] = byte(i)
	}
	rx.offerEmpty(100, 0, 3)
	mustSend(t, p, 0, frame)
	if len(rx.reap()) != 0 {
		t.Error("a frame that does not fit was begun")
	}
	rx.offerEmpty(100, 3, 5)
	mustSend(t, p, 1, frame)
	used := rx.reap()
	if len(used) != 4 || used[0].n != 100 || used[3].n != 12 {
		t.Fatalf("used %v", used)
	}
	if n := binary.LittleEndian.Uint16(rx.buf(0)[10:]); n != 4 {
		t.Errorf("num_buffers %d, want 4", n)
	}
	var back []byte
	for i, u := range used {
		b := rx.buf(int(u.id))[:u.n]
		if i == 0 {
			b = b[12:]
		}
		back = append(back, b...)
	}
	if !bytes.Equal(back, frame) {
		t.Error("the pieces are not the frame")
	}
}

func TestWithoutMergeableBuffers(t *testing.T) {
	f := start(t, Options{NoOffloads: true}, featProtocol, 8) // a legacy driver: short header
	p, rx, tx := f.dev.Port(0), f.q[0], f.q[1]
	rx.offerEmpty(100, 0, 2)
	mustSend(t, p, 2, frameOf(200, 1), frameOf(80, 2))
	used := rx.reap()
	if len(used) != 2 || used[0].n != 0 || used[1].n != 90 || rx.buf(1)[0] != 0 || !bytes.Equal(rx.buf(1)[10:90], frameOf(80, 2)) {
		t.Errorf("used %v", used)
	}
	if s := p.Stats(); s.GuestErrors != 1 {
		t.Errorf("%+v", s)
	}
	// A chain of two buffers holds what one cannot.
	rx.setDesc(2, rx.bufAddr(2), 100, descWrite|descNext, 3)
	rx.setDesc(3, rx.bufAddr(3), 200, descWrite, 0)
	rx.offer(2)
	mustSend(t, p, 1, frameOf(200, 3))
	if u := rx.reap(); len(u) != 1 || u[0].n != 210 || !bytes.Equal(rx.buf(3)[:110], frameOf(110, 3)) {
		t.Errorf("used %v", u)
	}
	copy(tx.buf(0), append(make([]byte, 10), frameOf(50, 4)...))
	tx.setDesc(0, tx.bufAddr(0), 60, 0, 0)
	tx.offer(0)
	if got := mustRecv(t, p, 1); !bytes.Equal(got[0], frameOf(50, 4)) {
		t.Errorf("%d bytes", len(got[0]))
	}
}

// sum1071 is the Internet checksum, the slow and obvious way.
func sum1071(b []byte) uint16 {
	s := uint32(0)
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		if s += w; s > 0xffff {
			s = s&0xffff + 1
		}
	}
	return ^uint16(s)
}

func TestChecksumIsFinished(t *testing.T) {
	f := start(t, Options{}, testFeatures, 8)
	p, tx := f.dev.Port(0), f.q[1]
	for size := 42; size < 60; size++ {
		frame := frameOf(size, 0xa5)
		frame[40], frame[41] = 0x12, 0x34 // the pseudo-header's sum
		copy(tx.buf(0), append(header(hdrNeedsCsum, 0, 34, 6), frame...))
		tx.setDesc(0, tx.bufAddr(0), uint32(12+size), 0, 0)
		tx.offer(0)
		got := mustRecv(t, p, 1)[0]
		want := sum1071(frame[34:])
		if c := binary.BigEndian.Uint16(got[40:]); c != want {
			t.Errorf("%d bytes: checksum %#x, want %#x", size, c, want)
		}
	}
	if c := frameOf(8, 0xff); !finishCsum(c, 0, 6) || binary.BigEndian.Uint16(c[6:]) != 0xffff {
		t.Errorf("a sum of zero: % x", c)
	}
	for _, bad := range [][2]uint16{{100, 0}, {34, 25}, {0xffff, 0xffff}} {
		copy(tx.buf(0), header(hdrNeedsCsum, 0, bad[0], bad[1]))
		tx.setDesc(0, tx.bufAddr(0), 12+60, 0, 0)
		tx.offer(0)
		mustRecv(t, p, 0)
	}
}

func TestIndirect(t *testing.T) {
	f := start(t, Options{}, testFeatures, 8)
	p, tx := f.dev.Port(0), f.q[1]
	table := tx.buf(7)
	put := func(i int, addr uint64, size uint32, flags, next uint16) {
		binary.LittleEndian.PutUint64(table[16*i:], addr)
		binary.LittleEndian.PutUint32(table[16*i+8:], size)
		binary.LittleEndian.PutUint16(table[16*i+12:], flags)
		binary.LittleEndian.PutUint16(table[16*i+14:], next)
	}
	copy(tx.buf(1), header(0, 0, 0, 0))
	copy(tx.buf(2), frameOf(77, 9))
	put(0, tx.bufAddr(1), 12, descNext, 2)
	put(2, tx.bufAddr(2), 77, 0, 0)
	tx.setDesc(0, tx.bufAddr(7), 48, descIndirect, 0)
	tx.offer(0)
	if got := mustRecv(t, p, 1); !bytes.Equal(got[0], frameOf(77, 9)) {
		t.Errorf("%d bytes", len(got[0]))
	}
}

// Whatever the guest writes into its rings, the device gives each entry back,
// counts it, and goes on.
func TestBrokenGuest(t *testing.T) {
	f := start(t, Options{}, testFeatures, 8)
	p, rx, tx := f.dev.Port(0), f.q[0], f.q[1]
	good := func() {
		copy(tx.buf(0), append(header(0, 0, 0, 0), frameOf(60, 1)...))
		tx.setDesc(0, tx.bufAddr(0), 72, 0, 0)
	}
	for name, breakIt := range map[string]func() int{
		"head outside the ring":    func() int { return 8 },
		"head far outside":         func() int { return 0xffff },
		"a loop":                   func() int { tx.setDesc(1, tx.bufAddr(1), 10, descNext, 1); return 1 },
		"next outside":             func() int { tx.setDesc(1, tx.bufAddr(1), 10, descNext, 9); return 1 },
		"below memory":             func() int { tx.setDesc(1, 0, 72, 0, 0); return 1 },
		"beyond memory":            func() int { tx.setDesc(1, guestBase+memBytes-1, 72, 0, 0); return 1 },
		"address wraps":            func() int { tx.setDesc(1, ^uint64(0)-5, 72, 0, 0); return 1 },
		"device-writable":          func() int { tx.setDesc(1, tx.bufAddr(1), 72, descWrite, 0); return 1 },
		"no frame":                 func() int { tx.setDesc(1, tx.bufAddr(1), 12, 0, 0); return 1 },
		"half a header":            func() int { tx.setDesc(1, tx.bufAddr(1), 5, 0, 0); return 1 },
		"larger than a frame":      func() int { tx.setDesc(1, tx.bufAddr(1), 5000, 0, 0); return 1 },
		"indirect and next":        func() int { tx.setDesc(1, tx.bufAddr(1), 16, descIndirect|descNext, 0); return 1 },
		"indirect of 0 bytes":      func() int { tx.setDesc(1, tx.bufAddr(1), 0, descIndirect, 0); return 1 },
		"indirect of 17 bytes":     func() int { tx.setDesc(1, tx.bufAddr(1), 17, descIndirect, 0); return 1 },
		"indirect outside":         func() int { tx.setDesc(1, 16, 16, descIndirect, 0); return 1 },
		"indirect in an indirect":  func() int { tx.setDesc(1, guestBase+uint64(tx.desc+16), 16, descIndirect, 0); return 1 },
		"segmentation not offered": func() int { copy(tx.buf(0), header(0, 1, 0, 0)); return 0 },
	} {
		good()
		before := p.Stats().GuestErrors
		tx.offer(breakIt())
		mustRecv(t, p, 0)
		good()
		tx.offer(0)
		if got := mustRecv(t, p, 1); !bytes.Equal(got[0], frameOf(60, 1)) {
			t.Errorf("%s: the next frame is spoilt", name)
		}
		if n := p.Stats().GuestErrors - before; n != 1 {
			t.Errorf("%s: %d errors counted", name, n)
		}
		if u := tx.reap(); len(u) != 2 {
			t.Errorf("%s: %d entries given back", name, len(u))
		}
	}
	rx.setDesc(0, rx.bufAddr(0), bufBytes, 0, 0) // not writable
	rx.setDesc(1, rx.bufAddr(1), 11, descWrite, 0)
	rx.offer(0, 1)
	mustSend(t, p, 2, frameOf(60, 1), frameOf(60, 2))
	if u := rx.reap(); len(u) != 2 || u[0].n != 0 || u[1].n != 0 {
		t.Errorf("used %v", u)
	}
	// An index that runs away is believed for a ring's worth at a time.
	good()
	for i := range tx.num {
		binary.LittleEndian.PutUint16(f.mem[tx.avail+4+2*i:], 0)
	}
	tx.availIdx += 3000
	tx.offer()
	mustRecv(t, p, tx.num)
}

// Interrupts follow used_event, and stop when nobody asks.
func TestInterruptsFollowTheEventIndex(t *testing.T) {
	f := start(t, Options{}, testFeatures, 8)
	p, rx := f.dev.Port(0), f.q[0]
	rx.offerEmpty(bufBytes, 0, 6)
	rx.usedEvent(2) // when the third frame is there
	mustSend(t, p, 2, frameOf(60, 1), frameOf(60, 1))
	if rx.interrupted() {
		t.Error("interrupted too early")
	}
	mustSend(t, p, 1, frameOf(60, 1))
	if !rx.interrupted() {
		t.Error("not interrupted")
	}
	mustSend(t, p, 2, frameOf(60, 1), frameOf(60, 1))
	if rx.interrupted() || p.Stats().Interrupts != 1 {
		t.Errorf("interrupted again: %+v", p.Stats())
	}
	for _, c := range []struct {
		event, now, old uint16
		want            bool
	}{{5, 6, 5, true}, {6, 6, 5, false}, {4, 6, 5, false}, {0xffff, 1, 0xfffe, true}, {1, 1, 0xfffe, false}, {0, 1, 0xfffe, true}} {
		if got := needEvent(c.event, c.now, c.old); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// Without the event index the flags decide.
func TestInterruptsFollowTheFlags(t *testing.T) {
	f := start(t, Options{}, featVersion1|featProtocol, 8)
	p, rx, tx := f.dev.Port(0), f.q[0], f.q[1]
	rx.offerEmpty(bufBytes, 0, 4)
	mustSend(t, p, 1, frameOf(60, 1))
	if !rx.interrupted() {
		t.Error("not interrupted")
	}
	binary.LittleEndian.PutUint16(f.mem[rx.avail:], availNoInterrupt)
	mustSend(t, p, 1, frameOf(60, 1))
	if rx.interrupted() {
		t.Error("interrupted against the flag")
	}
	if f.mem[tx.used] != usedNoNotify {
		t.Error("the polled ring asks for notifications")
	}
}

// Wait polls first, then sleeps until the doorbell; it misses none.
func TestWait(t *testing.T) {
	for name, features := range map[string]uint64{"event index": testFeatures, "flags": featVersion1 | featProtocol} {
		t.Run(name, func(t *testing.T) {
			f := start(t, Options{}, features, 8)
			p, tx := f.dev.Port(0), f.q[1]
			if err := p.Wait(time.Millisecond); err != nil {
				t.Fatal(err)
			}
			copy(tx.buf(0), append(header(0, 0, 0, 0), frameOf(60, 1)...))
			tx.setDesc(0, tx.bufAddr(0), 72, 0, 0)
			tx.offer(0)
			if err := p.Wait(time.Minute); err != nil { // there already
				t.Fatal(err)
			}
			mustRecv(t, p, 1)
			for i := range 20 {
				done := make(chan error, 1)
				go func() { done <- p.Wait(time.Minute) }()
				if i%2 == 0 { // let it fall asleep
					for !armed(tx, features) {
						time.Sleep(10 * time.Microsecond)
					}
				}
				tx.offer(0)
				signal(tx.kick)
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				mustRecv(t, p, 1)
			}
			if s := p.Stats(); s.Doorbells != 20 {
				t.Errorf("%d doorbells, want 20", s.Doorbells)
			}
		})
	}
}

// armed reports whether the device asks for the next entry's doorbell.
func armed(tx *drv, features uint64) bool {
	if features&featEventIdx != 0 {
		return load16(tx.f.mem, tx.used+4+8*tx.num) == tx.availIdx
	}
	return load16(tx.f.mem, tx.used)&usedNoNotify == 0
}

// Indices wrap at 65,536, ring slots at the ring's size.
func TestIndicesWrap(t *testing.T) {
	f := start(t, Options{}, testFeatures, 4)
	p, rx, tx := f.dev.Port(0), f.q[0], f.q[1]
	copy(tx.buf(0), append(header(0, 0, 0, 0), frameOf(60, 1)...))
	tx.setDesc(0, tx.bufAddr(0), 72, 0, 0)
	rx.setDesc(1, rx.bufAddr(1), bufBytes, descWrite, 0)
	frames, out := [][]byte{frameOf(60, 5)}, make([][]byte, batch)
	for i := range 70000 {
		tx.offer(0)
		rx.offer(1)
		n, err := p.Recv(out)
		m, err2 := p.Send(frames)
		if n != 1 || m != 1 || err != nil || err2 != nil {
			t.Fatalf("round %d: %d, %d frames, %v, %v", i, n, m, err, err2)
		}
		if tx.seen++; load16(f.mem, tx.used+2) != tx.seen {
			t.Fatalf("round %d: used index %d, want %d", i, load16(f.mem, tx.used+2), tx.seen)
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	f := start(t, Options{}, testFeatures, 64)
	p, rx, tx := f.dev.Port(0), f.q[0], f.q[1]
	copy(tx.buf(0), append(header(hdrNeedsCsum, 0, 34, 6), frameOf(60, 1)...))
	tx.setDesc(0, tx.bufAddr(0), 72, 0, 0)
	rx.setDesc(1, rx.bufAddr(1), 100, descWrite, 0)
	frames, out := [][]byte{frameOf(60, 5), frameOf(150, 5)}, make([][]byte, batch)
	rx.usedEvent(0)
	if n := testing.AllocsPerRun(1000, func() {
		tx.offer(0, 0)
		rx.offer(1, 1, 1)
		if n, _ := p.Recv(out); n != 2 {
			t.Fatal(n)
		}
		if n, _ := p.Send(frames); n != 2 {
			t.Fatal(n)
		}
		p.Wait(0)
	}); n != 0 {
		t.Errorf("a batch allocates %v times", n)
	}
}
