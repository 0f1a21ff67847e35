// Package simnet is a network in memory: links that implement pkt.Link, joined
// by a switch that loses, repeats, delays, reorders and damages frames as told.
//
// What happens to a frame is drawn from a generator per port, seeded by
// Config.Seed, in the order of transmission: under a fake clock and a stack
// driven by Poll, a run is the same each time. Frames are copied from the
// sender's buffer to one of the receiver's pool, as a device would, so that
// every buffer must come home: Close of a Net counts.
//
// Who may use it: tests. Start reading at Config, then deliver.
package simnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"osv/kernel/hw/dma"
	"osv/kernel/net/clock"
	"osv/kernel/net/ip"
	"osv/kernel/net/netchan"
	"osv/kernel/net/wire"
	"osv/kernel/pkt"
)

// Config describes the links and the wire. Probabilities are from 0 to 1, per
// frame and direction.
type Config struct {
	Ports  int // links on the switch; 0: 2
	Queues int // receive and transmit queues of each; 0: 1
	Bufs   int // buffers of each link; 0: 512
	Ring   int // frames a receive queue holds; 0: 256
	MTU    int // 0: 1500

	Caps pkt.Caps // offloads (TxCsum, RxCsum, TSO4, TSO6, GSOMax, TxScatter); the rest is ignored

	Clock   clock.Clock   // needed for Delay, Jitter
	Seed    uint64        // of all chance
	Loss    float64       // frame vanishes
	Dup     float64       // frame arrives twice
	Corrupt float64       // one bit of the frame is flipped; not of ARP, which has no checksum, where SpareARP is set
	Reorder float64       // frame is overtaken by the next (or, with Delay, held back for Delay more)
	Delay   time.Duration // of each frame
	Jitter  time.Duration // added to Delay, at random, without reordering

	SpareARP bool
}

// Net is a switch with its links.
type Net struct {
	cfg   Config
	mem   dma.Host
	Links []*Link
}

// ErrClosed is what RxWait returns after Close.
var ErrClosed = errors.New("simnet: closed")

// New makes a network.
func New(cfg Config) (*Net, error) {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&cfg.Ports, 2)
	def(&cfg.Queues, 1)
	def(&cfg.Bufs, 512)
	def(&cfg.Ring, 256)
	def(&cfg.MTU, 1500)
	if (cfg.Delay > 0 || cfg.Jitter > 0) && cfg.Clock == nil {
		return nil, errors.New("simnet: delay without a clock")
	}
	if cfg.Corrupt > 0 && (cfg.Caps.TxCsum || cfg.Caps.RxCsum) {
		return nil, errors.New("simnet: corruption with checksum offload: damage would pass as verified")
	}
	n := &Net{cfg: cfg}
	for i := range cfg.Ports {
		size := pkt.Headroom + wire.EthLen + wire.VLANLen + max(cfg.MTU, cfg.Caps.GSOMax)
		p, err := pkt.NewPool(&n.mem, cfg.Bufs, (size+63)&^63)
		if err != nil {
			return nil, err
		}
		l := &Link{net: n, name: fmt.Sprintf("sim%d", i), pool: p, rng: rand.New(rand.NewPCG(cfg.Seed, uint64(i))), up: true}
		l.caps = pkt.Caps{
			MAC: [6]byte{2, 0, 0, 0, 0, byte(i + 1)}, MTU: cfg.MTU, RxQueues: cfg.Queues, TxQueues: cfg.Queues,
			TxCsum: cfg.Caps.TxCsum, RxCsum: cfg.Caps.RxCsum, TSO4: cfg.Caps.TSO4, TSO6: cfg.Caps.TSO6,
			GSOMax: cfg.Caps.GSOMax, LRO: cfg.Caps.TSO4 || cfg.Caps.TSO6, TxScatter: max(cfg.Caps.TxScatter, 1),
		}
		l.carrier.Store(true)
		for range cfg.Queues {
			l.rings = append(l.rings, netchan.New(cfg.Ring))
		}
		n.Links = append(n.Links, l)
	}
	return n, nil
}

