package demux

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"osv/kernel/net/wire"
)

type sink struct{ id int }

var (
	ap      = netip.MustParseAddrPort
	testKey = Key{1, 2}
)

// frame builds an Ethernet frame of one UDP or TCP packet with n bytes of payload.
func frame(proto wire.Proto, src, dst netip.AddrPort, n int) []byte {
	hl := wire.UDPLen
	if proto == wire.ProtoTCP {
		hl = 20
	}
	l3, l4 := wire.EthLen, wire.EthLen+wire.IPv4MinLen
	t := wire.EtherIPv4
	if src.Addr().Is6() {
		l4, t = wire.EthLen+wire.IPv6Len, wire.EtherIPv6
	}
	b := make([]byte, l4+hl+n)
	wire.Eth(b).SetType(t)
	if src.Addr().Is6() {
		wire.PutIPv6(b[l3:], 0, 0, hl+n, proto, 64, src.Addr(), dst.Addr())
	} else {
		wire.PutIPv4(b[l3:], &wire.IPv4Fields{TotalLen: len(b) - l3, TTL: 64, Proto: proto, Src: wire.U32(src.Addr()), Dst: wire.U32(dst.Addr())})
	}
	wire.PutUDP(b[l4:], src.Port(), dst.Port(), hl+n, 0)
	if proto == wire.ProtoTCP {
		b[l4+12] = 5 << 4
	}
	return b
}

// The vector of Aumasson and Bernstein, appendix A, and its first neighbours
// from the authors' reference test.
func TestSipHashVectors(t *testing.T) {
	var k [16]byte
	for i := range k {
		k[i] = byte(i)
	}
	key := Key{binary.LittleEndian.Uint64(k[:]), binary.LittleEndian.Uint64(k[8:])}
	if got := key.hash2(0x0706050403020100, 0x0f0e0d0c0b0a0908); got != 0xa129ca6149be45e5 {
		t.Errorf("15 bytes: %#x", got)
	}
	m := [5]uint64{}
	var msg [40]byte
	for i := range 32 {
		msg[i] = byte(i)
	}
	msg[39] = 32
	for i := range m {
		m[i] = binary.LittleEndian.Uint64(msg[i*8:])
	}
	if got, want := key.hash5(&m), uint64(0x7127512f72f27cce); got != want {
		t.Errorf("32 bytes: %#x, want %#x", got, want)
	}
}

