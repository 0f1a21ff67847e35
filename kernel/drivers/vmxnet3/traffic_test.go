package vmxnet3_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"osv/kernel/drivers/vmxnet3"
	"osv/kernel/ktest/fakevmxnet3"
	"osv/kernel/pkt"
)

// Frames of all sizes pass both ways, whole and in order, on each card.
func TestFramesPass(t *testing.T) {
	for _, k := range kinds {
		for _, mtu := range []int{1500, 9000} {
			t.Run(fmt.Sprint(k.name, " ", mtu), func(t *testing.T) {
				o := k.opt
				o.cfg.MTU = mtu
				r := newRig(t, o)
				sizes := []int{60, 61, 128, 1499, 1514}
				if mtu > 1500 {
					sizes = append(sizes, 2047, 2048, 2049, 4096, 6144, 9014)
				}
				for i, n := range sizes {
					f := frame(n, i)
					r.card.Deliver(0, f)
					r.card.Step()
					in := r.recv(2)
					if len(in) != 1 {
						t.Fatalf("%d bytes: %d frames", n, len(in))
					}
					r.want(in[0], f)
					r.send(in[0]) // back, as it is
					r.send(r.bufs(f, 700))
					r.card.Step()
					out := r.card.TakeSent(0)
					if len(out) != 2 || !bytes.Equal(out[0], f) || !bytes.Equal(out[1], f) {
						t.Fatalf("%d bytes: %d frames went out", n, len(out))
					}
				}
				s := r.dev.Stats()
				if n := uint64(len(sizes)); s.RxFrames != n || s.TxFrames != 2*n || s.RxErrors+s.TxErrors+s.TxFull != 0 || s.RxBytes*2 != s.TxBytes {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// No wake-up is lost, whether the frame comes before, while or after RxWait.
func TestReceiverIsWoken(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			r := newRig(t, k.opt)
			r.card.Live = true
			go func() {
				for i := range 300 {
					r.card.Deliver(0, frame(60+i, i))
					r.card.Step()
				}
			}()
			for i := 0; i < 300; {
				in := r.recv(7)
				for _, b := range in {
					r.want(b, frame(60+i, i))
					b.Put()
					i++
				}
				if len(in) == 0 {
					if err := r.dev.RxWait(0); err != nil {
						t.Fatal(err)
					}
				}
			}
			r.dev.RxWake(0)
			if err := r.dev.RxWait(0); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Nothing is lost where buffers are short, and a
// receiver that finds the pool empty is woken by a timer.
func TestStarvedRing(t *testing.T) {
	r := newRig(t, rigOpt{bufs: 40, cfg: vmxnet3.Config{RxRing: 64}})
	var held []*pkt.Buf
	for i := range 60 {
		r.card.Deliver(0, frame(100, i))
	}
	for r.card.Step() > 0 {
		held = append(held, r.recv(64)...)
	}
	if len(held) != 40 || r.dev.Stats().RxNoBuf == 0 {
		t.Fatal(len(held), r.dev.Stats())
	}
	if err := r.dev.RxWait(0); err != nil { // woken by the timer
		t.Fatal(err)
	}
	pkt.PutBatch(held)
	for n := 40; n < 60; r.card.Step() { // recv fills the ring
		for _, b := range r.recv(64) {
			r.want(b, frame(100, n))
			b.Put()
			n++
		}
	}
}

func TestLinkChanges(t *testing.T) {
	for _, k := range kinds {
		synctest.Test(t, func(t *testing.T) {
			r, err := tryRig(t, k.opt)
			if err != nil {
				t.Fatal(err)
			}
			defer r.close()
			go func() { // with one line, whoever waits for frames has link changes told as well
				for r.dev.RxWait(0) == nil {
				}
			}()
			told := r.dev.LinkUp()
			r.dev.OnCarrier(func(up bool) { told = up })
			for range 3 {
				for _, up := range []bool{true, false} {
					r.card.SetLink(up)
					synctest.Wait()
					if told != up || r.dev.LinkUp() != up || (r.dev.Speed() == 10000) != up {
						t.Errorf("%s: link %v, speed %d, want %v", k.name, r.dev.LinkUp(), r.dev.Speed(), up)
					}
				}
			}
		})
	}
}

// ipTCP is an IPv4 or IPv6 TCP frame whose checksum field holds the
// pseudo-header's sum.
func ipTCP(v6 bool, vlan bool, payload int) (f []byte, l3, l4 int) {
	f = append(f, fakevmxnet3.MAC[:]...)
	f = append(f, 2, 0, 0, 0, 0, 9)
	if vlan {
		f = append(f, 0x81, 0, 0, 5)
	}
	var pseudo uint32
	if v6 {
		f = append(f, 0x86, 0xDD)
		l3 = len(f)
		f = append(f, 0x60, 0, 0, 0, 0, 0, 6, 64)
		for i := range 32 {
			f = append(f, byte(i*5))
		}
		binary.BigEndian.PutUint16(f[l3+4:], uint16(20+payload))
		pseudo = sum(f[l3+8:l3+40], 6+uint32(20+payload))
	} else {
		f = append(f, 8, 0)
		l3 = len(f)
		f = append(f, 0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)
		binary.BigEndian.PutUint16(f[l3+2:], uint16(40+payload))
		binary.BigEndian.PutUint16(f[l3+10:], ^uint16(sum(f[l3:l3+20], 0)))
		pseudo = sum(f[l3+12:l3+20], 6+uint32(20+payload))
	}
	l4 = len(f)
	f = append(f, 0x12, 0x34, 0, 80, 0xFF, 0xFF, 0xF0, 0, 1, 2, 3, 4, 0x50, 0x19, 1, 0, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(f[l4+16:], uint16(pseudo))
	for i := range payload {
		f = append(f, byte(i*3+i>>8))
	}
	return f, l3, l4
}

func sum(b []byte, s uint32) uint32 {
	for i := 0; i < len(b); i += 2 {
		s += uint32(b[i]) << 8
		if i+1 < len(b) {
			s += uint32(b[i+1])
		}
	}
	for s > 0xFFFF {
		s = s>>16 + s&0xFFFF
	}
	return s
}

// ipEnd is where the IP packet of f ends.
func ipEnd(f []byte, l3 int) int {
	n := l3 + int(binary.BigEndian.Uint16(f[l3+2:]))
	if f[l3]>>4 == 6 {
		n = l3 + 40 + int(binary.BigEndian.Uint16(f[l3+4:]))
	}
	return min(n, len(f))
}

// checkTCP reports what is wrong with the sums and lengths of a frame.
func checkTCP(f []byte, l3, l4 int) error {
	n := len(f) - l4
	if f[l3]>>4 == 4 {
		if sum(f[l3:l3+20], 0) != 0xFFFF || int(binary.BigEndian.Uint16(f[l3+2:])) != len(f)-l3 {
			return errors.New("IPv4 header")
		}
		if sum(f[l4:], sum(f[l3+12:l3+20], 6+uint32(n))) != 0xFFFF {
			return errors.New("TCP checksum")
		}
		return nil
	}
	if int(binary.BigEndian.Uint16(f[l3+4:])) != n || sum(f[l4:], sum(f[l3+8:l3+40], 6+uint32(n))) != 0xFFFF {
		return errors.New("IPv6 length, or TCP checksum")
	}
	return nil
}

// The card finishes checksums and cuts large frames into good segments.
func TestOffloads(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			r := newRig(t, k.opt)
			for _, c := range []struct {
				v6, vlan, tso bool
				payload, mss  int
			}{
				{payload: 100}, {payload: 1}, {v6: true, payload: 333}, {vlan: true, payload: 64},
				{tso: true, payload: 1461, mss: 1460}, {tso: true, payload: 60000, mss: 1448}, {tso: true, payload: 5000, mss: 100},
				{tso: true, vlan: true, payload: 9999, mss: 1440}, {tso: true, payload: 65535 - 40, mss: 1460},
				{v6: true, tso: true, payload: 40000, mss: 1440},
			} {
				if c.tso && c.v6 && !r.dev.Caps().TSO6 {
					continue
				}
				f, l3, l4 := ipTCP(c.v6, c.vlan, c.payload)
				b := r.bufs(f, 1900)
				b.Flags, b.CsumStart, b.CsumOffset = pkt.CsumPartial, uint16(l4), 16
				if c.tso {
					b.GSO, b.GSOSize, b.HdrLen = pkt.GSOTCPv4, uint16(c.mss), uint16(l4+20)
					if c.v6 {
						b.GSO = pkt.GSOTCPv6
					}
				}
				r.send(b)
				r.card.Step()
				out := r.card.TakeSent(0)
				want := 1
				if c.tso {
					want = (c.payload + c.mss - 1) / c.mss
				}
				if len(out) != want {
					t.Fatalf("%+v: %d segments, want %d", c, len(out), want)
				}
				var got []byte
				for i, s := range out {
					s = s[:ipEnd(s, l3)] // short ones are padded
					if err := checkTCP(s, l3, l4); err != nil {
						t.Fatalf("%+v: segment %d: %v", c, i, err)
					}
					if q := binary.BigEndian.Uint32(s[l4+4:]); q != 0xFFFFF000+uint32(len(got)) {
						t.Fatalf("%+v: segment %d: sequence number %#x", c, i, q)
					}
					got = append(got, s[l4+20:]...)
				}
				if !bytes.Equal(got, f[l4+20:]) {
					t.Fatalf("%+v: the payload differs", c)
				}
			}
			if s := r.dev.Stats(); s.TxErrors != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// What the card cannot do is dropped and counted, and stops nothing.
func TestUnsendableFrames(t *testing.T) {
	r := newRig(t, rigOpt{})
	full := func() (*pkt.Buf, int) {
		f, _, l4 := ipTCP(false, false, 1000)
		b := r.bufs(f, 1900)
		b.Flags, b.CsumStart, b.CsumOffset = pkt.CsumPartial, uint16(l4), 16
		b.GSO, b.GSOSize = pkt.GSOTCPv4, 500
		return b, l4
	}
	for i, spoil := range []func(*pkt.Buf){
		func(b *pkt.Buf) { b.Flags = 0 },
		func(b *pkt.Buf) { b.GSOSize = 0 },
		func(b *pkt.Buf) { b.GSO = pkt.GSOUDP },
		func(b *pkt.Buf) { b.CsumOffset = 6 },
		func(b *pkt.Buf) { b.CsumOffset = 1300 },
		func(b *pkt.Buf) { b.CsumStart = 2 },
		func(b *pkt.Buf) { b.HdrLen = 60 },
		func(b *pkt.Buf) { b.Tail = b.Head + 50 },
		func(b *pkt.Buf) { b.Tail = b.Head + 54 }, // no payload
		func(b *pkt.Buf) { b.Bytes()[46] = 0x40 }, // data offset
		func(b *pkt.Buf) { b.GSO = pkt.GSONone; b.CsumOffset = 2000 },
		func(b *pkt.Buf) { b.GSO, b.Flags, b.Tail = pkt.GSONone, 0, b.Head+13 },
		func(b *pkt.Buf) { b.GSO, b.Flags, b.Tail = pkt.GSONone, 0, b.Head+1600 },
		func(b *pkt.Buf) { // too many pieces
			b.GSO, b.Flags, b.Tail = pkt.GSONone, 0, b.Head+14
			for p := b; p.Next == nil && b.TotalLen() < 60; {
				p.Next = r.bufs([]byte{1}, 1)
				p = p.Next
			}
		},
	} {
		b, _ := full()
		spoil(b)
		r.send(b)
		if n := r.dev.Stats().TxErrors; n != uint64(i+1) {
			t.Errorf("case %d: %d errors", i, n)
		}
	}
	b, _ := full()
	r.send(b)
	r.card.Step()
	if n := len(r.card.TakeSent(0)); n != 2 {
		t.Errorf("%d segments after the bad frames", n)
	}
	r2 := newRig(t, rigOpt{cfg: vmxnet3.Config{NoOffload: true}})
	if c := r2.dev.Caps(); c.TxCsum || c.RxCsum || c.TSO4 || c.GSOMax != 0 {
		t.Errorf("%+v", c)
	}
	f, _, l4 := ipTCP(false, false, 10)
	b = r2.bufs(f, 1900)
	b.Flags, b.CsumStart, b.CsumOffset = pkt.CsumPartial, uint16(l4), 16
	r2.send(b)
	if r2.dev.Stats().TxErrors != 1 {
		t.Error("a checksum without the offload is taken")
	}
}

// CsumValid is set where the card has found the sum right, and only there.
func TestReceiveChecksum(t *testing.T) {
	for _, k := range kinds {
		r := newRig(t, k.opt)
		r.card.BadSums = func(f []byte) bool { return f[len(f)-1] == 0xEE }
		tcp, _, _ := ipTCP(false, false, 100)
		bad := append(append([]byte(nil), tcp...), 0xEE)
		for _, c := range []struct {
			f    []byte
			want pkt.Flags
		}{{tcp, pkt.CsumValid}, {bad, 0}, {frame(100, 1), 0}} {
			r.card.Deliver(0, c.f)
			r.card.Step()
			in := r.recv(1)
			if len(in) != 1 || in[0].Flags != c.want {
				t.Fatalf("%s: %d frames, flags %v, want %v", k.name, len(in), in[0].Flags, c.want)
			}
			in[0].Put()
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
	if err := <-done; !errors.Is(err, vmxnet3.ErrClosed) {
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
	if err := r.dev.Reset(); !errors.Is(err, vmxnet3.ErrClosed) {
		t.Error(err)
	}
	// A line that ends by itself is an error.
	r = newRig(t, rigOpt{})
	r.card.Lines[0].Close()
	for r.dev.Err() == nil {
		r.dev.RxWait(0)
	}
	if err := r.dev.Err(); err.Error() != "vmxnet3: eth0: interrupt line was closed" {
		t.Error(err)
	}
}

// Sending and receiving allocate nothing.
func TestHotPathDoesNotAllocate(t *testing.T) {
	r := newRig(t, rigOpt{msix: 3})
	tcp, _, l4 := ipTCP(false, false, 1000)
	batch, in := make([]*pkt.Buf, 8), make([]*pkt.Buf, 8)
	f := frame(1000, 1)
	one := func() {
		for i := range batch {
			b := r.dev.TxBuf(0)
			copy(b.Append(len(tcp)), tcp)
			b.Flags, b.CsumStart, b.CsumOffset = pkt.CsumPartial, uint16(l4), 16
			if i%2 == 0 {
				b.GSO, b.GSOSize = pkt.GSOTCPv4, 500
			}
			batch[i] = b
		}
		r.dev.TxBatch(0, batch)
		pkt.PutBatch(in[:r.dev.RxBatch(0, in)])
	}
	// The fake allocates: count with and without the driver's part.
	fake := func() {
		for range batch {
			r.card.Deliver(0, f)
		}
		r.card.Step()
		r.card.TakeSent(0)
	}
	fake()
	n := r.dev.RxBatch(0, in)
	pkt.PutBatch(in[:n])
	for range 20 {
		fake()
		if got := testing.AllocsPerRun(1, func() {}); got != 0 {
			t.Skip("the runtime allocates")
		}
		allocs := testing.AllocsPerRun(3, one)
		r.card.Step()
		for k := r.dev.RxBatch(0, in); k > 0; k = r.dev.RxBatch(0, in) {
			pkt.PutBatch(in[:k])
		}
		if allocs != 0 {
			t.Fatalf("%v allocations for a batch", allocs)
		}
	}
}
