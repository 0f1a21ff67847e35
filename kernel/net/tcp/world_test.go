package tcp

import (
	"container/heap"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"osv/kernel/hw/dma"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// world joins two hosts by a wire that obeys a seed. Time moves from event to
// event; nothing runs beside it.
type world struct {
	now   int64
	rng   *rand.Rand
	wire  packetHeap
	order uint64
	a, b  *simHost

	loss, dup, corrupt, reorder float64
	delay                       int64 // ns, one way
	rate                        int64 // bytes per second, 0 for no limit
	limit                       int   // of the queue in front of the wire, packets
	oneWay                      bool  // only what a sends is lost
	batch                       bool  // what arrives at one time is acknowledged once
	early                       bool  // what is reordered comes without delay, not later

	sent, lost int
	trace      io.Writer
	tap        func(now int64, from string, p []byte) // sees all that is sent
}

type packet struct {
	at    int64
	order uint64
	to    *simHost
	data  []byte
}

type packetHeap []packet

func (h packetHeap) Len() int { return len(h) }
func (h packetHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].order < h[j].order
}
func (h packetHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *packetHeap) Push(x any)   { *h = append(*h, x.(packet)) }
func (h *packetHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	*h = old[:len(old)-1]
	return p
}

// simHost is one end: its memory, and the connections or listener it has.
type simHost struct {
	w      *world
	name   string
	addr   netip.Addr
	pool   *pkt.Pool
	chunks *pkt.Pool
	cfg    Config
	path   Path
	peer   *simHost

	conns    map[Tuple]*Conn
	listener *Listener
	scratch  *Conn
	accepted func(*Conn)
	busyTill int64 // when the wire takes the next packet
}

func newSimHost(w *world, name, addr string, cfg Config, mtu int) *simHost {
	h := &simHost{w: w, name: name, addr: netip.MustParseAddr(addr), conns: map[Tuple]*Conn{}, scratch: new(Conn)}
	var err error
	if h.pool, err = pkt.NewPool(&testMem, 8192, 2048); err != nil {
		panic(err)
	}
	// The largest frames need more shares than there are: those are copied.
	if h.chunks, err = pkt.NewSharedPool(&testMem, 2048, 4096, 12); err != nil {
		panic(err)
	}
	cfg.Out, cfg.Chunks = h, h.chunks
	cfg.Key = Key{w.rng.Uint64(), w.rng.Uint64()}
	h.cfg = cfg.WithDefaults()
	h.path = Path{MTU: mtu, Pieces: 1 + mtu/1500}
	return h
}

var testMem dma.Host

// close checks for leaks.
func (h *simHost) close(t testing.TB) {
	t.Helper()
	if n := h.pool.InUse(); n != 0 {
		t.Errorf("%s: %d packet buffers leaked", h.name, n)
	}
	if n := h.chunks.InUse(); n != 0 {
		t.Errorf("%s: %d chunks leaked", h.name, n)
	}
	if m := h.cfg.Memory; m != nil && m.Used() != 0 {
		t.Errorf("%s: %d bytes of receive memory accounted for", h.name, m.Used())
	}
	if !t.Failed() {
		for _, p := range []*pkt.Pool{h.pool, h.chunks} {
			if err := p.Close(&testMem); err != nil {
				t.Error(err)
			}
		}
	}
}

func (h *simHost) TxBuf(*Conn) *pkt.Buf { return h.pool.Get() }

