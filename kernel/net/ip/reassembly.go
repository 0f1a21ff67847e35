package ip

import (
	"net/netip"
	"sync"
	"time"

	"osv/kernel/net/clock"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// Key says which fragments belong together (RFC 791 §3.2, RFC 8200 §4.5).
type Key struct {
	Src, Dst netip.Addr
	ID       uint32
	Proto    wire.Proto // of IPv4; 0 for IPv6
}

// Fragment is one fragment as the reassembler takes it.
type Fragment struct {
	Key    Key
	Offset int  // bytes from the start of the fragmentable part
	Len    int  // bytes of it in this fragment
	More   bool // more fragments follow
	// Head is the length of all headers of the packet before the fragmentable
	// part, from the start of Buf. It is kept of the first fragment and cut off
	// from the others.
	Head int
	Buf  *pkt.Buf
}

// Limits of the reassembler.
type Limits struct {
	MaxBufs    int           // buffers held in all; 0 means 256
	MaxPackets int           // packets under way; 0 means 32
	Timeout    time.Duration // 0 means 30 s; RFC 8200 §4.5 says 60 s for IPv6, a busy host wants less
}

// maxFragments bounds the pieces of one packet: 65,535 bytes over a link of
// 1,280 are 53.
const maxFragments = 64

// Stats counts what the reassembler did.
type Stats struct {
	Fragments uint64
	Done      uint64
	Timeouts  uint64
	Overlaps  uint64 // packets dropped for overlapping fragments
	Bad       uint64 // fragments whose length or place is impossible
	Full      uint64 // fragments or packets dropped for the limits
}

// Reassembler puts fragments together. Any goroutine may use it.
type Reassembler struct {
	clock   clock.Clock
	limits  Limits
	expired func(first *pkt.Buf)

	mu      sync.Mutex // guards all below
	packets map[Key]*partial
	bufs    int
	timer   clock.Timer
	running bool
	stats   Stats
}

// partial is a packet under way: its pieces by offset, without overlap.
type partial struct {
	pieces []piece
	end    int // length of the fragmentable part, -1 until the last fragment is here
	have   int // bytes of it that are here
	due    int64
}

type piece struct {
	off, n, head int
	buf          *pkt.Buf
}

// NewReassembler makes one. expired gets the first fragment of a packet that was
// not completed in time, where that fragment is there, to tell the sender (RFC
// 792, RFC 4443 §3.3); it owns the buffer.
func NewReassembler(c clock.Clock, l Limits, expired func(first *pkt.Buf)) *Reassembler {
	if l.MaxBufs == 0 {
		l.MaxBufs = 256
	}
	if l.MaxPackets == 0 {
		l.MaxPackets = 32
	}
	if l.Timeout == 0 {
		l.Timeout = 30 * time.Second
	}
	return &Reassembler{clock: c, limits: l, expired: expired, packets: map[Key]*partial{}}
}

// Add takes in a fragment, which is the reassembler's now. Where it completes
// its packet, Add returns the packet: the first fragment's headers and data, the
// other data chained behind, and the length of the fragmentable part. The caller
// sets lengths and checksums in the header as it needs them.
//
// Fragments that overlap end their packet (RFC 5722 §3; for IPv4 as well, since
// nothing honest sends them). An exact duplicate is dropped alone.
func (r *Reassembler) Add(f Fragment) (whole *pkt.Buf, length int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Fragments++
	if f.Len <= 0 || f.More && f.Len%8 != 0 || f.Offset < 0 || f.Offset%8 != 0 || f.Offset+f.Len > 65535 ||
		f.Head < 0 || f.Head+f.Len > f.Buf.TotalLen() || f.Head > f.Buf.Len() {
		r.stats.Bad++
		f.Buf.Put()
		return nil, 0
	}
	p := r.packets[f.Key]
	if p == nil {
		if len(r.packets) >= r.limits.MaxPackets {
			r.evictOldest()
		}
		p = &partial{end: -1, due: r.clock.Now() + int64(r.limits.Timeout)}
		r.packets[f.Key] = p
		r.start()
	}
	nbufs := 0
	for b := f.Buf; b != nil; b = b.Next {
		nbufs++
	}
	if len(p.pieces) >= maxFragments || r.bufs+nbufs > r.limits.MaxBufs {
		r.stats.Full++
		r.discard(f.Key, p)
		f.Buf.Put()
		return nil, 0
	}
	end := f.Offset + f.Len
	// The place to insert, and whom it may overlap.
	at := len(p.pieces)
	for at > 0 && p.pieces[at-1].off >= f.Offset {
		at--
	}
	if at < len(p.pieces) && p.pieces[at].off == f.Offset && p.pieces[at].n == f.Len && f.More == (p.end != end) {
		f.Buf.Put() // an exact duplicate
		return nil, 0
	}
	overlap := at > 0 && p.pieces[at-1].off+p.pieces[at-1].n > f.Offset ||
		at < len(p.pieces) && end > p.pieces[at].off ||
		p.end >= 0 && (end > p.end || !f.More && end != p.end) ||
		!f.More && len(p.pieces) > 0 && p.pieces[len(p.pieces)-1].off >= end
	if overlap {
		r.stats.Overlaps++
		r.discard(f.Key, p)
		f.Buf.Put()
		return nil, 0
	}
	p.pieces = append(p.pieces, piece{})
	copy(p.pieces[at+1:], p.pieces[at:])
	p.pieces[at] = piece{f.Offset, f.Len, f.Head, f.Buf}
	r.bufs += nbufs
	p.have += f.Len
	if !f.More {
		p.end = end
	}
	if p.have != p.end {
		return nil, 0
	}
	r.remove(f.Key, p)
	r.stats.Done++
	return p.join(), p.end
}

// join chains the pieces of a complete packet.
func (p *partial) join() *pkt.Buf {
	var last *pkt.Buf
	for i, pc := range p.pieces {
		b := pc.buf
		if i > 0 {
			b.Trim(pc.head)
			last.Next = b
		}
		keep := pc.n
		if i == 0 {
			keep += pc.head
		}
		last = Cut(b, keep)
	}
	return p.pieces[0].buf
}

// Cut shortens a chain to n bytes, puts back pieces beyond, and returns the last
// piece that is left.
func Cut(b *pkt.Buf, n int) *pkt.Buf {
	for b.Next != nil && n > b.Len() {
		n -= b.Len()
		b = b.Next
	}
	b.Tail = min(b.Tail, b.Head+n)
	if b.Next != nil {
		b.Next.Put()
		b.Next = nil
	}
	return b
}

// remove takes p out of the table. Caller must hold mu.
func (r *Reassembler) remove(k Key, p *partial) {
	for _, pc := range p.pieces {
		for b := pc.buf; b != nil; b = b.Next {
			r.bufs--
		}
	}
	delete(r.packets, k)
}

// discard ends a packet and puts back its pieces. Caller must hold mu.
func (r *Reassembler) discard(k Key, p *partial) {
	r.remove(k, p)
	for _, pc := range p.pieces {
		pc.buf.Put()
	}
}

// evictOldest makes room for one more packet. Caller must hold mu.
func (r *Reassembler) evictOldest() {
	var key Key
	var oldest *partial
	for k, p := range r.packets {
		if oldest == nil || p.due < oldest.due {
			key, oldest = k, p
		}
	}
	r.stats.Full++
	r.discard(key, oldest)
}

// start sets the timer going. Caller must hold mu.
func (r *Reassembler) start() {
	if r.running {
		return
	}
	r.running = true
	const step = time.Second
	if r.timer == nil {
		r.timer = r.clock.AfterFunc(step, r.age)
	} else {
		r.timer.Reset(step)
	}
}

// age ends packets whose time is up.
func (r *Reassembler) age() {
	var firsts []*pkt.Buf
	r.mu.Lock()
	now := r.clock.Now()
	r.running = false
	for k, p := range r.packets {
		if now < p.due {
			continue
		}
		r.stats.Timeouts++
		if len(p.pieces) > 0 && p.pieces[0].off == 0 && r.expired != nil {
			r.remove(k, p)
			for _, pc := range p.pieces[1:] {
				pc.buf.Put()
			}
			firsts = append(firsts, p.pieces[0].buf)
			continue
		}
		r.discard(k, p)
	}
	if len(r.packets) > 0 {
		r.start()
	}
	r.mu.Unlock()
	for _, b := range firsts {
		r.expired(b)
	}
}

// Stats copies the counters.
func (r *Reassembler) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// Held is the number of buffers held.
func (r *Reassembler) Held() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bufs
}

// Close puts back all that is held.
func (r *Reassembler) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer != nil {
		r.timer.Stop()
	}
	r.running = true // never again
	for k, p := range r.packets {
		r.discard(k, p)
	}
}
