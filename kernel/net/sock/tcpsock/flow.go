package tcpsock

import (
	"errors"
	"io"
	"net/netip"

	"osv/kernel/pkt"
)

// Run to completion: a connection whose handler is called in the receive loop.
//
// Packet path, receive, steps 4 and 5 of 5, for such a flow.
// From: stack/rx.go, through Inline.  To: Handler.Data.
// May not: block, allocate, do the work of more than the batch at hand.

// Handler is what an application does with one flow. Its methods are called with
// the flow locked, most of the time in the receive loop: they must not block,
// and must not call a flow other than their own.
type Handler interface {
	// Data offers the octets that have come in, in order and in place: p is valid
	// until Data returns. It returns how many it has dealt with, and is called
	// again for the rest until that is none; then, with more octets behind, when
	// more have come, and after a Write that did not take all, when there is room
	// (p may be empty then).
	//
	// p is what lies in one piece. If a request goes on after p, Data returns
	// what it has dealt with (0, say), and gets a longer p as long as that fits
	// MaxPiece octets; longer requests must be taken apart.
	Data(f *Flow, p []byte) int
	// End says that no more octets will come: err is nil after the peer's FIN,
	// when the flow may still Write and must Close, and the reason after a
	// failure, when it is over. All octets have been offered before; what Data
	// did not deal with is dropped. End is called once.
	End(f *Flow, err error)
}

// MaxPiece is how many octets Data can at least be given in one piece, whatever
// the packet buffers are.
const MaxPiece = 1024

// Flow is a connection as its Handler sees it. Only the handler may call its
// methods, from within Data, End or Do, but for Do itself.
type Flow struct {
	c       *Conn
	handler Handler
	rx      []*pkt.Buf // of this batch
	blocked bool       // a Write did not take all, and Data waits for room
	paused  bool       // the handler does not want Data called
	ended   bool
	closing bool  // Close was called
	bytes   int   // offered last, when nothing was taken
	now     int64 // ns, the time of the call that the handler is in

	// Context is the application's own.
	Context any
}

// errStuck ends a flow whose handler takes nothing of a piece that cannot grow.
var errStuck = errors.New("tcp: handler takes nothing of a full piece")

// Serve listens to local and makes each connection a flow: open is called for it
// and returns its handler. Options, backlog and address are those of Listen.
func (h *Host) Serve(local netip.AddrPort, cfg ListenConfig, open func(*Flow) Handler) (*Listener, error) {
	return h.listenAny(local, cfg, open)
}

func newFlow(c *Conn) *Flow {
	c.flow = &Flow{c: c}
	return c.flow
}

// Deliver takes a segment of the batch.
func (f *Flow) Deliver(b *pkt.Buf) {
	f.c.mu.Lock()
	f.rx = append(f.rx, b)
	f.c.mu.Unlock()
}

// Flush ends the batch: its segments are processed, the handler is called, and
// answers and ACKs go out together.
func (f *Flow) Flush(now int64) {
	c := f.c
	c.mu.Lock()
	f.take(now)
	c.finish(now)
	c.mu.Unlock()
}

// take processes the segments of the batch. Caller must hold Conn.mu.
func (f *Flow) take(now int64) {
	for i, b := range f.rx {
		f.rx[i] = nil
		if f.c.detached {
			b.Put()
			continue
		}
		f.c.input(now, b)
	}
	f.rx = f.rx[:0]
}

// run calls the handler as long as that leads anywhere. Caller must hold
// Conn.mu.
func (f *Flow) run(now int64) {
	core := f.c.core
	if f.handler == nil || f.ended {
		return
	}
	f.now = now
	if f.blocked && core.Writable() {
		f.blocked, f.bytes = false, 0
		if core.Readable() == 0 && !f.paused && !f.closing {
			f.handler.Data(f, nil)
		}
	}
	for !f.closing && !f.blocked && !f.paused {
		p, err := core.Peek()
		if len(p) == 0 {
			if err != nil {
				f.finish(err)
			}
			return
		}
		if len(p) == f.bytes {
			// Offered before. Only more octets can make a difference.
			if !core.PeekMore() {
				switch {
				case core.Readable() > f.bytes:
					f.abort(now)
				case core.HungUp():
					core.Consume(now, core.Readable())
					f.finish(core.Err())
				}
				return
			}
			p, _ = core.Peek()
		}
		if n := f.handler.Data(f, p); n > 0 {
			core.Consume(now, n)
			f.bytes = 0
		} else {
			f.bytes = len(p)
		}
	}
}

// abort ends a flow that more octets wait for than can be brought into one
// piece, while its handler takes none of that.
func (f *Flow) abort(now int64) {
	f.c.core.Abort(now)
	f.c.core.Close(now)
	f.finish(errStuck)
}

// finish calls End.
func (f *Flow) finish(err error) {
	if f.ended {
		return
	}
	f.ended = true
	if err == io.EOF {
		err = nil
	}
	f.handler.End(f, opError("read", f.c.local, f.c.remote, err))
}

// end is called when the connection is over. Caller must hold Conn.mu.
func (f *Flow) end() {
	f.take(0)
	if f.handler != nil && !f.closing {
		err := f.c.core.Err()
		if err == nil {
			err = io.EOF
		}
		f.finish(err)
	}
	f.c.core.Close(f.c.h.clock.Now())
}

// Write gives p to be sent, and returns how many octets were taken: fewer than
// len(p) where the send buffer is full, or 0 where the flow is over. Data is
// called again when there is room. What is written goes out at the end of the
// batch, with the ACK.
func (f *Flow) Write(p []byte) int {
	n, err := f.c.core.Send(f.now, p)
	if err == nil && n < len(p) {
		f.blocked = true
	}
	return n
}

// Room is how many octets Write would take.
func (f *Flow) Room() int { return f.c.core.SendRoom() }

// Close ends the flow after what was written. The handler is not called again.
func (f *Flow) Close() {
	if f.closing {
		return
	}
	f.closing = true
	c := f.c
	now := c.h.clock.Now()
	c.core.Consume(now, c.core.Readable())
	c.closed = true
	c.core.Close(now)
}

// Abort ends the flow at once, with a RST. The handler is not called again.
func (f *Flow) Abort() {
	f.closing = true
	f.c.closed = true
	f.c.core.Abort(f.c.h.clock.Now())
	f.c.core.Close(f.c.h.clock.Now())
}

// Pause ends calls of Data until the next Do: what comes in waits, and the window
// closes in the end.
func (f *Flow) Pause() { f.paused = true }

// Do calls fn with the flow locked, from any goroutine but the handler's: for
// answers that are ready later. What fn writes is sent when it returns, and Data
// is called with what waits.
func (f *Flow) Do(fn func()) {
	c := f.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.detached {
		return
	}
	f.now = c.h.clock.Now()
	fn()
	f.bytes, f.paused = 0, false
	c.finish(c.h.clock.Now())
}

// Conn is the connection, for its addresses, options and Info. Its Read and
// Write must not be called.
func (f *Flow) Conn() *Conn { return f.c }

// Local and Remote are the two ends.
func (f *Flow) Local() netip.AddrPort { return f.c.core.Tuple().Local }

// Remote is the peer.
func (f *Flow) Remote() netip.AddrPort { return f.c.core.Tuple().Remote }