// Close closes all links and reports buffers that did not come home. Receive
// loops must have stopped.
func (n *Net) Close() error {
	var errs []error
	for _, l := range n.Links {
		l.Close()
	}
	for _, l := range n.Links {
		l.mu.Lock()
		l.drop()
		l.mu.Unlock()
		l.landed.Wait()
	}
	for _, l := range n.Links {
		for _, r := range l.rings {
			r.Close()
		}
		if err := l.pool.Close(&n.mem); err != nil {
			errs = append(errs, fmt.Errorf("simnet: %s: %w", l.name, err))
		}
	}
	return errors.Join(errs...)
}

// Link is one port.
type Link struct {
	net   *Net
	name  string
	caps  pkt.Caps
	pool  *pkt.Pool
	rings []*netchan.Chan // received frames, by queue

	carrier pkt.Carrier // up, for those who want to be told

	mu     sync.Mutex // guards all below; not held while a receiver is woken
	rng    *rand.Rand
	up     bool
	closed bool
	held   []byte // a frame that the next one overtakes
	heldOf frameInfo
	free   time.Duration // clock time until which the wire keeps order, for Jitter
	tap    func(frame []byte)
	flying map[*flight]struct{}
	landed sync.WaitGroup // frames that a timer is delivering just now

	rxFrames, rxBytes, txFrames, txBytes, noBuf, txErrors, wakes, bells atomic.Uint64
}

type flight struct{ t clock.Timer }

// frameInfo is what travels with the bytes of a frame.
type frameInfo struct {
	flags             pkt.Flags
	gso               pkt.GSO
	gsoSize, hdr      uint16
	csumStart, csumOf uint16
}

var _ pkt.Link = (*Link)(nil)

// Name is "sim0" for the first port, and so on.
func (l *Link) Name() string { return l.name }

// Caps are as configured; the MAC is 02:00:00:00:00:01 for the first port.
func (l *Link) Caps() pkt.Caps { return l.caps }

// MAC is the port's address.
func (l *Link) MAC() wire.MAC { return l.caps.MAC }

// RxBatch takes received frames.
func (l *Link) RxBatch(q int, dst []*pkt.Buf) int {
	n := l.rings[q].Pop(dst)
	for _, b := range dst[:n] {
		l.rxFrames.Add(1)
		l.rxBytes.Add(uint64(b.Len()))
		b.Queue = uint16(q)
	}
	return n
}

// RxWait sleeps until a frame came, RxWake or Close.
func (l *Link) RxWait(q int) error {
	l.mu.Lock()
	closed := l.closed
	l.mu.Unlock()
	if closed {
		return ErrClosed
	}
	l.rings[q].Wait()
	l.wakes.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	return nil
}

// RxWake ends a RxWait.
func (l *Link) RxWake(q int) { l.rings[q].Kick() }

// TxBuf returns an empty buffer.
func (l *Link) TxBuf(int) *pkt.Buf { return l.pool.Get() }

// LinkUp reports the carrier.
func (l *Link) LinkUp() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up
}

// SetUp plugs the cable in or out; frames sent without it vanish.
func (l *Link) SetUp(up bool) {
	l.mu.Lock()
	l.up = up
	l.mu.Unlock()
	l.carrier.Store(up)
}

// OnCarrier makes f be called by SetUp.
func (l *Link) OnCarrier(f func(up bool)) { l.carrier.OnCarrier(f) }

// SetTap makes f see each frame that this port sends, before chance does.
func (l *Link) SetTap(f func(frame []byte)) {
	l.mu.Lock()
	l.tap = f
	l.mu.Unlock()
}

// InUse is the number of this port's buffers that are out.
func (l *Link) InUse() int { return l.pool.InUse() }