func TestParseClasses(t *testing.T) {
	u := func() []byte { return frame(wire.ProtoUDP, ap("10.0.0.1:1000"), ap("10.0.0.2:53"), 10) }
	c := func() []byte { return frame(wire.ProtoTCP, ap("10.0.0.1:1000"), ap("10.0.0.2:80"), 10) }
	u6 := func() []byte { return frame(wire.ProtoUDP, ap("[fd00::1]:1000"), ap("[fd00::2]:53"), 10) }
	resum := func(b []byte) []byte { wire.IPv4(b[14:]).SetChecksum(); return b }
	set := func(b []byte, at int, v ...byte) []byte { copy(b[at:], v); return b }
	tag := func(b []byte, tci ...byte) []byte {
		return append(append(append([]byte{}, b[:12]...), 0x81, 0, tci[0], tci[1]), b[12:]...)
	}
	for _, tc := range []struct {
		name   string
		b      []byte
		class  Class
		reason Reason
	}{
		{"udp", u(), UDP, None},
		{"tcp", c(), TCP, None},
		{"udp6", u6(), UDP, None},
		{"padding behind", append(u(), 0, 0, 0), UDP, None},
		{"priority tag", tag(u(), 0xe0, 0), UDP, None},
		{"vlan 5", tag(u(), 0, 5), Drop, OtherVLAN},
		{"short", u()[:13], Drop, ShortFrame},
		{"other type", set(u(), 12, 0x88, 0xcc), Drop, OtherType},
		{"arp", set(u(), 12, 0x08, 0x06), Slow, IsARP},
		{"version", set(u(), 14, 0x55), Drop, BadIP},
		{"header length", set(u(), 14, 0x44), Drop, BadIP},
		{"cut ip header", u()[:14+19], Drop, BadIP},
		{"total length beyond", u()[:50], Drop, BadIP},
		{"total length below header", set(u(), 16, 0, 19), Drop, BadIP},
		{"checksum", set(u(), 22, 3), Drop, BadIPSum},
		{"options", resum(set(u(), 14, 0x46)), Slow, HasOptions},
		{"options, bad checksum", set(u(), 14, 0x46), Drop, BadIPSum},
		{"more fragments", resum(set(u(), 20, 0x20, 0)), Slow, IsFragment},
		{"offset", resum(set(u(), 20, 0, 1)), Slow, IsFragment},
		{"don't fragment", resum(set(u(), 20, 0x40, 0)), UDP, None},
		{"icmp", resum(set(u(), 23, 1)), Slow, IsOther},
		{"udp length short", set(u(), 38, 0, 7), Drop, BadTransport},
		{"udp length long", set(u(), 38, 0, 19), Drop, BadTransport},
		{"tcp offset short", set(c(), 46, 4<<4), Drop, BadTransport},
		{"tcp offset long", set(c(), 46, 8<<4), Drop, BadTransport},
		{"udp cut", resum(set(u(), 16, 0, 27)), Drop, BadTransport},
		{"tcp cut", resum(set(c(), 16, 0, 39)), Drop, BadTransport},
		{"v6 version", set(u6(), 14, 0x40), Drop, BadIP},
		{"v6 length", set(u6(), 18, 0xff), Drop, BadIP},
		{"v6 cut", u6()[:14+39], Drop, BadIP},
		{"v6 hop-by-hop", set(u6(), 20, 0), Slow, HasOptions},
		{"v6 routing", set(u6(), 20, 43), Slow, HasOptions},
		{"v6 fragment", set(u6(), 20, 44), Slow, IsFragment},
		{"v6 icmp", set(u6(), 20, 58), Slow, IsOther},
	} {
		var m Meta
		Parse(&m, tc.b, len(tc.b))
		if m.Class != tc.class || m.Reason != tc.reason {
			t.Errorf("%s: class %d reason %v, want %d %v", tc.name, m.Class, m.Reason, tc.class, tc.reason)
		}
	}
	var m Meta
	b := append(u(), 0, 0, 0, 0)
	Parse(&m, b, len(b))
	if m.L3 != 14 || m.L4 != 34 || m.Payload != 42 || m.End != 52 || m.DataEnd != 52 || m.Src(b) != ap("10.0.0.1:1000") || m.Dst(b) != ap("10.0.0.2:53") {
		t.Errorf("udp: %+v", m)
	}
	b = u6()
	Parse(&m, b, len(b))
	if !m.V6 || m.L4 != 54 || m.Src(b) != ap("[fd00::1]:1000") || m.Dst(b) != ap("[fd00::2]:53") {
		t.Errorf("udp6: %+v", m)
	}
	// A chain: the first piece holds the headers, the rest lies elsewhere.
	b = u()
	Parse(&m, b[:42], 52)
	if m.Class != UDP || m.End != 52 {
		t.Errorf("chained: %+v", m)
	}
	Parse(&m, b[:40], 52)
	if m.Class != Drop || m.Reason != BadTransport {
		t.Errorf("header across pieces: %+v", m)
	}
}

func TestReasonNames(t *testing.T) {
	for r := Reason(1); r < NumReasons; r++ {
		if r.String() == "" || r.String() == "?" {
			t.Errorf("reason %d has no name", r)
		}
	}
	if !Reassembly.Dropped() || IsARP.Dropped() || None.Dropped() || NumReasons.String() != "?" {
		t.Error("Dropped or name of an unknown reason")
	}
}

