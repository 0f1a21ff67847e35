package stack

import (
	"net/netip"
	"testing"

	"osv/kernel/hw/dma"
	"osv/kernel/net/demux"
	"osv/kernel/net/netchan"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// benchLink is a device without a wire: RxBatch gives copies of one frame, as
// long as there is credit, and TxBatch takes anything.
type benchLink struct {
	pool    *pkt.Pool
	caps    pkt.Caps
	frame   []byte
	flags   pkt.Flags
	credit  int
	replies int
	bells   int
}

func (l *benchLink) Name() string   { return "bench0" }
func (l *benchLink) Caps() pkt.Caps { return l.caps }
func (l *benchLink) RxBatch(_ int, dst []*pkt.Buf) int {
	n := min(len(dst), l.credit)
	for i := range dst[:n] {
		b := l.pool.Get()
		copy(b.Append(len(l.frame)), l.frame)
		b.Flags = l.flags
		dst[i] = b
	}
	l.credit -= n
	return n
}
func (l *benchLink) RxWait(int) error { return nil }
func (l *benchLink) RxWake(int)       {}
func (l *benchLink) TxBatch(_ int, fs []*pkt.Buf) int {
	for _, b := range fs {
		b.Put()
	}
	l.replies += len(fs)
	l.bells++
	return len(fs)
}
func (l *benchLink) TxBuf(int) *pkt.Buf   { return l.pool.Get() }
func (l *benchLink) LinkUp() bool         { return true }
func (l *benchLink) Stats() pkt.LinkStats { return pkt.LinkStats{} }
func (l *benchLink) Close() error         { return nil }

func newBench(b testing.TB, offload bool, frame []byte) (*Stack, *benchLink) {
	b.Helper()
	var mem dma.Host
	p, err := pkt.NewPool(&mem, 256, 2048)
	if err != nil {
		b.Fatal(err)
	}
	l := &benchLink{pool: p, frame: frame, caps: pkt.Caps{MAC: wire.MAC{2, 0, 0, 0, 0, 1}, MTU: 1500, RxQueues: 1, TxQueues: 1, TxCsum: offload, RxCsum: offload}}
	if offload {
		l.flags = pkt.CsumValid
	}
	s, err := New(Config{Manual: true})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := s.AddLink(l, IfConfig{Addrs: []prefix{pfx("10.0.0.1/24"), pfx("fd00::1/64")}, NoIPv6: true}); err != nil {
		b.Fatal(err)
	}
	return s, l
}

// echoHandler answers as memcached would a hit: 48 bytes.
func echoHandler(c *RxContext, b *pkt.Buf, p []byte) {
	r := c.Room()
	c.ReplyInPlace(b, len(p)+copy(r[len(p):], "VALUE 0 5\r\nabcd"))
}

func handlerFrame() []byte {
	return eth(wire.MAC{2, 0, 0, 0, 0, 1}, peerMAC, wire.EtherIPv4, udp4(ap("10.0.0.2:999"), ap("10.0.0.1:11211"), make([]byte, 32)))
}

// One request of 32 bytes through classifier, handler and reply; the link's own
// work (a pool Get and Put and a copy of the frame) is in the number, and alone
// in "link".
func BenchmarkUDPHandler(b *testing.B) {
	run := func(name string, offload, handle bool, frame []byte) {
		b.Run(name, func(b *testing.B) {
			s, l := newBench(b, offload, frame)
			if handle {
				if _, err := s.HandleUDP(netip.AddrPortFrom(netip.Addr{}, 11211), echoHandler); err != nil {
					b.Fatal(err)
				}
			}
			loop := s.Interfaces()[0].loops[0]
			b.ReportAllocs()
			b.ResetTimer()
			l.replies, l.bells = 0, 0
			var bufs [64]*pkt.Buf
			for left := b.N; left > 0; left -= 64 {
				l.credit = 64
				if handle {
					loop.pass()
				} else {
					l.TxBatch(0, bufs[:l.RxBatch(0, bufs[:])])
				}
			}
			// The announcement of the address may be among them.
			if l.replies < b.N || handle && l.bells > l.replies/64+1 {
				b.Fatalf("%d replies, %d doorbells for %d requests", l.replies, l.bells, b.N)
			}
		})
	}
	run("link", true, false, handlerFrame())
	run("offload", true, true, handlerFrame())
	run("software", false, true, handlerFrame())
}

func TestHandlerNoAllocs(t *testing.T) {
	for _, offload := range []bool{true, false} {
		s, l := newBench(t, offload, handlerFrame())
		if _, err := s.HandleUDP(ap("0.0.0.0:11211"), echoHandler); err != nil {
			t.Fatal(err)
		}
		loop := s.Interfaces()[0].loops[0]
		l.replies = 0
		if n := testing.AllocsPerRun(100, func() { l.credit = 64; loop.pass() }); n != 0 || l.replies != 101*64 {
			t.Errorf("offload %v: %v allocations, %d replies", offload, n, l.replies)
		}
	}
}

type prefix = netip.Prefix

// The way of a segment of a known flow into its channel and out again, and the
// way of 32 segments through Route.Send.
func BenchmarkFlowChannel(b *testing.B) {
	seg := make([]byte, 20+32)
	be.PutUint16(seg, 1000)
	be.PutUint16(seg[2:], 80)
	seg[12] = 5 << 4
	s, l := newBench(b, true, eth(wire.MAC{2, 0, 0, 0, 0, 1}, peerMAC, wire.EtherIPv4, ip4(wire.IPv4Fields{Proto: wire.ProtoTCP, Src: 0x0a000002, Dst: 0x0a000001}, seg)))
	k := &Sink{Chan: netchan.New(128)}
	if err := s.Insert(demux.Tuple{Proto: wire.ProtoTCP, Local: ap("10.0.0.1:80"), Remote: ap("10.0.0.2:1000")}, k); err != nil {
		b.Fatal(err)
	}
	loop := s.Interfaces()[0].loops[0]
	var bufs [64]*pkt.Buf
	b.ReportAllocs()
	for left := b.N; left > 0; left -= 64 {
		l.credit = 64
		loop.pass()
		n := k.Chan.Pop(bufs[:])
		if n != 64 {
			b.Fatal(n)
		}
		l.TxBatch(0, bufs[:n])
	}
}

func BenchmarkRouteSend(b *testing.B) {
	for _, n := range []int{1, 32} {
		b.Run(map[int]string{1: "1", 32: "32"}[n], func(b *testing.B) {
			s, _ := newBench(b, true, nil)
			s.Interfaces()[0].AddNeighbour(addr("10.0.0.2"), peerMAC)
			r, err := s.Route(netip.Addr{}, addr("10.0.0.2"))
			if err != nil {
				b.Fatal(err)
			}
			bufs := make([]*pkt.Buf, n)
			b.ReportAllocs()
			for left := b.N; left > 0; left -= n {
				for i := range bufs {
					bufs[i] = r.Alloc()
					wire.PutUDP(bufs[i].Append(60), 1, 2, 60, 0)
				}
				if r.Send(wire.ProtoTCP, 16, bufs) != n {
					b.Fatal("not sent")
				}
			}
		})
	}
}