// Stats counts frames.
func (l *Link) Stats() pkt.LinkStats {
	return pkt.LinkStats{
		RxFrames: l.rxFrames.Load(), RxBytes: l.rxBytes.Load(), TxFrames: l.txFrames.Load(), TxBytes: l.txBytes.Load(),
		RxNoBuf: l.noBuf.Load(), TxErrors: l.txErrors.Load(), RxIRQs: l.wakes.Load(), Doorbells: l.bells.Load(),
	}
}

// Close ends the link and wakes its receiver.
func (l *Link) Close() error {
	l.mu.Lock()
	l.closed = true
	l.drop()
	l.mu.Unlock()
	for _, r := range l.rings {
		r.Kick()
	}
	return nil
}

// drop forgets frames under way. Caller must hold mu.
func (l *Link) drop() {
	l.held = nil
	for f := range l.flying {
		f.t.Stop()
	}
	clear(l.flying)
}

// TxBatch sends frames; it always takes all.
func (l *Link) TxBatch(_ int, frames []*pkt.Buf) int {
	l.bells.Add(1)
	for _, b := range frames {
		l.send(b)
		b.Put()
	}
	return len(frames)
}

// Inject sends raw bytes from this port, as a peer that is not a stack would.
func (l *Link) Inject(frame []byte) { l.transmit(append([]byte(nil), frame...), frameInfo{}) }

// send does what a device does with a frame and puts it on the wire.
func (l *Link) send(b *pkt.Buf) {
	total := b.TotalLen()
	pieces := 0
	for p := b; p != nil; p = p.Next {
		pieces++
	}
	if pieces > l.caps.TxScatter || total < wire.EthLen || b.GSO == pkt.GSONone && total > wire.EthLen+wire.VLANLen+l.caps.MTU ||
		b.GSO != pkt.GSONone && total > l.caps.GSOMax || b.Flags&pkt.CsumPartial != 0 && !l.caps.TxCsum {
		l.txErrors.Add(1)
		return
	}
	info := frameInfo{b.Flags & pkt.CsumPartial, b.GSO, b.GSOSize, b.HdrLen, b.CsumStart, b.CsumOffset}
	if info.flags != 0 && !l.caps.RxCsum {
		// The receiver wants a whole checksum: compute it, as hardware would.
		sum := wire.UDPChecksum(ip.SumChain(0, b, int(b.CsumStart), total))
		binary.BigEndian.PutUint16(b.Bytes()[b.CsumStart+b.CsumOffset:], sum)
		info.flags, info.csumStart, info.csumOf = 0, 0, 0
	}
	l.txFrames.Add(1)
	l.txBytes.Add(uint64(total))
	if l.plain() {
		l.mu.Lock()
		up, tap := l.up && !l.closed, l.tap
		l.mu.Unlock()
		if tap != nil {
			tap(flat(b, total))
		}
		if up {
			l.deliver(b, nil, info)
		}
		return
	}
	l.transmit(flat(b, total), info)
}

func flat(b *pkt.Buf, total int) []byte {
	f := make([]byte, 0, total)
	for ; b != nil; b = b.Next {
		f = append(f, b.Bytes()...)
	}
	return f
}

// plain reports a wire without chance or delay: frames go straight over.
func (l *Link) plain() bool {
	c := &l.net.cfg
	return c.Loss == 0 && c.Dup == 0 && c.Corrupt == 0 && c.Reorder == 0 && c.Delay == 0 && c.Jitter == 0
}

