package tcp

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// fuzzHost is a listener that anything is thrown at.
type fuzzHost struct {
	script
	conns map[Tuple]*Conn
}

func (h *fuzzHost) Established(c *Conn) bool {
	h.conns[c.tuple] = c
	return true
}

// TxSegment keeps nothing: only that a header can be written matters.
func (h *fuzzHost) TxSegment(c *Conn, b *pkt.Buf) {
	t, ok := wire.ParseTCP(b.Bytes())
	if !ok {
		panic("bad header")
	}
	if t.Flags()&wire.TCPSyn != 0 {
		h.iss = c.iss
	}
	b.Put()
}

// Any 20 segments to a listener, with calls of the user and time in between: no
// panic, and the buffer counts return to where they were.
func FuzzListener(f *testing.F) {
	syn := []byte{0, 0, 2, 0, 0, 100, 0, 0, 0, 0}
	ack := []byte{0, 0, 16, 1, 1, 100, 0, 0, 0, 0}
	data := []byte{0, 0, 24, 0, 0, 100, 0, 50, 0, 1}
	fin := []byte{0, 0, 17, 0, 0, 100, 0, 0, 0, 3}
	f.Add(slices.Concat([]byte{7}, syn, ack, data, data, fin))
	f.Add(slices.Concat([]byte{8}, syn, syn, ack, data, fin, fin))
	f.Add([]byte{0xff, 0, 0, 2, 0, 0, 100, 0, 0, 12, 2, 4, 5, 180, 4, 2, 8, 10, 1, 1, 1, 1})
	m := newFuzzMem(f)
	f.Fuzz(func(t *testing.T, in []byte) { m.run(t, in) })
}

// The same with segments that mean something more often.
func TestListenerAtRandom(t *testing.T) {
	m := newFuzzMem(t)
	r := rand.New(rand.NewPCG(1, 2))
	states := map[State]int{}
	n := 20000
	if raceEnabled {
		n = 2000
	}
	for range n {
		in := []byte{byte(r.Uint32())}
		for i := range 20 {
			flags := []byte{2, 16, 16, 24, 24, 17, 4, 20, 18, 48, 0}[r.IntN(11)]
			if i == 0 {
				flags = 2
			} else if i == 1 {
				flags = 16
			}
			small := func() byte { return byte(max(0, r.IntN(6)-4)) }
			in = append(in, byte(r.IntN(8))&small(), byte(r.IntN(4))*16, flags, small(), small(), byte(r.IntN(256)), small(),
				byte(r.IntN(100)), 0, byte(r.IntN(256)))
			if i == 1 {
				in[len(in)-6] = 1 // the ACK that opens
			}
		}
		m.run(t, in)
		for s, n := range m.seen {
			states[State(s)] += n
		}
		m.seen = [StateTimeWait + 1]int{}
	}
	for s := StateEstablished; s <= StateTimeWait; s++ {
		if states[s] == 0 {
			t.Errorf("%v was never reached", s)
		}
	}
}

type fuzzMem struct {
	pool, chunks *pkt.Pool
	seen         [StateTimeWait + 1]int
}

func newFuzzMem(t testing.TB) *fuzzMem {
	pool, err := pkt.NewPool(&testMem, 512, 2048)
	if err != nil {
		t.Fatal(err)
	}
	chunks, err := pkt.NewPool(&testMem, 64, 4096)
	if err != nil {
		t.Fatal(err)
	}
	return &fuzzMem{pool: pool, chunks: chunks}
}

func (m *fuzzMem) run(t *testing.T, in []byte) {
	h := &fuzzHost{conns: map[Tuple]*Conn{}}
	h.now, h.pool, h.chunks = 1e12, m.pool, m.chunks
	mode := next(&in)
	h.cfg = Config{Out: h, Chunks: m.chunks, NoSACK: mode&1 == 0, NoTimestamps: mode&2 == 0, NoWindowScale: mode&4 == 0,
		NewReno: mode&8 == 0, RcvBuf: 4096, RcvBufMax: 1 << 20, SndBuf: 8192}.WithDefaults()
	h.path = Path{MTU: 1500}
	h.l = NewListener(&h.cfg, h, 2, 1+int(mode>>6))
	var last *Conn
	for range 20 {
		if len(in) == 0 {
			break
		}
		tuple := Tuple{netip.MustParseAddrPort("10.0.0.1:80"), netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 2}), 4000+uint16(next(&in)&1))}
		if c := h.conns[tuple]; c != nil {
			last = c
		}
		h.segment(&in, tuple, last)
		h.act(next(&in), last)
		for _, c := range h.conns {
			m.seen[c.State()]++
		}
	}
	h.l.Close(h.now)
	for _, c := range h.conns {
		c.Abort(h.now)
		c.Close(h.now)
		c.rcv.release()
	}
	if n, k := m.pool.InUse(), m.chunks.InUse(); n != 0 || k != 0 {
		t.Fatalf("%d packet buffers and %d chunks leaked", n, k)
	}
}

func next(in *[]byte) byte {
	if len(*in) == 0 {
		return 0
	}
	b := (*in)[0]
	*in = (*in)[1:]
	return b
}

