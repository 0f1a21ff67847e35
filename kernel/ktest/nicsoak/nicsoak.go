// Package nicsoak sends frames both ways between a driver of a network card and
// the card's wire, checks each byte of what arrives, and meanwhile resets the card
// and pulls its cable.
//
// Frames may be lost while the card is disturbed; what arrives must have been sent,
// whole, once, and in order. When the disturbances are over, all must arrive.
//
// Who may use it: tests only. Start reading at Run.
package nicsoak

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"osv/kernel/pkt"
)

// Link is a link that can be reset.
type Link interface {
	pkt.Link
	Reset() error
}

// Options shapes a run.
type Options struct {
	Packets int        // each way
	Every   int        // packets between two disturbances; 0: none
	SetLink func(bool) // plugs or pulls the cable
}

const (
	window  = 24 // frames on their way
	header  = 22 // addresses, type, sequence number
	maxSize = 9014
	lost    = 300 * time.Millisecond // a frame that takes longer is
	down    = 20 * time.Millisecond  // how long the cable is out
	giveUp  = 30 * time.Second
	etype   = 0x88B5 // local experiments, IEEE 802 §9.2.4
)

// flow is the frames of one direction.
type flow struct {
	name     string
	dst, src [6]byte
	max      int
	pattern  []byte
	progress chan struct{} // something arrived
	next     atomic.Uint64 // sequence number after the last that arrived
	got      atomic.Uint64
	lossy    atomic.Bool
	bad      atomic.Pointer[error]
}

func newFlow(name string, dst, src [6]byte, max, salt int) *flow {
	f := &flow{name: name, dst: dst, src: src, max: max, pattern: make([]byte, 1<<15), progress: make(chan struct{}, 1)}
	for i := range f.pattern {
		f.pattern[i] = byte(i*7 + i>>8*13 + salt)
	}
	f.lossy.Store(true)
	return f
}

// frame is the content of frame seq.
func (f *flow) frame(seq uint64, out []byte) []byte {
	n := 60 + int(seq*0x9E3779B97F4A7C15>>33%uint64(f.max-60+1))
	out = append(append(append(out, f.dst[:]...), f.src[:]...), etype>>8, etype&0xFF)
	out = binary.LittleEndian.AppendUint64(out, seq)
	at := int(seq * 131 & 0x3FFF)
	return append(out, f.pattern[at:at+n-header]...)
}

// arrived checks a frame.
func (f *flow) arrived(b []byte, scratch []byte) []byte {
	if len(b) < header || b[12] != etype>>8 || b[13] != etype&0xFF {
		return scratch
	}
	seq := binary.LittleEndian.Uint64(b[14:])
	scratch = f.frame(seq, scratch[:0])
	switch next := f.next.Load(); {
	case seq < next:
		f.wrong("frame %d arrives after %d", seq, next-1)
	case seq > next+1<<20:
		f.wrong("frame %d arrives after %d, and was not sent", seq, next)
	case !bytes.Equal(b, scratch):
		f.wrong("frame %d of %d bytes differs from the one of %d sent", seq, len(b), len(scratch))
	default:
		f.next.Store(seq + 1)
		f.got.Add(1)
		select {
		case f.progress <- struct{}{}:
		default:
		}
	}
	return scratch
}

func (f *flow) wrong(format string, a ...any) {
	err := fmt.Errorf(f.name+": "+format, a...)
	f.bad.CompareAndSwap(nil, &err)
}

func (f *flow) err() error {
	if p := f.bad.Load(); p != nil {
		return *p
	}
	return nil
}

// sender paces the frames of a flow: no more than width are on their way.
type sender struct {
	*flow
	sent  uint64
	floor uint64 // frames before it have arrived, or are lost
	since time.Time
}

// room waits until another frame may be sent. It reports false where the flow is
// broken.
func (s *sender) room(width uint64) bool {
	for {
		if n := s.next.Load(); n > s.floor {
			s.floor, s.since = n, time.Now()
		}
		if s.err() != nil {
			return false
		}
		if s.sent-s.floor < width {
			return true
		}
		wait := giveUp
		if s.lossy.Load() {
			wait = lost
		}
		left := wait - time.Since(s.since)
		if left <= 0 {
			if !s.lossy.Load() {
				s.wrong("frame %d does not arrive", s.floor)
				return false
			}
			s.floor, s.since = s.sent, time.Now()
			continue
		}
		select {
		case <-s.progress:
		case <-time.After(left):
		}
	}
}

