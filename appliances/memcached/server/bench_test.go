package server

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"osv/kernel/hw/dma"
	"osv/kernel/net/stack"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// benchLink is a device without a wire: RxBatch gives copies of one frame, as
// long as there is credit, and TxBatch takes anything.
type benchLink struct {
	pool    *pkt.Pool
	frame   []byte
	credit  int
	replies int
	last    []byte
}

func (l *benchLink) Name() string { return "bench0" }
func (l *benchLink) Caps() pkt.Caps {
	return pkt.Caps{MAC: wire.MAC{2, 0, 0, 0, 0, 1}, MTU: 1500, RxQueues: 1, TxQueues: 1, TxCsum: true, RxCsum: true, TxScatter: 1}
}
func (l *benchLink) RxBatch(_ int, dst []*pkt.Buf) int {
	n := min(len(dst), l.credit)
	for i := range dst[:n] {
		b := l.pool.Get()
		copy(b.Append(len(l.frame)), l.frame)
		b.Flags = pkt.CsumValid
		dst[i] = b
	}
	l.credit -= n
	return n
}
func (l *benchLink) RxWait(int) error { return nil }
func (l *benchLink) RxWake(int)       {}
func (l *benchLink) TxBatch(_ int, fs []*pkt.Buf) int {
	for _, b := range fs {
		l.last = append(l.last[:0], b.Bytes()...)
		b.Put()
	}
	l.replies += len(fs)
	return len(fs)
}
func (l *benchLink) TxBuf(int) *pkt.Buf   { return l.pool.Get() }
func (l *benchLink) LinkUp() bool         { return true }
func (l *benchLink) Stats() pkt.LinkStats { return pkt.LinkStats{} }
func (l *benchLink) Close() error         { return nil }

// udpFrame is a request of a client in an Ethernet frame.
func udpFrame(payload string) []byte {
	p := append([]byte{0, 7, 0, 0, 0, 1, 0, 0}, payload...)
	const src, dst = 10<<24 | 9, 10<<24 | 1
	u := make([]byte, wire.UDPLen, wire.UDPLen+len(p))
	u = append(u, p...)
	wire.PutUDP(u, 999, 11211, len(u), 0)
	ip := make([]byte, wire.IPv4MinLen)
	wire.PutIPv4(ip, &wire.IPv4Fields{TotalLen: len(ip) + len(u), TTL: 64, Proto: wire.ProtoUDP, Src: src, Dst: dst})
	f := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0}
	return append(append(f, ip...), u...)
}

// newBench is a server on a stack that only moves when it is polled.
func newBench(b testing.TB) (*Server, *stack.Stack, *benchLink) {
	b.Helper()
	pool, err := pkt.NewPool(new(dma.Host), 256, 2048)
	if err != nil {
		b.Fatal(err)
	}
	l := &benchLink{pool: pool}
	st, err := stack.New(stack.Config{Manual: true})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := st.AddLink(l, stack.IfConfig{Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}, NoIPv6: true}); err != nil {
		b.Fatal(err)
	}
	o := parse(b, "-p", "0", "-U", "0", "-engine=channel")
	h := &OnStack{Hosted: NewHosted(o, 1), stack: st}
	s, err := New(o, h)
	if err != nil {
		b.Fatal(err)
	}
	if err := s.channelUDP("", 11211); err != nil {
		b.Fatal(err)
	}
	return s, st, l
}

const benchKey = "abcdefghijklmnopqrstuvwxyz012345" // 32 bytes

// BenchmarkChannelUDP is one request of a 32-byte key and a 100-byte value, from
// the frame in the receive ring to the frame in the transmit ring; the link's own
// work, a pool Get and Put and a copy of the frame, is in it.
func BenchmarkChannelUDP(b *testing.B) {
	for name, req := range map[string]string{
		"get": "get " + benchKey + "\r\n",
		"set": "set " + benchKey + " 0 0 100\r\n" + bigValue(100) + "\r\n",
		"mg":  "mg " + benchKey + " v\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			_, st, l := newBench(b)
			l.frame, l.credit = udpFrame("set "+benchKey+" 0 0 100\r\n"+bigValue(100)+"\r\n"), 1
			st.Poll()
			l.frame, l.replies = udpFrame(req), 0
			b.ReportAllocs()
			b.ResetTimer()
			for left := b.N; left > 0; left -= 64 {
				l.credit = 64
				for l.credit > 0 {
					st.Poll()
				}
			}
			if l.replies < b.N {
				b.Fatalf("%d replies to %d requests", l.replies, b.N)
			}
		})
	}
}

// TestChannelUDPInPlace: what BenchmarkChannelUDP measures is right, and
// allocates nothing.
func TestChannelUDPInPlace(t *testing.T) {
	_, st, l := newBench(t)
	l.frame, l.credit = udpFrame("set a 5 0 3\r\nabc\r\n"), 1
	st.Poll()
	l.frame, l.replies = udpFrame("get a\r\n"), 0
	if n := testing.AllocsPerRun(100, func() {
		l.credit = 64
		for l.credit > 0 {
			st.Poll()
		}
	}); n != 0 {
		t.Errorf("%v allocations in 64 requests", n)
	}
	want := "VALUE a 5 3\r\nabc\r\nEND\r\n"
	if got := string(l.last[14+20+8+8:]); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if l.replies != 101*64 {
		t.Errorf("%d replies", l.replies)
	}
}

// BenchmarkSocketTCP is a request at a time over a loopback connection of the
// operating system: what the engine costs beside the system calls of both ends.
func BenchmarkSocketTCP(b *testing.B) {
	o := parse(b, "-p", "0")
	s, err := New(o, NewHosted(o, 1))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s.Serve(ln)
	nc, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	fmt.Fprintf(nc, "set %s 0 0 100 noreply\r\n%s\r\n", benchKey, bigValue(100))
	req, reply := []byte("get "+benchKey+"\r\n"), make([]byte, len("VALUE  0 100\r\n")+len(benchKey)+102+5)
	b.ReportAllocs()
	for b.Loop() {
		nc.Write(req)
		if _, err := io.ReadFull(nc, reply); err != nil {
			b.Fatal(err)
		}
	}
}
