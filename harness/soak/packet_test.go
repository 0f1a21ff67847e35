package soak

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"osv/harness/wire"
)

func TestFrames(t *testing.T) {
	hw, host := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	src, dst := netip.MustParseAddrPort("198.18.1.2:4711"), netip.MustParseAddrPort("10.77.0.2:80")
	for name, c := range map[string]struct {
		proto byte
		seg   []byte
	}{
		"SYN":      {6, synSegment(src, dst, 0x01020304)},
		"datagram": {17, udpDatagram(src, dst, []byte("odd"))},
	} {
		f := ipFrame(hw, host, src.Addr(), dst.Addr(), c.proto, c.seg)
		if !bytes.Equal(f[:14], []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}) {
			t.Errorf("%s: Ethernet header % x", name, f[:14])
		}
		// A sum over what carries its own checksum is zero (RFC 1071).
		if s := fold(sum(f[etherSize:etherSize+ipSize], 0)); s != 0 {
			t.Errorf("%s: IP checksum off by %04x", name, s)
		}
		if s := transportSum(src.Addr(), dst.Addr(), c.proto, c.seg); s != 0 {
			t.Errorf("%s: checksum off by %04x", name, s)
		}
	}
	// RFC 1071, section 3.
	if s := ^fold(sum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}, 0)); s != 0xddf2 {
		t.Errorf("%04x", s)
	}
}

func TestStrangersAreNobody(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	bench, here := netip.MustParsePrefix("198.18.0.0/15"), wire.Guest.Masked()
	seen := map[netip.Addr]bool{}
	for range 10000 {
		a := stranger(rng)
		if !bench.Contains(a.Addr()) && !here.Contains(a.Addr()) || a.Addr() == wire.Host.Addr() || a.Addr() == wire.Guest.Addr() || a.Port() < 1024 {
			t.Fatal(a)
		}
		seen[a.Addr()] = true
	}
	if len(seen) < 8000 {
		t.Errorf("%d addresses", len(seen))
	}
}

// What is sent has nothing in it that may rightly change the checking client's
// keys or the cache's size.
func TestGarbageIsHarmless(t *testing.T) {
	g := newGarbage(1)
	s := &rawSocket{hw: make(net.HardwareAddr, 6), host: make(net.HardwareAddr, 6)}
	var kinds [256]int
	for range 20000 {
		b, d := g.burst(), g.datagram()
		for _, x := range [][]byte{b, d} {
			for _, no := range []string{"own-", "cache_memlimit 1", "cache_memlimit 9", "flush_all\r\nfoo"} {
				if strings.Contains(string(x), no) {
					t.Fatalf("%q in %q", no, x)
				}
			}
		}
		f := g.frame()
		if f[1] == 0x08 || f[1] == 0x18 {
			t.Fatalf("opcode %#x flushes", f[1])
		}
		kinds[f[1]]++
		e := g.ether(s, netip.AddrPortFrom(wire.Guest.Addr(), 11211))
		if len(e) < etherSize || len(e) > etherSize+1500 {
			t.Fatalf("a frame of %d octets", len(e))
		}
		if len(e) >= etherSize+16 && e[etherSize+12] == 10 && e[etherSize+15] < 3 {
			t.Fatalf("a frame from %v", net.IP(e[etherSize+12:etherSize+16]))
		}
	}
	if kinds[0x01] == 0 || kinds[0xff] == 0 {
		t.Error("no SET, or nothing in place of FLUSH")
	}
}

func TestPaced(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	n := 0
	if err := paced(ctx, 1000, func() error { n++; return nil }); err != nil || n == 0 || n > 200 {
		t.Errorf("%d calls, %v", n, err)
	}
}