// run sends count frames: the first nine tenths while the card is disturbed, when
// most is closed, then
// one by one until one arrives, then the rest, of which none may be lost.
func (s *sender) run(count int, most chan<- struct{}, quiet <-chan struct{}, put func(seq uint64) bool) {
	s.since = time.Now()
	send := func(width uint64) bool {
		if !s.room(width) {
			return false
		}
		if put(s.sent) {
			s.sent++
		} else {
			time.Sleep(50 * time.Microsecond) // the ring is full, or buffers are out
		}
		return true
	}
	for s.sent < uint64(count)*9/10 {
		if !send(window) {
			break
		}
	}
	close(most)
	<-quiet
	for before := s.got.Load(); s.got.Load() == before || s.sent != s.next.Load(); {
		if !send(1) {
			return
		}
		s.room(1)
	}
	s.lossy.Store(false)
	for end := s.sent + uint64(count)/10; s.sent < end; {
		if !send(window) {
			return
		}
	}
	s.room(1)
}

// Run sends o.Packets frames each way. wire is the card's other end; peer is the
// address that frames from there come from. It returns how many arrived each way
// and how often the card was reset. The caller closes l.
func Run(t testing.TB, l Link, wire net.Conn, o Options) (in, out uint64, resets int) {
	t.Helper()
	mac, peer := l.Caps().MAC, [6]byte{2, 0, 0, 0, 0, 1}
	size := min(l.Caps().MTU+14, maxSize)
	tx, rx := newFlow("transmit", peer, mac, size, 1), newFlow("receive", mac, peer, size, 2)
	var readers, senders sync.WaitGroup
	var stop atomic.Bool
	for q := range l.Caps().RxQueues {
		readers.Go(func() { receive(l, q, rx, &stop) })
	}
	readers.Go(func() {
		b, scratch := make([]byte, 1<<16), []byte(nil)
		for {
			n, err := wire.Read(b)
			if err != nil {
				if !errors.Is(err, net.ErrClosed) && !stop.Load() {
					tx.wrong("%w", err)
				}
				return
			}
			scratch = tx.arrived(b[:n], scratch)
		}
	})
	quiet, work, most := make(chan struct{}), make(chan struct{}, 1), [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	senders.Go(func() {
		n := 0
		(&sender{flow: tx}).run(o.Packets, most[0], quiet, func(seq uint64) bool {
			if n++; o.Every > 0 && n%o.Every == 0 {
				select {
				case work <- struct{}{}:
				default:
				}
			}
			return transmit(l, tx, seq)
		})
	})
	senders.Go(func() {
		var b []byte
		(&sender{flow: rx}).run(o.Packets, most[1], quiet, func(seq uint64) bool {
			b = rx.frame(seq, b[:0])
			_, err := wire.Write(b)
			return err == nil
		})
	})
	for i, busy := 0, true; busy; {
		select {
		case <-most[0]:
			busy = false
			continue
		case <-work:
		}
		if i++; i%2 == 1 {
			o.SetLink(false)
			<-time.After(down)
			o.SetLink(true)
			continue
		}
		if err := l.Reset(); err != nil {
			t.Error(err)
		}
		resets++
	}
	if o.SetLink != nil {
		o.SetLink(true)
	}
	<-most[1]
	close(quiet)
	senders.Wait()
	stop.Store(true)
	for q := range l.Caps().RxQueues {
		l.RxWake(q)
	}
	wire.Close()
	readers.Wait()
	for _, f := range []*flow{tx, rx} {
		if err := f.err(); err != nil {
			t.Errorf("%v; %+v", err, l.Stats())
		}
	}
	return rx.got.Load(), tx.got.Load(), resets
}

// receive takes what arrives on queue q.
func receive(l Link, q int, f *flow, stop *atomic.Bool) {
	var in [32]*pkt.Buf
	var flat, scratch []byte
	for {
		n := l.RxBatch(q, in[:])
		for _, b := range in[:n] {
			flat = flat[:0]
			for p := b; p != nil; p = p.Next {
				flat = append(flat, p.Bytes()...)
			}
			scratch = f.arrived(flat, scratch)
		}
		pkt.PutBatch(in[:n])
		if stop.Load() {
			return
		}
		if n == 0 {
			if err := l.RxWait(q); err != nil {
				f.wrong("%w", err)
				return
			}
		}
	}
}

// transmit hands frame seq to the link, in as many pieces as it takes.
func transmit(l Link, f *flow, seq uint64) bool {
	content := f.frame(seq, nil)
	var first, last *pkt.Buf
	for len(content) > 0 {
		b := l.TxBuf(0)
		if b == nil {
			if first != nil {
				first.Put()
			}
			return false
		}
		k := min(len(content), b.Tailroom(), 700+int(seq%2000))
		copy(b.Append(k), content)
		content = content[k:]
		if first == nil {
			first = b
		} else {
			last.Next = b
		}
		last = b
	}
	if l.TxBatch(0, []*pkt.Buf{first}) == 0 {
		first.Put()
		return false
	}
	return true
}