func lookup(t *Table[sink], b []byte) (int, Match) {
	var m Meta
	Parse(&m, b, len(b))
	s, how := t.Lookup(&m, b)
	if s == nil {
		return -1, how
	}
	return s.id, how
}

func TestLookupOrder(t *testing.T) {
	tb := New[sink](10, testKey)
	check := func(what string, b []byte, want int, how Match) {
		t.Helper()
		if id, h := lookup(tb, b); id != want || h != how {
			t.Errorf("%s: sink %d by %d, want %d by %d", what, id, h, want, how)
		}
	}
	f := func(dst string) []byte { return frame(wire.ProtoUDP, ap("10.0.0.1:1000"), ap(dst), 1) }
	f6 := frame(wire.ProtoUDP, ap("[fd00::1]:1000"), ap("[fd00::2]:53"), 1)
	check("empty table", f("10.0.0.2:53"), -1, NoMatch)
	bind := func(a string, id int) *sink {
		s := &sink{id}
		if err := tb.Bind(wire.ProtoUDP, ap(a), s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	any4 := bind("0.0.0.0:53", 1)
	check("any IPv4", f("10.0.0.2:53"), 1, Bound)
	check("other port in the page", f("10.0.0.2:54"), -1, NoMatch)
	check("IPv6 to an IPv4 bind", f6, -1, NoMatch)
	check("tcp to a udp bind", frame(wire.ProtoTCP, ap("10.0.0.1:1000"), ap("10.0.0.2:53"), 1), -1, NoMatch)
	bind("10.0.0.2:53", 2)
	check("one address before any", f("10.0.0.2:53"), 2, Bound)
	check("another address", f("10.0.0.3:53"), 1, Bound)
	v6 := bind("[fd00::2]:53", 3)
	check("IPv6 address", f6, 3, Bound)
	if err := tb.Bind(wire.ProtoUDP, netip.AddrPortFrom(netip.Addr{}, 53), &sink{}); !errors.Is(err, ErrExists) {
		t.Errorf("any address beside any IPv4 address: %v", err)
	}
	any6 := bind("[::]:53", 9)
	check("IPv6 address before any", f6, 3, Bound)
	check("any IPv6", frame(wire.ProtoUDP, ap("[fd00::1]:1000"), ap("[fd00::3]:53"), 1), 9, Bound)
	if !tb.Unbind(wire.ProtoUDP, 53, any6) {
		t.Error("Unbind of any IPv6")
	}
	if err := tb.Bind(wire.ProtoUDP, ap("10.0.0.2:53"), &sink{}); !errors.Is(err, ErrExists) {
		t.Errorf("same bind twice: %v", err)
	}
	for _, bad := range []netip.AddrPort{ap("10.0.0.2:0"), {}} {
		if tb.Bind(wire.ProtoUDP, bad, any4) == nil {
			t.Errorf("bind %v accepted", bad)
		}
	}
	if tb.Bind(wire.ProtoICMP, ap("10.0.0.2:1"), any4) == nil {
		t.Error("bind of ICMP accepted")
	}
	tu := Tuple{wire.ProtoUDP, ap("10.0.0.2:53"), ap("10.0.0.1:1000")}
	tu6 := Tuple{wire.ProtoUDP, ap("[fd00::2]:53"), ap("[fd00::1]:1000")}
	ex, ex6 := &sink{4}, &sink{5}
	for tu, s := range map[Tuple]*sink{tu: ex, tu6: ex6} {
		if err := tb.Insert(tu, s); err != nil {
			t.Fatal(err)
		}
		if err := tb.Insert(tu, s); !errors.Is(err, ErrExists) {
			t.Errorf("twice: %v", err)
		}
		if tb.LookupTuple(tu) != s {
			t.Error("LookupTuple")
		}
	}
	check("exact", f("10.0.0.2:53"), 4, Exact)
	check("exact IPv6", f6, 5, Exact)
	if tb.Replace(tu, any4, any4) || !tb.Replace(tu, ex, v6) || tb.LookupTuple(tu) != v6 || !tb.Replace(tu, v6, ex) || !tb.Replace(tu6, ex6, ex6) || tb.Replace(Tuple{}, ex, ex) {
		t.Error("Replace")
	}
	if tb.Remove(tu, any4) || tb.Flows() != 2 {
		t.Error("removed by another's sink")
	}
	if !tb.Remove(tu, ex) || tb.Remove(tu, ex) || !tb.Remove(tu6, ex6) || tb.Flows() != 0 {
		t.Error("Remove")
	}
	check("after remove", f("10.0.0.2:53"), 2, Bound)
	if s := tb.LookupPort(wire.ProtoUDP, ap("10.0.0.9:53")); s != any4 {
		t.Error("LookupPort IPv4")
	}
	if s := tb.LookupPort(wire.ProtoUDP, ap("[fd00::2]:53")); s != v6 {
		t.Error("LookupPort IPv6")
	}
	if !tb.Unbind(wire.ProtoUDP, 53, any4) || tb.Unbind(wire.ProtoUDP, 53, any4) || tb.Unbind(wire.ProtoUDP, 5000, any4) || tb.Unbind(wire.ProtoTCP, 53, any4) {
		t.Error("Unbind")
	}
	check("after unbind", f("10.0.0.9:53"), -1, NoMatch)
	if tb.LookupPort(wire.ProtoICMP, ap("1.1.1.1:1")) != nil || tb.LookupPort(wire.ProtoTCP, ap("1.1.1.1:1")) != nil || tb.LookupTuple(Tuple{}) != nil {
		t.Error("look-up of nothing")
	}
}

func TestInsertBounds(t *testing.T) {
	tb := New[sink](2, testKey)
	s := &sink{}
	mk := func(p uint16) Tuple {
		return Tuple{wire.ProtoTCP, ap("10.0.0.2:80"), netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), p)}
	}
	for p := uint16(1); p <= 2; p++ {
		if err := tb.Insert(mk(p), s); err != nil {
			t.Fatal(err)
		}
	}
	if err := tb.Insert(mk(3), s); !errors.Is(err, ErrFull) || tb.Flows() != 2 || tb.Max() != 2 {
		t.Errorf("third of two: %v", err)
	}
	for _, bad := range []Tuple{{}, {wire.ProtoTCP, ap("10.0.0.2:80"), ap("[::1]:1")}, {wire.ProtoTCP, ap("10.0.0.2:0"), ap("10.0.0.1:1")}, {wire.ProtoICMP, ap("10.0.0.2:1"), ap("10.0.0.1:1")}} {
		if err := tb.Insert(bad, s); !errors.Is(err, ErrTuple) {
			t.Errorf("%v: %v", bad, err)
		}
		if tb.Remove(bad, s) {
			t.Errorf("%v removed", bad)
		}
	}
	if !tb.PortInUse(wire.ProtoTCP, 80) || tb.PortInUse(wire.ProtoUDP, 80) {
		t.Error("PortInUse")
	}
}