// transmit lets chance happen to a frame, which it owns.
func (l *Link) transmit(f []byte, info frameInfo) {
	c := &l.net.cfg
	l.mu.Lock()
	if l.tap != nil {
		l.tap(f)
	}
	if !l.up || l.closed {
		l.mu.Unlock()
		return
	}
	// Every frame draws all its numbers, so that one setting does not change
	// what another does to later frames.
	loss, dup, corrupt, reorder := l.rng.Float64(), l.rng.Float64(), l.rng.Float64(), l.rng.Float64()
	bit, jitter := l.rng.Uint64(), l.rng.Float64()
	var out [][]byte
	var infos []frameInfo
	if loss >= c.Loss {
		if corrupt < c.Corrupt && !(c.SpareARP && isARP(f)) {
			bit %= uint64(len(f) * 8)
			f[bit/8] ^= 1 << (bit % 8)
		}
		n := 1
		if dup < c.Dup {
			n = 2
		}
		for range n {
			out, infos = append(out, f), append(infos, info)
		}
	}
	if c.Delay == 0 && c.Jitter == 0 {
		if len(out) > 0 && reorder < c.Reorder && l.held == nil {
			l.held, l.heldOf = f, info
			out, infos = out[1:], infos[1:]
		} else if l.held != nil && len(out) > 0 {
			out, infos = append(out, l.held), append(infos, l.heldOf)
			l.held = nil
		}
		l.mu.Unlock()
		for i := range out {
			l.deliver(nil, out[i], infos[i])
		}
		return
	}
	now := time.Duration(c.Clock.Now())
	at := now + c.Delay + time.Duration(jitter*float64(c.Jitter))
	if reorder < c.Reorder {
		at += c.Delay + c.Jitter
	} else {
		at = max(at, l.free) // jitter alone does not reorder
		l.free = at
	}
	if l.flying == nil {
		l.flying = map[*flight]struct{}{}
	}
	for i := range out {
		fl := &flight{}
		l.flying[fl] = struct{}{}
		fl.t = c.Clock.AfterFunc(at-now, func() {
			l.mu.Lock()
			_, live := l.flying[fl]
			delete(l.flying, fl)
			if live {
				l.landed.Add(1)
			}
			l.mu.Unlock()
			if live {
				l.deliver(nil, out[i], infos[i])
				l.landed.Done()
			}
		})
	}
	l.mu.Unlock()
}

func isARP(f []byte) bool {
	return len(f) >= wire.EthLen && binary.BigEndian.Uint16(f[12:]) == uint16(wire.EtherARP)
}

// deliver switches a frame, in a buffer or as bytes, to the port that has its
// destination, or to all others.
func (l *Link) deliver(b *pkt.Buf, f []byte, info frameInfo) {
	head := f
	if b != nil {
		head = b.Bytes()
	}
	dst := wire.MAC(head[:6])
	if !dst.IsMulticast() {
		for _, p := range l.net.Links {
			if p != l && p.caps.MAC == dst {
				p.receive(b, f, info)
				return
			}
		}
	}
	for _, p := range l.net.Links {
		if p != l {
			p.receive(b, f, info)
		}
	}
}

// receive puts a copy of the frame into the port's ring.
func (l *Link) receive(b *pkt.Buf, f []byte, info frameInfo) {
	nb := l.pool.Get()
	if nb == nil {
		l.noBuf.Add(1)
		return
	}
	if b == nil {
		copy(nb.Append(len(f)), f)
	}
	for ; b != nil; b = b.Next {
		copy(nb.Append(b.Len()), b.Bytes())
	}
	nb.Flags, nb.GSO, nb.GSOSize, nb.HdrLen, nb.CsumStart, nb.CsumOffset = info.flags, info.gso, info.gsoSize, info.hdr, info.csumStart, info.csumOf
	if l.caps.RxCsum && info.flags == 0 {
		nb.Flags = 0 // not verified: the sender may be anyone (Inject)
	}
	r := l.rings[l.queue(nb.Bytes())]
	l.mu.Lock() // transmitters of several ports take turns
	ok := !l.closed && r.Push1(nb) == netchan.OK
	l.mu.Unlock()
	if !ok {
		l.noBuf.Add(1)
		nb.Put()
		return
	}
	r.Wake()
}

// queue spreads flows over the receive queues by addresses and ports, as RSS does.
func (l *Link) queue(f []byte) int {
	if len(l.rings) == 1 || len(f) < 38 {
		return 0
	}
	var h uint32
	for i := 26; i < 38; i += 2 {
		h = h*31 + uint32(binary.BigEndian.Uint16(f[i:]))
	}
	return int(h % uint32(len(l.rings)))
}
