package tcp

import (
	"testing"

	"osv/kernel/net/seq"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

type seqNum = seq.Num

// wirePair joins two connections with nothing between them: a segment that one
// sends waits in the other's queue. Nothing here allocates.
type wirePair struct {
	pool, chunks *pkt.Pool
	cfg          Config
	a, b         *Conn
	toA, toB     [256]*pkt.Buf
	nA, nB       int
	now          int64
	segments     int
	delayed      int // ACKs
	seg          Segment
}

func (w *wirePair) TxBuf(*Conn) *pkt.Buf { return w.pool.Get() }

func (w *wirePair) TxSegment(c *Conn, b *pkt.Buf) {
	w.segments++
	if c == w.a {
		w.toB[w.nB] = b
		w.nB++
	} else {
		w.toA[w.nA] = b
		w.nA++
	}
}

// settle delivers until nothing is under way, all of one direction as a batch.
func (w *wirePair) settle() {
	for w.nA+w.nB > 0 {
		n := w.nB
		w.nB = 0
		for i := range n {
			w.seg.Parse(w.toB[i])
			w.b.Input(w.now, &w.seg)
		}
		if n > 0 {
			w.b.Flush(w.now)
		}
		n = w.nA
		w.nA = 0
		for i := range n {
			w.seg.Parse(w.toA[i])
			w.a.Input(w.now, &w.seg)
		}
		if n > 0 {
			w.a.Flush(w.now)
		}
	}
}

func newWirePair(t testing.TB, gso int) *wirePair { return newWirePairWith(t, gso, func(*Config) {}) }

func newWirePairWith(t testing.TB, gso int, change func(*Config)) *wirePair {
	w := &wirePair{now: 1e12}
	var err error
	if w.pool, err = pkt.NewPool(&testMem, 1024, 2048); err != nil {
		t.Fatal(err)
	}
	if w.chunks, err = pkt.NewPool(&testMem, 512, 4096); err != nil {
		t.Fatal(err)
	}
	w.cfg = Config{Out: w, Chunks: w.chunks, Key: Key{3, 4}, RcvBuf: 1 << 20, SndBuf: 256 << 10}
	change(&w.cfg)
	w.cfg = w.cfg.WithDefaults()
	p := Path{MTU: 1500, GSOMax: gso, Pieces: 33}
	tuple := newScriptTuple()
	w.a, w.b = New(&w.cfg, tuple, p), New(&w.cfg, Tuple{tuple.Remote, tuple.Local}, p)
	if err := w.a.Connect(w.now); err != nil {
		t.Fatal(err)
	}
	w.nB = 0
	w.seg.Parse(w.toB[0])
	w.now += 1e5
	w.b.passiveOpen(w.now, &w.seg, 77)
	w.seg.Drop()
	w.now += 1e5
	w.settle()
	if w.a.state != StateEstablished || w.b.state != StateEstablished {
		t.Fatalf("%v and %v", w.a.state, w.b.state)
	}
	return w
}

func (w *wirePair) close(t testing.TB) {
	w.settle()
	for _, c := range []*Conn{w.a, w.b} {
		c.Abort(w.now)
		c.Close(w.now)
		c.rcv.release()
	}
	for i := range w.nA {
		w.toA[i].Put()
	}
	for i := range w.nB {
		w.toB[i].Put()
	}
	for _, p := range []*pkt.Pool{w.pool, w.chunks} {
		if err := p.Close(&testMem); err != nil {
			t.Error(err)
		}
	}
}

// The established path allocates nothing, in any of its four directions.
func TestEstablishedAllocatesNothing(t *testing.T) {
	payload, dst := make([]byte, 1000), make([]byte, 64<<10)
	for _, c := range []struct {
		name string
		gso  int
		run  func(w *wirePair)
	}{
		{"request and reply", 0, func(w *wirePair) {
			w.a.Send(w.now, payload)
			w.a.Flush(w.now)
			w.settle()
			w.b.Recv(w.now, dst)
			w.b.Send(w.now, payload)
			w.b.Flush(w.now)
			w.settle()
			w.a.Recv(w.now, dst)
			w.a.Flush(w.now)
			w.settle()
		}},
		{"bulk", 0, func(w *wirePair) { bulk(w, dst) }},
		{"bulk, large frames", 65536, func(w *wirePair) { bulk(w, dst) }},
		{"in place", 0, func(w *wirePair) {
			w.a.Send(w.now, payload)
			w.a.Flush(w.now)
			w.settle()
			p, _ := w.b.Peek()
			w.b.Consume(w.now, len(p))
			w.b.Flush(w.now)
			w.settle()
		}},
		{"out of order", 0, func(w *wirePair) {
			w.a.Send(w.now, dst[:8*w.a.cc.mss])
			w.a.Flush(w.now)
			w.toB[0], w.toB[w.nB-1] = w.toB[w.nB-1], w.toB[0]
			w.settle()
			for w.b.Readable() > 0 {
				w.b.Recv(w.now, dst)
			}
			w.b.Flush(w.now)
			w.settle()
		}},
		{"delayed ACK", 0, func(w *wirePair) {
			w.b.quickAcks = 0
			w.a.Send(w.now, payload)
			w.a.Flush(w.now)
			w.settle()
			w.b.Recv(w.now, dst)
			w.b.Flush(w.now)
			if w.b.delackAt != 0 {
				w.delayed++
			}
			w.now += 50e6
			w.b.Timer(w.now)
			w.b.Flush(w.now)
			w.settle()
		}},
	} {
		w := newWirePair(t, c.gso)
		for range 50 { // queues reach their sizes
			w.now += 1e6
			c.run(w)
		}
		if n := testing.AllocsPerRun(200, func() {
			w.now += 1e6
			c.run(w)
		}); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
		if c.name == "delayed ACK" && w.delayed < 200 {
			t.Errorf("only %d ACKs were delayed", w.delayed)
		}
		w.close(t)
	}
}

func bulk(w *wirePair, dst []byte) {
	for range 4 {
		n, _ := w.a.Send(w.now, dst)
		w.a.Flush(w.now)
		w.settle()
		for got := 0; got < n; {
			k, _ := w.b.Recv(w.now, dst)
			if k == 0 {
				w.b.Flush(w.now)
				w.settle()
				if w.b.Readable() == 0 {
					break
				}
			}
			got += k
		}
		w.b.Flush(w.now)
		w.settle()
	}
}

func benchPair(b *testing.B, gso int, octets int, run func(w *wirePair)) {
	w := newWirePair(b, gso)
	w.pool.InUse()
	b.SetBytes(int64(octets))
	b.ReportAllocs()
	b.ResetTimer()
	w.segments = 0
	for b.Loop() {
		w.now += 1e6
		run(w)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(w.segments), "ns/segment")
	w.close(b)
}

func BenchmarkRequestReply(b *testing.B) {
	payload, dst := make([]byte, 100), make([]byte, 4096)
	benchPair(b, 0, 200, func(w *wirePair) {
		w.a.Send(w.now, payload)
		w.a.Flush(w.now)
		w.settle()
		w.b.Recv(w.now, dst)
		w.b.Send(w.now, payload)
		w.b.Flush(w.now)
		w.settle()
		w.a.Recv(w.now, dst)
	})
}

func BenchmarkBulk(b *testing.B) {
	dst := make([]byte, 64<<10)
	benchPair(b, 0, 4*len(dst), func(w *wirePair) { bulk(w, dst) })
}

func BenchmarkBulkGSO(b *testing.B) {
	dst := make([]byte, 64<<10)
	benchPair(b, 65536, 4*len(dst), func(w *wirePair) { bulk(w, dst) })
}

// BenchmarkDataIn is one segment of 1448 octets in order, with its ACK every
// second time, read in place.
func BenchmarkDataIn(b *testing.B) {
	w := newWirePair(b, 0)
	b.SetBytes(1448)
	b.ReportAllocs()
	h := make([]byte, 32)
	o := wire.TCPOptions{Have: wire.TCPOptTimestamp, TSVal: w.b.tsRecent, TSEcr: w.b.tsClock(w.now)}
	o.Put(h[20:])
	f := wire.TCPFields{SrcPort: 1, DstPort: 2, Seq: uint32(w.b.rcvNxt), Ack: uint32(w.b.sndNxt), Flags: wire.TCPAck, Window: 1000}
	for b.Loop() {
		buf := w.pool.Get()
		buf.Append(1448)
		wire.TCP(h).Put(&f, 32)
		copy(buf.Prepend(32), h)
		w.seg.Parse(buf)
		w.b.Input(w.now, &w.seg)
		w.b.Consume(w.now, 1448)
		w.b.Flush(w.now)
		f.Seq += 1448
		for i := range w.nA {
			w.toA[i].Put()
		}
		w.nA = 0
	}
	w.close(b)
}

// BenchmarkDataOut is one segment of 1448 octets out, and its ACK in.
func BenchmarkDataOut(b *testing.B) {
	w := newWirePair(b, 0)
	b.SetBytes(1448)
	b.ReportAllocs()
	payload := make([]byte, 1448)
	h := make([]byte, 32)
	o := wire.TCPOptions{Have: wire.TCPOptTimestamp, TSVal: w.a.tsRecent, TSEcr: w.a.tsClock(w.now)}
	o.Put(h[20:])
	f := wire.TCPFields{SrcPort: 1, DstPort: 2, Seq: uint32(w.a.rcvNxt), Flags: wire.TCPAck, Window: 60000}
	for b.Loop() {
		w.a.Send(w.now, payload)
		w.a.Flush(w.now)
		for i := range w.nB {
			w.toB[i].Put()
		}
		w.nB = 0
		buf := w.pool.Get()
		f.Ack = uint32(w.a.sndNxt)
		wire.TCP(h).Put(&f, 32)
		copy(buf.Prepend(32), h)
		w.seg.Parse(buf)
		w.a.Input(w.now, &w.seg)
	}
	w.close(b)
}