// segment takes one segment from the input: near what the connection expects,
// so that it gets past the first check.
func (h *fuzzHost) segment(in *[]byte, tuple Tuple, c *Conn) {
	kind := next(in)
	f := wire.TCPFields{SrcPort: tuple.Remote.Port(), DstPort: 80, Flags: wire.TCPFlags(next(in))}
	seqOff, ackOff := int8(next(in)), int8(next(in))
	f.Window = uint16(next(in)) << (kind & 8)
	f.Urgent = uint16(next(in))
	n := int(next(in)) * (1 + int(kind&7))
	if c != nil {
		f.Seq, f.Ack = uint32(c.rcvNxt.Add(int(seqOff)*(1+int(kind>>4)))), uint32(c.sndUna.Add(int(ackOff)*(1+int(kind>>4)*3)))
	} else {
		f.Seq, f.Ack = uint32(seqOff), uint32(h.iss.Add(int(ackOff)))
	}
	opts := min(int(next(in))%44&^3, len(*in)&^3, wire.TCPMaxOptions)
	b := h.pool.Get()
	if b == nil {
		return
	}
	b.Append(min(n, b.Tailroom()))
	hdr := b.Prepend(wire.TCPMinHeader + opts)
	wire.TCP(hdr).Put(&f, len(hdr))
	copy(hdr[wire.TCPMinHeader:], (*in)[:opts])
	*in = (*in)[opts:]
	var s Segment
	if !s.Parse(b) {
		b.Put()
		return
	}
	if conn := h.conns[tuple]; conn != nil {
		conn.Input(h.now, &s)
		conn.Flush(h.now)
		return
	}
	h.l.Input(h.now, &tuple, &s)
}

// act does something between segments.
func (h *fuzzHost) act(what byte, c *Conn) {
	h.now += int64(what>>4) * int64(what>>4) * 1e7
	h.l.Timer(h.now)
	h.l.Accept()
	for _, x := range h.conns {
		if due(x.Deadline(), h.now) {
			x.Timer(h.now)
			x.Flush(h.now)
		}
	}
	if c == nil {
		return
	}
	switch what & 0xf {
	case 1:
		c.Send(h.now, make([]byte, 3000))
	case 2:
		c.Recv(h.now, make([]byte, 500))
	case 3:
		c.CloseWrite(h.now)
	case 4:
		c.CloseRead(h.now)
	case 5:
		c.Close(h.now)
	case 6:
		if c.PeekMore(); c.Readable() > 0 {
			p, _ := c.Peek()
			c.Consume(h.now, len(p))
		}
	case 7:
		c.MarkUrgent(h.now)
	case 8:
		c.PathMTU(h.now, 100+10*int(what))
	case 9:
		c.SetOptions(h.now, Options{NoDelay: true, Keepalive: true, KeepIdle: 1e7, KeepInterval: 1e7})
	}
	c.Flush(h.now)
}

// The reassembly of octets that come out of order, against a slow model that is
// obviously right: a map from number to octet.
func FuzzReassembly(f *testing.F) {
	f.Add([]byte{10, 5, 0, 5, 5, 5, 20, 3, 0, 30})
	pool, err := pkt.NewPool(&testMem, 512, 512)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		const base = 0xffffff80 // wraps on the way
		octet := func(i int) byte { return byte(i*7 + i>>5) }
		have := map[int]bool{}
		var q oooQueue
		var out rcvQueue
		nxt := 0
		for i := 0; i+1 < len(in) && i < 100; i += 2 {
			start, n := nxt+int(in[i]), 1+int(in[i+1])%100
			b := pool.Get()
			first := b
			for j := range n {
				if j > 0 && in[i]&1 == 1 && j%40 == 0 { // several pieces
					b.Next = pool.Get()
					b = b.Next
				}
				b.Append(1)[0] = octet(start + j)
				have[start+j] = true
			}
			if start == nxt {
				out.append(first, n)
				nxt = q.take(base+seqNum(nxt+n), &out).Sub(base)
			} else {
				q.insert(base+seqNum(start), n, first)
			}
			count := 0
			for j := range have {
				if j >= nxt {
					count++
				}
			}
			if q.len != count {
				t.Fatalf("%d octets beyond %d, the model has %d", q.len, nxt, count)
			}
			for j := 1; j < len(q.r); j++ {
				if !q.r[j-1].end.Less(q.r[j].start) {
					t.Fatal("ranges touch")
				}
			}
		}
		want := 0
		for have[want] {
			want++
		}
		if nxt != want && nxt != 0 {
			t.Fatalf("in order up to %d, the model says %d", nxt, want)
		}
		p := make([]byte, nxt)
		if out.len != nxt || out.read(p) != nxt {
			t.Fatalf("%d octets of %d", out.len, nxt)
		}
		for i := range p {
			if p[i] != octet(i) {
				t.Fatalf("octet %d is wrong", i)
			}
		}
		if out.mem != 0 {
			t.Fatalf("%d bytes accounted for with nothing held", out.mem)
		}
		q.release()
		if n := pool.InUse(); n != 0 {
			t.Fatalf("%d buffers leaked", n)
		}
	})
}
