package proto

import (
	"bytes"

	"osv/appliances/memcached/store"
)

// Status says what the engine does after Feed.
type Status uint8

// The statuses.
const (
	Open  Status = iota
	Close        // send what is in the Out, then close
)

// state is what the next byte of a stream means.
type state uint8

const (
	stateFirst   state = iota // not known yet which protocol
	stateLine                 // a command line
	stateValue                // the value of a storage command
	stateTail                 // its "\r\n"
	stateSwallow              // what is to be thrown away
	stateBinary               // a binary header with extras and key
	stateClosed
)

// Limits of a command line, as upstream: a line that is longer than lineMax is
// refused unless it is a get, whose keys may go on for bigLineMax.
const (
	lineMax    = 2048
	bigLineMax = 1 << 20
)

// Conn is the protocol state of one connection. It is made by NewConn and fed by
// one goroutine at a time.
type Conn struct {
	srv *Server
	w   store.Worker

	state   state
	noreply bool
	udp     bool

	carry   []byte // a command line or binary header that is not complete yet
	charged int    // see charge
	swallow int    // bytes to throw away
	tok     tokens
	key     [maxKey]byte // a base64 key, decoded; the key of an ms that returns it
	scratch []byte       // see header

	set setState
	bin binState

	held heldValue
	more moreKeys

	lastCmd uint32 // relative second of the last command
}

// NewConn makes the state of a connection. id spreads connections over counters.
func NewConn(s *Server, id int) *Conn {
	c := &Conn{}
	c.Init(s, id)
	return c
}

// Init makes c a new connection, keeping its buffers.
func (c *Conn) Init(s *Server, id int) {
	*c = Conn{srv: s, w: s.Store.Worker(id), carry: c.carry[:0], scratch: c.scratch, more: moreKeys{keys: c.more.keys[:0]}}
}

// Idle is the number of seconds since the last command.
func (c *Conn) Idle() uint32 { return c.srv.Store.Now() - c.lastCmd }

// Feed takes the next bytes of the stream, all of them, and adds the replies of
// the commands that they complete to o. in may be reused afterwards. It may block
// where o's Sink does, and holds nothing of the Store when it returns, except the
// memory of a value that is still coming.
func (c *Conn) Feed(in []byte, o *Out) Status {
	_, st := c.FeedHold(in, o)
	return st
}

// FeedHold is Feed for an Out with Hold: it may stop before the end of in, when
// the reply is too long for o, and returns how many bytes it took. Then the
// engine sends what is in o and calls Resume until that returns true, before it
// feeds the rest.
func (c *Conn) FeedHold(in []byte, o *Out) (int, Status) {
	before, size := o.Written(), len(in)
	if !o.Hold {
		c.w.Count(countBytesRead, uint64(size))
	}
	for len(in) > 0 && c.state != stateClosed && o.Err == nil && !c.stopped(o) {
		switch c.state {
		case stateFirst:
			c.state = stateLine
			if c.srv.Protocol != ASCII && in[0] == reqMagic {
				c.state = stateBinary
			} else if c.srv.Protocol == Binary {
				c.state = stateClosed
			}
		case stateLine:
			if n := c.quickly(in, o); n > 0 {
				in = in[n:]
				continue
			}
			in = c.feedLine(in, o)
		case stateValue:
			n := min(len(in), c.set.p.Room())
			c.set.p.Write(in[:n])
			in = in[n:]
			c.valueDone(o)
		case stateTail:
			in = c.feedTail(in, o)
		case stateSwallow:
			n := min(len(in), c.swallow)
			in = in[n:]
			if c.swallow -= n; c.swallow == 0 {
				c.state = c.idle()
			}
		case stateBinary:
			in = c.feedBinary(in, o)
		}
	}
	c.w.Leave()
	n := size - len(in)
	if o.Hold {
		c.w.Count(countBytesRead, uint64(n))
	}
	c.w.Count(countBytesWritten, o.Written()-before)
	if c.state == stateClosed && !c.Pending() || o.Err != nil {
		c.End()
		return n, Close
	}
	return n, Open
}

