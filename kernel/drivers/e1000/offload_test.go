package e1000_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"osv/kernel/drivers/e1000"
	"osv/kernel/ktest/fakee1000"
	"osv/kernel/pkt"
)

// ipTCP is an IPv4 or IPv6 TCP frame whose checksum field holds the
// pseudo-header's sum.
func ipTCP(v6 bool, vlan bool, payload int) (f []byte, l3, l4 int) {
	f = append(f, fakee1000.MAC[:]...)
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
				out := r.card.TakeSent()
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
		func(b *pkt.Buf) { b.GSO = pkt.GSOTCPv6 }, // not on an 82540EM
		func(b *pkt.Buf) { b.GSO = pkt.GSOUDP },
		func(b *pkt.Buf) { b.CsumOffset = 6 },
		func(b *pkt.Buf) { b.CsumOffset = 300 },
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
	if n := len(r.card.TakeSent()); n != 2 {
		t.Errorf("%d segments after the bad frames", n)
	}
	r2 := newRig(t, rigOpt{cfg: e1000.Config{NoOffload: true}})
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
			r.card.Deliver(c.f)
			r.card.Step()
			in := r.recv(1)
			if len(in) != 1 || in[0].Flags != c.want {
				t.Fatalf("%s: %d frames, flags %v, want %v", k.name, len(in), in[0].Flags, c.want)
			}
			in[0].Put()
		}
	}
}