func TestFreePort(t *testing.T) {
	tb := New[sink](2, testKey)
	s := &sink{}
	if p := tb.FreePort(wire.ProtoUDP, func() uint32 { return 16383 }); p != 65535 {
		t.Errorf("port %d", p)
	}
	if err := tb.Bind(wire.ProtoUDP, ap("0.0.0.0:65535"), s); err != nil {
		t.Fatal(err)
	}
	if p := tb.FreePort(wire.ProtoUDP, func() uint32 { return 16383 }); p != 49152 {
		t.Errorf("port %d, want the first after wrapping round", p)
	}
	for p := 49152; p < 65535; p++ {
		if err := tb.Bind(wire.ProtoUDP, netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(p)), s); err != nil {
			t.Fatal(err)
		}
	}
	if p := tb.FreePort(wire.ProtoUDP, rand.Uint32); p != 0 {
		t.Errorf("port %d although all are taken", p)
	}
}

// TestAgainstMap does the same to the table and to a Go map.
func TestAgainstMap(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	tb := New[sink](1<<20, Key{rng.Uint64(), rng.Uint64()})
	model := map[Tuple]*sink{}
	addrs := []string{"10.0.0.1", "10.0.0.2", "fd00::1"}
	locals := []string{"10.1.0.1", "10.1.0.1", "fd00::9"}
	for step := range 200_000 {
		i := rng.IntN(3)
		tu := Tuple{wire.ProtoTCP, netip.AddrPortFrom(netip.MustParseAddr(locals[i]), uint16(1+rng.IntN(3))), netip.AddrPortFrom(netip.MustParseAddr(addrs[i]), uint16(1+rng.IntN(2000)))}
		s, have := model[tu]
		if rng.IntN(2) == 0 {
			fresh := &sink{step}
			if err := tb.Insert(tu, fresh); (err == nil) == have {
				t.Fatalf("seed %d step %d: insert: %v, model has it: %v", seed, step, err, have)
			}
			if !have {
				model[tu] = fresh
			}
		} else {
			if tb.Remove(tu, s) != have {
				t.Fatalf("seed %d step %d: remove disagrees with the model (%v)", seed, step, have)
			}
			delete(model, tu)
		}
		if tb.Flows() != len(model) {
			t.Fatalf("seed %d step %d: %d flows, want %d", seed, step, tb.Flows(), len(model))
		}
	}
	for tu, s := range model {
		if tb.LookupTuple(tu) != s {
			t.Fatalf("seed %d: %v lost", seed, tu)
		}
	}
}