// End frees what the connection holds. The engine calls it when the connection
// breaks; after Close it is done already.
func (c *Conn) End() {
	c.w.Leave()
	if c.set.p.Active() {
		c.w.Abort(&c.set.p)
	}
	if c.held.active {
		c.held.active = false
		c.held.it.Unpin()
	}
	c.more = moreKeys{}
	c.state = stateClosed
	c.carry = nil
	c.charge(0)
}

// idle is the state in which the next command is awaited.
func (c *Conn) idle() state {
	if c.bin.on {
		return stateBinary
	}
	return stateLine
}

// feedLine runs the first command line in in, if it is complete, and returns
// what follows it; else it keeps the beginning.
func (c *Conn) feedLine(in []byte, o *Out) []byte {
	i := bytes.IndexByte(in, '\n')
	if len(c.carry) > 0 {
		if i < 0 {
			c.keep(in, o)
			return nil
		}
		c.carry = append(c.carry, in[:i]...)
		line := c.carry
		c.carry = c.carry[:0]
		c.command(line, in[i+1:], o)
		if cap(c.carry) > 2*lineMax {
			c.carry = nil
		}
		c.charge(0)
		return c.after(in[i+1:])
	}
	if i < 0 {
		c.keep(in, o)
		return nil
	}
	c.command(in[:i], in[i+1:], o)
	return c.after(in[i+1:])
}

// after drops what the command took of the bytes that followed its line.
func (c *Conn) after(rest []byte) []byte {
	n := c.set.took
	c.set.took = 0
	return rest[n:]
}

// keep keeps the beginning of a line, if it may become a command and there is
// memory for it.
func (c *Conn) keep(in []byte, o *Out) {
	c.carry = append(c.carry, in...)
	n := len(c.carry)
	if n <= lineMax {
		return
	}
	if n > bigLineMax || !isBigGet(c.carry) {
		c.state = stateClosed
	} else if !c.charge(n) {
		o.str("SERVER_ERROR out of memory reading request\r\n")
		c.state = stateClosed
	}
}

// charge counts n bytes of a long line, and the keys of one that is being answered,
// against what all connections may hold of such, and reports whether that is within
// Server.LineMemory.
func (c *Conn) charge(n int) bool {
	if n += cap(c.more.keys); n <= 2*lineMax {
		n = 0
	}
	d := int64(n - c.charged)
	if d == 0 {
		return true
	}
	c.charged = n
	sum, most := c.srv.lines.Add(d), c.srv.LineMemory
	return d < 0 || most == 0 || sum <= most
}

// isBigGet reports whether a line that is too long may go on.
func isBigGet(b []byte) bool {
	t := bytes.TrimLeft(b, " ")
	return len(b)-len(t) <= 100 && (bytes.HasPrefix(t, []byte("get ")) || bytes.HasPrefix(t, []byte("gets ")))
}

// reply puts a line, unless the client asked for none.
func (c *Conn) reply(o *Out, s string) {
	if c.noreply {
		return
	}
	o.str(s)
}

// The replies and errors that more than one command gives.
const (
	rError       = "ERROR\r\n"
	rBadFormat   = "CLIENT_ERROR bad command line format\r\n"
	rBadChunk    = "CLIENT_ERROR bad data chunk\r\n"
	rTooLarge    = "SERVER_ERROR object too large for cache\r\n"
	rNoMemory    = "SERVER_ERROR out of memory storing object\r\n"
	rBadExptime  = "CLIENT_ERROR invalid exptime argument\r\n"
	rNotNumber   = "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
	rNotFound    = "NOT_FOUND\r\n"
	rStored      = "STORED\r\n"
	rNotStored   = "NOT_STORED\r\n"
	rExists      = "EXISTS\r\n"
	rOK          = "OK\r\n"
	rEnd         = "END\r\n"
	rOutOfMemory = "SERVER_ERROR out of memory\r\n"
)