// TxSegment cuts large frames as a device would, sums, and puts the bytes on the
// wire.
func (h *simHost) TxSegment(c *Conn, b *pkt.Buf) {
	defer b.Put()
	if b.Headroom() < 12+18+40 {
		panic("no headroom left for the lower headers")
	}
	data := flatten(b)
	hdr, ok := wire.ParseTCP(data)
	if !ok {
		panic("bad header")
	}
	if hdr.Checksum() != 0 {
		panic("checksum field is not 0")
	}
	payload := hdr.Payload()
	mss := len(payload)
	if b.GSO != pkt.GSONone {
		mss = int(b.GSOSize)
	}
	if max := h.path.MTU - ipHeader(c.Tuple()); len(hdr)-len(payload)+mss > max && h.path.MTU == c.path.MTU {
		panic(fmt.Sprintf("packet of %d bytes on a path of %d", len(hdr)-len(payload)+mss, max))
	}
	for off := 0; ; off += mss {
		n := min(mss, len(payload)-off)
		p := append([]byte(nil), hdr[:hdr.HeaderLen()]...)
		p = append(p, payload[off:off+n]...)
		s := wire.TCP(p)
		f := wire.TCPFields{SrcPort: s.SrcPort(), DstPort: s.DstPort(), Seq: s.Seq() + uint32(off), Ack: s.Ack(),
			Flags: s.Flags(), Window: s.Window(), Urgent: s.Urgent()}
		if off+n < len(payload) {
			f.Flags &^= wire.TCPFin | wire.TCPPsh
		}
		s.Put(&f, s.HeaderLen())
		s.SetChecksum(sumBytes(c.Tuple(), p))
		h.w.transmit(h, p)
		if off+n >= len(payload) {
			return
		}
	}
}

func flatten(b *pkt.Buf) []byte {
	var data []byte
	for ; b != nil; b = b.Next {
		data = append(data, b.Bytes()...)
	}
	return data
}

func sumBytes(t *Tuple, p []byte) uint16 {
	b := pkt.Buf{Mem: dma.Region{Bytes: p}, Tail: len(p)}
	return Sum(t, &b)
}

func (w *world) transmit(from *simHost, p []byte) {
	w.sent++
	if w.trace != nil {
		w.show(from, p)
	}
	if w.tap != nil {
		w.tap(w.now, from.name, p)
	}
	if w.rng.Float64() < w.loss && !(w.oneWay && from == w.b) {
		w.lost++
		return
	}
	at := max(w.now, from.busyTill)
	if w.rate > 0 {
		if (at-w.now)*w.rate/1e9 > int64(w.limit)*1500 {
			w.lost++
			return
		}
		at += int64(len(p)+40) * 1e9 / w.rate
		from.busyTill = at
	}
	at += w.delay
	if w.rng.Float64() < w.reorder {
		if w.early {
			at -= w.delay
		} else {
			at += w.rng.Int64N(4*w.delay + 1e6)
		}
	}
	w.put(at, from.peer, p)
	if w.rng.Float64() < w.dup {
		w.put(at+w.rng.Int64N(2*w.delay+1e6), from.peer, append([]byte(nil), p...))
	}
}

func (w *world) put(at int64, to *simHost, p []byte) {
	if w.rng.Float64() < w.corrupt {
		p = append([]byte(nil), p...)
		// A burst of at most 15 bits: the checksum must find every one.
		bit := w.rng.IntN(len(p) * 8)
		for range 1 + w.rng.IntN(3) {
			p[bit/8] ^= 0x80 >> (bit % 8)
			if bit++; bit >= len(p)*8 {
				break
			}
		}
	}
	w.order++
	heap.Push(&w.wire, packet{at, w.order, to, p})
}

func (w *world) show(from *simHost, p []byte) {
	h, ok := wire.ParseTCP(p)
	if !ok {
		return
	}
	var o wire.TCPOptions
	o.Parse(h.Options())
	fmt.Fprintf(w.trace, "%12.6f %s %v seq %d ack %d win %d len %d", float64(w.now)/1e9, from.name, h.Flags(), h.Seq(), h.Ack(), h.Window(), len(h.Payload()))
	for _, s := range o.SACK[:o.NSACK] {
		fmt.Fprintf(w.trace, " sack %d-%d", s.Left, s.Right)
	}
	fmt.Fprintln(w.trace)
}