// Readers must always find tuples that stay while others come and go around
// them, also while buckets grow.
func TestReadersNeverMissWhatStays(t *testing.T) {
	tb := New[sink](1<<20, testKey)
	const stay = 64
	mk := func(i int) Tuple {
		return Tuple{wire.ProtoTCP, ap("10.1.0.1:80"), netip.AddrPortFrom(wire.Addr4(0x0a000000|uint32(i>>14)), uint16(i&0x3fff+1))}
	}
	for i := range stay {
		if err := tb.Insert(mk(i), &sink{i}); err != nil {
			t.Fatal(err)
		}
	}
	var done atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := 0; !done.Load(); i++ {
				tu := mk(i % stay)
				b := frame(wire.ProtoTCP, tu.Remote, tu.Local, 0)
				if id, how := lookup(tb, b); id != i%stay || how != Exact {
					t.Errorf("tuple %d: found %d", i%stay, id)
					return
				}
			}
		})
	}
	s := &sink{-2}
	for range 3 {
		for i := stay; i < 30_000; i++ {
			if err := tb.Insert(mk(i), s); err != nil {
				t.Error(err)
			}
		}
		for i := stay; i < 30_000; i++ {
			tb.Remove(mk(i), s)
		}
	}
	done.Store(true)
	wg.Wait()
}

