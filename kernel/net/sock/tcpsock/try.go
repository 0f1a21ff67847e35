package tcpsock

import (
	"errors"
	"io"
	"net/netip"

	"osv/kernel/net/tcp"
)

// The calls of a connection whose user waits elsewhere: by SetArrival and Status,
// for any number of connections at once. None of them waits, none allocates, and
// errors are those of package tcp as they are. What one of these calls finds out is
// told to who asks Status, not again by the function of SetArrival: that was called
// when it came in.

// DialConfig says how a connection is opened. The zero value of each field has a
// meaning.
type DialConfig struct {
	Options  tcp.Options
	RecvBuf  int // bytes; 0: the host's
	SendBuf  int
	Path     func(*tcp.Path) // may change what is known of the way to the peer
	Arrival  func()          // see SetArrival
	PortFrom uint16          // ports to choose from, where both are set
	PortTo   uint16
}

// Connect begins to connect to remote, as Dial does, and returns at once. Status
// tells how it goes on.
func (h *Host) Connect(local, remote netip.AddrPort, cfg *DialConfig) (*Conn, error) {
	t, path, err := h.way(local, remote)
	if err != nil {
		return nil, err
	}
	if cfg.Path != nil {
		cfg.Path(&path)
	}
	c, err := h.open(t, path, cfg)
	if err != nil {
		return nil, err
	}
	h.Stats.Dialled.Add(1)
	return c, nil
}

// PortBusy reports whether a connection, TIME-WAIT included, uses the local port with
// an address for which is says so.
func (h *Host) PortBusy(port uint16, is func(netip.Addr) bool) bool {
	h.mu.Lock()
	for t := range h.flows {
		if t.Local.Port() == port && is(t.Local.Addr()) {
			h.mu.Unlock()
			return true
		}
	}
	h.mu.Unlock()
	h.tw.mu.Lock()
	defer h.tw.mu.Unlock()
	for e := h.tw.head; e != nil; e = e.next {
		if l := e.w.Tuple.Local; l.Port() == port && is(l.Addr()) {
			return true
		}
	}
	return false
}

// IsInUse reports that err says that an address or a tuple is taken.
func IsInUse(err error) bool { return errors.Is(err, errInUse) }

// SetArrival makes f be called when something has come in for c, or a timer has
// changed what Status says; nil ends that. f runs in the receive loop, or under the
// connection's lock: it must not block, and not call the connection.
func (c *Conn) SetArrival(f func()) {
	if f == nil {
		c.arrival.Store(nil)
		return
	}
	c.arrival.Store(&f)
}

// tell calls the functions of SetNotify and SetArrival.
func (c *Conn) tell() {
	if f := c.notify.Load(); f != nil {
		(*f)()
	}
	if f := c.arrival.Load(); f != nil && !c.trying {
		(*f)()
	}
}

// Status is the state of a connection, and what would not wait.
type Status struct {
	State tcp.State
	Ready Ready
	Err   error // why it failed, nil where it did not
	Ended bool  // the peer had closed its direction
}

// Status takes what has come in and tells how c is.
func (c *Conn) Status() Status {
	c.mu.Lock()
	c.trying = true
	now := c.h.clock.Now()
	if c.pull(now) {
		c.settle(now)
	}
	s := Status{State: c.core.State(), Ready: c.ready(), Err: c.core.Err(), Ended: c.core.FinTaken()}
	if c.detached && s.State == tcp.StateTimeWait {
		s.State = tcp.StateClosed // of the user's business with it
	}
	c.trying = false
	c.mu.Unlock()
	return s
}

// TryReadTo moves octets to d: as many as are there and it has room for. With none
// it returns ErrWouldBlock, or io.EOF at the end of the stream.
func (c *Conn) TryReadTo(d tcp.Dst) (int, error) {
	c.mu.Lock()
	c.trying = true
	now := c.h.clock.Now()
	c.pull(now)
	var n int
	err := errClosed
	if !c.closed {
		if n, err = c.core.RecvTo(now, d); n == 0 && err == nil && d.Room() > 0 {
			err = ErrWouldBlock
		}
		c.settle(now)
	}
	c.trying = false
	c.mu.Unlock()
	return n, err
}

// TryPeekTo copies octets to d, from the skip-th on, and leaves them to be read.
func (c *Conn) TryPeekTo(d tcp.Dst, skip int) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trying = true
	now := c.h.clock.Now()
	if c.pull(now) {
		c.settle(now)
	}
	c.trying = false
	n, err := c.core.PeekTo(d, skip)
	if n == 0 && err == nil && d.Room() > 0 {
		err = ErrWouldBlock
	}
	return n, err
}

// WriteHow says how TryWriteFrom sends.
type WriteHow uint8

const (
	// WriteCork has octets that do not fill a segment wait for more.
	WriteCork WriteHow = 1 << iota
	// WriteUrgent makes all that was written so far urgent.
	WriteUrgent
)

// TryWriteFrom takes octets of s to be sent: as many as there is room for. With
// none it returns ErrWouldBlock.
func (c *Conn) TryWriteFrom(s tcp.Src, how WriteHow) (int, error) {
	c.mu.Lock()
	c.trying = true
	now := c.h.clock.Now()
	c.pull(now)
	var n int
	err := errClosed
	if !c.closed {
		c.core.SetCork(how&WriteCork != 0)
		if n, err = c.core.SendFrom(now, s); n == 0 && err == nil && s.Left() > 0 {
			err = ErrWouldBlock
		}
		if how&WriteUrgent != 0 && n > 0 {
			c.core.MarkUrgent(now)
		}
		c.settle(now)
	}
	c.trying = false
	c.mu.Unlock()
	return n, err
}

// SetCork holds segments that are not full back, or sends them now.
func (c *Conn) SetCork(on bool) {
	c.mu.Lock()
	if !c.closed && !c.detached {
		c.core.SetCork(on)
		c.settle(c.h.clock.Now())
	}
	c.mu.Unlock()
}

// SetOptions replaces all of the user's settings.
func (c *Conn) SetOptions(o tcp.Options) error {
	return c.options(func(old *tcp.Options) { *old = o })
}

// WithPath calls f with what is known of the way to the peer, while nothing is sent.
func (c *Conn) WithPath(f func(*tcp.Path)) {
	c.mu.Lock()
	f(c.core.Path())
	c.mu.Unlock()
}

// Ends are the two ends as numbers.
func (c *Conn) Ends() tcp.Tuple { return *c.core.Tuple() }

// IsEOF reports the end of a stream.
func IsEOF(err error) bool { return err == io.EOF }

// SetBacklog changes how many connections may wait for Accept.
func (l *Listener) SetBacklog(n int) {
	l.mu.Lock()
	l.core.SetBacklog(n)
	l.mu.Unlock()
}
