package stack

import (
	"net/netip"
	"testing"

	"osv/kernel/hw/dma"
	kclock "osv/kernel/ktest/clock"
	"osv/kernel/ktest/simnet"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

var (
	addr = netip.MustParseAddr
	ap   = netip.MustParseAddrPort
	pfx  = netip.MustParsePrefix
)

// host is a stack driven by hand, and a bare port opposite from which a test
// speaks frames.
type host struct {
	t     testing.TB
	clk   *kclock.Fake
	net   *simnet.Net
	stack *Stack
	ifc   *Interface
	peer  *simnet.Link
	mem   dma.Host
}

var peerMAC = wire.MAC{2, 0, 0, 0, 0, 2}

// newHost makes one with 10.0.0.1/24 and the given offloads.
func newHost(t testing.TB, caps pkt.Caps, cfg IfConfig) *host {
	t.Helper()
	h := &host{t: t, clk: &kclock.Fake{}}
	var err error
	if h.net, err = simnet.New(simnet.Config{Caps: caps}); err != nil {
		t.Fatal(err)
	}
	seq := uint64(0)
	h.stack, err = New(Config{Clock: h.clk, Mem: &h.mem, Manual: true, SlowPath: 64, Random: func() uint64 { seq += 0x9e3779b97f4a7c15; return seq }, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Addrs == nil {
		cfg.Addrs = []netip.Prefix{pfx("10.0.0.1/24")}
	}
	if h.ifc, err = h.stack.AddLink(h.net.Links[0], cfg); err != nil {
		t.Fatal(err)
	}
	h.peer = h.net.Links[1]
	t.Cleanup(func() {
		h.frames()
		if err := h.stack.Close(); err != nil {
			t.Error(err)
		}
		if err := h.net.Close(); err != nil {
			t.Error(err)
		}
		if n := h.mem.Live(); n != 0 {
			t.Errorf("%d regions of memory left", n)
		}
	})
	return h
}

// frames runs the stack and returns what it has sent, as bytes.
func (h *host) frames() [][]byte {
	h.stack.Poll()
	var out [][]byte
	var b [16]*pkt.Buf
	for {
		n := h.peer.RxBatch(0, b[:])
		if n == 0 {
			return out
		}
		for _, b := range b[:n] {
			out = append(out, append([]byte(nil), b.Bytes()...))
			b.Put()
		}
	}
}

// ask injects a frame and returns what came back.
func (h *host) ask(frame []byte) [][]byte {
	h.frames()
	h.peer.Inject(frame)
	return h.frames()
}

// one fails unless there is exactly one frame.
func (h *host) one(fs [][]byte) []byte {
	h.t.Helper()
	if len(fs) != 1 {
		h.t.Fatalf("%d frames, want 1: % x", len(fs), fs)
	}
	return fs[0]
}

func eth(dst, src wire.MAC, t wire.EtherType, body []byte) []byte {
	b := make([]byte, wire.EthLen, wire.EthLen+len(body))
	e := wire.Eth(b)
	e.SetDst(dst)
	e.SetSrc(src)
	e.SetType(t)
	return append(b, body...)
}

func arp(op wire.ARPOp, sender wire.MAC, sip string, target wire.MAC, tip string) []byte {
	b := make([]byte, wire.ARPLen)
	wire.PutARP(b, op, sender, addr(sip), target, addr(tip))
	return b
}

func ip4(f wire.IPv4Fields, body []byte) []byte {
	f.TotalLen = wire.IPv4MinLen + len(body)
	if f.TTL == 0 {
		f.TTL = 64
	}
	b := make([]byte, wire.IPv4MinLen)
	wire.PutIPv4(b, &f)
	return append(b, body...)
}

func udp4(src, dst netip.AddrPort, payload []byte) []byte {
	b := make([]byte, wire.UDPLen+len(payload))
	wire.PutUDP(b, src.Port(), dst.Port(), len(b), 0)
	copy(b[wire.UDPLen:], payload)
	be.PutUint16(b[6:], wire.UDPChecksum(wire.Sum(wire.PseudoSum4(wire.U32(src.Addr()), wire.U32(dst.Addr()), wire.ProtoUDP, len(b)), b)))
	return ip4(wire.IPv4Fields{Proto: wire.ProtoUDP, Src: wire.U32(src.Addr()), Dst: wire.U32(dst.Addr())}, b)
}

func icmp4(t wire.ICMPType, code uint8, rest uint32, body []byte) []byte {
	b := make([]byte, wire.ICMPLen+len(body))
	wire.PutICMP(b, t, code, rest)
	copy(b[wire.ICMPLen:], body)
	wire.ICMP(b).SetChecksum()
	return b
}

// checkIP verifies a frame's IPv4 header and returns the packet.
func (h *host) checkIP(f []byte, p wire.Proto) wire.IPv4 {
	h.t.Helper()
	if wire.Eth(f).Type() != wire.EtherIPv4 {
		h.t.Fatalf("not IPv4: % x", f)
	}
	ip, ok := wire.ParseIPv4(f[wire.EthLen:])
	if !ok || !ip.ChecksumOK() || ip.Proto() != p {
		h.t.Fatalf("bad IPv4 packet or not protocol %d: % x", p, f)
	}
	return ip
}