func TestNoAllocs(t *testing.T) {
	tb := New[sink](10, testKey)
	u, c := frame(wire.ProtoUDP, ap("10.0.0.1:1000"), ap("10.0.0.2:53"), 10), frame(wire.ProtoTCP, ap("[fd00::1]:1000"), ap("[fd00::2]:53"), 10)
	tb.Bind(wire.ProtoUDP, ap("0.0.0.0:53"), &sink{1})
	tb.Insert(Tuple{wire.ProtoTCP, ap("[fd00::2]:53"), ap("[fd00::1]:1000")}, &sink{2})
	if n := testing.AllocsPerRun(1000, func() {
		if id, _ := lookup(tb, u); id != 1 {
			t.Error(id)
		}
		if id, _ := lookup(tb, c); id != 2 {
			t.Error(id)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzParse: nothing outside the slice is read, offsets are inside the packet,
// and what Parse accepts, package wire accepts too.
func FuzzParse(f *testing.F) {
	f.Add(frame(wire.ProtoUDP, ap("10.0.0.1:1000"), ap("10.0.0.2:53"), 10), 0)
	f.Add(frame(wire.ProtoTCP, ap("[fd00::1]:1000"), ap("[fd00::2]:53"), 10), 20)
	tb := New[sink](10, testKey)
	tb.Bind(wire.ProtoUDP, netip.AddrPortFrom(netip.Addr{}, 53), &sink{1})
	tb.Insert(Tuple{wire.ProtoTCP, ap("[fd00::2]:53"), ap("[fd00::1]:1000")}, &sink{2})
	f.Fuzz(func(t *testing.T, b []byte, more int) {
		b = b[:len(b):len(b)]
		var m Meta
		total := len(b) + more&0xffff
		Parse(&m, b, total)
		if total == len(b) {
			checkUsual(t, b, m)
		}
		if (m.Class == Drop) != m.Reason.Dropped() {
			t.Fatalf("class %d with reason %v", m.Class, m.Reason)
		}
		if m.Class == Drop {
			return
		}
		if m.L3 > len(b) || m.L4 > m.End && m.Reason != IsARP || m.End > total {
			t.Fatalf("%+v outside a frame of %d", m, total)
		}
		if m.Class != UDP && m.Class != TCP {
			return
		}
		if m.Payload > len(b) || m.Payload > m.DataEnd || m.DataEnd > m.End || m.L4 >= m.Payload {
			t.Fatalf("%+v in a first piece of %d", m, len(b))
		}
		if total == len(b) && !m.V6 {
			h, ok := wire.ParseIPv4(b[m.L3:])
			if !ok || !h.ChecksumOK() || h.IsFragment() {
				t.Fatalf("accepted what wire does not: % x", b)
			}
		}
		tb.Lookup(&m, b)
		_, _ = m.Src(b), m.Dst(b)
	})
}

// checkUsual fails where Usual says of a frame other than Parse, or takes one that
// is not of its shape.
func checkUsual(t *testing.T, b []byte, want Meta) {
	t.Helper()
	var h [UsualLen]byte
	for i := range h {
		h[i] = 0xa5 // behind the frame: must not matter
	}
	copy(h[:], b)
	got := Meta{Payload: -1}
	ok := Usual(&got, &h, len(b))
	usual := (want.Class == UDP || want.Class == TCP) && !want.V6 && want.L3 == UsualL3
	if ok != usual || ok && got != want || !ok && got != (Meta{Payload: -1}) {
		t.Fatalf("Usual: %v %+v\nParse: %+v\n% x", ok, got, want, b)
	}
}

// Usual takes what Parse takes of its shape, and nothing else: every bit of the
// headers turned, every length cut, the sum repaired or not.
func TestUsualAgreesWithParse(t *testing.T) {
	for _, base := range [][]byte{
		frame(wire.ProtoUDP, ap("10.0.0.1:1000"), ap("10.0.0.2:53"), 10),
		frame(wire.ProtoUDP, ap("10.0.0.1:1000"), ap("255.255.255.255:53"), 0),
		frame(wire.ProtoTCP, ap("10.0.0.1:1000"), ap("10.0.0.2:80"), 10),
		frame(wire.ProtoUDP, ap("[fd00::1]:1000"), ap("[fd00::2]:53"), 10),
		append(frame(wire.ProtoUDP, ap("10.0.0.1:1000"), ap("10.0.0.2:53"), 1), make([]byte, 17)...), // padded
	} {
		check := func(b []byte) {
			t.Helper()
			var m Meta
			Parse(&m, b, len(b))
			checkUsual(t, b, m)
		}
		for n := range len(base) + 1 {
			check(base[:n])
		}
		for bit := 12 * 8; bit < 8*min(len(base), UsualLen); bit++ {
			b := append([]byte(nil), base...)
			b[bit/8] ^= 1 << (bit % 8)
			check(b)
			if len(b) >= 34 {
				b[24], b[25] = 0, 0
				binary.BigEndian.PutUint16(b[24:], wire.Checksum(b[14:34]))
				check(b)
			}
		}
	}
}

// An IPv4 packet found by Lookup4 is found by Lookup, and the other way round.
func TestLookup4AgreesWithLookup(t *testing.T) {
	tb := New[sink](10, testKey)
	tb.Bind(wire.ProtoUDP, netip.AddrPortFrom(netip.Addr{}, 53), &sink{1})
	tb.Bind(wire.ProtoUDP, ap("10.0.0.2:53"), &sink{2})
	tb.Bind(wire.ProtoUDP, ap("[::]:54"), &sink{3})
	tb.Bind(wire.ProtoTCP, ap("0.0.0.0:80"), &sink{4})
	tb.Insert(Tuple{wire.ProtoTCP, ap("10.0.0.2:80"), ap("10.0.0.1:1000")}, &sink{5})
	for _, c := range []struct {
		proto    wire.Proto
		src, dst string
		want     int
	}{
		{wire.ProtoUDP, "10.0.0.1:1000", "10.0.0.2:53", 2},
		{wire.ProtoUDP, "10.0.0.1:1000", "10.0.0.3:53", 1},
		{wire.ProtoUDP, "10.0.0.1:1000", "10.0.0.3:54", 0},
		{wire.ProtoUDP, "10.0.0.1:1000", "10.0.0.3:5300", 0},
		{wire.ProtoTCP, "10.0.0.1:1000", "10.0.0.2:80", 5},
		{wire.ProtoTCP, "10.0.0.1:1001", "10.0.0.2:80", 4},
		{wire.ProtoTCP, "10.0.0.1:1001", "10.0.0.2:53", 0},
	} {
		b := frame(c.proto, ap(c.src), ap(c.dst), 4)
		var m Meta
		Parse(&m, b, len(b))
		s4 := tb.Lookup4(&m)
		s, _ := tb.Lookup(&m, b)
		if s4 != s || (s == nil) != (c.want == 0) || s != nil && s.id != c.want {
			t.Errorf("%+v: Lookup4 %v, Lookup %v", c, s4, s)
		}
	}
}

func BenchmarkClassify(b *testing.B) {
	run := func(name string, tb *Table[sink], fr []byte, want int) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var m Meta
				Parse(&m, fr, len(fr))
				if s, _ := tb.Lookup(&m, fr); s == nil || s.id != want {
					b.Fatal("not found")
				}
			}
		})
	}
	tb := New[sink](1<<20, testKey)
	tb.Bind(wire.ProtoUDP, ap("0.0.0.0:53"), &sink{1})
	b.Run("UDPUsual", func(b *testing.B) {
		fr := frame(wire.ProtoUDP, ap("10.0.0.1:1000"), ap("10.0.0.2:53"), 32)
		h := (*[UsualLen]byte)(fr)
		b.ReportAllocs()
		for b.Loop() {
			var m Meta
			if !Usual(&m, h, len(fr)) || tb.Lookup4(&m) == nil {
				b.Fatal("not found")
			}
		}
	})
	run("UDPBound", tb, frame(wire.ProtoUDP, ap("10.0.0.1:1000"), ap("10.0.0.2:53"), 32), 1)
	for i := range 10000 {
		tb.Insert(Tuple{wire.ProtoTCP, ap("10.0.0.2:80"), netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(i+1))}, &sink{i + 1})
		tb.Insert(Tuple{wire.ProtoTCP, ap("[fd00::2]:80"), netip.AddrPortFrom(netip.MustParseAddr("fd00::1"), uint16(i+1))}, &sink{i + 1})
	}
	run("TCPExact", tb, frame(wire.ProtoTCP, ap("10.0.0.1:1000"), ap("10.0.0.2:80"), 32), 1000)
	run("TCP6Exact", tb, frame(wire.ProtoTCP, ap("[fd00::1]:1000"), ap("[fd00::2]:80"), 32), 1000)
}