// receive takes a packet from the wire.
func (h *simHost) receive(p []byte) {
	b := h.pool.Get()
	if b == nil {
		return
	}
	first := b
	for rest := p; ; {
		n := copy(b.Append(min(len(rest), b.Tailroom())), rest)
		if rest = rest[n:]; len(rest) == 0 {
			break
		}
		if b.Next = h.pool.Get(); b.Next == nil {
			first.Put()
			return
		}
		b = b.Next
	}
	var t Tuple
	if len(p) >= 4 {
		s := wire.TCP(p)
		t = Tuple{netip.AddrPortFrom(h.addr, s.DstPort()), netip.AddrPortFrom(h.peer.addr, s.SrcPort())}
	}
	var s Segment
	if !Verify(&t, first) || !s.Parse(first) {
		first.Put()
		return
	}
	now := h.w.now
	if c := h.conns[t]; c != nil {
		c.Input(now, &s)
		if !h.w.batch {
			c.Flush(now)
		}
		h.reap(c)
		return
	}
	if h.listener != nil {
		h.listener.Input(now, &t, &s)
		return
	}
	Refuse(&h.cfg, h.scratch, now, &t, h.path, &s)
	s.Drop()
}

func (h *simHost) reap(c *Conn) {
	if c.State() == StateClosed {
		delete(h.conns, c.tuple)
	}
}

func (h *simHost) Path(*Tuple) (Path, error) { return h.path, nil }

func (h *simHost) Established(c *Conn) bool {
	h.conns[c.tuple] = c
	if h.accepted != nil {
		h.accepted(h.listener.Accept())
	}
	return true
}

func (h *simHost) connect(lport, rport uint16) *Conn {
	t := Tuple{netip.AddrPortFrom(h.addr, lport), netip.AddrPortFrom(h.peer.addr, rport)}
	c := New(&h.cfg, t, h.path)
	h.conns[t] = c
	if err := c.Connect(h.w.now); err != nil {
		panic(err)
	}
	return c
}

// next is the time of the host's earliest timer; 0 for none.
func (h *simHost) next() int64 {
	var d int64
	for _, c := range h.conns {
		if x := c.Deadline(); x != 0 && (d == 0 || x < d) {
			d = x
		}
	}
	if h.listener != nil {
		if x := h.listener.Deadline(); x != 0 && (d == 0 || x < d) {
			d = x
		}
	}
	return d
}

func (h *simHost) timers() {
	for _, c := range h.conns {
		if due(c.Deadline(), h.w.now) {
			c.Timer(h.w.now)
			c.Flush(h.w.now)
			h.reap(c)
		}
	}
	if h.listener != nil {
		h.listener.Timer(h.w.now)
	}
}

// step moves to the next event and does it. False says that there is none.
func (w *world) step() bool {
	var at int64 = -1
	if len(w.wire) > 0 {
		at = w.wire[0].at
	}
	for _, h := range []*simHost{w.a, w.b} {
		if d := h.next(); d != 0 && (at < 0 || d < at) {
			at = d
		}
	}
	if at < 0 {
		return false
	}
	w.now = max(w.now, at)
	for len(w.wire) > 0 && w.wire[0].at <= w.now {
		p := heap.Pop(&w.wire).(packet)
		p.to.receive(p.data)
	}
	if w.batch {
		for _, h := range []*simHost{w.a, w.b} {
			for _, c := range h.conns {
				c.Flush(w.now)
			}
		}
	}
	w.a.timers()
	w.b.timers()
	return true
}

// newWorld joins hosts a and b; the clock begins where seed says.
func newWorld(seed uint64, ca, cb Config, mtu int, v6 bool) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 0x7c9)), delay: int64(time.Millisecond)}
	w.now = int64(seed%1000) * 1e9
	addrs := [2]string{"10.0.0.1", "10.0.0.2"}
	if v6 {
		addrs = [2]string{"fd00::1", "fd00::2"}
	}
	w.a = newSimHost(w, "a", addrs[0], ca, mtu)
	w.b = newSimHost(w, "b", addrs[1], cb, mtu)
	w.a.peer, w.b.peer = w.b, w.a
	return w
}

// stream is octets that both ends can make: what is sent, and what must arrive.
type stream struct {
	x    uint64
	left int
}

func (s *stream) fill(p []byte) {
	for i := range p {
		s.x ^= s.x << 13
		s.x ^= s.x >> 7
		s.x ^= s.x << 17
		p[i] = byte(s.x)
	}
	s.left -= len(p)
}
